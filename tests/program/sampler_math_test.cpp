// Risk: the sampler's arithmetic is wrong somewhere, or not what a second implementation of it would give.
#include "program/sampler_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "program/sampling.h"
#include "tests/support/seed.h"

namespace sluice::program {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Error of `got` in units of the last place of an fp32 near `exact` (2^-149 among subnormals).
double ulps(float got, double exact) {
  const double ulp = std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 23);
  return std::abs(static_cast<double>(got) - exact) / ulp;
}

TEST(Philox, GivesThePublishedVectors) {
  // Random123, kat_vectors, philox4x32 with 10 rounds: counter, key → block.
  struct Vector {
    PhiloxBlock counter;
    std::uint64_t key;
    PhiloxBlock block;
  };
  const Vector vectors[] = {
      {{{0, 0, 0, 0}}, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
       0xffffffffffffffff,
       {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       0x299f31d0a4093822,
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
  };
  for (const Vector& vector : vectors) {
    const PhiloxBlock got = philox4x32_10(vector.counter, vector.key);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got.word[i], vector.block.word[i]) << "word " << i;
  }
}

// Either function ends with a sum: half an ulp. Before that, of exp's r and of its tail, both a binade or two
// below the result, half an ulp of theirs: a quarter each; of log's near-one part likewise. What else is
// rounded is 2^-4 of that: 1.1 ulp. The contract leaves room: 2.
constexpr double kUlps = 1.1;

TEST(PortableExp, IsWithinItsBoundAndMonotone) {
  // Every 251st fp32 in [-103.9, 88.7]: 8 million of them.
  for (const float limit : {-103.9F, 88.7F}) {
    const std::uint32_t sign = std::bit_cast<std::uint32_t>(limit) & 0x80000000U;
    double worst = 0;
    float worst_x = 0;
    float before = 1.0F;
    bool monotone = true;
    for (std::uint32_t bits = sign; bits <= std::bit_cast<std::uint32_t>(limit); bits += 251) {
      const float x = std::bit_cast<float>(bits);
      const float y = portable_exp(x);
      const double error = ulps(y, std::exp(static_cast<double>(x)));
      if (!(error <= worst)) worst = error, worst_x = x;
      monotone = monotone && (sign != 0 ? y <= before : y >= before);
      before = y;
    }
    EXPECT_LE(worst, kUlps) << "at " << worst_x;
    EXPECT_TRUE(monotone) << "towards " << limit;
    RecordProperty(sign != 0 ? "worst_ulp_negative" : "worst_ulp_positive", std::to_string(worst));
  }
}

TEST(PortableExp, KeepsItsEdges) {
  EXPECT_EQ(portable_exp(0.0F), 1.0F);
  EXPECT_EQ(portable_exp(-0.0F), 1.0F);
  EXPECT_EQ(portable_exp(-kInfinity), 0.0F);
  EXPECT_EQ(portable_exp(-104.0F), 0.0F);
  EXPECT_EQ(portable_exp(-std::numeric_limits<float>::max()), 0.0F);
  EXPECT_GT(portable_exp(-103.9F), 0.0F);
  EXPECT_LT(portable_exp(88.72F), kInfinity);
  EXPECT_EQ(portable_exp(88.73F), kInfinity);
  EXPECT_EQ(portable_exp(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(portable_exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(PortableLog, IsWithinItsBound) {
  double worst = 0;
  float worst_x = 0;
  const auto look = [&](std::uint32_t bits) {
    const float x = std::bit_cast<float>(bits);
    const double exact = std::log(static_cast<double>(x));
    const double error =
        x == 1.0F ? std::abs(static_cast<double>(portable_log(x))) : ulps(portable_log(x), exact);
    if (!(error <= worst)) worst = error, worst_x = x;
  };
  for (std::uint32_t bits = 1; bits < 0x7F800000U; bits += 509) look(bits);  // subnormals too
  // Around 1, where the result is small and an absolute error would show.
  for (std::uint32_t bits = 0x3F800000U - 100000; bits < 0x3F800000U + 100000; ++bits) look(bits);
  EXPECT_LE(worst, kUlps) << "at " << worst_x;
  RecordProperty("worst_ulp", std::to_string(worst));
}

TEST(Gumbel, IsFiniteAndRightForEveryKindOfWord) {
  test::Random random(test::seed_of_test());
  const auto look = [](std::uint32_t word) {
    // u and 1 - u are exact in double.
    const double u = (static_cast<double>(word) + 0.5) * 0x1p-32;
    const double log_u = u > 0.5 ? std::log1p(-(1.0 - u)) : std::log(u);
    const double exact = -std::log(-log_u);
    const float got = sampler::gumbel(word);
    // E = -log(u) has three roundings of 2^-24 relative (u's, and 2 ulp of the log at most 4 more), which log
    // turns into an absolute error; then 2 ulp of its own, at most 2^-22 |G|.
    EXPECT_NEAR(static_cast<double>(got), exact, 5 * 0x1p-24 + 0x1p-22 * std::abs(exact)) << "word " << word;
    EXPECT_LE(got, sampler::kGumbelMax);
  };
  for (const std::uint32_t middle :
       {0x00000000U, 0xB504F334U, 0x80000000U, 0x5E2D58D9U}) {  // 2^32 / e: G = 0
    for (std::uint32_t i = 0; i < 2000; ++i) look(middle + i - 1000);
  }
  for (int i = 0; i < 200000; ++i) look(static_cast<std::uint32_t>(random()));
}

TEST(ProbabilityUnits, AskForAtLeastOneAndAtMostAll) {
  EXPECT_EQ(sampler::probability_units(1.0F), std::uint64_t{1} << 39U);
  EXPECT_EQ(sampler::units_wanted(0.0F, 1000), 1U);
  EXPECT_EQ(sampler::units_wanted(0.5F, 1000), 500U);
  EXPECT_EQ(sampler::units_wanted(0.5F, 1001), 501U);
  EXPECT_EQ(sampler::units_wanted(1.0F, 1000), 1000U);
  // A total that double can't hold: still no more than there is.
  const std::uint64_t huge = (std::uint64_t{1} << 63U) - 1;
  EXPECT_LE(sampler::units_wanted(0x1.fffffep-1F, huge), huge);
  EXPECT_EQ(sampler::units_wanted(1.0F, huge), huge);
}

TEST(RelativeProbability, IsOneForEqualsEvenInfiniteOnes) {
  EXPECT_EQ(sampler::relative_probability(3.5F, 3.5F), 1.0F);
  EXPECT_EQ(sampler::relative_probability(kInfinity, kInfinity), 1.0F);
  EXPECT_EQ(sampler::relative_probability(3.5F, kInfinity), 0.0F);
}

}  // namespace
}  // namespace sluice::program
