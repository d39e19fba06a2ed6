// Sends text through a tokenizer, there and back.
#pragma once

#include <string_view>

#include "model/tokenizer.h"

namespace sluice::fuzz {

// A text of many kinds of characters, then `text`. Aborts if an id of the answer has no token.
void use_tokenizer(const model::Tokenizer& tokenizer, std::string_view text);

}  // namespace sluice::fuzz
