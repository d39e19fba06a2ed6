// Conversations from outside: what is understood, and what is refused with which words.
#include "model/chat_messages.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/ordered_json.h"
#include "tests/support/errors.h"
#include "tests/support/seed.h"

namespace sluice::model {
namespace {

using testing::HasSubstr;

Conversation parse(const std::string& text) {
  return parse_chat(text, "chat.json");
}

TEST(ChatMessages, AnArrayOrARequest) {
  const Conversation bare = parse(R"([{"role":"user","content":"a"}])");
  ASSERT_EQ(bare.messages.size(), 1U);
  EXPECT_EQ(bare.messages[0].content, "a");
  EXPECT_EQ(bare.thinking, std::nullopt);
  const Conversation request = parse(R"({
    "model": "m", "temperature": 0.5, "stream": true, "tools": [{"type": "function", "function": {"name": "f"}}],
    "chat_template_kwargs": {"enable_thinking": false},
    "messages": [{"role": "developer", "content": null}, {"role": "user", "name": "Ann", "content": [
      {"type": "text", "text": "a"}, {"text": "b"}]}]})");
  ASSERT_EQ(request.messages.size(), 2U);
  EXPECT_EQ(request.messages[0].role, Role::kSystem);
  EXPECT_EQ(request.messages[0].content, "");
  EXPECT_EQ(request.messages[1].content, "ab");
  EXPECT_EQ(request.thinking, Thinking::kOff);
  EXPECT_THAT(request.tools, testing::ElementsAre(R"({"type": "function", "function": {"name": "f"}})"));
  const Conversation nulls = parse(
      R"({"messages": [{"role": "assistant", "content": "x", "tool_calls": null, "reasoning_content": null}],
          "tools": null, "chat_template_kwargs": {"enable_thinking": null}, "functions": null})");
  EXPECT_TRUE(nulls.messages[0].tool_calls.empty());
  EXPECT_EQ(nulls.messages[0].reasoning, std::nullopt);
  EXPECT_EQ(nulls.thinking, std::nullopt);
}

// Arguments are what Python would print of them, in the order given, whether they come as an object or as a string.
TEST(ChatMessages, Arguments) {
  const std::string object =
      R"({"z": "s", "a": 1.0, "n": null, "t": true, "f": false, "l": [1e16, "\u00e9\n", null], "o": {"k": 1E-7},)"
      R"( "big": 123456789012345678901234567890, "m": -0, "mf": -0.0, "e": "", "d": {}})";
  std::string quoted;
  append_python_json({OrderedJson::Kind::kString, "", object, {}}, quoted);
  for (const std::string& arguments : {object, quoted}) {
    for (const char* outer : {R"({"type": "function", "function": )", ""}) {
      const Conversation chat =
          parse(R"([{"role": "assistant", "reasoning_content": "r", "tool_calls": [)" + std::string(outer) +
                R"({"name": "f", "arguments": )" + arguments + "}" + (*outer == '\0' ? "" : "}") + "]}]");
      ASSERT_EQ(chat.messages[0].tool_calls.size(), 1U);
      const ToolCall& call = chat.messages[0].tool_calls[0];
      EXPECT_EQ(chat.messages[0].reasoning, "r");
      EXPECT_EQ(call.name, "f");
      std::string shown;
      for (const ToolArgument& argument : call.arguments) shown += argument.name + "=" + argument.value + ";";
      EXPECT_EQ(shown,
                "z=s;a=1.0;n=None;t=True;f=False;l=[1e+16, \"\u00e9\\n\", null];o={\"k\": 1e-07};"
                "big=123456789012345678901234567890;m=0;mf=-0.0;e=;d={};");
    }
  }
  for (const char* none :
       {"", R"(,"arguments":"")", R"(,"arguments":"{}")", R"(,"arguments":{})", R"(,"arguments":null)"}) {
    const Conversation chat =
        parse(R"([{"role":"assistant","tool_calls":[{"function":{"name":"f")" + std::string(none) + "}}]}]");
    EXPECT_TRUE(chat.messages[0].tool_calls[0].arguments.empty()) << none;
  }
}

