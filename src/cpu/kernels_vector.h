// Vectors of sixteen floats: a compiler turns them into what the instruction set of the file that includes this has.
//
// Included by kernels_*.cpp only (kernels_common.h); all of it is static, and it uses no library template: an inline
// function compiled for one instruction set must never be linked into code for another.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__FMA__)
#include <immintrin.h>
#endif

namespace sluice::cpu {
namespace {

using f32x16 = float __attribute__((vector_size(64)));
using i32x16 = int32_t __attribute__((vector_size(64)));
using u32x16 = uint32_t __attribute__((vector_size(64)));
using u16x16 = uint16_t __attribute__((vector_size(32)));

constexpr size_t kWidth = 16;

inline f32x16 load(const float* p) {
  f32x16 v;
  memcpy(&v, p, sizeof v);
  return v;
}

inline void store(float* p, f32x16 v) {
  memcpy(p, &v, sizeof v);
}

// The first n < 16 values; zeros behind.
inline f32x16 load_part(const float* p, size_t n) {
  f32x16 v = {};
  memcpy(&v, p, n * sizeof(float));
  return v;
}

inline void store_part(float* p, f32x16 v, size_t n) {
  memcpy(p, &v, n * sizeof(float));
}

inline f32x16 all(float x) {
  return f32x16{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};  // 0 + x would be an addition
}

// a * b + c: rounded once where the instruction set has it, else twice.
inline f32x16 mul_add(f32x16 a, f32x16 b, f32x16 c) {
#if defined(__AVX512F__)
  return (f32x16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  __m256 x[2];
  __m256 y[2];
  __m256 z[2];
  memcpy(x, &a, sizeof a);
  memcpy(y, &b, sizeof b);
  memcpy(z, &c, sizeof c);
  for (size_t half = 0; half < 2; ++half) z[half] = _mm256_fmadd_ps(x[half], y[half], z[half]);
  memcpy(&c, z, sizeof c);
  return c;
#else
  return a * b + c;
#endif
}

inline f32x16 load_bf16(const uint16_t* p) {
  u16x16 half;
  memcpy(&half, p, sizeof half);
  return (f32x16)(__builtin_convertvector(half, u32x16) << 16);
}

// To nearest even, as the lower halves of 32 bits; NaN stays NaN.
inline u32x16 round_to_bf16(f32x16 v) {
  const u32x16 bits = (u32x16)v;
  const u32x16 rounded = (bits + 0x7FFFU + ((bits >> 16U) & 1U)) >> 16U;
  const u32x16 is_nan = (u32x16)(v != v);  // NOLINT(misc-redundant-expression): not for NaN
  return (rounded & ~is_nan) | (((bits >> 16U) | 0x40U) & is_nan);
}

inline f32x16 select(i32x16 mask, f32x16 yes, f32x16 no) {
  return (f32x16)(((i32x16)yes & mask) | ((i32x16)no & ~mask));
}

inline f32x16 larger(f32x16 a, f32x16 b) {
  return select(a > b, a, b);
}

// Pairwise, always in this order.
inline float sum(f32x16 v) {
  float x[kWidth];
  memcpy(x, &v, sizeof x);
  for (size_t half = kWidth / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; ++i) x[i] += x[i + half];
  return x[0];
}

inline float largest_of(f32x16 v) {
  float x[kWidth];
  memcpy(x, &v, sizeof x);
  for (size_t half = kWidth / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; ++i) x[i] = x[i + half] > x[i] ? x[i + half] : x[i];
  return x[0];
}

// e^x: x = n ln2 + r, |r| <= ln2 / 2, Taylor up to r^7 (the next term is below 2^-27); below -104 it is 0, above 88.7
// infinity.
inline f32x16 vexp(f32x16 x) {
  const f32x16 low = all(-104.0F);
  const f32x16 high = all(89.0F);
  const i32x16 is_low = x < low;
  const i32x16 is_high = x > high;
  const f32x16 clamped = select(is_low, low, select(is_high, high, x));
  const f32x16 magic = all(0x1.8p+23F);  // adding it rounds to a whole number
  const f32x16 n = (clamped * all(0x1.715476p+0F) + magic) - magic;
  const f32x16 r = (clamped - n * all(0x1.62e4p-1F)) - n * all(0x1.7f7d1cp-20F);
  f32x16 tail = all(1.0F / 5040.0F);
  tail = tail * r + all(1.0F / 720.0F);
  tail = tail * r + all(1.0F / 120.0F);
  tail = tail * r + all(1.0F / 24.0F);
  tail = tail * r + all(1.0F / 6.0F);
  tail = tail * r + all(0.5F);
  const f32x16 y = all(1.0F) + (r + r * r * tail);
  // 2^n in two steps: 2^n itself may be out of range.
  const i32x16 whole = __builtin_convertvector(n, i32x16);
  const i32x16 half = whole >> 1;
  const f32x16 first = (f32x16)((half + 127) << 23);
  const f32x16 second = (f32x16)((whole - half + 127) << 23);
  const f32x16 result = y * first * second;
  const f32x16 infinity = all(__builtin_inff());
  const f32x16 bounded = select(is_low, f32x16{}, select(is_high, infinity, result));
  return select(x != x, x, bounded);  // NOLINT(misc-redundant-expression): not for NaN
}

inline f32x16 vsigmoid(f32x16 x) {
  return all(1.0F) / (all(1.0F) + vexp(-x));
}

template <typename Op>
inline void for_each_vector(size_t n, const Op& op) {
  size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) op(i, kWidth);
  if (i < n) op(i, n - i);
}

inline f32x16 load_some(const float* p, size_t n) {
  return n == kWidth ? load(p) : load_part(p, n);
}

inline f32x16 load_some_bf16(const uint16_t* p, size_t n) {
  if (n == kWidth) return load_bf16(p);
  uint16_t rest[kWidth] = {};
  memcpy(rest, p, n * sizeof *p);
  return load_bf16(rest);
}

inline void store_some(float* p, f32x16 v, size_t n) {
  if (n == kWidth) {
    store(p, v);
  } else {
    store_part(p, v, n);
  }
}

}  // namespace
}  // namespace sluice::cpu
