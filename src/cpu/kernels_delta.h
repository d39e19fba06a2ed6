// The gated delta rule (Yang, Kautz, Hatamizadeh 2024; docs/models.md §2) of one V head over the rows of a span. Part of
// kernels_common.h.
//
// A row, with S [key_dim, value_dim], e = exp(g), c = q·k:
//
//   r = Sᵀk   s = Sᵀq   δ = β (v − e r)   o = e s + c δ   S ← e S + k δᵀ
//
// Columns of S don't meet: 32 of them (16 kB at key_dim = 128) stay in the first-level cache while all rows pass, and a row's
// update makes the next row's r and s on the way. A span of one row does the same arithmetic in the same order, so prefill
// and decode agree bit for bit.
#pragma once

#include "cpu/kernels_vector.h"

namespace sluice::cpu {
namespace {

struct DeltaSpan {
  const float* query;  // [rows, key_dim]  normalised and scaled
  const float* key;    // [rows, key_dim]  normalised
  const float* value;  // [rows, value_dim]
  const float* decay;  // [rows]  exp(g)
  const float* beta;   // [rows]
  size_t rows;
  size_t key_dim;
  size_t value_dim;
};

template <size_t Vectors>
struct DeltaSums {
  f32x16 r[Vectors];
  f32x16 s[Vectors];
};

template <size_t Vectors>
inline DeltaSums<Vectors> delta_products(const DeltaSpan& span, size_t row, const float* state, size_t some) {
  DeltaSums<Vectors> sums = {};
  const float* key = span.key + row * span.key_dim;
  const float* query = span.query + row * span.key_dim;
  for (size_t i = 0; i < span.key_dim; ++i) {
    for (size_t j = 0; j < Vectors; ++j) {
      const f32x16 v = load_some(state + i * span.value_dim + j * kWidth, some);
      sums.r[j] = mul_add(all(key[i]), v, sums.r[j]);
      sums.s[j] = mul_add(all(query[i]), v, sums.s[j]);
    }
  }
  return sums;
}

// S ← e S + k δᵀ for `row`, and the products of the row behind it.
template <size_t Vectors>
inline DeltaSums<Vectors> delta_update(const DeltaSpan& span, size_t row, const f32x16 (&delta)[Vectors],
                                       float* state, size_t some) {
  const f32x16 decay = all(span.decay[row]);
  const float* key = span.key + row * span.key_dim;
  const bool is_last = row + 1 == span.rows;
  const float* next_key = is_last ? key : key + span.key_dim;
  const float* next_query = span.query + (is_last ? row : row + 1) * span.key_dim;
  DeltaSums<Vectors> sums = {};
  for (size_t i = 0; i < span.key_dim; ++i) {
    const f32x16 k = all(key[i]);
    for (size_t j = 0; j < Vectors; ++j) {
      float* at = state + i * span.value_dim + j * kWidth;
      const f32x16 v = mul_add(k, delta[j], decay * load_some(at, some));
      store_some(at, v, some);
      sums.r[j] = mul_add(all(next_key[i]), v, sums.r[j]);
      sums.s[j] = mul_add(all(next_query[i]), v, sums.s[j]);
    }
  }
  return sums;
}

// Columns `begin` to begin + 16 * Vectors, or `some` < 16 of them.
template <size_t Vectors>
inline void delta_columns(const DeltaSpan& span, size_t begin, size_t some, const float* products,
                          float* state, float* out) {
  DeltaSums<Vectors> sums = delta_products<Vectors>(span, 0, state + begin, some);
  for (size_t row = 0; row < span.rows; ++row) {
    const f32x16 decay = all(span.decay[row]);
    f32x16 delta[Vectors];
    for (size_t j = 0; j < Vectors; ++j) {
      const size_t at = row * span.value_dim + begin + j * kWidth;
      delta[j] = all(span.beta[row]) * (load_some(span.value + at, some) - decay * sums.r[j]);
      store_some(out + at, mul_add(all(products[row]), delta[j], decay * sums.s[j]), some);
    }
    sums = delta_update<Vectors>(span, row, delta, state + begin, some);
  }
}

// One row, columns `begin` to begin + 16 * Vectors: the same, but through the state as it lies in memory, for it comes from
// there.
template <size_t Vectors>
inline void delta_row(const DeltaSpan& span, size_t begin, float product, float* state, float* out) {
  constexpr size_t kAhead = 4;  // rows of the state
  constexpr size_t kLineFloats = 16;
  f32x16 r[Vectors] = {};
  f32x16 s[Vectors] = {};
  float* const at = state + begin;
  for (size_t i = 0; i < span.key_dim; ++i) {
    const float* row = at + i * span.value_dim;
    for (size_t j = 0; j < Vectors; ++j) {
      __builtin_prefetch(row + kAhead * span.value_dim + j * kLineFloats, 1, 3);
      const f32x16 v = load(row + j * kWidth);
      r[j] = mul_add(all(span.key[i]), v, r[j]);
      s[j] = mul_add(all(span.query[i]), v, s[j]);
    }
  }
  const f32x16 decay = all(span.decay[0]);
  f32x16 delta[Vectors];
  for (size_t j = 0; j < Vectors; ++j) {
    const size_t column = begin + j * kWidth;
    delta[j] = all(span.beta[0]) * (load(span.value + column) - decay * r[j]);
    store(out + column, mul_add(all(product), delta[j], decay * s[j]));
  }
  for (size_t i = 0; i < span.key_dim; ++i) {
    float* row = at + i * span.value_dim;
    for (size_t j = 0; j < Vectors; ++j)
      store(row + j * kWidth, mul_add(all(span.key[i]), delta[j], decay * load(row + j * kWidth)));
  }
}

void delta_rule(float* state, const float* query, const float* key, const float* value, const float* decay,
                const float* beta, size_t rows, size_t key_dim, size_t value_dim, float* scratch,
                float* out) {
  const DeltaSpan span = {query, key, value, decay, beta, rows, key_dim, value_dim};
  for (size_t row = 0; row < rows; ++row) {
    f32x16 products = {};
    for_each_vector(key_dim, [&](size_t i, size_t some) {
      products = mul_add(load_some(query + row * key_dim + i, some), load_some(key + row * key_dim + i, some),
                         products);
    });
    scratch[row] = sum(products);
  }
  size_t begin = 0;
  constexpr size_t kOfOneRow = 8;
  if (rows == 1)
    for (; begin + kOfOneRow * kWidth <= value_dim; begin += kOfOneRow * kWidth)
      delta_row<kOfOneRow>(span, begin, scratch[0], state, out);
  constexpr size_t kVectors = 2;
  for (; begin + kVectors * kWidth <= value_dim; begin += kVectors * kWidth)
    delta_columns<kVectors>(span, begin, kWidth, scratch, state, out);
  for (; begin < value_dim; begin += kWidth)
    delta_columns<1>(span, begin, value_dim - begin < kWidth ? value_dim - begin : kWidth, scratch, state,
                     out);
}

}  // namespace
}  // namespace sluice::cpu
