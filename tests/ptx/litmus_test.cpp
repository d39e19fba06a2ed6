// The race detector on litmus tests of the PTX memory model. One that races is found under some seed; one that doesn't is never
// accused.
#include "tests/ptx/litmus.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "tests/ptx/ptx_run.h"

namespace sluice::ptx {
namespace {

constexpr std::uint64_t kSeeds = 12;

class LitmusTest : public testing::TestWithParam<Litmus> {};

TEST_P(LitmusTest, RacesExactlyIfTheModelSaysSo) {
  const Litmus& litmus = GetParam();
  PtxRun run{.text = ptx_of(litmus)};
  for (const LitmusWarp& warp : litmus.warps) {
    run.blocks = std::max(run.blocks, warp.block + 1);
    run.threads = std::max(run.threads, (warp.warp + 1) * kLanes);
  }
  std::uint64_t found = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const LaunchResult result = run(seed);
    EXPECT_TRUE(result.completed) << "seed " << seed << text_of(result);
    if (has(result, FindingKind::kRace)) ++found;
    const bool only_races = std::ranges::all_of(
        result.findings, [](const Finding& finding) { return finding.kind == FindingKind::kRace; });
    EXPECT_TRUE(only_races) << "seed " << seed << text_of(result);
    EXPECT_TRUE(litmus.racy || !has(result, FindingKind::kRace))
        << litmus.why << ", seed " << seed << text_of(result);
  }
  EXPECT_EQ(found > 0, litmus.racy) << litmus.why;
}

INSTANTIATE_TEST_SUITE_P(All, LitmusTest, testing::ValuesIn(litmus_tests().begin(), litmus_tests().end()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Litmus, NamesAreUniqueAndBothOutcomesAreThere) {
  std::set<std::string_view> names;
  std::size_t racy = 0;
  for (const Litmus& litmus : litmus_tests()) {
    EXPECT_TRUE(names.insert(litmus.name).second) << litmus.name;
    racy += litmus.racy ? 1U : 0U;
  }
  EXPECT_GE(racy, 15U);
  EXPECT_GE(names.size() - racy, 15U);
}

}  // namespace
}  // namespace sluice::ptx
