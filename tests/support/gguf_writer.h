// Writes GGUF files, right ones and wrong ones.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace sluice::test {

// ggml's numbers of element types, and GGUF's of metadata types (ggml-org/ggml, docs/gguf.md).
namespace ggml {
enum : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kIQ4_NL = 20,
  kIQ4_XS = 23,
  kI32 = 26,
  kBF16 = 30,
};
}  // namespace ggml

// The bytes of a number, little-endian; of a string, its length before it; of a bool, one byte.
template <typename T>
  requires std::is_arithmetic_v<T>
std::string gguf_bytes(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
inline std::string gguf_bytes(std::string_view text) {
  return gguf_bytes(std::uint64_t{text.size()}).append(text);
}

template <typename T>
constexpr std::uint32_t gguf_type() {
  if constexpr (std::same_as<T, std::uint8_t>) return 0;
  if constexpr (std::same_as<T, std::int8_t>) return 1;
  if constexpr (std::same_as<T, std::uint16_t>) return 2;
  if constexpr (std::same_as<T, std::int16_t>) return 3;
  if constexpr (std::same_as<T, std::uint32_t>) return 4;
  if constexpr (std::same_as<T, std::int32_t>) return 5;
  if constexpr (std::same_as<T, float>) return 6;
  if constexpr (std::same_as<T, bool>) return 7;
  if constexpr (std::convertible_to<T, std::string_view>) return 8;
  if constexpr (std::same_as<T, std::uint64_t>) return 10;
  if constexpr (std::same_as<T, std::int64_t>) return 11;
  if constexpr (std::same_as<T, double>) return 12;
}

struct GgufWriter {
  struct Tensor {
    std::string name;
    std::uint32_t type = 0;
    std::vector<std::uint64_t> dimensions;  // in the file's order: the contiguous one first
    std::string data;
    std::optional<std::uint64_t> offset = {};  // in place of the right one
  };

  // What a right file says; change it for a wrong one.
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::optional<std::uint64_t> n_tensors;  // in place of the right one
  std::optional<std::uint64_t> n_keys;
  std::size_t alignment = 32;  // of the data; the key "general.alignment" is the caller's to write
  std::vector<std::pair<std::string, std::string>> keys;  // key → number of the type, and the value's bytes
  std::vector<Tensor> tensors;

  template <typename T>
  GgufWriter& key(std::string_view name, const T& value) {
    return raw_key(name, gguf_type<std::decay_t<T>>(), gguf_bytes(value));
  }
  template <typename T>
  GgufWriter& array(std::string_view name, const std::vector<T>& values) {
    std::string bytes = gguf_bytes(gguf_type<T>()) + gguf_bytes(std::uint64_t{values.size()});
    for (const T& value : values) bytes += gguf_bytes(value);
    return raw_key(name, 9, bytes);
  }
  GgufWriter& raw_key(std::string_view name, std::uint32_t type, std::string_view value) {
    keys.emplace_back(name, gguf_bytes(type).append(value));
    return *this;
  }
  GgufWriter& tensor(std::string_view name, std::uint32_t type, std::vector<std::uint64_t> dimensions,
                     std::string_view data) {
    tensors.push_back({std::string(name), type, std::move(dimensions), std::string(data)});
    return *this;
  }

  // All before the data, without the padding that aligns it.
  std::string header() const {
    std::string bytes = magic + gguf_bytes(version);
    bytes += gguf_bytes(n_tensors.value_or(tensors.size())) + gguf_bytes(n_keys.value_or(keys.size()));
    for (const auto& [name, value] : keys) bytes += gguf_bytes(name) + value;
    std::uint64_t offset = 0;
    for (const Tensor& tensor : tensors) {
      bytes += gguf_bytes(tensor.name) + gguf_bytes(static_cast<std::uint32_t>(tensor.dimensions.size()));
      for (const std::uint64_t extent : tensor.dimensions) bytes += gguf_bytes(extent);
      bytes += gguf_bytes(tensor.type) + gguf_bytes(tensor.offset.value_or(offset));
      offset += padded(tensor.data.size());
    }
    return bytes;
  }

  // The whole file. The data is padded to the alignment but for the last tensor's end.
  std::string file() const {
    std::string bytes = header();
    for (const Tensor& tensor : tensors) {
      bytes.resize(padded(bytes.size()), '\0');
      bytes += tensor.data;
    }
    return bytes;
  }

  std::size_t padded(std::size_t n) const { return (n + alignment - 1) / alignment * alignment; }
};

}  // namespace sluice::test
