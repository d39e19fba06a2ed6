// Which chat template a checkpoint brings, and whether render_chat says the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "model/chat_messages.h"

namespace sluice::model {

enum class TemplateKind : std::uint8_t {
  kMissing,            // the checkpoint has none
  kQwen35ThinkingOff,  // Qwen3.5's, which thinks only if asked to: 0.8B and 2B
  kQwen35ThinkingOn,   // Qwen3.5's, which thinks unless told not to: 4B and larger
  kOther,              // anything that is not known to render as Qwen3.5's does
};

// Recognises the templates that render as render_chat does: Qwen3.5's as published, Unsloth's, and ours. Not Qwen3.6's as
// published last, which shows a call's arguments in another way (true, where Qwen3.5's has Python's True). What Jinja itself does not see (comments, layout inside of tags, white space that
// is trimmed away) makes no difference; anything else does: a template that says the same in other words is kOther, since
// no test of a program's text shows that it does. Time is linear.
TemplateKind recognise_template(std::string_view jinja);

// Whether the template thinks if nobody says; nothing if that isn't known.
std::optional<Thinking> default_thinking_of(TemplateKind kind);

// One line for the user if the prompts may be others than those that the checkpoint was trained on: its template is kOther,
// or kMissing.
std::optional<std::string> template_warning(std::string_view jinja);

// The template's text as Jinja (with trim_blocks and lstrip_blocks, as Hugging Face sets them) understands it: white space that
// it removes is removed, comments are gone, tags are in one layout and strings in one kind of quotes. Two templates of the same
// canonical form render the same. Nothing for a text that is no template: a tag or string without an end, or
// {% raw %}, which is not understood here.
std::optional<std::string> canonical_template(std::string_view jinja);

}  // namespace sluice::model
