// Character classes and NFC data exactly as Hugging Face `tokenizers` has them: its regular expressions
// follow one Unicode version, its normalizer another, and no system library follows both. Generated:
// tools/unicode_tables.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice::model::unicode {

// Bits of a code point's class.
inline constexpr std::uint8_t kLetter = 1;      // \p{L}
inline constexpr std::uint8_t kMark = 2;        // \p{M}
inline constexpr std::uint8_t kNumber = 4;      // \p{N}
inline constexpr std::uint8_t kSpace = 8;       // \s
inline constexpr std::uint8_t kNfcActive = 16;  // NFC may change it, or join it to what stands before it

namespace tables {

inline constexpr std::size_t kPageSize = 128;       // code points
inline constexpr std::size_t kIndexedPages = 7172;  // no code point after these is in any class

struct CombiningClass {
  char32_t point;
  std::uint8_t value;
};

struct Decomposition {
  char32_t point;
  std::uint16_t first;  // in kDecompositionData
  std::uint16_t size;
};

struct Composition {
  char32_t first;
  char32_t second;
  char32_t composed;
};

// All sorted by their first members.
extern const std::uint16_t kPageOf[kIndexedPages];
extern const std::uint8_t kPages[];
extern const CombiningClass kCombiningClasses[];
extern const std::size_t kCombiningClassCount;
extern const char32_t kDecompositionData[];
extern const Decomposition kDecompositions[];
extern const std::size_t kDecompositionCount;
extern const Composition kCompositions[];
extern const std::size_t kCompositionCount;

}  // namespace tables

inline std::uint8_t class_of(char32_t point) {
  const std::size_t page = point / tables::kPageSize;
  if (page >= tables::kIndexedPages) return 0;
  return tables::kPages[tables::kPageOf[page] * tables::kPageSize + point % tables::kPageSize];
}

}  // namespace sluice::model::unicode
