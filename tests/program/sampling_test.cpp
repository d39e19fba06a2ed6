// Risk: a token is chosen that must not be, or with the wrong probability, or not the same again.
#include "program/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support/seed.h"

namespace sluice::program {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_logits(std::mt19937_64& random, std::size_t n, float spread) {
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> logits(n);
  for (float& l : logits) l = normal(random);
  return logits;
}

// What may be chosen and how probable it is, in double and by the definitions: sort everything, no shortcuts.
struct Reference {
  std::vector<double> probability;  // [vocab]; 0: dropped
  bool close_call = false;          // a threshold within rounding distance: the set may rightly differ
};

Reference reference(const std::vector<float>& logits, std::size_t n_tokens, const Sampling& how) {
  std::vector<std::size_t> ids;
  for (std::size_t id = 0; id < std::min(n_tokens, logits.size()); ++id) {
    if (!std::isnan(logits[id]) && logits[id] != -kInfinity) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end(), [&](std::size_t a, std::size_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
  });
  Reference result{std::vector<double>(logits.size(), 0.0)};
  if (ids.empty()) return result;
  const auto weight = [&](std::size_t id) {
    return std::exp((static_cast<double>(logits[id]) - static_cast<double>(logits[ids[0]])) /
                    static_cast<double>(how.temperature));
  };
  const auto total = [&] {
    return std::accumulate(ids.begin(), ids.end(), 0.0,
                           [&](double sum, std::size_t id) { return sum + weight(id); });
  };
  if (how.top_k > 0 && how.top_k < ids.size()) ids.resize(how.top_k);
  if (how.top_p < 1.0F) {
    const double all = total();
    double sum = 0;
    std::size_t kept = 0;
    while (kept == 0 || (sum < static_cast<double>(how.top_p) && kept < ids.size())) {
      sum += weight(ids[kept++]) / all;
      if (std::abs(sum - static_cast<double>(how.top_p)) < 1e-5) result.close_call = true;
    }
    ids.resize(kept);
  }
  std::erase_if(ids, [&](std::size_t id) {
    if (how.min_p > 0.0F && std::abs(weight(id) - static_cast<double>(how.min_p)) < 1e-5)
      result.close_call = true;
    return weight(id) < static_cast<double>(how.min_p);
  });
  const double all = total();
  for (const std::size_t id : ids) result.probability[id] = weight(id) / all;
  return result;
}

// Chi-square at which a true null hypothesis is rejected with probability 1e-6 (z = 4.753), by Wilson and
// Hilferty's cube.
double critical_chi_square(std::size_t degrees) {
  const double k = static_cast<double>(degrees);
  const double root = 1.0 - 2.0 / (9.0 * k) + 4.753 * std::sqrt(2.0 / (9.0 * k));
  return k * root * root * root;
}

// Statistic over cells; those expected less than ten times are pooled.
void expect_distribution(const std::vector<std::size_t>& counts, const std::vector<double>& probability) {
  const double n = static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::size_t{0}));
  double chi_square = 0;
  double pooled_count = 0;
  double pooled_expected = 0;
  std::size_t cells = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double expected = n * probability[i];
    if (probability[i] == 0.0) {
      EXPECT_EQ(counts[i], 0U) << "token " << i << " was dropped and must not come";
    } else if (expected < 10) {
      pooled_count += static_cast<double>(counts[i]);
      pooled_expected += expected;
    } else {
      chi_square += std::pow(static_cast<double>(counts[i]) - expected, 2) / expected;
      ++cells;
    }
  }
  if (pooled_expected >= 10) {
    chi_square += std::pow(pooled_count - pooled_expected, 2) / pooled_expected;
    ++cells;
  }
  ASSERT_GE(cells, 2U);
  EXPECT_LT(chi_square, critical_chi_square(cells - 1)) << cells << " cells";
}

struct Setting {
  std::string name;
  float temperature;
  std::size_t top_k;
  float top_p;
  float min_p;
};

