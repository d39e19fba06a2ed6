#include "cli/input.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <limits>
#include <memory>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "cli/typed_options.h"

namespace sluice::cli {
namespace {

// More text than any context holds; larger input, such as a device without end, is a mistake that should be told soon.
constexpr std::size_t kMaxInputBytes = std::size_t{64} << 20U;

std::string read_all(int descriptor, const std::string& where) {
  constexpr std::size_t kPiece = std::size_t{1} << 20U;
  std::string text;
  std::vector<char> buffer(kPiece);
  while (true) {
    const ssize_t count = ::read(descriptor, buffer.data(), buffer.size());
    const int error = errno;
    throw_if_interrupted();
    if (count < 0 && should_retry(error, descriptor, POLLIN)) continue;
    if (count < 0)
      throw Error(std::string("can't read: ") + std::strerror(error), where,
                  "give a file, or pipe the text in");
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
    if (text.size() > kMaxInputBytes)
      throw Error("the text is too long", where, fmt::format("at most {} MiB", kMaxInputBytes >> 20U));
  }
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  return text;
}

std::string_view without_brackets(std::string_view text) {
  text = trimmed(text);
  if (text.size() >= 2 && text.front() == '[' && text.back() == ']') return text.substr(1, text.size() - 2);
  return text;
}

}  // namespace

void add_file_option(CLI::App& command, TextSource& source, std::string_view what) {
  add_text(command, "-f,--file", source.file,
           fmt::format("{} from a file (default: standard input, which \"-\" means, too)", what))
      ->type_name("FILE");
}

void add_text_options(CLI::App& command, TextSource& source, std::string_view what) {
  auto* text = add_text(command, "-p,--prompt", source.text, std::string(what));
  add_file_option(command, source, what);
  source.takes_text = true;
  text->excludes("--file");
}

std::string read_file(const std::string& path) {
  const EndOnInterrupt at_once;  // a pipe may never have a writer
  if (path == "-") return read_all(STDIN_FILENO, "standard input");
  const auto close = [](const int* descriptor) { ::close(*descriptor); };
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  } while (descriptor < 0 && was_cut_short(errno));
  if (descriptor < 0)
    throw Error(std::string("can't read: ") + std::strerror(errno), path.empty() ? "empty file name" : path,
                "give a file that you may read");
  const std::unique_ptr<int, decltype(close)> guard(&descriptor, close);
  return read_all(descriptor, path);
}

std::string read_text(const TextSource& source) {
  if (source.text) return *source.text;
  if (source.file) return read_file(*source.file);
  if (is_terminal(STDIN_FILENO))
    throw UsageError("no text given", {},
                     source.takes_text ? "use -p TEXT or -f FILE, or pipe the text in"
                                       : "use -f FILE, or pipe the text in");
  return read_file("-");
}

std::optional<std::vector<std::int64_t>> parse_integers(std::string_view text) {
  std::vector<std::int64_t> numbers;
  text = trimmed(text);
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    std::int64_t value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error == std::errc::invalid_argument) return std::nullopt;
    if (error == std::errc::result_out_of_range) {
      using Limits = std::numeric_limits<std::int64_t>;
      value = *at == '-' ? Limits::min() : Limits::max();
    }
    numbers.push_back(value);
    // White space, or one comma, or a comma in white space; and then another number.
    at = std::find_if_not(next, end, is_space);
    const bool comma = at != end && *at == ',';
    if (comma) at = std::find_if_not(at + 1, end, is_space);
    if (at == end ? comma : at == next) return std::nullopt;
  }
  return numbers;
}

std::vector<std::int32_t> read_token_list(const std::string& argument, const model::ModelConfig& config) {
  const bool in_file = argument.starts_with('@');
  const std::string text = in_file ? read_file(argument.substr(1)) : argument;
  const std::string where = in_file ? argument.substr(1) : "--tokens";
  const auto numbers = parse_integers(without_brackets(text));
  if (!numbers || numbers->empty()) {
    const std::string_view what = numbers ? "no token ids" : "not a list of token ids";
    const std::string_view what_to_do = "give integers such as 1,2,3";
    if (in_file) throw Error(what, where, what_to_do);
    throw UsageError(what, where, what_to_do);
  }
  std::vector<std::int32_t> tokens;
  tokens.reserve(numbers->size());
  for (const std::int64_t id : *numbers) {
    if (id < 0 || static_cast<std::uint64_t>(id) >= config.vocab_size) {
      throw Error(fmt::format("token id {} is outside the vocabulary", id), where,
                  fmt::format("ids go from 0 to {}", config.vocab_size - 1));
    }
    tokens.push_back(static_cast<std::int32_t>(id));
  }
  return tokens;
}

}  // namespace sluice::cli
