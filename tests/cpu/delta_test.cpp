// The delta rule of long spans, chunk by chunk, on every table of kernels: against the recurrence in fp64, and cut at random
// against itself row by row.
//
// Bounds. Unit keys and β, decay <= 1 make a row's rule a contraction of the state, so the errors of earlier rows don't grow; what
// counts are the roundings on the way of one chunk, relative to what is rounded.
// - fp32: the longest sums have key_dim and `chunk` terms, u = 2^-24 each.
// - bf16: K, Q, S, E ⊙ Q Kᵀ and V' (twice) are rounded, K where it predicts and where it updates: 7 roundings of at most 2^-9, as if
//   all had the same sign. They come to a third of that or less, for most of their signs differ.
// A chunk's lost row, a wrong decay or a missing mask is off by a tenth and more.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cpu/delta_chunk.h"
#include "cpu/kernels.h"
#include "oracle/ops.h"
#include "tests/cpu/devices.h"
#include "tests/support/golden.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using test::pick;
using test::Random;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::size_t kBehind = 20;  // elements behind each operand

struct Span {
  std::size_t rows, key_dim, value_dim;
  std::vector<float> query, key, value, decay, beta;
  std::vector<float> state;  // [key_dim, value_dim] before it
};

struct Result {
  std::vector<float> out;
  std::vector<float> state;
  double out_scale = 0;  // root of the squares of all terms q_d S_dc that are summed to `out`
};

// How a span's rows are drawn.
enum class Kind : std::uint8_t {
  kUsual,         // decays near 1, as models have them
  kStrongDecay,   // decays down to 1e-30, many of them 0: exp of a large negative number
  kExtremeBetas,  // 0, 1 and almost these
  kTinyNorms,     // keys and queries that the norm's epsilon keeps small, some of them 0
  kSameKeys,      // few different keys, so that rows overwrite each other's values
};
constexpr Kind kKinds[] = {Kind::kUsual, Kind::kStrongDecay, Kind::kExtremeBetas, Kind::kTinyNorms,
                           Kind::kSameKeys};

float draw_decay(Random& random, Kind kind) {
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  if (kind != Kind::kStrongDecay) return 1.0F - 0.05F * uniform(random) * uniform(random);
  if (pick(random, 0, 3) == 0) return 0.0F;
  return std::exp(-70.0F * uniform(random) * uniform(random) * uniform(random));
}

float draw_beta(Random& random, Kind kind) {
  std::uniform_real_distribution<float> uniform(0.0F, 1.0F);
  if (kind == Kind::kSameKeys) return 1.0F - 0.3F * uniform(random);
  if (kind != Kind::kExtremeBetas) return uniform(random);
  constexpr float kExtremes[] = {0.0F, 1e-30F, 1e-6F, 1.0F - 1e-6F, 1.0F};
  return kExtremes[pick(random, 0, std::size(kExtremes) - 1)];
}

void draw_rows(Random& random, Kind kind, std::size_t rows, std::size_t n, std::vector<float>& out) {
  std::normal_distribution<float> normal;
  for (std::size_t row = 0; row < rows; ++row) {
    const std::span<float> values = std::span(out).subspan(row * n, n);
    if (kind == Kind::kSameKeys && row > 3) {
      std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(pick(random, 0, 3) * n), n, values.begin());
      continue;
    }
    const std::size_t size = kind == Kind::kTinyNorms ? pick(random, 0, 3) : 0;
    const bool is_zero = size == 3 && row > 0;  // not all rows
    for (float& x : values) x = normal(random) * (is_zero ? 0.0F : std::pow(1e-4F, static_cast<float>(size)));
    oracle::l2_normalize<float>(values);
  }
}

Span draw_span(Random& random, Kind kind, std::size_t rows, std::size_t key_dim, std::size_t value_dim) {
  Span span{rows, key_dim, value_dim, {}, {}, {}, {}, {}, {}};
  std::normal_distribution<float> normal;
  span.query.assign(rows * key_dim + kBehind, kNaN);
  span.key = span.query;
  span.value.assign(rows * value_dim + kBehind, kNaN);
  span.state.assign(key_dim * value_dim + kBehind, kNaN);
  draw_rows(random, kind == Kind::kSameKeys ? Kind::kUsual : kind, rows, key_dim, span.query);
  draw_rows(random, kind, rows, key_dim, span.key);
  std::generate_n(span.value.begin(), rows * value_dim, [&] { return normal(random); });
  std::generate_n(span.state.begin(), key_dim * value_dim, [&] { return normal(random); });
  for (std::size_t row = 0; row < rows; ++row) {
    span.decay.push_back(draw_decay(random, kind));
    span.beta.push_back(draw_beta(random, kind));
  }
  return span;
}

std::string describe(const Span& span, Kind kind) {
  return fmt::format("{} rows of {} x {}, kind {}", span.rows, span.key_dim, span.value_dim,
                     static_cast<int>(kind));
}

