// sluice tokenize: text to token ids, and back.
#include <algorithm>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.h"
#include "base/mapped_file.h"
#include "cli/chat.h"
#include "cli/commands.h"
#include "cli/common_options.h"
#include "cli/exit.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/memory.h"
#include "cli/model_path.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "model/chat_template.h"
#include "model/config.h"
#include "model/gguf_model.h"
#include "model/tokenizer.h"

namespace sluice::cli {
namespace {

struct Options {
  CommonOptions common;
  TextSource source;
  ChatOptions chat;
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

std::string read_source(const Options& options) {
  if (!options.source.text) check_reading(options.source.file);
  return read_text(options.source);
}

// What the model would be given: a conversation in its template, or the text as it is.
std::string text_to_encode(const model::Tokenizer& tokenizer, const Options& options,
                           const std::filesystem::path& path) {
  if (!options.chat.messages) return read_source(options);
  const model::Conversation conversation = read_conversation(*options.chat.messages);
  std::optional<model::ModelConfig> config;
  if (model::is_gguf_file(path) || is_there(path / "config.json")) config = model::read_config(path);
  const auto thinking = choose_thinking(options.chat, conversation, tokenizer.chat_template(), config);
  std::string text = model::render_chat(conversation, thinking);
  warn_of_template(tokenizer.chat_template(), path.string());
  return text;
}

void encode(const model::Tokenizer& tokenizer, const Options& options, const std::filesystem::path& path) {
  const std::string text = text_to_encode(tokenizer, options, path);
  check_encoding(text);
  const std::vector<std::int32_t> ids = tokenizer.encode(text);
  constexpr std::size_t kPerId =
      28;  // seven digits and a space, in a buffer that grows by half and then in a string
  check_bytes(kPerId * ids.size(), kShorterText);
  to_stdout(options.json ? fmt::format("{{\"ids\":[{}]}}\n", fmt::join(ids, ","))
                         : fmt::format("{}\n", fmt::join(ids, " ")));
}

void decode(const model::Tokenizer& tokenizer, const Options& options) {
  const std::string list = read_source(options);
  constexpr std::size_t kPerByte = 24;  // of the list: half an id, as 64 and as 32 bits, and its text
  check_bytes(kPerByte * list.size(), kShorterText);
  const std::string text = tokenizer.decode(parse_ids(list), /*skip_special=*/false);
  if (options.json) {
    to_stdout(Json::object({{"text", text}}).dump() + "\n");
  } else {
    // Exactly the text, so that it is the way back; a person's prompt should not stick to it.
    to_stdout(is_terminal(1) ? text + "\n" : text);
  }
}

int run(const Options& options) {
  const EndOnInterrupt at_once;
  check_device(options.common);
  const auto path = find_model(options.common.model, "tokenizer.json");
  check_bytes(tokenizer_bytes(path), "close other programs, or raise the limit");
  const auto tokenizer = model::Tokenizer::from_path(path);
  options.decode ? decode(tokenizer, options) : encode(tokenizer, options, path);
  return kGood;
}

}  // namespace

Command add_tokenize(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("tokenize", "turn text into token ids, or back");
  const auto options = std::make_shared<Options>();
  add_text_options(command, options->source, "the text (with --decode: the ids)");
  auto* decode = command.add_flag("--decode", options->decode, "turn ids into text");
  add_chat_options(command, options->chat);
  command.get_option("--messages")->excludes(decode);
  command.get_option("--thinking")->needs("--messages");
  command.add_flag("--json", options->json, "print JSON");
  add_common_options(command, options->common);
  return {&command, [options] { return run(*options); }};
}

}  // namespace sluice::cli
