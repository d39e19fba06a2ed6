// Bounds of logits (screen.h, which has the proof): N = Σ c q in integers, then the estimate and its bound in fp32. `Dots` are the
// instructions or their twin: VPDPBUSD in matrix_instructions.h, others here.
//
// Weights are bytes without sign: what the sums have too much, 128 Σ q, is taken off at the end. Sums wrap around, which changes
// nothing: N itself fits.
//
// One vector of weights serves all rows; a row's sums stay in registers, several of them so that none waits for the one before.
// Panels are read one after the other, from one end to the other: in the faster of its memory's two moods a Zen 4 (docs/performance.md)
// streams one of them with little help 1.15 times as fast as four side by side, whose every line has to be asked for; in the slower one,
// 1.03 times.
//
// Included by kernels_*.cpp and the tests; all of it is static (kernels_common.h).
#pragma once

#include <utility>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/fetch.h"
#include "cpu/kernels.h"
#include "cpu/kernels_vector.h"

namespace sluice::cpu {
namespace {

constexpr size_t kHeaderBytes = 128;  // sizeof(ScreenHeader)

// Sixteen columns of four weights each: bytes of a vector.
struct PortableBytes {
  static constexpr size_t kMostSums = 2;
  using Sums = u32x16;
  using Weights = u32x16;
  struct Group {
    u32x16 q[4];
  };
  static Sums zero() { return Sums{}; }
  static Weights load(const uint8_t* from) {
    Weights weights;
    memcpy(&weights, from, sizeof weights);
    return weights;
  }
  static Group group(const ScreenRow& row, size_t k) {
    Group group;
    for (size_t i = 0; i < 4; ++i) group.q[i] = u32x16{} + (uint32_t)(int32_t)row.values[k + i];
    return group;
  }
  static Sums add_products(Sums sums, Weights weights, const Group& group) {
    for (size_t i = 0; i < 4; ++i) sums += (weights >> (uint32_t)(8 * i) & 0xFFU) * group.q[i];
    return sums;
  }
  static void store(Sums sums, uint32_t* to) { memcpy(to, &sums, sizeof sums); }
};

#if defined(__AVX512BW__)
// Bytes become 16 bits; a product of two pairs is exact in 32.
struct Avx512Words {
  static constexpr size_t kMostSums = 12;
  struct Sums {
    __m512i low, high;  // columns 0 to 7 and 8 to 15, two sums of each
  };
  struct Weights {
    __m512i low, high;
  };
  using Group = __m512i;
  static __m512i add(__m512i a, __m512i b) { return (__m512i)((__v16su)a + (__v16su)b); }
  static Sums zero() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
  static Weights load(const uint8_t* from) {
    return {_mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)from)),
            _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)(from + 32)))};
  }
  static Group group(const ScreenRow& row, size_t k) {
    int64_t four;
    memcpy(&four, row.values + k, sizeof four);
    return _mm512_set1_epi64(four);
  }
  static Sums add_products(Sums sums, const Weights& weights, Group group) {
    return {add(sums.low, _mm512_madd_epi16(weights.low, group)),
            add(sums.high, _mm512_madd_epi16(weights.high, group))};
  }
  static void store(const Sums& sums, uint32_t* to) {
    uint32_t twice[32];
    memcpy(twice, &sums, sizeof twice);
    for (size_t i = 0; i < 16; ++i) to[i] = twice[2 * i] + twice[2 * i + 1];
  }
};
#elif defined(__AVX2__)
struct Avx2Words {
  static constexpr size_t kMostSums = 2;
  struct Sums {
    __m256i quarters[4];  // four columns each, two sums of each
  };
  struct Weights {
    __m256i quarters[4];
  };
  using Group = __m256i;
  static __m256i add(__m256i a, __m256i b) { return (__m256i)((__v8su)a + (__v8su)b); }
  static Sums zero() {
    const __m256i none = _mm256_setzero_si256();
    return {{none, none, none, none}};
  }
  static Weights load(const uint8_t* from) {
    Weights weights;
    for (size_t i = 0; i < 4; ++i)
      weights.quarters[i] = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)(from + 16 * i)));
    return weights;
  }
  static Group group(const ScreenRow& row, size_t k) {
    long long four;
    memcpy(&four, row.values + k, sizeof four);
    return _mm256_set1_epi64x(four);
  }
  static Sums add_products(Sums sums, const Weights& weights, Group group) {
    for (size_t i = 0; i < 4; ++i)
      sums.quarters[i] = add(sums.quarters[i], _mm256_madd_epi16(weights.quarters[i], group));
    return sums;
  }
  static void store(const Sums& sums, uint32_t* to) {
    uint32_t twice[32];
    memcpy(twice, &sums, sizeof twice);
    for (size_t i = 0; i < 16; ++i) to[i] = twice[2 * i] + twice[2 * i + 1];
  }
};
#endif

