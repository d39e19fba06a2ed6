// Programs that are made of others are what building them would give, and are few.
#include "program/programs.h"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

#include "tests/program/shapes.h"
#include "tests/support/seed.h"

namespace sluice::program {
namespace {

using test::pick;
using test::Random;

void expect_same(const Program& made, const Program& built) {
  EXPECT_EQ(made.shape, built.shape);
  EXPECT_EQ(made.first_row, built.first_row);
  EXPECT_EQ(made.rows, built.rows);
  EXPECT_EQ(made.groups, built.groups);
  EXPECT_EQ(made.tilings, built.tilings);
  EXPECT_EQ(made.ops, built.ops);
  EXPECT_EQ(made.tasks, built.tasks);
  EXPECT_EQ(made.waits, built.waits);
  EXPECT_EQ(made.counters, built.counters);
}

// Shapes of few rows around the edges of groups, so that many are alike.
StepShape random_near_shape(Random& random) {
  StepShape shape;
  for (std::size_t n = pick(random, 1, 3); n > 0; --n) {
    constexpr std::size_t kEdges[] = {1, 9, 60, 120, 250};
    const auto rows = static_cast<std::uint32_t>(kEdges[pick(random, 0, 4)] + pick(random, 0, 12));
    shape.spans.push_back({rows, rows <= kMaxShortSpan ? static_cast<std::uint32_t>(pick(random, 1, 2)) : 1});
  }
  const std::size_t kind = pick(random, 0, 2);
  std::uint32_t end = 0;
  for (const StepShape::SpanShape& span : shape.spans) {
    end += span.n_rows;
    if (kind == 1 && span.n_rows > 2 && pick(random, 0, 1) == 0) shape.output_rows.push_back(end - 3);
    if (kind != 0) shape.output_rows.push_back(end - 1);
  }
  return shape;
}

TEST(Programs, MadeOfOthersAreWhatBuildingGives) {
  Random random(test::seed_of_test());
  std::size_t n_made = 0;
  std::size_t n_derived = 0;
  for (int round = 0; round < 12; ++round) {
    const model::ModelConfig config = random_config(random);
    const Tiling tiling = random_tiling(random);
    Programs programs(config, tiling, false);
    for (int i = 0; i < 40; ++i) {
      const StepShape shape = random_near_shape(random);
      expect_same(programs.of(shape), build(config, shape, tiling));
      ASSERT_FALSE(HasFailure()) << "round " << round << ", shape " << i;
    }
    n_made += programs.n_made();
    n_derived += programs.n_derived();
  }
  // About a tenth of 480 shapes is like an earlier one, 48 with a standard deviation of 7.
  EXPECT_LT(n_derived, n_made * 96 / 100);
  EXPECT_GT(n_derived, n_made / 20);
}

StepShape prompt(std::uint32_t rows);

// Two of those that this makes are more than 16 MB.
TEST(Programs, ThatAreLargeAreNotKeptTogether) {
  const model::ModelConfig config = make_config("DDDDDDDD", 512, 2, 1, 16, 2, 2, 16);
  Tiling tiling;
  tiling.bytes_per_tile = 1024;
  Programs programs(config, tiling, false);
  const Program& large = programs.of(prompt(24000));
  const std::size_t bytes = large.tasks.size() * sizeof(Task) + large.waits.size() * sizeof(Wait);
  ASSERT_GT(bytes, std::size_t{8} << 20U);
  ASSERT_LT(bytes, std::size_t{16} << 20U);
  programs.of(prompt(20));
  programs.of(prompt(24000));
  EXPECT_EQ(programs.n_made(), 2U) << "one is kept, beside small ones";
  programs.of(prompt(24001));
  programs.of(prompt(24001));
  EXPECT_EQ(programs.n_made(), 3U) << "so is the last one, whatever it takes";
  programs.of(prompt(24000));
  EXPECT_EQ(programs.n_made(), 4U) << "not both";
}

StepShape prompt(std::uint32_t rows) {
  return make_shape({{rows, rows}}, {rows - 1});
}

TEST(Programs, OfPromptsThatAreCutAlikeAreDerivedOnce) {
  const model::ModelConfig config = make_config("DDA", 32, 2, 1, 16, 2, 2, 16);
  const Tiling tiling;
  Programs programs(config, tiling, true);
  for (std::uint32_t rows = kMaxShortSpan + 1; rows <= 64; ++rows) programs.of(prompt(rows));
  EXPECT_EQ(programs.n_derived(), 1U);
  EXPECT_EQ(programs.n_made(), 64U - kMaxShortSpan);
  EXPECT_EQ(programs.n_verified(), programs.n_made());
  programs.of(prompt(65));  // attention in two groups
  programs.of(prompt(kMaxShortSpan));
  EXPECT_EQ(programs.n_derived(), 3U);
  const std::size_t made = programs.n_made();
  programs.of(prompt(65));
  EXPECT_EQ(programs.n_made(), made);
}

}  // namespace
}  // namespace sluice::program
