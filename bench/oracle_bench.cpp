// How fast the oracle decodes the bundled model, and which part of the memory floor that is. The oracle is
// made to be read, not to be fast: this guards against its becoming unusable, and compares compilers.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include <benchmark/benchmark.h>

#include "model/weights.h"
#include "oracle/backend.h"

namespace sluice {
namespace {

const model::Model& demo_model() {
  static const model::Model model = model::load_model(SLUICE_SOURCE_DIR "/models/demo");
  return model;
}

std::size_t weight_bytes(const model::Model& model) {
  std::size_t bytes = 0;
  for (const model::TensorView& tensor : model.tensors)
    if (!tensor.name.starts_with("mtp.")) bytes += tensor.data.size();
  return bytes;
}

// Sums a buffer: what one core reads per second when nothing else is done.
double read_bytes_per_second(std::size_t bytes) {
  const std::vector<std::uint64_t> buffer(bytes / sizeof(std::uint64_t), 1);
  double best = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    std::uint64_t sum[8] = {};
    for (std::size_t i = 0; i + 8 <= buffer.size(); i += 8)
      for (std::size_t lane = 0; lane < 8; ++lane) sum[lane] += buffer[i + lane];
    benchmark::DoNotOptimize(sum);
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(bytes) / elapsed.count());
  }
  return best;
}

void oracle_decode(benchmark::State& state) {
  const model::Model& model = demo_model();
  const auto backend = oracle::make_backend(model, 1, 512);
  std::size_t position = 0;
  for (auto _ : state) {
    if (position == 0) backend->reset(0);
    program::Step step;
    step.tokens = {static_cast<std::int32_t>(position % 97)};
    step.spans = {{.slot = 0, .position = position, .first_row = 0, .n_rows = 1}};
    step.outputs = {{.row = 0, .return_logits = true, .choice = std::nullopt}};
    benchmark::DoNotOptimize(backend->run(step));
    position = (position + 1) % 128;
  }
  const double bytes = static_cast<double>(weight_bytes(model));
  const double bandwidth = read_bytes_per_second(weight_bytes(model));
  state.SetItemsProcessed(state.iterations());
  state.counters["read_GB_s"] = bandwidth / 1e9;
  // Seconds that reading the weights takes, over the seconds that a step took.
  state.counters["floor_fraction"] = benchmark::Counter(
      bytes / bandwidth * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}
BENCHMARK(oracle_decode)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sluice
