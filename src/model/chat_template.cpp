// The template, turn by turn (docs/models.md §4; the same in Jinja:
// tests/golden-tokenizer/chat_template.jinja):
//
//   <|im_start|>ROLE\nCONTENT<|im_end|>\n        CONTENT without white space around it
//
// An assistant's content is THOUGHT</think>ANSWER, or ANSWER alone. Before the last user turn only ANSWER is
// shown; after it, "<think>\nTHOUGHT\n</think>\n\nANSWER", also where there was no thought.
#include "model/chat_template.h"

#include <cstddef>

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

std::string_view name_of(Role role) {
  switch (role) {
    case Role::kSystem:
      return "system";
    case Role::kUser:
      return "user";
    case Role::kAssistant:
      return "assistant";
  }
  return {};
}

// A user turn that only hands back what a tool said is no query of its own.
bool is_query(const ChatMessage& message) {
  const std::string_view content = trim(message.content);
  return message.role == Role::kUser &&
         !(content.starts_with("<tool_response>") && content.ends_with("</tool_response>"));
}

std::size_t last_query(const std::vector<ChatMessage>& messages) {
  for (std::size_t i = messages.size(); i > 0; --i) {
    if (is_query(messages[i - 1])) return i - 1;
  }
  throw Error("the conversation has no user message", "messages", "add one");
}

void append_content(const ChatMessage& message, bool show_thought, std::string& out) {
  const std::string_view content = trim(message.content);
  if (message.role != Role::kAssistant) {
    out += content;
    return;
  }
  const Turn turn = split_thought(content);
  if (show_thought)
    out.append(kThink).append("\n").append(turn.thought).append("\n").append(kEndThink).append("\n\n");
  out += turn.answer;
}

}  // namespace

std::string render_chat(const std::vector<ChatMessage>& messages, Thinking thinking) {
  const std::size_t query = last_query(messages);
  std::string out;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == Role::kSystem && i != 0) {
      throw Error("a system message is not the first message", "messages[" + std::to_string(i) + "]",
                  "put it first");
    }
    out.append("<|im_start|>").append(name_of(messages[i].role)).append("\n");
    append_content(messages[i], i > query, out);
    out += "<|im_end|>\n";
  }
  out += "<|im_start|>assistant\n<think>\n";
  if (thinking == Thinking::kOff) out += "\n</think>\n\n";
  return out;
}

}  // namespace sluice::model
