// Two models are the same: every canonical number of their weights, bit by bit, and what their configs say.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include <gtest/gtest.h>

#include "model/weights.h"

namespace sluice::test {

inline void expect_bits(const std::vector<float>& got, const std::vector<float>& want,
                        const std::string& name) {
  ASSERT_EQ(got.size(), want.size()) << name;
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(want[i]))
        << name << " " << i;
}

inline std::vector<float> row_of(const model::Matrix& matrix, std::size_t row) {
  std::vector<float> values(matrix.cols, -777.0F);
  matrix.read_row(row, values);
  return values;
}

inline void expect_same(const model::Matrix& got, const model::Matrix& want) {
  ASSERT_EQ(got.rows, want.rows) << got.name;
  ASSERT_EQ(got.cols, want.cols) << got.name;
  ASSERT_EQ(got.dtype, want.dtype) << got.name;
  for (std::size_t r = 0; r < got.rows; ++r) expect_bits(row_of(got, r), row_of(want, r), got.name);
}

inline void expect_same(const model::DeltaNetWeights& got, const model::DeltaNetWeights& want) {
  expect_same(got.qkv, want.qkv);
  expect_same(got.z, want.z);
  expect_same(got.b, want.b);
  expect_same(got.a, want.a);
  expect_same(got.out, want.out);
  expect_bits(got.conv, want.conv, "conv");
  expect_bits(got.dt_bias, want.dt_bias, "dt_bias");
  expect_bits(got.norm, want.norm, "norm");
  EXPECT_EQ(got.key_head, want.key_head);
  // The file's writer took exp in fp32: within an ulp of the right value, as ours is.
  ASSERT_EQ(got.decay.size(), want.decay.size());
  for (std::size_t i = 0; i < got.decay.size(); ++i)
    ASSERT_NEAR(got.decay[i], want.decay[i], std::abs(want.decay[i]) * std::numeric_limits<float>::epsilon());
}

inline void expect_same(const model::AttentionWeights& got, const model::AttentionWeights& want) {
  expect_same(got.q_gate, want.q_gate);
  expect_same(got.k, want.k);
  expect_same(got.v, want.v);
  expect_same(got.out, want.out);
  expect_bits(got.q_norm, want.q_norm, "q_norm");
  expect_bits(got.k_norm, want.k_norm, "k_norm");
}

inline void expect_same(const model::LayerWeights& got, const model::LayerWeights& want) {
  expect_bits(got.mix_norm, want.mix_norm, "mix_norm");
  expect_bits(got.mlp_norm, want.mlp_norm, "mlp_norm");
  expect_same(got.mlp.gate, want.mlp.gate);
  expect_same(got.mlp.up, want.mlp.up);
  expect_same(got.mlp.down, want.mlp.down);
  ASSERT_EQ(got.mixer.index(), want.mixer.index());
  std::visit(
      [&](const auto& mixer) { expect_same(mixer, std::get<std::decay_t<decltype(mixer)>>(want.mixer)); },
      got.mixer);
}

inline void expect_same(const model::Weights& got, const model::Weights& want) {
  expect_same(got.embedding, want.embedding);
  expect_same(got.head, want.head);
  EXPECT_EQ(got.head.data.data() == got.embedding.data.data(),
            want.head.data.data() == want.embedding.data.data());
  expect_bits(got.norm, want.norm, "norm");
  ASSERT_EQ(got.layers.size(), want.layers.size());
  for (std::size_t i = 0; i < got.layers.size(); ++i) expect_same(got.layers[i], want.layers[i]);
  ASSERT_EQ(got.mtp.has_value(), want.mtp.has_value());
  if (!got.mtp) return;
  expect_same(got.mtp->fc, want.mtp->fc);
  expect_bits(got.mtp->embedding_norm, want.mtp->embedding_norm, "embedding_norm");
  expect_bits(got.mtp->hidden_norm, want.mtp->hidden_norm, "hidden_norm");
  expect_bits(got.mtp->norm, want.mtp->norm, "mtp norm");
  ASSERT_EQ(got.mtp->layers.size(), want.mtp->layers.size());
  for (std::size_t i = 0; i < got.mtp->layers.size(); ++i)
    expect_same(got.mtp->layers[i], want.mtp->layers[i]);
}

inline void expect_same(const model::ModelConfig& got, const model::ModelConfig& want) {
  EXPECT_EQ(got.vocab_size, want.vocab_size);
  EXPECT_EQ(got.hidden_size, want.hidden_size);
  EXPECT_EQ(got.intermediate_size, want.intermediate_size);
  EXPECT_EQ(got.layers, want.layers);
  EXPECT_EQ(got.n_heads, want.n_heads);
  EXPECT_EQ(got.n_kv_heads, want.n_kv_heads);
  EXPECT_EQ(got.head_dim, want.head_dim);
  EXPECT_EQ(got.rotary_dim, want.rotary_dim);
  EXPECT_EQ(got.rope_theta, want.rope_theta);
  EXPECT_EQ(got.n_key_heads, want.n_key_heads);
  EXPECT_EQ(got.n_value_heads, want.n_value_heads);
  EXPECT_EQ(got.key_head_dim, want.key_head_dim);
  EXPECT_EQ(got.value_head_dim, want.value_head_dim);
  EXPECT_EQ(got.conv_kernel, want.conv_kernel);
  EXPECT_EQ(got.rms_norm_eps, want.rms_norm_eps);
  EXPECT_EQ(got.tie_word_embeddings, want.tie_word_embeddings);
  EXPECT_EQ(got.max_positions, want.max_positions);
  EXPECT_EQ(got.n_mtp_layers, want.n_mtp_layers);
}

}  // namespace sluice::test
