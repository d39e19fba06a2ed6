// y [rows, columns] = x [rows, depth] Wᵀ on bf16 with sums in fp32: what rows of long spans take from a weight matrix. A tile is
// kTileRows x kTileColumns of y, made by one block.
//
// Both operands are packed as launch.h says: panels of 8 rows (8 columns of y), chunks of 32 along K, so that a chunk of a panel
// is 512 consecutive bytes, in device memory as in shared memory, and lane 4 g + t reads the 16 bytes of row g at k = 8 t ... 8 t
// + 7: no two lanes meet a bank. Two mma.m16n8k16 take a chunk, the first of them k = 8 t ... 8 t + 3 of every t: both operands in
// the same order. Warps stand 2 x 4 on the tile, each with 32 x 32 sums, which take 8 loads of 16 bytes for 16 products.
//
// An element's sum goes through K in this order whatever rows or columns are beside it.
#pragma once

#include "cuda/device/matrix.h"
#include "cuda/launch.h"

namespace sluice::cuda::device {

inline constexpr std::uint32_t kTileRows = 64;
inline constexpr std::uint32_t kTileColumns = 128;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
inline constexpr std::uint32_t kTileStages = 4;
#else
inline constexpr std::uint32_t kTileStages = 2;
#endif

struct GemmShared {
  uint4 rows[kTileStages][kTileRows / kPanel][kWarp];
  uint4 weights[kTileStages][kTileColumns / kPanel][kWarp];
};

struct GemmOperands {
  const std::uint16_t* x;        // packed, kTileRows of them: rows that aren't there may hold anything
  const std::uint16_t* weights;  // packed [round_up(columns, kPanel), depth]
  std::uint32_t columns;
  std::uint32_t chunks;  // depth / kChunk
};

// Of a warp: rows 16 i ..., columns 8 j ... of its part, as fragments.
struct GemmSums {
  float c[2][4][4];
};

// Chunk `chunk` of both operands on its way to `stage`. Panels that aren't there are not copied, and not used.
__device__ inline void fetch_chunk(GemmShared& shared, const GemmOperands& in, std::uint32_t first_column,
                                   std::uint32_t chunk, std::uint32_t stage) {
  const std::uint32_t warp = threadIdx.x / kWarp;
  const std::uint32_t lane = threadIdx.x % kWarp;
  constexpr std::uint32_t kElements = kPanel * kChunk;
  static_assert(kTileRows / kPanel == kComputeWarps && kTileColumns / kPanel == 2 * kComputeWarps);
  copy_16(&shared.rows[stage][warp][lane],
          in.x + (std::size_t{warp} * in.chunks + chunk) * kElements + lane * 8);
#pragma unroll
  for (std::uint32_t panel = warp; panel < kTileColumns / kPanel; panel += kComputeWarps) {
    if (first_column + panel * kPanel >= in.columns) continue;
    const std::size_t at = (std::size_t{first_column / kPanel + panel} * in.chunks + chunk) * kElements;
    copy_16(&shared.weights[stage][panel][lane], in.weights + at + lane * 8);
  }
}

__device__ inline void multiply_chunk(const GemmShared& shared, std::uint32_t stage, std::uint32_t panels,
                                      GemmSums& sums) {
  const std::uint32_t warp = threadIdx.x / kWarp;
  const std::uint32_t lane = threadIdx.x % kWarp;
  uint4 x[4];  // 8 rows each
#pragma unroll
  for (std::uint32_t i = 0; i < 4; ++i) x[i] = shared.rows[stage][warp / 4 * 4 + i][lane];
#pragma unroll
  for (std::uint32_t j = 0; j < 4; ++j) {
    const std::uint32_t panel = warp % 4 * 4 + j;
    if (panel >= panels) break;
    const uint4 w = shared.weights[stage][panel][lane];
#pragma unroll
    for (std::uint32_t i = 0; i < 2; ++i) {
      const uint4 upper = x[2 * i];
      const uint4 lower = x[2 * i + 1];
      multiply_add_bf16(sums.c[i][j], upper.x, lower.x, upper.y, lower.y, w.x, w.y);
      multiply_add_bf16(sums.c[i][j], upper.z, lower.z, upper.w, lower.w, w.z, w.w);
    }
  }
}

// Columns from `first_column` on, a multiple of kTileColumns below in.columns. All kComputeThreads threads. Shared memory is free
// for other uses when it returns.
__device__ inline void gemm_tile(GemmShared& shared, const GemmOperands& in, std::uint32_t first_column,
                                 GemmSums& sums) {
#pragma unroll
  for (std::uint32_t i = 0; i < 2; ++i)
#pragma unroll
    for (std::uint32_t j = 0; j < 4; ++j)
#pragma unroll
      for (std::uint32_t e = 0; e < 4; ++e) sums.c[i][j][e] = 0;
  const std::uint32_t panels = (min(kTileColumns, in.columns - first_column) + kPanel - 1) / kPanel;
  for (std::uint32_t chunk = 0; chunk + 1 < kTileStages; ++chunk) {
    if (chunk < in.chunks) fetch_chunk(shared, in, first_column, chunk, chunk);
    commit_copies();
  }
  std::uint32_t stage = 0;
  for (std::uint32_t chunk = 0; chunk < in.chunks; ++chunk) {
    wait_for_copies<static_cast<int>(kTileStages) - 2>();
    tile_sync();  // this stage is there for all, and nobody reads the one before it any more
    const std::uint32_t ahead = chunk + kTileStages - 1;
    if (ahead < in.chunks)
      fetch_chunk(shared, in, first_column, ahead, stage == 0 ? kTileStages - 1 : stage - 1);
    commit_copies();
    multiply_chunk(shared, stage, panels, sums);
    stage = stage + 1 == kTileStages ? 0 : stage + 1;
  }
  wait_for_copies<0>();
  tile_sync();
}

// Calls use(row, column, sum of it, sum of column + 1) for what this lane holds: rows of the tile below `rows`, even columns below
// in.columns; where column + 1 isn't there its sum is meaningless.
template <typename Use>
__device__ inline void for_each_pair(const GemmOperands& in, std::uint32_t rows, std::uint32_t first_column,
                                     const GemmSums& sums, const Use& use) {
  const std::uint32_t warp = threadIdx.x / kWarp;
  const std::uint32_t lane = threadIdx.x % kWarp;
#pragma unroll
  for (std::uint32_t i = 0; i < 2; ++i) {
#pragma unroll
    for (std::uint32_t j = 0; j < 4; ++j) {
#pragma unroll
      for (std::uint32_t half = 0; half < 2; ++half) {
        const std::uint32_t row = warp / 4 * 32 + i * 16 + half * 8 + lane / 4;
        const std::uint32_t column = first_column + warp % 4 * 32 + j * 8 + lane % 4 * 2;
        if (row < rows && column < in.columns)
          use(row, column, sums.c[i][j][2 * half], sums.c[i][j][2 * half + 1]);
      }
    }
  }
}

}  // namespace sluice::cuda::device
