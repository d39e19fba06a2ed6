// Properties that hold for every text and every sequence of ids, on the small tokenizer of
// tests/golden-tokenizer.
#include "model/tokenizer.h"

#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "model/nfc.h"
#include "tests/support/seed.h"

namespace sluice::model {
namespace {

const Tokenizer& tokenizer() {
  static const Tokenizer loaded =
      Tokenizer::from_folder(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden-tokenizer");
  return loaded;
}

std::mt19937 seeded() {
  return std::mt19937(static_cast<std::uint32_t>(test::seed_of_test()));
}

// Bytes of all kinds; mostly not UTF-8.
std::string random_bytes(std::mt19937& random) {
  std::string text(random() % 40, '\0');
  for (char& byte : text) {
    const auto any = static_cast<char>(static_cast<unsigned char>(random() % 256));
    const auto kind = random() % 3;
    byte = kind == 0 ? any : kind == 1 ? "abcd"[random() % 4] : " \n'<|.0"[random() % 7];
  }
  return text;
}

std::string random_text(std::mt19937& random) {
  std::string text;
  for (std::size_t n = random() % 30; n > 0; --n) {
    static constexpr unsigned kEnds[] = {0x80, 0x370, 0x1200, 0xD800, 0xAC00 + 11172, 0x110000};
    auto c = static_cast<char32_t>(random() % kEnds[random() % 6]);
    if (c >= 0xD800 && c < 0xE000) c = ' ';
    utf8::append(text, c);
  }
  return text;
}

std::vector<std::int32_t> random_ids(std::mt19937& random) {
  std::vector<std::int32_t> ids(random() % 30);
  // Half of them single bytes (the first 256 tokens), so that characters are cut and broken.
  const auto n_ids = static_cast<unsigned>(tokenizer().size());
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % (random() % 2 == 0 ? 256 : n_ids));
  return ids;
}

TEST(Tokenizer, DecodingWhatWasEncodedGivesTheTextInNfc) {
  std::mt19937 random = seeded();
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random_text(random);
    EXPECT_EQ(tokenizer().decode(tokenizer().encode(text), false), nfc(text));
    EXPECT_EQ(tokenizer().decode(tokenizer().encode(text, false), true), nfc(text));
  }
}

TEST(Tokenizer, InvalidUtf8CountsAsReplacementCharacters) {
  std::mt19937 random = seeded();
  for (int i = 0; i < 3000; ++i) {
    const std::string bytes = random_bytes(random);
    EXPECT_EQ(tokenizer().encode(bytes), tokenizer().encode(utf8::replace_invalid(bytes)));
  }
}

TEST(Tokenizer, StreamingGivesTheWholeTextAndNeverHalfACharacter) {
  std::mt19937 random = seeded();
  for (int i = 0; i < 3000; ++i) {
    const std::vector<std::int32_t> ids = random_ids(random);
    const bool skip_special = i % 2 == 0;
    StreamDecoder decoder(tokenizer(), skip_special);
    std::string text;
    std::string bytes;
    for (const std::int32_t id : ids) {
      const std::string piece = decoder.push(id);
      EXPECT_EQ(piece, utf8::replace_invalid(piece)) << "half a character";
      text += piece;
      // Nothing is held back that is complete.
      if (!skip_special || !tokenizer().is_special(id)) bytes += tokenizer().token_bytes(id);
      EXPECT_EQ(text, utf8::replace_invalid(bytes.substr(0, utf8::complete_prefix(bytes))));
    }
    text += decoder.finish();
    EXPECT_EQ(text, tokenizer().decode(ids, skip_special));
    EXPECT_EQ(decoder.finish(), "");
  }
}

TEST(Tokenizer, SpecialTokensInATextAreControlsOnlyIfAskedFor) {
  const std::string text = "<|im_start|>user\n<think></think><|im_end|>";
  const std::optional<std::int32_t> start = tokenizer().id_of("<|im_start|>");
  const std::optional<std::int32_t> end = tokenizer().id_of("<|im_end|>");
  const std::optional<std::int32_t> think = tokenizer().id_of("<think>");
  ASSERT_TRUE(start && end && think);
  const std::vector<std::int32_t> parsed = tokenizer().encode(text);
  EXPECT_EQ(parsed.front(), *start);
  EXPECT_EQ(parsed.back(), *end);
  EXPECT_TRUE(tokenizer().is_special(*start));
  EXPECT_FALSE(tokenizer().is_special(*think));
  EXPECT_EQ(tokenizer().decode(parsed, true), "user\n<think></think>");
  EXPECT_EQ(tokenizer().decode(parsed, false), text);
  const std::vector<std::int32_t> plain = tokenizer().encode(text, false);
  EXPECT_THAT(plain, testing::Not(testing::Contains(*start)));
  EXPECT_THAT(plain, testing::Not(testing::Contains(*end)));
  EXPECT_THAT(plain, testing::Contains(*think));
  EXPECT_EQ(tokenizer().decode(plain, true), text);
}

TEST(Tokenizer, IdsWithoutToken) {
  const auto size = static_cast<std::int32_t>(tokenizer().size());
  for (const std::int32_t id : {-1, size, size + 1000, INT32_MIN, INT32_MAX}) {
    EXPECT_THROW(tokenizer().decode({id}, false), Error) << id;
    EXPECT_THROW(StreamDecoder(tokenizer()).push(id), Error) << id;
    EXPECT_EQ(tokenizer().token_bytes(id), "");
    EXPECT_FALSE(tokenizer().is_special(id));
  }
  EXPECT_NE(tokenizer().token_bytes(size - 1), "");
  EXPECT_EQ(tokenizer().id_of("no such token"), std::nullopt);
}

// Processor time of encode() on `unit` repeated to `bytes` bytes, the best of three: other work on the
// machine matters little.
double seconds_to_encode(const std::string& unit, std::size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += unit;
  double best = 1e9;
  for (int i = 0; i < 3; ++i) {
    const std::clock_t begin = std::clock();
    EXPECT_FALSE(tokenizer().encode(text).empty());
    best = std::min(best, static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
  }
  return best;
}

// For 8 times the text, n log n grows 10-fold and quadratic time 64-fold. Between them is room for caches and
// noise.
TEST(Tokenizer, LongRunsOfOneKindTakeLinearTime) {
  for (const std::string unit :
       {"a", "ab", "é", "漢",    "\u0301",        "7",      " ",  "\n",      " \n",  "\t\r",  "!",
        "'", "🙂", "<", "<|im_", "e\u0323\u0301", "\u1100", "각", "<think>", "\xff", "don't "}) {
    const double small = seconds_to_encode(unit, 25'000);
    const double large = seconds_to_encode(unit, 200'000);
    EXPECT_LT(large, 25 * small + 0.01) << unit;
  }
}

TEST(Tokenizer, ManyThreadsMayEncodeAtOnce) {
  const std::string text = "Several threads, one tokenizer: Größe 12345 你好 e\u0301.";
  const std::vector<std::int32_t> expected = tokenizer().encode(text);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) count += tokenizer().encode(text) == expected ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, testing::Each(0));
}

class ChatTemplateFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) / "sluice-tokenizer-test";
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    std::filesystem::copy(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden-tokenizer/tokenizer.json",
                          folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }
  std::string loaded() const { return Tokenizer::from_folder(folder_).chat_template(); }

  std::filesystem::path folder_;
};

TEST_F(ChatTemplateFile, ComesFromOneOfTwoFiles) {
  EXPECT_EQ(loaded(), "");
  write("tokenizer_config.json", R"({"chat_template": "one"})");
  EXPECT_EQ(loaded(), "one");
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "x", "template": "a"}, {"name": "default", "template": "b"}]})");
  EXPECT_EQ(loaded(), "b");
  write("chat_template.jinja", "two\n");
  EXPECT_EQ(loaded(), "two\n");
}

TEST_F(ChatTemplateFile, AWrongConfigIsAnError) {
  for (const char* text : {"", "{", "[]", R"({"chat_template": 3})", R"({"chat_template": [{"name": 3}]})"}) {
    write("tokenizer_config.json", text);
    EXPECT_THROW(loaded(), Error) << text;
  }
}

TEST_F(ChatTemplateFile, NoTokenizerIsAnErrorThatNamesTheFile) {
  std::filesystem::remove(folder_ / "tokenizer.json");
  try {
    loaded();
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("tokenizer.json"));
  }
}

}  // namespace
}  // namespace sluice::model
