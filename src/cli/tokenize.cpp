// sluice tokenize: text to token ids, and back.
#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/common_options.h"
#include "cli/exit.h"
#include "cli/input.h"
#include "cli/model_path.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "model/tokenizer.h"

namespace sluice::cli {
namespace {

struct Options {
  CommonOptions common;
  TextSource source;
  bool decode = false;
  bool json = false;
};

std::vector<std::int32_t> parse_ids(const std::string& text) {
  const auto numbers = parse_integers(text);
  if (!numbers) throw Error("not a list of token ids", "--decode", "give integers such as 1 2 3");
  std::vector<std::int32_t> ids;
  ids.reserve(numbers->size());
  for (const std::int64_t id : *numbers) {
    if (id < 0 || id > std::numeric_limits<std::int32_t>::max())
      throw Error(fmt::format("token id {} is outside the vocabulary", id), "--decode");
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

void encode(const model::Tokenizer& tokenizer, const Options& options) {
  const std::vector<std::int32_t> ids = tokenizer.encode(read_text(options.source));
  to_stdout(options.json ? Json::object({{"ids", ids}}).dump() + "\n"
                         : fmt::format("{}\n", fmt::join(ids, " ")));
}

void decode(const model::Tokenizer& tokenizer, const Options& options) {
  const std::string text = tokenizer.decode(parse_ids(read_text(options.source)), /*skip_special=*/false);
  if (options.json) {
    to_stdout(Json::object({{"text", text}}).dump() + "\n");
  } else {
    // Exactly the text, so that it is the way back; a person's prompt should not stick to it.
    to_stdout(is_terminal(1) ? text + "\n" : text);
  }
}

int run(const Options& options) {
  check_device(options.common);
  const auto tokenizer = model::Tokenizer::from_folder(find_model(options.common.model, "tokenizer.json"));
  options.decode ? decode(tokenizer, options) : encode(tokenizer, options);
  return kGood;
}

}  // namespace

Command add_tokenize(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("tokenize", "turn text into token ids, or back");
  const auto options = std::make_shared<Options>();
  add_text_options(command, options->source, "the text (with --decode: the ids)");
  command.add_flag("--decode", options->decode, "turn ids into text");
  command.add_flag("--json", options->json, "print JSON");
  add_common_options(command, options->common);
  return {&command, [options] { return run(*options); }};
}

}  // namespace sluice::cli
