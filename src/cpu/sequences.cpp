#include "cpu/sequences.h"

#include "base/error.h"

namespace sluice::cpu {

using model::LayerKind;

Sequences::Sequences(const model::ModelConfig& config, std::size_t n_slots, std::size_t context)
    : config_(config),
      context_(context),
      delta_size_(config.n_value_heads * config.key_head_dim * config.value_head_dim),
      conv_size_(config.conv_dim() * (config.conv_kernel - 1)),
      kv_size_(context * config.kv_dim()),
      lengths_(n_slots, 0) {
  std::size_t n_delta = 0;
  std::size_t n_attention = 0;
  for (const LayerKind kind : config.layers)
    index_in_kind_.push_back(kind == LayerKind::kDeltaNet ? n_delta++ : n_attention++);
  for (std::size_t slot = 0; slot < n_slots; ++slot) {
    recurrent_.emplace_back(n_delta * (delta_size_ + conv_size_) * sizeof(float));
    kv_.emplace_back(n_attention * 2 * kv_size_ * sizeof(std::uint16_t));
  }
}

void Sequences::reset(std::size_t slot) {
  lengths_[slot] = 0;
  recurrent_[slot].clear();
  kv_[slot].clear();
}

float* Sequences::delta_state(std::size_t layer, std::size_t slot, std::size_t head) {
  auto* states = reinterpret_cast<float*>(recurrent_[slot].bytes().data());
  return states + index_in_kind_[layer] * (delta_size_ + conv_size_) +
         head * (delta_size_ / config_.n_value_heads);
}

float* Sequences::conv_state(std::size_t layer, std::size_t slot, std::size_t channel) {
  auto* states = reinterpret_cast<float*>(recurrent_[slot].bytes().data());
  return states + index_in_kind_[layer] * (delta_size_ + conv_size_) + delta_size_ +
         channel * (config_.conv_kernel - 1);
}

std::uint16_t* Sequences::keys(std::size_t layer, std::size_t slot, std::size_t head) {
  auto* cache = reinterpret_cast<std::uint16_t*>(kv_[slot].data());
  return cache + index_in_kind_[layer] * 2 * kv_size_ + head * context_ * config_.head_dim;
}

std::uint16_t* Sequences::values(std::size_t layer, std::size_t slot, std::size_t head) {
  return keys(layer, slot, head) + kv_size_;
}

}  // namespace sluice::cpu
