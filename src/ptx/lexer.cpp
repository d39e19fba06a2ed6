#include "ptx/lexer.h"

#include <bit>
#include <charconv>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::ptx {
namespace {

constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_$%";
constexpr std::string_view kDigits = "0123456789";

bool is_one_of(char c, std::string_view set) {
  return set.find(c) != std::string_view::npos;
}

// Letters, digits and what joins modifiers: dots, and the :: of .L2::128B.
bool continues_word(char c) {
  return is_one_of(c, kLetters) || is_one_of(c, kDigits) || c == '.' || c == ':';
}

}  // namespace

void Lexer::fail_at(std::uint32_t line, std::string_view what) const {
  throw Error(what, fmt::format("{}:{}", name_, line));
}

Token Lexer::take() {
  const Token token = token_;
  next();
  return token;
}

bool Lexer::accept(std::string_view text) {
  if (!at(text)) return false;
  next();
  return true;
}

Token Lexer::expect(std::string_view text) {
  if (!at(text)) {
    const std::string found =
        token_.kind == Token::Kind::kEnd ? "the end of the file" : fmt::format("'{}'", token_.text);
    fail(fmt::format("expected '{}', found {}", text, found));
  }
  return take();
}

Token Lexer::expect(Token::Kind kind, std::string_view what) {
  if (token_.kind != kind) fail(fmt::format("expected {}, found '{}'", what, token_.text));
  return take();
}

std::uint64_t Lexer::expect_integer() {
  const Token token = expect(Token::Kind::kNumber, "a whole number");
  if (token.is_real) fail("expected a whole number, found a fraction");
  return token.integer;
}

void Lexer::skip_space() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    const std::string_view rest = text_.substr(at_);
    if (c == '\n') {
      ++line_;
      ++at_;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      ++at_;
    } else if (rest.starts_with("//")) {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else if (rest.starts_with("/*")) {
      const std::size_t end = text_.find("*/", at_ + 2);
      if (end == std::string_view::npos) fail_at(line_, "a comment that never ends");
      for (; at_ < end; ++at_) line_ += text_[at_] == '\n' ? 1U : 0U;
      at_ = end + 2;
    } else {
      return;
    }
  }
}

// 12, 0x1F, 0b01, 017, each with an optional U; 0f3F800000 and 0d3FF0000000000000 by their bits; 1.5, 1e-3.
void Lexer::number() {
  const std::string_view rest = text_.substr(at_);
  token_.kind = Token::Kind::kNumber;
  const auto digits = [&](std::size_t skip, int base) {
    const char* begin = rest.data() + skip;
    const auto [end, error] = std::from_chars(begin, rest.data() + rest.size(), token_.integer, base);
    if (error != std::errc{}) fail_at(line_, "a number out of range or without digits");
    return static_cast<std::size_t>(end - rest.data());
  };
  const char second = rest.size() > 1 ? rest[1] : '\0';
  std::size_t length = 0;
  if (rest[0] == '0' && is_one_of(second, "fFdD")) {
    const bool single = is_one_of(second, "fF");
    length = digits(2, 16);
    if (length != (single ? 10U : 18U))
      fail_at(line_, "a floating-point constant needs 8 or 16 digits after 0f or 0d");
    token_.is_real = true;
    token_.real_bits = single ? 32 : 64;
    token_.real = single
                      ? static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(token_.integer)))
                      : std::bit_cast<double>(token_.integer);
  } else if (rest[0] == '0' && is_one_of(second, "xX")) {
    length = digits(2, 16);
  } else if (rest[0] == '0' && is_one_of(second, "bB")) {
    length = digits(2, 2);
  } else {
    length = std::min(rest.find_first_not_of(kDigits), rest.size());
    const bool fraction = length < rest.size() && is_one_of(rest[length], ".eE");
    if (fraction) {
      const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), token_.real);
      if (error != std::errc{}) fail_at(line_, "a number out of range");
      length = static_cast<std::size_t>(end - rest.data());
      token_.is_real = true;
    } else {
      length = digits(0, rest[0] == '0' && length > 1 ? 8 : 10);
    }
  }
  if (!token_.is_real && length < rest.size() && rest[length] == 'U') ++length;
  if (length < rest.size() && is_one_of(rest[length], kLetters))
    fail_at(line_, "letters right after a number");
  token_.text = rest.substr(0, length);
  at_ += length;
}

void Lexer::next() {
  skip_space();
  token_ = {};
  token_.line = line_;
  if (at_ == text_.size()) return;
  const char c = text_[at_];
  const std::size_t begin = at_;
  if (is_one_of(c, kDigits)) {
    number();
    return;
  }
  if (c == '"') {
    const std::size_t end = text_.find_first_of("\"\n", at_ + 1);
    if (end == std::string_view::npos || text_[end] != '"')
      fail_at(line_, "a text without its closing quote");
    token_.kind = Token::Kind::kText;
    token_.text = text_.substr(begin + 1, end - begin - 1);
    at_ = end + 1;
    return;
  }
  ++at_;
  if (is_one_of(c, kLetters) || c == '.') {
    token_.kind = c == '.' ? Token::Kind::kDirective : Token::Kind::kWord;
    const bool word = c != '.';
    while (at_ < text_.size() && continues_word(text_[at_])) {
      const char here = text_[at_];
      const bool joins = text_.substr(at_).starts_with("::") && at_ + 2 < text_.size();
      if (here == ':' && !joins) break;  // the end of a label
      if (here == '.' && !word) break;   // `.param.b32` is two directives
      at_ += here == ':' ? 2U : 1U;
    }
  } else {
    token_.kind = Token::Kind::kMark;
  }
  token_.text = text_.substr(begin, at_ - begin);
}

}  // namespace sluice::ptx
