// Qwen3.5's chat template (docs/models.md §4), rendered natively.
#pragma once

#include <string>
#include <vector>

#include "model/chat_messages.h"

namespace sluice::model {

// The conversation as one text, ending with the prompt for the assistant's turn: what Qwen3.5's own template makes of it, byte
// for byte. Assistant turns after the last user message keep their thoughts, earlier ones lose them. `thinking` is what
// happens; conversation.thinking is only what was asked for.
//
// Like Hugging Face's, this is one text in which the marks of a turn (<|im_start|>) that stand in a message are the same
// as the template's own: whoever encodes it with special tokens gets Hugging Face's ids, and a message can forge a turn.
//
// Throws Error if a system message is not first, no user message is there, or a tool's result comes first (the template
// would then leave its turn unopened).
std::string render_chat(const Conversation& conversation, Thinking thinking);
std::string render_chat(const std::vector<ChatMessage>& messages, Thinking thinking);

}  // namespace sluice::model
