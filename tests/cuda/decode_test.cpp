// The decode kernel on the PTX machine, both architectures, against the oracle's ops in fp64 with the device's own roundings to
// bf16 (tests/cpu/rounded_oracle.h). Every launch has a seed of its own, all checks are on, and any finding fails the launch.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "model/random_model.h"
#include "tests/cpu/rounded_oracle.h"
#include "tests/cuda/decode_device.h"
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
  config.vocab_size = pick(random, 40, 200);
  config.hidden_size = pick(random, 20, 90);
  config.intermediate_size = pick(random, 20, 120);
  for (std::size_t i = 0; i < n_layers; ++i)
    config.layers.push_back(i % 2 == 0 ? LayerKind::kDeltaNet : LayerKind::kAttention);
  config.n_kv_heads = pick(random, 1, 2);
  config.n_heads = config.n_kv_heads * pick(random, 1, 5);
  config.head_dim = 2 * pick(random, 4, 40);
  config.rotary_dim = 2 * pick(random, 1, config.head_dim / 2);
  config.rope_theta = pick(random, 0, 1) == 0 ? 1e4 : 1e7;
  config.n_key_heads = pick(random, 1, 3);
  config.n_value_heads = config.n_key_heads * pick(random, 1, 3);
  config.key_head_dim = pick(random, 5, 70);
  config.value_head_dim = pick(random, 5, 40);
  config.conv_kernel = pick(random, 2, 5);
  config.rms_norm_eps = pick(random, 0, 1) == 0 ? 1e-6 : 1e-3;
  config.tie_word_embeddings = pick(random, 0, 1) == 0;
  config.max_positions = 1024;
  return config;
}

std::string describe(const model::ModelConfig& c) {
  return fmt::format(
      "{} layers, hidden {}, intermediate {}, vocab {}, heads {}/{} of {}, rotary {}, delta heads {}/{} of "
      "{}/{}, conv {}, tied {}",
      c.n_layers(), c.hidden_size, c.intermediate_size, c.vocab_size, c.n_heads, c.n_kv_heads, c.head_dim,
      c.rotary_dim, c.n_key_heads, c.n_value_heads, c.key_head_dim, c.value_head_dim, c.conv_kernel,
      c.tie_word_embeddings);
}

// tests/cpu/layers_test.cpp derives it: activations that two orders of addition round to different bf16 numbers, through two more
// layers, add up to 3e-3.
constexpr double kLimit = 1e-2;

class Decode : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!is_built_in()) GTEST_SKIP() << "CUDA isn't built in: " << why_not_built_in();
  }
  Random random_{sluice::test::fresh_seed()};
};

INSTANTIATE_TEST_SUITE_P(Architectures, Decode, testing::Values(75, 80),
                         [](const auto& info) { return "compute_" + std::to_string(info.param); });

// Of sm_75, whose KV cache is fp16, the oracle's rounding of keys and values is 8 times as coarse: within the limit all the same.
sluice::test::Roundings roundings() {
  return {.activations = true, .keys_and_values = true, .before_scale = true};
}

TEST_P(Decode, LogitsAndStatesAreTheOracles) {
  constexpr unsigned kGrids[] = {1, 2, 3, 8, 13};
  for (const unsigned blocks : kGrids) {
    const model::ModelConfig config = random_config(random_, pick(random_, 1, 3));
    SCOPED_TRACE(describe(config) + fmt::format(", {} blocks", blocks));
    model::RandomModel model(config, random_());
    model.fill(1);
    DecodeDevice device(model.model(),
                        {.architecture = GetParam(),
                         .blocks = blocks,
                         .ring_slots = static_cast<std::uint32_t>(pick(random_, 1, 3))},
                        random_);
    sluice::test::RoundedOracle oracle(model.model(), roundings());
    std::vector<float> got;
    std::vector<float> want;
    for (int i = 0; i < 5; ++i) {
      const auto token = static_cast<std::int32_t>(pick(random_, 0, config.vocab_size - 1));
      const DecodeResult result = device.run({{0, {{.token = token}}}});
      ASSERT_EQ(result.ring.n_steps, 1U);
      got.insert(got.end(), result.logits[0].begin(), result.logits[0].end());
      for (const double logit : oracle.feed(token)) want.push_back(static_cast<float>(logit));
    }
    EXPECT_LT(relative_rms<float>(got, want), kLimit);
    std::size_t delta_layer = 0;
    for (std::size_t layer = 0; layer < config.n_layers(); ++layer) {
      if (config.layers[layer] != LayerKind::kDeltaNet) continue;
      const auto& state = oracle.state().layers[layer];
      const std::vector<float> delta(state.delta_state.begin(), state.delta_state.end());
      const std::vector<float> conv(state.conv_state.begin(), state.conv_state.end());
      EXPECT_LT(relative_rms<float>(device.delta_state(delta_layer, 0), delta), kLimit) << "layer " << layer;
      EXPECT_LT(relative_rms<float>(device.conv_state(delta_layer, 0), conv), kLimit) << "layer " << layer;
      ++delta_layer;
    }
  }
}

}  // namespace
}  // namespace sluice::cuda::test
