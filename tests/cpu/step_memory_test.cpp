// What a step works in is what its spans need one by one: a long prompt may share it with a row of a long context.
#include <cstddef>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cpu/executor.h"
#include "cpu/kernels.h"
#include "cpu/packed.h"
#include "cpu/sequences.h"
#include "cpu/workers.h"
#include "model/random_model.h"
#include "program/builder.h"
#include "tests/oracle/random_model.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

std::size_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word && word != "RssAnon:") {
  }
  std::size_t kilobytes = 0;
  EXPECT_TRUE(status >> kilobytes);
  return kilobytes << 10U;
}

model::ModelConfig config_of_large_partial_sums() {
  model::ModelConfig config = test::small_config();
  config.layers = {model::LayerKind::kAttention};
  config.hidden_size = 32;
  config.n_heads = 8;
  config.n_kv_heads = 1;
  config.head_dim = 64;
  config.rotary_dim = 16;
  config.max_positions = std::size_t{1} << 16U;
  return config;
}

TEST(StepMemory, OfALongPromptBesideALongContextIsThatOfEach) {
  if (test::kIsSanitized) return;  // sanitizers take memory of their own
  constexpr std::uint32_t kPrompt = 512;
  test::Random random(test::seed_of_test());
  const model::ModelConfig config = config_of_large_partial_sums();
  const test::RandomModel model(config, random);
  Workers workers(1, {});
  const program::Tiling tiling;
  const PackedWeights weights(model.model(), tiling, workers);
  Sequences sequences(config, 2, config.max_positions);
  sequences.advance(0, config.max_positions - 1);  // all zeros: memory that nobody wrote takes none
  std::size_t n_kernels = 0;
  Executor executor(model.model(), weights, *available_kernels(&n_kernels)[0], workers, sequences);

  program::Step step{.tokens = std::vector<std::int32_t>(1 + kPrompt, 1),
                     .spans = {{0, config.max_positions - 1, 0, 1}, {1, 0, 1, kPrompt}},
                     .outputs = {{0, true, std::nullopt}, {kPrompt, true, std::nullopt}}};
  program::StepShape shape;
  shape.spans = {{1, program::kv_splits_of(1, config.max_positions)}, {kPrompt, 1}};
  shape.output_rows = {0, kPrompt};
  const program::Program program = program::build(config, shape, tiling);
  program::StepResult result;
  result.tokens.assign(2, -1);
  result.logits.resize(2 * config.vocab_size);

  const std::size_t before = anonymous_bytes();
  executor.run(program, step, result);
  // The prompt's activations are 3 MB; partial sums for its rows, too, would be 138 MB.
  EXPECT_LT(anonymous_bytes() - before, std::size_t{32} << 20U);
}

}  // namespace
}  // namespace sluice::cpu
