// A tokenizer whose ids are bytes, so that every text is also a sequence of tokens and characters fall apart;
// and one special token, <|end|> = 256.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "model/tokenizer.h"
#include "tests/support/temp_folder.h"

namespace sluice::test {

inline constexpr std::int32_t kEndToken = 256;

inline model::Tokenizer byte_tokenizer() {
  using Json = nlohmann::json;
  Json vocab = Json::object();
  char32_t other =
      256;  // GPT-2's alphabet: printable Latin-1 stands for itself, the rest follows from U+0100
  for (std::int32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
    std::string name;
    utf8::append(name, printable ? static_cast<char32_t>(byte) : other++);
    vocab[name] = byte;
  }
  const Json split{
      {"type", "Split"},
      {"pattern",
       {{"Regex",
         R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
         R"(\s*[\r\n]+|\s+(?!\S)|\s+)"}}},
      {"behavior", "Isolated"},
      {"invert", false}};
  const Json byte_level{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  const Json end{{"id", kEndToken}, {"content", "<|end|>"}, {"single_word", false}, {"lstrip", false},
                 {"rstrip", false}, {"normalized", false},  {"special", true}};
  const Json file{
      {"version", "1.0"},
      {"added_tokens", Json::array({end})},
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", Json::array({split, byte_level})}}},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model",
       {{"type", "BPE"},
        {"vocab", vocab},
        {"merges", Json::array()},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", false}}}};
  const TempFolder folder;
  folder.write("tokenizer.json", file.dump());
  return model::Tokenizer::from_folder(folder.path());
}

inline std::vector<std::int32_t> bytes_of(std::string_view text) {
  std::vector<std::int32_t> tokens;
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

}  // namespace sluice::test
