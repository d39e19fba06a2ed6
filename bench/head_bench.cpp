// Whole steps with the screened head beside the same steps with the full one, in turn (docs/screened-head.md): what the screened
// ones cost of the full ones' time, as the median of the pairs with the least and the most. Of Qwen3.5-0.8B's shape, with all
// its layers or with one, where a step is hardly more than its head.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include <benchmark/benchmark.h>

#include "cpu/backend.h"
#include "cpu/executor.h"
#include "cpu/kernels.h"
#include "cpu/packed.h"
#include "cpu/placement.h"
#include "cpu/sequences.h"
#include "cpu/workers.h"
#include "model/random_model.h"
#include "program/builder.h"

namespace sluice {
namespace {

constexpr std::size_t kWorkers = 2;
constexpr std::size_t kContext = 512;
constexpr std::size_t kTokens = 248077;  // of the tokenizer; other logits are masked

struct Weights {
  explicit Weights(std::size_t n_layers)
      : random(config_of(n_layers), 1),
        workers(kWorkers, cpu::place(cpu::find_processors(), kWorkers, true)) {
    random.fill(kWorkers);
    usual = flat = random.model();
    flat.weights.norm.assign(flat.weights.norm.size(), 0.0F);
    packed = std::make_unique<cpu::PackedWeights>(usual, tiling, workers, nullptr, cpu::LoadEvents{}, true);
  }

  static model::ModelConfig config_of(std::size_t n_layers) {
    model::ModelConfig config = *model::known_shape("qwen3.5-0.8b");
    config.layers.resize(n_layers);
    return config;
  }

  model::RandomModel random;
  model::Model usual;
  model::Model flat;  // all of its logits are equal
  cpu::Workers workers;
  program::Tiling tiling = cpu::tiling_for(kWorkers);
  std::unique_ptr<cpu::PackedWeights> packed;  // with both heads
};

// Sequences that decode side by side, a token of each a step.
class Decoder {
 public:
  Decoder(Weights& weights, const model::Model& model, const cpu::Kernels& kernels, std::size_t n_rows,
          bool is_screened)
      : sequences_(model.config, n_rows, kContext),
        executor_(model, *weights.packed, kernels, weights.workers, sequences_) {
    program::StepShape shape;
    shape.is_screened = is_screened;
    for (std::uint32_t row = 0; row < n_rows; ++row) {
      shape.spans.push_back({1, 1});
      shape.output_rows.push_back(row);
    }
    program_ = program::build(model.config, shape, weights.tiling);
  }

  // The seconds that it takes.
  double run(program::Choice choice) {
    program::Step step;
    for (std::size_t slot = 0; slot < program_.shape.spans.size(); ++slot) {
      const std::size_t position = sequences_.length(slot);
      choice.draw = position;
      step.spans.push_back({.slot = slot, .position = position, .first_row = slot, .n_rows = 1});
      step.tokens.push_back(static_cast<std::int32_t>((977 * position + slot) % kTokens));
      step.outputs.push_back({.row = slot, .return_logits = false, .choice = choice});
    }
    result_.tokens.assign(step.outputs.size(), -1);
    const auto begin = std::chrono::steady_clock::now();
    executor_.run(program_, step, result_);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    for (const program::Span& span : step.spans) sequences_.advance(span.slot, 1);
    return seconds.count();
  }

  const std::vector<std::int32_t>& tokens() const { return result_.tokens; }
  std::size_t rows_recomputed() const { return executor_.panels_recomputed() * cpu::kLanes; }

