// Every kernel that is no matrix product, of every table, against fp64: the oracle's ops, or the formula. Lengths of any
// remainder of a vector; what lies behind an operand is NaN and stays so.
//
// Bounds are counts of roundings: u = 2^-24 for each, of what is rounded. e^x is within 4 u of exact (sampler_math_test.cpp has
// the same polynomial), so σ is within 6.
#include "oracle/ops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bf16.h"
#include "cpu/kernels.h"
#include "tests/cpu/devices.h"
#include "tests/support/golden.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using test::pick;
using test::Random;

constexpr double kU = 0x1p-24;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kBehind = 20;  // elements behind each operand

// n random numbers of a size that differs from vector to vector, NaN behind them.
std::vector<float> random_numbers(Random& random, std::size_t n, float scale = 1.0F) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> x(n + kBehind, kNaN);
  for (std::size_t i = 0; i < n; ++i) x[i] = normal(random);
  return x;
}

std::vector<float> poisoned(std::size_t n) {
  return std::vector<float>(n + kBehind, kNaN);
}

bool is_poison(const std::vector<float>& x, std::size_t n) {
  return std::all_of(x.begin() + static_cast<std::ptrdiff_t>(n), x.end(),
                     [](float v) { return std::isnan(v); });
}

double exact(float x) {
  return static_cast<double>(x);
}

class Kernel : public testing::TestWithParam<const Kernels*> {
 protected:
  Random random_{test::seed_of_test()};
  const Kernels& k_ = *GetParam();
};

TEST_P(Kernel, SumOfSquares) {
  for (std::size_t n = 1; n < 150; ++n) {
    const std::vector<float> x = random_numbers(random_, n);
    double want = 0;
    for (std::size_t i = 0; i < n; ++i) want += exact(x[i]) * exact(x[i]);
    // A product, its lane's sum, four sums of pairs.
    EXPECT_NEAR(exact(k_.sum_of_squares(x.data(), n)), want, (static_cast<double>(n) / 16 + 6) * kU * want);
  }
}

TEST_P(Kernel, ScaleAndAdd) {
  for (std::size_t n = 1; n < 100; ++n) {
    const std::vector<float> x = random_numbers(random_, n);
    const std::vector<float> y = random_numbers(random_, n);
    const float scale = random_numbers(random_, 1)[0];
    std::vector<float> scaled = poisoned(n);
    k_.scale_by(x.data(), y.data(), scale, n, scaled.data());
    std::vector<float> sum = x;
    k_.add(y.data(), n, sum.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double want = exact(x[i]) * exact(scale) * exact(y[i]);
      EXPECT_NEAR(exact(scaled[i]), want, 2.1 * kU * std::abs(want));
      EXPECT_EQ(sum[i], x[i] + y[i]);
    }
    EXPECT_TRUE(is_poison(scaled, n) && is_poison(sum, n)) << n;
  }
}

TEST_P(Kernel, Gates) {
  for (std::size_t n = 1; n < 100; ++n) {
    std::vector<float> gate = random_numbers(random_, n, 5.0F);
    if (n > 10) gate[3] = 1000.0F, gate[5] = -1000.0F, gate[7] = 0.0F, gate[9] = -87.5F;
    const std::vector<float> up = random_numbers(random_, n);
    std::vector<float> silu = poisoned(n);
    std::vector<float> sigmoid = poisoned(n);
    k_.silu_mul(gate.data(), up.data(), n, silu.data());
    k_.sigmoid_mul(up.data(), gate.data(), n, sigmoid.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double want_silu = oracle::silu(exact(gate[i])) * exact(up[i]);
      const double want_sigmoid = oracle::sigmoid(exact(gate[i])) * exact(up[i]);
      // Where e^-x overflows, σ(x) < 2^-128 is 0.
      EXPECT_NEAR(exact(silu[i]), want_silu, 8 * kU * std::abs(want_silu) + 0x1p-115) << gate[i];
      EXPECT_NEAR(exact(sigmoid[i]), want_sigmoid, 7 * kU * std::abs(want_sigmoid) + 0x1p-115) << gate[i];
    }
    EXPECT_TRUE(is_poison(silu, n) && is_poison(sigmoid, n)) << n;
  }
}

