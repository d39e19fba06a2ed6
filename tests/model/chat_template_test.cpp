// The chat template against Jinja2's rendering of tests/golden-chat/chat_template.jinja (tools/chat_golden.py), which in turn
// tools/peers/chat_template.py compares with Qwen's own.
#include "model/chat_template.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "tests/support/errors.h"
#include "tests/support/seed.h"

namespace sluice::model {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kShared =
    "\xEE\x80\x80";  // U+E000, for the words that all renderings with tools share

std::string json_string(const std::string& line) {
  return parse_json(line, "sample").get<std::string>();
}

std::string expand(std::string text, const std::string& shared) {
  for (std::size_t at = text.find(kShared); at != std::string::npos; at = text.find(kShared, at))
    text.replace(at, kShared.size(), shared);
  return text;
}

struct Counts {
  std::size_t chats = 0;
  std::size_t refused = 0;
  std::size_t with_tools = 0;
  std::size_t with_calls = 0;
};

// Renders every conversation of a sample and compares.
Counts compare(const std::filesystem::path& path) {
  std::istringstream lines(read_text_file(path, std::size_t{1} << 30U));
  Counts counts;
  std::string chat;
  std::string expected;
  std::getline(lines, expected);
  const std::string shared = json_string(expected);
  while (std::getline(lines, chat) && std::getline(lines, expected)) {
    ++counts.chats;
    const Conversation conversation = parse_chat(chat, "sample");
    const Thinking thinking = conversation.thinking.value_or(Thinking::kOff);
    if (expected == "null") {
      EXPECT_THROW(render_chat(conversation, thinking), Error) << chat;
      ++counts.refused;
      continue;
    }
    const std::string text = render_chat(conversation, thinking);
    EXPECT_EQ(text, expand(json_string(expected), shared)) << chat;
    if (!conversation.tools.empty()) ++counts.with_tools;
    if (text.find("</parameter>\n</function>\n</tool_call><|im_end|>") != std::string::npos)
      ++counts.with_calls;
  }
  return counts;
}

TEST(ChatTemplate, RendersWhatJinjaRenders) {
  const Counts counts =
      compare(std::filesystem::path(SLUICE_SOURCE_DIR) / "tests" / "golden-chat" / "chats.jsonl");
  EXPECT_EQ(counts.chats, 200U);
  EXPECT_GE(counts.refused, 10U);
  EXPECT_GE(counts.with_tools, 40U);
  EXPECT_GE(counts.with_calls, 30U);
}

// tools/chat_golden.py --out makes a larger sample, tools/peers/chat_template.py one by Qwen's own template.
TEST(ChatTemplate, RendersWhatAPeerRenders) {
  const char* path = std::getenv("SLUICE_CHAT_PEERS");
  if (path == nullptr) return;
  const Counts counts = compare(path);
  std::cout << counts.chats << " conversations, " << counts.refused << " refused\n";
  EXPECT_GT(counts.chats, counts.refused);
}

// docs/models.md §4 gives these prompts.
TEST(ChatTemplate, ThePromptsOfTheSpecification) {
  EXPECT_EQ(render_chat({{Role::kUser, "Hi"}}, Thinking::kOff),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
  EXPECT_EQ(render_chat({{Role::kSystem, " Be brief. "}, {Role::kUser, "Hi"}}, Thinking::kOn),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n");
}

TEST(ChatTemplate, OldThoughtsAreDroppedAndNewOnesKept) {
  const ChatMessage inside{Role::kAssistant, "<think>\nhm\n</think>\n\nyes"};
  const ChatMessage apart{Role::kAssistant, "yes", "\nhm "};
  for (const ChatMessage& thoughtful : {inside, apart}) {
    const std::string text =
        render_chat({{Role::kUser, "a"}, thoughtful, {Role::kUser, "b"}, thoughtful}, Thinking::kOff);
    EXPECT_THAT(text, HasSubstr("a<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"));
    EXPECT_THAT(text,
                HasSubstr("b<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\nyes<|im_end|>\n"));
  }
}

// A tool's result does not end the turn in which the user asked: the thoughts before it stay.
TEST(ChatTemplate, CallsAndResultsOfOneTurn) {
  Conversation chat;
  chat.tools = {R"({"name": "add"})"};
  chat.messages = {{Role::kUser, "1 + 2, 3 + 4?"},
                   {Role::kAssistant,
                    "Wait.",
                    "Two sums.",
                    {{"add", {{"a", "1"}, {"b", "2"}}}, {"add", {{"a", "3"}, {"b", "4"}}}, {"now", {}}}},
                   {Role::kTool, "3\n"},
                   {Role::kTool, "7"}};
  const std::string text = render_chat(chat, Thinking::kOn);
  EXPECT_THAT(text, testing::StartsWith("<|im_start|>system\n# Tools\n\nYou have access to the following "
                                        "functions:\n\n<tools>\n{\"name\": \"add\"}\n</tools>\n\nIf you "));
  EXPECT_THAT(text, testing::EndsWith("</IMPORTANT><|im_end|>\n"
                                      "<|im_start|>user\n1 + 2, 3 + 4?<|im_end|>\n"
                                      "<|im_start|>assistant\n<think>\nTwo sums.\n</think>\n\nWait.\n\n"
                                      "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n"
                                      "<parameter=b>\n2\n</parameter>\n</function>\n</tool_call>\n"
                                      "<tool_call>\n<function=add>\n<parameter=a>\n3\n</parameter>\n"
                                      "<parameter=b>\n4\n</parameter>\n</function>\n</tool_call>\n"
                                      "<tool_call>\n<function=now>\n</function>\n</tool_call><|im_end|>\n"
                                      "<|im_start|>user\n<tool_response>\n3\n</tool_response>\n"
                                      "<tool_response>\n7\n</tool_response><|im_end|>\n"
                                      "<|im_start|>assistant\n<think>\n"));
  chat.messages.push_back({Role::kUser, "Thanks."});
  EXPECT_THAT(render_chat(chat, Thinking::kOn), Not(HasSubstr("Two sums")));
}

TEST(ChatTemplate, WrongOrdersAreErrorsThatNameTheMessage) {
  EXPECT_THROW(render_chat(Conversation{}, Thinking::kOff), Error);
  EXPECT_THROW(render_chat(std::vector<ChatMessage>{}, Thinking::kOff), Error);
  EXPECT_THROW(render_chat({{Role::kSystem, "x"}}, Thinking::kOff), Error);
  EXPECT_THROW(render_chat({{Role::kAssistant, "x"}}, Thinking::kOff), Error);
  EXPECT_THROW(render_chat({{Role::kUser, "<tool_response>x</tool_response>"}}, Thinking::kOff), Error);
  EXPECT_THAT(test::error_of([] { render_chat({{Role::kUser, "x"}, {Role::kSystem, "y"}}, Thinking::kOff); }),
              HasSubstr("messages[1]"));
  EXPECT_THAT(test::error_of([] { render_chat({{Role::kTool, "x"}, {Role::kUser, "y"}}, Thinking::kOff); }),
              HasSubstr("messages[0]"));
}

TEST(ChatTemplate, ContentNeedNotBeUtf8) {
  EXPECT_EQ(render_chat({{Role::kUser, " \xff\xe2\x80 "}}, Thinking::kOn),
            "<|im_start|>user\n\xff\xe2\x80<|im_end|>\n<|im_start|>assistant\n<think>\n");
}

// A turn that is added only adds text: what a prefix cache relies on, as long as no user turn is added.
TEST(ChatTemplate, ResultsOnlyAddToThePrompt) {
  test::Random random(test::seed_of_test());
  std::vector<ChatMessage> messages = {{Role::kUser, "q"}};
  std::string before = render_chat(messages, Thinking::kOn);
  for (int i = 0; i < 50; ++i) {
    const bool is_tool = test::pick(random, 0, 1) == 1;
    if (is_tool) {
      messages.push_back({Role::kTool, "r"});
    } else {
      messages.push_back({Role::kAssistant, "a", "t", {{"f", {}}}});
    }
    const std::string text = render_chat(messages, Thinking::kOn);
    // Without the prompt for the assistant, and without the end of a user turn that goes on with another result.
    std::string kept = before.substr(0, before.rfind("<|im_start|>assistant\n"));
    if (is_tool && i > 0) kept = kept.substr(0, kept.rfind("<|im_end|>\n"));
    EXPECT_TRUE(text.starts_with(kept)) << text;
    before = text;
  }
}

// 100,000 messages and megabytes of text take well below a second each, also where all of it has to be looked at.
TEST(ChatTemplate, LongConversationsTakeLinearTime) {
  std::vector<ChatMessage> messages(100'000, {Role::kTool, "r"});
  messages.front() = {Role::kUser, "q"};
  for (std::size_t i = 1; i < messages.size(); i += 2)
    messages[i] = {Role::kAssistant, "", std::nullopt, {{"f", {{"a", "b"}}}}};
  EXPECT_GT(render_chat(messages, Thinking::kOn).size(), 100'000U * 10);
  const std::string big(std::size_t{4} << 20U, ' ');
  std::string thinks;
  while (thinks.size() < big.size()) thinks += "<think></think>";
  const std::string text =
      render_chat({{Role::kSystem, big}, {Role::kUser, "<tool_response>" + big}, {Role::kAssistant, thinks}},
                  Thinking::kOff);
  EXPECT_LT(text.size(), 300U);
}

}  // namespace
}  // namespace sluice::model
