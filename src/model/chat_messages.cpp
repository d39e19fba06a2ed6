#include "model/chat_messages.h"

#include <array>
#include <cstddef>

#include "base/error.h"
#include "model/ordered_json.h"

namespace sluice::model {
namespace {

using Kind = OrderedJson::Kind;

// A value and the way to it, which becomes text only in an error.
class Field {
 public:
  Field(const OrderedJson& json, std::string_view where, std::string_view name)
      : json_(json), where_(where), key_(name) {}

  Kind kind() const { return json_.kind; }
  bool is(Kind kind) const { return json_.kind == kind; }
  const OrderedJson& json() const { return json_; }

  // Calls `use` with the member of that name, if there is one and it isn't null; says whether.
  template <typename Use>
  bool if_given(std::string_view name, const Use& use) const {
    const OrderedJson* member = json_.find(name);
    if (member == nullptr || member->kind == Kind::kNull) return false;
    use(Field(*member, *this, name, 0));
    return true;
  }

  bool has(std::string_view name) const { return json_.find(name) != nullptr; }

  template <typename Use>
  void for_each(const Use& use) const {
    for (std::size_t i = 0; i < json_.children.size(); ++i)
      use(Field(json_.children[i], *this, json_.children[i].key, i));
  }

  const Field& want(Kind kind, std::string_view what) const {
    if (json_.kind != kind) fail("is not " + std::string(what));
    return *this;
  }

  const std::string& string() const { return want(Kind::kString, "a string").json_.text; }

  [[noreturn]] void fail(std::string_view problem,
                         std::string_view what_to_do = "write it as OpenAI's chat requests do") const {
    const std::string path = this->path();
    throw Error((path.empty() ? "the conversation" : path) + " " + std::string(problem), where_, what_to_do);
  }

  std::string path() const {
    if (parent_ == nullptr) return std::string(key_);
    const std::string before = parent_->path();
    if (parent_->is(Kind::kArray)) return before + "[" + std::to_string(index_) + "]";
    return before.empty() ? std::string(key_) : before + "." + std::string(key_);
  }

  std::string_view where() const { return where_; }

 private:
  Field(const OrderedJson& json, const Field& parent, std::string_view key, std::size_t index)
      : json_(json), where_(parent.where_), parent_(&parent), key_(key), index_(index) {}

