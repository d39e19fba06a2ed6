// A model of any shape with random weights, in memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <deque>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/weights.h"
#include "tests/support/seed.h"

namespace sluice::test {

class RandomModel {
 public:
  // Weights so small that activations keep their size from layer to layer.
  RandomModel(const model::ModelConfig& config, Random& random)
      : random_(random), storage_(std::make_shared<Floats>()) {
    model_.config = config;
    model_.storage = storage_;
    model_.weights.embedding = matrix("embedding", config.vocab_size, config.hidden_size);
    model_.weights.head = matrix("head", config.vocab_size, config.hidden_size);
    model_.weights.norm = vector(config.hidden_size, 0.5F, 1.5F);
    for (const model::LayerKind kind : config.layers) model_.weights.layers.push_back(layer(config, kind));
  }

  const model::Model& model() const { return model_; }

 private:
  struct Floats final : model::Storage {
    std::deque<std::vector<float>> all;
    void check_intact() const override {}
  };

  std::vector<float> vector(std::size_t n, float low, float high) {
    std::uniform_real_distribution<float> uniform(low, high);
    std::vector<float> values(n);
    for (float& value : values) value = uniform(random_);
    return values;
  }

  model::Matrix matrix(const std::string& name, std::size_t rows, std::size_t cols) {
    const float limit = 1.5F / std::sqrt(static_cast<float>(cols));
    storage_->all.push_back(vector(rows * cols, -limit, limit));
    model::Matrix matrix;
    matrix.name = name;
    matrix.rows = rows;
    matrix.cols = cols;
    matrix.data = std::as_bytes(std::span<const float>(storage_->all.back()));
    return matrix;
  }

  model::LayerWeights layer(const model::ModelConfig& c, model::LayerKind kind) {
    model::LayerWeights layer;
    layer.mix_norm = vector(c.hidden_size, 0.5F, 1.5F);
    layer.mlp_norm = vector(c.hidden_size, 0.5F, 1.5F);
    layer.mlp.gate = matrix("gate", c.intermediate_size, c.hidden_size);
    layer.mlp.up = matrix("up", c.intermediate_size, c.hidden_size);
    layer.mlp.down = matrix("down", c.hidden_size, c.intermediate_size);
    if (kind == model::LayerKind::kAttention) {
      model::AttentionWeights mixer;
      mixer.q_gate = matrix("q_gate", 2 * c.query_dim(), c.hidden_size);
      mixer.k = matrix("k", c.kv_dim(), c.hidden_size);
      mixer.v = matrix("v", c.kv_dim(), c.hidden_size);
      mixer.out = matrix("out", c.hidden_size, c.query_dim());
      mixer.q_norm = vector(c.head_dim, 0.5F, 1.5F);
      mixer.k_norm = vector(c.head_dim, 0.5F, 1.5F);
      layer.mixer = std::move(mixer);
    } else {
      model::DeltaNetWeights mixer;
      mixer.qkv = matrix("qkv", c.conv_dim(), c.hidden_size);
      mixer.z = matrix("z", c.value_dim(), c.hidden_size);
      mixer.b = matrix("b", c.n_value_heads, c.hidden_size);
      mixer.a = matrix("a", c.n_value_heads, c.hidden_size);
      mixer.conv = vector(c.conv_dim() * c.conv_kernel, -0.5F, 0.5F);
      mixer.decay = vector(c.n_value_heads, -4.0F, -0.05F);
      mixer.dt_bias = vector(c.n_value_heads, -3.0F, 1.0F);
      mixer.norm = vector(c.value_head_dim, 0.5F, 1.5F);
      mixer.out = matrix("out", c.hidden_size, c.value_dim());
      for (std::size_t head = 0; head < c.n_value_heads; ++head)
        mixer.key_head.push_back(head % c.n_key_heads);
      layer.mixer = std::move(mixer);
    }
    return layer;
  }

  Random& random_;
  std::shared_ptr<Floats> storage_;
  model::Model model_;
};

// Two DeltaNet layers and an attention layer, no size a multiple of 8.
inline model::ModelConfig small_config() {
  model::ModelConfig config;
  config.vocab_size = 37;
  config.hidden_size = 20;
  config.intermediate_size = 27;
  config.layers = {model::LayerKind::kDeltaNet, model::LayerKind::kAttention, model::LayerKind::kDeltaNet};
  config.n_heads = 6;
  config.n_kv_heads = 2;
  config.head_dim = 10;
  config.rotary_dim = 6;
  config.rope_theta = 1000;
  config.n_key_heads = 2;
  config.n_value_heads = 4;
  config.key_head_dim = 9;
  config.value_head_dim = 11;
  config.conv_kernel = 4;
  config.rms_norm_eps = 1e-3;
  config.max_positions = 512;
  return config;
}

}  // namespace sluice::test
