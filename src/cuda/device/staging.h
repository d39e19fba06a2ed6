// From the buffers that blocks share to a product's operand in shared memory: bf16 [chunks, rows, 32], zero behind the width.
// All compute threads take part.
#pragma once

#include <cstdint>

#include "cuda/device/block.h"
#include "cuda/device/numbers.h"
#include "cuda/device/ring.h"

namespace sluice::cuda::device {

__device__ inline std::uint32_t operand_index(const Block& block, std::uint32_t row, std::uint32_t k) {
  return (k / kChunk * block.launch.n_rows + row) * kChunk + k % kChunk;
}

// What a warp multiplies, and no more: it needs no other warp.

// The residual times `norm`, four numbers a lane; and the warp's sums of squares to the block's shared memory, so that 1 / rms can
// multiply after the product.
__device__ inline void stage_normed(const Block& block, const Op& op) {
  const Range chunks = chunks_of_warp(op, block.warp);
  const std::uint32_t first = chunks.begin * kChunk + block.lane * 4;
  const std::uint32_t end = chunks.end * kChunk;
  const float* in = block.launch.buffers.residual + first;
  const float* norm = op.norm + first;
  std::uint32_t to = shared_address(block.activations() + operand_index(block, 0, first));
#pragma unroll 1
  for (std::uint32_t row = 0; row < block.launch.n_rows; ++row) {
    float squares = 0;
#pragma unroll 1
    for (std::uint32_t i = 0; first + i < end; i += 4 * 32) {
      const float4 x = load_shared_result(reinterpret_cast<const float4*>(in + i));
      const float4 weight = *reinterpret_cast<const float4*>(norm + i);
      squares = fmaf(x.w, x.w, fmaf(x.z, x.z, fmaf(x.y, x.y, fmaf(x.x, x.x, squares))));
      store_shared(to + i * block.launch.n_rows * 2, to_bf16(x.x * weight.x, x.y * weight.y),
                   to_bf16(x.z * weight.z, x.w * weight.w));
    }
    squares += __shfl_xor_sync(0xFFFFFFFFU, squares, 16);
    if (block.lane < 16) block.squares(row)[block.warp * 16 + block.lane] = squares;
    in += op.chunks * kChunk;
    to += kChunk * 2;
  }
  __syncwarp();
}

// bf16 rows as they are, eight numbers a lane.
__device__ inline void stage_rows(const Block& block, const Op& op, const std::uint16_t* x) {
  constexpr std::uint32_t kAtOnce = (kLoadsAtOnce + 1) / 2;
  const Range chunks = chunks_of_warp(op, block.warp);
  const std::uint32_t n = (chunks.end - chunks.begin) * 4;
  const std::uint32_t begin = chunks.begin * kChunk + block.lane * 8;
  const std::uint32_t apart = block.launch.n_rows * (8 * kChunk * 2);  // of a lane's places in the operand
  std::uint32_t row_at = shared_address(block.activations() + operand_index(block, 0, begin));
  const auto* from = reinterpret_cast<const uint4*>(x + begin);
#pragma unroll 1
  for (std::uint32_t row = 0; row < block.launch.n_rows; ++row) {
    std::uint32_t to = row_at;
#pragma unroll 1
    for (std::uint32_t first = block.lane; first < n; first += 32 * kAtOnce) {
      uint4 values[kAtOnce];
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i)
        if (first + i * 32 < n) values[i] = load_shared_result(from + (first - block.lane) + i * 32);
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i)
        if (first + i * 32 < n) store_shared(to + i * apart, values[i]);
      to += kAtOnce * apart;
    }
    from += op.chunks * (kChunk / 8);
    row_at += kChunk * 2;
  }
  __syncwarp();
}

// DeltaNet's gated norm: rms_norm(o) · w · SiLU(z), of which the buffer has SiLU(z) already. Every block makes all of it for itself, a
// warp for each V head; then a barrier, since these are not the parts that warps multiply.
__device__ inline void stage_gated_norm(const Block& block, const Op& op) {
  constexpr std::uint32_t kOfLane = kMostValueHeadDim / 32;
  const ModelShape& model = block.launch.model;
  const Buffers& buffers = block.launch.buffers;
  const std::uint32_t size = model.value_head_dim;
  std::uint16_t* const operand = block.activations();
#pragma unroll 1
  for (std::uint32_t row = 0, head = block.warp; row < block.launch.n_rows;) {
    if (head >= model.n_value_heads) {
      head -= model.n_value_heads;
      ++row;
      continue;
    }
    const std::uint32_t first = head * size + block.lane;
    const float* const o = buffers.mixed + std::size_t{row} * buffers.mixed_stride + first;
    const float* const gate =
        buffers.projection + std::size_t{row} * buffers.projection_stride + model.z_begin() + first;
    const float* const norm = op.norm + block.lane;
    float values[kOfLane];
    float factors[kOfLane];
#pragma unroll
    for (std::uint32_t i = 0; i < kOfLane; ++i) {
      values[i] = factors[i] = 0.0F;
      if (block.lane + i * 32 >= size) continue;
      values[i] = load_shared_result(o + i * 32);
      factors[i] = norm[i * 32] * load_shared_result(gate + i * 32);
    }
    float squares = 0;
#pragma unroll
    for (std::uint32_t i = 0; i < kOfLane; ++i) squares = fmaf(values[i], values[i], squares);
    const float scale = inverse_root_mean(warp_sum(squares), size, model.eps);
    std::uint16_t* const to = operand + operand_index(block, row, first);
#pragma unroll
    for (std::uint32_t i = 0; i < kOfLane; ++i)
      if (block.lane + i * 32 < size)
        to[i * (kChunk * block.launch.n_rows)] = to_bf16(values[i] * scale * factors[i]);
    head += kComputeWarps;
  }
  // Less than a chunk.
  if (const std::uint32_t k = op.width + block.lane;
      block.warp < block.launch.n_rows && k < op.chunks * kChunk)
    operand[operand_index(block, block.warp, k)] = 0;
  block.computing_warps();
}

// The control warp: 1 / rms of row lane / 4, when compute warps have staged it.
__device__ inline float inverse_rms(const Block& block, const Op& op) {
  float inverse = 1.0F;
#pragma unroll 1
  for (std::uint32_t row = 0; row < block.launch.n_rows; ++row) {
    static_assert(kSquareSums == 4 * 32);
    const float4 squares = reinterpret_cast<const float4*>(block.squares(row))[block.lane];
    const float sum = warp_sum(squares.x + squares.y + (squares.z + squares.w));
    if (block.lane / 4 == row) inverse = inverse_root_mean(sum, op.width, block.launch.model.eps);
  }
  return inverse;
}

}  // namespace sluice::cuda::device
