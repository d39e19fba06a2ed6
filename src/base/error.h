// Errors caused by what comes from outside: files, flags, requests.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace sluice {

// Input that cannot be used. `what()` is one printable line, "WHAT (WHERE): WHAT TO DO"; the parts that are
// empty are left out together with their punctuation. Text from files may be hostile: control characters,
// separators of lines, marks of direction and invalid UTF-8 are escaped as \xNN and each part is cut at 400 bytes.
class Error : public std::runtime_error {
 public:
  explicit Error(std::string_view what, std::string_view where = {}, std::string_view what_to_do = {});
};

// `text` as one printable line: control characters, separators of lines, marks that turn text's direction around, and bytes that are
// not UTF-8 become \xNN; at most `max_bytes` bytes, then "...".
std::string printable(std::string_view text, std::size_t max_bytes = 400);

namespace detail {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}

}  // namespace sluice

// A broken invariant of the program itself (never of its input): prints file and line, then aborts.
#define SLUICE_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::sluice::detail::check_failed(#condition, __FILE__, __LINE__))
