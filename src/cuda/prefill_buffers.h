// What the long spans of a mixed launch pass from op to op, in the device's memory.
#pragma once

#include <cstddef>
#include <memory>

#include "cuda/context.h"
#include "cuda/launch.h"
#include "cuda/step_parts.h"

namespace sluice::cuda {

class PrefillBuffers {
 public:
  PrefillBuffers() = default;
  PrefillBuffers(const std::shared_ptr<const Context>& context, const Stream& stream, const ModelShape& shape,
                 const MixedLimits& limits);

  // That the constructor allocates.
  static std::size_t bytes(const ModelShape& shape, const MixedLimits& limits);

  // Makes `mixed` use them: the prefill's rows, operands, and what its heads read.
  void put_into(MixedLaunch& mixed) const;

 private:
  ModelShape shape_{};
  DeviceMemory residual_, projection_, mixed_, operand_, gated_, output_residual_;
};

}  // namespace sluice::cuda
