#include "cli/chat.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/decode_cost.h"
#include "cli/exit.h"
#include "cli/generation_defaults.h"
#include "cli/interrupt.h"
#include "cli/terminal.h"
#include "cli/typed_options.h"
#include "model/template_kind.h"

namespace sluice::cli {

void add_chat_options(CLI::App& command, ChatOptions& options) {
  add_text(command, "--messages", options.messages,
           "a whole conversation: JSON as in OpenAI's chat requests, from a file (\"-\": standard input)")
      ->type_name("FILE")
      ->excludes("--prompt")
      ->excludes("--file");
  add_text(command, "--thinking", options.thinking,
           "think before answering (default: as the model's template does)")
      ->type_name("on|off")
      ->check(CLI::Validator(
          [](const std::string& text) {
            return text == "on" || text == "off" ? "" : fmt::format("\"{}\" is neither on nor off", text);
          },
          ""));
}

model::Conversation read_conversation(const std::string& file) {
  const EndOnInterrupt at_once;
  return model::parse_chat(read_file(file), file == "-" ? "standard input" : file);
}

model::Thinking choose_thinking(const ChatOptions& options, const model::Conversation& conversation,
                                const std::string& chat_template,
                                const std::optional<model::ModelConfig>& config) {
  if (options.thinking) return *options.thinking == "on" ? model::Thinking::kOn : model::Thinking::kOff;
  if (conversation.thinking) return *conversation.thinking;
  if (const auto own = model::default_thinking_of(model::recognise_template(chat_template))) return *own;
  if (config) return default_thinking(parameter_count(*config));
  throw UsageError("neither template nor config.json tells whether to think", "--thinking", "give on or off");
}

void warn_of_template(const std::string& chat_template, const std::string& model) {
  if (const auto warning = model::template_warning(chat_template))
    warn(fmt::format("{} ({})", *warning, model));
}

}  // namespace sluice::cli
