// The 16-bit formats against arithmetic on their fields: value = (-1)^s · m · 2^e, by ldexp.
#include "base/bf16.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include <gtest/gtest.h>

#include "tests/support/seed.h"

namespace sluice {
namespace {

struct Format {
  int exponent_bits;
  int mantissa_bits;
};
constexpr Format kBf16{8, 7};
constexpr Format kF16{5, 10};

// IEEE 754's definition of a binary format (2019, section 3.4), in exact arithmetic.
double value_of(unsigned bits, Format format) {
  const int exponent = static_cast<int>(bits >> format.mantissa_bits) & ((1 << format.exponent_bits) - 1);
  const int mantissa = static_cast<int>(bits) & ((1 << format.mantissa_bits) - 1);
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  double magnitude = 0;
  if (exponent == (1 << format.exponent_bits) - 1) {
    magnitude =
        mantissa == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(mantissa, 1 - bias - format.mantissa_bits);
  } else {
    magnitude = std::ldexp(mantissa + (1 << format.mantissa_bits), exponent - bias - format.mantissa_bits);
  }
  return (bits & 0x8000U) != 0 ? -magnitude : magnitude;
}

template <typename Convert>
void expect_exact(Format format, Convert convert) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const double expected = value_of(bits, format);
    const double actual = convert(static_cast<std::uint16_t>(bits));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(actual)) << std::hex << bits;
    } else {
      ASSERT_EQ(actual, expected) << std::hex << bits;
      ASSERT_EQ(std::signbit(actual), std::signbit(expected)) << std::hex << bits;
    }
  }
}

TEST(Bf16, EveryValueConvertsExactly) {
  expect_exact(kBf16, bf16_to_float);
}
TEST(F16, EveryValueConvertsExactly) {
  expect_exact(kF16, f16_to_float);
}

TEST(Bf16, EveryValueSurvivesTheWayThroughFloat) {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const std::uint16_t back = float_to_bf16(bf16_to_float(static_cast<std::uint16_t>(bits)));
    if (std::isnan(value_of(bits, kBf16))) {
      ASSERT_TRUE(std::isnan(value_of(back, kBf16))) << std::hex << bits;
    } else {
      ASSERT_EQ(back, bits);
    }
  }
}

// Around the middle between every two neighbours: below goes down, above goes up, the middle to the even one.
TEST(Bf16, RoundsToNearestTiesToEven) {
  for (std::uint32_t low = 0; low < 0x7F80; ++low) {  // the last neighbour is infinity
    const std::uint32_t middle = (low << 16U) + 0x8000U;
    const auto rounded = [](std::uint32_t bits) { return float_to_bf16(std::bit_cast<float>(bits)); };
    ASSERT_EQ(rounded(middle - 1), low);
    ASSERT_EQ(rounded(middle + 1), low + 1);
    ASSERT_EQ(rounded(middle), low % 2 == 0 ? low : low + 1);
    ASSERT_EQ(rounded(middle | 0x80000000U), (low % 2 == 0 ? low : low + 1) | 0x8000U);
  }
}

TEST(Bf16, NoNanBecomesANumber) {
  test::Random random(test::seed_of_test());
  for (int i = 0; i < 100000; ++i) {
    const auto mantissa = static_cast<std::uint32_t>(test::pick(random, 1, 0x7FFFFF));
    const std::uint32_t sign = static_cast<std::uint32_t>(random()) & 0x80000000U;
    const float nan = std::bit_cast<float>(sign | 0x7F800000U | mantissa);
    ASSERT_TRUE(std::isnan(bf16_to_float(float_to_bf16(nan)))) << std::hex << mantissa;
  }
}

}  // namespace
}  // namespace sluice