struct Refusal {
  const char* text;
  const char* path;     // what the error must name
  const char* problem;  // and say
};

constexpr std::array kRefusals = {
    Refusal{"", "chat.json", "not valid JSON"},
    Refusal{"{", "chat.json", "not valid JSON"},
    Refusal{"[] x", "chat.json", "not valid JSON"},
    Refusal{"3", "the conversation", "messages"},
    Refusal{"null", "the conversation", "messages"},
    Refusal{"{}", "the conversation", "no \"messages\""},
    Refusal{R"({"messages": null})", "the conversation", "no \"messages\""},
    Refusal{R"({"messages": {}})", "messages", "is not a list"},
    Refusal{R"([3])", "messages[0]", "is not an object"},
    Refusal{R"([{"content": "x"}])", "messages[0]", "no \"role\""},
    Refusal{R"({"messages": [{"role": "user", "content": "x"}, {"role": "bot", "content": "x"}]})",
            "messages[1].role", "\"bot\""},
    Refusal{R"([{"role": 1, "content": "x"}])", "messages[0].role", "is not a string"},
    Refusal{R"([{"role": "user"}])", "messages[0]", "no \"content\""},
    Refusal{R"([{"role": "user", "content": 1}])", "messages[0].content", "list of parts"},
    Refusal{R"([{"role": "user", "content": ["x"]}])", "messages[0].content[0]", "is not an object"},
    Refusal{R"([{"role": "user", "content": [{"type": "text"}]}])", "messages[0].content[0]", "no \"text\""},
    Refusal{R"([{"role": "user", "content": [{"type": "text", "text": 3}]}])", "messages[0].content[0].text",
            "is not a string"},
    Refusal{
        R"([{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]}])",
        "messages[0].content[1]", "image_url"},
    Refusal{R"([{"role": "user", "content": [{"type": "image", "text": "x"}]}])", "messages[0].content[0]",
            "image"},
    Refusal{R"([{"role": "user", "content": [{"text": "x", "video": "y"}]}])", "messages[0].content[0]",
            "video"},
    Refusal{R"([{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}])",
            "messages[0].content[0]", "audio"},
    Refusal{R"([{"role": "user", "content": "x", "tool_calls": [{"function": {"name": "f"}}]}])",
            "messages[0].tool_calls", "not the assistant's"},
    Refusal{R"([{"role": "assistant", "tool_calls": {}}])", "messages[0].tool_calls", "is not a list"},
    Refusal{R"([{"role": "assistant", "tool_calls": [3]}])", "messages[0].tool_calls[0]", "is not an object"},
    Refusal{R"([{"role": "assistant", "tool_calls": [{}]}])", "messages[0].tool_calls[0]", "no \"name\""},
    Refusal{R"({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": 7}}]}]})",
            "messages[0].tool_calls[0].function.name", "is not a string"},
    Refusal{R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 7}}]}])",
            "messages[0].tool_calls[0].function.arguments", "is not an object"},
    Refusal{R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}])",
            "messages[0].tool_calls[0].function.arguments", "is not a JSON object"},
    Refusal{R"([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{\"a\":"}}]}])",
            "messages[0].tool_calls[0].function.arguments", "not valid JSON"},
    Refusal{R"([{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "\"{}\""}]}])",
            "messages[0].tool_calls[0].arguments", "is not a JSON object"},
    Refusal{R"([{"role": "assistant", "content": "x", "reasoning_content": 1}])",
            "messages[0].reasoning_content", "is not a string"},
    Refusal{R"([{"role": "assistant", "content": "x", "function_call": {}}])", "messages[0]", "tool_calls"},
    Refusal{R"({"messages": [], "tools": {}})", "tools", "is not a list"},
    Refusal{R"({"messages": [], "tools": ["f"]})", "tools[0]", "is not an object"},
    Refusal{R"({"messages": [], "tools": [{"type": "function"}]})", "tools[0]", "no \"name\""},
    Refusal{R"({"messages": [], "tools": [{"function": {"name": ""}}]})", "tools[0].function", "no \"name\""},
    Refusal{R"({"messages": [], "chat_template_kwargs": 1})", "chat_template_kwargs", "is not an object"},
    Refusal{R"({"messages": [], "chat_template_kwargs": {"enable_thinking": "no"}})",
            "chat_template_kwargs.enable_thinking", "is not true or false"},
    Refusal{R"({"messages": [], "chat_template_kwargs": {"add_vision_id": true}})",
            "chat_template_kwargs.add_vision_id", "is not known"},
    Refusal{R"({"messages": [], "functions": []})", "functions", "tools"},
    Refusal{R"({"messages": [], "enable_thinking": true})", "enable_thinking", "chat_template_kwargs"},
    Refusal{R"([{"role": "user", "role": "user", "content": "x"}])", "chat.json", "stands there twice"},
    Refusal{R"([{"role": "user", "content": "\ud800"}])", "chat.json", "not valid JSON"},
    Refusal{"[{\"role\": \"user\", \"content\": \"\xff\"}]", "chat.json", "not valid JSON"},
    Refusal{R"({"messages": [], "tools": [{"name": "f", "x": 1e999}]})", "chat.json", "too large"},
    Refusal{R"({"messages": [], "tools": [{"name": "f", "x": NaN}]})", "chat.json", "not valid JSON"},
};