void PrintTo(const Setting& setting, std::ostream* out) {
  *out << setting.name;
}

class Distribution : public testing::TestWithParam<Setting> {};

TEST_P(Distribution, IsTheFilteredSoftmax) {
  const Setting& setting = GetParam();
  std::mt19937_64 random(
      20240229);  // fixed, and so is the sampler's seed: the outcome of this test is certain
  std::vector<float> logits = random_logits(random, 40, 2.0F);
  logits[7] = kNaN;
  logits[11] = -kInfinity;
  logits[5] = logits[6];
  const std::size_t n_tokens = 37;
  const Sampling how{setting.temperature, setting.top_k, setting.top_p, setting.min_p, 1234567};
  const Reference expected = reference(logits, n_tokens, how);
  ASSERT_FALSE(expected.close_call);

  std::vector<std::size_t> counts(logits.size(), 0);
  for (std::uint64_t draw = 0; draw < 200000; ++draw) {
    ++counts[static_cast<std::size_t>(sample(logits, n_tokens, how, draw))];
  }
  expect_distribution(counts, expected.probability);
}

INSTANTIATE_TEST_SUITE_P(
    Sampling, Distribution,
    testing::Values(Setting{"plain", 1.0F, 0, 1.0F, 0.0F}, Setting{"hot", 1.7F, 0, 1.0F, 0.0F},
                    Setting{"cold", 0.4F, 0, 1.0F, 0.0F}, Setting{"top_k", 1.0F, 6, 1.0F, 0.0F},
                    Setting{"top_p", 1.0F, 0, 0.8F, 0.0F}, Setting{"min_p", 1.0F, 0, 1.0F, 0.08F},
                    Setting{"top_k_then_top_p", 1.3F, 8, 0.9F, 0.0F}, Setting{"all", 1.5F, 12, 0.95F, 0.1F}),
    [](const auto& tested) { return tested.param.name; });

TEST(Sampling, DrawsAndSeedsAreIndependent) {
  // Four equal tokens, so 16 equally likely pairs: of one draw with the next, and of one seed with the next.
  const std::vector<float> logits(4, 0.25F);
  const auto token = [&](std::uint64_t seed, std::uint64_t draw) {
    return static_cast<std::size_t>(sample(logits, 4, {.temperature = 1.0F, .seed = seed}, draw));
  };
  std::vector<std::size_t> draws(16, 0);
  std::vector<std::size_t> seeds(16, 0);
  for (std::uint64_t i = 0; i < 100000; ++i) {
    ++draws[token(42, 2 * i) * 4 + token(42, 2 * i + 1)];
    ++seeds[token(2 * i, 3) * 4 + token(2 * i + 1, 3)];
  }
  expect_distribution(draws, std::vector<double>(16, 1.0 / 16));
  expect_distribution(seeds, std::vector<double>(16, 1.0 / 16));
}

