#include "base/json_reader.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace sluice {
namespace {

// Longer ones say nothing that a double could hold (its exact decimal form has at most 1,077 digits), and cost time.
constexpr std::size_t kMaxNumberBytes = 2048;

constexpr std::uint64_t kOnes = 0x0101010101010101U;
constexpr std::uint64_t kTops = 0x8080808080808080U;

// Whether one of eight bytes is a quote, a backslash, a control character or not ASCII.
bool has_special(std::uint64_t eight) {
  const std::uint64_t quote = eight ^ (kOnes * '"');
  const std::uint64_t backslash = eight ^ (kOnes * '\\');
  const std::uint64_t found = ((eight - kOnes * 0x20) & ~eight) | ((quote - kOnes) & ~quote) |
                              ((backslash - kOnes) & ~backslash) | eight;
  return (found & kTops) != 0;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

JsonReader::JsonReader(std::string_view text, std::string_view where, Limits limits)
    : text_(text), where_(where), limits_(limits) {
  if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;
}

void JsonReader::fail(std::size_t at) const {
  throw Error("not valid JSON at byte " + std::to_string(at + 1), where_, "is the file complete?");
}

void JsonReader::fail_twice(std::string_view key) const {
  throw Error("the JSON key \"" + printable(key, 200) + "\" stands there twice", where_, "leave one");
}

void JsonReader::skip_space() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
    ++at_;
  }
}

char JsonReader::peek() {
  skip_space();
  return at_ < text_.size() ? text_[at_] : '\0';
}

void JsonReader::count_value() {
  if (++n_values_ > limits_.values)
    throw Error("more than " + std::to_string(limits_.values) + " JSON values", where_,
                "is it the right file?");
}

JsonReader::Kind JsonReader::kind() {
  switch (peek()) {
    case 'n':
      return Kind::kNull;
    case 't':
    case 'f':
      return Kind::kBoolean;
    case '"':
      return Kind::kString;
    case '[':
      return Kind::kArray;
    case '{':
      return Kind::kObject;
    default:
      if (at_ < text_.size() && (text_[at_] == '-' || is_digit(text_[at_]))) return Kind::kNumber;
      fail(at_);
  }
}

void JsonReader::open(char bracket) {
  if (peek() != bracket) fail(at_);  // the text may have changed since kind() looked at it
  count_value();
  if (depth_ == limits_.depth)
    throw Error("JSON nested deeper than " + std::to_string(limits_.depth) + " levels", where_,
                "is it the right file?");
  ++depth_;
  ++at_;
}

bool JsonReader::closed(char bracket) {
  if (peek() != bracket) return false;
  ++at_;
  --depth_;
  return true;
}

bool JsonReader::another(char bracket) {
  if (closed(bracket)) return false;
  if (peek() != ',') fail(at_);
  ++at_;
  return true;
}

std::string_view JsonReader::key() {
  if (peek() != '"') fail(at_);
  const std::string_view key = quoted();
  if (peek() != ':') fail(at_);
  ++at_;
  return key;
}

std::string_view JsonReader::string() {
  if (peek() != '"') fail(at_);
  count_value();
  return quoted();
}

// The end of the run from `at` on of characters that stand for themselves.
std::size_t JsonReader::plain_end(std::size_t at) const {
  while (at < text_.size()) {
    std::uint64_t eight = 0;
    while (at + sizeof eight <= text_.size()) {
      std::memcpy(&eight, text_.data() + at, sizeof eight);
      if (has_special(eight)) break;
      at += sizeof eight;
    }
    // The special one is among the next eight, or the text ends.
    for (std::size_t i = 0; i < sizeof eight && at < text_.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text_[at]);
      if (byte == '"' || byte == '\\' || byte < 0x20) return at;
      if (byte < 0x80) {
        ++at;
        continue;
      }
      const utf8::CodePoint point = utf8::decode(text_, at);
      if (!point.valid) fail(at);
      at += point.size;
    }
  }
  return at;
}

std::string_view JsonReader::quoted() {
  const std::size_t begin = ++at_;
  at_ = plain_end(begin);
  if (at_ == text_.size()) fail(at_);
  if (text_[at_] == '"') return text_.substr(begin, at_++ - begin);
  return with_escapes(begin);
}