TEST(ChatMessages, WhatDoesNotFitIsNamed) {
  for (const Refusal& refusal : kRefusals) {
    const std::string message = test::error_of([&] { parse(refusal.text); });
    EXPECT_THAT(message, HasSubstr(refusal.path)) << refusal.text;
    EXPECT_THAT(message, HasSubstr(refusal.problem)) << refusal.text;
    EXPECT_THAT(message, HasSubstr("chat.json")) << refusal.text;
  }
}

std::string repeated(const std::string& piece, std::size_t count) {
  std::string out;
  out.reserve(piece.size() * count);
  for (std::size_t i = 0; i < count; ++i) out += piece;
  return out;
}

TEST(ChatMessages, LargeInputsTakeLinearTime) {
  std::string many = "[";
  for (std::size_t i = 0; i < 100'000; ++i) many += R"({"role":"user","content":"x"},)";
  many.back() = ']';
  EXPECT_EQ(parse(many).messages.size(), 100'000U);

  const std::string big(std::size_t{8} << 20U, 'x');
  EXPECT_EQ(parse(R"([{"role":"user","content":")" + big + "\"}]").messages[0].content.size(), big.size());

  std::string keys = R"([{"role":"assistant","tool_calls":[{"name":"f","arguments":{)";
  for (std::size_t i = 0; i < 200'000; ++i) keys.append("\"k").append(std::to_string(i)).append("\":1,");
  keys.back() = '}';
  EXPECT_EQ(parse(keys + "}]}]").messages[0].tool_calls[0].arguments.size(), 200'000U);
}

TEST(ChatMessages, HostileInputsAreRefusedEarly) {
  const std::string deep = repeated("[", 1'000'000);
  EXPECT_THAT(test::error_of([&] { parse(deep); }), HasSubstr("nested deeper"));
  const std::string many = repeated("0,", 2'000'000).insert(0, 1, '[');
  EXPECT_THAT(test::error_of([&] { parse(many); }), HasSubstr("a million"));
  const std::string inner = repeated(R"({\"a\":)", 100'000);
  EXPECT_THAT(test::error_of([&] {
                parse(R"([{"role":"assistant","tool_calls":[{"name":"f","arguments":")" + inner + R"("}]}])");
              }),
              HasSubstr("nested deeper"));
}

// Any damage to a conversation is understood or refused, never more.
TEST(ChatMessages, DamagedInputs) {
  test::Random random(test::seed_of_test());
  const std::string text =
      R"({"messages":[{"role":"assistant","content":[{"type":"text","text":"a\u00e9"}],"reasoning_content":"r",)"
      R"("tool_calls":[{"function":{"name":"f","arguments":"{\"a\":[1.5e3,null]}"}}]},{"role":"tool","content":null}],)"
      R"("tools":[{"function":{"name":"f"}}],"chat_template_kwargs":{"enable_thinking":true}})";
  for (int i = 0; i < 5000; ++i) {
    std::string damaged = text;
    for (std::size_t n = test::pick(random, 1, 3); n > 0; --n) {
      const std::size_t at = test::pick(random, 0, damaged.size() - 1);
      const std::size_t what = test::pick(random, 0, 2);
      if (what == 0) damaged.erase(at, test::pick(random, 1, 8));
      if (what == 1) damaged[at] = "\"{}[]:,\\0e-x\x80"[test::pick(random, 0, 12)];
      if (what == 2) damaged.insert(at, damaged.substr(test::pick(random, 0, damaged.size() - 1), 5));
      if (damaged.empty()) break;
    }
    try {
      static_cast<void>(parse(damaged));
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("chat.json"));
    }
  }
}

