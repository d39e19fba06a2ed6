// Products of small matrices by a warp, and copies that feed them. From compute_80 on by tensor cores and asynchronous copies;
// compute_75 has neither for bf16 and computes the same sums by fused multiply-adds.
//
// A fragment is how the PTX ISA spreads a matrix over the lanes (mma.m16n8k16): lane 4 g + q holds of A [16 x 16] the rows g and
// g + 8 at k = 2 q, 2 q + 1, then the same at k + 8; of B [16 x 8] column g at the same k; of C [16 x 8] row g, then g + 8, at
// columns 2 q, 2 q + 1.
#pragma once

#include <cstdint>

namespace sluice::cuda::device {

using Bits = std::uint16_t;  // of a bf16 number

constexpr unsigned kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffU;

__device__ __forceinline__ float from_bf16(std::uint32_t bits) {
  return __uint_as_float(bits << 16U);
}

// To nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ std::uint32_t to_bf16(float x) {
  const std::uint32_t bits = __float_as_uint(x);
  if (x != x) return (bits >> 16U) | 0x40U;
  return (bits + 0x7fffU + ((bits >> 16U) & 1U)) >> 16U;
}

// `low` in the lower half, as memory has it first.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
  return to_bf16(low) | to_bf16(high) << 16U;
}

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// Copies 16 bytes to shared memory. What has been copied may be read after `wait_for_copies` and a barrier.
__device__ __forceinline__ void copy_16(void* to, const void* from) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
#else
  // A plain load: the source may have been written in this launch.
  *static_cast<uint4*>(to) = *static_cast<const uint4*>(from);
#endif
}

// Ends a group of copies.
__device__ __forceinline__ void end_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for this thread's groups but for the last `kLeft`.
template <int kLeft>
__device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
}

// Four 8 x 8 blocks of 16-bit numbers: lane l gives the address of row l % 8 of block l / 8.
__device__ __forceinline__ void load_blocks(const void* row, std::uint32_t (&blocks)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(blocks[0]), "=r"(blocks[1]), "=r"(blocks[2]), "=r"(blocks[3])
               : "r"(shared_address(row))
               : "memory");
}

// The same, each block transposed.
__device__ __forceinline__ void load_blocks_transposed(const void* row, std::uint32_t (&blocks)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(blocks[0]), "=r"(blocks[1]), "=r"(blocks[2]), "=r"(blocks[3])
               : "r"(shared_address(row))
               : "memory");
}

// c += A B by fragments; all lanes of the warp.
__device__ __forceinline__ void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const unsigned lane = threadIdx.x % kWarp;
  const unsigned row = lane & ~3U;         // the first of the lanes that hold row g of A
  const unsigned column = lane % 4U * 8U;  // of those that hold column 2 q of B
#pragma unroll
  for (unsigned half = 0; half < 2; ++half) {
#pragma unroll
    for (unsigned pair = 0; pair < 4; ++pair) {
      const std::uint32_t upper = __shfl_sync(kAllLanes, a[2 * half], row + pair);
      const std::uint32_t lower = __shfl_sync(kAllLanes, a[2 * half + 1], row + pair);
      const std::uint32_t left = __shfl_sync(kAllLanes, half == 0 ? b0 : b1, column + pair);
      const std::uint32_t right = __shfl_sync(kAllLanes, half == 0 ? b0 : b1, column + 4U + pair);
#pragma unroll
      for (unsigned shift = 0; shift < 32; shift += 16) {
        const float x = from_bf16(upper >> shift & 0xffffU);
        const float y = from_bf16(lower >> shift & 0xffffU);
        const float u = from_bf16(left >> shift & 0xffffU);
        const float v = from_bf16(right >> shift & 0xffffU);
        c[0] = fmaf(x, u, c[0]);
        c[1] = fmaf(x, v, c[1]);
        c[2] = fmaf(y, u, c[2]);
        c[3] = fmaf(y, v, c[3]);
      }
    }
  }
#endif
}

// Every lane gets the sum of all lanes, the same bits.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (unsigned other = kWarp / 2; other > 0; other /= 2) x += __shfl_xor_sync(kAllLanes, x, other);
  return x;
}

}  // namespace sluice::cuda::device
