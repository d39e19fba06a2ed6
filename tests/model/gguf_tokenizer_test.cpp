// Risk: the tokenizer inside a GGUF gives other ids than the tokenizer.json it was made from, or a wrong one loads.
#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "base/mapped_file.h"
#include "model/gguf_model.h"
#include "model/tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

namespace sluice::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr std::int32_t kNormal = 1;
constexpr std::int32_t kControl = 3;
constexpr std::int32_t kUserDefined = 4;
constexpr std::int32_t kUnused = 5;

const std::filesystem::path kGolden = std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden-tokenizer";

Json read_json(const std::filesystem::path& path) {
  return parse_json(read_text_file(path, std::size_t{1} << 24U), path.string());
}

// What llama.cpp's converter makes of a tokenizer.json: tokens by id, holes padded.
struct Lists {
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  std::vector<std::string> merges;
  std::string pre = "qwen35";

  explicit Lists(const Json& json, std::size_t padding = 5) {
    for (const auto& item : json["model"]["vocab"].items()) put(item.value(), item.key(), kNormal);
    for (const Json& token : json["added_tokens"])
      put(token["id"], token["content"], token["special"].get<bool>() ? kControl : kUserDefined);
    tokens.resize(tokens.size() + padding);
    types.resize(tokens.size(), kUnused);
    for (std::size_t i = 0; i < tokens.size(); ++i)
      if (types[i] == kUnused) tokens[i] = "[PAD" + std::to_string(i) + "]";
    for (const Json& merge : json["model"]["merges"])
      merges.push_back(merge.is_string() ? merge.get<std::string>()
                                         : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }

  void put(const Json& id, const std::string& text, std::int32_t type) {
    const auto at = id.get<std::size_t>();
    if (at >= tokens.size()) tokens.resize(at + 1);
    types.resize(tokens.size(), kUnused);
    tokens[at] = text;
    types[at] = type;
  }

  test::GgufWriter writer() const {
    test::GgufWriter writer;
    writer.key("general.architecture", std::string("qwen35"));
    writer.key("tokenizer.ggml.model", std::string("gpt2")).key("tokenizer.ggml.pre", pre);
    writer.array("tokenizer.ggml.tokens", tokens).array("tokenizer.ggml.token_type", types);
    writer.array("tokenizer.ggml.merges", merges);
    writer.key("tokenizer.ggml.add_bos_token", false);
    writer.key("tokenizer.ggml.bos_token_id", std::uint32_t{11});
    writer.key("tokenizer.chat_template", std::string("a {{ template }}"));
    return writer;
  }
};

void set(test::GgufWriter& writer, const std::string& key, std::uint32_t type, const std::string& value) {
  std::erase_if(writer.keys, [&](const auto& pair) { return pair.first == key; });
  writer.raw_key(key, type, value);
}

Tokenizer load(const test::GgufWriter& writer) {
  const test::TempFolder folder;
  return Tokenizer::from_path(folder.write("some.gguf", writer.file()));
}

std::string failure(const test::GgufWriter& writer) {
  const std::string message = test::error_of([&] { load(writer); });
  EXPECT_THAT(message, HasSubstr("some.gguf"));
  return message;
}

std::string failure(const Lists& lists) {
  return failure(lists.writer());
}

std::string bytes_of_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes += static_cast<char>(static_cast<unsigned char>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

// Words of the vocabulary, added tokens, and any bytes between them.
std::string random_text(test::Random& random, const std::vector<std::string>& parts) {
  std::string text;
  for (std::size_t n = test::pick(random, 0, 12); n > 0; --n) {
    if (random() % 3 == 0) {
      for (std::size_t i = test::pick(random, 1, 6); i > 0; --i) text += static_cast<char>(random());
    } else {
      text += parts[test::pick(random, 0, parts.size() - 1)];
    }
    if (random() % 2 == 0) text += ' ';
  }
  return text;
}

TEST(GgufTokenizer, GivesTheIdsOfItsTokenizerJson) {
  test::Random random(test::seed_of_test());
  const Json json = read_json(kGolden / "tokenizer.json");
  const Lists lists(json);
  const Tokenizer want = Tokenizer::from_path(kGolden);
  const Tokenizer got = load(lists.writer());
  EXPECT_EQ(got.chat_template(), "a {{ template }}");
  EXPECT_EQ(got.size(), want.size());
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < lists.tokens.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    ASSERT_EQ(got.token_bytes(id), want.token_bytes(id));
    ASSERT_EQ(got.is_special(id), want.is_special(id));
    if (lists.types[i] == kUnused) continue;
    ASSERT_EQ(got.id_of(lists.tokens[i]), id);
    parts.push_back(want.token_bytes(id));
  }
  const auto expect_same = [&](const std::string& text) {
    for (const bool special : {true, false})
      ASSERT_EQ(got.encode(text, special), want.encode(text, special)) << testing::PrintToString(text);
    for (const bool skip : {true, false})
      ASSERT_EQ(got.decode(got.encode(text), skip), want.decode(want.encode(text), skip));
  };
  for (int i = 0; i < 3000; ++i) expect_same(random_text(random, parts));
  for (const Json& row : read_json(kGolden / "samples.json"))
    expect_same(row.contains("hex") ? bytes_of_hex(row["hex"].get<std::string>())
                                    : row["text"].get<std::string>());
  expect_same("e\u0301 \u212b");  // NFC makes other letters of these
  ASSERT_EQ(got.encode("e\u0301"), got.encode("\u00e9"));
}

TEST(GgufTokenizer, ThePatternIsThatOfPre) {
  Json json = read_json(kGolden / "tokenizer.json");
  Lists lists(json);
  lists.pre = "qwen2";
  json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] =
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
      "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const Tokenizer want = Tokenizer::from_definition(parse_tokenizer_json(json.dump(), "json"));
  const Tokenizer got = load(lists.writer());
  test::Random random(test::seed_of_test());
  const std::vector<std::string> parts = {"\u0915\u094d\u0937", "a\u0323", "word", "1 2",
                                          "\u0e01\u0e34",       "'ll"};
  for (int i = 0; i < 300; ++i) {
    const std::string text = random_text(random, parts);
    ASSERT_EQ(got.encode(text), want.encode(text)) << testing::PrintToString(text);
  }
}

