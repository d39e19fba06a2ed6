#include "model/added_tokens.h"

#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/seed.h"

namespace sluice::model {
namespace {

std::vector<AddedToken> numbered(const std::set<std::string>& contents) {
  std::vector<AddedToken> tokens;
  for (const std::string& content : contents)
    tokens.push_back({.id = static_cast<std::int32_t>(tokens.size()), .content = content});
  return tokens;
}

std::string random_text(test::Random& random, std::size_t longest) {
  std::string text(1 + random() % longest, '\0');
  for (char& letter : text) letter = "ab\xff"[random() % 3];
  return text;
}

TEST(AddedTokens, MatchesAreThoseOfTryingEachTokenAtEachPlace) {
  test::Random random(test::seed_of_test());
  for (int round = 0; round < 300; ++round) {
    std::set<std::string> contents;
    for (std::size_t n = 1 + random() % 30; contents.size() < n;) contents.insert(random_text(random, 12));
    const AddedTokenMatcher matcher(numbered(contents));
    const std::string text = random_text(random, 60);
    for (std::size_t from = 0; from <= text.size(); ++from) {
      std::size_t begin = from;
      std::string longest;
      for (; begin < text.size() && longest.empty(); ++begin)
        for (const std::string& content : contents)
          if (text.compare(begin, content.size(), content) == 0 && content.size() > longest.size())
            longest = content;
      const auto match = matcher.find(text, from);
      ASSERT_EQ(match.has_value(), !longest.empty()) << text << " from " << from;
      if (!match) continue;
      EXPECT_EQ(match->token->content, longest) << text << " from " << from;
      EXPECT_EQ(match->begin, begin - 1) << text << " from " << from;
      EXPECT_EQ(match->end - match->begin, longest.size()) << text << " from " << from;
    }
  }
}

// Trying a token's bytes one after another took 23 s for this text: the test's time limit is its expectation.
TEST(AddedTokens, ALongPrefixInCommonCostsLittle) {
  std::set<std::string> ending;   // x…xy
  std::set<std::string> growing;  // x, xx, …
  for (std::size_t size = 1; size < kMaxAddedTokenBytes; ++size) {
    ending.insert(std::string(size, 'x') + 'y');
    growing.insert(std::string(size, 'x'));
  }
  const std::string text(std::size_t{1} << 20U, 'x');
  EXPECT_FALSE(AddedTokenMatcher(numbered(ending)).find(text, 0));

  const AddedTokenMatcher matcher(numbered(growing));
  std::string pairs;
  while (pairs.size() < text.size()) pairs += "xz";
  std::size_t matches = 0;
  std::size_t from = 0;
  while (const auto match = matcher.find(pairs, from)) {
    ASSERT_EQ(match->token->content, "x");
    from = match->end;
    ++matches;
  }
  EXPECT_EQ(matches, pairs.size() / 2);
}

}  // namespace
}  // namespace sluice::model
