// Bounds of logits (screen.h, which has the proof): N = Σ c q in integers, then the estimate and its bound in fp32. `Dots` are the
// instructions or their twin: VPDPBUSD in matrix_instructions.h, others here.
//
// Weights are bytes without sign: what the sums have too much, 128 Σ q, is taken off at the end. Sums wrap around, which changes
// nothing: N itself fits.
//
// Sums stay in registers, enough of them that none waits for the one before; one vector of weights serves all rows. One or two rows
// take panel after panel, from one end to the other: in the faster of its memory's two moods (docs/performance.md) a Zen 4 streams
// one 1.15 times as fast as four side by side, whose every line has to be asked for; in the slower one, 1.03 times. From three rows on
// arithmetic counts: there a broadcast group serves two panels, as far apart as a task's allow, so that each stream goes on in the
// next block where it ended. Of four and five rows such ones take 0.87 to 0.92 of the time of neighbours.
//
// Included by kernels_*.cpp and the tests; all of it is static (kernels_common.h).
#pragma once

#include <type_traits>
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
  static constexpr size_t kMostSums = 10;
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

// The operands of a block: rows by panels.
struct ScreenBlock {
  const uint8_t* w;
  size_t stride;  // bytes from panel to panel
  size_t depth;
  const ScreenRow* rows;
  float* lower;
  float* upper;
  size_t out_stride;  // from panel to panel
  size_t ld;
  // What is read after it, panel by panel. Nothing: of this panel nothing is fetched, either.
  const uint8_t* after;
  size_t after_stride;

  size_t panel_bytes() const { return kHeaderBytes + depth * kLanes; }
};

// f(0), ..., f(N - 1), whose arguments are constants from the start: GCC keeps arrays of structures in registers only then.
template <typename F, size_t... I>
inline void each(std::index_sequence<I...>, const F& f) {
  (f(std::integral_constant<size_t, I>()), ...);
}

// Bytes of each panel that are fetched before their use.
template <size_t Panels>
constexpr size_t kScreenAhead = Panels == 1 ? 2048 : 4096;
constexpr uintptr_t kPage = 4096;
constexpr uintptr_t kPageStart = 1024;

// By itself, so that compilers give all registers to its loop.
template <typename Dots, size_t Rows, size_t Panels, size_t Split>
__attribute__((noinline)) void screen_block(const ScreenBlock& block) {
  constexpr auto kRows = std::make_index_sequence<Rows>();
  constexpr auto kPanels = std::make_index_sequence<Panels>();
  constexpr auto kSplit = std::make_index_sequence<Split>();
  const size_t stride = block.stride;
  typename Dots::Sums sums[Rows][Panels][Split];
  each(kRows, [&](auto row) {
    each(kPanels, [&](auto panel) { each(kSplit, [&](auto i) { sums[row][panel][i] = Dots::zero(); }); });
  });
  const auto add = [&](const uint8_t* w, size_t k, auto i) {
    typename Dots::Weights weights[Panels];
    each(kPanels, [&](auto panel) { weights[panel] = Dots::load(w + panel * stride); });
    each(kRows, [&](auto row) {
      const typename Dots::Group group = Dots::group(block.rows[row], k);
      each(kPanels, [&](auto panel) {
        sums[row][panel][i] = Dots::add_products(sums[row][panel][i], weights[panel], group);
      });
    });
  };
  const uint8_t* w = block.w + kHeaderBytes;
  const uint8_t* const end = block.w + block.panel_bytes();
  size_t k = 0;
  for (; k + 4 * Split <= block.depth; k += 4 * Split, w += Split * kLineBytes) {
    if (block.after != nullptr) {
      const uint8_t* ahead = w + kScreenAhead<Panels>;
      const bool is_here = ahead < end;
      if (!is_here) ahead = block.after + (ahead - end);
      // The processor follows a single stream by itself but for the start of each page.
      const bool goes_on = is_here || block.after == end;
      if (Panels > 1 || !goes_on || ((uintptr_t)ahead & (kPage - 1)) < kPageStart) {
        const size_t ahead_stride = is_here ? stride : block.after_stride;
        each(kPanels, [&](auto panel) {
          each(kSplit, [&](auto i) {
            __builtin_prefetch(ahead + panel * ahead_stride + i * kLineBytes, 0, 2);  // second level
          });
        });
      }
    }
    each(kSplit, [&](auto i) { add(w + i * kLineBytes, k + 4 * i, i); });
  }
  for (; k < block.depth; k += 4, w += kLineBytes) add(w, k, std::integral_constant<size_t, 0>());
  each(kRows, [&](auto row) {
    each(kPanels, [&](auto panel) {
      uint32_t totals[kLanes] = {};
      each(kSplit, [&](auto i) {
        uint32_t some[kLanes];
        Dots::store(sums[row][panel][i], some);
        for (size_t lane = 0; lane < kLanes; ++lane) totals[lane] += some[lane];
      });
      const size_t out = row * block.ld + panel * block.out_stride;
      store_bounds(block.w + panel * stride, totals, block.rows[row], block.lower + out, block.upper + out);
    });
  });
}

