// The metadata of a GGUF file: typed values by key (ggml-org/ggml, docs/gguf.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_cursor.h"

namespace sluice::model {

// The format's numbers.
enum class GgufType : std::uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

// A value, not yet decoded.
struct GgufValue {
  GgufType type = GgufType::kUint8;  // of the elements if this is an array; never kArray
  bool is_array = false;
  std::size_t count = 1;            // elements
  std::span<const std::byte> data;  // checked: holds `count` values of `type`; flags are 0 or 1

  // Reads and checks the value at `cursor`, which has entered the key: its type, then itself. Strings stay where they are.
  static GgufValue read(GgufCursor& cursor);
};

class GgufMetadata {
 public:
  GgufMetadata() = default;

  // Reads `n_keys` keys and values. Throws Error if a value leaves the file or is of no known type, a key occurs twice, is empty
  // or longer than 65,535 bytes, a flag is neither 0 nor 1, or an array's elements are arrays.
  GgufMetadata(GgufCursor& cursor, std::size_t n_keys);

  const std::map<std::string, GgufValue, std::less<>>& values() const { return values_; }
  bool has(std::string_view key) const { return values_.contains(key); }

  // Nothing if there is no such key. Throws Error naming file, key and expectation if the value is of another type, is
  // negative where it mustn't be, or is an array of more than kMaxElements elements.
  std::optional<std::uint64_t> whole(std::string_view key) const;  // of any integer type
  std::optional<double> number(std::string_view key) const;        // of any integer or float type
  std::optional<bool> flag(std::string_view key) const;            // of type bool
  std::optional<std::string_view> text(
      std::string_view key) const;  // UTF-8 is not checked; lives as long as the file
  std::optional<std::vector<std::int64_t>> wholes(
      std::string_view key) const;  // array of any integer type, or bool
  std::optional<std::vector<double>> numbers(
      std::string_view key) const;  // array of any integer or float type
  std::optional<std::vector<std::string_view>> texts(std::string_view key) const;  // array of strings

  // Of an array that is read; far above any vocabulary or list of merges.
  static constexpr std::size_t kMaxElements = std::size_t{1} << 20U;

 private:
  const GgufValue* find(std::string_view key) const;
  // As find(), but an Error if the value is no array, or too large.
  const GgufValue* find_array(std::string_view key, std::string_view expected) const;
  [[noreturn]] void fail_type(std::string_view key, const GgufValue& value, std::string_view expected) const;

  std::string file_;
  std::map<std::string, GgufValue, std::less<>> values_;
};

}  // namespace sluice::model
