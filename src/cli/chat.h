// From options to what a model is asked: a conversation, and whether it is to think before it answers.
#pragma once

#include <optional>
#include <string>

#include "cli/input.h"
#include "model/chat_messages.h"
#include "model/config.h"

namespace sluice::cli {

struct ChatOptions {
  std::optional<std::string> messages;  // a file, "-" for standard input
  std::optional<std::string> thinking;  // "on" or "off"
};

// Adds --messages, which excludes -p and -f, and --thinking.
void add_chat_options(CLI::App& command, ChatOptions& options);

// The conversation in that file. Throws Error if it can't be read or is none.
model::Conversation read_conversation(const std::string& file);

// The option, else what the conversation asks for, else what the template does, else by the model's size.
// `config` may be left out where it isn't known: Error that asks for the option if it is needed.
model::Thinking choose_thinking(const ChatOptions& options, const model::Conversation& conversation,
                                const std::string& chat_template,
                                const std::optional<model::ModelConfig>& config);

// Warns if `chat_template`, the checkpoint's own, isn't the one that we render. `model` is named in the line.
void warn_of_template(const std::string& chat_template, const std::string& model);

}  // namespace sluice::cli
