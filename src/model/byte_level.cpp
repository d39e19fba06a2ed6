#include "model/byte_level.h"

#include <cstddef>
#include <cstdint>

#include "base/utf8.h"

namespace sluice::model {
namespace {

constexpr std::size_t kAlphabetEnd = 0x144;

constexpr std::array<char32_t, 256> make_alphabet() {
  std::array<char32_t, 256> alphabet{};
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
    alphabet[byte] = printable ? byte : next++;
  }
  return alphabet;
}

constexpr std::array<char32_t, 256> kAlphabet = make_alphabet();

// Character → byte, -1 for those outside the alphabet.
constexpr std::array<std::int16_t, kAlphabetEnd> make_inverse() {
  std::array<std::int16_t, kAlphabetEnd> inverse{};
  for (std::int16_t& entry : inverse) entry = -1;
  for (std::size_t byte = 0; byte < 256; ++byte) inverse[kAlphabet[byte]] = static_cast<std::int16_t>(byte);
  return inverse;
}

constexpr std::array<std::int16_t, kAlphabetEnd> kInverse = make_inverse();

}  // namespace

const std::array<char32_t, 256>& byte_alphabet() {
  return kAlphabet;
}

std::optional<std::string> bytes_of_token(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (std::size_t at = 0; at < token.size();) {
    const utf8::CodePoint point = utf8::decode(token, at);
    if (point.value >= kAlphabetEnd || kInverse[point.value] < 0) return std::nullopt;
    bytes += static_cast<char>(static_cast<unsigned char>(kInverse[point.value]));
    at += point.size;
  }
  return bytes;
}

}  // namespace sluice::model