 private:
  cpu::Sequences sequences_;
  cpu::Executor executor_;
  program::Program program_;
  program::StepResult result_;
};

enum class Wish : std::uint8_t { kGreedy, kSettings, kNoise, kFlat };

program::Choice choice_of(Wish wish) {
  program::Choice choice;
  choice.n_tokens = kTokens;
  if (wish == Wish::kNoise) choice.sampling = {.temperature = 1.0F, .seed = 1};
  if (wish == Wish::kSettings) {  // and penalties on 500 tokens
    choice.sampling = {.temperature = 1.0F, .top_k = 20, .top_p = 0.95F, .seed = 1};
    for (std::int32_t i = 0; i < 500; ++i) choice.edits.push_back({300 * i, 1.0F, -1.5F});
  }
  return choice;
}

const cpu::Kernels& kernels_of(std::size_t table) {
  std::size_t n_tables = 0;
  const cpu::Kernels* const* tables = cpu::available_kernels(&n_tables);
  return *tables[std::min(table, n_tables - 1)];
}

// With the kernels of the `table`-th best instruction set of this machine.
void screened_of_full(benchmark::State& state, std::size_t n_layers, Wish wish, std::size_t table = 0) {
  static std::unique_ptr<Weights> weights;  // of one shape at a time: they take 3.5 GB
  if (!weights || weights->usual.config.n_layers() != n_layers) {
    weights.reset();
    weights = std::make_unique<Weights>(n_layers);
  }
  const model::Model& model = wish == Wish::kFlat ? weights->flat : weights->usual;
  const auto n_rows = static_cast<std::size_t>(state.range(0));
  const auto n_pairs = static_cast<std::size_t>(state.range(1));
  const cpu::Kernels& kernels = kernels_of(table);
  state.SetLabel(kernels.name);
  Decoder full(*weights, model, kernels, n_rows, false);
  Decoder screened(*weights, model, kernels, n_rows, true);
  const program::Choice choice = choice_of(wish);
  std::vector<double> ratios;
  std::vector<double> seconds;  // of full ones
  std::size_t rows = 0;
  for (auto _ : state) {
    for (std::size_t pair = 0; pair < n_pairs + 2; ++pair) {  // two warm up
      double of_full = 0;
      double of_screened = 0;
      if (pair % 2 == 0) of_full = full.run(choice);
      of_screened = screened.run(choice);
      if (pair % 2 != 0) of_full = full.run(choice);
      if (full.tokens() != screened.tokens()) {
        state.SkipWithError("the tokens differ");
        return;
      }
      if (pair < 2) continue;
      ratios.push_back(of_screened / of_full);
      seconds.push_back(of_full);
      rows += screened.rows_recomputed();
    }
  }
  std::ranges::sort(ratios);
  std::ranges::sort(seconds);
  state.counters["median"] = ratios[ratios.size() / 2];
  state.counters["least"] = ratios.front();
  state.counters["most"] = ratios.back();
  state.counters["full_ms"] = 1e3 * seconds[seconds.size() / 2];
  state.counters["recomputed"] = static_cast<double>(rows) / static_cast<double>(ratios.size());
}

void head_greedy(benchmark::State& state) {
  screened_of_full(state, 1, Wish::kGreedy);
}
void head_tables(benchmark::State& state) {
  screened_of_full(state, 1, Wish::kGreedy, static_cast<std::size_t>(state.range(2)));
}
void head_flat(benchmark::State& state) {
  screened_of_full(state, 1, Wish::kFlat);
}
void step_greedy(benchmark::State& state) {
  screened_of_full(state, 24, Wish::kGreedy);
}
void step_settings(benchmark::State& state) {
  screened_of_full(state, 24, Wish::kSettings);
}
void step_noise(benchmark::State& state) {
  screened_of_full(state, 24, Wish::kNoise);
}
void step_flat(benchmark::State& state) {
  screened_of_full(state, 24, Wish::kFlat);
}

void rows_and_pairs(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"rows", "pairs"})->Iterations(1)->Unit(benchmark::kSecond);
}
BENCHMARK(head_greedy)->Apply(rows_and_pairs)->ArgsProduct({{1, 2, 4}, {79}});
BENCHMARK(head_tables)
    ->ArgNames({"rows", "pairs", "table"})
    ->ArgsProduct({{1, 2, 4, 5, 6, 8, 16}, {31}, {0, 1, 2}})
    ->Iterations(1)
    ->Unit(benchmark::kSecond);
BENCHMARK(head_flat)->Apply(rows_and_pairs)->ArgsProduct({{1, 2, 4}, {79}});
BENCHMARK(step_greedy)->Apply(rows_and_pairs)->Args({1, 79});
BENCHMARK(step_settings)->Apply(rows_and_pairs)->Args({1, 41});
BENCHMARK(step_noise)->Apply(rows_and_pairs)->Args({1, 41});
BENCHMARK(step_flat)->Apply(rows_and_pairs)->Args({1, 41});

}  // namespace
}  // namespace sluice
