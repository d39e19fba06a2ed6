// Risk: text after a stop text gets out, text before it gets lost or late, or the cut into pieces shows.
#include "engine/stop_text.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/seed.h"

namespace sluice::engine {
namespace {

using test::pick;
using test::Random;

// Few letters, so that stop texts overlap themselves and each other; one of them of two bytes.
std::string random_text(Random& random, std::size_t n) {
  static const std::vector<std::string> kLetters{"a", "a", "a", "b", "é"};
  std::string text;
  for (std::size_t i = 0; i < n; ++i) text += kLetters[pick(random, 0, kLetters.size() - 1)];
  return text;
}

// By the definition, trying every end.
struct Expected {
  std::size_t size;      // of the text before the stop text
  std::size_t consumed;  // bytes up to the stop text's end
  bool found;
};
Expected expected(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (std::string_view(text).substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    }
    if (longest > 0) return {end - longest, end, true};
  }
  return {text.size(), text.size(), false};
}

std::size_t longest_beginning_of_a_stop(std::string_view text, const std::vector<std::string>& stops) {
  std::size_t longest = 0;
  for (const std::string& stop : stops) {
    for (std::size_t n = 1; n < stop.size(); ++n) {
      if (text.ends_with(std::string_view(stop).substr(0, n))) longest = std::max(longest, n);
    }
  }
  return longest;
}

TEST(StopText, GivesTheTextBeforeTheFirstStopForEveryCut) {
  Random random(test::seed_of_test());
  int found = 0;
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops(pick(random, 0, 3));
    for (std::string& stop : stops) stop = random_text(random, pick(random, 1, 10));
    std::string text = random_text(random, pick(random, 0, 24));
    // Long ones don't come by chance: put one there, behind a part of itself.
    if (!stops.empty() && pick(random, 0, 1) == 0) {
      const std::string& stop = stops.front();
      text += stop.substr(0, pick(random, 0, stop.size())) + stop + random_text(random, pick(random, 0, 3));
    }
    SCOPED_TRACE("text '" + text + "', stops " + testing::PrintToString(stops));
    const Expected want = expected(text, stops);
    found += want.found ? 1 : 0;

    StopText stop_text(stops);
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = pick(random, 0, std::min<std::size_t>(6, text.size() - at));
      out += stop_text.push(std::string_view(text).substr(at, n));
      at += n;
      ASSERT_EQ(stop_text.found(), want.found && at >= want.consumed);
      if (stop_text.found()) {
        ASSERT_EQ(out, text.substr(0, want.size));
      } else {
        // Everything that is certain is out, and nothing else.
        ASSERT_EQ(out, text.substr(0, at - longest_beginning_of_a_stop(text.substr(0, at), stops)));
      }
    }
    out += stop_text.finish();
    ASSERT_EQ(out, text.substr(0, want.size));
    ASSERT_EQ(stop_text.finish(), "");
  }
  EXPECT_GT(found, 5000);
  EXPECT_LT(found, 19000);
}

TEST(StopText, WithoutStopsHoldsNothingBack) {
  StopText stop_text({});
  EXPECT_EQ(stop_text.push("abc"), "abc");
  EXPECT_EQ(stop_text.finish(), "");
}

TEST(StopText, IsLinearInTheText) {
  // Naive matching would compare 10^6 * 10^4 bytes.
  StopText stop_text({std::string(10000, 'a') + 'b'});
  std::string out;
  for (int i = 0; i < 1000; ++i) out += stop_text.push(std::string(1000, 'a'));
  EXPECT_EQ(out.size(), 990000U);
  out += stop_text.push("b");
  EXPECT_TRUE(stop_text.found());
  EXPECT_EQ(out.size(), 990000U);
}

TEST(StopText, RefusesWhatCanNeverMatch) {
  EXPECT_THAT(test::error_of([] { StopText({"a", ""}); }), testing::HasSubstr("empty"));
  EXPECT_THAT(test::error_of([] { StopText({"\xA9"}); }), testing::HasSubstr("\\xa9"));
}

}  // namespace
}  // namespace sluice::engine
