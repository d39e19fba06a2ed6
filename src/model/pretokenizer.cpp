// The expression, alternative by alternative (the first that matches wins; W is \p{L}, with \p{M} in
// Qwen3.5's, and "other" is what is neither space, W, \p{L}, nor number):
//
//   1  (?i:'s|'t|'re|'ve|'m|'ll|'d)     a contraction; U+017F is an s to (?i)
//   2  [^\r\n\p{L}\p{N}]?W+             a word, with one character before it (no letter, number, newline)
//   3  \p{N}                            one digit
//   4   ?other+[\r\n]*                  punctuation, with one space before it and the newlines after it
//   5  \s*[\r\n]+                       white space up to the last newline in it
//   6  \s+(?!\S)                        white space, all but its last character if something follows
//   7  \s+                              that last one, when it is alone
//
// Every character starts one of them, so pieces cover the text.
#include "model/pretokenizer.h"

#include "base/utf8.h"
#include "model/unicode_tables.h"

namespace sluice::model {
namespace {

constexpr std::string_view kQwen2Expression =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr std::string_view kQwen35Expression =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";

struct Point {
  char32_t value = 0;
  std::uint8_t classes = 0;
  std::size_t end = 0;  // where the next one starts
};

class Scanner {
 public:
  Scanner(std::string_view text, SplitPattern pattern)
      : text_(text),
        word_(pattern == SplitPattern::kQwen35 ? unicode::kLetter | unicode::kMark : unicode::kLetter),
        not_other_(static_cast<std::uint8_t>(word_ | unicode::kNumber | unicode::kSpace)) {}

  std::size_t piece_end(std::size_t at) const {
    const Point first = point(at);
    if (first.value == '\'') {
      const std::size_t end = contraction_end(first.end);
      if (end != 0) return end;
    }
    const bool newline = is_newline(first.value);
    if (!newline && (first.classes & (unicode::kLetter | unicode::kNumber)) == 0) {
      const std::size_t end = run_end(first.end, word_, word_);
      if (end != first.end) return end;
    }
    if ((first.classes & word_) != 0) return run_end(first.end, word_, word_);
    if ((first.classes & unicode::kNumber) != 0) return first.end;
    if ((first.classes & unicode::kSpace) == 0) return punctuation_end(first.end);
    if (first.value == ' ' && first.end < text_.size()) {
      const Point second = point(first.end);
      if ((second.classes & not_other_) == 0) return punctuation_end(second.end);
    }
    return space_end(at);
  }

 private:
  static bool is_newline(char32_t value) { return value == '\r' || value == '\n'; }

  Point point(std::size_t at) const {
    const auto byte = static_cast<unsigned char>(text_[at]);
    if (byte < 0x80) return {byte, unicode::class_of(byte), at + 1};
    const utf8::CodePoint decoded = utf8::decode(text_, at);
    return {decoded.value, unicode::class_of(decoded.value), at + decoded.size};
  }

  // The end of the run from `at` on of code points whose class, under `mask`, is some bit of `wanted` (or is
  // 0, if `wanted` is 0).
  std::size_t run_end(std::size_t at, std::uint8_t mask, std::uint8_t wanted) const {
    while (at < text_.size()) {
      const Point next = point(at);
      const bool some = (next.classes & mask) != 0;
      if (some != (wanted != 0)) break;
      at = next.end;
    }
    return at;
  }

  std::size_t punctuation_end(std::size_t at) const {
    at = run_end(at, not_other_, 0);
    while (at < text_.size() && is_newline(static_cast<unsigned char>(text_[at]))) ++at;
    return at;
  }

  // The end of the contraction whose apostrophe ends at `at`; 0 if there is none.
  std::size_t contraction_end(std::size_t at) const {
    if (at >= text_.size()) return 0;
    const Point first = point(at);
    if (first.value == 0x17F) return first.end;
    const char32_t lower = lower_ascii(first.value);
    if (lower == 's' || lower == 't' || lower == 'm' || lower == 'd') return first.end;
    if (first.end >= text_.size()) return 0;
    const char32_t second = lower_ascii(static_cast<unsigned char>(text_[first.end]));
    const bool pair = ((lower == 'r' || lower == 'v') && second == 'e') || (lower == 'l' && second == 'l');
    return pair ? first.end + 1 : 0;
  }

  static char32_t lower_ascii(char32_t value) {
    return value >= 'A' && value <= 'Z' ? value + ('a' - 'A') : value;
  }

  // Alternatives 5 to 7, for white space that starts at `at`.
  std::size_t space_end(std::size_t at) const {
    std::size_t end = at;
    std::size_t last = at;         // start of the last white space character
    std::size_t newline_end = at;  // end of the last newline
    while (end < text_.size()) {
      const Point next = point(end);
      if ((next.classes & unicode::kSpace) == 0) break;
      last = end;
      end = next.end;
      if (is_newline(next.value)) newline_end = end;
    }
    if (newline_end != at) return newline_end;
    return end == text_.size() || last == at ? end : last;
  }

  std::string_view text_;
  std::uint8_t word_;
  std::uint8_t not_other_;
};

}  // namespace

std::optional<SplitPattern> split_pattern_of(std::string_view expression) {
  if (expression == kQwen2Expression) return SplitPattern::kQwen2;
  if (expression == kQwen35Expression) return SplitPattern::kQwen35;
  return std::nullopt;
}

std::size_t piece_end(std::string_view text, std::size_t at, SplitPattern pattern) {
  return Scanner(text, pattern).piece_end(at);
}

}  // namespace sluice::model
