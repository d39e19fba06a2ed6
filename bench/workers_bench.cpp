// What a step costs when there are more workers than processors, beside one with a worker for each: a container whose
// quota shrank, or a machine that others use. The command line never asks for that; a backend made to does.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>

#include "cpu/backend.h"
#include "cpu/placement.h"
#include "model/random_model.h"
#include "model/weights.h"

namespace sluice {
namespace {

// One sequence that decodes; its context starts anew when it is full.
class Decoder {
 public:
  Decoder(const model::Model& model, std::size_t n_workers) {
    cpu::CpuOptions options;
    options.n_workers = n_workers;
    options.oversubscribe = true;
    backend_ = cpu::make_backend(model, 1, kContext, options);
    step_.tokens = {1};
    step_.spans = {{.slot = 0, .position = 0, .first_row = 0, .n_rows = 1}};
    step_.outputs = {{.row = 0, .return_logits = true, .choice = std::nullopt}};
  }

  // The mean of `steps` in a row.
  double seconds_of_a_step(std::size_t steps) {
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < steps; ++i) decode();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    return elapsed.count() / static_cast<double>(steps);
  }

 private:
  void decode() {
    std::size_t& position = step_.spans[0].position;
    if (position == kContext) {
      backend_->reset(0);
      position = 0;
    }
    backend_->run(step_);
    ++position;
  }

  static constexpr std::size_t kContext = 256;
  std::unique_ptr<cpu::Backend> backend_;
  program::Step step_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// `steps` of both in turn: the time reported is that of the many; `ratio` is the median of theirs to the few's. Workers of
// small models need many in a row: for a while after a step they yield to those of the other backend instead of sleeping.
void step_in_turn(benchmark::State& state, const model::Model& model, std::size_t steps) {
  Decoder few(model, cpu::usable_processors());
  Decoder many(model, static_cast<std::size_t>(state.range(0)));
  few.seconds_of_a_step(steps);  // to warm up
  many.seconds_of_a_step(steps);
  std::vector<double> ratios;
  for (auto _ : state) {
    const double one_each = few.seconds_of_a_step(steps);
    const double seconds = many.seconds_of_a_step(steps);
    ratios.push_back(seconds / one_each);
    state.SetIterationTime(seconds);
  }
  state.counters["ratio"] = median(ratios);
  state.counters["ratio_min"] = *std::min_element(ratios.begin(), ratios.end());
  state.counters["ratio_max"] = *std::max_element(ratios.begin(), ratios.end());
}

void workers_large(benchmark::State& state) {
  static model::RandomModel random(*model::known_shape("qwen3.5-0.8b"), 1);
  static const bool filled = (random.fill(cpu::usable_processors()), true);
  benchmark::DoNotOptimize(filled);
  step_in_turn(state, random.model(), 3);
}
BENCHMARK(workers_large)
    ->ArgName("workers")
    ->Arg(4)
    ->Arg(8)
    ->Iterations(15)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

void workers_demo(benchmark::State& state) {
  static const model::Model model = model::load_model(SLUICE_SOURCE_DIR "/models/demo");
  step_in_turn(state, model, 500);
}
BENCHMARK(workers_demo)
    ->ArgName("workers")
    ->Arg(4)
    ->Arg(8)
    ->Iterations(15)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace sluice
