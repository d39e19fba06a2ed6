// PTX text as tokens.
#pragma once

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::ptx {

struct Token {
  enum class Kind : std::uint8_t { kEnd, kWord, kDirective, kNumber, kText, kMark };
  Kind kind = Kind::kEnd;
  // kWord: a name, or an opcode with its modifiers, or %tid.x; kDirective: with its dot; kText: without quotes; kMark: one
  // character.
  std::string_view text;
  std::uint32_t line = 0;
  // kNumber.
  bool is_real = false;
  std::uint32_t real_bits = 0;  // 32 or 64 if `integer` holds the bits of `real`
  std::uint64_t integer = 0;
  double real = 0;
};

class Lexer {
 public:
  Lexer(std::string_view text, std::string_view name) : text_(text), name_(name) { next(); }

  const Token& now() const { return token_; }
  bool at(std::string_view text) const { return token_.kind != Token::Kind::kText && token_.text == text; }
  // The present token; the next one becomes present.
  Token take() {
    const Token token = token_;
    next();
    return token;
  }
  // Takes it if it is `text`.
  bool accept(std::string_view text) {
    const bool here = at(text);
    if (here) next();
    return here;
  }
  // Takes it or throws.
  Token expect(std::string_view text) {
    if (!at(text)) fail(fmt::format("expected '{}', found {}", text, found()));
    return take();
  }
  Token expect(Token::Kind kind, std::string_view what) {
    if (token_.kind != kind) fail(fmt::format("expected {}, found {}", what, found()));
    return take();
  }
  std::uint64_t expect_integer() {
    const Token token = expect(Token::Kind::kNumber, "a whole number");
    if (token.is_real) fail("expected a whole number, found a fraction");
    return token.integer;
  }
  // Throws Error at the present line.
  [[noreturn]] void fail(std::string_view what) const { fail_at(token_.line, what); }
  [[noreturn]] void fail_at(std::uint32_t line, std::string_view what) const {
    throw Error(what, fmt::format("{}:{}", name_, line));
  }

 private:
  static constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_$%";
  static constexpr std::string_view kDigits = "0123456789";

  static bool is_one_of(char c, std::string_view set) { return set.find(c) != std::string_view::npos; }

  // Letters, digits and what joins modifiers: dots, and the :: of .L2::128B.
  static bool continues_word(char c) {
    return is_one_of(c, kLetters) || is_one_of(c, kDigits) || c == '.' || c == ':';
  }

  std::string found() const {
    return token_.kind == Token::Kind::kEnd ? "the end of the file" : fmt::format("'{}'", token_.text);
  }

  void skip_space() {
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
  void number() {
    const std::string_view rest = text_.substr(at_);
    const auto read = [&](std::size_t skip, auto& value, auto... base) {
      const auto [end, error] =
          std::from_chars(rest.data() + skip, rest.data() + rest.size(), value, base...);
      if (error != std::errc{}) fail_at(line_, "a number out of range or without digits");
      return static_cast<std::size_t>(end - rest.data());
    };
    token_.kind = Token::Kind::kNumber;
    const char mark = rest[0] == '0' && rest.size() > 1 ? rest[1] : '0';
    const std::size_t whole = std::min(rest.find_first_not_of(kDigits), rest.size());
    std::size_t length = 0;
    if (is_one_of(mark, "fFdD")) {
      length = read(2, token_.integer, 16);
      token_.is_real = true;
      token_.real_bits = is_one_of(mark, "fF") ? 32 : 64;
      if (length != 2 + token_.real_bits / 4)
        fail_at(line_, "a floating-point constant needs 8 or 16 digits after 0f or 0d");
      token_.real =
          token_.real_bits == 64
              ? std::bit_cast<double>(token_.integer)
              : static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(token_.integer)));
    } else if (is_one_of(mark, "xX")) {
      length = read(2, token_.integer, 16);
    } else if (is_one_of(mark, "bB")) {
      length = read(2, token_.integer, 2);
    } else if (whole < rest.size() && is_one_of(rest[whole], ".eE")) {
      length = read(0, token_.real);
      token_.is_real = true;
    } else {
      length = read(0, token_.integer, rest[0] == '0' && whole > 1 ? 8 : 10);
    }
    if (!token_.is_real && length < rest.size() && rest[length] == 'U') ++length;
    if (length < rest.size() && is_one_of(rest[length], kLetters))
      fail_at(line_, "letters right after a number");
    token_.text = rest.substr(0, length);
    at_ += length;
  }

  void next() {
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

  std::string_view text_;
  std::string_view name_;
  std::size_t at_ = 0;
  std::uint32_t line_ = 1;
  Token token_;
};

}  // namespace sluice::ptx
