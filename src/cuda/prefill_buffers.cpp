#include "cuda/prefill_buffers.h"

#include <algorithm>

namespace sluice::cuda {
namespace {

struct Sizes {
  std::size_t residual, projection, mixed, operand, gated;
};

Sizes sizes_of(const ModelShape& shape, const MixedLimits& limits) {
  constexpr std::size_t kLeast = 256;  // bytes of an allocation that nothing needs
  const std::size_t row = limits.rows * sizeof(float);
  const std::size_t blocks = limits.row_blocks * kRowBlock * sizeof(std::uint16_t);
  return {.residual = row * shape.residual_stride(),
          .projection = row * shape.projection_stride(),
          .mixed = row * shape.mixed_stride(),
          .operand = std::max(kLeast, blocks * operand_depth(shape)),
          .gated = std::max(kLeast, blocks * round_up(shape.intermediate, kChunk))};
}

template <typename T>
T* pointer(const DeviceMemory& memory) {
  return device_pointer<T>(memory.address());
}

}  // namespace

PrefillBuffers::PrefillBuffers(const std::shared_ptr<const Context>& context, const Stream& stream,
                               const ModelShape& shape, const MixedLimits& limits)
    : shape_(shape) {
  const Sizes sizes = sizes_of(shape, limits);
  residual_ = DeviceMemory(context, sizes.residual);
  projection_ = DeviceMemory(context, sizes.projection);
  mixed_ = DeviceMemory(context, sizes.mixed);
  operand_ = DeviceMemory(context, sizes.operand);
  gated_ = DeviceMemory(context, sizes.gated);
  output_residual_ = DeviceMemory(context, sizes.residual);
  operand_.clear(0, sizes.operand, stream);  // rows and columns that are padding stay so
  gated_.clear(0, sizes.gated, stream);
}

std::size_t PrefillBuffers::bytes(const ModelShape& shape, const MixedLimits& limits) {
  const Sizes sizes = sizes_of(shape, limits);
  return 2 * sizes.residual + sizes.projection + sizes.mixed + sizes.operand + sizes.gated;
}

void PrefillBuffers::put_into(MixedLaunch& mixed) const {
  Buffers& buffers = mixed.prefill.buffers;
  buffers.residual = pointer<float>(residual_);
  buffers.projection = pointer<float>(projection_);
  buffers.mixed = pointer<float>(mixed_);
  mixed.output_residual = pointer<float>(output_residual_);
  mixed.operand = pointer<std::uint16_t>(operand_);
  mixed.gated = pointer<std::uint16_t>(gated_);
  mixed.operand_depth = operand_depth(shape_);
}

}  // namespace sluice::cuda
