#include "base/json.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json_reader.h"
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
  test::Random random(test::seed_of_test());
  for (int round = 0; round < 2000; ++round) {
    const Json document = random_document(random, 5);
    ASSERT_EQ(parse_json(document.dump(static_cast<int>(test::pick(random, 0, 3)) - 1), "x"), document);
  }
}

// Every text is JSON for both or for neither, and means the same: valid documents damaged at random.
TEST(Json, AgreesWithNlohmann) {
  test::Random random(test::seed_of_test());
  static constexpr std::string_view kPieces[] = {"\\u00e9",
                                                 "\\ud83d\\ude00",
                                                 "\\ud800",
                                                 "\\udc00",
                                                 "\\x",
                                                 "-",
                                                 "0",
                                                 "00",
                                                 "1e5",
                                                 "1E-400",
                                                 "1e400",
                                                 "-0",
                                                 "18446744073709551616",
                                                 "-9223372036854775809",
                                                 ".5",
                                                 "1.",
                                                 "[",
                                                 "]",
                                                 "{",
                                                 "}",
                                                 ",",
                                                 ":",
                                                 "\"",
                                                 "nul",
                                                 "true",
                                                 " \n\t\r",
                                                 "\x7f",
                                                 "\x1f",
                                                 "\xc3\xa9",
                                                 "\xc3",
                                                 "\xed\xa0\x80",
                                                 "\xf4\x90\x80\x80",
                                                 "\xef\xbb\xbf",
                                                 "//",
                                                 "+1",
                                                 "0.1234567890123456789"};
  for (int round = 0; round < 20000; ++round) {
    std::string text = random_document(random, 3).dump();
    for (std::size_t n = test::pick(random, 0, 3); n > 0; --n) {
      const std::size_t at = test::pick(random, 0, text.size());
      if (random() % 3 == 0) text.erase(at, test::pick(random, 1, 3));
      if (random() % 3 != 0)
        text.insert(std::min(at, text.size()), kPieces[test::pick(random, 0, std::size(kPieces) - 1)]);
    }
    const Json expected = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    try {
      const Json parsed = parse_json(text, "x");
      ASSERT_FALSE(expected.is_discarded()) << text;
      ASSERT_EQ(parsed, expected) << text;
    } catch (const Error& error) {
      // Of a key given twice, nlohmann takes the last.
      ASSERT_TRUE(expected.is_discarded() || std::string(error.what()).find("twice") != std::string::npos)
          << text << "\n"
          << error.what();
    }
  }
}

TEST(Json, TheNumberOfValuesAndTheLengthOfANumberAreLimited) {
  EXPECT_NO_THROW(parse_json("[1, {\"a\": 2}]", "x", 64, 4));
  EXPECT_THAT(failure("[" + std::string(3U << 20U, '0') + "]"), HasSubstr("the_file.json"));
  EXPECT_THAT(failure("[1" + std::string(5000, '0') + "]"), HasSubstr("5001 characters"));
  std::string many = "[0";
  for (int i = 0; i < 1'100'000; ++i) many += ",0";
  EXPECT_THAT(failure(many + "]"), HasSubstr("1048576"));
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

// A mapped file may be written to, or shrink, between two looks at the same byte.
TEST(JsonReader, ATextThatChangesWhileItIsReadIsAnErrorToo) {
  const auto take = [](JsonReader& reader, JsonReader::Kind kind) {
    switch (kind) {
      case JsonReader::Kind::kObject:
        reader.object([&](std::string_view) { reader.tree(); });
        break;
      case JsonReader::Kind::kArray:
        reader.array([&] { reader.tree(); });
        break;
      case JsonReader::Kind::kString:
        reader.string();
        break;
      default:
        reader.scalar();
    }
  };
  for (const std::string_view before : {R"({"a": 1})", "[1]", "\"a\"", "1", "null", "true"}) {
    for (const char after : std::string_view("\0{[\"]}x", 7)) {
      std::string text(before);
      if (text[0] == after) continue;
      JsonReader reader(text, "the_file.json", {});
      const JsonReader::Kind kind = reader.kind();
      text[0] = after;
      EXPECT_THAT(test::error_of([&] { take(reader, kind); }), HasSubstr("the_file.json")) << before << after;
    }
  }
}

}  // namespace
}  // namespace sluice
