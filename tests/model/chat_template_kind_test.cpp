// Which templates are recognised: a checkpoint's template that is another one must never pass for Qwen3.5's.
#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/mapped_file.h"
#include "model/template_kind.h"
#include "tests/support/seed.h"

namespace sluice::model {
namespace {

std::string read_source(const std::string& name) {
  return read_text_file(std::filesystem::path(SLUICE_SOURCE_DIR) / name, std::size_t{1} << 20U);
}

std::string ours() {
  return read_source("tests/golden-chat/chat_template.jinja");
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(TemplateKind, OursAndTheBundledModelsAreKnown) {
  EXPECT_EQ(recognise_template(ours()), TemplateKind::kQwen35ThinkingOff);
  const std::string bundled = read_source("models/demo/chat_template.jinja");
  EXPECT_EQ(recognise_template(bundled), TemplateKind::kQwen35ThinkingOff);
  EXPECT_EQ(default_thinking_of(recognise_template(bundled)), Thinking::kOff);
  EXPECT_EQ(template_warning(bundled), std::nullopt);
}

// tools/peers/chat_template.py names a template whose renderings are known to be ours.
TEST(TemplateKind, APeersTemplateIsKnown) {
  const char* path = std::getenv("SLUICE_CHAT_TEMPLATE");
  if (path == nullptr) return;
  const std::string text = read_text_file(path, std::size_t{1} << 20U);
  EXPECT_EQ(template_warning(text), std::nullopt);
  if (recognise_template(text) != TemplateKind::kOther) return;
  std::string body = canonical_template(text).value_or("");
  body.resize(std::min(body.size(), body.rfind("{%if add_generation_prompt%}")));
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : body) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  ADD_FAILURE() << "the hash of its body is 0x" << std::hex << hash;
}

TEST(TemplateKind, TheDefaultIsReadFromTheTemplate) {
  const std::string off =
      "{%- if enable_thinking is defined and enable_thinking is true -%}\n"
      "        {{- '<think>\\n' -}}\n    {%- else -%}\n        {{- '<think>\\n\\n</think>\\n\\n' -}}\n";
  const std::string on =
      "{%- if enable_thinking is defined and enable_thinking is false -%}"
      "{{- '<think>\\n\\n</think>\\n\\n' -}}{%- else -%}{{- '<think>\\n' -}}";
  const std::string large = replaced(ours(), off, on);
  EXPECT_EQ(recognise_template(large), TemplateKind::kQwen35ThinkingOn);
  EXPECT_EQ(default_thinking_of(recognise_template(large)), Thinking::kOn);
  EXPECT_EQ(recognise_template(replaced(ours(), off, "{% if true %}" + on.substr(on.find("{{")))),
            TemplateKind::kOther);
}

TEST(TemplateKind, LayoutMakesNoDifference) {
  const std::string text = ours();
  std::string crlf;
  for (const char c : text) crlf.append(c == '\n' ? "\r\n" : std::string(1, c));
  std::string double_quotes;
  for (const char c : text) double_quotes += c == '\'' ? '"' : c;
  std::string comments = text;
  for (std::size_t at = comments.find("{%-"); at != std::string::npos; at = comments.find("{%-", at + 12))
    comments.insert(at, "{#- x -#}\n ");
  for (const std::string& same : {text + "\n", "\n\n" + text, crlf, double_quotes, comments,
                                  replaced(text, "{%- if tools -%}", "{%-  if\n tools-%}"),
                                  replaced(text, "loop.index0 > 0", "loop.index0>0")}) {
    EXPECT_EQ(recognise_template(same), TemplateKind::kQwen35ThinkingOff) << same.substr(0, 300);
  }
}

// Every small change of what Jinja sees is another template: a character less, another, or one more. Where the canonical form
// stays the same, so does every rendering.
TEST(TemplateKind, AnyOtherChangeIsSeen) {
  test::Random random(test::seed_of_test());
  const std::string text = ours();
  const std::string canonical = canonical_template(text).value();
  std::size_t n_other = 0;
  for (int i = 0; i < 1000; ++i) {
    std::string changed = text;
    const std::size_t at = test::pick(random, 0, text.size() - 1);
    const char c = "x' {}%\n\\-#"[test::pick(random, 0, 9)];
    switch (test::pick(random, 0, 2)) {
      case 0:
        changed.erase(at, 1);
        break;
      case 1:
        changed[at] = c;
        break;
      default:
        changed.insert(at, 1, c);
    }
    const bool same = canonical_template(changed) == canonical;
    EXPECT_EQ(recognise_template(changed), same ? TemplateKind::kQwen35ThinkingOff : TemplateKind::kOther)
        << at << ": " << changed.substr(at < 40 ? 0 : at - 40, 80);
    n_other += same ? 0U : 1U;
  }
  EXPECT_GT(n_other, 400U);  // indentation, line ends and comments are a part of the file too
}

TEST(TemplateKind, OtherTemplatesAreOther) {
  const std::string chatml =
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
      "'<|im_end|>' + "
      "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  const std::array others = {
      chatml,
      std::string("x"),
      std::string("{%"),
      std::string("{{ 'x"),
      std::string("{# x"),
      "{% raw %}" + ours() + "{% endraw %}",
      replaced(ours(), "Required parameters MUST", "Required  parameters MUST"),
      replaced(ours(), "<tools>' -}}", "<tools>' }} x"),
      replaced(ours(), "message.role == 'user'", "message.role == 'User'"),
      replaced(ours(), "{%- if add_generation_prompt -%}", "{%- if true -%}"),
      ours() + "{{ 1 }}",
      ours() + "x",
  };
  for (const std::string& other : others) {
    EXPECT_EQ(recognise_template(other), TemplateKind::kOther) << other.substr(0, 200);
    EXPECT_THAT(template_warning(other).value_or(""), testing::HasSubstr("chat template"));
    EXPECT_EQ(default_thinking_of(recognise_template(other)), std::nullopt);
  }
}

TEST(TemplateKind, NoTemplateHasItsOwnWarning) {
  for (const char* none : {"", " \n"}) {
    EXPECT_EQ(recognise_template(none), TemplateKind::kMissing);
    EXPECT_THAT(template_warning(none).value_or(""), testing::HasSubstr("no chat template"));
  }
}

// What the canonical form keeps, against Jinja's documented rules for white space (trim_blocks and lstrip_blocks on).
TEST(TemplateKind, TheCanonicalForm) {
  const std::array<std::array<const char*, 2>, 14> cases = {{
      {"a {%- if  x -%} b", "a{%if x%}b"},
      {"a {% if x %}\nb", "a {%if x%}b"},
      {"a\n  {% if x %}  b", "a\n{%if x%}  b"},
      {"a\n  {{ x }}\nb", "a\n  {{x}}\nb"},
      {"a {#- c -#} b", "ab"},
      {"a\n {# c #}\nb", "a\nb"},
      {"a\n {%+ if x +%}\nb", "a\n {%if x%}\nb"},
      {"{{ \"a\" ~ 'b' }}\n", "{{'a'~'b'}}"},
      {"{{ \"it's\" }}", "{{\"it's\"}}"},
      {"{{ ' -%} ' }}", "{{' -%} '}}"},
      {"{{ {'a': {}} }}", "{{{'a':{}}}}"},
      {"{% if a is  not b %}", "{%if a is not b%}"},
      {"a { b % }", "a { b % }"},
      {"a\r\nb\r", "a\nb"},
  }};
  for (const auto& [text, expected] : cases) EXPECT_EQ(canonical_template(text), expected) << text;
}

TEST(TemplateKind, HostileTextsTakeLinearTime) {
  for (const char* piece : {"{", "{%", "{{", "{#", "{#-#}", "{{'", "{%x%}", " ", "\n ", "{{{"}) {
    std::string text;
    while (text.size() < (std::size_t{4} << 20U)) text += piece;
    EXPECT_NE(recognise_template(text), TemplateKind::kQwen35ThinkingOff);
  }
}

}  // namespace
}  // namespace sluice::model
