// ggml's quantized blocks, read exactly: a few small integers, and the scales that make numbers of them.
#pragma once

#include <cstddef>
#include <span>

#include "model/tensor.h"

namespace sluice::model {

// Dequantizes blocks of `type`, a quantized one, to fp32, rounding in the order that ggml_blocks.cpp gives; that is also
// the order of the `gguf` Python package, so both give the same bits (of a NaN only that it is one). `blocks` holds
// out.size() / block_size(type) blocks, at any alignment.
void dequantize(DType type, std::span<const std::byte> blocks, std::span<float> out);

}  // namespace sluice::model
