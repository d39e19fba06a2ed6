// Products of small matrices by a warp, and the copies that feed tiles.
//
// A fragment is how the PTX ISA spreads a matrix over the lanes (mma.m16n8k16): lane 4 g + q holds of A [16 x 16] the rows g and
// g + 8 at k = 2 q, 2 q + 1, then the same at k + 8; of B [16 x 8] column g at the same k; of C [16 x 8] row g, then g + 8, at
// columns 2 q, 2 q + 1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/device/numbers.h"
#include "cuda/device/ptx.h"
#include "cuda/launch.h"

namespace sluice::cuda::device {

inline constexpr std::uint32_t kWarp = 32;
inline constexpr std::uint32_t kAllLanes = 0xFFFFFFFFU;

// The threads that work on tiles, and wait for each other at a barrier of their own: others may be in the block.
inline constexpr std::uint32_t kTileBarrier = 15;
__device__ inline void tile_sync() {
  barrier_sync(kTileBarrier, kComputeThreads);
}

// Copies 16 bytes to shared memory: there after wait_for_copies, for others after a barrier too.
__device__ inline void copy_16(void* to, const void* from) {
  copy_async(shared_address(to), from);
}

// Four 8 x 8 blocks of 16-bit numbers: lane l gives the address of row l % 8 of block l / 8.
__device__ inline void load_blocks(const void* row, std::uint32_t (&blocks)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(blocks[0]), "=r"(blocks[1]), "=r"(blocks[2]), "=r"(blocks[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same, each block transposed.
__device__ inline void load_blocks_transposed(const void* row, std::uint32_t (&blocks)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(blocks[0]), "=r"(blocks[1]), "=r"(blocks[2]), "=r"(blocks[3])
               : "r"(shared_address(row))
               : "memory");
}

#if __CUDA_ARCH__ >= 800
__device__ inline void multiply_add_bf16(float (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                         std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1)
      : "memory");
}
#else
// compute_75's tensor cores don't know bf16: the same sums by fused multiply-adds, in order of k, without a limit to the
// range of weights or activations.
__device__ inline void multiply_add_bf16(float (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                         std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
  const std::uint32_t lane = threadIdx.x % kWarp;
  const std::uint32_t row = lane / 4 * 4;     // the first of the lanes that hold rows g and g + 8
  const std::uint32_t column = lane % 4 * 8;  // of those that hold column 2 q
#pragma unroll
  for (std::uint32_t half = 0; half < 2; ++half) {
#pragma unroll
    for (std::uint32_t pair = 0; pair < 4; ++pair) {
      const std::uint32_t upper = __shfl_sync(kAllLanes, half == 0 ? a0 : a2, row + pair);
      const std::uint32_t lower = __shfl_sync(kAllLanes, half == 0 ? a1 : a3, row + pair);
      const std::uint32_t left = __shfl_sync(kAllLanes, half == 0 ? b0 : b1, column + pair);
      const std::uint32_t right = __shfl_sync(kAllLanes, half == 0 ? b0 : b1, column + 4 + pair);
      c[0] = fmaf(high_bf16(upper), high_bf16(left), fmaf(low_bf16(upper), low_bf16(left), c[0]));
      c[1] = fmaf(high_bf16(upper), high_bf16(right), fmaf(low_bf16(upper), low_bf16(right), c[1]));
      c[2] = fmaf(high_bf16(lower), high_bf16(left), fmaf(low_bf16(lower), low_bf16(left), c[2]));
      c[3] = fmaf(high_bf16(lower), high_bf16(right), fmaf(low_bf16(lower), low_bf16(right), c[3]));
    }
  }
}
#endif

// c += A B of numbers as the KV cache has them (numbers.h).
__device__ inline void multiply_add_cached(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                           std::uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  multiply_add_bf16(c, a[0], a[1], a[2], a[3], b0, b1);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0)
      : "memory");
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[2]), "r"(a[3]), "r"(b1)
      : "memory");
#endif
}

}  // namespace sluice::cuda::device
