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

__device__ inline std::uint32_t panels_of(Range rows) {
  return rows.begin == rows.end ? 0 : (rows.end + kPanel - 1) / kPanel - rows.begin / kPanel;
}

// Where a warp's tile of a panel stands: [8 step rows, 8 weight rows].
__device__ inline float* tile_of(const Block& block, std::uint32_t buffer, std::uint32_t panel,
                                 std::uint32_t warp) {
  return block.partials() + ((buffer * kBatchPanels + panel) * kComputeWarps + warp) * 64;
}

// This warp's `n_chunks` of a panel; `at`: of the first one's activations. To this lane's part of `tile`.
__device__ inline void multiply_panel(const Block& block, WeightRing& ring, std::uint32_t n_chunks,
                                      std::uint32_t at, float* tile) {
  const std::uint32_t n_rows = block.launch.n_rows;
#if __CUDA_ARCH__ >= 800
  const bool has_row = block.lane / 4 < n_rows;
  at += block.lane * 16;
  float sums[4] = {0, 0, 0, 0};
  uint4 x = make_uint4(0, 0, 0, 0);
#pragma unroll 1
  for (; n_chunks != 0; --n_chunks, at += n_rows * 64) {
    const uint4 weights = ring.next();
    load_shared_if(has_row, at, x);
    mma_bf16(sums, x.x, x.y, weights.x, weights.y);
    mma_bf16(sums, x.z, x.w, weights.z, weights.w);
    ring.copy_next();
  }
  store_shared(shared_address(tile + block.lane * 2), make_float2(sums[0], sums[1]));
#else
  // Lane 4 g + t: row g of the panel, columns 8 t to 8 t + 7 of each chunk; all rows of the step, four at a time by the same code:
  // `sums` and `others` change places after each four.
  constexpr std::uint32_t kAtOnce = 4;
  static_assert(kMostDecodeRows == 2 * kAtOnce);
  at += block.lane % 4 * 16;
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
  for (; n_chunks != 0; --n_chunks, at += n_rows * 64) {
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
    tile[(first + block.lane % 4) * 8 + block.lane / 4] =
        (keeps_upper ? pairs[1] : pairs[0]) +
        __shfl_xor_sync(0xFFFFFFFFU, keeps_upper ? pairs[0] : pairs[1], 2);
    exchange();
  }
  __syncwarp();  // so that lanes copy the next chunks side by side
#endif
}

// Compute warps: all of the block's panels, `rows` of the matrix.
__device__ inline void multiply(const Block& block, WeightRing& ring, const Op& op, Range rows) {
  const Range chunks = chunks_of_warp(op, block.warp);
  const std::uint32_t activations =
      shared_address(block.activations()) + chunks.begin * block.launch.n_rows * 64;
  std::uint32_t left = panels_of(rows);
#pragma unroll 1
  for (std::uint32_t batch = 0; left != 0; ++batch) {
    if (batch >= 2) barrier_sync(kEmpty + batch % 2, kDecodeThreads);
    float* tile = tile_of(block, batch % 2, 0, block.warp);
    std::uint32_t n = min(left, kBatchPanels);
    left -= n;
#pragma unroll 1
    for (; n != 0; --n, tile += kComputeWarps * 64)
      multiply_panel(block, ring, chunks.end - chunks.begin, activations, tile);
    barrier_arrive(kFull + batch % 2, kDecodeThreads);
  }
}

// The control warp: `finish(row of the step, first row of weights, sums of it and the next, which of these are to be had)` for each lane
// and panel, in order. All lanes call it.
template <typename Finish>
__device__ inline void add_up(const Block& block, Range rows, const Finish& finish) {
  const std::uint32_t n_panels = panels_of(rows);
  const std::uint32_t n_batches = (n_panels + kBatchPanels - 1) / kBatchPanels;
  const std::uint32_t step_row = block.lane / 4;
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
      const std::uint32_t row = (rows.begin / kPanel + panel) * kPanel + block.lane % 4 * 2;
      const bool has_row = step_row < block.launch.n_rows;
      finish(step_row, row, sums, has_row && row >= rows.begin && row < rows.end,
             has_row && row + 1 >= rows.begin && row + 1 < rows.end);
      __syncwarp();
    }
    if (batch + 2 < n_batches) barrier_arrive(kEmpty + batch % 2, kDecodeThreads);
  }
}

}  // namespace sluice::cuda::device