TEST(Sampling, IsTheGumbelMaxOfTheDefinition) {
  // Differential: the same choice recomputed in double from Philox's words (checked by themselves), for
  // logits with ties and holes and every mix of settings. Skipped where rounding may decide.
  test::Random random(test::seed_of_test());
  const auto uniform = [&](double low, double high) {
    return std::uniform_real_distribution<>(low, high)(random);
  };
  int compared = 0;
  for (int round = 0; round < 3000; ++round) {
    const std::size_t n = 1 + random() % 600;  // beyond the first 64 that top-p sorts
    std::vector<float> logits = random_logits(random, n, static_cast<float>(uniform(0.1, 6)));
    for (float& l : logits) {
      if (random() % 8 == 0) l = logits[random() % n];
      if (random() % 16 == 0) l = random() % 2 == 0 ? kNaN : -kInfinity;
    }
    const Sampling how{static_cast<float>(uniform(0.05, 2.5)), random() % 2 == 0 ? 0 : random() % (n + 3),
                       random() % 2 == 0 ? 1.0F : static_cast<float>(uniform(0, 1)),
                       random() % 2 == 0 ? 0.0F : static_cast<float>(uniform(0, 0.3)), random()};
    const std::uint64_t draw = random();
    const std::size_t n_tokens = n - random() % std::min<std::size_t>(n, 5);

    const Reference expected = reference(logits, n_tokens, how);
    double best = -HUGE_VAL;
    double second = -HUGE_VAL;
    std::optional<std::int32_t> winner;
    for (std::size_t id = 0; id < n; ++id) {
      if (expected.probability[id] == 0.0) continue;
      const PhiloxBlock block =
          philox4x32_10({{static_cast<std::uint32_t>(id / 4), 0, static_cast<std::uint32_t>(draw),
                          static_cast<std::uint32_t>(draw >> 32U)}},
                        how.seed);
      const double u = (block.word[id % 4] + 0.5) / 4294967296.0;
      const double noisy =
          static_cast<double>(logits[id]) / static_cast<double>(how.temperature) - std::log(-std::log(u));
      second = std::max(second, std::min(noisy, best));
      if (noisy > best) best = noisy, winner = static_cast<std::int32_t>(id);
    }
    if (expected.close_call || best - second < 1e-3) continue;
    ++compared;
    ASSERT_EQ(try_sample(logits, n_tokens, how, draw), winner)
        << "round " << round << ", n " << n << ", T " << how.temperature << ", top_k " << how.top_k
        << ", top_p " << how.top_p << ", min_p " << how.min_p;
  }
  EXPECT_GT(compared, 2500);
}

TEST(Sampling, IsTheSameWhateverElseIsThere) {
  // Noise belongs to (seed, draw, token): tokens that can't win change nothing, nor do padding rows.
  std::mt19937_64 random(7);
  std::vector<float> logits = random_logits(random, 100, 1.0F);
  for (std::uint64_t draw = 0; draw < 200; ++draw) {
    const Sampling how{.temperature = 1.0F, .seed = 99};
    const std::int32_t token = sample(logits, 100, how, draw);
    std::vector<float> padded = logits;
    padded.resize(250, 50.0F);
    EXPECT_EQ(sample(padded, 100, how, draw), token);
    std::vector<float> alone(100, -kInfinity);
    const std::size_t rival = static_cast<std::size_t>((token + 1) % 100);
    alone[static_cast<std::size_t>(token)] = logits[static_cast<std::size_t>(token)];
    alone[rival] = logits[rival];
    EXPECT_EQ(sample(alone, 100, how, draw), token);
  }
}

TEST(Greedy, TakesTheLowestOfTheLargest) {
  const Sampling greedy;
  EXPECT_EQ(sample(std::vector<float>{1, 3, 2, 3}, 4, greedy, 0), 1);
  EXPECT_EQ(sample(std::vector<float>{kNaN, -5, kNaN, -5}, 4, greedy, 9), 1);
  EXPECT_EQ(sample(std::vector<float>{-kInfinity, -1e38F, kNaN}, 3, greedy, 0), 1);
  EXPECT_EQ(sample(std::vector<float>{0, kInfinity, kInfinity, 1}, 4, greedy, 0), 1);
  EXPECT_EQ(sample(std::vector<float>{1, 2, 3, 4}, 2, greedy, 0), 1) << "padding rows";
}

TEST(Sampling, ColdIsGreedyAndNeverOverflows) {
  std::mt19937_64 random(11);
  for (const float temperature : {1e-45F, 1e-30F, 9e-6F, 1e-5F}) {
    for (std::uint64_t draw = 0; draw < 50; ++draw) {
      const std::vector<float> logits = random_logits(random, 64, 1000.0F);
      EXPECT_EQ(sample(logits, 64, {.temperature = temperature, .seed = draw}, draw),
                sample(logits, 64, {}, 0));
    }
  }
}

