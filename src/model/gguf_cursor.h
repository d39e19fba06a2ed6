// Reads the header of a GGUF file from front to back. Nothing is believed: what would lie behind the end is an Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace sluice::model {

class GgufCursor {
 public:
  // `bytes`: what may be read; `file` and `end` for messages: where the bytes come from and what their end is.
  GgufCursor(std::span<const std::byte> bytes, std::string file, std::string end)
      : bytes_(bytes), file_(std::move(file)), end_(std::move(end)) {}

  std::size_t position() const { return position_; }
  std::size_t left() const { return bytes_.size() - position_; }
  const std::string& file() const { return file_; }

  // What the following bytes belong to, for messages: ("key", "general.name").
  void enter(std::string_view kind, std::string_view name) {
    kind_ = kind;
    name_ = name;
  }

  // "key general.name WHAT (FILE): EXPECTED"
  [[noreturn]] void fail(std::string_view what, std::string_view expected) const {
    std::string text(kind_);
    if (!name_.empty()) text += " " + printable(name_, 200);
    throw Error(text.append(" ").append(what), file_, expected);
  }

  std::span<const std::byte> take(std::size_t n) {
    if (n > left()) fail_at_end(n);
    const std::span<const std::byte> taken = bytes_.subspan(position_, n);
    position_ += n;
    return taken;
  }

  std::uint32_t u32() { return little_endian<std::uint32_t>(); }
  std::uint64_t u64() { return little_endian<std::uint64_t>(); }

  // Bytes with their length before them. The view is into the file.
  std::string_view string() {
    const std::uint64_t length = u64();
    if (length > left()) fail_at_end(length);
    const std::span<const std::byte> text = take(length);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

 private:
  template <typename T>
  T little_endian() {
    T value = 0;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  [[noreturn]] void fail_at_end(std::uint64_t wanted) const {
    fail("wants " + std::to_string(wanted) + " bytes at byte " + std::to_string(position_),
         "but there are " + std::to_string(left()) + " up to " + end_ + "; is the file complete?");
  }

  std::span<const std::byte> bytes_;
  std::string file_;
  std::string end_;
  std::string_view kind_ = "header";
  std::string_view name_;
  std::size_t position_ = 0;
};

}  // namespace sluice::model
