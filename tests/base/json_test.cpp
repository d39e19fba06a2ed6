#include "base/json.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/errors.h"
#include "tests/support/seed.h"

namespace sluice {
namespace {

using testing::HasSubstr;

std::string failure(const std::string& text, std::size_t max_depth = 64) {
  return test::error_of([&] { parse_json(text, "the_file.json", max_depth); });
}

std::string random_word(test::Random& random) {
  static constexpr std::string_view kPieces[] = {"a", "key", "\"", "\\", "\n", "é", "😀", "", "/", "\x01"};
  std::string word;
  for (std::size_t n = test::pick(random, 0, 4); n > 0; --n)
    word += kPieces[test::pick(random, 0, std::size(kPieces) - 1)];
  return word;
}

Json random_document(test::Random& random, std::size_t depth) {
  switch (test::pick(random, 0, depth == 0 ? 4 : 6)) {
    case 0:
      return nullptr;
    case 1:
      return random() % 2 == 0;
    case 2:
      return random();
    case 3:
      return -static_cast<double>(random()) / 1024.0;
    case 4:
      return random_word(random);
    case 5: {
      Json list = Json::array();
      for (std::size_t n = test::pick(random, 0, 4); n > 0; --n)
        list.push_back(random_document(random, depth - 1));
      return list;
    }
    default: {
      Json object = Json::object();
      for (std::size_t n = test::pick(random, 0, 4); n > 0; --n)
        object[random_word(random)] = random_document(random, depth - 1);
      return object;
    }
  }
}

TEST(Json, WhatWasWrittenIsRead) {
  test::Random random(test::fresh_seed());
  for (int round = 0; round < 2000; ++round) {
    const Json document = random_document(random, 5);
    ASSERT_EQ(parse_json(document.dump(static_cast<int>(test::pick(random, 0, 3)) - 1), "x"), document);
  }
}

TEST(Json, ATruncatedDocumentIsAnError) {
  const std::string whole = R"({"a": [1, -2.5e3, true, null, "x\u00e9\\"], "b": {"c": "d"}})";
  for (std::size_t n = 0; n < whole.size(); ++n)
    EXPECT_THAT(failure(whole.substr(0, n)), HasSubstr("the_file.json")) << n;
}

TEST(Json, AKeyGivenTwiceIsAnErrorAtEveryLevel) {
  EXPECT_THAT(failure(R"({"dtype": 1, "x": 2, "dtype": 1})"), HasSubstr("\"dtype\""));
  EXPECT_THAT(failure(R"([{"a": {"b": 1, "c": {"b": 2}, "b": 3}}])"), HasSubstr("\"b\""));
  EXPECT_THAT(failure(R"({"a": 1, "\u0061": 2})"), HasSubstr("\"a\""));  // the same key, spelled otherwise
  EXPECT_EQ(parse_json(R"([{"a": 1}, {"a": {"a": 2}}])", "x").size(), 2U);
}

TEST(Json, DepthIsLimitedAndTheLimitIsExact) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse_json(nested(64), "x"));
  EXPECT_THAT(failure(nested(65)), HasSubstr("64"));
  EXPECT_NO_THROW(parse_json(R"({"a": [{}]})", "x", 3));
  EXPECT_THAT(failure(R"({"a": [{}]})", 2), HasSubstr("2"));
  // Refused on the way down: neither the parser's nor the tree's destructor's stack grows with the input.
  EXPECT_THAT(failure(std::string(std::size_t{10} << 20U, '[')), HasSubstr("nested"));
}

TEST(Json, ErrorsSayWhereAndStayOnOneLine) {
  EXPECT_THAT(failure("{\"a\": tru}"), HasSubstr("byte 10"));
  EXPECT_THAT(failure("{\"\xC3\x28\": 1}"), HasSubstr("the_file.json"));  // not UTF-8
  EXPECT_THAT(failure("{} x"), HasSubstr("the_file.json"));
  EXPECT_THAT(failure(std::string("{}\0 x", 5)), HasSubstr("byte 3"));  // not the end of the text
  EXPECT_THAT(failure("[1e999]"), HasSubstr("the_file.json"));
  EXPECT_THAT(failure("{\"a\\n\": 1, \"a\\n\": 1}"), HasSubstr("\\x0a"));
  EXPECT_THAT(failure("[NaN]"), HasSubstr("the_file.json"));
}

}  // namespace
}  // namespace sluice