TEST(Sampling, OneCandidateIsTheLargest) {
  std::mt19937_64 random(12);
  for (std::uint64_t draw = 0; draw < 100; ++draw) {
    std::vector<float> logits = random_logits(random, 300, 1.0F);
    logits[draw] = logits[draw + 50] = 9.0F;  // a tie at the border: the lower id ranks first
    const auto token = static_cast<std::int32_t>(draw);
    EXPECT_EQ(sample(logits, 300, {.temperature = 5.0F, .top_k = 1, .seed = draw}, draw), token);
    EXPECT_EQ(sample(logits, 300, {.temperature = 5.0F, .top_p = 0.0F, .seed = draw}, draw), token);
  }
}

TEST(Sampling, MinPKeepsWhatEqualsTheThreshold) {
  const std::vector<float> logits{2.0F, 1.0F, 2.0F};
  std::vector<std::size_t> counts(3, 0);
  for (std::uint64_t draw = 0; draw < 1000; ++draw) {
    ++counts[static_cast<std::size_t>(sample(logits, 3, {.temperature = 1.0F, .min_p = 1.0F}, draw))];
  }
  expect_distribution(counts, {0.5, 0.0, 0.5});
}

// Sums of equal probabilities reach these shares exactly: not one token more is kept.
TEST(Sampling, TopPKeepsTheSmallestSetThatReachesIt) {
  const std::vector<float> logits(8, 3.0F);
  for (const std::size_t kept : {2U, 4U, 7U, 8U}) {
    const Sampling how{.temperature = 1.0F, .top_p = static_cast<float>(kept) / 8.0F};
    std::vector<std::size_t> counts(8, 0);
    for (std::uint64_t draw = 0; draw < 4000; ++draw)
      ++counts[static_cast<std::size_t>(sample(logits, 8, how, draw))];
    std::vector<double> want(8, 0.0);
    std::fill_n(want.begin(), kept, 1.0 / static_cast<double>(kept));
    expect_distribution(counts, want);
  }
}

TEST(Sampling, NothingToChooseIsAnError) {
  for (const float temperature : {0.0F, 1.0F}) {
    const Sampling how{.temperature = temperature, .top_k = 3, .top_p = 0.5F, .min_p = 0.1F};
    for (const std::vector<float>& logits : {std::vector<float>{}, std::vector<float>{kNaN, -kInfinity, kNaN},
                                             std::vector<float>(5, -kInfinity)}) {
      EXPECT_EQ(try_sample(logits, logits.size(), how, 0), std::nullopt);
      EXPECT_THROW(sample(logits, logits.size(), how, 0), Error);
    }
    EXPECT_EQ(try_sample(std::vector<float>{1, 2}, 0, how, 0), std::nullopt) << "no real tokens";
  }
}

TEST(ApplyEdits, DividesOrMultipliesThenAdds) {
  std::vector<float> logits{4.0F, -4.0F, 0.0F, 1.5F, 2.0F};
  const std::vector<LogitEdit> edits{
      {0, 2.0F, -1.0F}, {1, 2.0F, -1.0F}, {2, 2.0F, 0.5F}, {4, 1.0F, -kInfinity}};
  apply_edits(logits, edits);
  EXPECT_THAT(logits, testing::ElementsAre(1.0F, -9.0F, 0.5F, 1.5F, -kInfinity));
}

TEST(ValidateSampling, NamesTheField) {
  const auto message = [](const Sampling& how) -> std::string {
    try {
      validate(how, "request");
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(message({}), "accepted");
  EXPECT_EQ(message({.temperature = 2.0F, .top_k = 20, .top_p = 0.0F, .min_p = 1.0F}), "accepted");
  for (const float bad : {-1.0F, kNaN, kInfinity}) {
    EXPECT_THAT(message({.temperature = bad}), testing::StartsWith("temperature is "));
    EXPECT_THAT(message({.top_p = bad}), testing::StartsWith("top_p is "));
    EXPECT_THAT(message({.min_p = bad}),
                testing::AllOf(testing::StartsWith("min_p is "), testing::HasSubstr("(request)")));
  }
}

}  // namespace
}  // namespace sluice::program
