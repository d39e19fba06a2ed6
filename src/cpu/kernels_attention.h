// Attention with an online softmax (Milakov, Gimelshein 2018) over keys and values in bf16. Part of kernels_common.h.
#pragma once

#include "cpu/kernels_vector.h"

namespace sluice::cpu {
namespace {

// A block of an online softmax.
void soften(float* scores, size_t n, size_t padded, float* maximum, float* sums, float* factor) {
  for (size_t i = n; i < padded; ++i) scores[i] = -__builtin_inff();
  f32x16 most = load(scores);
  for (size_t i = kWidth; i < padded; i += kWidth) most = larger(load(scores + i), most);
  const float block = largest_of(most);
  const float now = block > *maximum ? block : *maximum;
  float old[kWidth] = {*maximum - now};
  store(old, vexp(load(old)));
  f32x16 total = {};
  for (size_t i = 0; i < padded; i += kWidth) {
    const f32x16 weights = vexp(load(scores + i) - all(now));
    store(scores + i, weights);
    total += weights;
  }
  *factor = old[0];
  *sums = *sums * old[0] + sum(total);
  *maximum = now;
}

// Sixteen positions at a time: their scores are one vector, whose maximum rescales what is there once. `Queries` of them share
// a key's and a value's way from bf16.
template <size_t Queries>
struct AttentionStep {
  const float* queries;  // [Queries, dim]
  const uint16_t* keys;  // [positions, ld]
  const uint16_t* values;
  size_t ld;
  size_t dim;

  // Of the positions from `first` on, four at a time; those that aren't there repeat the last.
  void score(size_t first, size_t some, float (&scores)[Queries][kWidth]) const {
    constexpr size_t kAtOnce = 4;
    for (size_t at = 0; at < some; at += kAtOnce) {
      f32x16 products[Queries][kAtOnce] = {};
      const uint16_t* key[kAtOnce];
      for (size_t i = 0; i < kAtOnce; ++i) key[i] = keys + (first + (at + i < some ? at + i : some - 1)) * ld;
      for_each_vector(dim, [&](size_t d, size_t part) {
        f32x16 k[kAtOnce];
        for (size_t i = 0; i < kAtOnce; ++i) k[i] = load_some_bf16(key[i] + d, part);
        for (size_t query = 0; query < Queries; ++query) {
          const f32x16 q = load_some(queries + query * dim + d, part);
          for (size_t i = 0; i < kAtOnce; ++i) products[query][i] = mul_add(q, k[i], products[query][i]);
        }
      });
      for (size_t query = 0; query < Queries; ++query)
        for (size_t i = 0; i < kAtOnce; ++i) scores[query][at + i] = sum(products[query][i]);
    }
    for (size_t query = 0; query < Queries; ++query)
      for (size_t i = some; i < kWidth; ++i) scores[query][i] = -__builtin_inff();
  }

  void add_values(size_t first, size_t some, const float (&weights)[Queries][kWidth],
                  const float (&factor)[Queries], float* out) const {
    for_each_vector(dim, [&](size_t d, size_t part) {
      f32x16 total[Queries];
      for (size_t query = 0; query < Queries; ++query)
        total[query] = load_some(out + query * dim + d, part) * all(factor[query]);
      for (size_t i = 0; i < some; ++i) {
        const f32x16 value = load_some_bf16(values + (first + i) * ld + d, part);
        for (size_t query = 0; query < Queries; ++query)
          total[query] = mul_add(all(weights[query][i]), value, total[query]);
      }
      for (size_t query = 0; query < Queries; ++query) store_some(out + query * dim + d, total[query], part);
    });
  }
};

template <size_t Queries>
inline void attend_some(const AttentionStep<Queries>& step, size_t n, float* maximum, float* sums,
                        float* out) {
  for (size_t first = 0; first < n; first += kWidth) {
    const size_t some = n - first < kWidth ? n - first : kWidth;
    float weights[Queries][kWidth];
    float factor[Queries];
    step.score(first, some, weights);
    for (size_t query = 0; query < Queries; ++query)
      soften(weights[query], some, kWidth, maximum + query, sums + query, factor + query);
    step.add_values(first, some, weights, factor, out);
  }
}

void attend(const float* queries, size_t n_queries, const uint16_t* keys, const uint16_t* values, size_t ld,
            size_t n, size_t dim, float* maximum, float* sums, float* out) {
  constexpr size_t kAtOnce = 4;
  size_t query = 0;
  for (; query + kAtOnce <= n_queries; query += kAtOnce)
    attend_some<kAtOnce>({queries + query * dim, keys, values, ld, dim}, n, maximum + query, sums + query,
                         out + query * dim);
  for (; query < n_queries; ++query)
    attend_some<1>({queries + query * dim, keys, values, ld, dim}, n, maximum + query, sums + query,
                   out + query * dim);
}

void pack_keys(const uint16_t* keys, size_t n, size_t dim, uint16_t* out) {
  const size_t depth = (dim + 1) / 2 * 2;
  for (size_t first = 0; first < n; first += kWidth, out += depth * kWidth) {
    const size_t some = n - first < kWidth ? n - first : kWidth;
    if (some < kWidth || dim < depth) memset(out, 0, depth * kWidth * sizeof *out);
    for (size_t lane = 0; lane < some; ++lane) {
      const uint16_t* key = keys + (first + lane) * dim;
      for (size_t d = 0; d + 2 <= dim; d += 2) memcpy(out + d * kWidth + 2 * lane, key + d, 2 * sizeof *out);
      if (dim < depth) out[(dim - 1) * kWidth + 2 * lane] = key[dim - 1];
    }
  }
}

void pack_values(const uint16_t* values, size_t n, size_t dim, uint16_t* out) {
  const size_t depth = (n + kWidth - 1) / kWidth * kWidth;
  const size_t width = (dim + kWidth - 1) / kWidth * kWidth;
  if (n < depth || dim < width) memset(out, 0, depth * width * sizeof *out);
  for (size_t first = 0; first < dim; first += kWidth, out += depth * kWidth) {
    const size_t some = dim - first < kWidth ? dim - first : kWidth;
    for (size_t position = 0; position < n; position += 2) {
      const uint16_t* value = values + position * dim + first;
      uint16_t* to = out + position * kWidth;
      if (some == kWidth && position + 1 < n) {
        u16x16 even;
        u16x16 odd;
        memcpy(&even, value, sizeof even);
        memcpy(&odd, value + dim, sizeof odd);
        const u32x16 pairs = __builtin_convertvector(even, u32x16) | __builtin_convertvector(odd, u32x16)
                                                                         << 16;
        memcpy(to, &pairs, sizeof pairs);
        continue;
      }
      for (size_t lane = 0; lane < some; ++lane) {
        to[2 * lane] = value[lane];
        if (position + 1 < n) to[2 * lane + 1] = value[dim + lane];
      }
    }
  }
}

void scale_and_add(const float* x, float factor, size_t n, float* out) {
  const f32x16 scale = all(factor);
  for_each_vector(n, [&](size_t i, size_t some) {
    store_some(out + i, mul_add(load_some(out + i, some), scale, load_some(x + i, some)), some);
  });
}

}  // namespace
}  // namespace sluice::cpu
