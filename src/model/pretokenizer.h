// The pre-tokenizer: where text is cut into pieces that merges never cross. Hand-written scanners for the two
// expressions that the Qwen family uses, which match the way a backtracking regular expression engine does
// but in linear time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::model {

enum class SplitPattern : std::uint8_t {
  kQwen2,   // Qwen2, Qwen2.5, Qwen3: a word is letters
  kQwen35,  // Qwen3.5: a word is letters and marks
};

// The pattern that `expression` (tokenizer.json's pre_tokenizer.….pattern.Regex) is; nothing if neither.
std::optional<SplitPattern> split_pattern_of(std::string_view expression);

// The end of the piece that starts at text[at], at < text.size(). `text` must be valid UTF-8 and `at` the
// start of the text or the end of a piece. Calling it until text.size() is linear in all.
std::size_t piece_end(std::string_view text, std::size_t at, SplitPattern pattern);

}  // namespace sluice::model
