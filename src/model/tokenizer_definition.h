// What makes a byte-level BPE tokenizer, whatever file says it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/added_tokens.h"
#include "model/pretokenizer.h"
#include "model/token_table.h"

namespace sluice::model {

// Far above any vocabulary there is (Qwen3.5: 248,077 tokens, 247,587 merges), low enough that a file which turns out to be
// damaged at its very end has cost less than a second.
inline constexpr std::size_t kMaxTokens = std::size_t{3} << 17U;  // in the vocabulary
inline constexpr std::size_t kMaxMerges = std::size_t{3} << 17U;
inline constexpr std::size_t kMaxAddedTokens = std::size_t{1} << 15U;
inline constexpr std::int32_t kMaxTokenId = (1 << 20) - 1;  // there are tables indexed by id

struct TokenizerDefinition {
  struct Merge {
    std::string left;
    std::string right;
  };

  // For errors: the file, and what it calls these fields.
  std::string where;
  std::string vocab_field = "model.vocab";
  std::string merges_field = "model.merges";
  std::string added_tokens_field = "added_tokens";

  TokenTable vocab;            // in the byte alphabet; at most kMaxTokens, ids in [0, kMaxTokenId]
  std::vector<Merge> merges;   // in order of rank; at most kMaxMerges
  bool ignore_merges = false;  // a piece that is a token is that token, whatever its merges would give
  bool nfc = true;
  SplitPattern pattern = SplitPattern::kQwen35;
  std::vector<AddedToken> added_tokens;  // at most kMaxAddedTokens
  std::string chat_template;
};

// Parses the text of a `tokenizer.json`. Throws Error that names `where`, the field and the expectation, for
// bad JSON and for every setting that would change ids and that we don't have. What only the whole tokenizer
// can tell (merges of unknown tokens, ids given twice) is checked by Tokenizer.
TokenizerDefinition parse_tokenizer_json(std::string_view text, std::string_view where);

// The chat template that lies in `folder`: chat_template.jinja, else tokenizer_config.json's (the one called
// "default" if it has several); empty if there is none. Throws Error for files that can't be read as such.
std::string read_chat_template(const std::filesystem::path& folder);

}  // namespace sluice::model