template <typename Dots, size_t Panels, size_t MaxRows>
inline void screen_block_of(size_t rows, const ScreenBlock& block) {
  if (rows == MaxRows) {
    constexpr size_t kSums = MaxRows * Panels;
    constexpr size_t kEnough = Dots::kMostSums < 4 ? Dots::kMostSums : 4;
    constexpr size_t kSplit = kSums < kEnough ? kEnough / kSums : 1;
    screen_block<Dots, MaxRows, Panels, kSplit>(block);
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
  NextWeights next;
};

// `Panels` at once, as far apart as all together allow, as many as there are up to the last that don't fill them; leaves those in `m`.
template <typename Dots, size_t Panels>
inline void screen_panels_of(ScreenMatrix& m) {
  constexpr size_t kMostRows = 8;  // sums of more, beside their groups, are more than registers
  constexpr size_t kMaxRows = Dots::kMostSums / Panels < kMostRows ? Dots::kMostSums / Panels : kMostRows;
  const size_t panel_bytes = kHeaderBytes + m.depth * kLanes;
  const size_t n_groups = m.n_panels / Panels;
  const size_t stride = n_groups * panel_bytes;
  const size_t n_blocks = (m.n_rows + kMaxRows - 1) / kMaxRows;
  const bool has_rest = m.n_panels > n_groups * Panels;
  for (size_t group = 0; group < n_groups; ++group) {
    ScreenBlock block{.w = m.w + group * panel_bytes,
                      .stride = stride,
                      .depth = m.depth,
                      .rows = m.rows,
                      .lower = m.lower + group * kLanes,
                      .upper = m.upper + group * kLanes,
                      .out_stride = n_groups * kLanes,
                      .ld = m.ld,
                      .after = m.w + (group + 1) * panel_bytes,
                      .after_stride = stride};
    if (group + 1 == n_groups) {
      // If nothing follows, their beginning once more, which does no harm.
      const bool has_next = has_rest || m.next.first != nullptr;
      block.after = has_rest   ? m.w + Panels * stride
                    : has_next ? static_cast<const uint8_t*>(m.next.first)
                               : m.w;
      block.after_stride = has_rest ? panel_bytes : has_next ? m.next.stride : stride;
    }
    for (size_t i = 0; i < n_blocks; ++i) {  // even ones; the first meets weights that come from memory
      const size_t rows = m.n_rows / n_blocks + (i < m.n_rows % n_blocks ? 1 : 0);
      screen_block_of<Dots, Panels, kMaxRows>(rows, block);
      block.rows += rows;
      block.lower += rows * m.ld;
      block.upper += rows * m.ld;
      block.after = nullptr;
    }
  }
  m.w += Panels * stride;
  m.lower += Panels * n_groups * kLanes;
  m.upper += Panels * n_groups * kLanes;
  m.n_panels -= Panels * n_groups;
}

template <typename Dots>
void screen_dots(const uint8_t* w, size_t depth, size_t n_panels, const ScreenRow* rows, size_t n_rows,
                 float* lower, float* upper, size_t ld, NextWeights next) {
  ScreenMatrix m{w, depth, n_panels, rows, n_rows, lower, upper, ld, next};
  if constexpr (Dots::kMostSums >= 6)
    if (streams_of_screen(n_rows) == 2 && 2 * n_rows <= Dots::kMostSums) screen_panels_of<Dots, 2>(m);
  screen_panels_of<Dots, 1>(m);
}

}  // namespace
}  // namespace sluice::cpu
