// What the delta rule in chunks (delta_chunk.h) needs beside products of bf16. On vectors that the instruction set has, so that
// sums stay in its registers. Part of kernels_common.h.
#pragma once

#include "cpu/kernels.h"
#include "cpu/kernels_vector.h"

namespace sluice::cpu {
namespace {

// A block's sums are kBlockRows x kBlockVectors vectors: 16 of the 32 registers of AVX-512, 8 of 16 elsewhere, so that several
// fused multiply-adds of 4 cycles are always under way and each vector of w serves kBlockRows of them.
constexpr size_t kBlockRows = 4;
#if defined(__AVX512F__)
constexpr size_t kNative = 16;
constexpr size_t kBlockVectors = 4;
#elif defined(__AVX__)
constexpr size_t kNative = 8;
constexpr size_t kBlockVectors = 2;
#else
constexpr size_t kNative = 4;
constexpr size_t kBlockVectors = 2;
#endif
using Native = float __attribute__((vector_size(kNative * sizeof(float))));
// Clang takes an alignment that is lower than the type's from a name of its own only.
using NativeInMemory __attribute__((aligned(sizeof(float)), may_alias)) = Native;

inline Native load_native(const float* p) {
  return *(const NativeInMemory*)p;
}

inline void store_native(float* p, Native v) {
  *(NativeInMemory*)p = v;  // memcpy would take arrays of vectors out of their registers (GCC 12)
}

inline Native everywhere(float x) {
  return x - Native{};  // x + 0 would make 0 of -0
}

// As mul_add.
inline Native fused(Native a, Native b, Native c) {
#if defined(__AVX512F__)
  return (Native)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Native)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

struct RowProduct {
  const float* x;
  size_t ldx;
  const float* w;
  size_t ldw;
  size_t depth;
  float factor;
  float* y;
  size_t ldy;
};

template <size_t Vectors, size_t Rows>
inline void product_block(RowProduct p) {
  Native sums[Rows][Vectors];
  const Native factor = everywhere(p.factor);
  for (size_t row = 0; row < Rows; ++row) {
    for (size_t j = 0; j < Vectors; ++j) {
      sums[row][j] = Native{};
      if (p.factor != 0.0F) sums[row][j] = factor * load_native(p.y + row * p.ldy + j * kNative);
    }
  }
  for (size_t k = 0; k < p.depth; ++k) {
    Native w[Vectors];
    for (size_t j = 0; j < Vectors; ++j) w[j] = load_native(p.w + k * p.ldw + j * kNative);
    for (size_t row = 0; row < Rows; ++row) {
      const Native x = everywhere(p.x[row * p.ldx + k]);
      for (size_t j = 0; j < Vectors; ++j) sums[row][j] = fused(x, w[j], sums[row][j]);
    }
  }
  for (size_t row = 0; row < Rows; ++row)
    for (size_t j = 0; j < Vectors; ++j) store_native(p.y + row * p.ldy + j * kNative, sums[row][j]);
}

template <size_t Vectors>
inline void product_columns(RowProduct p, size_t rows) {
  for (; rows >= kBlockRows; rows -= kBlockRows) {
    product_block<Vectors, kBlockRows>(p);
    p.x += kBlockRows * p.ldx;
    p.y += kBlockRows * p.ldy;
  }
  for (; rows > 0; --rows) {
    product_block<Vectors, 1>(p);
    p.x += p.ldx;
    p.y += p.ldy;
  }
}

// Fewer columns than a vector has: in the same order.
inline void product_rest(const RowProduct& p, size_t rows, size_t n) {
  for (size_t row = 0; row < rows; ++row) {
    float sums[kNative] = {};
    float w[kNative] = {};
    float* const y = p.y + row * p.ldy;
    for (size_t j = 0; j < n && p.factor != 0.0F; ++j) sums[j] = p.factor * y[j];
    for (size_t k = 0; k < p.depth; ++k) {
      memcpy(w, p.w + k * p.ldw, n * sizeof *w);
      store_native(sums, fused(everywhere(p.x[row * p.ldx + k]), load_native(w), load_native(sums)));
    }
    memcpy(y, sums, n * sizeof *y);
  }
}

void multiply(const float* x, size_t ldx, size_t rows, const float* w, size_t ldw, size_t depth, size_t n,
              float factor, float* y, size_t ldy) {
  RowProduct p = {x, ldx, w, ldw, depth, factor, y, ldy};
  constexpr size_t kBlock = kBlockVectors * kNative;
  for (; n >= kBlock; n -= kBlock, p.w += kBlock, p.y += kBlock) product_columns<kBlockVectors>(p, rows);
  for (; n >= kNative; n -= kNative, p.w += kNative, p.y += kNative) product_columns<1>(p, rows);
  if (n > 0) product_rest(p, rows, n);
}

// Four rows of four: register to register.
using Quad = float __attribute__((vector_size(16)));
using QuadInMemory __attribute__((aligned(sizeof(float)), may_alias)) = Quad;

inline void transpose_quad(const float* x, size_t ldx, float* out, size_t ldo) {
  const Quad a = *(const QuadInMemory*)x;
  const Quad b = *(const QuadInMemory*)(x + ldx);
  const Quad c = *(const QuadInMemory*)(x + 2 * ldx);
  const Quad d = *(const QuadInMemory*)(x + 3 * ldx);
  const Quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *(QuadInMemory*)out = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
  *(QuadInMemory*)(out + ldo) = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
  *(QuadInMemory*)(out + 2 * ldo) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
  *(QuadInMemory*)(out + 3 * ldo) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

void transpose(const float* x, size_t rows, size_t n, float* out, size_t ldo) {
  constexpr size_t kQuad = 4;
  const size_t in_quads = n / kQuad * kQuad;
  size_t i = 0;
  for (; i + kQuad <= rows; i += kQuad) {
    size_t j = 0;
    for (; j < in_quads; j += kQuad) transpose_quad(x + i * n + j, n, out + j * ldo + i, ldo);
    for (; j < n; ++j)
      for (size_t row = i; row < i + kQuad; ++row) out[j * ldo + row] = x[row * n + j];
  }
  for (; i < rows; ++i)
    for (size_t j = 0; j < n; ++j) out[j * ldo + i] = x[i * n + j];
}

void scale_rows(const float* a, const float* x, size_t ldx, const float* b, size_t rows, size_t n, float* y,
                size_t ldy) {
  for (size_t row = 0; row < rows; ++row, x += ldx, y += ldy) {
    size_t i = 0;
    for (; i + kNative <= n; i += kNative) {
      const Native scaled = everywhere(a[row]) * load_native(x + i);
      store_native(y + i, b == nullptr ? scaled : scaled + everywhere(b[row]) * load_native(y + i));
    }
    for (; i < n; ++i) y[i] = b == nullptr ? a[row] * x[i] : a[row] * x[i] + b[row] * y[i];
  }
}

// E row by row: the row before times this row's decay, and 1 at its own place. Unlike exp(γ_i − γ_j) of sums γ of logarithms it
// neither overflows above the diagonal nor cancels below it.
void decay_products(const float* products, const float* decay, const float* beta, size_t rows, size_t ld,
                    float* factors) {
  float between[kMaxDeltaChunk] = {};
  const float* queries = products + rows * ld;
  float* query_factors = factors + rows * ld;
  for (size_t i = 0; i < rows; ++i) {
    const Native scale = everywhere(-beta[i]);
    for (size_t j = 0; j < ld; j += kNative) {
      const Native e = load_native(between + j) * everywhere(decay[i]);
      store_native(between + j, e);
      store_native(factors + i * ld + j, scale * e * load_native(products + i * ld + j));
    }
    between[i] = 1.0F;
    for (size_t j = 0; j < ld; j += kNative)
      store_native(query_factors + i * ld + j, load_native(between + j) * load_native(queries + i * ld + j));
  }
}

// Rows [row, row + Rows): what they take from earlier rows first, then among themselves.
template <size_t Vectors, size_t Rows>
inline void solve_block(const float* factors, size_t ld, size_t row, float* x, size_t ldx) {
  Native sums[Rows][Vectors];
  for (size_t i = 0; i < Rows; ++i)
    for (size_t j = 0; j < Vectors; ++j) sums[i][j] = load_native(x + (row + i) * ldx + j * kNative);
  for (size_t k = 0; k < row; ++k) {
    Native earlier[Vectors];
    for (size_t j = 0; j < Vectors; ++j) earlier[j] = load_native(x + k * ldx + j * kNative);
    for (size_t i = 0; i < Rows; ++i) {
      const Native factor = everywhere(factors[(row + i) * ld + k]);
      for (size_t j = 0; j < Vectors; ++j) sums[i][j] = fused(factor, earlier[j], sums[i][j]);
    }
  }
  for (size_t k = 0; k < Rows; ++k) {
    for (size_t i = k + 1; i < Rows; ++i) {
      const Native factor = everywhere(factors[(row + i) * ld + row + k]);
      for (size_t j = 0; j < Vectors; ++j) sums[i][j] = fused(factor, sums[k][j], sums[i][j]);
    }
  }
  for (size_t i = 0; i < Rows; ++i)
    for (size_t j = 0; j < Vectors; ++j) store_native(x + (row + i) * ldx + j * kNative, sums[i][j]);
}

template <size_t Vectors>
inline void solve_columns(const float* factors, size_t ld, size_t rows, float* x, size_t ldx) {
  size_t row = 0;
  for (; row + kBlockRows <= rows; row += kBlockRows)
    solve_block<Vectors, kBlockRows>(factors, ld, row, x, ldx);
  for (; row < rows; ++row) solve_block<Vectors, 1>(factors, ld, row, x, ldx);
}

void solve(const float* factors, size_t ld, size_t rows, float* x, size_t n) {
  constexpr size_t kBlock = kBlockVectors * kNative;
  size_t begin = 0;
  for (; begin + kBlock <= n; begin += kBlock) solve_columns<kBlockVectors>(factors, ld, rows, x + begin, n);
  for (; begin < n; begin += kNative) solve_columns<1>(factors, ld, rows, x + begin, n);
}

void pack_rows(const float* x, size_t ldx, size_t n, size_t dim, const float* scale, uint16_t* out) {
  const size_t depth = (n + kWidth - 1) / kWidth * kWidth;
  const size_t n_panels = (dim + kWidth - 1) / kWidth;
  const auto rounded = [&](size_t row, size_t begin) {
    if (row >= n) return u32x16{};
    const f32x16 v = load_some(x + row * ldx + begin, dim - begin < kWidth ? dim - begin : kWidth);
    return round_to_bf16(scale == nullptr ? v : v * all(scale[row]));
  };
  for (size_t row = 0; row < depth; row += 2) {
    for (size_t panel = 0; panel < n_panels; ++panel) {
      const u32x16 pairs = rounded(row, panel * kWidth) | rounded(row + 1, panel * kWidth) << 16U;
      memcpy(out + (panel * depth + row) * kWidth, &pairs, sizeof pairs);
    }
  }
}

void unpack_transposed(const uint16_t* packed, size_t depth, size_t n_panels, uint16_t* out) {
  const size_t ldo = n_panels * kWidth;
  for (size_t panel = 0; panel < n_panels; ++panel, packed += depth * kWidth, out += kWidth) {
    for (size_t k = 0; k < depth; k += 2) {
      u32x16 pairs;
      memcpy(&pairs, packed + k * kWidth, sizeof pairs);
      const u16x16 even = __builtin_convertvector(pairs, u16x16);
      const u16x16 odd = __builtin_convertvector(pairs >> 16U, u16x16);
      memcpy(out + k * ldo, &even, sizeof even);
      memcpy(out + (k + 1) * ldo, &odd, sizeof odd);
    }
  }
}

}  // namespace
}  // namespace sluice::cpu
