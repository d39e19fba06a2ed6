// The oracle against Hugging Face transformers in fp32, on every golden checkpoint: whole prompts, token by token,
// split anywhere, and beside other sequences.
//
// Tolerance. Let u = 2^-24. Summing n terms of random sign one after the other gives a relative rms error of
// about 0.4 u sqrt(n / 2): n roundings, of rms 0.4 u each, of partial sums that grow as a square root. The longest
// sum has n = 1024 (out-projection of head256): 5.4e-7. A row passes through 2 L <= 12 blocks of four chained
// sums each (norm, projection, mixer, out-projection), whose errors add up independently: a factor sqrt(48) = 7,
// 3.7e-6. Softmax scores of size 4 and the delta rule's state, which feeds errors back, double that at most:
// 7.5e-6 for one side computed in fp32, sqrt(2) times that, 1e-5, for the difference of two. golden_mutation_test.cpp
// shows that every mistake worth the name is at least ten times as large.
#include "tests/support/golden.h"

#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "model/weights.h"
#include "oracle/backend.h"
#include "oracle/oracle.h"
#include "tests/support/seed.h"

namespace sluice {
namespace {

using test::golden_prompts;
using test::GoldenPrompt;
using test::relative_rms;

constexpr double kTolerance = 1e-5;         // fp32 against fp32
constexpr double kReferenceError = 7.5e-6;  // fp64 against fp32: transformers' share alone
constexpr std::size_t kContext = 160;

using Pieces = std::vector<std::size_t>;  // lengths, in order

// All 2^(n-1) ways to cut n tokens.
std::vector<Pieces> every_split(std::size_t n) {
  std::vector<Pieces> splits;
  for (std::size_t cuts = 0; cuts < std::size_t{1} << (n - 1); ++cuts) {
    Pieces pieces{1};
    for (std::size_t i = 1; i < n; ++i) {
      if ((cuts >> (i - 1) & 1U) != 0) pieces.push_back(0);
      ++pieces.back();
    }
    splits.push_back(pieces);
  }
  return splits;
}

// Token by token, one cut, and cuts at random places.
std::vector<Pieces> some_splits(std::size_t n, test::Random& random) {
  const std::size_t cut = test::pick(random, 1, n - 1);
  std::vector<Pieces> splits{Pieces(n, 1), {cut, n - cut}, {}};
  for (std::size_t left = n; left > 0; left -= splits.back().back())
    splits.back().push_back(test::pick(random, 1, std::min<std::size_t>(left, 40)));
  return splits;
}

program::Step step_of(const std::vector<program::Span>& spans, std::vector<std::int32_t> tokens) {
  program::Step step{.tokens = std::move(tokens), .spans = spans, .outputs = {}};
  for (std::size_t row = 0; row < step.tokens.size(); ++row)
    step.outputs.push_back({.row = row, .return_logits = true, .choice = {}});
  return step;
}

std::vector<std::int32_t> slice(const std::vector<std::int32_t>& tokens, std::size_t first, std::size_t n) {
  const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first);
  return {begin, begin + static_cast<std::ptrdiff_t>(n)};
}

// Logits [T, vocab] of a prompt that is fed to an emptied slot 0 in pieces.
std::vector<float> run(program::Backend& backend, const std::vector<std::int32_t>& tokens,
                       const Pieces& pieces) {
  backend.reset(0);
  std::vector<float> logits;
  std::size_t position = 0;
  for (const std::size_t n : pieces) {
    const program::Span span{.slot = 0, .position = position, .first_row = 0, .n_rows = n};
    const auto result = backend.run(step_of({span}, slice(tokens, position, n)));
    logits.insert(logits.end(), result.logits.begin(), result.logits.end());
    position += n;
  }
  return logits;
}

// The same through oracle::feed, in T.
template <typename T>
std::vector<T> feed_all(const model::Model& model, const std::vector<std::int32_t>& tokens) {
  auto state = oracle::empty_state<T>(model.config);
  std::vector<T> all;
  for (const std::int32_t token : tokens) {
    const std::vector<T> hidden = oracle::feed<T>(model, state, token);
    const std::vector<T> logits = oracle::logits<T>(model, hidden);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

// All together, each row, and the most likely token of each row where the runner-up is too far away for the tolerance
// to explain a change (an element's error stays below eight times its rms).
template <typename T>
void expect_close(const std::vector<T>& got, const GoldenPrompt& want, double tolerance) {
  const double error = relative_rms<T>(got, want.logits.values);
  ::testing::Test::RecordProperty("relative_rms_of_" + std::to_string(want.tokens.size()),
                                  fmt::format("{:.1e}", error));
  EXPECT_LE(error, tolerance);
  const std::size_t vocab = want.logits.shape.at(1);
  for (std::size_t row = 0; row < want.tokens.size(); ++row) {
    const auto got_row = std::span<const T>(got).subspan(row * vocab, vocab);
    const auto want_row = std::span<const float>(want.logits.values).subspan(row * vocab, vocab);
    EXPECT_LE(relative_rms(got_row, want_row), 3 * tolerance) << "row " << row;

    const auto first = std::max_element(want_row.begin(), want_row.end());
    double runner_up = -std::numeric_limits<double>::infinity();
    double square = 0;
    for (auto it = want_row.begin(); it != want_row.end(); ++it) {
      if (it != first) runner_up = std::max(runner_up, static_cast<double>(*it));
      square += static_cast<double>(*it) * static_cast<double>(*it);
    }
    const double rms = std::sqrt(square / static_cast<double>(vocab));
    if (static_cast<double>(*first) - runner_up <= 2 * 8 * tolerance * rms) continue;
    EXPECT_EQ(std::max_element(got_row.begin(), got_row.end()) - got_row.begin(), first - want_row.begin())
        << "row " << row;
  }
}

class Golden : public ::testing::TestWithParam<std::string> {
 protected:
  model::Model model_ = model::load_model(test::golden_folder(GetParam()));
  std::vector<GoldenPrompt> prompts_ = golden_prompts(GetParam());
};

TEST_P(Golden, Fp64GivesTransformersLogits) {
  for (const GoldenPrompt& prompt : prompts_) {
    SCOPED_TRACE(std::to_string(prompt.tokens.size()) + " tokens");
    expect_close(feed_all<double>(model_, prompt.tokens), prompt, kReferenceError);
  }
}

TEST_P(Golden, Fp32GivesTransformersLogitsWhateverTheSplit) {
  test::Random random(test::seed_of_test());
  const auto backend = oracle::make_backend(model_, 1, kContext);
  for (const GoldenPrompt& prompt : prompts_) {
    const std::size_t n = prompt.tokens.size();
    SCOPED_TRACE(std::to_string(n) + " tokens");
    const std::vector<float> whole = run(*backend, prompt.tokens, {n});
    expect_close(whole, prompt, kTolerance);
    EXPECT_TRUE(same_bits(feed_all<float>(model_, prompt.tokens), whole));
    for (const Pieces& pieces : n <= 5 ? every_split(n) : some_splits(n, random))
      EXPECT_TRUE(same_bits(run(*backend, prompt.tokens, pieces), whole)) << ::testing::PrintToString(pieces);
  }
}

// Each step holds a random piece of some of the prompts, in random order: no row may notice.
TEST_P(Golden, RowsDoNotNoticeTheirNeighbours) {
  test::Random random(test::seed_of_test());
  const std::size_t vocab = model_.config.vocab_size;
  const auto backend = oracle::make_backend(model_, prompts_.size(), kContext);
  std::vector<std::size_t> fed(prompts_.size(), 0);
  std::vector<std::size_t> order(prompts_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::vector<std::vector<float>> logits(prompts_.size());

  for (bool all_fed = false; !all_fed;) {
    std::shuffle(order.begin(), order.end(), random);
    std::vector<program::Span> spans;
    std::vector<std::int32_t> tokens;
    all_fed = true;
    for (const std::size_t slot : order) {
      const std::vector<std::int32_t>& prompt = prompts_[slot].tokens;
      const std::size_t left = prompt.size() - fed[slot];
      if (left == 0) continue;
      all_fed = false;
      if (test::pick(random, 0, 2) == 0) continue;
      const std::size_t n = test::pick(random, 1, std::min<std::size_t>(left, 30));
      spans.push_back({.slot = slot, .position = fed[slot], .first_row = tokens.size(), .n_rows = n});
      const auto piece = slice(prompt, fed[slot], n);
      tokens.insert(tokens.end(), piece.begin(), piece.end());
      fed[slot] += n;
    }
    if (spans.empty()) continue;
    const std::vector<float> result = backend->run(step_of(spans, tokens)).logits;
    ASSERT_EQ(result.size(), tokens.size() * vocab);
    for (const program::Span& span : spans) {
      const auto begin = result.begin() + static_cast<std::ptrdiff_t>(span.first_row * vocab);
      auto& mine = logits[span.slot];
      mine.insert(mine.end(), begin, begin + static_cast<std::ptrdiff_t>(span.n_rows * vocab));
    }
  }
  for (std::size_t i = 0; i < prompts_.size(); ++i)
    EXPECT_TRUE(same_bits(logits[i], feed_all<float>(model_, prompts_[i].tokens))) << "prompt " << i;
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, ::testing::ValuesIn(test::golden_cases()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sluice
