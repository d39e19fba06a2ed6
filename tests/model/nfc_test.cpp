// NFC where sequences, not single code points, decide; what single ones give, TokenizerGolden.EveryCodePoint
// checks.
#include "model/nfc.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/utf8.h"
#include "tests/support/seed.h"

namespace sluice::model {
namespace {

// Facts from Unicode Standard Annex 15 and the Hangul arithmetic of the standard's section 3.12.
TEST(Nfc, ExamplesOfTheStandard) {
  const std::pair<const char*, const char*> examples[] = {
      {"e\u0301", "\u00e9"},                                        // composed
      {"\u212b", "\u00c5"},                                         // a singleton
      {"\u0958", "\u0915\u093c"},                                   // excluded from composition
      {"q\u0307\u0323", "q\u0323\u0307"},                           // reordered
      {"D\u0307\u0323", "\u1e0c\u0307"},                            // reordered, then the first composed
      {"\u1e9b\u0323", "\u1e9b\u0323"},                             // stays
      {"a\u0315\u0300\u05ae\u0300b", "\u00e0\u05ae\u0300\u0315b"},  // a blocked mark stays
      {"\u1100\u1161\u11a8", "\uac01"},                             // Hangul L V T
      {"\uac00\u11a8", "\uac01"},                                   // LV T
      {"\u1100\uac00", "\u1100\uac00"},                             // L LV don't join
      {"\uac01\u11a8", "\uac01\u11a8"},                             // LVT is full
      {"\u0301e", "\u0301e"},                                       // a mark without starter
      {"plain", "plain"},
      {"", ""},
  };
  for (const auto& [text, expected] : examples) EXPECT_EQ(nfc(text), expected) << text;
}

std::string random_text(std::mt19937& random) {
  static const std::vector<char32_t> kPool{'a',    'e',    ' ',    0xE9,   0x1EC7, 0x212B,  0x958,  0x344,
                                           0xF900, 0xFB1D, 0x300,  0x301,  0x323,  0x327,   0x345,  0x5B0,
                                           0x5BC,  0x94D,  0x93C,  0x9C7,  0x9BE,  0x9D7,   0xDD9,  0xDCA,
                                           0xDCF,  0x1100, 0x1112, 0x1161, 0x1175, 0x11A7,  0x11A8, 0x11C2,
                                           0xAC00, 0xAC01, 0xD788, 0x3099, 0x304B, 0x1D15E, 0x1D165};
  std::string text;
  for (std::size_t n = random() % 12; n > 0; --n) utf8::append(text, kPool[random() % kPool.size()]);
  return text;
}

TEST(Nfc, IsIdempotentAndStableUnderConcatenationOfItsOwnOutput) {
  std::mt19937 random(static_cast<std::uint32_t>(test::seed_of_test()));
  for (int i = 0; i < 20'000; ++i) {
    const std::string a = random_text(random);
    const std::string b = random_text(random);
    const std::string done = nfc(a);
    EXPECT_EQ(nfc(done), done);
    // UAX 15: normalizing parts first changes nothing in the end.
    EXPECT_EQ(nfc(nfc(a) + nfc(b)), nfc(a + b));
    EXPECT_TRUE(nfc_may_change(a) || done == a);
  }
}

}  // namespace
}  // namespace sluice::model
