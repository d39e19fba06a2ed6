// UTF-8, one code point at a time. Invalid input never throws: it is reported byte run by byte run, as the
// Unicode standard recommends (chapter 3.9, "maximal subpart" replacement, the same as Python and Rust).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::utf8 {

struct CodePoint {
  char32_t value = 0xFFFD;  // U+FFFD if invalid
  std::size_t size = 1;     // bytes taken, at least 1
  bool valid = false;
};

// The code point that starts at text[at]; at < text.size().
CodePoint decode(std::string_view text, std::size_t at);

// Appends `value` (a Unicode scalar value) to `out`.
void append(std::string& out, char32_t value);

// `text` with every maximal invalid run replaced by U+FFFD.
std::string replace_invalid(std::string_view text);

// The length of the longest prefix of `text` that does not end inside a code point which later bytes could
// still complete. A streaming decoder may print so much.
std::size_t complete_prefix(std::string_view text);

}  // namespace sluice::utf8
