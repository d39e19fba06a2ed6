// Bounds of logits (screen.h, which has the proof): N = Σ c q in integers, then the estimate and its bound in fp32. `Dots` are the
// instructions or their twin: VPDPBUSD in matrix_instructions.h, others here.
//
// Weights are bytes without sign: what the sums have too much, 128 Σ q, is taken off at the end. Sums wrap around, which changes
// nothing: N itself fits.
//
// As in matmul_dots.h: sums stay in registers, one vector of weights serves all rows, one broadcast group all panels, and
// several panels at once are several streams from memory.
//
// Included by kernels_*.cpp and the tests; all of it is static (kernels_common.h).
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/kernels.h"
#include "cpu/kernels_vector.h"

namespace sluice::cpu {
namespace {

constexpr size_t kHeaderBytes = 128;   // sizeof(ScreenHeader)
constexpr size_t kLineBytes = 64;      // of the caches
constexpr size_t kScreenAhead = 2048;  // bytes of a panel that are fetched before their use

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

struct ScreenBlock {
  const uint8_t* w;
  size_t depth;
  const ScreenRow* rows;
  float* lower;
  float* upper;
  size_t ld;
  const uint8_t* next;  // the panels to fetch when these end
};

template <typename Dots, size_t Panels, size_t Rows>
inline void screen_block(const ScreenBlock& block) {
  const size_t panel_bytes = kHeaderBytes + block.depth * kLanes;
  typename Dots::Sums sums[Rows][Panels];
  for (size_t row = 0; row < Rows; ++row)
    for (size_t panel = 0; panel < Panels; ++panel) sums[row][panel] = Dots::zero();
  const size_t distance = panel_bytes < kScreenAhead ? panel_bytes : kScreenAhead;
  const size_t switch_at = panel_bytes - distance;  // offset from which on the next panels are fetched
  // A header isn't stepped over below: as many bytes more to fetch than steps fetch.
  for (size_t panel = 0; panel < Panels; ++panel)
    for (size_t line = 0; line < kHeaderBytes; line += kLineBytes)
      __builtin_prefetch(block.w + panel * panel_bytes + distance % panel_bytes + line, 0, 2);
  for (size_t k = 0; k < block.depth; k += 4) {
    const size_t offset = kHeaderBytes + k * kLanes;
    const uint8_t* ahead =
        offset < switch_at ? block.w + offset + distance : block.next + (offset - switch_at);
    typename Dots::Weights weights[Panels];
    for (size_t panel = 0; panel < Panels; ++panel) {
      weights[panel] = Dots::load(block.w + panel * panel_bytes + offset);
      __builtin_prefetch(ahead + panel * panel_bytes, 0, 2);  // second level
    }
    for (size_t row = 0; row < Rows; ++row) {
      const typename Dots::Group group = Dots::group(block.rows[row], k);
      for (size_t panel = 0; panel < Panels; ++panel)
        sums[row][panel] = Dots::add_products(sums[row][panel], weights[panel], group);
    }
  }
  for (size_t row = 0; row < Rows; ++row) {
    for (size_t panel = 0; panel < Panels; ++panel) {
      uint32_t totals[kLanes];
      Dots::store(sums[row][panel], totals);
      store_bounds(block.w + panel * panel_bytes, totals, block.rows[row],
                   block.lower + row * block.ld + panel * kLanes,
                   block.upper + row * block.ld + panel * kLanes);
    }
  }
}

template <typename Dots, size_t Panels, size_t MaxRows>
inline void screen_block_of(size_t rows, const ScreenBlock& block) {
  if (rows == MaxRows) {
    screen_block<Dots, Panels, MaxRows>(block);
  } else if constexpr (MaxRows > 1) {
    screen_block_of<Dots, Panels, MaxRows - 1>(rows, block);
  }
}

struct ScreenMatrix {
  const uint8_t* w;
  size_t depth;
  size_t n_panels;
  const ScreenRow* rows;
  size_t n_rows;
  float* lower;
  float* upper;
  size_t ld;
};

// As many panels at once as there are, up to the last that don't fill `Panels`; leaves those in `m`.
template <typename Dots, size_t Panels>
inline void screen_panels_of(ScreenMatrix& m) {
  constexpr size_t kMaxRows = Dots::kMostSums / Panels;
  if constexpr (kMaxRows > 0) {
    const size_t panel_bytes = kHeaderBytes + m.depth * kLanes;
    const size_t n_blocks = (m.n_rows + kMaxRows - 1) / kMaxRows;
    for (; m.n_panels >= Panels; m.n_panels -= Panels) {
      const uint8_t* next = m.n_panels >= 2 * Panels ? m.w + Panels * panel_bytes : m.w;
      size_t row = 0;
      for (size_t i = 0; i < n_blocks; ++i) {
        const size_t rows = m.n_rows / n_blocks + (i < m.n_rows % n_blocks ? 1 : 0);
        screen_block_of<Dots, Panels, kMaxRows>(
            rows, {m.w, m.depth, m.rows + row, m.lower + row * m.ld, m.upper + row * m.ld, m.ld, next});
        row += rows;
      }
      m.w += Panels * panel_bytes;
      m.lower += Panels * kLanes;
      m.upper += Panels * kLanes;
    }
  }
}

template <typename Dots>
void screen_dots(const uint8_t* w, size_t depth, size_t n_panels, const ScreenRow* rows, size_t n_rows,
                 float* lower, float* upper, size_t ld) {
  ScreenMatrix m{w, depth, n_panels, rows, n_rows, lower, upper, ld};
  if (m.n_rows * 4 <= Dots::kMostSums) screen_panels_of<Dots, 4>(m);
  if (m.n_rows * 2 <= Dots::kMostSums) screen_panels_of<Dots, 2>(m);
  screen_panels_of<Dots, 1>(m);
}

}  // namespace
}  // namespace sluice::cpu
