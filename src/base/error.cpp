#include "base/error.h"

#include <cstdio>
#include <cstdlib>

#include "base/utf8.h"

namespace sluice {
namespace {

std::string compose(std::string_view what, std::string_view where, std::string_view what_to_do) {
  std::string line = printable(what);
  if (!where.empty()) line += " (" + printable(where) + ")";
  if (!what_to_do.empty()) line += ": " + printable(what_to_do);
  return line;
}

// What ends a line for some readers (Python's splitlines among them), and what makes a terminal show text in another order than
// it stands there (Boucher and Anderson, "Trojan Source", 2021).
bool is_misleading(char32_t value) {
  return value == 0x2028 || value == 0x2029 || (value >= 0x202A && value <= 0x202E) ||
         (value >= 0x2066 && value <= 0x2069);
}

}  // namespace

Error::Error(std::string_view what, std::string_view where, std::string_view what_to_do)
    : std::runtime_error(compose(what, where, what_to_do)) {}

std::string printable(std::string_view text, std::size_t max_bytes) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string line;
  std::size_t at = 0;
  while (at < text.size()) {
    if (line.size() >= max_bytes) return line + "...";
    const utf8::CodePoint point = utf8::decode(text, at);
    const bool control = point.value < 0x20 || (point.value >= 0x7f && point.value < 0xa0);
    if (point.valid && !control && !is_misleading(point.value)) {
      line += text.substr(at, point.size);
    } else {
      for (const char byte : text.substr(at, point.size)) {
        const auto value = static_cast<unsigned char>(byte);
        line += {'\\', 'x', kHex[value >> 4U], kHex[value & 15U]};
      }
    }
    at += point.size;
  }
  return line;
}

namespace detail {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, condition);
  std::abort();
}

}  // namespace detail
}  // namespace sluice
