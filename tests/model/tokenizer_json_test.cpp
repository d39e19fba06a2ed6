// tokenizer.json files that are broken or mean what we can't do: each is one Error that names the file and
// the field, never a crash and never wrong ids.
#include <algorithm>
#include <bit>
#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "model/tokenizer.h"
#include "model/tokenizer_definition.h"
#include "tests/support/seed.h"

namespace sluice::model {
namespace {

const std::string& golden_text() {
  static const std::string text = read_text_file(
      std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden-tokenizer/tokenizer.json", 1U << 20U);
  return text;
}

Json golden() {
  return parse_json(golden_text(), "golden");
}

// The error of loading `text`, nothing if it loads.
std::optional<std::string> error_of(const std::string& text) {
  try {
    Tokenizer::from_definition(parse_tokenizer_json(text, "some/tokenizer.json"));
  } catch (const Error& error) {
    return error.what();
  }
  return std::nullopt;
}

struct BadChange {
  const char* names;  // what the error has to name
  std::function<void(Json&)> change;
};

void set(Json& json, const char* pointer, Json value) {
  json[Json::json_pointer(pointer)] = std::move(value);
}

TEST(TokenizerJson, NothingHidesBehindAZeroByte) {
  using namespace std::string_literals;
  EXPECT_EQ(error_of(golden_text()), std::nullopt);
  EXPECT_THAT(error_of(golden_text() + "\0{"s),
              testing::Optional(testing::HasSubstr("not valid JSON at byte")));
}

TEST(TokenizerJson, SettingsThatWeDoNotHaveAreErrors) {
  const std::string split = "/pre_tokenizer/pretokenizers/0";
  const BadChange changes[] = {
      {"model", [](Json& j) { j.erase("model"); }},
      {"model", [](Json& j) { j["model"] = "BPE"; }},
      {"model.type", [](Json& j) { set(j, "/model/type", "Unigram"); }},
      {"model.type", [](Json& j) { j["model"].erase("type"); }},
      {"model.dropout", [](Json& j) { set(j, "/model/dropout", 0.1); }},
      {"model.continuing_subword_prefix", [](Json& j) { set(j, "/model/continuing_subword_prefix", "##"); }},
      {"model.end_of_word_suffix", [](Json& j) { set(j, "/model/end_of_word_suffix", 3); }},
      {"model.byte_fallback", [](Json& j) { set(j, "/model/byte_fallback", true); }},
      {"model.byte_fallback", [](Json& j) { set(j, "/model/byte_fallback", "no"); }},
      {"model.ignore_merges", [](Json& j) { set(j, "/model/ignore_merges", 1); }},
      {"model.vocab", [](Json& j) { j["model"].erase("vocab"); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab", Json::object()); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab", Json::array({1, 2})); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab/a", "0"); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab/a", -1); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab/a", 1.5); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab/a", 1e300); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab/a", 18446744073709551615U); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab/a", 4294967297U); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab/a", kMaxTokenId + 1); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab/a", Json::array({3})); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab/a", Json::object()); }},
      {"model.vocab", [](Json& j) { set(j, "/model/vocab/a", nullptr); }},
      {"id 64", [](Json& j) { set(j, "/model/vocab/b", 64); }},
      {"byte 90", [](Json& j) { j["model"]["vocab"].erase("Z"); }},
      {"model.merges", [](Json& j) { j["model"].erase("merges"); }},
      {"model.merges", [](Json& j) { set(j, "/model/merges", "a b"); }},
      {"model.merges[0]", [](Json& j) { set(j, "/model/merges/0", "ab"); }},
      {"model.merges[0]", [](Json& j) { set(j, "/model/merges/0", "a b c"); }},
      {"model.merges[0]", [](Json& j) { set(j, "/model/merges/0", 7); }},
      {"model.merges[0]", [](Json& j) { set(j, "/model/merges/0", Json::array({"a"})); }},
      {"model.merges[0]", [](Json& j) { set(j, "/model/merges/0", Json::array({"a", "b", "c"})); }},
      {"model.merges[0]", [](Json& j) { set(j, "/model/merges/0", Json::array({"a", Json::array({"b"})})); }},
      {"model.merges[0]", [](Json& j) { set(j, "/model/merges/0", Json::array({"a", 1})); }},
      {"model.merges[0]", [](Json& j) { set(j, "/model/merges/0", Json::object()); }},
      {"model.merges[5]", [](Json& j) { set(j, "/model/merges/5", Json::array({"nosuchtoken", "a"})); }},
      {"model.merges[5]", [](Json& j) { set(j, "/model/merges/5", Json::array({"a", "nosuchtoken"})); }},
      {"model.merges[5]", [](Json& j) { set(j, "/model/merges/5", Json::array({"Q", "Z"})); }},
      {"model.merges[9]", [](Json& j) { j["model"]["merges"][9] = j["model"]["merges"][2]; }},
      {"normalizer.type", [](Json& j) { set(j, "/normalizer/type", "NFKC"); }},
      {"normalizer", [](Json& j) { set(j, "/normalizer", "NFC"); }},
      {"normalizer.normalizers[1]",
       [](Json& j) {
         j["normalizer"] = {{"type", "Sequence"},
                            {"normalizers", Json::array({{{"type", "NFC"}}, {{"type", "Lowercase"}}})}};
       }},
      {"pre_tokenizer", [](Json& j) { j["pre_tokenizer"] = nullptr; }},
      {"pre_tokenizer.type", [](Json& j) { j["pre_tokenizer"] = j["pre_tokenizer"]["pretokenizers"][1]; }},
      {"pre_tokenizer.pretokenizers", [](Json& j) { j["pre_tokenizer"]["pretokenizers"].erase(1); }},
      {"pretokenizers[0].pattern.Regex",
       [split](Json& j) { set(j, (split + "/pattern/Regex").c_str(), "\\s+"); }},
      {"pretokenizers[0].pattern",
       [split](Json& j) { set(j, (split + "/pattern").c_str(), {{"String", " "}}); }},
      {"pretokenizers[0].behavior", [split](Json& j) { set(j, (split + "/behavior").c_str(), "Removed"); }},
      {"pretokenizers[0].invert", [split](Json& j) { set(j, (split + "/invert").c_str(), true); }},
      {"pretokenizers[1].add_prefix_space",
       [](Json& j) { j["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; }},
      {"pretokenizers[1].use_regex",
       [](Json& j) { j["pre_tokenizer"]["pretokenizers"][1].erase("use_regex"); }},
      {"decoder", [](Json& j) { j["decoder"] = nullptr; }},
      {"decoder.type", [](Json& j) { j["decoder"] = {{"type", "WordPiece"}}; }},
      {"post_processor.type", [](Json& j) { j["post_processor"] = {{"type", "TemplateProcessing"}}; }},
      {"added_tokens", [](Json& j) { j["added_tokens"] = Json::object(); }},
      {"added_tokens[0]", [](Json& j) { j["added_tokens"][0] = "<|endoftext|>"; }},
      {"added_tokens[0].content", [](Json& j) { j["added_tokens"][0]["content"] = ""; }},
      {"added_tokens[0].content", [](Json& j) { j["added_tokens"][0]["content"] = std::string(5000, 'a'); }},
      {"added_tokens[0].content", [](Json& j) { j["added_tokens"][0].erase("content"); }},
      {"added_tokens[0].id", [](Json& j) { j["added_tokens"][0]["id"] = -1; }},
      {"added_tokens[0].id", [](Json& j) { j["added_tokens"][0]["id"] = 18446744073709551615U; }},
      {"added_tokens[0].id", [](Json& j) { j["added_tokens"][0]["id"] = 1.0; }},
      {"id 7", [](Json& j) { j["added_tokens"][0]["id"] = 7; }},
      {"added_tokens[3].lstrip", [](Json& j) { j["added_tokens"][3]["lstrip"] = true; }},
      {"added_tokens[3].rstrip", [](Json& j) { j["added_tokens"][3]["rstrip"] = true; }},
      {"added_tokens[3].single_word", [](Json& j) { j["added_tokens"][3]["single_word"] = true; }},
      {"added_tokens[3].special", [](Json& j) { j["added_tokens"][3]["special"] = "yes"; }},
      {"added_tokens[1]", [](Json& j) { j["added_tokens"][1]["content"] = j["added_tokens"][0]["content"]; }},
      {"added_tokens[1].id", [](Json& j) { j["added_tokens"][1]["content"] = "a"; }},
  };
  for (const BadChange& bad : changes) {
    Json json = golden();
    bad.change(json);
    const std::optional<std::string> error = error_of(json.dump());
    ASSERT_TRUE(error) << bad.names;
    EXPECT_THAT(*error, testing::HasSubstr(bad.names));
    EXPECT_THAT(*error, testing::HasSubstr("some/tokenizer.json"));
    EXPECT_LT(error->size(), 1300U);
  }
}

TEST(TokenizerJson, OtherFormsOfTheSameTokenizerGiveTheSameIds) {
  const std::string text = "It's 12 o'clock: Größe, e\u0301 <think> 你好<|im_end|>";
  const auto ids_of = [&](const Json& json) {
    return Tokenizer::from_definition(parse_tokenizer_json(json.dump(), "x")).encode(text);
  };
  const Json json = golden();
  const std::vector<std::int32_t> expected = ids_of(json);
  Json strings = json;
  for (Json& merge : strings["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  EXPECT_EQ(ids_of(strings), expected);
  Json sequence = json;
  sequence["normalizer"] = {{"type", "Sequence"}, {"normalizers", Json::array({json["normalizer"]})}};
  sequence["post_processor"] = {{"type", "ByteLevel"}, {"trim_offsets", false}};
  EXPECT_EQ(ids_of(sequence), expected);
  Json sparse = json;  // as older files are: settings at their defaults left out or empty
  for (const char* key : {"dropout", "unk_token", "fuse_unk", "byte_fallback", "ignore_merges"}) {
    sparse["model"].erase(key);
  }
  sparse["model"]["continuing_subword_prefix"] = "";
  sparse["model"]["end_of_word_suffix"] = "";
  sparse.erase("post_processor");
  EXPECT_EQ(ids_of(sparse), expected);
  Json listed = json;  // added tokens that the vocabulary has, too
  for (const Json& token : json["added_tokens"]) {
    listed["model"]["vocab"][token["content"].get<std::string>()] = token["id"];
  }
  EXPECT_EQ(ids_of(listed), expected);
}

// nlohmann's writer can't write a key twice, so these are made by hand.
// What `tokenizers` 0.22.2 gives for each of these: special tokens come before the others, and of equal ones the first counts.
TEST(TokenizerJson, OfAddedTokensThatNfcMakesEqualTheFirstSpecialOneElseTheFirstIsMatched) {
  std::vector<std::string> contents = {"q\xC3\x85", "q\xE2\x84\xAB",
                                       "qA\xCC\x8A"};  // U+00C5, U+212B, A U+030A
  do {
    for (unsigned special = 0; special < 8; ++special) {
      Json json = golden();
      auto next = json["added_tokens"].back()["id"].get<std::int32_t>();
      std::vector<std::int32_t> ids;
      for (std::size_t i = 0; i < contents.size(); ++i) {
        ids.push_back(++next);
        json["added_tokens"].push_back({{"id", next},
                                        {"content", contents[i]},
                                        {"normalized", true},
                                        {"special", (special >> i & 1U) != 0}});
      }
      const auto tokenizer =
          Tokenizer::from_definition(parse_tokenizer_json(json.dump(), "some/tokenizer.json"));
      const std::int32_t first = ids[special == 0 ? 0 : static_cast<std::size_t>(std::countr_zero(special))];
      for (const std::string& text : contents)
        EXPECT_THAT(tokenizer.encode(text), testing::ElementsAre(first)) << special;
    }
  } while (std::next_permutation(contents.begin(), contents.end()));
}

TEST(TokenizerJson, KeysGivenTwiceAreErrors) {
  const std::string& text = golden_text();
  const auto with = [&](const std::string& before, const std::string& inserted) {
    const std::size_t at = text.find(before);
    EXPECT_NE(at, std::string::npos);
    return text.substr(0, at + before.size()) + inserted + text.substr(at + before.size());
  };
  EXPECT_THAT(error_of(with("\"vocab\":{", "\"a\":9999,")).value_or(""), testing::HasSubstr("\"a\" twice"));
  EXPECT_THAT(error_of(with("\"model\":{", "\"vocab\":{},")).value_or(""), testing::HasSubstr("\"vocab\""));
  EXPECT_THAT(error_of(with("{", "\"model\":{},")).value_or(""), testing::HasSubstr("\"model\""));
  EXPECT_THAT(error_of(with("{", "\"x\":{\"y\":1,\"y\":2},")).value_or(""), testing::HasSubstr("\"y\""));
}

TEST(TokenizerJson, NestingIsBounded) {
  for (const std::string open :
       {"[", "{\"a\":", "{\"model\":{\"vocab\":{\"a\":", "{\"model\":{\"merges\":[["}) {
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += open;
    EXPECT_TRUE(error_of(deep));
    EXPECT_TRUE(error_of("{\"x\":" + deep));
  }
}

TEST(TokenizerJson, EveryTruncationIsAnError) {
  const std::string& text = golden_text();
  const std::size_t end = text.find_last_of('}');
  for (std::size_t size = 0; size <= end; size += size < 4000 || size + 300 > end ? 7 : 997) {
    const std::optional<std::string> error = error_of(text.substr(0, size));
    ASSERT_TRUE(error) << size;
    EXPECT_THAT(*error, testing::HasSubstr("some/tokenizer.json"));
  }
}

// Whatever changes in the file, it is an Error or a tokenizer that works.
TEST(TokenizerJson, RandomDamageNeverCrashes) {
  std::mt19937 random(static_cast<std::uint32_t>(test::seed_of_test()));
  for (int i = 0; i < 150; ++i) {
    std::string text = golden_text();
    for (auto n = 1 + random() % 3; n > 0; --n) {
      const std::size_t at = random() % text.size();
      const auto kind = random() % 3;
      if (kind == 0) text[at] = static_cast<char>(random() % 256);
      if (kind == 1) text.erase(at, 1 + random() % 20);
      if (kind == 2) text.insert(at, text.substr(random() % text.size(), random() % 30));
    }
    try {
      const Tokenizer tokenizer = Tokenizer::from_definition(parse_tokenizer_json(text, "x"));
      const std::string sample = "It's Größe 12\n <think> 你好";
      EXPECT_FALSE(tokenizer.encode(sample).empty());
      EXPECT_FALSE(tokenizer.decode(tokenizer.encode(sample), false).empty());
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()), "");
    }
  }
}

}  // namespace
}  // namespace sluice::model