TEST_P(Kernel, ConvolutionWithSilu) {
  for (std::size_t n = 1; n < 80; ++n) {
    const std::size_t kernel = pick(random_, 1, 5);
    const std::vector<float> taps = random_numbers(random_, n * kernel);  // [kernel, n]
    std::vector<float> state = random_numbers(random_, n * (kernel - 1));
    std::vector<std::vector<double>> exact_state(n);
    for (std::size_t channel = 0; channel < n; ++channel)
      for (std::size_t tap = 0; tap + 1 < kernel; ++tap)
        exact_state[channel].push_back(exact(state[tap * n + channel]));
    for (int row = 0; row < 7; ++row) {
      const std::vector<float> x = random_numbers(random_, n);
      std::vector<float> out = poisoned(n);
      k_.conv_silu(x.data(), n, 1, taps.data(), kernel, n, state.data(), out.data());
      for (std::size_t channel = 0; channel < n; ++channel) {
        std::vector<float> own;
        double size = std::abs(exact(taps[(kernel - 1) * n + channel]) * exact(x[channel]));
        for (std::size_t tap = 0; tap < kernel; ++tap) {
          own.push_back(taps[tap * n + channel]);
          if (tap + 1 < kernel) size += std::abs(exact(own[tap]) * exact_state[channel][tap]);
        }
        const double want =
            oracle::silu(oracle::conv_step<double>(exact_state[channel], own, exact(x[channel])));
        // silu's slope is at most 1.1.
        const double bound =
            1.1 * static_cast<double>(kernel + 1) * kU * size + 8 * kU * std::abs(want) + 0x1p-115;
        ASSERT_NEAR(exact(out[channel]), want, bound) << "kernel " << kernel << ", row " << row;
        for (std::size_t tap = 0; tap + 1 < kernel; ++tap)
          ASSERT_EQ(exact(state[tap * n + channel]), exact_state[channel][tap]) << "state";
      }
      ASSERT_TRUE(is_poison(out, n) && is_poison(state, n * (kernel - 1))) << n;
    }
  }
}

TEST_P(Kernel, ConvolutionOfRowsIsThatOfEachRow) {
  for (int repetition = 0; repetition < 40; ++repetition) {
    const std::size_t n = pick(random_, 1, 70);
    const std::size_t kernel = pick(random_, 1, 5);
    const std::size_t rows = pick(random_, 1, 20);
    const std::size_t ldx = n + pick(random_, 0, 9);
    const std::vector<float> taps = random_numbers(random_, n * kernel);
    const std::vector<float> x = random_numbers(random_, rows * ldx);
    std::vector<float> state = random_numbers(random_, n * (kernel - 1));
    std::vector<float> state_of_rows = state;
    std::vector<float> out = poisoned(rows * n);
    k_.conv_silu(x.data(), ldx, rows, taps.data(), kernel, n, state_of_rows.data(), out.data());
    ASSERT_TRUE(is_poison(out, rows * n));
    std::vector<float> single(n);
    for (std::size_t row = 0; row < rows; ++row) {
      k_.conv_silu(x.data() + row * ldx, n, 1, taps.data(), kernel, n, state.data(), single.data());
      ASSERT_EQ(std::vector<float>(out.begin() + static_cast<std::ptrdiff_t>(row * n),
                                   out.begin() + static_cast<std::ptrdiff_t>((row + 1) * n)),
                single)
          << "row " << row << " of " << rows << ", kernel " << kernel;
    }
    ASSERT_TRUE(std::equal(state.begin(), state.begin() + static_cast<std::ptrdiff_t>(n * (kernel - 1)),
                           state_of_rows.begin()));
  }
}

TEST_P(Kernel, RoundsToBf16) {
  std::vector<float> x{0.0F,      -0.0F,   kNaN,      -kNaN,     kInfinity,    -kInfinity,
                       0x1p-149F, 3.4e38F, 0x1.01p0F, 0x1.03p0F, 0x1.010002p0F};
  for (int i = 0; i < 100000; ++i) x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random_())));
  for (std::size_t n : {x.size(), std::size_t{1}, std::size_t{17}, std::size_t{31}}) {
    std::vector<std::uint16_t> out(n + 1, 0xABCD);
    k_.to_bf16(x.data(), n, out.data());
    for (std::size_t i = 0; i < n; ++i) {
      if (std::isnan(x[i])) {
        EXPECT_TRUE(std::isnan(bf16_to_float(out[i])));
      } else {
        ASSERT_EQ(out[i], float_to_bf16(x[i])) << x[i];
      }
    }
    EXPECT_EQ(out[n], 0xABCD);
  }
}

