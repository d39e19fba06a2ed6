// The model's step in plain loops: no tiles, no threads, no SIMD. Truth for the tests. It reads like
// docs/models.md §2 and shares no code with the backends that it judges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/weights.h"

namespace sluice::oracle {

// What a sequence carries from token to token. T is float or double.
template <typename T>
struct LayerState {
  // DeltaNet
  std::vector<T> conv_state;   // [conv_dim, conv_kernel - 1]  inputs of the convolution, oldest first
  std::vector<T> delta_state;  // [n_value_heads, value_head_dim, key_head_dim]
  // Attention
  std::vector<T> keys;    // [length, n_kv_heads, head_dim]  normalised and rotated
  std::vector<T> values;  // [length, n_kv_heads, head_dim]
};

template <typename T>
struct SequenceState {
  std::size_t length = 0;
  std::vector<LayerState<T>> layers;
};

template <typename T>
SequenceState<T> empty_state(const model::ModelConfig& config);

// Feeds one token at position state.length. Returns its hidden state after the final norm [hidden].
template <typename T>
std::vector<T> feed(const model::Model& model, SequenceState<T>& state, std::int32_t token);

// The head: logits [vocab] of a hidden state from `feed`.
template <typename T>
std::vector<T> logits(const model::Model& model, std::span<const T> hidden);

}  // namespace sluice::oracle
