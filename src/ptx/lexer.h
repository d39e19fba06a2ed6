// PTX text as tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

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
  Token take();
  // Takes it if it is `text`.
  bool accept(std::string_view text);
  // Takes it or throws.
  Token expect(std::string_view text);
  Token expect(Token::Kind kind, std::string_view what);
  std::uint64_t expect_integer();
  // Throws Error at the present line.
  [[noreturn]] void fail(std::string_view what) const { fail_at(token_.line, what); }
  [[noreturn]] void fail_at(std::uint32_t line, std::string_view what) const;

 private:
  void next();
  void skip_space();
  void number();

  std::string_view text_;
  std::string_view name_;
  std::size_t at_ = 0;
  std::uint32_t line_ = 1;
  Token token_;
};

}  // namespace sluice::ptx
