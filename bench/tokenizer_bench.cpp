// Encoding and decoding speed of the bundled model's tokenizer on its held-out text, in bytes per second. The
// fraction is of the speed at which the same core copies the text.
#include <algorithm>
#include <string>

#include <benchmark/benchmark.h>

#include "base/mapped_file.h"
#include "model/tokenizer.h"

namespace sluice {
namespace {

struct Fixture {
  model::Tokenizer tokenizer = model::Tokenizer::from_folder(SLUICE_SOURCE_DIR "/models/demo");
  std::string text = read_text_file(SLUICE_SOURCE_DIR "/models/demo/heldout.txt", 1U << 20U);
};

const Fixture& fixture() {
  static const Fixture it;
  return it;
}

void tokenizer_encode(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(fixture().tokenizer.encode(fixture().text));
  state.SetBytesProcessed(static_cast<int64_t>(fixture().text.size()) * state.iterations());
}
BENCHMARK(tokenizer_encode)->Unit(benchmark::kMicrosecond);

void tokenizer_decode(benchmark::State& state) {
  const auto ids = fixture().tokenizer.encode(fixture().text);
  for (auto _ : state) benchmark::DoNotOptimize(fixture().tokenizer.decode(ids, false));
  state.SetBytesProcessed(static_cast<int64_t>(fixture().text.size()) * state.iterations());
}
BENCHMARK(tokenizer_decode)->Unit(benchmark::kMicrosecond);

// The floor of both: copying the same bytes.
void copy_text(benchmark::State& state) {
  std::string copy(fixture().text.size(), ' ');
  for (auto _ : state) {
    std::copy(fixture().text.begin(), fixture().text.end(), copy.begin());
    benchmark::DoNotOptimize(copy.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(static_cast<int64_t>(copy.size()) * state.iterations());
}
BENCHMARK(copy_text)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace sluice
