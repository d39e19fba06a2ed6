// The twins of the bf16 instructions: VDPBF16PS against the processor where it has it, bit by bit; and, everywhere, what the
// manual says of it and of AMX.
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include <gtest/gtest.h>

#include "base/bf16.h"
#include "cpu/matrix_instructions.h"
#include "tests/support/seed.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sluice::cpu {
namespace {

using test::pick;
using test::Random;

using Lanes = std::array<std::uint32_t, 16>;

Lanes emulated_dots(const Lanes& sums, const Lanes& a, const Lanes& b) {
  const auto dots = EmulatedDots::add_products(std::bit_cast<EmulatedDots::Sums>(sums),
                                               std::bit_cast<EmulatedDots::Pairs>(a),
                                               std::bit_cast<EmulatedDots::Pairs>(b));
  return std::bit_cast<Lanes>(dots);
}

std::uint32_t emulated_dot(std::uint32_t sum, std::uint32_t a, std::uint32_t b) {
  Lanes sums{};
  Lanes as{};
  Lanes bs{};
  sums[0] = sum;
  as[0] = a;
  bs[0] = b;
  return emulated_dots(sums, as, bs)[0];
}

std::uint32_t pair_of(float even, float odd) {
  return float_to_bf16(even) | (static_cast<std::uint32_t>(float_to_bf16(odd)) << 16U);
}

std::uint32_t bits_of(float x) {
  return std::bit_cast<std::uint32_t>(x);
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bf16"))) void processor_dots(const Lanes& sums, const Lanes& a,
                                                                  const Lanes& b, Lanes& out) {
  const __m512 result = _mm512_dpbf16_ps(_mm512_loadu_ps(sums.data()), (__m512bh)_mm512_loadu_si512(a.data()),
                                         (__m512bh)_mm512_loadu_si512(b.data()));
  _mm512_storeu_ps(out.data(), result);
}

// A bf16: any bits; of the edges; with products around the smallest normal number; around 1, where sums cancel.
std::uint16_t draw_bf16(Random& random, std::size_t kind) {
  constexpr std::array<std::uint16_t, 23> kEdges = {
      0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x807F, 0x0080, 0x8080, 0x7F80, 0xFF80, 0x7F81, 0x7FC0,
      0xFFC1, 0x7F7F, 0xFF7F, 0x3F80, 0xBF80, 0x2000, 0x1A00, 0x9A00, 0x1A01, 0x3FFF, 0x0081};
  const std::uint64_t bits = random();
  const std::uint64_t signed_fraction = bits & 0x807FU;
  switch (kind) {
    case 0:
      return static_cast<std::uint16_t>(bits);
    case 1:
      return kEdges[bits % kEdges.size()];
    case 2:
      return static_cast<std::uint16_t>(signed_fraction | ((127 - 75 + (bits >> 32U) % 24) << 7U));
    default:
      return static_cast<std::uint16_t>(signed_fraction | ((127 - 2 + (bits >> 32U) % 4) << 7U));
  }
}

std::uint32_t draw_sum(Random& random, std::size_t kind) {
  const std::uint64_t bits = random();
  const std::uint64_t signed_fraction = bits & 0x807FFFFFU;
  switch (kind) {
    case 0:
      return static_cast<std::uint32_t>(bits);
    case 1:
      return (std::uint32_t{draw_bf16(random, 1)} << 16U) | (bits % 4 == 0 ? 0xFFFFU : 0U);
    case 2:
      return static_cast<std::uint32_t>(signed_fraction | ((1 + (bits >> 32U) % 4) << 23U));
    default:
      return static_cast<std::uint32_t>(signed_fraction | ((127 - 2 + (bits >> 32U) % 4) << 23U));
  }
}

TEST(EmulatedDots, HaveTheProcessorsBits) {
  if (!__builtin_cpu_supports("avx512bf16")) GTEST_SKIP() << "no AVX512_BF16 here";
  Random random(test::seed_of_test());
  for (int i = 0; i < 40000; ++i) {
    Lanes sums{};
    Lanes a{};
    Lanes b{};
    Lanes wanted{};
    for (std::size_t lane = 0; lane < 16; ++lane) {
      const std::size_t kind = pick(random, 0, 3);
      const std::size_t other = pick(random, 0, 7) == 0 ? pick(random, 0, 3) : kind;
      const auto pair = [&] {
        return draw_bf16(random, kind) | (std::uint32_t{draw_bf16(random, other)} << 16U);
      };
      sums[lane] = draw_sum(random, kind);
      a[lane] = pair();
      b[lane] = pair();
    }
    processor_dots(sums, a, b, wanted);
    const Lanes found = emulated_dots(sums, a, b);
    for (std::size_t lane = 0; lane < 16; ++lane)
      ASSERT_EQ(found[lane], wanted[lane])
          << std::hex << "sum " << sums[lane] << " a " << a[lane] << " b " << b[lane];
  }
}
#endif

TEST(EmulatedDots, AddTheOddProductFirstAndFused) {
  // 2^24 + 1 is a tie, to even: 2^24. So odd first gives (2^24 + 1) - 2^24 = 0, even first 1.
  EXPECT_EQ(emulated_dot(bits_of(0x1p24F), pair_of(-0x1p12F, 1.0F), pair_of(0x1p12F, 1.0F)), bits_of(0.0F));
  // The product alone is out of range.
  EXPECT_EQ(emulated_dot(bits_of(-0x1p127F), pair_of(0.0F, 0x1p64F), pair_of(0.0F, 0x1p64F)),
            bits_of(0x1p127F));
}

TEST(EmulatedDots, FlushSubnormalResultsAfterRounding) {
  const auto less = [](float product_root_a, float product_root_b) {  // 2^-126 minus a product
    return emulated_dot(bits_of(0x1p-126F), pair_of(0.0F, product_root_a), pair_of(0.0F, -product_root_b));
  };
  EXPECT_EQ(less(0x1p-75F, 0x1p-75F), 0U);                    // 2^-126 - 2^-150 has 24 bits
  EXPECT_EQ(less(0x1p-75F, 0x1p-76F), bits_of(0x1p-126F));    // - 2^-151: a tie, which rounds to 2^-126
  EXPECT_EQ(less(0x1.02p-75F, 0x1p-76F), 0U);                 // a little more
  EXPECT_EQ(less(0x1p-100F, 0x1p-100F), bits_of(0x1p-126F));  // next to nothing
  EXPECT_EQ(emulated_dot(0x80000000U, pair_of(0.0F, 0x1p-70F), pair_of(0.0F, -0x1p-70F)), 0U)
      << "-0, then +0 of the even product";
  EXPECT_EQ(emulated_dot(0x007FFFFFU, 0, 0), 0U) << "a subnormal sum counts as zero";
}

// --- AMX

TileConfig config_of(std::size_t rows, std::size_t depth, std::size_t columns) {
  TileConfig config;
  config.rows[0] = config.rows[1] = static_cast<std::uint8_t>(rows);
  config.rows[2] = static_cast<std::uint8_t>(depth / 2);
  config.row_bytes[0] = config.row_bytes[2] = static_cast<std::uint16_t>(columns * 4);
  config.row_bytes[1] = static_cast<std::uint16_t>(depth * 2);
  return config;
}

TEST(EmulatedTiles, RefuseWhatTheProcessorWould) {
  const auto refuses = [](const auto& spoil) {
    TileConfig config = config_of(16, 32, 16);
    spoil(config);
    EXPECT_THROW(EmulatedTiles{config}, TileFault);
  };
  EXPECT_NO_THROW(EmulatedTiles{config_of(16, 32, 16)});
  EXPECT_NO_THROW(EmulatedTiles{config_of(1, 2, 1)});
  refuses([](TileConfig& config) { config.palette = 2; });
  refuses([](TileConfig& config) { config.reserved[13] = 1; });
  refuses([](TileConfig& config) { config.rows[3] = 17; });
  refuses([](TileConfig& config) { config.rows[0] = 17; });
  refuses([](TileConfig& config) { config.row_bytes[0] = 65; });
  refuses([](TileConfig& config) { config.rows[0] = 0; });
  refuses([](TileConfig& config) { config.row_bytes[1] = 0; });
  refuses([](TileConfig& config) {
    config.rows[8] = 1;
    config.row_bytes[8] = 4;
  });
}

TEST(EmulatedTiles, RefuseOperandsThatDontFit) {
  const auto refuses = [](const auto& spoil) {
    TileConfig config = config_of(8, 16, 8);
    spoil(config);
    EmulatedTiles tiles(config);
    EXPECT_THROW((tiles.add_products<0, 1, 2>()), TileFault);
  };
  EmulatedTiles fine(config_of(8, 16, 8));
  EXPECT_NO_THROW((fine.add_products<0, 1, 2>()));
  EXPECT_THROW(fine.zero<3>(), TileFault) << "not configured";
  refuses([](TileConfig& config) { config.rows[0] = 7; });
  refuses([](TileConfig& config) { config.rows[1] = 9; });
  refuses([](TileConfig& config) { config.rows[2] = 9; });
  refuses([](TileConfig& config) { config.row_bytes[0] = 28; });
  refuses([](TileConfig& config) { config.row_bytes[1] = 30; });
  refuses([](TileConfig& config) { config.row_bytes[2] = 36; });
}

TEST(EmulatedTiles, LoadAndStoreTheirRowsOnly) {
  std::vector<std::uint32_t> memory(std::size_t{20} * 16);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::uint32_t>(i + 1);
  EmulatedTiles tiles(config_of(5, 32, 3));
  tiles.load<0>(memory.data(), 20 * sizeof(std::uint32_t));
  std::vector<std::uint32_t> out(std::size_t{6} * 4, 7);
  tiles.store<0>(out.data(), 4 * sizeof(std::uint32_t));
  for (std::size_t row = 0; row < 6; ++row)
    for (std::size_t column = 0; column < 4; ++column)
      EXPECT_EQ(out[row * 4 + column], row < 5 && column < 3 ? memory[row * 20 + column] : 7U);
  tiles.zero<0>();
  tiles.store<0>(out.data(), 4 * sizeof(std::uint32_t));
  EXPECT_EQ(out[0], 0U);
}

// The sum of one tile product of `a` and `b` [depth] onto `sum`.
float tile_dot(float sum, const std::vector<float>& a, const std::vector<float>& b) {
  EmulatedTiles tiles(config_of(1, a.size(), 1));
  std::vector<std::uint16_t> as;
  std::vector<std::uint16_t> bs;
  for (const float x : a) as.push_back(float_to_bf16(x));
  for (const float x : b) bs.push_back(float_to_bf16(x));
  tiles.load<0>(&sum, sizeof sum);
  tiles.load<1>(as.data(), as.size() * sizeof(std::uint16_t));
  tiles.load<2>(bs.data(), 2 * sizeof(std::uint16_t));
  tiles.add_products<0, 1, 2>();
  tiles.store<0>(&sum, sizeof sum);
  return sum;
}

TEST(EmulatedTiles, SumEvenAndOddProductsApart) {
  // 2^24 swallows a 1 that is added to it. Even products cancel before they meet an odd one, and both before the old sum.
  EXPECT_EQ(tile_dot(0, {0x1p24F, 1, -0x1p24F, 1}, {1, 1, 1, 1}), 2.0F);
  EXPECT_EQ(tile_dot(0, {0x1p24F, 0, 1, 0, -0x1p24F, 0}, {1, 1, 1, 1, 1, 1}), 0.0F) << "in order of k";
  EXPECT_EQ(tile_dot(0x1p24F, {1, 1}, {1, 1}), 0x1p24F + 2) << "the old sum is added last";
  EXPECT_EQ(tile_dot(-0x1p24F, {0x1p24F, 1}, {1, 1}), 0.0F);
}

}  // namespace
}  // namespace sluice::cpu