// The recurrence in fp64, which keeps the state transposed and takes the decay's logarithm: -1e4 for 0, of which it is 0.
Result recurrence(const Span& span) {
  const std::size_t n_keys = span.key_dim;
  const std::size_t n_values = span.value_dim;
  std::vector<double> state(n_keys * n_values);
  for (std::size_t i = 0; i < state.size(); ++i)
    state[i % n_values * n_keys + i / n_values] = static_cast<double>(span.state[i]);
  Result result;
  const auto row_of = [](const std::vector<float>& x, std::size_t row, std::size_t n) {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(row * n);
    return std::vector<double>(begin, begin + static_cast<std::ptrdiff_t>(n));
  };
  for (std::size_t row = 0; row < span.rows; ++row) {
    const double g = span.decay[row] == 0.0F ? -1e4 : std::log(static_cast<double>(span.decay[row]));
    const std::vector<double> query = row_of(span.query, row, n_keys);
    const std::vector<double> key = row_of(span.key, row, n_keys);
    const std::vector<double> value = row_of(span.value, row, n_values);
    const std::vector<double> out =
        oracle::delta_rule_step<double>(state, query, key, value, g, static_cast<double>(span.beta[row]));
    result.out.insert(result.out.end(), out.begin(), out.end());
    for (std::size_t i = 0; i < state.size(); ++i)
      result.out_scale += std::pow(query[i % n_keys] * state[i], 2);
  }
  result.out_scale = std::sqrt(result.out_scale);
  for (std::size_t i = 0; i < state.size(); ++i)
    result.state.push_back(static_cast<float>(state[i % n_values * n_keys + i / n_values]));
  return result;
}

// Errors of the sums relative to the size of their terms, for a query may happen to be at right angles to all that is stored.
double error_of_out(const Result& got, const Result& want, double scale) {
  EXPECT_EQ(got.out.size(), want.out.size());
  double error = 0;
  for (std::size_t i = 0; i < want.out.size(); ++i)
    error += std::pow(static_cast<double>(got.out[i]) - static_cast<double>(want.out[i]), 2);
  return std::sqrt(error) / scale;
}

double error_of_state(const Result& got, const Result& want) {
  return test::relative_rms<float>(got.state, want.state);
}

class Delta : public testing::TestWithParam<const Kernels*> {
 protected:
  // Rows [begin, end) as a long span of their own, or as a short one; `state` before and after.
  void run(const Span& span, std::size_t begin, std::size_t end, bool is_long, Result& result) {
    const std::size_t most = is_long ? DeltaChunk::max_rows(k_) : span.rows;
    for (std::size_t first = begin; first < end; first += most) {
      const std::size_t rows = std::min(most, end - first);
      const float* query = span.query.data() + first * span.key_dim;
      const float* key = span.key.data() + first * span.key_dim;
      const float* value = span.value.data() + first * span.value_dim;
      std::vector<float> out(rows * span.value_dim + kBehind, kNaN);
      std::vector<float> products(rows, kNaN);
      if (is_long) {
        DeltaChunk chunk(k_, span.key_dim, span.value_dim, scratch_);
        chunk.set_keys(query, key, rows);
        chunk.run(value, span.decay.data() + first, span.beta.data() + first, result.state.data(),
                  out.data());
      } else {
        k_.delta_rule(result.state.data(), query, key, value, span.decay.data() + first,
                      span.beta.data() + first, rows, span.key_dim, span.value_dim, products.data(),
                      out.data());
      }
      const auto behind = out.begin() + static_cast<std::ptrdiff_t>(rows * span.value_dim);
      EXPECT_TRUE(std::all_of(behind, out.end(), [](float x) { return std::isnan(x); }));
      result.out.insert(result.out.end(), out.begin(), behind);
    }
  }

  Result run_pieces(const Span& span, const std::vector<std::size_t>& pieces) {
    Result result{{}, span.state, 0};
    std::size_t begin = 0;
    for (const std::size_t n : pieces) {
      run(span, begin, begin + n, n > program::kMaxShortSpan, result);
      begin += n;
    }
    return without_poison(result, span);
  }

  Result run_whole(const Span& span) {
    Result result{{}, span.state, 0};
    run(span, 0, span.rows, true, result);
    return without_poison(result, span);
  }

  double bound(const Span& span) const {
    if (k_.activations == ActivationType::kBF16) return kDeltaRoundings;
    return static_cast<double>(span.key_dim + DeltaChunk::max_rows(k_)) * 0x1p-24;
  }

  std::vector<std::size_t> lengths() const {
    if (is_emulated(k_) || kIsSanitized) return {1, 9, 17, 33, 65};
    std::vector<std::size_t> all;
    for (std::size_t n = 1; n <= 17; ++n) all.push_back(n);
    all.insert(all.end(), {31, 32, 33, 63, 64, 65, 511, 513, 521});
    return all;
  }

  Span draw(Kind kind, std::size_t rows) {
    const bool is_whole = pick(random_, 0, 2) == 0;  // multiples of 16 take other ways here and there
    const std::size_t key_dim = is_whole ? 16 * pick(random_, 1, 8) : pick(random_, 8, 140);
    const std::size_t value_dim = is_whole ? 16 * pick(random_, 1, 8) : pick(random_, 3, 140);
    return draw_span(random_, kind, rows, key_dim, value_dim);
  }