std::string_view JsonReader::with_escapes(std::size_t begin) {
  unescaped_ = text_.substr(begin, at_ - begin);
  while (text_[at_] == '\\') {
    escape();
    const std::size_t end = plain_end(at_);
    unescaped_ += text_.substr(at_, end - at_);
    at_ = end;
    if (at_ == text_.size()) fail(at_);
  }
  if (text_[at_] != '"') fail(at_);  // a control character
  ++at_;
  return unescaped_;
}

void JsonReader::escape() {
  static constexpr std::string_view kLetters = "\"\\/bfnrt";
  static constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  const std::size_t begin = at_++;
  if (at_ == text_.size()) fail(at_);
  const char letter = text_[at_++];
  if (const std::size_t place = kLetters.find(letter); place != std::string_view::npos) {
    unescaped_ += kMeanings[place];
    return;
  }
  if (letter != 'u') fail(begin);
  char32_t value = four_digits();
  if (value >= 0xDC00 && value < 0xE000) fail(begin);
  if (value >= 0xD800 && value < 0xDC00) {  // the first half of a pair
    if (text_.substr(at_, 2) != "\\u") fail(begin);
    at_ += 2;
    const char32_t second = four_digits();
    if (second < 0xDC00 || second >= 0xE000) fail(begin);
    value = 0x10000 + ((value - 0xD800) << 10U) + (second - 0xDC00);
  }
  utf8::append(unescaped_, value);
}

char32_t JsonReader::four_digits() {
  std::uint32_t value = 0;
  if (at_ + 4 > text_.size()) fail(text_.size());
  const char* begin = text_.data() + at_;
  const auto [end, error] = std::from_chars(begin, begin + 4, value, 16);
  if (error != std::errc() || end != begin + 4) fail(at_);
  at_ += 4;
  return value;
}

void JsonReader::literal(std::string_view word) {
  for (const char letter : word) {
    if (at_ == text_.size() || text_[at_] != letter) fail(at_);
    ++at_;
  }
}

Json JsonReader::scalar() {
  const Kind next = kind();
  if (next == Kind::kString) return string();
  if (next == Kind::kArray || next == Kind::kObject) fail(at_);
  count_value();
  if (next == Kind::kNumber) return number();
  const char first = text_[at_];
  literal(next == Kind::kNull ? "null" : first == 't' ? "true" : "false");
  return next == Kind::kNull ? Json() : Json(first == 't');
}

void JsonReader::digits() {
  if (at_ == text_.size() || !is_digit(text_[at_])) fail(at_);
  while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
}

Json JsonReader::number() {
  const auto take = [this](std::string_view any_of) {
    if (at_ == text_.size() || any_of.find(text_[at_]) == std::string_view::npos) return false;
    ++at_;
    return true;
  };
  const std::size_t begin = at_;
  const bool negative = take("-");
  if (!take("0")) digits();
  bool integer = true;
  if (take(".")) {
    digits();
    integer = false;
  }
  if (take("eE")) {
    take("+-");
    digits();
    integer = false;
  }
  const std::string_view all = text_.substr(begin, at_ - begin);
  if (all.size() > kMaxNumberBytes)
    throw Error(
        "a number of " + std::to_string(all.size()) + " characters at byte " + std::to_string(begin + 1),
        where_, "is it the right file?");
  const char* first = text_.data() + begin;
  const char* end = text_.data() + at_;
  if (std::int64_t value = 0; integer && negative && std::from_chars(first, end, value).ec == std::errc())
    return value;
  if (std::uint64_t value = 0; integer && !negative && std::from_chars(first, end, value).ec == std::errc())
    return value;
  double value = 0;
  // from_chars doesn't tell too large from too small.
  if (std::from_chars(first, end, value).ec != std::errc())
    value = std::strtod(std::string(all).c_str(), nullptr);
  if (!std::isfinite(value)) fail(begin);
  return value;
}

Json JsonReader::tree() {
  if (++n_tree_values_ > limits_.tree_values)
    throw Error("more than " + std::to_string(limits_.tree_values) + " JSON values outside its tables",
                where_, "is it the right file?");
  switch (kind()) {
    case Kind::kArray: {
      Json::array_t items;
      array([&] { items.push_back(tree()); });
      return items;
    }
    case Kind::kObject: {
      Json::object_t members;
      object([&](std::string_view key) {
        const auto [place, is_new] = members.try_emplace(std::string(key));
        if (!is_new) fail_twice(key);
        place->second = tree();
      });
      return members;
    }
    default:
      return scalar();
  }
}

void JsonReader::end() {
  skip_space();
  if (at_ != text_.size()) fail(at_);
}

}  // namespace sluice
