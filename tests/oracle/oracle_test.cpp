// Risk: an op of the oracle isn't what docs/models.md §2 says. Each is compared, in fp64, with the same
// quantity by another formula or another algorithm, written from the spec. (Whole models: golden_test.cpp.)
//
// Tolerance. All sums here have fewer than N = 4000 terms, so either side errs by less than N eps times the
// sum of the terms' magnitudes, which are of order one in these inputs: 2 * 4000 * 1.1e-16 < 1e-12. Where an
// op can amplify that, its test says so.
#include "oracle/oracle.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "base/bf16.h"
#include "oracle/ops.h"
#include "tests/oracle/random_model.h"
#include "tests/support/seed.h"

namespace sluice::oracle {
namespace {

using test::pick;
using test::Random;

constexpr double kTolerance = 1e-12;

template <typename T = double>
std::vector<T> normals(Random& random, std::size_t n, double spread = 1.0) {
  std::normal_distribution<double> normal(0.0, spread);
  std::vector<T> values(n);
  for (T& value : values) value = static_cast<T>(normal(random));
  return values;
}

void expect_near(std::span<const double> got, std::span<const double> want, double tolerance = kTolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], tolerance) << "element " << i;
}

TEST(Activations, AreExactAndNeverOverflow) {
  for (double x = -40; x <= 40; x += 0.37) {
    EXPECT_NEAR(sigmoid(x), 0.5 * (1 + std::tanh(x / 2)), 1e-15) << x;
    EXPECT_NEAR(silu(x), x * 0.5 * (1 + std::tanh(x / 2)), 1e-14) << x;
    // The other side of log(1 + e^x) = x + log(1 + e^-x), relative: e^x is all there is on the left.
    const double exact =
        x < 0 ? 2 * std::atanh(std::exp(x) / (2 + std::exp(x))) : x + std::log(1 + std::exp(-x));
    EXPECT_NEAR(softplus(x) / exact, 1.0, 1e-14) << x;
  }
  EXPECT_EQ(softplus(1e30F), 1e30F);
  EXPECT_EQ(softplus(200.0F), 200.0F);  // e^200 is no fp32
  EXPECT_EQ(softplus(-1e30F), 0.0F);
  EXPECT_EQ(sigmoid(-1e30F), 0.0F);
  EXPECT_EQ(sigmoid(1e30F), 1.0F);
  EXPECT_EQ(silu(-200.0F), 0.0F);
  EXPECT_EQ(silu(200.0F), 200.0F);
}

TEST(Multiply, IsTheMatrixProductInEveryStoredType) {
  Random random(test::seed_of_test());
  const std::size_t rows = pick(random, 1, 40);
  const std::size_t cols = pick(random, 1, 60);
  std::vector<std::uint16_t> stored(rows * cols);
  const std::vector<float> values = normals<float>(random, rows * cols);
  std::transform(values.begin(), values.end(), stored.begin(), float_to_bf16);
  const std::vector<double> x = normals(random, cols);

  model::Matrix matrix;
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.dtype = model::DType::kBF16;
  matrix.data = std::as_bytes(std::span<const std::uint16_t>(stored));
  // Column by column, so in another order.
  std::vector<double> want(rows, 0.0);
  for (std::size_t c = cols; c-- > 0;) {
    for (std::size_t r = 0; r < rows; ++r)
      want[r] += x[c] * static_cast<double>(bf16_to_float(stored[r * cols + c]));
  }
  expect_near(multiply<double>(matrix, x), want);
}

TEST(RmsNorm, GivesUnitMeanSquareTimesTheWeight) {
  Random random(test::seed_of_test());
  const std::size_t n = pick(random, 1, 300);
  const std::vector<double> x = normals(random, n, 3.0);
  const std::vector<float> ones(n, 1.0F);
  const std::vector<float> weight = normals<float>(random, n);
  const double eps = 0.01;

  // Σ y² / n = m / (m + eps), with m the mean square of x; and y is parallel to x, of the same sense.
  const std::vector<double> y = rms_norm<double>(x, ones, eps);
  double square_x = 0;
  double square_y = 0;
  double product = 0;
  for (std::size_t i = 0; i < n; ++i)
    square_x += x[i] * x[i], square_y += y[i] * y[i], product += x[i] * y[i];
  const double m = square_x / static_cast<double>(n);
  EXPECT_NEAR(square_y / static_cast<double>(n), m / (m + eps), kTolerance);
  EXPECT_NEAR(product / std::sqrt(square_x * square_y), 1.0, kTolerance);

  const std::vector<double> weighted = rms_norm<double>(x, weight, eps);
  for (std::size_t i = 0; i < n; ++i)
    EXPECT_NEAR(weighted[i], y[i] * static_cast<double>(weight[i]), kTolerance);
}

