// Risk: a penalty hits the wrong tokens, or by the wrong amount.
#include "engine/penalties.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/seed.h"

namespace sluice::engine {
namespace {

TEST(Penalties, ChangeLogitsAsTheirDefinitionsSay) {
  test::Random random(test::seed_of_test());
  std::uniform_real_distribution<float> uniform(-2.0F, 2.0F);
  constexpr std::size_t kVocab = 30;
  for (int round = 0; round < 200; ++round) {
    const PenaltyOptions options{uniform(random), uniform(random), 2.5F + uniform(random)};
    std::vector<std::int32_t> prompt(test::pick(random, 0, 20));
    for (std::int32_t& token : prompt) token = static_cast<std::int32_t>(test::pick(random, 0, kVocab - 1));
    Penalties penalties(options, prompt);
    std::vector<std::int32_t> generated(test::pick(random, 0, 20));
    for (std::int32_t& token : generated) {
      token = static_cast<std::int32_t>(test::pick(random, 0, kVocab - 1));
      penalties.add_generated(token);
    }
    std::vector<float> logits(kVocab);
    for (float& l : logits) l = 5.0F * uniform(random);

    // transformers' repetition penalty over prompt and output, then OpenAI's formula over the output.
    std::vector<float> want = logits;
    for (std::size_t id = 0; id < kVocab; ++id) {
      const auto in = [id](const std::vector<std::int32_t>& tokens) {
        return std::count(tokens.begin(), tokens.end(), static_cast<std::int32_t>(id));
      };
      const auto count = static_cast<float>(in(generated));
      if (in(prompt) + in(generated) > 0) {
        want[id] = want[id] > 0 ? want[id] / options.repeat : want[id] * options.repeat;
      }
      want[id] -= count * options.frequency + (count > 0 ? options.presence : 0.0F);
    }

    const std::vector<program::LogitEdit> edits = penalties.edits();
    for (std::size_t i = 1; i < edits.size(); ++i) ASSERT_LT(edits[i - 1].token, edits[i].token);
    program::apply_edits(logits, edits);
    // At most 4 operations, none beyond 2 * 20 + 2 + 10 * 4.5: 4 * 2^-24 * 87.
    for (std::size_t id = 0; id < kVocab; ++id) ASSERT_NEAR(logits[id], want[id], 4 * 0x1p-24 * 87) << id;
  }
}

TEST(Penalties, EditNothingWhenNeutral) {
  Penalties penalties({}, std::vector<std::int32_t>{1, 2, 3});
  penalties.add_generated(4);
  EXPECT_TRUE(penalties.edits().empty());
}

TEST(Penalties, NameTheFieldThatIsOutOfRange) {
  const auto error = [](const PenaltyOptions& options) {
    return test::error_of([&] { Penalties(options, std::vector<std::int32_t>{}); });
  };
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_THAT(error({.presence = infinity}), testing::HasSubstr("presence_penalty is inf"));
  EXPECT_THAT(error({.frequency = std::nanf("")}), testing::HasSubstr("frequency_penalty is nan"));
  for (const float bad : {0.0F, -1.0F, infinity, std::nanf("")}) {
    EXPECT_THAT(error({.repeat = bad}), testing::HasSubstr("repeat_penalty is "));
  }
}

}  // namespace
}  // namespace sluice::engine
