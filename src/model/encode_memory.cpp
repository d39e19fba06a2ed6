#include "model/encode_memory.h"

#include <algorithm>

#include "base/utf8.h"
#include "model/unicode_tables.h"

namespace sluice::model {
namespace {

// UTF-8 grows to three times its size at most when it is normalized (Unicode Standard Annex 15, "Forms").
constexpr std::size_t kNfcGrowth = 3;
constexpr std::size_t kReplacementBytes = 3;  // U+FFFD

// A growing vector reserves up to twice what it holds, beside the half that it held before.
constexpr std::size_t kGrowing = 3;

constexpr std::size_t kFixed = std::size_t{1} << 20U;  // the table of pieces that are known already
// Of a long piece (Bpe::encode_long): id and length at each byte, and 5/4 candidates of 8 bytes.
constexpr std::size_t kPerPieceByte = 18;
constexpr std::size_t kPerNfcByte = 16;  // of a run that NFC may change: one element at most
constexpr std::size_t kPerId = 4;        // one id for each byte at most

// What a text consists of, in bytes as they are after normalization.
struct Extent {
  std::size_t valid = 0;    // before it: with U+FFFD for what is no UTF-8
  std::size_t all = 0;      // after it
  std::size_t piece = 0;    // the longest run without white space, with the white space behind it
  std::size_t nfc_run = 0;  // the longest run that NFC may change
  bool has_invalid = false;
};

Extent extent_of(std::string_view text) {
  Extent extent;
  std::size_t piece = 0;
  std::size_t nfc_run = 0;
  std::size_t last = 0;  // size of the code point before
  bool in_space = false;
  for (std::size_t at = 0; at < text.size();) {
    const utf8::CodePoint point = utf8::decode(text, at);
    at += point.size;
    const std::size_t size = point.valid ? point.size : kReplacementBytes;
    const unsigned classes = unicode::class_of(point.value);
    const bool is_space = (classes & unicode::kSpace) != 0;
    if (in_space && !is_space) piece = 0;
    in_space = is_space;
    std::size_t grown = size;
    if ((classes & unicode::kNfcActive) != 0) {
      // What stands before a run is normalized with it.
      grown = kNfcGrowth * size + (nfc_run == 0 ? (kNfcGrowth - 1) * last : 0);
      nfc_run += size;
    } else {
      nfc_run = 0;
    }
    last = size;
    piece += grown;
    extent.has_invalid |= !point.valid;
    extent.valid += size;
    extent.all += grown;
    extent.piece = std::max(extent.piece, piece);
    extent.nfc_run = std::max(extent.nfc_run, nfc_run);
  }
  return extent;
}

}  // namespace

std::size_t encode_memory(std::string_view text) {
  constexpr std::size_t kLongestPoint = 4;  // a piece may begin with one white space
  const Extent extent = extent_of(text);
  const bool changes = extent.nfc_run != 0;
  std::size_t bytes = kFixed + kPerPieceByte * (extent.piece + kLongestPoint);
  if (extent.has_invalid) bytes += kGrowing * extent.valid;
  if (changes) bytes += kGrowing * extent.all + kPerNfcByte * (extent.nfc_run + kLongestPoint);
  // The ids' vector begins with one for four bytes and doubles: it ends at one for each byte unless the text has grown.
  const bool exact = !changes && !extent.has_invalid;
  bytes += kPerId * extent.all * (exact ? 1 : 2) * kGrowing / 2;
  return bytes;
}

}  // namespace sluice::model