TEST_P(Kernel, Largest) {
  EXPECT_EQ(k_.largest(nullptr, 0), -kInfinity);
  for (std::size_t n = 1; n < 100; ++n) {
    std::vector<float> x = random_numbers(random_, n);
    for (std::size_t i = 0; i < n; ++i)
      if (pick(random_, 0, 3) == 0) x[i] = pick(random_, 0, 1) == 0 ? kNaN : -kInfinity;
    float want = -kInfinity;
    for (std::size_t i = 0; i < n; ++i)
      if (x[i] > want) want = x[i];
    x[n] = kInfinity;  // behind
    EXPECT_EQ(k_.largest(x.data(), n), want);
    std::fill_n(x.begin(), n, kNaN);
    EXPECT_EQ(k_.largest(x.data(), n), -kInfinity);
  }
}

// What the delta rule of a span gets, as the mixer makes it: unit keys and queries, decays and betas of every size.
struct DeltaSpan {
  std::size_t rows, key_dim, value_dim;
  std::vector<float> state, query, key, value, decay, beta;
};

DeltaSpan random_delta(Random& random) {
  DeltaSpan d{pick(random, 1, 70), pick(random, 3, 140), pick(random, 3, 140), {}, {}, {}, {}, {}, {}};
  d.state = random_numbers(random, d.key_dim * d.value_dim);
  d.query = random_numbers(random, d.rows * d.key_dim);
  d.key = random_numbers(random, d.rows * d.key_dim);
  d.value = random_numbers(random, d.rows * d.value_dim);
  d.decay = poisoned(d.rows);
  d.beta = poisoned(d.rows);
  for (std::size_t row = 0; row < d.rows; ++row) {
    oracle::l2_normalize(std::span(d.query).subspan(row * d.key_dim, d.key_dim));
    oracle::l2_normalize(std::span(d.key).subspan(row * d.key_dim, d.key_dim));
    std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
    d.beta[row] = uniform(random);
    d.decay[row] = pick(random, 0, 3) == 0 ? uniform(random) : 1.0F - 0.01F * uniform(random);
  }
  return d;
}

// Out of rows [begin, end), whose state is `state` before and after.
std::vector<float> run_delta(const Kernels& kernels, const DeltaSpan& d, std::size_t begin, std::size_t end,
                             std::vector<float>& state) {
  std::vector<float> scratch = poisoned(end - begin);
  std::vector<float> out = poisoned((end - begin) * d.value_dim);
  kernels.delta_rule(state.data(), d.query.data() + begin * d.key_dim, d.key.data() + begin * d.key_dim,
                     d.value.data() + begin * d.value_dim, d.decay.data() + begin, d.beta.data() + begin,
                     end - begin, d.key_dim, d.value_dim, scratch.data(), out.data());
  EXPECT_TRUE(is_poison(out, (end - begin) * d.value_dim) && is_poison(state, d.key_dim * d.value_dim));
  out.resize((end - begin) * d.value_dim);
  return out;
}

TEST_P(Kernel, DeltaRule) {
  for (int i = 0; i < 20; ++i) {
    const DeltaSpan d = random_delta(random_);
    std::vector<double> state(d.key_dim * d.value_dim);  // [value_dim, key_dim]
    for (std::size_t v = 0; v < d.value_dim; ++v)
      for (std::size_t k = 0; k < d.key_dim; ++k)
        state[v * d.key_dim + k] = exact(d.state[k * d.value_dim + v]);
    std::vector<float> want;
    const auto row_of = [](const std::vector<float>& x, std::size_t row, std::size_t size) {
      const auto begin = x.begin() + static_cast<std::ptrdiff_t>(row * size);
      return std::vector<double>(begin, begin + static_cast<std::ptrdiff_t>(size));
    };
    for (std::size_t row = 0; row < d.rows; ++row) {
      const std::vector<double> query = row_of(d.query, row, d.key_dim);
      const std::vector<double> key = row_of(d.key, row, d.key_dim);
      const std::vector<double> value = row_of(d.value, row, d.value_dim);
      const std::vector<double> out = oracle::delta_rule_step<double>(
          state, query, key, value, std::log(exact(d.decay[row])), exact(d.beta[row]));
      want.insert(want.end(), out.begin(), out.end());
    }
    std::vector<float> got_state = d.state;
    const std::vector<float> got = run_delta(k_, d, 0, d.rows, got_state);
    std::vector<float> want_state(d.key_dim * d.value_dim);
    for (std::size_t v = 0; v < d.value_dim; ++v)
      for (std::size_t k = 0; k < d.key_dim; ++k)
        want_state[k * d.value_dim + v] = static_cast<float>(state[v * d.key_dim + k]);
    got_state.resize(want_state.size());
    // Two sums of key_dim terms (0.4 u sqrt(key_dim / 2) of their size, which is up to sqrt(key_dim) of theirs, for the terms
    // cancel) and a few roundings a row; the rule shrinks what earlier rows left, so errors add up as a square root at most.
    const double bound = 2 * kU * static_cast<double>(d.key_dim) * std::sqrt(static_cast<double>(d.rows));
    const std::string shape = std::to_string(d.rows) + " rows of " + std::to_string(d.key_dim) + " x " +
                              std::to_string(d.value_dim);
    EXPECT_LT(test::relative_rms<float>(got, want), bound) << shape;
    EXPECT_LT(test::relative_rms<float>(got_state, want_state), bound) << shape;

    // Any cut gives the same bits.
    const std::size_t cut = pick(random_, 0, d.rows - 1);
    std::vector<float> cut_state = d.state;
    std::vector<float> in_two;
    if (cut > 0) in_two = run_delta(k_, d, 0, cut, cut_state);
    const std::vector<float> second = run_delta(k_, d, cut, d.rows, cut_state);
    in_two.insert(in_two.end(), second.begin(), second.end());
    cut_state.resize(want_state.size());
    EXPECT_TRUE(in_two == got && cut_state == got_state) << shape << ", cut at " << cut;
  }
}

