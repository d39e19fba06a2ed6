// Qwen3.5's chat template (docs/models.md §4), rendered natively.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

enum class Role : unsigned char { kSystem, kUser, kAssistant };

struct ChatMessage {
  Role role = Role::kUser;
  std::string content;  // trimmed when rendered
};

enum class Thinking : unsigned char { kOff, kOn };

// The conversation as one text, ending with the prompt for the assistant's turn. Assistant turns after the
// last user message keep their thoughts, earlier ones lose them. Throws Error if a system message is not
// first or no user message is there.
std::string render_chat(const std::vector<ChatMessage>& messages, Thinking thinking);

}  // namespace sluice::model