TEST(L2Normalize, DividesByTheNormOfTheSum) {
  Random random(test::seed_of_test());
  std::vector<double> x = normals(random, pick(random, 1, 200), 0.01);
  const std::vector<double> before = x;
  double norm = 0;
  for (const double value : x) norm = std::hypot(norm, value);
  l2_normalize<double>(x);
  for (std::size_t i = 0; i < x.size(); ++i)
    EXPECT_NEAR(x[i], before[i] / std::hypot(norm, 1e-3), kTolerance);

  std::vector<double> zero(4, 0.0);
  l2_normalize<double>(zero);
  EXPECT_EQ(zero, std::vector<double>(4, 0.0));
}

TEST(RotaryEmbedding, TurnsPairsAsComplexNumbers) {
  Random random(test::seed_of_test());
  const std::size_t half = pick(random, 1, 40);
  const std::size_t head_dim = 2 * half + pick(random, 0, 50);
  const double theta = 1e7;
  for (const std::size_t position : {std::size_t{0}, std::size_t{1}, std::size_t{150}, std::size_t{32768}}) {
    std::vector<double> head = normals(random, head_dim);
    const std::vector<double> before = head;
    rotary_embedding<double>(head, 2 * half, theta, position);
    for (std::size_t j = 0; j < half; ++j) {
      const double exact = static_cast<double>(position) *
                           std::exp(-std::log(theta) * static_cast<double>(j) / static_cast<double>(half));
      const std::complex<double> turned = std::complex(before[j], before[j + half]) * std::polar(1.0, exact);
      // Angles are fp32: the exponent j/half, theta to it, the inverse and the product are rounded, 2^-24
      // each, and an error of the exponent counts ln(theta) = 16.2-fold. Then |x| times that angle is how far
      // the result may be off.
      const double off =
          std::abs(std::complex(before[j], before[j + half])) * exact * (16.2 + 3) * 0x1p-24 + kTolerance;
      EXPECT_NEAR(head[j], turned.real(), off) << "pair " << j << " at " << position;
      EXPECT_NEAR(head[j + half], turned.imag(), off) << "pair " << j << " at " << position;
    }
    for (std::size_t i = 2 * half; i < head_dim; ++i)
      EXPECT_EQ(head[i], before[i]) << "beyond the rotary part";
    if (position == 0) {
      EXPECT_EQ(head, before);
    }
  }
}