// Σ_t p_t v_t of one query, begun at [0, cut) and continued to n.
TEST_P(Kernel, Attention) {
  for (int i = 0; i < 60; ++i) {
    const std::size_t n = pick(random_, 1, 200);
    const std::size_t dim = pick(random_, 3, 140);
    const std::size_t ld = dim + pick(random_, 0, 9);
    const std::size_t n_queries = pick(random_, 1, 5);
    std::vector<std::uint16_t> keys(n * ld + kBehind, float_to_bf16(kNaN));
    std::vector<std::uint16_t> values = keys;
    std::vector<double> exact_keys;
    std::vector<double> exact_values;
    std::normal_distribution<float> normal;
    for (std::size_t t = 0; t < n; ++t) {
      for (std::size_t d = 0; d < dim; ++d) {
        keys[t * ld + d] = float_to_bf16(normal(random_));
        values[t * ld + d] = float_to_bf16(normal(random_));
        exact_keys.push_back(exact(bf16_to_float(keys[t * ld + d])));
        exact_values.push_back(exact(bf16_to_float(values[t * ld + d])));
      }
    }
    const std::vector<float> queries =
        random_numbers(random_, n_queries * dim, 2.0F / std::sqrt(static_cast<float>(dim)));
    std::vector<float> maximum(n_queries, -kInfinity);
    std::vector<float> sum(n_queries, 0.0F);
    std::vector<float> out(n_queries * dim, 0.0F);
    const std::size_t cut = pick(random_, 0, n - 1);
    for (const auto& [begin, end] : {std::pair{std::size_t{0}, cut}, std::pair{cut, n}}) {
      if (begin == end) continue;
      k_.attend(queries.data(), n_queries, keys.data() + begin * ld, values.data() + begin * ld, ld,
                end - begin, dim, maximum.data(), sum.data(), out.data());
    }
    for (std::size_t query = 0; query < n_queries; ++query) {
      std::vector<double> scaled;  // the oracle divides by sqrt(dim)
      for (std::size_t d = 0; d < dim; ++d)
        scaled.push_back(exact(queries[query * dim + d]) * std::sqrt(static_cast<double>(dim)));
      const std::vector<double> want = oracle::attend<double>(scaled, exact_keys, exact_values, 1, 0);
      // A score is a sum of dim / 16 + 4 roundings, each of at most Σ |q k| <= 2 sqrt(dim) or so; its error is the weight's
      // relative one. A weight is rescaled and added up n / 16 times; an output is their average of values of size 1 to 4.
      const double score = (static_cast<double>(dim) / 16 + 5) * kU * 3 * std::sqrt(static_cast<double>(dim));
      const double bound = 4 * (2 * score + (static_cast<double>(n) / 8 + 20) * kU);
      for (std::size_t d = 0; d < dim; ++d)
        ASSERT_NEAR(exact(out[query * dim + d] / sum[query]), want[d], bound)
            << n << " positions of " << dim << ", cut at " << cut;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, Kernel, testing::ValuesIn(all_tables()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace sluice::cpu
