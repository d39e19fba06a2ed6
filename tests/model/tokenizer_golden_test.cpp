// The ids that Hugging Face `tokenizers` gives (tools/tokenizer_golden.py), for strings of all kinds and for
// every code point.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.h"
#include "base/mapped_file.h"
#include "model/tokenizer.h"
#include "model/tokenizer_definition.h"

namespace sluice::model {
namespace {

std::filesystem::path sample_folder() {
  return std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden-tokenizer";
}

Json read_json(const std::filesystem::path& path) {
  return parse_json(read_text_file(path, std::size_t{1} << 30U), path.string());
}

// The change of tokenizer.json that the tool's `variants` makes under this name.
Json variant_of(Json json, const std::string& name) {
  if (name == "qwen2") {
    json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
        "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  } else if (name == "no_nfc") {
    json["normalizer"] = nullptr;
  } else if (name == "ignore_merges" || name == "unreachable") {
    if (name == "ignore_merges") json["model"]["ignore_merges"] = true;
    Json kept = Json::array();
    const Json& merges = json["model"]["merges"];
    for (std::size_t i = 0; i < merges.size(); ++i) {
      if (i % 7 != 3) kept.push_back(merges[i]);
    }
    json["model"]["merges"] = kept;
  } else if (name == "normalized") {
    Json& tokens = json["added_tokens"];
    std::int32_t last = 0;
    for (const Json& token : tokens) last = std::max(last, token["id"].get<std::int32_t>());
    for (const char* content : {"cafe\u0301", "\u212b", "<|im"}) {
      const bool special = content == std::string("\u212b");
      tokens.push_back({{"id", ++last}, {"content", content}, {"normalized", true}, {"special", special}});
    }
  }
  return json;
}

std::string bytes_of_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(static_cast<unsigned char>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(TokenizerGolden, GivesTheIdsOfHuggingFace) {
  const std::filesystem::path folder = sample_folder();
  const Json base = read_json(folder / "tokenizer.json");
  std::map<std::string, Tokenizer> tokenizers;
  std::size_t compared = 0;
  for (const Json& row : read_json(folder / "samples.json")) {
    const auto variant = row["variant"].get<std::string>();
    auto found = tokenizers.find(variant);
    if (found == tokenizers.end()) {
      const std::string text = variant_of(base, variant).dump();
      found =
          tokenizers.emplace(variant, Tokenizer::from_definition(parse_tokenizer_json(text, variant))).first;
    }
    const std::string text =
        row.contains("hex") ? bytes_of_hex(row["hex"].get<std::string>()) : row["text"].get<std::string>();
    ASSERT_EQ(found->second.encode(text, variant != "plain_special"),
              row["ids"].get<std::vector<std::int32_t>>())
        << folder << ", row " << compared << ": " << row.dump();
    ++compared;
  }
  EXPECT_GE(compared, 2000U);
  EXPECT_EQ(tokenizers.size(), 7U);
}

void append(std::string& out, std::uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
    return;
  }
  const std::uint32_t lead_bits = c < 0x800 ? 0xC0U : c < 0x10000 ? 0xE0U : 0xF0U;
  const std::uint32_t shifts = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  out += static_cast<char>(static_cast<unsigned char>(lead_bits | (c >> (6 * shifts))));
  for (std::uint32_t i = shifts; i > 0; --i) {
    out += static_cast<char>(static_cast<unsigned char>(0x80U | ((c >> (6 * (i - 1))) & 0x3FU)));
  }
}

TEST(TokenizerGolden, EveryCodePoint) {
  const std::filesystem::path folder = sample_folder();
  const Tokenizer tokenizer = Tokenizer::from_folder(folder);
  const Json expected = read_json(folder / "code_points.json");
  ASSERT_EQ(expected.size(), 272U);
  for (std::uint32_t block = 0; block < 272; ++block) {
    std::uint64_t hash = 0xCBF29CE484222325U;
    for (std::uint32_t start = block * 4096; start < (block + 1) * 4096; start += 64) {
      std::string text;
      for (std::uint32_t c = start; c < start + 64; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        text += 'a';
        append(text, c);
        text += "b ";
        append(text, c);
      }
      for (const std::int32_t id : tokenizer.encode(text)) {
        for (unsigned shift = 0; shift < 32; shift += 8) {
          hash = (hash ^ ((static_cast<std::uint32_t>(id) >> shift) & 0xFFU)) * 0x100000001B3U;
        }
      }
    }
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
    EXPECT_EQ(text, expected[block].get<std::string>()) << "code points from " << block * 4096;
  }
}

}  // namespace
}  // namespace sluice::model