class BadGgufTokenizer : public testing::Test {
 protected:
  Lists lists_{read_json(kGolden / "tokenizer.json")};
};

TEST_F(BadGgufTokenizer, EveryKeyMustBeThereAndOfItsType) {
  for (const char* name : {"model", "pre", "tokens", "token_type", "merges"}) {
    const std::string key = std::string("tokenizer.ggml.") + name;
    test::GgufWriter writer = lists_.writer();
    set(writer, key, 4, test::gguf_bytes(std::uint32_t{1}));
    EXPECT_THAT(failure(writer), HasSubstr(key));
    if (key == "tokenizer.ggml.token_type") continue;  // may be absent
    std::erase_if(writer.keys, [&](const auto& pair) { return pair.first == key; });
    EXPECT_THAT(failure(writer), AllOf(HasSubstr(key), HasSubstr("missing")));
  }
  test::GgufWriter writer = lists_.writer();
  set(writer, "tokenizer.ggml.model", 8, test::gguf_bytes("llama"));
  EXPECT_THAT(failure(writer), AllOf(HasSubstr("tokenizer.ggml.model is \"llama\""), HasSubstr("gpt2")));
  lists_.pre = "gpt-2";
  EXPECT_THAT(failure(lists_), AllOf(HasSubstr("tokenizer.ggml.pre is \"gpt-2\""), HasSubstr("qwen35")));
}

// As in llama.cpp, which then knows of no marks either.
TEST_F(BadGgufTokenizer, WithoutTypesAllTokensAreText) {
  test::GgufWriter writer = lists_.writer();
  std::erase_if(writer.keys, [](const auto& pair) { return pair.first == "tokenizer.ggml.token_type"; });
  const test::TempFolder folder;
  const Tokenizer tokenizer = Tokenizer::from_path(folder.write("tokenizer.gguf", writer.file()));
  for (std::size_t i = 0; i < lists_.tokens.size(); ++i) {
    if (lists_.types[i] == 5) continue;  // "unused" with types
    EXPECT_EQ(tokenizer.id_of(lists_.tokens[i]), static_cast<std::int32_t>(i));
    if (lists_.types[i] != 3) continue;
    EXPECT_GT(tokenizer.encode(lists_.tokens[i]).size(), 1U) << lists_.tokens[i];
  }
}

