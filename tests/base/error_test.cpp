#include "base/error.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/checked.h"
#include "base/utf8.h"
#include "tests/support/seed.h"

namespace sluice {
namespace {

TEST(Error, IsWhatWhereAndWhatToDo) {
  EXPECT_STREQ(Error("WHAT", "WHERE", "DO THIS").what(), "WHAT (WHERE): DO THIS");
  EXPECT_STREQ(Error("WHAT", "WHERE").what(), "WHAT (WHERE)");
  EXPECT_STREQ(Error("WHAT", "", "DO THIS").what(), "WHAT: DO THIS");
  EXPECT_STREQ(Error("WHAT").what(), "WHAT");
}

TEST(Error, HostileTextIsEscapedAndCut) {
  EXPECT_STREQ(Error("a\x1b[31m\nb\xff", "\r").what(), "a\\x1b[31m\\x0ab\\xff (\\x0d)");
  EXPECT_STREQ(Error("naïve 😀").what(), "naïve 😀");
  EXPECT_EQ(printable("\xC2\x85"), "\\xc2\\x85");  // C1 control
  // Ends of lines for some, and marks that turn text around; their neighbours stay.
  EXPECT_EQ(printable("\xE2\x80\xA7 \xE2\x80\xA8 \xE2\x80\xA9 \xE2\x80\xAF"),
            "\xE2\x80\xA7 \\xe2\\x80\\xa8 \\xe2\\x80\\xa9 \xE2\x80\xAF");
  EXPECT_EQ(printable("\xE2\x80\xAA \xE2\x80\xAE"), "\\xe2\\x80\\xaa \\xe2\\x80\\xae");
  EXPECT_EQ(printable("\xE2\x81\xA5 \xE2\x81\xA6 \xE2\x81\xA9 \xE2\x81\xAA"),
            "\xE2\x81\xA5 \\xe2\\x81\\xa6 \\xe2\\x81\\xa9 \xE2\x81\xAA");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
  EXPECT_EQ(printable("abc", 3), "abc");
  const std::string endless(1'000'000, '\n');
  EXPECT_LT(std::string(Error(endless, endless, endless).what()).size(), 1300U);
}

TEST(Error, AnyBytesBecomeOnePrintableLine) {
  test::Random random(test::seed_of_test());
  for (int round = 0; round < 20000; ++round) {
    std::string bytes(test::pick(random, 0, 40), '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    const std::string line = printable(bytes);
    ASSERT_EQ(utf8::replace_invalid(line), line);
    for (const char c : line) ASSERT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  }
}

TEST(ErrorDeathTest, ABrokenInvariantAbortsWithFileAndLine) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(SLUICE_CHECK(1 + 1 == 3), "error_test.cpp:[0-9]+: broken invariant: 1 \\+ 1 == 3");
}

TEST(Checked, OverflowIsNothing) {
  constexpr std::size_t kMax = ~std::size_t{0};
  EXPECT_EQ(checked_multiply(kMax, 1), kMax);
  EXPECT_EQ(checked_multiply(kMax / 2, 2), kMax - 1);
  EXPECT_EQ(checked_multiply(kMax / 2 + 1, 2), std::nullopt);
  EXPECT_EQ(checked_multiply(kMax, 0), 0U);
  EXPECT_EQ(checked_add(kMax, 0), kMax);
  EXPECT_EQ(checked_add(kMax, 1), std::nullopt);
}

}  // namespace
}  // namespace sluice
