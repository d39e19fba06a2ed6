// A conversation as data, and its form in JSON: the messages and tools of an OpenAI chat request.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

enum class Role : unsigned char { kSystem, kUser, kAssistant, kTool };

enum class Thinking : unsigned char { kOff, kOn };

// `value` as the template prints it: a string as it is; what is not a string as Python prints it (True, None, 1.0), lists and
// objects as JSON.
struct ToolArgument {
  std::string name;
  std::string value;
};

struct ToolCall {
  std::string name;
  std::vector<ToolArgument> arguments;  // in the caller's order
};

struct ChatMessage {
  Role role = Role::kUser;
  std::string content;  // trimmed when rendered
  // NOLINTBEGIN(readability-redundant-member-init): so that {role, content} alone is no warning
  // An assistant's thought, if it stands apart from the content. Without it the thought is what stands before
  // </think> in the content, if that is there.
  std::optional<std::string> reasoning = {};
  std::vector<ToolCall> tool_calls = {};  // an assistant's
  // NOLINTEND(readability-redundant-member-init)
};

struct Conversation {
  std::vector<ChatMessage> messages;
  std::vector<std::string> tools;    // each one's definition, as JSON in Python's spelling
  std::optional<Thinking> thinking;  // if the conversation itself asks for one
};

// The conversation that `text` holds: a JSON array of messages, or an object with "messages" and, if wanted, "tools" and
// "chat_template_kwargs": {"enable_thinking": BOOL}; what else stands in that object is left to whoever reads the rest of
// the request, except what would change the prompt ("functions", "documents", ...), which is refused.
//
// A message is {"role", "content"}: role system (or developer, which is the same), user, assistant or tool; content a
// string, null or a list of {"type": "text", "text"} parts, which are joined. An assistant's may have
// "reasoning_content" and "tool_calls": [{"function": {"name", "arguments"}}], whose arguments are an object or a string that
// holds one. Other fields of a message (name, tool_call_id, ...) are not shown to the model and so not read.
//
// Throws Error naming `where` and the field (messages[3].tool_calls[0].function.name) for whatever does not fit, images and
// other media among it. Time and memory are linear in the text.
Conversation parse_chat(std::string_view text, std::string_view where);

}  // namespace sluice::model
