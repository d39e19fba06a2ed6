// Models of any shape, and tokens for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "model/config.h"
#include "tests/support/seed.h"

namespace sluice::test {

// The largest sizes that a drawn model has; the least are as small as the maths allows.
struct LargestSizes {
  std::size_t vocab = 120;
  std::size_t hidden = 90;
  std::size_t intermediate = 120;
  std::size_t kv_heads = 3;
  std::size_t heads_per_kv_head = 4;
  std::size_t key_heads = 3;
  std::size_t value_heads_per_key_head = 3;
  std::size_t value_head_dim = 70;
  std::size_t conv_kernel = 5;
};

// Not tied.
inline model::ModelConfig random_config(Random& random, std::vector<model::LayerKind> layers,
                                        const LargestSizes& largest = {}) {
  model::ModelConfig config;
  config.vocab_size = pick(random, 40, largest.vocab);
  config.hidden_size = pick(random, 20, largest.hidden);
  config.intermediate_size = pick(random, 20, largest.intermediate);
  config.layers = std::move(layers);
  config.n_kv_heads = pick(random, 1, largest.kv_heads);
  config.n_heads = config.n_kv_heads * pick(random, 1, largest.heads_per_kv_head);
  config.head_dim = 2 * pick(random, 4, 40);
  config.rotary_dim = 2 * pick(random, 1, config.head_dim / 2);
  config.rope_theta = pick(random, 0, 1) == 0 ? 1e4 : 1e7;
  config.n_key_heads = pick(random, 1, largest.key_heads);
  config.n_value_heads = config.n_key_heads * pick(random, 1, largest.value_heads_per_key_head);
  config.key_head_dim = pick(random, 5, 70);
  config.value_head_dim = pick(random, 5, largest.value_head_dim);
  config.conv_kernel = pick(random, 2, largest.conv_kernel);
  config.rms_norm_eps = pick(random, 0, 1) == 0 ? 1e-6 : 1e-3;
  config.max_positions = 1024;
  return config;
}

// For a failing test's message.
inline std::string describe(const model::ModelConfig& c) {
  std::string layers;
  for (const model::LayerKind kind : c.layers) layers += kind == model::LayerKind::kDeltaNet ? 'd' : 'a';
  return fmt::format(
      "{}, hidden {}, intermediate {}, vocab {}, heads {}/{} of {}, rotary {}, delta heads {}/{} of {}/{}, "
      "conv {}, tied {}",
      layers, c.hidden_size, c.intermediate_size, c.vocab_size, c.n_heads, c.n_kv_heads, c.head_dim,
      c.rotary_dim, c.n_key_heads, c.n_value_heads, c.key_head_dim, c.value_head_dim, c.conv_kernel,
      c.tie_word_embeddings);
}

inline std::vector<std::int32_t> random_tokens(Random& random, std::size_t n, std::size_t vocab) {
  std::vector<std::int32_t> tokens(n);
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(pick(random, 0, vocab - 1));
  return tokens;
}

}  // namespace sluice::test
