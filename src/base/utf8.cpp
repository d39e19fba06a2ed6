#include "base/utf8.h"

#include <algorithm>

namespace sluice::utf8 {
namespace {

unsigned byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

// What the lead byte promises: length, and the range that the second byte must be in so that the value is
// neither overlong, a surrogate, nor beyond U+10FFFF (Unicode table 3-7). Size 0: not a lead byte.
struct Lead {
  std::size_t size;
  unsigned second_min;
  unsigned second_max;
};

Lead lead_of(unsigned byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// How many bytes from text[at] on form a valid prefix of the sequence that `lead` promises.
std::size_t valid_bytes(std::string_view text, std::size_t at, const Lead& lead) {
  std::size_t size = 1;
  while (size < lead.size && at + size < text.size()) {
    const unsigned byte = byte_at(text, at + size);
    const unsigned low = size == 1 ? lead.second_min : 0x80;
    const unsigned high = size == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) break;
    ++size;
  }
  return size;
}

}  // namespace

CodePoint decode(std::string_view text, std::size_t at) {
  const unsigned first = byte_at(text, at);
  const Lead lead = lead_of(first);
  if (lead.size == 0) return {};
  const std::size_t size = valid_bytes(text, at, lead);
  if (size < lead.size) return {.size = size};
  if (size == 1) return {static_cast<char32_t>(first), 1, true};
  char32_t value = first & (0x7FU >> size);
  for (std::size_t i = 1; i < size; ++i) value = (value << 6U) | (byte_at(text, at + i) & 0x3FU);
  return {value, size, true};
}

void append(std::string& out, char32_t value) {
  const auto put = [&out](char32_t byte) { out += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xC0U | (value >> 6U));
    put(0x80U | (value & 0x3FU));
  } else if (value < 0x10000) {
    put(0xE0U | (value >> 12U));
    put(0x80U | ((value >> 6U) & 0x3FU));
    put(0x80U | (value & 0x3FU));
  } else {
    put(0xF0U | (value >> 18U));
    put(0x80U | ((value >> 12U) & 0x3FU));
    put(0x80U | ((value >> 6U) & 0x3FU));
    put(0x80U | (value & 0x3FU));
  }
}

std::string replace_invalid(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode(text, at);
    if (point.valid) {
      out += text.substr(at, point.size);
    } else {
      append(out, point.value);
    }
    at += point.size;
  }
  return out;
}

std::size_t complete_prefix(std::string_view text) {
  // Only a sequence that starts in the last three bytes can still be incomplete.
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const std::size_t at = text.size() - back;
    const Lead lead = lead_of(byte_at(text, at));
    if (lead.size == 0) continue;
    if (lead.size > back && valid_bytes(text, at, lead) == back) return at;
    break;
  }
  return text.size();
}

}  // namespace sluice::utf8
