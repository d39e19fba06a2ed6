// From the buffers that blocks share to a product's operand in shared memory: bf16 [chunks, rows, 32], zero behind the width.
// All compute threads take part.
#pragma once

#include <cstdint>

#include "cuda/device/block.h"
#include "cuda/device/numbers.h"

namespace sluice::cuda::device {

__device__ inline std::uint32_t operand_index(const Block& block, std::uint32_t row, std::uint32_t k) {
  return (k / kChunk * block.launch.n_rows + row) * kChunk + k % kChunk;
}

// x [rows, stride] times `norm`, where there is one; sums of squares of x to the block's state, so that 1 / rms can multiply after
// the product.
__device__ inline void stage_rows(const Block& block, const Op& op, const float* x, std::uint32_t stride) {
  constexpr std::uint32_t kAtOnce = kLoadsAtOnce;
  const std::uint32_t depth = op.chunks * kChunk;
  const std::uint32_t width = op.width;
  const float* const norm = op.norm;
  std::uint16_t* operand = block.activations();
#pragma unroll 1
  for (std::uint32_t row = 0; row < block.launch.n_rows; ++row) {
    const float* in = x + std::size_t{row} * stride;
    float squares = 0;
#pragma unroll 1
    for (std::uint32_t first = threadIdx.x; first < depth; first += kAtOnce * kComputeThreads) {
      float values[kAtOnce];
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i) {
        const std::uint32_t k = first + i * kComputeThreads;
        values[i] = k < width ? load_shared_result(in + k) : 0.0F;
      }
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i) squares = fmaf(values[i], values[i], squares);
      if (norm != nullptr) {
#pragma unroll
        for (std::uint32_t i = 0; i < kAtOnce; ++i)
          if (first + i * kComputeThreads < width) values[i] *= norm[first + i * kComputeThreads];
      }
      std::uint16_t* to = operand + operand_index(block, row, first);
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i) {
        const std::uint32_t k = first + i * kComputeThreads;
        if (k < depth) to[i * (kComputeThreads * block.launch.n_rows)] = to_bf16(values[i]);
      }
    }
    squares = warp_sum(squares);
    if (block.lane == 0) block.state().square_sums[row][block.warp] = squares;
  }
}

// 1 / rms of a row that stage_rows has staged.
__device__ inline float inverse_rms(const Block& block, const Op& op, std::uint32_t row) {
  float sum = 0;
#pragma unroll 1
  for (std::uint32_t warp = 0; warp < kComputeWarps; ++warp) sum += block.state().square_sums[row][warp];
  return inverse_root_mean(sum, op.width, block.launch.model.eps);
}

// DeltaNet's gated norm, a warp for each V head: rms_norm(o) · w · SiLU(z). Every block makes it for itself.
__device__ inline void stage_gated_norm(const Block& block, const Op& op) {
  const ModelShape& model = block.launch.model;
  const Buffers& buffers = block.launch.buffers;
  const std::uint32_t size = model.value_head_dim;
  std::uint16_t* operand = block.activations();
#pragma unroll 1
  for (std::uint32_t row = 0, head = block.warp; row < block.launch.n_rows;) {
    if (head >= model.n_value_heads) {
      head -= model.n_value_heads;
      ++row;
      continue;
    }
    const float* o = buffers.mixed + std::size_t{row} * buffers.mixed_stride + head * size;
    const float* z =
        buffers.projection + std::size_t{row} * buffers.projection_stride + model.z_begin() + head * size;
    float squares = 0;
#pragma unroll 1
    for (std::uint32_t i = block.lane; i < size; i += 32) {
      const float value = load_shared_result(o + i);
      squares = fmaf(value, value, squares);
    }
    const float scale = inverse_root_mean(warp_sum(squares), size, model.eps);
#pragma unroll 1
    for (std::uint32_t i = block.lane; i < size; i += 32) {
      const float value = load_shared_result(o + i) * scale * op.norm[i] * silu(load_shared_result(z + i));
      operand[operand_index(block, row, head * size + i)] = to_bf16(value);
    }
    head += kComputeWarps;
  }
#pragma unroll 1
  for (std::uint32_t row = 0; row < block.launch.n_rows; ++row)
#pragma unroll 1
    for (std::uint32_t k = op.width + threadIdx.x; k < op.chunks * kChunk; k += kComputeThreads)
      operand[operand_index(block, row, k)] = 0;
}

}  // namespace sluice::cuda::device
