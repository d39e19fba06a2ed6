// The template, turn by turn (docs/models.md §4; the same in Jinja: tests/golden-chat/chat_template.jinja):
//
//   <|im_start|>ROLE\nCONTENT<|im_end|>\n        CONTENT without white space around it
//
// Tools are described in the system turn, before its content; that turn is then there even without a system message.
// An assistant's turn is its thought, its answer and its tool calls. The thought stands apart, or in the content as
// THOUGHT</think>ANSWER. Before the last user turn it is left out; after it, "<think>\nTHOUGHT\n</think>\n\nANSWER", also
// where there was no thought. Tool results in a row are one user turn.
#include "model/chat_template.h"

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace sluice::model {
namespace {

constexpr std::string_view kThink = "<think>";
constexpr std::string_view kEndThink = "</think>";

// What Python's str.strip() removes: Jinja's trim is that. Not the tokenizer's \s: four controls more.
bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::string_view trim(std::string_view text) {
  std::size_t begin = text.size();  // start of the first code point that stays
  std::size_t end = text.size();    // end of the last
  bool found = false;
  for (std::size_t at = 0; at < text.size();) {
    const utf8::CodePoint point = utf8::decode(text, at);
    if (!is_python_space(point.value)) {
      if (!found) begin = at;
      found = true;
      end = at + point.size;
    }
    at += point.size;
  }
  return text.substr(begin, end - begin);
}

std::string_view trim_newlines_left(std::string_view text) {
  const std::size_t first = text.find_first_not_of('\n');
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

struct Turn {
  std::string_view thought;
  std::string_view answer;
};

// The thought ends at the first </think> and starts after the last <think> before that; the answer starts
// after the last </think>.
Turn split_thought(std::string_view content) {
  const std::size_t first_end = content.find(kEndThink);
  if (first_end == std::string_view::npos) return {{}, content};
  std::string_view thought = content.substr(0, first_end);
  const std::size_t begin = thought.rfind(kThink);
  if (begin != std::string_view::npos) thought.remove_prefix(begin + kThink.size());
  const std::size_t answer = content.rfind(kEndThink) + kEndThink.size();
  return {trim(thought), trim_newlines_left(content.substr(answer))};
}

// The model was trained on these words.
constexpr std::string_view kToolsBegin = "# Tools\n\nYou have access to the following functions:\n\n<tools>";
constexpr std::string_view kToolsEnd =
    "\n</tools>\n\n"
    "If you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\n"
    "multiple lines\n</parameter>\n</function>\n</tool_call>\n\n"
    "<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block must be "
    "nested "
    "within <tool_call></tool_call> XML tags\n"
    "- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the function "
    "call, but "
    "NOT after\n"
    "- If there is no function call available, answer the question like normal with your current knowledge "
    "and do "
    "not tell the user about function calls\n</IMPORTANT>";

using Messages = std::span<const ChatMessage>;

// A user turn that only hands back what a tool said is no query of its own.
bool is_query(const ChatMessage& message) {
  const std::string_view content = trim(message.content);
  return message.role == Role::kUser &&
         !(content.starts_with("<tool_response>") && content.ends_with("</tool_response>"));
}

std::size_t last_query(Messages messages) {
  for (std::size_t i = messages.size(); i > 0; --i) {
    if (is_query(messages[i - 1])) return i - 1;
  }
  throw Error("the conversation has no user message", "messages", "add one");
}

void append_system(Messages messages, const std::vector<std::string>& tools, std::string& out) {
  const bool given = messages.front().role == Role::kSystem;
  if (tools.empty() && !given) return;
  out += "<|im_start|>system\n";
  const std::string_view content = given ? trim(messages.front().content) : std::string_view();
  if (!tools.empty()) {
    out += kToolsBegin;
    for (const std::string& tool : tools) out.append("\n").append(tool);
    out += kToolsEnd;
    if (!content.empty()) out += "\n\n";
  }
  out.append(content).append("<|im_end|>\n");
}

void append_tool_call(const ToolCall& call, std::string& out) {
  out.append("<tool_call>\n<function=").append(call.name).append(">\n");
  for (const ToolArgument& argument : call.arguments) {
    out.append("<parameter=").append(argument.name).append(">\n");
    out.append(argument.value).append("\n</parameter>\n");
  }
  out += "</function>\n</tool_call>";
}

void append_assistant(const ChatMessage& message, bool show_thought, std::string& out) {
  const std::string_view content = trim(message.content);
  const Turn turn = message.reasoning ? Turn{trim(*message.reasoning), content} : split_thought(content);
  out += "<|im_start|>assistant\n";
  if (show_thought)
    out.append(kThink).append("\n").append(turn.thought).append("\n").append(kEndThink).append("\n\n");
  out += turn.answer;
  std::string_view before = trim(turn.answer).empty() ? "" : "\n\n";
  for (const ToolCall& call : message.tool_calls) {
    out += std::exchange(before, "\n");
    append_tool_call(call, out);
  }
  out += "<|im_end|>\n";
}

void append_tool_result(Messages messages, std::size_t at, std::string& out) {
  if (messages[at - 1].role != Role::kTool) out += "<|im_start|>user";
  out.append("\n<tool_response>\n").append(trim(messages[at].content)).append("\n</tool_response>");
  if (at + 1 == messages.size() || messages[at + 1].role != Role::kTool) out += "<|im_end|>\n";
}

void check_order(Messages messages) {
  for (std::size_t i = 1; i < messages.size(); ++i) {
    if (messages[i].role != Role::kSystem) continue;
    throw Error("a system message is not the first message", "messages[" + std::to_string(i) + "]",
                "put it first");
  }
  if (!messages.empty() && messages.front().role == Role::kTool)
    throw Error("the first message is a tool's result", "messages[0]", "put the call before it");
}

std::string render(Messages messages, const std::vector<std::string>& tools, Thinking thinking) {
  check_order(messages);
  const std::size_t query = last_query(messages);
  std::string out;
  append_system(messages, tools, out);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    switch (messages[i].role) {
      case Role::kSystem:
        break;
      case Role::kUser:
        out.append("<|im_start|>user\n").append(trim(messages[i].content)).append("<|im_end|>\n");
        break;
      case Role::kAssistant:
        append_assistant(messages[i], i > query, out);
        break;
      case Role::kTool:
        append_tool_result(messages, i, out);
        break;
    }
  }
  out += "<|im_start|>assistant\n<think>\n";
  if (thinking == Thinking::kOff) out += "\n</think>\n\n";
  return out;
}

}  // namespace

std::string render_chat(const Conversation& conversation, Thinking thinking) {
  return render(conversation.messages, conversation.tools, thinking);
}

std::string render_chat(const std::vector<ChatMessage>& messages, Thinking thinking) {
  return render(messages, {}, thinking);
}

}  // namespace sluice::model