  Random random_{test::seed_of_test()};
  const Kernels& k_ = *GetParam();
  DeltaScratch scratch_;

 private:
  static Result without_poison(Result result, const Span& span) {
    const auto behind = result.state.begin() + static_cast<std::ptrdiff_t>(span.key_dim * span.value_dim);
    EXPECT_TRUE(std::all_of(behind, result.state.end(), [](float x) { return std::isnan(x); }));
    result.state.erase(behind, result.state.end());
    return result;
  }
};

TEST_P(Delta, ChunksAreTheRecurrence) {
  double worst = 0;
  for (const std::size_t rows : lengths()) {
    for (const Kind kind : kKinds) {
      const Span span = draw(kind, rows);
      const Result want = recurrence(span);
      const Result got = run_whole(span);
      const double out = error_of_out(got, want, want.out_scale) / bound(span);
      const double state = error_of_state(got, want) / bound(span);
      EXPECT_LT(out, 1) << describe(span, kind);
      EXPECT_LT(state, 1) << describe(span, kind);
      worst = std::max({worst, out, state});
    }
  }
  RecordProperty("worst", fmt::format("{:.2f} of the bound", worst));
}

// A prompt in any pieces, short ones row by row, is the prompt row by row: twice the bound, for each side has its error.
TEST_P(Delta, PiecesAreTheRows) {
  for (const std::size_t rows : lengths()) {
    for (const Kind kind : kKinds) {
      const Span span = draw(kind, rows);
      const Result want = run_pieces(span, std::vector<std::size_t>(rows, 1));
      const std::vector<std::size_t> pieces = random_pieces(random_, rows, pick(random_, 1, rows));
      const Result got = run_pieces(span, pieces);
      const std::string what = describe(span, kind) + ", " + testing::PrintToString(pieces);
      EXPECT_LT(error_of_out(got, want, recurrence(span).out_scale), 2 * bound(span)) << what;
      EXPECT_LT(error_of_state(got, want), 2 * bound(span)) << what;
    }
  }
}

// Rows of zeros that keep the state leave all bits as they are, and so do later rows those of earlier ones.
TEST_P(Delta, LaterRowsChangeNothing) {
  for (int i = 0; i < 20; ++i) {
    Span span = draw(kKinds[pick(random_, 0, 4)], DeltaChunk::max_rows(k_));
    const std::size_t kept = pick(random_, 1, span.rows);
    Result want{{}, span.state, 0};
    run(span, 0, kept, true, want);
    const std::vector<float> with_others = run_whole(span).out;
    const auto fill_rest = [&](std::vector<float>& x, std::size_t n, float value) {
      std::fill(x.begin() + static_cast<std::ptrdiff_t>(kept * n),
                x.begin() + static_cast<std::ptrdiff_t>(span.rows * n), value);
    };
    fill_rest(span.query, span.key_dim, 0.0F);
    fill_rest(span.key, span.key_dim, 0.0F);
    fill_rest(span.value, span.value_dim, 0.0F);
    fill_rest(span.beta, 1, 0.0F);
    fill_rest(span.decay, 1, 1.0F);
    const Result padded = run_whole(span);
    const auto n = static_cast<std::ptrdiff_t>(want.out.size());
    EXPECT_TRUE(std::equal(want.out.begin(), want.out.end(), with_others.begin()))
        << kept << " of " << span.rows;
    EXPECT_TRUE(std::equal(want.out.begin(), want.out.end(), padded.out.begin()))
        << kept << " of " << span.rows;
    EXPECT_TRUE(std::all_of(padded.out.begin() + n, padded.out.end(), [](float x) { return x == 0.0F; }));
    EXPECT_TRUE(std::equal(padded.state.begin(), padded.state.end(), want.state.begin())) << kept;
  }
}

// V heads that share a K head: what one leaves in the scratch memory doesn't reach the next.
TEST_P(Delta, HeadsShareTheirKeys) {
  const Span span = draw(Kind::kUsual, pick(random_, 1, DeltaChunk::max_rows(k_)));
  Span other = draw_span(random_, Kind::kStrongDecay, span.rows, span.key_dim, span.value_dim);
  other.query = span.query;
  other.key = span.key;
  DeltaChunk chunk(k_, span.key_dim, span.value_dim, scratch_);
  chunk.set_keys(span.query.data(), span.key.data(), span.rows);
  for (const Span* head : std::vector<const Span*>{&span, &other, &span}) {
    Result got{std::vector<float>(span.rows * span.value_dim), head->state, 0};
    chunk.run(head->value.data(), head->decay.data(), head->beta.data(), got.state.data(), got.out.data());
    got.state.resize(span.key_dim * span.value_dim);
    const Result want = run_whole(*head);
    EXPECT_TRUE(got.out == want.out && got.state == want.state);
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, Delta, testing::ValuesIn(all_tables()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace sluice::cpu
