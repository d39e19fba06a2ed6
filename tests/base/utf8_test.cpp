// UTF-8 against its definition by enumeration: what is a prefix of the encoding of some scalar value is a valid
// prefix; nothing else is.
#include "base/utf8.h"

#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace sluice::utf8 {
namespace {

bool is_scalar(std::uint32_t value) {
  return value < 0xD800 || (value >= 0xE000 && value <= 0x10FFFF);
}

// By division, as in RFC 3629's table.
std::string encode(std::uint32_t value) {
  const auto byte = [](std::uint32_t bits) { return static_cast<char>(static_cast<unsigned char>(bits)); };
  if (value < 0x80) return {byte(value)};
  if (value < 0x800) return {byte(192 + value / 64), byte(128 + value % 64)};
  if (value < 0x10000) return {byte(224 + value / 4096), byte(128 + value / 64 % 64), byte(128 + value % 64)};
  return {byte(240 + value / 262144), byte(128 + value / 4096 % 64), byte(128 + value / 64 % 64),
          byte(128 + value % 64)};
}

// Which strings of one to three bytes begin an encoding; four-byte strings follow from their value.
class Prefixes {
 public:
  Prefixes() {
    for (auto& set : sets_) set.assign(set_size(&set - sets_.data()), false);
    for (std::uint32_t value = 0; value <= 0x10FFFF; ++value) {
      if (!is_scalar(value)) continue;
      const std::string text = encode(value);
      for (std::size_t n = 1; n <= std::min<std::size_t>(3, text.size()); ++n)
        sets_[n - 1][index(text, n)] = true;
    }
  }
  // Length of the longest prefix of text (up to three bytes) that begins an encoding.
  std::size_t longest(const std::string& text) const {
    std::size_t n = 0;
    while (n < 3 && n < text.size() && sets_[n][index(text, n + 1)]) ++n;
    return n;
  }

 private:
  static std::size_t set_size(std::ptrdiff_t n) {
    return std::size_t{1} << (8U * static_cast<unsigned>(n + 1));
  }
  static std::size_t index(const std::string& text, std::size_t n) {
    std::size_t index = 0;
    for (std::size_t i = 0; i < n; ++i) index = index * 256 + static_cast<unsigned char>(text[i]);
    return index;
  }
  std::array<std::vector<bool>, 3> sets_;
};

TEST(Utf8, EveryScalarValueRoundTrips) {
  for (std::uint32_t value = 0; value <= 0x10FFFF; ++value) {
    if (!is_scalar(value)) continue;
    std::string text;
    append(text, value);
    ASSERT_EQ(text, encode(value)) << std::hex << value;
    const CodePoint point = decode(text + "x", 0);
    ASSERT_TRUE(point.valid && point.value == value && point.size == text.size()) << std::hex << value;
    ASSERT_EQ(complete_prefix(text), text.size());
    for (std::size_t n = 1; n < text.size(); ++n) ASSERT_EQ(complete_prefix(text.substr(0, n)), 0U);
  }
}

// Every string of three bytes, followed by one that continues: valid exactly if it is some value's encoding; if
// not, the longest valid prefix is taken, one byte at least.
TEST(Utf8, EveryThreeBytesAreJudgedAsTheDefinitionSays) {
  constexpr std::uint32_t kStep =
      test::kIsSanitized ? 61 : 1;  // prime, so that all values of each byte are among those taken
  const Prefixes prefixes;
  std::string text(4, '\x80');
  for (std::uint32_t bytes = 0; bytes < 0x1000000; bytes += kStep) {
    for (std::size_t i = 0; i < 3; ++i)
      text[i] = static_cast<char>(static_cast<unsigned char>(bytes >> (16 - 8 * i)));
    const std::size_t longest = prefixes.longest(text);
    const CodePoint point = decode(text, 0);
    if (point.valid) {
      ASSERT_TRUE(is_scalar(point.value));
      ASSERT_EQ(encode(point.value), text.substr(0, point.size)) << std::hex << bytes;
    } else {
      ASSERT_EQ(point.value, char32_t{0xFFFD});
      ASSERT_EQ(point.size, std::max<std::size_t>(1, longest)) << std::hex << bytes;
      // Three valid bytes and one more that continues are a character, if three were not one already.
      ASSERT_LT(longest, 3U) << std::hex << bytes;
    }
  }
}

// The Unicode Standard 15, section 3.9, tables 3-8 to 3-11.
TEST(Utf8, ReplacesAsTheUnicodeStandardShows) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(replace_invalid("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(replace_invalid("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(replace_invalid("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(replace_invalid("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
  EXPECT_EQ(replace_invalid(std::string("\0x", 2)), std::string("\0x", 2));
}

// Random bytes, weighted towards leads and continuations so that sequences come about.
std::string random_bytes(test::Random& random, std::size_t size) {
  static constexpr std::string_view kLikely =
      "\x80\xBF\x9F\xA0\xC2\xE0\xE2\xED\xEF\xF0\xF1\xF4"
      "a";
  std::string text(size, '\0');
  for (char& c : text)
    c = random() % 4 == 0 ? static_cast<char>(random()) : kLikely[test::pick(random, 0, kLikely.size() - 1)];
  return text;
}

TEST(Utf8, TextInPiecesIsTheTextInOne) {
  test::Random random(test::seed_of_test());
  for (int round = 0; round < 20000; ++round) {
    const std::string text = random_bytes(random, test::pick(random, 0, 24));
    std::string shown;
    std::string pending;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t n = test::pick(random, 1, 5);
      pending += text.substr(at, n);
      at += n;
      const std::size_t whole = complete_prefix(pending);
      ASSERT_LE(pending.size() - whole, 3U);
      shown += replace_invalid(pending.substr(0, whole));
      pending.erase(0, whole);
    }
    ASSERT_EQ(shown + replace_invalid(pending), replace_invalid(text));
  }
}

}  // namespace
}  // namespace sluice::utf8
