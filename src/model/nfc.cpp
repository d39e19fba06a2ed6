// NFC: decompose every character fully, put runs of combining marks in the order of their classes (stably),
// then compose each starter with the marks after it that nothing blocks.
//
// Few characters take part. Text is cut before every code point that is not "active" (tables: it is a
// starter, is its own NFC, and never joins what precedes it), so a piece is one such code point and the
// active ones after it. A piece without active ones is copied as it is.
#include "model/nfc.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "model/unicode_tables.h"

namespace sluice::model {
namespace {

using unicode::tables::CombiningClass;
using unicode::tables::Composition;
using unicode::tables::Decomposition;

// Hangul syllables are arithmetic (The Unicode Standard, 3.12).
constexpr char32_t kHangul = 0xAC00;
constexpr char32_t kHangulCount = 11172;
constexpr char32_t kLeading = 0x1100;
constexpr char32_t kVowel = 0x1161;
constexpr char32_t kTrailing = 0x11A7;  // one before the first trailing consonant
constexpr char32_t kLeadingCount = 19;
constexpr char32_t kVowelCount = 21;
constexpr char32_t kTrailingCount = 28;

struct Element {
  char32_t point;
  std::uint8_t combining_class;
  std::size_t position = 0;  // before sorting: keeps marks of one class in order
};

std::uint8_t combining_class(char32_t point) {
  const CombiningClass* begin = unicode::tables::kCombiningClasses;
  const CombiningClass* end = begin + unicode::tables::kCombiningClassCount;
  const CombiningClass* found = std::lower_bound(
      begin, end, point, [](const CombiningClass& entry, char32_t value) { return entry.point < value; });
  return found != end && found->point == point ? found->value : std::uint8_t{0};
}

void append_decomposed(char32_t point, std::vector<Element>& out) {
  if (point >= kHangul && point < kHangul + kHangulCount) {
    const char32_t index = point - kHangul;
    out.push_back({kLeading + index / (kVowelCount * kTrailingCount), 0});
    out.push_back({kVowel + index / kTrailingCount % kVowelCount, 0});
    if (index % kTrailingCount != 0) out.push_back({kTrailing + index % kTrailingCount, 0});
    return;
  }
  const Decomposition* begin = unicode::tables::kDecompositions;
  const Decomposition* end = begin + unicode::tables::kDecompositionCount;
  const Decomposition* found = std::lower_bound(
      begin, end, point, [](const Decomposition& entry, char32_t value) { return entry.point < value; });
  if (found == end || found->point != point) {
    out.push_back({point, combining_class(point)});
    return;
  }
  for (std::size_t i = 0; i < found->size; ++i) {
    const char32_t part = unicode::tables::kDecompositionData[found->first + i];
    out.push_back({part, combining_class(part)});
  }
}

void order_marks(std::vector<Element>& elements) {
  const auto is_starter = [](const Element& e) { return e.combining_class == 0; };
  for (auto at = elements.begin(); at != elements.end();) {
    at = std::find_if_not(at, elements.end(), is_starter);
    const auto end = std::find_if(at, elements.end(), is_starter);
    for (auto mark = at; mark != end; ++mark) mark->position = static_cast<std::size_t>(mark - at);
    std::sort(at, end, [](const Element& a, const Element& b) {
      return std::pair(a.combining_class, a.position) < std::pair(b.combining_class, b.position);
    });
    at = end;
  }
}

// What `first` and `second` compose to; 0 if they don't.
char32_t composed(char32_t first, char32_t second) {
  if (first >= kLeading && first < kLeading + kLeadingCount && second >= kVowel &&
      second < kVowel + kVowelCount) {
    return kHangul + ((first - kLeading) * kVowelCount + (second - kVowel)) * kTrailingCount;
  }
  if (first >= kHangul && first < kHangul + kHangulCount && (first - kHangul) % kTrailingCount == 0 &&
      second > kTrailing && second < kTrailing + kTrailingCount) {
    return first + (second - kTrailing);
  }
  const Composition* begin = unicode::tables::kCompositions;
  const Composition* end = begin + unicode::tables::kCompositionCount;
  const Composition* found =
      std::lower_bound(begin, end, 0, [first, second](const Composition& entry, int /*unused*/) {
        return entry.first != first ? entry.first < first : entry.second < second;
      });
  return found != end && found->first == first && found->second == second ? found->composed : 0;
}

// A mark is blocked from the last starter by an element between them that has class 0 or a class not below
// its own.
void append_composed(std::vector<Element>& elements, std::string& out) {
  std::size_t kept = 0;  // elements[0, kept) is the result so far
  std::size_t starter = elements.size();
  for (const Element element : elements) {
    const bool has_starter = starter < kept;
    const bool adjacent = has_starter && starter + 1 == kept;
    if (has_starter && (adjacent || elements[kept - 1].combining_class < element.combining_class)) {
      const char32_t joined = composed(elements[starter].point, element.point);
      if (joined != 0) {
        elements[starter].point = joined;
        continue;
      }
    }
    if (element.combining_class == 0) starter = kept;
    elements[kept++] = element;
  }
  for (std::size_t i = 0; i < kept; ++i) utf8::append(out, elements[i].point);
}

bool is_active(char32_t point) {
  return (unicode::class_of(point) & unicode::kNfcActive) != 0;
}

// The end of the run of code points from `at` on that are active, or inactive; `last` gets the start of the
// last.
std::size_t run_end(std::string_view text, std::size_t at, bool active, std::size_t& last) {
  while (at < text.size()) {
    std::size_t size = 1;
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      if (active) break;  // no ASCII character is active
    } else {
      const utf8::CodePoint point = utf8::decode(text, at);
      if (is_active(point.value) != active) break;
      size = point.size;
    }
    last = at;
    at += size;
  }
  return at;
}

}  // namespace

bool nfc_may_change(std::string_view text) {
  std::size_t last = 0;
  return run_end(text, 0, false, last) != text.size();
}

std::string nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<Element> elements;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t piece = at;  // where the piece that NFC may change begins
    const std::size_t inactive_end = run_end(text, at, false, piece);
    if (inactive_end == text.size()) piece = inactive_end;
    out += text.substr(at, piece - at);
    std::size_t last = 0;
    const std::size_t end = run_end(text, inactive_end, true, last);
    elements.clear();
    elements.reserve(end - piece);  // no more elements than bytes
    for (std::size_t i = piece; i < end;) {
      const utf8::CodePoint point = utf8::decode(text, i);
      append_decomposed(point.value, elements);
      i += point.size;
    }
    order_marks(elements);
    append_composed(elements, out);
    at = end;
  }
  return out;
}

}  // namespace sluice::model