TEST(RotaryEmbedding, KnowsOnlyDistances) {
  // (R_m q)·(R_n k) depends on m - n alone. theta = 2^16 over 16 pairs gives the inverse frequencies 2^-j,
  // and with those every fp32 angle here is exact, so this holds to fp64 precision.
  Random random(test::seed_of_test());
  const std::vector<double> q = normals(random, 37);
  const std::vector<double> k = normals(random, 37);
  const auto score = [&](std::size_t m, std::size_t n) {
    std::vector<double> a = q;
    std::vector<double> b = k;
    rotary_embedding<double>(a, 32, 65536, m);
    rotary_embedding<double>(b, 32, 65536, n);
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  for (int i = 0; i < 50; ++i) {
    const std::size_t distance = pick(random, 0, 30);
    const std::size_t n = pick(random, 0, 33);
    EXPECT_NEAR(score(n + distance, n), score(distance, 0), kTolerance) << distance << " at " << n;
  }
}

TEST(Attend, IsSoftmaxAttentionInOnePass) {
  // The other algorithm: online softmax (Milakov, Gimelshein, 2018), backwards through the positions.
  Random random(test::seed_of_test());
  for (int round = 0; round < 20; ++round) {
    const std::size_t length = pick(random, 1, 90);
    const std::size_t n_kv_heads = pick(random, 1, 4);
    const std::size_t dim = pick(random, 1, 40);
    const std::size_t kv_head = pick(random, 0, n_kv_heads - 1);
    const std::vector<double> query = normals(random, dim, round % 2 == 0 ? 1.0 : 30.0);
    const std::vector<double> keys = normals(random, length * n_kv_heads * dim);
    const std::vector<double> values = normals(random, length * n_kv_heads * dim);

    double largest = -HUGE_VAL;
    double sum = 0;
    std::vector<double> want(dim, 0.0);
    for (std::size_t t = length; t-- > 0;) {
      const double* key = &keys[(t * n_kv_heads + kv_head) * dim];
      const double* value = &values[(t * n_kv_heads + kv_head) * dim];
      double score = 0;
      for (std::size_t i = 0; i < dim; ++i) score += query[i] * key[i] / std::sqrt(static_cast<double>(dim));
      const double now = std::max(largest, score);
      const double shrink = std::exp(largest - now);
      const double weight = std::exp(score - now);
      sum = sum * shrink + weight;
      for (std::size_t i = 0; i < dim; ++i) want[i] = want[i] * shrink + weight * value[i];
      largest = now;
    }
    for (double& value : want) value /= sum;
    // An absolute error of a score is a relative one of its weight: scores reach 30 * 40 here.
    expect_near(attend<double>(query, keys, values, n_kv_heads, kv_head), want, 100 * kTolerance);
  }
}

TEST(Attend, StaysFiniteWhereExpWouldNot) {
  const std::vector<float> query{3e4F};
  const std::vector<float> keys{-1e4F, 1e4F, 9e3F};
  const std::vector<float> values{1.0F, 2.0F, 4.0F};
  EXPECT_EQ(attend<float>(query, keys, values, 1, 0), std::vector<float>{2.0F});
}

TEST(ConvStep, IsTheCausalConvolutionOfTheWholeSequence) {
  Random random(test::seed_of_test());
  for (std::size_t kernel = 1; kernel <= 6; ++kernel) {
    const std::vector<float> taps = normals<float>(random, kernel);
    const std::vector<double> x = normals(random, pick(random, 1, 30));
    std::vector<double> state(kernel - 1, 0.0);
    for (std::size_t t = 0; t < x.size(); ++t) {
      double want = 0;  // y_t = Σ_back w_(K-1-back) x_(t-back)
      for (std::size_t back = 0; back < kernel && back <= t; ++back) {
        want += static_cast<double>(taps[kernel - 1 - back]) * x[t - back];
      }
      ASSERT_NEAR(conv_step<double>(state, taps, x[t]), want, kTolerance)
          << "kernel " << kernel << ", t " << t;
    }
  }
}

// The chunked form of docs/models.md §2 for one head and C rows; updates S [key, value] and returns O [C,
// value].
std::vector<double> delta_rule_chunk(std::vector<double>& S, const std::vector<double>& q,
                                     const std::vector<double>& k, const std::vector<double>& v,
                                     const std::vector<double>& g, const std::vector<double>& beta,
                                     std::size_t dk, std::size_t dv) {
  const std::size_t C = g.size();
  std::vector<double> gamma(C);
  for (std::size_t i = 0; i < C; ++i) gamma[i] = g[i] + (i > 0 ? gamma[i - 1] : 0.0);
  const auto dot_rows = [dk](const std::vector<double>& a, std::size_t i, const std::vector<double>& b,
                             std::size_t j) {
    double sum = 0;
    for (std::size_t d = 0; d < dk; ++d) sum += a[i * dk + d] * b[j * dk + d];
    return sum;
  };
  // (I + A) U = diag(β) V and (I + A) W = diag(β e^γ) K, by forward substitution; then V' = U − W S.
  std::vector<double> U(C * dv);
  std::vector<double> W(C * dk);
  for (std::size_t i = 0; i < C; ++i) {
    for (std::size_t d = 0; d < dv; ++d) U[i * dv + d] = beta[i] * v[i * dv + d];
    for (std::size_t d = 0; d < dk; ++d) W[i * dk + d] = beta[i] * std::exp(gamma[i]) * k[i * dk + d];
    for (std::size_t j = 0; j < i; ++j) {
      const double a = beta[i] * dot_rows(k, i, k, j) * std::exp(gamma[i] - gamma[j]);
      for (std::size_t d = 0; d < dv; ++d) U[i * dv + d] -= a * U[j * dv + d];
      for (std::size_t d = 0; d < dk; ++d) W[i * dk + d] -= a * W[j * dk + d];
    }
  }
  std::vector<double> V = U;
  std::vector<double> O(C * dv, 0.0);
  for (std::size_t i = 0; i < C; ++i) {
    for (std::size_t e = 0; e < dv; ++e) {
      for (std::size_t d = 0; d < dk; ++d) {
        V[i * dv + e] -= W[i * dk + d] * S[d * dv + e];
        O[i * dv + e] += std::exp(gamma[i]) * q[i * dk + d] * S[d * dv + e];
      }
    }
  }
  for (std::size_t i = 0; i < C; ++i) {
    for (std::size_t j = 0; j <= i; ++j) {
      const double p = dot_rows(q, i, k, j) * std::exp(gamma[i] - gamma[j]);
      for (std::size_t e = 0; e < dv; ++e) O[i * dv + e] += p * V[j * dv + e];
    }
  }
  for (double& s : S) s *= std::exp(gamma[C - 1]);
  for (std::size_t j = 0; j < C; ++j) {
    for (std::size_t d = 0; d < dk; ++d) {
      for (std::size_t e = 0; e < dv; ++e) {
        S[d * dv + e] += std::exp(gamma[C - 1] - gamma[j]) * k[j * dk + d] * V[j * dv + e];
      }
    }
  }
  return O;
}

TEST(DeltaRule, EqualsItsChunkedForm) {
  Random random(test::seed_of_test());
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  for (const std::size_t rows : {1U, 2U, 17U, 63U, 64U, 65U, 130U}) {
    const std::size_t dk = pick(random, 1, 24);
    const std::size_t dv = pick(random, 1, 24);
    const std::size_t chunk = pick(random, 1, 64);
    std::vector<double> transposed = normals(random, dv * dk);  // a carried state, [value, key]
    std::vector<double> S(dk * dv);
    for (std::size_t e = 0; e < dv; ++e) {
      for (std::size_t d = 0; d < dk; ++d) S[d * dv + e] = transposed[e * dk + d];
    }
    for (std::size_t first = 0; first < rows; first += chunk) {
      const std::size_t C = std::min(chunk, rows - first);
      const std::vector<double> q = normals(random, C * dk);
      const std::vector<double> v = normals(random, C * dv);
      std::vector<double> k = normals(random, C * dk);
      std::vector<double> g(C);
      std::vector<double> beta(C);
      for (std::size_t i = 0; i < C; ++i) {
        l2_normalize(
            std::span<double>(k).subspan(i * dk, dk));  // |k| <= 1 and β <= 1: no step amplifies errors
        g[i] = -3 * uniform(random) * uniform(random);
        beta[i] = uniform(random);
      }
      const std::vector<double> want = delta_rule_chunk(S, q, k, v, g, beta, dk, dv);
      for (std::size_t i = 0; i < C; ++i) {
        const auto row = [i](const std::vector<double>& x, std::size_t n) {
          return std::span<const double>(x).subspan(i * n, n);
        };
        const std::vector<double> got =
            delta_rule_step<double>(transposed, row(q, dk), row(k, dk), row(v, dv), g[i], beta[i]);
        expect_near(got, row(want, dv),
                    10 * kTolerance);  // the triangular solve compounds over up to 64 rows
      }
    }
    for (std::size_t e = 0; e < dv; ++e) {
      for (std::size_t d = 0; d < dk; ++d)
        ASSERT_NEAR(transposed[e * dk + d], S[d * dv + e], 10 * kTolerance);
    }
  }
}

TEST(DeltaRule, RecallsWhatItStored) {
  // With β = 1 and no decay, a unit key's value is read back at once, and overwritten, not added to.
  std::vector<double> state(std::size_t{3} * 2, 0.0);
  const std::vector<double> key{0.6, 0.8};
  for (const std::vector<double>& value : {std::vector<double>{1, 2, 3}, std::vector<double>{-4, 5, 0.5}}) {
    expect_near(delta_rule_step<double>(state, key, key, value, 0.0, 1.0), value);
  }
}

TEST(GatedNorm, NormsFirstThenGates) {
  Random random(test::seed_of_test());
  const std::size_t n = pick(random, 2, 100);
  const std::vector<double> x = normals(random, n);
  const std::vector<double> gate = normals(random, n);
  const std::vector<float> weight = normals<float>(random, n);
  double mean_square = 0;
  for (const double value : x) mean_square += value * value / static_cast<double>(n);
  std::vector<double> want(n);
  for (std::size_t i = 0; i < n; ++i) {
    want[i] = static_cast<double>(weight[i]) * x[i] / std::sqrt(mean_square + 1e-5) * gate[i] /
              (1 + std::exp(-gate[i]));
  }
  expect_near(gated_norm<double>(x, gate, weight, 1e-5), want);
}

TEST(Feed, InFp32StaysNearFp64) {
  // About 25 ops with up to 27 terms each lie between token and logits, so some 25 * sqrt(27) roundings of
  // 6e-8: 8e-6 relative rms. A norm of a vector that happens to be small amplifies what came before it: a
  // factor of ten for that.
  Random random(test::seed_of_test());
  const test::RandomModel random_model(test::small_config(), random);
  const model::Model& model = random_model.model();
  SequenceState<float> single = empty_state<float>(model.config);
  SequenceState<double> twice = empty_state<double>(model.config);
  double error = 0;
  double scale = 0;
  for (std::size_t i = 0; i < 60; ++i) {
    const auto token = static_cast<std::int32_t>(pick(random, 0, model.config.vocab_size - 1));
    const std::vector<float> got = logits<float>(model, feed(model, single, token));
    const std::vector<double> want = logits<double>(model, feed(model, twice, token));
    ASSERT_EQ(got.size(), model.config.vocab_size);
    for (std::size_t j = 0; j < want.size(); ++j) {
      error += std::pow(static_cast<double>(got[j]) - want[j], 2);
      scale += want[j] * want[j];
    }
  }
  EXPECT_LT(std::sqrt(error / scale), 8e-5);
  EXPECT_GT(std::sqrt(error / scale), 1e-9) << "fp32 was not fp32";
  EXPECT_EQ(single.length, 60U);
}

}  // namespace
}  // namespace sluice::oracle
