// What slots carry from step to step: DeltaNet and convolution state in fp32, keys and values in bf16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/huge_memory.h"
#include "base/reserved_memory.h"
#include "model/config.h"

namespace sluice::cpu {

class Sequences {
 public:
  // Address space for the whole context of every slot; memory comes as positions are written. Throws Error if the address
  // space can't be had.
  Sequences(const model::ModelConfig& config, std::size_t n_slots, std::size_t context);

  std::size_t n_slots() const { return lengths_.size(); }
  std::size_t length(std::size_t slot) const { return lengths_[slot]; }
  const std::vector<std::size_t>& lengths() const { return lengths_; }
  void advance(std::size_t slot, std::size_t rows) { lengths_[slot] += rows; }
  void reset(std::size_t slot);

  // Of a DeltaNet layer: [key_head_dim, value_head_dim] of V head `head`, and [conv_kernel - 1, size] of the channels of a
  // head of q, k or v that begin at `channel` and are `size` wide.
  float* delta_state(std::size_t layer, std::size_t slot, std::size_t head);
  float* conv_state(std::size_t layer, std::size_t slot, std::size_t channel);

  // Of an attention layer: [context, head_dim] of a KV head.
  std::uint16_t* keys(std::size_t layer, std::size_t slot, std::size_t head);
  std::uint16_t* values(std::size_t layer, std::size_t slot, std::size_t head);

 private:
  const model::ModelConfig& config_;
  std::size_t context_;
  std::size_t delta_size_;  // elements of a layer and slot
  std::size_t conv_size_;
  std::size_t kv_size_;                     // of keys, or values
  std::vector<std::size_t> index_in_kind_;  // [layers]  among the layers of its kind
  std::vector<std::size_t> lengths_;        // [slots]
  std::vector<HugeMemory> recurrent_;       // [slots]  delta states of all layers, then conv states
  std::vector<ReservedMemory> kv_;          // [slots]  keys and values of all layers
};

}  // namespace sluice::cpu
