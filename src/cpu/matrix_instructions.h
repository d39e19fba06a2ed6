// The bf16 and byte instructions that not every machine has, each with a twin in plain C++ that computes the same bits, so that the
// kernels that are written on them are tested on every machine. Facts are from Intel's Software Developer's Manual, volume
// 2: VDPBF16PS, LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBF16PS, VPDPBUSD; volume 1, chapter 18 (AMX).
//
// Sums of bf16 products are fp32, multiply-adds are fused, round to nearest even, take subnormal inputs as zero and flush
// subnormal results (those whose rounded value, exponent unbounded, is below 2^-126) to zero, whatever MXCSR says.
//
// Included by kernels_*.cpp and the tests; all of it is static, and it uses no library template (kernels_common.h).
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/kernels.h"

#if defined(__AVX512BF16__) || defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace sluice::cpu {
namespace {

// --- One multiply-add of the twins, on the bits of fp32 numbers.

inline bool is_nan(uint32_t bits) {
  return (bits & 0x7FFFFFFFU) > 0x7F800000U;
}

inline float denormals_are_zero(uint32_t bits) {
  if ((bits & 0x7F800000U) == 0) bits &= 0x80000000U;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// a b + c of which none is NaN. Where the result is subnormal, `exact` is: an fp32 ulp of c is at least 2^-149, a product of
// two 8-bit significands has 16 bits, so they all fit into 53.
inline uint32_t multiply_add(uint32_t a_bits, uint32_t b_bits, uint32_t c_bits) {
  const float a = denormals_are_zero(a_bits);
  const float b = denormals_are_zero(b_bits);
  const float c = denormals_are_zero(c_bits);
  const float value = __builtin_fmaf(a, b, c);
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (is_nan(bits)) return 0xFFC00000U;  // the default NaN: ∞ - ∞ or 0 ∞
  const double exact = static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(c);
  const bool is_tiny = exact > -(0x1p-126 - 0x1p-151) && exact < 0x1p-126 - 0x1p-151;
  return is_tiny ? bits & 0x80000000U : bits;
}

inline uint32_t low_half(uint32_t pair) {
  return pair << 16U;
}

inline uint32_t high_half(uint32_t pair) {
  return pair & 0xFFFF0000U;
}

// --- VDPBF16PS: to each of sixteen sums the odd product of its two pairs, then the even one.

struct EmulatedDots {
  struct Sums {
    uint32_t bits[16];
  };
  struct Pairs {
    uint32_t pairs[16];
  };
  static Sums zero() { return {}; }
  static Pairs load(const uint16_t* from) {
    Pairs to;
    memcpy(&to, from, sizeof to);
    return to;
  }
  static Pairs everywhere(const uint16_t* pair) {
    Pairs to;
    for (uint32_t& lane : to.pairs) memcpy(&lane, pair, sizeof lane);
    return to;
  }
  static Sums add_products(Sums sums, Pairs a, Pairs b) {
    for (size_t i = 0; i < 16; ++i) sums.bits[i] = dot(sums.bits[i], a.pairs[i], b.pairs[i]);
    return sums;
  }
  static void store(Sums sums, float* to) { memcpy(to, &sums, sizeof sums); }

 private:
  // A NaN comes out quiet: the first of a even, b even, a odd, b odd, sum.
  static uint32_t dot(uint32_t sum, uint32_t a, uint32_t b) {
    const uint32_t by_priority[] = {low_half(a), low_half(b), high_half(a), high_half(b), sum};
    for (const uint32_t bits : by_priority)
      if (is_nan(bits)) return bits | 0x00400000U;
    return multiply_add(low_half(a), low_half(b), multiply_add(high_half(a), high_half(b), sum));
  }
};

#if defined(__AVX512BF16__)
struct Avx512Dots {
  using Sums = __m512;
  using Pairs = __m512bh;
  static Sums zero() { return _mm512_setzero_ps(); }
  static Pairs load(const uint16_t* from) { return (Pairs)_mm512_loadu_si512(from); }
  static Pairs everywhere(const uint16_t* pair) {
    int32_t bits;
    memcpy(&bits, pair, sizeof bits);
    return (Pairs)_mm512_set1_epi32(bits);
  }
  static Sums add_products(Sums sums, Pairs a, Pairs b) { return _mm512_dpbf16_ps(sums, a, b); }
  static void store(Sums sums, float* to) { _mm512_storeu_ps(to, sums); }
};
#endif

// --- VPDPBUSD: to each of sixteen sums of 32 bits, which wrap around, four products of a byte without and one with sign. Weights
// are the former. Activations have two bytes (kernels.h): sums of each, of which the first counts 256 times.

struct EmulatedBytes {
  static constexpr size_t kMostSums = 12;
  struct Sums {
    uint32_t high[16], low[16];
  };
  struct Weights {
    uint8_t bytes[64];
  };
  struct Group {
    int8_t high[4], low[4];
  };
  static Sums zero() { return {}; }
  static Weights load(const uint8_t* from) {
    Weights to;
    memcpy(&to, from, sizeof to);
    return to;
  }
  static Group group(const ScreenRow& row, size_t k) {
    Group to;
    memcpy(&to, row.halves + 2 * k, sizeof to);
    return to;
  }
  static Sums add_products(Sums sums, const Weights& weights, const Group& group) {
    for (size_t i = 0; i < 16; ++i) {
      sums.high[i] += dot(weights.bytes + 4 * i, group.high);
      sums.low[i] += dot(weights.bytes + 4 * i, group.low);
    }
    return sums;
  }
  static void store(const Sums& sums, uint32_t* to) {
    for (size_t i = 0; i < 16; ++i) to[i] = sums.high[i] * 256 + sums.low[i];
  }

 private:
  static uint32_t dot(const uint8_t* a, const int8_t* b) {
    int32_t sum = 0;
    for (size_t i = 0; i < 4; ++i) sum += static_cast<int32_t>(a[i]) * static_cast<int32_t>(b[i]);
    return static_cast<uint32_t>(sum);
  }
};

#if defined(__AVX512VNNI__)
struct Avx512Bytes {
  static constexpr size_t kMostSums = 12;
  struct Sums {
    __m512i high, low;
  };
  using Weights = __m512i;
  struct Group {
    __m512i high, low;
  };
  static Sums zero() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
  static Weights load(const uint8_t* from) { return _mm512_loadu_si512(from); }
  static Group group(const ScreenRow& row, size_t k) {
    int32_t high;
    int32_t low;
    memcpy(&high, row.halves + 2 * k, sizeof high);
    memcpy(&low, row.halves + 2 * k + 4, sizeof low);
    return {_mm512_set1_epi32(high), _mm512_set1_epi32(low)};
  }
  static Sums add_products(const Sums& sums, Weights weights, const Group& group) {
    return {_mm512_dpbusd_epi32(sums.high, weights, group.high),
            _mm512_dpbusd_epi32(sums.low, weights, group.low)};
  }
  static void store(const Sums& sums, uint32_t* to) {
    uint32_t high[16];
    uint32_t low[16];
    memcpy(high, &sums.high, sizeof high);
    memcpy(low, &sums.low, sizeof low);
    for (size_t i = 0; i < 16; ++i) to[i] = high[i] * 256 + low[i];
  }
};
#endif

// --- AMX: eight tiles of up to 16 rows of up to 64 bytes. Both classes configure them for as long as they live; tiles are
// zero at first. A tile's number is part of the instruction, hence a template argument.

constexpr size_t kTileRows = 16;
constexpr size_t kTileRowBytes = 64;
constexpr size_t kTiles = 8;

// The operand of LDTILECFG.
struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};  // of tiles 0 to 7; zeros
  uint8_t rows[16] = {};        // of tiles 0 to 7; zeros
};
static_assert(sizeof(TileConfig) == 64);

