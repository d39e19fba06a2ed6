// Configs, step shapes and Programs that tests of Programs share.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/config.h"
#include "program/builder.h"
#include "program/program.h"
#include "tests/support/seed.h"

namespace sluice::program {

inline model::ModelConfig make_config(const std::string& layers, std::size_t hidden, std::size_t heads,
                                      std::size_t kv_heads, std::size_t head_dim, std::size_t key_heads,
                                      std::size_t ratio, std::size_t linear_dim) {
  model::ModelConfig config;
  for (const char letter : layers)
    config.layers.push_back(letter == 'A' ? model::LayerKind::kAttention : model::LayerKind::kDeltaNet);
  config.vocab_size = 1000;
  config.hidden_size = hidden;
  config.intermediate_size = 3 * hidden;
  config.n_heads = heads;
  config.n_kv_heads = kv_heads;
  config.head_dim = head_dim;
  config.rotary_dim = head_dim / 2;
  config.n_key_heads = key_heads;
  config.n_value_heads = key_heads * ratio;
  config.key_head_dim = linear_dim;
  config.value_head_dim = linear_dim;
  config.conv_kernel = 4;
  config.max_positions = 4096;
  return config;
}

inline model::ModelConfig random_config(test::Random& random) {
  std::string layers;
  for (std::size_t n = test::pick(random, 1, 5); n > 0; --n)
    layers += test::pick(random, 0, 2) == 0 ? 'A' : 'D';
  const std::size_t kv_heads = test::pick(random, 1, 3);
  return make_config(layers, 16 * test::pick(random, 1, 20), kv_heads * test::pick(random, 1, 3), kv_heads,
                     4 * test::pick(random, 1, 20), test::pick(random, 1, 4), test::pick(random, 1, 3),
                     4 * test::pick(random, 1, 16));
}

inline StepShape make_shape(const std::vector<std::pair<std::uint32_t, std::size_t>>& rows_and_lengths,
                            std::vector<std::uint32_t> outputs) {
  StepShape shape;
  for (const auto& [rows, length] : rows_and_lengths)
    shape.spans.push_back({rows, kv_splits_of(rows, length)});
  shape.output_rows = std::move(outputs);
  return shape;
}

inline StepShape random_shape(test::Random& random, std::size_t most_spans = 6) {
  StepShape shape;
  for (std::size_t n = test::pick(random, 1, most_spans); n > 0; --n) {
    const bool is_long = test::pick(random, 0, 3) == 0;
    const auto rows = static_cast<std::uint32_t>(is_long ? test::pick(random, kMaxShortSpan + 1, 300)
                                                         : test::pick(random, 1, kMaxShortSpan));
    shape.spans.push_back({rows, kv_splits_of(rows, rows + test::pick(random, 0, 4000))});
  }
  const std::size_t share = test::pick(random, 0, 4);  // of rows with output: none, few, ..., all
  for (std::uint32_t row = 0; row < shape.n_rows(); ++row)
    if (test::pick(random, 0, 3) < share) shape.output_rows.push_back(row);
  shape.is_screened = test::pick(random, 0, 1) == 0;
  return shape;
}

inline Tiling random_tiling(test::Random& random) {
  Tiling tiling;
  tiling.n_workers = test::pick(random, 1, 16);
  tiling.bytes_per_tile = test::pick(random, 1, 64) << 10U;
  return tiling;
}

// A small Program of each kind for mutations: both layer kinds first and last, several spans of both classes, KV splits.
inline std::vector<Program> small_programs() {
  Tiling tiling;
  tiling.bytes_per_tile = 2048;
  std::vector<Program> programs;
  for (const std::string layers : {"DA", "AD", "ADA"}) {
    const model::ModelConfig config = make_config(layers, 32, 2, 1, 16, 2, 2, 16);
    for (const StepShape& shape :
         {make_shape({{1, 1}}, {0}), make_shape({{1, 1200}, {2, 700}, {1, 3}}, {0, 2, 3}),
          make_shape({{1, 9}, {150, 150}, {9, 9}}, {0, 150, 159}), make_shape({{20, 20}}, {})})
      programs.push_back(build(config, shape, tiling));
    StepShape screened = make_shape({{1, 9}, {150, 150}, {9, 9}}, {0, 150, 159});
    screened.is_screened = true;
    programs.push_back(build(config, screened, tiling));
  }
  return programs;
}

}  // namespace sluice::program