// Estimate and bound of sixteen columns.
inline void store_bounds(const uint8_t* header, const uint32_t* sums, const ScreenRow& row, float* lower,
                         float* upper) {
  const f32x16 scale = load((const float*)header);
  const f32x16 residual = load_bf16((const uint16_t*)(header + 64));
  const f32x16 norm = load_bf16((const uint16_t*)(header + 96));
  u32x16 whole;
  memcpy(&whole, sums, sizeof whole);
  const f32x16 n = __builtin_convertvector((i32x16)(whole - row.offset), f32x16);
  const f32x16 reach = norm * all(row.reach);
  const i32x16 is_known = reach < all(0x1p+126F);  // not if it is NaN
  const f32x16 estimate = select(is_known, scale * all(row.scale) * n, f32x16{});
  const f32x16 bound = select(is_known, residual * all(row.reach) + norm * all(row.blur) + all(row.least),
                              all(__builtin_inff()));
  store(lower, estimate - bound);
  store(upper, estimate + bound);
}

struct ScreenPanel {
  const uint8_t* w;
  size_t depth;
  const ScreenRow* rows;
  float* lower;
  float* upper;
  size_t ld;
};

// The processor follows a stream by itself but for the start of each page: that is what to ask it for.
class ScreenFetcher {
 public:
  ScreenFetcher(const uint8_t* end, const NextWeights& next)
      : end_(end), next_(static_cast<const uint8_t*>(next.first)) {}

  // While `Lines` from `at` on are read.
  template <size_t Lines>
  void step(const uint8_t* at) const {
    constexpr uintptr_t kPage = 4096;
    constexpr uintptr_t kStart = 1024;
    const uint8_t* ahead = at + kFetchAhead;
    if (ahead >= end_) {
      if (next_ == nullptr) return;
      ahead = next_ + (ahead - end_);
    } else if (((uintptr_t)ahead & (kPage - 1)) >= kStart) {
      return;
    }
    for (size_t line = 0; line < Lines; ++line)
      __builtin_prefetch(ahead + line * kLineBytes, 0, 2);  // second level
  }

 private:
  const uint8_t* end_;
  const uint8_t* next_;
};

// By itself, so that compilers give all registers to its loop.
template <typename Dots, size_t Rows, size_t... Split>
__attribute__((noinline)) void screen_panel(const ScreenPanel& panel, const ScreenFetcher* fetcher,
                                            std::index_sequence<Split...>) {
  constexpr size_t kSplit = sizeof...(Split);
  typename Dots::Sums sums[Rows][kSplit];
  for (size_t row = 0; row < Rows; ++row) ((sums[row][Split] = Dots::zero()), ...);
  const auto add = [&](const uint8_t* w, size_t k, size_t i) {
    const typename Dots::Weights weights = Dots::load(w);
    for (size_t row = 0; row < Rows; ++row)
      sums[row][i] = Dots::add_products(sums[row][i], weights, Dots::group(panel.rows[row], k));
  };
  const uint8_t* w = panel.w + kHeaderBytes;
  size_t k = 0;
  for (; k + 4 * kSplit <= panel.depth; k += 4 * kSplit, w += kSplit * kLineBytes) {
    if (fetcher != nullptr) fetcher->step<kSplit>(w);
    (add(w + Split * kLineBytes, k + 4 * Split, Split), ...);
  }
  for (; k < panel.depth; k += 4, w += kLineBytes) add(w, k, 0);
  for (size_t row = 0; row < Rows; ++row) {
    uint32_t totals[kLanes] = {};
    const auto add_to_totals = [&](const typename Dots::Sums& part) {
      uint32_t some[kLanes];
      Dots::store(part, some);
      for (size_t lane = 0; lane < kLanes; ++lane) totals[lane] += some[lane];
    };
    (add_to_totals(sums[row][Split]), ...);
    store_bounds(panel.w, totals, panel.rows[row], panel.lower + row * panel.ld,
                 panel.upper + row * panel.ld);
  }
}

template <typename Dots, size_t MaxRows>
inline void screen_panel_of(size_t rows, const ScreenPanel& panel, const ScreenFetcher* fetcher) {
  if (rows == MaxRows) {
    constexpr size_t kSums = Dots::kMostSums / MaxRows;
    screen_panel<Dots, MaxRows>(panel, fetcher,
                                std::make_index_sequence<(kSums >= 4   ? 4
                                                          : kSums >= 2 ? 2
                                                                       : 1)>());
  } else if constexpr (MaxRows > 1) {
    screen_panel_of<Dots, MaxRows - 1>(rows, panel, fetcher);
  }
}

template <typename Dots>
void screen_dots(const uint8_t* w, size_t depth, size_t n_panels, const ScreenRow* rows, size_t n_rows,
                 float* lower, float* upper, size_t ld, NextWeights next) {
  const size_t panel_bytes = kHeaderBytes + depth * kLanes;
  const size_t n_blocks = (n_rows + Dots::kMostSums - 1) / Dots::kMostSums;
  const ScreenFetcher fetcher(w + n_panels * panel_bytes, next);
  for (size_t panel = 0; panel < n_panels; ++panel) {
    size_t row = 0;
    for (size_t i = 0; i < n_blocks; ++i) {  // even ones; the first meets weights that come from memory
      const size_t n = n_rows / n_blocks + (i < n_rows % n_blocks ? 1 : 0);
      const size_t out = row * ld + panel * kLanes;
      screen_panel_of<Dots, Dots::kMostSums>(
          n, {w + panel * panel_bytes, depth, rows + row, lower + out, upper + out, ld},
          i == 0 ? &fetcher : nullptr);
      row += n;
    }
  }
}

}  // namespace
}  // namespace sluice::cpu
