// Risk: the oracle as a device depends on how tokens are cut into steps, on what else is in a step, or on
// what a slot held before.
#include "oracle/backend.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/oracle/random_model.h"
#include "tests/support/errors.h"
#include "tests/support/random_inputs.h"
#include "tests/support/seed.h"

namespace sluice::oracle {
namespace {

using test::pick;
using test::Random;
using test::random_tokens;

constexpr std::size_t kSlots = 3;
constexpr std::size_t kContext = 40;

class OracleBackend : public testing::Test {
 protected:
  // Feeds `tokens` to `slot` at `position`, a span of its own; logits of every row.
  std::vector<float> feed(std::size_t slot, std::size_t position, const std::vector<std::int32_t>& tokens) {
    program::Step step{tokens, {{slot, position, 0, tokens.size()}}, {}};
    for (std::size_t row = 0; row < tokens.size(); ++row) step.outputs.push_back({row, true, std::nullopt});
    return backend_->run(step).logits;
  }

  Random random_{test::seed_of_test()};
  test::RandomModel model_{test::small_config(), random_};
  std::size_t vocab_ = model_.model().config.vocab_size;
  std::unique_ptr<program::Backend> backend_ = make_backend(model_.model(), kSlots, kContext);
};

TEST_F(OracleBackend, SaysWhatItIs) {
  EXPECT_EQ(backend_->name(), "oracle");
  EXPECT_EQ(backend_->n_slots(), kSlots);
  EXPECT_EQ(backend_->context(), kContext);
  EXPECT_EQ(backend_->config().vocab_size, vocab_);
}

TEST_F(OracleBackend, GivesTheSameBitsForEverySplitAndNeighbour) {
  std::vector<std::vector<std::int32_t>> tokens;
  std::vector<std::vector<float>> whole;  // each sequence alone, in one step
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    tokens.push_back(random_tokens(random_, pick(random_, 1, kContext), vocab_));
    whole.push_back(feed(slot, 0, tokens[slot]));
    ASSERT_EQ(whole[slot].size(), tokens[slot].size() * vocab_);
    backend_->reset(slot);
  }
  // All at once, in random pieces and orders, with logits asked for at random.
  std::vector<std::size_t> length(kSlots, 0);
  for (int left = 1000; left > 0; --left) {
    program::Step step;
    std::vector<std::size_t> slots{0, 1, 2};
    std::shuffle(slots.begin(), slots.end(), random_);
    std::vector<float> want;
    for (const std::size_t slot : slots) {
      const std::size_t n = std::min(pick(random_, 0, 5), tokens[slot].size() - length[slot]);
      if (n == 0) continue;
      step.spans.push_back({slot, length[slot], step.tokens.size(), n});
      for (std::size_t i = 0; i < n; ++i, ++length[slot]) {
        if (pick(random_, 0, 1) == 0) {
          step.outputs.push_back({step.tokens.size(), true, std::nullopt});
          const auto row = whole[slot].begin() + static_cast<std::ptrdiff_t>(length[slot] * vocab_);
          want.insert(want.end(), row, row + static_cast<std::ptrdiff_t>(vocab_));
        }
        step.tokens.push_back(tokens[slot][length[slot]]);
      }
    }
    const program::StepResult result = backend_->run(step);
    ASSERT_EQ(result.logits, want);
    ASSERT_EQ(result.tokens, std::vector<std::int32_t>(step.outputs.size(), -1));
  }
  for (std::size_t slot = 0; slot < kSlots; ++slot) EXPECT_EQ(length[slot], tokens[slot].size());
}

TEST_F(OracleBackend, ForgetsASlotThatIsReset) {
  const std::vector<std::int32_t> tokens = random_tokens(random_, 9, vocab_);
  const std::vector<float> fresh = feed(1, 0, tokens);
  feed(1, 9, random_tokens(random_, 20, vocab_));
  backend_->reset(1);
  EXPECT_EQ(feed(1, 0, tokens), fresh);
}

TEST_F(OracleBackend, LeavesSlotsAloneOnError) {
  const std::vector<std::int32_t> tokens = random_tokens(random_, 6, vocab_);
  feed(2, 0, {tokens.begin(), tokens.begin() + 3});
  // The bad row comes last, behind good rows of the same and of another slot.
  const auto bad = static_cast<std::int32_t>(vocab_);
  EXPECT_THAT(
      test::error_of([&] { backend_->run({{1, 2, tokens[3], bad}, {{0, 0, 0, 2}, {2, 3, 2, 2}}, {}}); }),
      testing::HasSubstr("step.tokens[3]"));
  EXPECT_THROW(feed(2, 3, std::vector<std::int32_t>(kContext, 1)), Error);
  EXPECT_THROW(feed(2, 4, {1}), Error);
  const std::vector<float> rest = feed(2, 3, {tokens.begin() + 3, tokens.end()});
  const std::vector<float> whole = feed(0, 0, tokens);
  EXPECT_TRUE(std::equal(rest.begin(), rest.end(), whole.end() - static_cast<std::ptrdiff_t>(rest.size())));
}

TEST_F(OracleBackend, ChoosesFromEditedLogitsAndReturnsUneditedOnes) {
  const std::vector<std::int32_t> tokens = random_tokens(random_, 4, vocab_);
  const std::vector<float> all = feed(0, 0, tokens);
  const std::vector<float> last(all.end() - static_cast<std::ptrdiff_t>(vocab_), all.end());
  const auto best = static_cast<std::int32_t>(std::max_element(last.begin(), last.end()) - last.begin());

  program::Choice masked{{}, 0, vocab_, {{best, 1.0F, -std::numeric_limits<float>::infinity()}}};
  program::Step step{
      tokens,
      {{1, 0, 0, 4}},
      {{0, true, std::nullopt}, {2, false, program::Choice{{}, 0, vocab_, {}}}, {3, true, masked}}};
  const program::StepResult result = backend_->run(step);
  ASSERT_EQ(result.tokens.size(), 3U);
  EXPECT_EQ(result.tokens[0], -1);
  EXPECT_GE(result.tokens[1], 0);
  EXPECT_EQ(result.tokens[2], program::choose(last, masked));
  EXPECT_NE(result.tokens[2], best);
  ASSERT_EQ(result.logits.size(), 2 * vocab_);
  EXPECT_TRUE(
      std::equal(last.begin(), last.end(), result.logits.begin() + static_cast<std::ptrdiff_t>(vocab_)));
}

TEST_F(OracleBackend, OneSequenceWithoutAChoiceDoesNotStopTheOthers) {
  program::Choice none{{}, 0, 1, {{0, 1.0F, -std::numeric_limits<float>::infinity()}}};
  const program::StepResult result = backend_->run(
      {{1, 2}, {{0, 0, 0, 1}, {1, 0, 1, 1}}, {{0, false, none}, {1, false, program::Choice{{}, 0, 1, {}}}}});
  EXPECT_THAT(result.tokens, testing::ElementsAre(-1, 0));
}

}  // namespace
}  // namespace sluice::oracle
