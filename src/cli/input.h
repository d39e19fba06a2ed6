// What the user hands in: a text by option, file or standard input, and lists of token ids.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace CLI {
class App;
}

namespace sluice::cli {

struct TextSource {
  std::optional<std::string> text;  // -p
  std::optional<std::string> file;  // -f, "-" for standard input
  bool takes_text = false;          // the command has -p
};

// Adds -f.
void add_file_option(CLI::App& command, TextSource& source, std::string_view what);

// Adds -p and -f, which exclude each other.
void add_text_options(CLI::App& command, TextSource& source, std::string_view what);

// The bytes of a file, of standard input if `path` is "-". Throws Error if it can't be read or is larger than 64 MiB,
// Interrupted on Ctrl-C.
std::string read_file(const std::string& path);

// The text of -p, else of -f, else of standard input unless that is a terminal. Throws UsageError if there is no
// source, Error if it can't be read, Interrupted on Ctrl-C.
std::string read_text(const TextSource& source);

// "1,2,3" or "@FILE" (numbers between commas or white space, if you like all in brackets). Throws UsageError
// for what is no list of integers (Error if that stands in a file), and Error for an id outside the vocabulary.
std::vector<std::int32_t> read_token_list(const std::string& argument, const model::ModelConfig& config);

// Integers with one comma or white space between them; those that don't fit are cut to the nearest that does. Nothing if `text`
// is something else.
std::optional<std::vector<std::int64_t>> parse_integers(std::string_view text);

}  // namespace sluice::cli