  const OrderedJson& json_;
  std::string_view where_;
  const Field* parent_ = nullptr;  // outlives this one: both live on the stack
  std::string_view key_;
  std::size_t index_ = 0;
};

Role role_of(const Field& message) {
  Role role = Role::kUser;
  const bool given = message.if_given("role", [&](const Field& field) {
    const std::string& name = field.string();
    if (name == "system" || name == "developer") {
      role = Role::kSystem;
    } else if (name == "user") {
      role = Role::kUser;
    } else if (name == "assistant") {
      role = Role::kAssistant;
    } else if (name == "tool") {
      role = Role::kTool;
    } else {
      field.fail("is \"" + name + "\"", "use system, developer, user, assistant or tool");
    }
  });
  if (!given) message.fail("has no \"role\"", "use system, developer, user, assistant or tool");
  return role;
}

// As the template: a part counts by the fields that it has, not by its type.
void append_part(const Field& part, std::string& out) {
  part.want(Kind::kObject, "an object");
  constexpr std::array kMedia = {"image", "image_url", "video", "video_url", "input_audio", "audio", "file"};
  for (const char* medium : kMedia) {
    const OrderedJson* type = part.json().find("type");
    if (part.has(medium) || (type != nullptr && type->kind == Kind::kString && type->text == medium))
      part.fail("is not text but \"" + std::string(medium) + "\"", "only text can be read");
  }
  if (!part.if_given("text", [&](const Field& text) { out += text.string(); }))
    part.fail("has no \"text\"", "only text can be read");
}

std::string content_of(const Field& content) {
  if (content.is(Kind::kString)) return content.json().text;
  content.want(Kind::kArray, "a string, null or a list of parts");
  std::string out;
  content.for_each([&](const Field& part) { append_part(part, out); });
  return out;
}

std::string argument_text(const OrderedJson& value) {
  switch (value.kind) {
    case Kind::kNull:
      return "None";
    case Kind::kFalse:
      return "False";
    case Kind::kTrue:
      return "True";
    case Kind::kNumber:
    case Kind::kString:
      return value.text;
    case Kind::kArray:
    case Kind::kObject:
      break;
  }
  std::string out;
  append_python_json(value, out);
  return out;
}

std::vector<ToolArgument> arguments_of(const Field& arguments) {
  if (arguments.is(Kind::kString)) {
    const std::string& text = arguments.json().text;
    if (text.empty()) return {};  // what some clients send for none
    const std::string where =
        std::string(arguments.where()) + (arguments.where().empty() ? "" : ": ") + arguments.path();
    const OrderedJson inner = parse_ordered_json(text, where);
    if (inner.kind != Kind::kObject)
      arguments.fail("is not a JSON object in a string", "write \"{}\" if there are no arguments");
    return arguments_of(Field(inner, where, {}));
  }
  arguments.want(Kind::kObject, "an object, or a string that holds one");
  std::vector<ToolArgument> out;
  arguments.for_each(
      [&](const Field& value) { out.push_back({value.json().key, argument_text(value.json())}); });
  return out;
}

std::string name_of(const Field& function) {
  std::string name;
  function.if_given("name", [&](const Field& field) { name = field.string(); });
  if (name.empty()) function.fail("has no \"name\"", "name the function");
  return name;
}

ToolCall tool_call_of(const Field& call) {
  call.want(Kind::kObject, "an object");
  ToolCall out;
  const auto read = [&](const Field& function) {
    function.want(Kind::kObject, "an object");
    out.name = name_of(function);
    function.if_given("arguments", [&](const Field& field) { out.arguments = arguments_of(field); });
  };
  if (!call.if_given("function", read)) read(call);
  return out;
}

ChatMessage message_of(const Field& message) {
  message.want(Kind::kObject, "an object");
  ChatMessage out;
  out.role = role_of(message);
  message.if_given("content", [&](const Field& content) { out.content = content_of(content); });
  message.if_given("tool_calls", [&](const Field& calls) {
    calls.want(Kind::kArray, "a list");
    if (out.role != Role::kAssistant && !calls.json().children.empty())
      calls.fail("stands in a message that is not the assistant's", "only the assistant calls tools");
    calls.for_each([&](const Field& call) { out.tool_calls.push_back(tool_call_of(call)); });
  });
  if (out.role == Role::kAssistant)
    message.if_given("reasoning_content", [&](const Field& field) { out.reasoning = field.string(); });
  if (!message.has("content") && out.tool_calls.empty() && !out.reasoning)
    message.fail("has no \"content\"", "give it one, or null");
  if (message.has("function_call")) message.fail("has a \"function_call\"", "use \"tool_calls\"");
  return out;
}

std::string tool_of(const Field& tool) {
  tool.want(Kind::kObject, "an object");
  const auto check = [](const Field& function) {
    function.want(Kind::kObject, "an object");
    static_cast<void>(name_of(function));
  };
  if (!tool.if_given("function", check)) check(tool);
  std::string out;
  append_python_json(tool.json(), out);
  return out;
}

void read_template_options(const Field& options, Conversation& out) {
  options.want(Kind::kObject, "an object").for_each([&](const Field& option) {
    if (option.json().key != "enable_thinking") option.fail("is not known", "only enable_thinking is");
    if (option.is(Kind::kNull)) return;
    if (!option.is(Kind::kTrue)) option.want(Kind::kFalse, "true or false");
    out.thinking = option.is(Kind::kTrue) ? Thinking::kOn : Thinking::kOff;
  });
}

void read_messages(const Field& messages, Conversation& out) {
  messages.want(Kind::kArray, "a list");
  out.messages.reserve(messages.json().children.size());
  messages.for_each([&](const Field& message) { out.messages.push_back(message_of(message)); });
}

}  // namespace

Conversation parse_chat(std::string_view text, std::string_view where) {
  const OrderedJson json = parse_ordered_json(text, where);
  const Field root(json, where, json.kind == Kind::kArray ? "messages" : "");
  Conversation out;
  if (root.is(Kind::kArray)) {
    read_messages(root, out);
    return out;
  }
  root.want(Kind::kObject, "a list of messages, or an object with \"messages\"");
  constexpr std::array kRefused = {"functions",      "function_call",         "documents",
                                   "chat_template",  "add_generation_prompt", "continue_final_message",
                                   "enable_thinking"};
  for (const char* name : kRefused) {
    root.if_given(name, [](const Field& field) {
      field.fail("would change the prompt in a way that is not supported",
                 "leave it out; tools go into \"tools\", enable_thinking into \"chat_template_kwargs\"");
    });
  }
  if (!root.if_given("messages", [&](const Field& messages) { read_messages(messages, out); }))
    root.fail("has no \"messages\"", "give it a list of messages");
  root.if_given("tools", [&](const Field& tools) {
    tools.want(Kind::kArray, "a list").for_each([&](const Field& tool) {
      out.tools.push_back(tool_of(tool));
    });
  });
  root.if_given("chat_template_kwargs", [&](const Field& options) { read_template_options(options, out); });
  return out;
}

}  // namespace sluice::model
