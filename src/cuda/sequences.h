// What slots carry from launch to launch, in the device's memory: DeltaNet and convolution state in fp32, KV pages of 16 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/context.h"
#include "cuda/launch.h"

namespace sluice::cuda {

// Bytes of everything that Sequences allocates.
std::size_t sequence_bytes(const ModelShape& shape, std::size_t n_slots, std::size_t context);

class Sequences {
 public:
  Sequences(std::shared_ptr<const Context> context, const Stream& stream, const ModelShape& shape,
            std::size_t n_slots, std::size_t positions);

  std::size_t n_slots() const { return lengths_.size(); }
  const std::vector<std::size_t>& lengths() const { return lengths_; }
  // Span::conv_parity of each slot.
  const std::vector<std::uint32_t>& conv_parity() const { return parity_; }
  std::uint32_t max_pages() const { return max_pages_; }
  States states() const;

  // Empties a slot: length 0, recurrent and convolution state zero, its pages free. In `stream`'s order.
  void reset(std::size_t slot);

  // Gives a slot the pages of its first `length` positions: before the launch that writes them.
  void reserve(std::size_t slot, std::size_t length);

  // After a launch of `steps` steps that fed `rows` rows each.
  void advance(std::size_t slot, std::size_t steps, std::size_t rows);

  // After a launch that was given up: nobody knows what the slot holds. `is_lost` until the next reset.
  void lose(std::size_t slot) { lost_[slot] = true; }
  bool is_lost(std::size_t slot) const { return lost_[slot]; }

 private:
  const Stream& stream_;
  ModelShape shape_;
  std::uint32_t max_pages_;
  DeviceMemory delta_;
  DeviceMemory conv_;
  DeviceMemory kv_;
  DeviceMemory table_;
  std::vector<std::uint32_t> free_pages_;
  std::vector<std::vector<std::uint32_t>> pages_;  // [slots]
  std::vector<std::size_t> lengths_;               // [slots]
  std::vector<std::uint32_t> parity_;              // [slots]
  std::vector<bool> lost_;                         // [slots]
};

}  // namespace sluice::cuda
