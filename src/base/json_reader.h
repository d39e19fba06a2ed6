// JSON from outside, read value by value: for files whose hundreds of thousands of entries would cost too much time and
// memory as a tree. RFC 8259, strictly; a byte order mark at the start is skipped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"

namespace sluice {

class JsonReader {
 public:
  // Bounds that no honest file of its kind comes near: what exceeds them is refused, so time and memory stay small.
  struct Limits {
    std::size_t depth = 64;
    std::size_t values = std::size_t{1} << 20U;  // of all kinds, keys not counted
    std::size_t tree_values = values;            // of those that tree() takes, which cost most
  };

  // `text` and `where` (a file name, for errors) must outlive the reader. Every function throws Error naming `where` and
  // the byte for what is not JSON (invalid UTF-8 and numbers beyond double among it), and for what exceeds the limits. The text
  // may change while it is read, as a mapped file's does that shrinks: what comes out is then an Error, or worth nothing.
  JsonReader(std::string_view text, std::string_view where, Limits limits);

  enum class Kind : std::uint8_t { kNull, kBoolean, kNumber, kString, kArray, kObject };

  // The kind of the value that comes next. Exactly one of the functions below then takes it.
  Kind kind();

  // The string that comes next; kind() must be kString. Valid until the next call of any function.
  std::string_view string();
  // The null, boolean, number (std::uint64_t if it is one, else std::int64_t, else double) or string that comes next.
  Json scalar();
  // Any value. Throws Error for an object that has a key twice.
  Json tree();
  // An array or object; kind() must say so. `item()` takes each item's value; `member(key)` each member's value, the key
  // being valid until the next call of any function. Whether a key was there before is for the caller to tell: fail_twice.
  template <typename Item>
  void array(const Item& item) {
    open('[');
    if (closed(']')) return;
    do item();
    while (another(']'));
  }
  template <typename Member>
  void object(const Member& member) {
    open('{');
    if (closed('}')) return;
    do member(key());
    while (another('}'));
  }
  // Throws Error if anything but white space follows.
  void end();

  // A key given twice is refused: readers differ in which value they take, and that is how a file shows one thing to a
  // checker and another to a loader.
  [[noreturn]] void fail_twice(std::string_view key) const;

 private:
  [[noreturn]] void fail(std::size_t at) const;
  void skip_space();
  char peek();  // the next character that is no white space; 0 at the end
  void count_value();
  void literal(std::string_view word);
  void open(char bracket);
  bool closed(char bracket);   // right after open()
  bool another(char bracket);  // after a value: false if `bracket` ends the array or object
  std::string_view key();
  std::string_view quoted();
  std::size_t plain_end(std::size_t at) const;
  std::string_view with_escapes(std::size_t begin);
  void escape();
  char32_t four_digits();
  void digits();
  Json number();

  std::string_view text_;
  std::string_view where_;
  Limits limits_;
  std::size_t at_ = 0;
  std::size_t depth_ = 0;
  std::size_t n_values_ = 0;
  std::size_t n_tree_values_ = 0;
  std::string unescaped_;
};

}  // namespace sluice
