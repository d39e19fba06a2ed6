// What a screened head leaves out decides nothing: from bounds as loose as may be, the panels that are kept give the token that
// all logits give.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "program/sampling.h"
#include "program/screening.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace sluice::program {
namespace {

using test::pick;
using test::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Bounds {
  std::vector<float> lower, logits, upper;
};

float uniform(Random& random, float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(random);
}

// Flat, peaked, with ties, huge, tiny. Bounds that hold exactly, loosely, on one side, or say nothing; NaN only where they do.
Bounds random_bounds(Random& random, std::size_t n) {
  const float sizes[] = {1e-3F, 1.0F, 1.0F, 8.0F, 8.0F, 30.0F, 1e30F, 1e-35F};
  const float slacks[] = {0.0F, 1e-4F, 0.1F, 0.5F, 4.0F};
  const float size = sizes[pick(random, 0, 7)];
  const float slack = size * slacks[pick(random, 0, 4)];
  const bool has_ties = pick(random, 0, 3) == 0;
  const bool has_unknown = pick(random, 0, 9) == 0;
  Bounds bounds;
  for (std::size_t i = 0; i < n; ++i) {
    float logit = size * uniform(random, -1, 1);
    if (has_ties) logit = size * std::round(logit / size * 2);
    float lower = logit;
    float upper = logit;
    if (pick(random, 0, 3) != 0) lower -= slack * uniform(random, 0, 1);
    if (pick(random, 0, 3) != 0) upper += slack * uniform(random, 0, 1);
    if (has_unknown && pick(random, 0, 7) == 0) {
      lower = -kInfinity;
      upper = kInfinity;
      const float any[] = {logit, std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity};
      logit = any[pick(random, 0, 3)];
    }
    bounds.lower.push_back(lower);
    bounds.logits.push_back(logit);
    bounds.upper.push_back(upper);
  }
  return bounds;
}

// Penalties, biases and masks: of few tokens, of all but a few, of none.
std::vector<LogitEdit> random_edits(Random& random, std::size_t n) {
  std::vector<LogitEdit> edits;
  const std::size_t kind = pick(random, 0, 3);
  if (kind == 0) return edits;
  for (std::int32_t token = 0; token < static_cast<std::int32_t>(n); ++token) {
    if (kind == 1 && pick(random, 0, 15) == 0) edits.push_back({token, 1.3F, -1.5F});
    if (kind == 2 && pick(random, 0, 7) == 0)
      edits.push_back({token, 0.8F, pick(random, 0, 1) == 0 ? -kInfinity : 2.5F});
    if (kind == 3 && pick(random, 0, 31) != 0) edits.push_back({token, 1.0F, -kInfinity});
  }
  return edits;
}

Choice random_choice(Random& random, std::size_t n) {
  const float temperatures[] = {0.0F, 1e-5F, 0.3F, 0.7F, 1.0F, 3.0F};
  Choice choice;
  choice.sampling.temperature = temperatures[pick(random, 0, 5)];
  if (pick(random, 0, 1) == 0) choice.sampling.top_k = pick(random, 1, pick(random, 0, 1) == 0 ? 3 : n + 1);
  if (pick(random, 0, 2) == 0) choice.sampling.top_p = uniform(random, 0, 1);
  const float shares[] = {0.0F, 0.0F, 1e-40F, 1e-20F, 0.05F, 0.5F, 1.0F};
  choice.sampling.min_p = shares[pick(random, 0, 6)];
  choice.sampling.seed = random();
  choice.draw = random();
  choice.n_tokens = pick(random, 0, 3) == 0 ? pick(random, 1, n) : n;
  choice.edits = random_edits(random, n);
  return choice;
}

void edit(const Choice& choice, std::span<float> logits) {
  apply_edits(logits, choice.edits);
  std::fill(logits.begin() + static_cast<std::ptrdiff_t>(choice.n_tokens), logits.end(), -kInfinity);
}

// -1 for none. Tiles of `panels` panels each, as a screened head cuts its columns.
std::int32_t chosen_by_screening(Bounds bounds, const Choice& choice, ScreenRule rule,
                                 std::size_t tile_panels, std::size_t& n_kept) {
  const std::size_t n = bounds.logits.size();
  for (std::vector<float>* values : {&bounds.lower, &bounds.logits, &bounds.upper}) edit(choice, *values);
  std::vector<float> floors(screen_panels(n));
  std::vector<float> ceilings(floors.size());
  for (std::size_t panel = 0; panel < floors.size(); panel += tile_panels) {
    const std::size_t n_panels = std::min(tile_panels, floors.size() - panel);
    const std::size_t begin = panel * kScreenPanel;
    const std::size_t size = std::min(n_panels * kScreenPanel, n - begin);
    panel_bounds(rule, choice, static_cast<std::uint32_t>(begin),
                 std::span(bounds.lower).subspan(begin, size), std::span(bounds.upper).subspan(begin, size),
                 std::span(floors).subspan(panel, n_panels), std::span(ceilings).subspan(panel, n_panels));
  }
  const float threshold = screen_threshold(rule, choice.sampling, floors);
  n_kept = 0;
  std::vector<std::uint32_t> ends;
  std::vector<float> best;
  for (std::size_t panel = 0; panel < floors.size(); ++panel) {
    const std::size_t begin = panel * kScreenPanel;
    const std::size_t end = std::min(begin + kScreenPanel, n);
    ends.push_back(static_cast<std::uint32_t>(end));
    best.push_back(-kInfinity);
    if (!reaches(ceilings[panel], threshold)) {  // poisoned: nobody may look there
      std::fill_n(bounds.logits.begin() + static_cast<std::ptrdiff_t>(begin), end - begin, 1e38F);
      continue;
    }
    ++n_kept;
    for (std::size_t i = begin; i < end; ++i) best.back() = std::fmax(best.back(), bounds.logits[i]);
  }
  return try_sample(bounds.logits, choice.n_tokens, choice.sampling, choice.draw, ends, best).value_or(-1);
}

// A million draws.
TEST(Screening, ChoosesWhatAllLogitsChoose) {
  Random random(test::seed_of_test());
  const int n_draws = test::kIsSanitized ? 20000 : 1000000;
  std::map<ScreenRule, std::size_t> draws;
  std::map<ScreenRule, std::size_t> saved;  // in which some panel was left out
  for (int draw = 0; draw < n_draws;) {
    const std::size_t n = pick(random, 1, 100);
    const Bounds bounds = random_bounds(random, n);
    for (int i = 0; i < 8; ++i) {
      const Choice choice = random_choice(random, n);
      const auto rule = screen_rule(choice, n);
      if (!rule) continue;
      ++draw;
      ++draws[*rule];
      std::size_t n_kept = 0;
      const std::int32_t got = chosen_by_screening(bounds, choice, *rule, pick(random, 1, 4), n_kept);
      if (n_kept < screen_panels(n)) ++saved[*rule];
      std::vector<float> logits = bounds.logits;
      edit(choice, logits);
      const std::int32_t want =
          try_sample(logits, choice.n_tokens, choice.sampling, choice.draw).value_or(-1);
      ASSERT_EQ(got, want) << "rule " << static_cast<int>(*rule) << ", " << n << " logits, temperature "
                           << choice.sampling.temperature << ", top_k " << choice.sampling.top_k << ", top_p "
                           << choice.sampling.top_p << ", min_p " << choice.sampling.min_p;
    }
  }
  for (const ScreenRule rule :
       {ScreenRule::kGreedy, ScreenRule::kTopK, ScreenRule::kMinP, ScreenRule::kNoise}) {
    EXPECT_GT(draws[rule], static_cast<std::size_t>(n_draws) / 50) << static_cast<int>(rule);
    EXPECT_GT(saved[rule], draws[rule] / 20) << static_cast<int>(rule);  // it does leave panels out
  }
}

TEST(Screening, KeepsFewPanelsOfAPeakedDistribution) {
  constexpr std::size_t kColumns = 1600;
  Bounds bounds{std::vector<float>(kColumns, -0.1F), std::vector<float>(kColumns, 0.0F),
                std::vector<float>(kColumns, 0.1F)};
  for (const std::size_t best : {std::size_t{3}, std::size_t{700}, std::size_t{1599}})
    bounds.lower[best] = bounds.logits[best] = bounds.upper[best] = 30.0F;
  Choice choice;
  choice.n_tokens = kColumns;
  std::size_t n_kept = 0;
  EXPECT_EQ(chosen_by_screening(bounds, choice, ScreenRule::kGreedy, 16, n_kept), 3);
  EXPECT_EQ(n_kept, 3U);
  choice.sampling.temperature = 1.0F;
  choice.sampling.top_k = 3;
  chosen_by_screening(bounds, choice, ScreenRule::kTopK, 16, n_kept);
  EXPECT_EQ(n_kept, 3U);
  choice.sampling.top_k = 4;  // a fourth must come from the rest, whose bounds overlap
  chosen_by_screening(bounds, choice, ScreenRule::kTopK, 16, n_kept);
  EXPECT_EQ(n_kept, screen_panels(kColumns));
  choice.sampling.top_k = 0;
  choice.sampling.min_p = 0.01F;
  chosen_by_screening(bounds, choice, ScreenRule::kMinP, 16, n_kept);
  EXPECT_EQ(n_kept, 3U);
  choice.sampling.min_p = 0;
  chosen_by_screening(bounds, choice, ScreenRule::kNoise, 16, n_kept);
  EXPECT_LE(n_kept, 3U);
}

// They are not masked: where there is nothing else, one of them is chosen.
TEST(Screening, KeepsLogitsThatOnlyTheTemperatureMakesInfinite) {
  constexpr std::size_t kColumns = 40;
  const Bounds bounds{std::vector<float>(kColumns, -2e36F), std::vector<float>(kColumns, -1e36F),
                      std::vector<float>(kColumns, -5e35F)};
  for (const Sampling& how : {Sampling{.temperature = 1e-5F}, Sampling{.temperature = 1e-5F, .top_k = 1},
                              Sampling{.temperature = 1e-5F, .min_p = 0.5F}}) {
    Choice choice;
    choice.n_tokens = kColumns;
    choice.sampling = how;
    const auto rule = screen_rule(choice, kColumns);
    ASSERT_TRUE(rule);
    std::size_t n_kept = 0;
    EXPECT_EQ(chosen_by_screening(bounds, choice, *rule, 2, n_kept),
              sample(bounds.logits, kColumns, how, choice.draw))
        << static_cast<int>(*rule);
  }
}

// Choices that need every logit are told so.
// A quarter of the panels, every fourth one: a quarter of top_k's are there.
TEST(Screening, ASampleSaysWhatTheThresholdMayBe) {
  std::vector<float> sample;
  for (int i = 0; i < 25; ++i) sample.push_back(static_cast<float>(4 * i));  // of 0, 1, ..., 99
  Sampling how{.temperature = 1.0F, .top_k = 40};
  EXPECT_EQ(sample_threshold(ScreenRule::kTopK, how, sample, 100), 60.0F);
  how.top_k = 1;
  EXPECT_EQ(sample_threshold(ScreenRule::kTopK, how, sample, 100), 96.0F);
  EXPECT_EQ(sample_threshold(ScreenRule::kGreedy, how, sample, 100), 96.0F);
}

TEST(Screening, WhatNeedsAllLogits) {
  Choice choice;
  choice.n_tokens = 1000;
  choice.sampling = {.temperature = 1.0F, .top_k = 0, .top_p = 0.9F};
  EXPECT_FALSE(screen_rule(choice, 1000));
  choice.sampling.top_k = 1000;  // keeps all: as 0
  EXPECT_FALSE(screen_rule(choice, 1000));
  choice.sampling.top_k = 32;  // more than half of 63 panels
  EXPECT_FALSE(screen_rule(choice, 1000));
  choice.sampling.top_k = 31;
  EXPECT_EQ(screen_rule(choice, 1000), ScreenRule::kTopK);
  choice.sampling = {.temperature = 1.0F, .min_p = 1e-40F};
  EXPECT_FALSE(screen_rule(choice, 1000));
  choice.sampling.min_p = 0.1F;
  EXPECT_EQ(screen_rule(choice, 1000), ScreenRule::kMinP);
  choice.sampling.min_p = 0;
  EXPECT_EQ(screen_rule(choice, 1000), ScreenRule::kNoise);
  choice.sampling = {.temperature = 0.0F, .top_p = 0.5F};
  EXPECT_EQ(screen_rule(choice, 1000), ScreenRule::kGreedy);
}

}  // namespace
}  // namespace sluice::program
