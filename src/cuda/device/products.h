// Products of weights and the step's 1 to 8 rows.
//
// Compute warps share every panel of 8 weights' rows by columns: warp w sums over its chunks with mma (fp32 fma on sm_75), and
// leaves an 8 x 8 tile, step rows x weight rows, in shared memory. The control warp adds the eight tiles in the order of the
// warps and finishes the outputs. So an output's sum has one order, whatever the grid, the block's share and the other rows are.
// Tiles change hands kBatchPanels at a time, through two buffers.
#pragma once

#include <cstdint>

#include "cuda/device/numbers.h"
#include "cuda/device/ring.h"

namespace sluice::cuda::device {

// Where a warp's tile of a panel stands: [8 step rows, 8 weight rows].
__device__ inline float* tile_of(const Block& block, std::uint32_t buffer, std::uint32_t panel,
                                 std::uint32_t warp) {
  return block.partials() + ((buffer * kBatchPanels + panel) * kComputeWarps + warp) * 64;
}

// What a lane needs of the activations of its warp's chunks.
struct Operand {
  std::uint32_t begin,
      end;  // places in shared memory, of the first chunk's and behind the last's; equal: none
  std::uint32_t stride;
  uint4 x;             // the chunk's in use; zero, and it stays so, in a lane that has no row
  std::uint32_t zero;  // which the compiler would make anew for each chunk
  float2 unused;       // of mma_bf16, the same for each panel
};

__device__ inline Operand operand_of(const Block& block, Range chunks) {
#if __CUDA_ARCH__ >= 800
  const std::uint32_t lane = block.lane;  // of a row's 64 bytes, and of the rows
#else
  const std::uint32_t lane = block.lane % 4;
#endif
  const std::uint32_t first = shared_address(block.activations()) + lane * 16;
  const std::uint32_t stride = block.launch.n_rows * 64;
  return {first + chunks.begin * stride,
          first + chunks.end * stride,
          stride,
          make_uint4(0, 0, 0, 0),
          opaque(0U),
          make_float2(0, 0)};
}

// This warp's chunks of a panel, of which it has some, to the tile at `tile` in shared memory.
__device__ inline void multiply_panel(const Block& block, WeightRing& ring, Operand& operand,
                                      std::uint32_t tile) {
  const std::uint32_t n_rows = block.launch.n_rows;
#if __CUDA_ARCH__ >= 800
  const bool has_row = block.lane / 4 < n_rows;
  uint4& x = operand.x;
  float2 sums = make_float2(0, 0);
  std::uint32_t at = operand.begin;
#pragma unroll 1
  do {
    const uint4 weights = ring.next();
    load_shared_if(has_row, at, x);
    mma_bf16(sums, operand.unused, x.x, x.y, operand.zero, weights.x, weights.y);
    mma_bf16(sums, operand.unused, x.z, x.w, operand.zero, weights.z, weights.w);
    ring.copy_next();
    at += operand.stride;
  } while (at != operand.end);
  store_shared(tile + block.lane * 8, sums);
#else
  // Lane 4 g + t: row g of the panel, columns 8 t to 8 t + 7 of each chunk; all rows of the step, four at a time by the same code:
  // `sums` and `others` change places after each four.
  constexpr std::uint32_t kAtOnce = 4;
  static_assert(kMostDecodeRows == 2 * kAtOnce);
  float sums[kAtOnce] = {};
  float others[kAtOnce] = {};
  const auto exchange = [&] {
#pragma unroll
    for (std::uint32_t i = 0; i < kAtOnce; ++i) {
      const float sum = sums[i];
      sums[i] = others[i];
      others[i] = sum;
    }
  };
#pragma unroll 1
  for (std::uint32_t at = operand.begin; at != operand.end; at += operand.stride) {
    const uint4 weights = ring.next();
    const std::uint32_t w[4] = {weights.x, weights.y, weights.z, weights.w};
#pragma unroll 1
    for (std::uint32_t first = 0; first < n_rows; first += kAtOnce) {
#pragma unroll
      for (std::uint32_t row = 0; row < kAtOnce; ++row) {
        if (first + row >= n_rows) break;
        const uint4 activations = load_shared(at + (first + row) * 64);
        const std::uint32_t x[4] = {activations.x, activations.y, activations.z, activations.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sums[row] = fmaf(low_bf16(w[i]), low_bf16(x[i]), sums[row]);
          sums[row] = fmaf(high_bf16(w[i]), high_bf16(x[i]), sums[row]);
        }
      }
      if (n_rows > kAtOnce) exchange();  // twice: so they are back
    }
    ring.copy_next();
  }
  // Over four lanes: each gives away the rows whose number has another bit 0, then bit 1, than its own.
  const bool keeps_odd = (block.lane & 1U) != 0;
  const bool keeps_upper = (block.lane & 2U) != 0;
#pragma unroll 1
  for (std::uint32_t first = 0; first < kMostDecodeRows; first += kAtOnce) {
    float pairs[2];
#pragma unroll
    for (std::uint32_t i = 0; i < 2; ++i)
      pairs[i] = (keeps_odd ? sums[2 * i + 1] : sums[2 * i]) +
                 __shfl_xor_sync(0xFFFFFFFFU, keeps_odd ? sums[2 * i] : sums[2 * i + 1], 1);
    const float sum = (keeps_upper ? pairs[1] : pairs[0]) +
                      __shfl_xor_sync(0xFFFFFFFFU, keeps_upper ? pairs[0] : pairs[1], 2);
    store_shared(tile + ((first + block.lane % 4) * 8 + block.lane / 4) * 4, sum);
    exchange();
  }
  __syncwarp();  // so that lanes copy the next chunks side by side
#endif
}

// Compute warps: all of the block's panels, `rows` of the matrix.
__device__ inline void multiply(const Block& block, WeightRing& ring, const Op& op, Range rows) {
  const Range chunks = chunks_of_warp(op, block.warp);
  Operand operand = operand_of(block, chunks);
  std::uint32_t left = panels_of(rows);
#pragma unroll 1
  for (std::uint32_t batch = 0; left != 0; ++batch) {
    if (batch >= 2) barrier_sync(kEmpty + batch % 2, kDecodeThreads);
    std::uint32_t tile = shared_address(tile_of(block, batch % 2, 0, block.warp));
    std::uint32_t n = min(left, kBatchPanels);
    left -= n;
#pragma unroll 1
    do {
      if (operand.begin != operand.end)
        multiply_panel(block, ring, operand, tile);
      else
        store_shared(tile + block.lane * 8, make_float2(0, 0));
      tile += kComputeWarps * 64 * 4;
    } while (--n != 0);
    barrier_arrive(kFull + batch % 2, kDecodeThreads);
  }
}

// The control warp: `finish(first row of weights, sums of it and the next, which of these are to be had)` for each lane and panel, in
// order. All lanes call it, for row lane / 4 of the step.
template <typename Finish>
__device__ inline void add_up(const Block& block, Range rows, const Finish& finish) {
  const std::uint32_t n_panels = panels_of(rows);
  const std::uint32_t n_batches = (n_panels + kBatchPanels - 1) / kBatchPanels;
  const std::uint32_t step_row = block.lane / 4;
  const std::uint32_t n_rows = rows.end - rows.begin;
#pragma unroll 1
  for (std::uint32_t batch = 0; batch < n_batches; ++batch) {
    barrier_sync(kFull + batch % 2, kDecodeThreads);
#pragma unroll 1
    for (std::uint32_t in_batch = 0; in_batch < kBatchPanels; ++in_batch) {
      const std::uint32_t panel = batch * kBatchPanels + in_batch;
      if (panel >= n_panels) break;
      const float* tile = tile_of(block, batch % 2, in_batch, 0) + block.lane * 2;
      float2 sums = make_float2(0, 0);
#pragma unroll
      for (std::uint32_t warp = 0; warp < kComputeWarps; ++warp) {
        const float2 part = *reinterpret_cast<const float2*>(tile + warp * 64);
        sums.x += part.x;
        sums.y += part.y;
      }
      const bool has_row = step_row < block.launch.n_rows;
      const std::uint32_t in_block = panel * kPanel + block.lane % 4 * 2;
      finish(rows.begin + in_block, sums, has_row && in_block < n_rows, has_row && in_block + 1 < n_rows);
      __syncwarp();
    }
    if (batch + 2 < n_batches) barrier_arrive(kEmpty + batch % 2, kDecodeThreads);
  }
}

}  // namespace sluice::cuda::device
