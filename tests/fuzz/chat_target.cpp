#include "base/error.h"
#include "model/chat_messages.h"
#include "model/chat_template.h"
#include "tests/fuzz/targets.h"

namespace sluice::fuzz {

bool chat_messages(std::string_view input) {
  try {
    const model::Conversation conversation = model::parse_chat(input, "messages.json");
    for (const model::Thinking thinking : {model::Thinking::kOff, model::Thinking::kOn})
      static_cast<void>(model::render_chat(conversation, thinking));
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace sluice::fuzz