// What the processor answers with an exception.
struct TileFault {
  const char* what;
};

class EmulatedTiles {
 public:
  explicit EmulatedTiles(const TileConfig& config) : config_(config) {
    check(config.palette == 1, "#GP: palette");  // 0 would be a release
    for (const uint8_t byte : config.reserved) check(byte == 0, "#GP: reserved bytes");
    for (size_t tile = 0; tile < 16; ++tile) {
      const size_t rows = config.rows[tile];
      const size_t row_bytes = config.row_bytes[tile];
      check(rows <= (tile < kTiles ? kTileRows : 0), "#GP: rows of a tile");
      check(row_bytes <= (tile < kTiles ? kTileRowBytes : 0), "#GP: bytes of a tile's row");
      check((rows == 0) == (row_bytes == 0), "#GP: a tile of rows without bytes or bytes without rows");
    }
  }

  template <int Tile>
  void zero() {
    check_configured(Tile);
    memset(tiles_[Tile], 0, sizeof tiles_[Tile]);
  }

  template <int Tile>
  void load(const void* from, size_t stride) {
    check_configured(Tile);
    check(config_.start_row == 0, "a load from start_row on");
    memset(tiles_[Tile], 0, sizeof tiles_[Tile]);
    for (size_t row = 0; row < config_.rows[Tile]; ++row)
      memcpy(tiles_[Tile][row], static_cast<const char*>(from) + row * stride, config_.row_bytes[Tile]);
  }

