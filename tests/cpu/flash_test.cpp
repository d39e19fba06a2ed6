// The parts of attention in blocks, of every table: packing keys and values as weights, the online softmax of a block, and
// adding blocks up. Bounds as in ops_test.cpp: u = 2^-24 for each rounding.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cpu/kernels.h"
#include "tests/cpu/devices.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using test::pick;
using test::Random;

constexpr double kU = 0x1p-24;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::uint16_t kPoison = 0xABCD;

class Flash : public testing::TestWithParam<const Kernels*> {
 protected:
  Random random_{test::seed_of_test()};
  const Kernels& k_ = *GetParam();
};

std::size_t padded(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Element (k, column) of a matrix packed as bf16 weights (kernels.h).
std::size_t packed_at(std::size_t k, std::size_t column, std::size_t depth) {
  return column / kLanes * depth * kLanes + (k / 2 * kLanes + column % kLanes) * 2 + k % 2;
}

TEST_P(Flash, PacksKeysAndValuesAsWeights) {
  for (int i = 0; i < 100; ++i) {
    const std::size_t n = pick(random_, 1, 140);
    const std::size_t dim = pick(random_, 1, 90);
    std::vector<std::uint16_t> rows(n * dim);
    for (std::uint16_t& x : rows) x = static_cast<std::uint16_t>(random_());
    for (const bool are_keys : {true, false}) {
      const std::size_t depth = are_keys ? padded(dim, 2) : padded(n, kLanes);
      const std::size_t columns = padded(are_keys ? n : dim, kLanes);
      std::vector<std::uint16_t> packed(depth * columns + 1, kPoison);
      (are_keys ? k_.pack_keys : k_.pack_values)(rows.data(), n, dim, packed.data());
      for (std::size_t k = 0; k < depth; ++k) {
        for (std::size_t column = 0; column < columns; ++column) {
          const std::size_t position = are_keys ? column : k;
          const std::size_t d = are_keys ? k : column;
          const std::uint16_t want = position < n && d < dim ? rows[position * dim + d] : std::uint16_t{0};
          ASSERT_EQ(packed[packed_at(k, column, depth)], want)
              << n << " positions of " << dim << (are_keys ? ", keys" : ", values");
        }
      }
      EXPECT_EQ(packed.back(), kPoison);
    }
  }
}

TEST_P(Flash, SoftensBlockAfterBlock) {
  for (int i = 0; i < 100; ++i) {
    std::normal_distribution<float> normal(0.0F, pick(random_, 0, 1) == 0 ? 1.0F : 20.0F);
    float maximum = -kInfinity;
    float sum = 0;
    double exact_maximum = -std::numeric_limits<double>::infinity();
    double exact_sum = 0;
    for (std::size_t blocks = pick(random_, 1, 5); blocks > 0; --blocks) {
      const std::size_t n = pick(random_, 1, 128);
      const std::size_t n_padded = padded(n, kLanes) + kLanes * pick(random_, 0, 1);
      std::vector<float> scores(n_padded + 1, kNaN);  // what lies behind n must not matter
      std::vector<double> exact;
      for (std::size_t t = 0; t < n; ++t) exact.push_back(static_cast<double>(scores[t] = normal(random_)));
      const double now = std::max(exact_maximum, *std::max_element(exact.begin(), exact.end()));
      const double exact_factor = std::exp(exact_maximum - now);
      exact_sum *= exact_factor;
      exact_maximum = now;

      float factor = kNaN;
      k_.soften(scores.data(), n, n_padded, &maximum, &sum, &factor);
      // The difference of two scores of size up to 100 is rounded: that is the relative error of its exponential.
      const double bound = (4 + 200) * kU;
      EXPECT_EQ(static_cast<double>(maximum), exact_maximum);
      EXPECT_NEAR(static_cast<double>(factor), exact_factor, bound * exact_factor + 0x1p-126);
      for (std::size_t t = 0; t < n; ++t) {
        const double want = std::exp(exact[t] - now);
        exact_sum += want;
        ASSERT_NEAR(static_cast<double>(scores[t]), want, bound * want + 0x1p-126);
      }
      for (std::size_t t = n; t < n_padded; ++t) ASSERT_EQ(scores[t], 0.0F);
      EXPECT_TRUE(std::isnan(scores[n_padded]));
      // Blocks before were rescaled once for each that came since.
      EXPECT_NEAR(static_cast<double>(sum), exact_sum, (5 * bound + 20 * kU) * exact_sum);
    }
  }
}

TEST_P(Flash, ScalesAndAdds) {
  std::normal_distribution<float> normal;
  for (std::size_t n = 1; n < 100; ++n) {
    std::vector<float> x(n, 0.0F);
    std::vector<float> out(n + 1, kNaN);
    for (float& value : x) value = normal(random_);
    for (std::size_t i = 0; i < n; ++i) out[i] = normal(random_);
    const std::vector<float> before = out;
    const float factor = normal(random_);
    k_.scale_and_add(x.data(), factor, n, out.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double product = static_cast<double>(before[i]) * static_cast<double>(factor);
      const double added = static_cast<double>(x[i]);
      EXPECT_NEAR(static_cast<double>(out[i]), product + added,
                  2.1 * kU * (std::abs(product) + std::abs(added)));
    }
    EXPECT_TRUE(std::isnan(out[n]));
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, Flash, testing::ValuesIn(all_tables()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace sluice::cpu
