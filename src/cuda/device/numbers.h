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

#if __CUDA_ARCH__ < 800
// The bits of the nearest bf16 number, ties to even, in the upper half; NaN stays NaN.
__device__ inline std::uint32_t rounded_bits(float value) {
  const std::uint32_t bits = __float_as_uint(value);
  return value == value ? bits + (0x7FFFU + ((bits >> 16) & 1U)) : 0x7FFFFFFFU;
}
#endif

// To nearest, ties to even; NaN stays NaN.
__device__ inline std::uint16_t to_bf16(float value) {
#if __CUDA_ARCH__ >= 800
  std::uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
#else
  return static_cast<std::uint16_t>(rounded_bits(value) >> 16);
#endif
}

__device__ inline std::uint32_t to_bf16(float low, float high) {
#if __CUDA_ARCH__ >= 800
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return __byte_perm(rounded_bits(low), rounded_bits(high), 0x7632);
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

// Approximations of a few instructions, where the exact ones have dozens; subnormal results are zero. 1 / x to 1 ulp, 1 / sqrt(x) to
// 2^-22.9, e^x to (2 + |x|) 2^-23: what is far off is as small as e^x itself.
__device__ inline float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
__device__ inline float reciprocal_root(float x) {
  float result;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
__device__ inline float exponential(float x) {
  constexpr float kLog2E = 0x1.715476p+0F;
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * kLog2E));
  return result;
}

// ⌊a / b⌋, a < 2^22, in half as many instructions as the exact division: the first quotient is at most one too large or too small.
__device__ inline std::uint32_t quotient(std::uint32_t a, std::uint32_t b) {
  std::uint32_t whole = __float2uint_rz(static_cast<float>(a) * reciprocal(static_cast<float>(b)));
  const auto rest = static_cast<std::int32_t>(a - whole * b);
  if (rest < 0) --whole;
  if (rest >= static_cast<std::int32_t>(b)) ++whole;
  return whole;
}

__device__ inline float sigmoid(float x) {
  return reciprocal(1.0F + exponential(-x));
}
__device__ inline float silu(float x) {
  return x * sigmoid(x);
}
__device__ inline float softplus(float x) {
  return x > 20.0F ? x : log1pf(exponential(x));
}

// 1 / sqrt(sum / n + eps)
__device__ inline float inverse_root_mean(float sum, std::uint32_t n, float eps) {
  return reciprocal_root(sum * reciprocal(static_cast<float>(n)) + eps);
}

// Over the lanes of a warp, in the same order in each of them. Rolled: every place of a shuffle costs a dozen instructions in the code.
__device__ inline float warp_sum(float x) {
#pragma unroll 1
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xFFFFFFFFU, x, distance);
  return x;
}
// The same of four values at once: lane l has the sum of values[l / 8]. At each distance a lane gives away half of its values.
__device__ inline float sums_of_warp(float (&values)[4]) {
  const std::uint32_t lane = threadIdx.x % 32;
#pragma unroll
  for (std::uint32_t n = 2; n > 0; n /= 2) {
    const bool keeps_upper = (lane & 8 * n) != 0;
#pragma unroll
    for (std::uint32_t i = 0; i < n; ++i) {
      const float given = keeps_upper ? values[i] : values[i + n];
      const float kept = keeps_upper ? values[i + n] : values[i];
      values[i] = kept + __shfl_xor_sync(0xFFFFFFFFU, given, static_cast<int>(8 * n));
    }
  }
  float sum = values[0];
#pragma unroll 1
  for (int distance = 4; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xFFFFFFFFU, sum, distance);
  return sum;
}
__device__ inline float warp_max(float x) {
#pragma unroll 1
  for (int distance = 16; distance > 0; distance /= 2)
    x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFU, x, distance));
  return x;
}

}  // namespace sluice::cuda::device