  template <int Tile>
  void store(void* to, size_t stride) const {
    check_configured(Tile);
    check(config_.start_row == 0, "a store from start_row on");
    for (size_t row = 0; row < config_.rows[Tile]; ++row)
      memcpy(static_cast<char*>(to) + row * stride, tiles_[Tile][row], config_.row_bytes[Tile]);
  }

  // Tile C [m, n] fp32 += A [m, k pairs] B [k, n pairs]: even and odd products are summed apart over all k, from zero;
  // then these two are added, and only their sum is added to C.
  template <int C, int A, int B>
  void add_products() {
    static_assert(C != A && C != B && A != B, "#UD: operands must differ");
    const int operands[] = {C, A, B};
    for (const int tile : operands) {
      check_configured(tile);
      check(config_.row_bytes[tile] % 4 == 0, "#UD: a row of broken pairs");
    }
    check(config_.row_bytes[C] == config_.row_bytes[B], "#UD: columns of C and B differ");
    check(config_.rows[C] == config_.rows[A], "#UD: rows of C and A differ");
    check(config_.row_bytes[A] / 4 == config_.rows[B], "#UD: pairs of A, rows of B");
    for (size_t m = 0; m < config_.rows[C]; ++m) {
      for (size_t n = 0; n < config_.row_bytes[C] / 4U; ++n) {
        uint32_t even = 0;
        uint32_t odd = 0;
        for (size_t k = 0; k < config_.rows[B]; ++k) {
          const uint32_t a = tiles_[A][m][k];
          const uint32_t b = tiles_[B][k][n];
          even = add(low_half(a), low_half(b), even);
          odd = add(high_half(a), high_half(b), odd);
        }
        constexpr uint32_t kOne = 0x3F800000U;
        uint32_t& sum = tiles_[C][m][n];
        sum = add(kOne, add(kOne, even, odd), sum);
      }
      memset(tiles_[C][m] + config_.row_bytes[C] / 4, 0, kTileRowBytes - config_.row_bytes[C]);
    }
    memset(tiles_[C][config_.rows[C]], 0, (kTileRows - config_.rows[C]) * kTileRowBytes);
  }

 private:
  static void check(bool holds, const char* what) {
    if (!holds) throw TileFault{what};
  }
  void check_configured(int tile) const {
    check(config_.rows[tile] != 0, "#UD: a tile that is not configured");
  }

  // The manual doesn't say which NaN wins; any stays one.
  static uint32_t add(uint32_t a, uint32_t b, uint32_t c) {
    const uint32_t by_priority[] = {a, b, c};
    for (const uint32_t bits : by_priority)
      if (is_nan(bits)) return bits | 0x00400000U;
    return multiply_add(a, b, c);
  }

  TileConfig config_;
  uint32_t tiles_[kTiles][kTileRows + 1][kTileRowBytes / 4] =
      {};  // a row behind, so that "no rows" has an address
};

#if defined(__AMX_BF16__) || defined(__AMXBF16__)  // the latter: early versions of Clang
// As assembler, because intrinsics take literals only, and those of GCC 12 don't say what memory they touch: stores to it
// went missing (the 64 bytes of a configuration, of which it knows 8).
class AmxTiles {
 public:
  explicit AmxTiles(const TileConfig& config) { __asm__ volatile("ldtilecfg %0" : : "m"(config)); }
  ~AmxTiles() { __asm__ volatile("tilerelease"); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

  template <int Tile>
  void zero() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(Tile));
  }
  template <int Tile>
  void load(const void* from, size_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(Tile) : "memory");
  }
  template <int Tile>
  void store(void* to, size_t stride) const {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(Tile) : "memory");
  }
  template <int C, int A, int B>
  void add_products() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
};
#endif

}  // namespace
}  // namespace sluice::cpu
