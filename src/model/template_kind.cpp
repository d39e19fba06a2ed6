#include "model/template_kind.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace sluice::model {
namespace {

constexpr std::string_view kSpace = " \t\n\r\f\v";

bool is_space(char c) {
  return kSpace.find(c) != std::string_view::npos;
}

// Letters, digits and whatever is not ASCII: two of these with a space between are two words.
bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// Jinja reads any line end as \n, and drops one at the end of the text.
std::string unix_lines(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool pair = text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n';
    if (!pair) out += text[i] == '\r' ? '\n' : text[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Canonical {
 public:
  explicit Canonical(std::string_view jinja) : text_(unix_lines(jinja)) {}

  std::optional<std::string> run() {
    while (at_ < text_.size()) {
      const std::size_t tag = find_tag();
      if (tag == std::string::npos) {
        append_text(text_.size(), false, false);
        break;
      }
      const char kind = text_[tag + 1];
      const char sign = tag + 2 < text_.size() ? text_[tag + 2] : '\0';
      append_text(tag, sign == '-', kind != '{' && sign != '+');
      at_ = tag + 2 + (sign == '-' || sign == '+' ? 1 : 0);
      if (!(kind == '#' ? skip_comment() : append_tag(kind))) return std::nullopt;
    }
    return std::move(out_);
  }

 private:
  std::size_t find_tag() const {
    for (std::size_t i = text_.find('{', at_); i != std::string::npos; i = text_.find('{', i + 1)) {
      if (i + 1 < text_.size() && (text_[i + 1] == '%' || text_[i + 1] == '{' || text_[i + 1] == '#'))
        return i;
    }
    return std::string::npos;
  }

  // The text from at_ to `end`. `trim`: the tag behind it takes all white space; `trim_line`: it takes what stands before it on
  // its line, if that is white space alone (lstrip_blocks).
  void append_text(std::size_t end, bool trim, bool trim_line) {
    std::string_view text = std::string_view(text_).substr(at_, end - at_);
    if (trim) {
      const std::size_t last = text.find_last_not_of(kSpace);
      text = text.substr(0, last == std::string_view::npos ? 0 : last + 1);
    } else if (trim_line) {
      const std::size_t last = text.find_last_not_of(" \t");
      const std::size_t kept = last == std::string_view::npos ? 0 : last + 1;
      const bool at_line_start = kept == 0 ? (at_ == 0 || text_[at_ - 1] == '\n') : text[kept - 1] == '\n';
      if (at_line_start) text = text.substr(0, kept);
    }
    out_ += text;
    at_ = end;
  }

  // Past the end of a tag. `-` before it takes all white space behind it; a block or comment takes one line end (trim_blocks).
  void leave_tag(std::size_t end, bool is_block) {
    const char sign = text_[end - 1];
    at_ = end + 2;
    if (sign == '-') {
      while (at_ < text_.size() && is_space(text_[at_])) ++at_;
    } else if (is_block && sign != '+' && at_ < text_.size() && text_[at_] == '\n') {
      ++at_;
    }
  }

  bool skip_comment() {
    const std::size_t end = text_.find("#}", at_);
    if (end == std::string::npos) return false;
    leave_tag(end, true);
    return true;
  }

  bool append_tag(char kind) {
    const std::string_view close = kind == '%' ? "%}" : "}}";
    const std::size_t start = out_.size();
    out_.append(1, '{').append(1, kind);
    bool space = false;
    for (int depth = 0; at_ < text_.size();) {
      const char c = text_[at_];
      if (depth == 0 && std::string_view(text_).substr(at_).starts_with(close)) {
        if (out_.back() == '-' || out_.back() == '+') out_.pop_back();
        leave_tag(at_, kind == '%');
        out_ += close;
        return !std::string_view(out_).substr(start).starts_with("{%raw");
      }
      if (is_space(c)) {
        space = true;
        ++at_;
        continue;
      }
      if (space && is_word(out_.back()) && is_word(c)) out_ += ' ';
      space = false;
      if (c == '\'' || c == '"') {
        if (!append_string(c)) return false;
        continue;
      }
      // A mapping inside of {{ }} may end in }} too.
      if (c == '{' || c == '[' || c == '(') ++depth;
      if (c == '}' || c == ']' || c == ')') --depth;
      out_ += c;
      ++at_;
    }
    return false;
  }

  // In single quotes, if that needs no other escapes.
  bool append_string(char quote) {
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2U : 1U;
    if (end >= text_.size()) return false;
    const std::string_view inside = std::string_view(text_).substr(at_ + 1, end - at_ - 1);
    const bool plain =
        inside.find('\'') == std::string_view::npos && inside.find("\\\"") == std::string_view::npos;
    const char used = plain ? '\'' : quote;
    out_.append(1, used).append(inside).append(1, used);
    at_ = end + 1;
    return true;
  }

  std::string text_;
  std::size_t at_ = 0;
  std::string out_;
};

// FNV-1a, 64 bits. Nobody gains from a collision made on purpose: it would only silence a warning about his own file.
std::uint64_t hash(std::string_view text) {
  std::uint64_t value = 0xCBF29CE484222325U;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return value;
}

// The canonical forms, up to the block that begins the assistant's turn, of the templates whose renderings
// are known to be ours. tools/peers/chat_template.py compares the renderings and, with --tests, shows the number of a
// new one.
constexpr std::array<std::uint64_t, 6> kKnownBodies = {
    0x0cfde62d29a3e8c9,  // Qwen3.5's
    0x50c6d692e91ec45f,  // with the loop over a call's arguments that Unsloth's files have
    0x5860e13feb9d5306,  // with preserve_thinking, which nobody sets here
    0x38a4016d1875e658,  // with both
    0x56ccbec0a6aa4c0e,  // tests/golden-chat/chat_template.jinja
    0xefd2cea486e933a1,  // the bundled model's, which knows no tools: the same without them
};

// That block, for the two defaults.
constexpr std::string_view kTurn = "{%if add_generation_prompt%}";
constexpr std::string_view kThinkIfAsked =
    R"({%if add_generation_prompt%}{{'<|im_start|>assistant\n'}})"
    R"({%if enable_thinking is defined and enable_thinking is true%}{{'<think>\n'}})"
    R"({%else%}{{'<think>\n\n</think>\n\n'}}{%endif%}{%endif%})";
constexpr std::string_view kThinkUnlessTold =
    R"({%if add_generation_prompt%}{{'<|im_start|>assistant\n'}})"
    R"({%if enable_thinking is defined and enable_thinking is false%}{{'<think>\n\n</think>\n\n'}})"
    R"({%else%}{{'<think>\n'}}{%endif%}{%endif%})";

}  // namespace

std::optional<std::string> canonical_template(std::string_view jinja) {
  return Canonical(jinja).run();
}

TemplateKind recognise_template(std::string_view jinja) {
  if (jinja.find_first_not_of(kSpace) == std::string_view::npos) return TemplateKind::kMissing;
  const std::optional<std::string> canonical = canonical_template(jinja);
  if (!canonical) return TemplateKind::kOther;
  const std::size_t turn = canonical->rfind(kTurn);
  if (turn == std::string::npos) return TemplateKind::kOther;
  const std::string_view body = std::string_view(*canonical).substr(0, turn);
  if (std::find(kKnownBodies.begin(), kKnownBodies.end(), hash(body)) == kKnownBodies.end())
    return TemplateKind::kOther;
  const std::string_view end = std::string_view(*canonical).substr(turn);
  if (end == kThinkIfAsked) return TemplateKind::kQwen35ThinkingOff;
  if (end == kThinkUnlessTold) return TemplateKind::kQwen35ThinkingOn;
  return TemplateKind::kOther;
}

std::optional<Thinking> default_thinking_of(TemplateKind kind) {
  switch (kind) {
    case TemplateKind::kQwen35ThinkingOff:
      return Thinking::kOff;
    case TemplateKind::kQwen35ThinkingOn:
      return Thinking::kOn;
    case TemplateKind::kMissing:
    case TemplateKind::kOther:
      break;
  }
  return std::nullopt;
}

std::optional<std::string> template_warning(std::string_view jinja) {
  switch (recognise_template(jinja)) {
    case TemplateKind::kMissing:
      return "the checkpoint has no chat template; Qwen3.5's is used";
    case TemplateKind::kOther:
      return "the checkpoint's chat template is not Qwen3.5's, which is used instead: the model may see "
             "turns in another "
             "form than it was trained on";
    case TemplateKind::kQwen35ThinkingOff:
    case TemplateKind::kQwen35ThinkingOn:
      break;
  }
  return std::nullopt;
}

}  // namespace sluice::model
