// The GPT-2 byte alphabet: tokens are written with one printable character for each of the 256 bytes, so that
// a vocabulary of byte strings is a vocabulary of text.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::model {

// The character that stands for each byte: itself for the printable ones of Latin-1 ('!' to '~', U+00A1 to
// U+00AC, U+00AE to U+00FF); the other 68, in order, are U+0100 to U+0143.
const std::array<char32_t, 256>& byte_alphabet();

// The bytes that `token`, valid UTF-8, is written for; nothing if it has a character outside the alphabet.
std::optional<std::string> bytes_of_token(std::string_view token);

}  // namespace sluice::model
