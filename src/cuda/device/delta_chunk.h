// The gated delta rule of a long span by chunks of rows (docs/models.md §2), in fp32: value columns [first, first + kDeltaColumns)
// of a V head by one block, since columns of the state never meet. For a chunk with K, Q, V its rows, S the state before
// it, e_i = decay[0] ... decay[i], E_ij = decay[j + 1] ... decay[i] for j <= i, else 0:
//
//   (I + A) V' = diag(β) (V − diag(e) K S)      A_ij = β_i E_ij k_i·k_j for j < i, else 0; row by row
//   O = diag(e) Q S + (E ⊙ Q Kᵀ) V'
//   S ← e_last S + Kᵀ diag(E_last) V'
//
// E is made row by row from products of decays: nothing overflows above the diagonal or cancels below it. Rows that a last chunk
// doesn't have are k = q = v = β = 0 and decay = 1, which leave the state as it is.
#pragma once

#include "cuda/device/matrix.h"

namespace sluice::cuda::device {

inline constexpr std::uint32_t kDeltaChunk = 32;  // rows; the lanes of the warps that make E
inline constexpr std::uint32_t kDeltaColumns = 16;
// 132 words from row to row: 16-byte reads of 8 rows meet all banks.
inline constexpr std::uint32_t kDeltaStride = kMostKeyHeadDim + 4;

struct DeltaShared {
  alignas(16) float rows[2 * kDeltaChunk][kDeltaStride];  // keys, then queries; zero behind key_head_dim
  alignas(16) float state[kDeltaColumns][kDeltaStride];   // S transposed
  float products[2 * kDeltaChunk][kDeltaChunk + 1];       // with the chunk's keys, then A and E ⊙ Q Kᵀ
  float sums[2 * kDeltaChunk][kDeltaColumns];             // V, then V − diag(e) K S, then V'; Q S
  float tail[kMostConvKernel - 1]
            [2 * kMostKeyHeadDim + kDeltaColumns];  // inputs of the convolution before the chunk
  float decay[kDeltaChunk];
  float beta[kDeltaChunk];
  float from_start[kDeltaChunk];  // e
  float to_end[kDeltaChunk];      // E_last
};

// Dot products of all rows with all keys and with the state: 4 rows of each thread, 2 keys and a column.
__device__ inline void delta_products(DeltaShared& s, std::uint32_t key_stride) {
  const std::uint32_t i = threadIdx.x / 16;
  const std::uint32_t j = threadIdx.x % 16;
  float sums[4][3] = {};
  for (std::uint32_t d = 0; d < key_stride; d += 4) {
    float4 right[3];
    right[0] = *reinterpret_cast<const float4*>(&s.rows[j][d]);
    right[1] = *reinterpret_cast<const float4*>(&s.rows[j + 16][d]);
    right[2] = *reinterpret_cast<const float4*>(&s.state[j][d]);
#pragma unroll
    for (std::uint32_t a = 0; a < 4; ++a) {
      const float4 left = *reinterpret_cast<const float4*>(&s.rows[i + 16 * a][d]);
#pragma unroll
      for (std::uint32_t b = 0; b < 3; ++b)
        sums[a][b] =
            fmaf(left.w, right[b].w,
                 fmaf(left.z, right[b].z, fmaf(left.y, right[b].y, fmaf(left.x, right[b].x, sums[a][b]))));
    }
  }
#pragma unroll
  for (std::uint32_t a = 0; a < 4; ++a) {
    s.products[i + 16 * a][j] = sums[a][0];
    s.products[i + 16 * a][j + 16] = sums[a][1];
    if (a < 2) {
      s.sums[i + 16 * a][j] -= s.from_start[i + 16 * a] * sums[a][2];
    } else {
      s.sums[i + 16 * a][j] = sums[a][2];
    }
  }
}

// One thread: e and E_last.
__device__ inline void delta_gates(DeltaShared& s) {
  float product = 1;
  for (std::uint32_t i = 0; i < kDeltaChunk; ++i) s.from_start[i] = product *= s.decay[i];
  product = 1;
  for (std::uint32_t i = kDeltaChunk; i-- > 0; product *= s.decay[i]) s.to_end[i] = product;
}

// A (warp 0) and E ⊙ Q Kᵀ (warp 1) in the place of the products, a column a lane.
__device__ inline void delta_factors(DeltaShared& s) {
  const std::uint32_t warp = threadIdx.x / kWarp;
  const std::uint32_t lane = threadIdx.x % kWarp;
  if (warp >= 2) return;
  float e = 0;
  for (std::uint32_t i = 0; i < kDeltaChunk; ++i) {
    e *= s.decay[i];
    if (warp == 0) s.products[i][lane] *= s.beta[i] * e;
    if (i == lane) e = 1;
    if (warp == 1) s.products[kDeltaChunk + i][lane] *= e;
  }
}

// V' in the place of V − diag(e) K S: one lane a column, row by row.
__device__ inline void delta_solve(DeltaShared& s) {
  const std::uint32_t column = threadIdx.x;
  if (column >= kDeltaColumns) return;
  float solved[kDeltaChunk];
#pragma unroll
  for (std::uint32_t i = 0; i < kDeltaChunk; ++i) {
    float x = s.beta[i] * s.sums[i][column];
#pragma unroll
    for (std::uint32_t j = 0; j < i; ++j) x = fmaf(-s.products[i][j], solved[j], x);
    solved[i] = x;
    s.sums[i][column] = x;
  }
}

// Calls use(row, column, output) for each of the chunk's.
template <typename Use>
__device__ inline void delta_outputs(const DeltaShared& s, const Use& use) {
  const std::uint32_t column = threadIdx.x % kDeltaColumns;
#pragma unroll
  for (std::uint32_t half = 0; half < 2; ++half) {
    const std::uint32_t i = threadIdx.x / kDeltaColumns + 16 * half;
    float x = s.from_start[i] * s.sums[kDeltaChunk + i][column];
    for (std::uint32_t j = 0; j <= i; ++j) x = fmaf(s.products[kDeltaChunk + i][j], s.sums[j][column], x);
    use(i, column, x);
  }
}

__device__ inline void delta_update(DeltaShared& s, std::uint32_t key_stride) {
  const std::uint32_t column = threadIdx.x / 16;
  const float kept = s.from_start[kDeltaChunk - 1];
  for (std::uint32_t d = threadIdx.x % 16 * 4; d < key_stride; d += 64) {
    float4 x = *reinterpret_cast<float4*>(&s.state[column][d]);
    x = make_float4(kept * x.x, kept * x.y, kept * x.z, kept * x.w);
    for (std::uint32_t j = 0; j < kDeltaChunk; ++j) {
      const float change = s.to_end[j] * s.sums[j][column];
      const float4 key = *reinterpret_cast<const float4*>(&s.rows[j][d]);
      x = make_float4(fmaf(key.x, change, x.x), fmaf(key.y, change, x.y), fmaf(key.z, change, x.z),
                      fmaf(key.w, change, x.w));
    }
    *reinterpret_cast<float4*>(&s.state[column][d]) = x;
  }
}

// A chunk whose rows, values (in `sums`), decays, betas and gates stand in shared memory, to its outputs and the state after it. All
// kComputeThreads threads, which have met at a barrier since, and must meet at one before the next chunk.
template <typename Use>
__device__ inline void delta_chunk(DeltaShared& s, std::uint32_t key_stride, const Use& use) {
  delta_products(s, key_stride);
  tile_sync();
  delta_factors(s);
  tile_sync();
  delta_solve(s);
  tile_sync();
  delta_outputs(s, use);
  delta_update(s, key_stride);
}

}  // namespace sluice::cuda::device
