// Risk: what tools/mutation.py found that no other test noticed.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "model/added_tokens.h"
#include "model/config.h"
#include "model/pretokenizer.h"
#include "tests/support/checkpoints.h"
#include "tests/support/errors.h"

namespace sluice::model {
namespace {

TEST(Config, WhatIsNotImplementedIsRefusedInsideOfTextConfigToo) {
  const Json refused = {{"attention_bias", true},
                        {"attn_output_gate", false},
                        {"mtp_use_dedicated_embeddings", true},
                        {"hidden_act", "gelu"},
                        {"num_experts", 8},
                        {"quantization_config", {{"quant_method", "fp8"}}}};
  for (const auto& [field, value] : refused.items()) {
    Json config = test::nested_config(test::text_config(test::Shapes{}));
    ASSERT_NO_THROW(parse_config(config, "some/config.json"));
    config["text_config"][field] = value;
    EXPECT_THAT(test::error_of([&] { parse_config(config, "some/config.json"); }),
                testing::HasSubstr("text_config." + field));
  }
}

using testing::ElementsAre;

std::vector<std::string_view> pieces_of(std::string_view text, SplitPattern pattern) {
  std::vector<std::string_view> pieces;
  for (std::size_t at = 0; at < text.size(); at += pieces.back().size())
    pieces.push_back(text.substr(at, piece_end(text, at, pattern) - at));
  return pieces;
}

// What the expression of docs/models.md §4 says, where a small vocabulary without the merges in question can't tell.
TEST(SplitPattern, EveryDigitIsAPieceOfItsOwn) {
  for (const SplitPattern pattern : {SplitPattern::kQwen2, SplitPattern::kQwen35})
    EXPECT_THAT(pieces_of("a12 345x٣٤½Ⅷ", pattern),
                ElementsAre("a", "1", "2", " ", "3", "4", "5", "x", "٣", "٤", "½", "Ⅷ"));
}

TEST(SplitPattern, TheLongSContractsAsAnSDoes) {
  for (const SplitPattern pattern : {SplitPattern::kQwen2, SplitPattern::kQwen35}) {
    EXPECT_THAT(pieces_of("it'sab", pattern), ElementsAre("it", "'s", "ab"));
    EXPECT_THAT(pieces_of("it'Sab", pattern), ElementsAre("it", "'S", "ab"));
    EXPECT_THAT(pieces_of("it'ſab", pattern), ElementsAre("it", "'ſ", "ab"));
    EXPECT_THAT(pieces_of("it'xab", pattern), ElementsAre("it", "'xab"));
  }
}

TEST(AddedTokens, TheLongestThatFitsIsMatched) {
  std::vector<AddedToken> tokens;
  for (const char* content : {"<a>", "<a>b", "<a>bcd", "b"})
    tokens.push_back({.id = static_cast<std::int32_t>(tokens.size()), .content = content});
  const AddedTokenMatcher matcher(tokens);
  for (const auto& [text, content] : std::vector<std::pair<std::string, std::string>>{
           {"x<a>bcde", "<a>bcd"}, {"x<a>bce", "<a>b"}, {"x<a>b", "<a>b"}, {"x<a>c", "<a>"}, {"x<ab", "b"}}) {
    const auto match = matcher.find(text, 0);
    ASSERT_TRUE(match) << text;
    EXPECT_EQ(match->token->content, content) << text;
    EXPECT_EQ(text.substr(match->begin, match->end - match->begin), content) << text;
  }
}

}  // namespace
}  // namespace sluice::model
