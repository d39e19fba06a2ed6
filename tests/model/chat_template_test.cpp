// The chat template against Jinja2's rendering of tests/golden-tokenizer/chat_template.jinja
// (tools/tokenizer_golden.py).
#include "model/chat_template.h"

#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace sluice::model {
namespace {

std::vector<ChatMessage> messages_of(const Json& json) {
  std::vector<ChatMessage> messages;
  for (const Json& message : json) {
    const auto role = message["role"].get<std::string>();
    messages.push_back({role == "system" ? Role::kSystem
                        : role == "user" ? Role::kUser
                                         : Role::kAssistant,
                        message["content"].get<std::string>()});
  }
  return messages;
}

TEST(ChatTemplate, RendersWhatJinjaRenders) {
  const std::filesystem::path path =
      std::filesystem::path(SLUICE_SOURCE_DIR) / "tests/golden-tokenizer/chat.json";
  std::size_t refused = 0;
  const Json rows = parse_json(read_text_file(path, 1U << 20U), path.string());
  ASSERT_GE(rows.size(), 200U);
  for (const Json& row : rows) {
    const std::vector<ChatMessage> messages = messages_of(row["messages"]);
    const Thinking thinking = row["thinking"].get<bool>() ? Thinking::kOn : Thinking::kOff;
    if (row["text"].is_null()) {
      EXPECT_THROW(render_chat(messages, thinking), Error) << row.dump();
      ++refused;
    } else {
      EXPECT_EQ(render_chat(messages, thinking), row["text"].get<std::string>()) << row.dump();
    }
  }
  EXPECT_GE(refused, 5U);
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
  const ChatMessage thoughtful{Role::kAssistant, "<think>\nhm\n</think>\n\nyes"};
  const std::string text =
      render_chat({{Role::kUser, "a"}, thoughtful, {Role::kUser, "b"}, thoughtful}, Thinking::kOff);
  EXPECT_THAT(text, testing::HasSubstr("a<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"));
  EXPECT_THAT(text, testing::HasSubstr(
                        "b<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\nyes<|im_end|>\n"));
}

TEST(ChatTemplate, WrongOrdersAreErrorsThatNameTheMessage) {
  EXPECT_THROW(render_chat({}, Thinking::kOff), Error);
  EXPECT_THROW(render_chat({{Role::kSystem, "x"}}, Thinking::kOff), Error);
  EXPECT_THROW(render_chat({{Role::kAssistant, "x"}}, Thinking::kOff), Error);
  try {
    render_chat({{Role::kUser, "x"}, {Role::kSystem, "y"}}, Thinking::kOff);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("messages[1]"));
  }
}

TEST(ChatTemplate, ContentNeedNotBeUtf8) {
  EXPECT_EQ(render_chat({{Role::kUser, " \xff\xe2\x80 "}}, Thinking::kOn),
            "<|im_start|>user\n\xff\xe2\x80<|im_end|>\n<|im_start|>assistant\n<think>\n");
}

}  // namespace
}  // namespace sluice::model
