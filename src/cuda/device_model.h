// A model in the device's memory: weights, tables, and the buffers that ops pass on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "cuda/context.h"
#include "cuda/launch.h"
#include "cuda/plan.h"
#include "model/weights.h"

namespace sluice::cuda {

class DeviceModel {
 public:
  // Allocates and copies nothing. Throws Error if the kernels don't take the model.
  DeviceModel(const model::Model& model, std::size_t positions);

  // Bytes that `load` allocates.
  std::size_t bytes() const;

  // Copies the weights there, several threads packing them. Throws Error as DeviceWeights::fill does.
  void load(const std::shared_ptr<const Context>& context,
            const std::function<void(std::size_t done, std::size_t total)>& progress);

  const DeviceWeights& weights() const { return weights_; }
  std::uint64_t base() const { return weight_memory_.address(); }
  // What of a decode launch is the same in all of them. Those in a mixed launch follow each other at once, so that a block may
  // begin one while others read the last residual of the one before: they take two in turns.
  Launch launch(std::size_t index = 0) const;
  // Room for the logits of so many rows. Throws Error if that is more than is free.
  void reserve_logits(const std::shared_ptr<const Context>& context, std::size_t rows);
  const DeviceMemory& logits() const { return logits_; }

 private:
  struct BufferBytes {
    std::size_t residual, projection, mixed, attended, gated, partial, partial_sums, logits;
  };
  BufferBytes buffer_bytes() const;
  Buffers buffers(std::size_t index) const;

  const model::Model& model_;
  std::size_t positions_;
  DeviceWeights weights_;
  DeviceMemory weight_memory_;
  DeviceMemory layers_;
  DeviceMemory rotary_;
  DeviceMemory residual_, projection_, mixed_, attended_, gated_, partial_, partial_sums_, logits_;
};

}  // namespace sluice::cuda
