// The mixed entry point on the PTX machine: prompts in pieces of any length against the oracle's ops in fp64, steps that mix spans
// against the same spans alone, any grid against one block; both architectures, every launch with a seed of its own and all checks.
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cuda/build.h"
#include "model/random_model.h"
#include "tests/cpu/rounded_oracle.h"
#include "tests/cuda/mixed/mixed_device.h"
#include "tests/support/golden.h"
#include "tests/support/seed.h"

namespace sluice::cuda::test {
namespace {

using model::LayerKind;
using sluice::test::pick;
using sluice::test::Random;
using sluice::test::relative_rms;

model::ModelConfig random_config(Random& random, std::size_t n_layers) {
  model::ModelConfig config;
  config.vocab_size = pick(random, 40, 150);
  config.hidden_size = pick(random, 20, 140);
  config.intermediate_size = pick(random, 20, 90);
  const std::size_t first = pick(random, 0, 1);
  for (std::size_t i = 0; i < n_layers; ++i)
    config.layers.push_back((i + first) % 2 == 0 ? LayerKind::kDeltaNet : LayerKind::kAttention);
  config.n_kv_heads = pick(random, 1, 2);
  config.n_heads = config.n_kv_heads * pick(random, 1, 4);
  config.head_dim = 2 * pick(random, 4, 40);
  config.rotary_dim = 2 * pick(random, 1, config.head_dim / 2);
  config.rope_theta = pick(random, 0, 1) == 0 ? 1e4 : 1e7;
  config.n_key_heads = pick(random, 1, 2);
  config.n_value_heads = config.n_key_heads * pick(random, 1, 2);
  config.key_head_dim = pick(random, 5, 70);
  config.value_head_dim = pick(random, 5, 40);
  config.conv_kernel = pick(random, 2, 5);
  config.rms_norm_eps = pick(random, 0, 1) == 0 ? 1e-6 : 1e-3;
  config.tie_word_embeddings = pick(random, 0, 1) == 0;
  config.max_positions = 1024;
  return config;
}

std::string describe(const model::ModelConfig& c) {
  std::string layers;
  for (const LayerKind kind : c.layers) layers += kind == LayerKind::kDeltaNet ? 'd' : 'a';
  return fmt::format("{}, hidden {}, intermediate {}, vocab {}, heads {}/{} of {}, rotary {}, delta heads {}/{} of {}/{}, conv {}",
                     layers, c.hidden_size, c.intermediate_size, c.vocab_size, c.n_heads, c.n_kv_heads, c.head_dim, c.rotary_dim,
                     c.n_key_heads, c.n_value_heads, c.key_head_dim, c.value_head_dim, c.conv_kernel);
}

std::vector<std::int32_t> random_tokens(Random& random, std::size_t n, std::size_t vocab) {
  std::vector<std::int32_t> tokens(n);
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(pick(random, 0, vocab - 1));
  return tokens;
}

// A span of a sequence's tokens from `position` on.
struct Piece {
  std::size_t slot, position, n;
  const std::vector<std::int32_t>* tokens;
};

// One step of these spans. Outputs: every row, or the last of each span.
program::Step step_of(const std::vector<Piece>& pieces, bool all_rows) {
  program::Step step;
  for (const Piece& piece : pieces) {
    step.spans.push_back({piece.slot, piece.position, step.tokens.size(), piece.n});
    for (std::size_t i = 0; i < piece.n; ++i) {
      if (all_rows || i + 1 == piece.n) step.outputs.push_back({step.tokens.size(), true, std::nullopt});
      step.tokens.push_back((*piece.tokens)[piece.position + i]);
    }
  }
  return step;
}

// tests/cpu/layers_test.cpp derives them: activations that two orders of addition round to different bf16 numbers add up to 3e-3
// of all logits, 1e-2 at most; long spans round queries and the softmax's weights too, which is up to 3e-2 of a mixer's output.
constexpr double kLimit = 4e-2;

class Mixed : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!is_built_in()) GTEST_SKIP() << "CUDA isn't built in: " << why_not_built_in();
  }
  MixedOptions options(std::uint32_t blocks) const {
    MixedOptions options;
    options.architecture = GetParam();
    options.blocks = blocks;
    return options;
  }
  Random random_{sluice::test::fresh_seed()};
};

INSTANTIATE_TEST_SUITE_P(Architectures, Mixed, testing::Values(75, 80),
                         [](const auto& info) { return "compute_" + std::to_string(info.param); });

// Lengths around chunks of the delta rule, row blocks and KV pages, then short spans that go on from the state.
TEST_P(Mixed, PromptsInPiecesAreTheOracles) {
  const std::vector<std::vector<std::size_t>> cuts = {{9, 1, 17}, {65, 2, 12}, {64, 31, 3}, {33, 40}, {1, 63, 10}};
  constexpr std::uint32_t kGrids[] = {1, 2, 3, 8, 13};
  for (std::size_t i = 0; i < cuts.size(); ++i) {
    const model::ModelConfig config = random_config(random_, pick(random_, 2, 3));
    const std::uint32_t blocks = kGrids[i];
    SCOPED_TRACE(describe(config) + fmt::format(", {} blocks, pieces {}", blocks, testing::PrintToString(cuts[i])));
    model::RandomModel model(config, random_());
    model.fill(1);
    MixedDevice device(model.model(), options(blocks), random_);
    std::size_t n = 0;
    for (const std::size_t piece : cuts[i]) n += piece;
    const std::vector<std::int32_t> tokens = random_tokens(random_, n, config.vocab_size);
    std::vector<float> got;
    std::size_t position = 0;
    for (const std::size_t piece : cuts[i]) {
      const std::vector<float> logits = device.run(step_of({{0, position, piece, &tokens}}, true)).logits;
      got.insert(got.end(), logits.begin(), logits.end());
      position += piece;
    }
    sluice::test::RoundedOracle oracle(model.model(), {.activations = true, .keys_and_values = true});
    std::vector<float> want;
    for (const std::int32_t token : tokens)
      for (const double logit : oracle.feed(token)) want.push_back(static_cast<float>(logit));
    EXPECT_LT(relative_rms<float>(got, want), kLimit);
    std::cout << relative_rms<float>(got, want) << '\n';
  }
}

}  // namespace
}  // namespace sluice::cuda::test
