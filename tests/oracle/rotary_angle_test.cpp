// Risk: RoPE's angles are computed more precisely than in training, or less: far into a context that turns queries and
// keys by others than the model has seen.
#include <cmath>
#include <complex>
#include <limits>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "oracle/ops.h"
#include "tests/support/seed.h"

namespace sluice::oracle {
namespace {

// How far `turn`, on the unit circle, is from the nearest turn by an fp32 number within `ulps` of `angle`.
double distance_to_fp32_turns(std::complex<double> turn, double angle, int ulps) {
  auto candidate = static_cast<float>(angle);
  for (int i = 0; i < ulps; ++i) candidate = std::nextafter(candidate, 0.0F);
  double nearest = std::numeric_limits<double>::infinity();
  for (int i = -ulps; i <= ulps; ++i) {
    nearest = std::min(nearest, std::abs(turn - std::polar(1.0, static_cast<double>(candidate))));
    candidate = std::nextafter(candidate, std::numeric_limits<float>::infinity());
  }
  return nearest;
}

TEST(RotaryEmbedding, TurnsByFp32Angles) {
  // An fp32 angle of 2^8 to 2^15 is a multiple of at least 2^-16, so one computed otherwise is off by up to 2^-17, and
  // within 1e-9 of an fp32 number by chance in one case of 4000 or fewer. sine and cosine are fp64 here: 1e-15.
  constexpr std::size_t kHalf = 32;
  constexpr double kTheta = 1e7;
  test::Random random(test::seed_of_test());
  const std::size_t position = test::pick(random, 20000, 260000);
  std::vector<double> head(2 * kHalf, 0.0);
  for (std::size_t j = 0; j < kHalf; ++j) head[j] = 1.0;
  rotary_embedding<double>(head, 2 * kHalf, kTheta, position);
  for (std::size_t j = 0; j < kHalf; ++j) {
    const double angle = static_cast<double>(position) *
                         std::pow(kTheta, -static_cast<double>(j) / static_cast<double>(kHalf));
    if (angle < 256) break;  // the smaller, the closer fp32 numbers lie
    // Exponent, power, inverse and product are rounded: (ln(theta) + 3) half ulps, an ulp counting double at the end of
    // a binade.
    EXPECT_LT(distance_to_fp32_turns({head[j], head[j + kHalf]}, angle, 40), 1e-11)
        << "pair " << j << " at " << position;
  }
}

}  // namespace
}  // namespace sluice::oracle