TEST_F(BadGgufTokenizer, ListsMustFitTogether) {
  Lists lists = lists_;
  lists.types.pop_back();
  EXPECT_THAT(failure(lists),
              AllOf(HasSubstr("tokenizer.ggml.token_type is a list of"), HasSubstr("expected one of")));
  lists = lists_;
  lists.tokens.push_back("more");
  EXPECT_THAT(failure(lists), HasSubstr("tokenizer.ggml.token_type"));
  lists = lists_;
  lists.tokens.clear();
  EXPECT_THAT(failure(lists), HasSubstr("tokenizer.ggml.tokens is empty"));

  test::GgufWriter writer = lists_.writer();
  const auto add_embedding = [&](std::size_t rows) {
    writer.tensors.clear();
    writer.tensor("token_embd.weight", test::ggml::kF32, {1, rows}, std::string(4 * rows, '\0'));
  };
  add_embedding(lists_.tokens.size());
  EXPECT_NO_THROW(load(writer));
  add_embedding(lists_.tokens.size() - 1);
  EXPECT_THAT(failure(writer), AllOf(HasSubstr("tokenizer.ggml.tokens"), HasSubstr("token_embd.weight")));
}

TEST_F(BadGgufTokenizer, ATokenThatCanNotBeIsNamed) {
  const auto failure_with = [&](std::size_t i, const std::string& text, std::int32_t type) {
    Lists lists = lists_;
    lists.tokens[i] = text;
    lists.types[i] = type;
    return failure(lists);
  };
  const std::size_t last = lists_.tokens.size() - 1;
  const std::string at = "[" + std::to_string(last) + "]";
  for (const std::int32_t type : {0, 2, 7, -1})
    EXPECT_THAT(failure_with(last, "new", type),
                AllOf(HasSubstr("tokenizer.ggml.token_type" + at), HasSubstr(std::to_string(type))));
  const std::string old = lists_.tokens[3];
  for (const std::int32_t type : {kNormal, kControl, kUserDefined})
    EXPECT_THAT(failure_with(last, old, type), HasSubstr("tokenizer.ggml.tokens" + at));
  EXPECT_THAT(failure_with(last, "\xff\xfe", kNormal),
              AllOf(HasSubstr("tokenizer.ggml.tokens" + at), HasSubstr("UTF-8")));
  EXPECT_THAT(failure_with(last, "", kControl), HasSubstr("tokenizer.ggml.tokens" + at));
  EXPECT_THAT(failure_with(last, std::string(2000, 'x'), kUserDefined),
              HasSubstr("tokenizer.ggml.tokens" + at));
  // A byte without a token.
  const auto letter = std::find(lists_.tokens.begin(), lists_.tokens.end(), "a") - lists_.tokens.begin();
  EXPECT_THAT(failure_with(static_cast<std::size_t>(letter), "[PAD]", kUnused),
              HasSubstr("tokenizer.ggml.tokens"));
}

TEST_F(BadGgufTokenizer, AMergeThatCanNotBeIsNamed) {
  for (const char* merge : {"", " ", "ab", " a", "a ", "a b c", "a  b", "a nosuchtokenanywhere"}) {
    Lists lists = lists_;
    lists.merges[5] = merge;
    EXPECT_THAT(failure(lists), HasSubstr("tokenizer.ggml.merges[5]")) << merge;
  }
  Lists lists = lists_;
  lists.merges[5] = lists.merges[2];
  EXPECT_THAT(failure(lists), HasSubstr("tokenizer.ggml.merges[5]"));
}

// Qwen's models know no token before or after a text; without an id there is none to add.
TEST_F(BadGgufTokenizer, TokensAroundEveryTextAreRefused) {
  for (const char* name : {"bos", "eos"}) {
    const std::string flag = std::string("tokenizer.ggml.add_") + name + "_token";
    const std::string id = std::string("tokenizer.ggml.") + name + "_token_id";
    test::GgufWriter writer = lists_.writer();
    set(writer, id, 4, test::gguf_bytes(std::uint32_t{1}));
    EXPECT_NO_THROW(load(writer));
    set(writer, flag, 7, test::gguf_bytes(true));
    EXPECT_THAT(failure(writer), AllOf(HasSubstr(flag), HasSubstr("true")));
    std::erase_if(writer.keys, [&](const auto& pair) { return pair.first == id; });
    EXPECT_NO_THROW(load(writer));
  }
}

TEST_F(BadGgufTokenizer, ATemplateMustBeText) {
  test::GgufWriter writer = lists_.writer();
  set(writer, "tokenizer.chat_template", 8, test::gguf_bytes("\xff"));
  EXPECT_THAT(failure(writer), HasSubstr("tokenizer.chat_template"));
  std::erase_if(writer.keys, [](const auto& pair) { return pair.first == "tokenizer.chat_template"; });
  EXPECT_EQ(load(writer).chat_template(), "");
}

}  // namespace
}  // namespace sluice::model
