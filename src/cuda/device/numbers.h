// 16-bit numbers, and the functions of the model, on the device.
#pragma once

#include <cstdint>

#include <cuda_fp16.h>

namespace sluice::cuda::device {

__device__ inline float from_bf16(std::uint32_t bits) {
  return __uint_as_float(bits << 16);
}
__device__ inline float low_bf16(std::uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ inline float high_bf16(std::uint32_t pair) {
  return __uint_as_float(pair & 0xFFFF0000U);
}

// To nearest, ties to even; NaN stays NaN.
__device__ inline std::uint16_t to_bf16(float value) {
#if __CUDA_ARCH__ >= 800
  std::uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#else
  const std::uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
#endif
}

// Numbers of the KV cache: bf16; fp16 on sm_75.
__device__ inline std::uint16_t to_cached(float value) {
#if __CUDA_ARCH__ >= 800
  return to_bf16(value);
#else
  return __half_as_ushort(__float2half_rn(value));
#endif
}
__device__ inline float2 from_cached(std::uint32_t pair) {
#if __CUDA_ARCH__ >= 800
  return make_float2(low_bf16(pair), high_bf16(pair));
#else
  return make_float2(__half2float(__ushort_as_half(static_cast<unsigned short>(pair & 0xFFFFU))),
                     __half2float(__ushort_as_half(static_cast<unsigned short>(pair >> 16))));
#endif
}

// Divisions of 2 ulp: the full ones are a hundred instructions each.
__device__ inline float sigmoid(float x) {
  return __fdividef(1.0F, 1.0F + expf(-x));
}
__device__ inline float silu(float x) {
  return __fdividef(x, 1.0F + expf(-x));
}
__device__ inline float softplus(float x) {
  return x > 20.0F ? x : log1pf(expf(x));
}

// Over the lanes of a warp, in the same order in each of them.
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xFFFFFFFFU, x, distance);
  return x;
}
__device__ inline float warp_max(float x) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFU, x, distance));
  return x;
}

}  // namespace sluice::cuda::device
