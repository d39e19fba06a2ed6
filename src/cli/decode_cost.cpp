#include "cli/decode_cost.h"

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kFp32 = 4;
constexpr std::size_t kBf16 = 2;

std::size_t count(const model::ModelConfig& config, model::LayerKind kind) {
  return static_cast<std::size_t>(std::count(config.layers.begin(), config.layers.end(), kind));
}

std::size_t macs(const model::Matrix& matrix) {
  return matrix.rows * matrix.cols;
}

std::size_t macs(const model::ModelConfig& config, const model::DeltaNetWeights& weights,
                 std::size_t /*context*/) {
  return macs(weights.qkv) + macs(weights.z) + macs(weights.b) + macs(weights.a) + macs(weights.out) +
         config.conv_dim() * config.conv_kernel +
         3 * config.n_value_heads * config.key_head_dim * config.value_head_dim;
}

std::size_t macs(const model::ModelConfig& config, const model::AttentionWeights& weights,
                 std::size_t context) {
  return macs(weights.q_gate) + macs(weights.k) + macs(weights.v) + macs(weights.out) +
         2 * config.n_heads * config.head_dim * context;
}

std::size_t macs(const model::MlpWeights& mlp) {
  return macs(mlp.gate) + macs(mlp.up) + macs(mlp.down);
}

bool is_tied(const model::Weights& weights) {
  return weights.head.data.data() == weights.embedding.data.data();
}

}  // namespace

SequenceBytes sequence_bytes(const model::ModelConfig& config) {
  const std::size_t delta_layers = count(config, model::LayerKind::kDeltaNet);
  const std::size_t attention_layers = count(config, model::LayerKind::kAttention);
  return {
      .delta_state =
          delta_layers * config.n_value_heads * config.key_head_dim * config.value_head_dim * kFp32,
      .conv_state = delta_layers * config.conv_dim() * (config.conv_kernel - 1) * kFp32,
      .kv_per_token = attention_layers * 2 * config.kv_dim() * kBf16,
  };
}

DecodeCost decode_cost(const model::Model& model, std::size_t context) {
  const model::ModelConfig& config = model.config;
  const model::Weights& weights = model.weights;
  const SequenceBytes sequence = sequence_bytes(config);
  DecodeCost cost;
  for (const model::ModelTensor& tensor : model.tensors)
    if (!tensor.mtp && tensor.name != weights.embedding.name) cost.weight_bytes += tensor.data.size();
  cost.weight_bytes += model::bytes_of(weights.embedding.dtype, weights.embedding.cols);
  if (is_tied(weights)) cost.weight_bytes += weights.embedding.data.size();
  cost.state_bytes = 2 * (sequence.delta_state + sequence.conv_state);
  const auto kv_bytes = checked_multiply(context, sequence.kv_per_token);
  if (!kv_bytes)
    throw Error("the KV cache of such a context is beyond 64 bits", "-c", "use a smaller context");
  cost.kv_bytes = *kv_bytes;

  std::size_t total = macs(weights.head);
  for (const model::LayerWeights& layer : weights.layers) {
    total += macs(layer.mlp);
    total += std::visit([&](const auto& mixer) { return macs(config, mixer, context); }, layer.mixer);
  }
  cost.flops = 2 * total;
  return cost;
}

std::size_t parameter_count(const model::Model& model) {
  std::size_t parameters = 0;
  for (const model::ModelTensor& tensor : model.tensors)
    if (!tensor.mtp) parameters += tensor.size();
  return parameters;
}

std::size_t parameter_count(const model::ModelConfig& config) {
  const std::size_t hidden = config.hidden_size;
  const std::size_t table = config.vocab_size * hidden;
  std::size_t parameters = (config.tie_word_embeddings ? table : 2 * table) + hidden;
  for (const model::LayerKind kind : config.layers) {
    parameters += 2 * hidden + 3 * hidden * config.intermediate_size;
    parameters += kind == model::LayerKind::kAttention
                      ? hidden * (3 * config.query_dim() + 2 * config.kv_dim()) + 2 * config.head_dim
                      : hidden * (config.conv_dim() + 2 * config.value_dim() + 2 * config.n_value_heads) +
                            config.conv_dim() * config.conv_kernel + 2 * config.n_value_heads +
                            config.value_head_dim;
  }
  return parameters;
}

}  // namespace sluice::cli
