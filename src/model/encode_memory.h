// How much memory it takes to turn a text into token ids, known before it is taken.
#pragma once

#include <cstddef>
#include <string_view>

namespace sluice::model {

// Bytes that Tokenizer::encode(text) reserves at its peak, whatever the vocabulary: an upper bound. About 6 for each byte of
// text, and 18 for each byte of its longest word or run of white space. Linear.
std::size_t encode_memory(std::string_view text);

}  // namespace sluice::model