// repr(): the fewest digits that read back. The fewest are found here by trying "%.*e" with 1, 2, ... digits.
TEST(PythonRepr, IsTheShortestThatReadsBack) {
  test::Random random(test::seed_of_test());
  for (int i = 0; i < 20'000; ++i) {
    double value = 0;
    if (i % 2 == 0) {
      const std::uint64_t bits = random();
      std::memcpy(&value, &bits, sizeof value);
      if (!std::isfinite(value)) continue;
    } else {
      value = std::ldexp(static_cast<double>(random()), static_cast<int>(test::pick(random, 0, 100)) - 90);
    }
    const std::string text = python_repr(value);
    EXPECT_EQ(std::strtod(text.c_str(), nullptr), value) << text;
    std::array<char, 40> tried{};
    int digits = 0;
    do {
      static_cast<void>(std::snprintf(tried.data(), tried.size(), "%.*e", digits++, value));
    } while (std::strtod(tried.data(), nullptr) != value);
    std::string mantissa = text.substr(0, text.find('e'));
    std::erase_if(mantissa, [](char c) { return c == '.' || c == '-'; });
    mantissa.erase(0, mantissa.find_first_not_of('0'));
    mantissa.erase(mantissa.find_last_not_of('0') + 1);
    EXPECT_EQ(mantissa.size(), value == 0 ? 0U : static_cast<std::size_t>(digits))
        << text << " " << tried.data();
  }
}

// From CPython's documentation and repr() itself.
TEST(PythonRepr, TheFormsOfPython) {
  const std::array<std::pair<double, const char*>, 17> forms = {
      {{0.0, "0.0"},
       {-0.0, "-0.0"},
       {1.0, "1.0"},
       {0.1, "0.1"},
       {-2.5, "-2.5"},
       {100.0, "100.0"},
       {1e15, "1000000000000000.0"},
       {9999999999999998.0, "9999999999999998.0"},
       {1e16, "1e+16"},
       {123456789012345680.0, "1.2345678901234568e+17"},
       {1e-4, "0.0001"},
       {0.00012345, "0.00012345"},
       {1e-5, "1e-05"},
       {1e100, "1e+100"},
       {5e-324, "5e-324"},
       {1.7976931348623157e308, "1.7976931348623157e+308"},
       {3.141592653589793, "3.141592653589793"}}};
  for (const auto& [value, text] : forms) EXPECT_EQ(python_repr(value), text);
}

}  // namespace
}  // namespace sluice::model
