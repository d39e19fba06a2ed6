// Hashes that tell apart what differs by accident: XXH3 (Yann Collet). No defence against somebody who makes collisions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace sluice {

struct Hash128 {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  bool operator==(const Hash128&) const = default;
  std::string hex() const;  // 32 digits
};

Hash128 hash128(std::span<const std::byte> bytes);

// The hash of bytes that come piece by piece.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);  // and its length
  template <typename T>
    requires(std::is_integral_v<T> || std::is_enum_v<T>)
  void add(T value) {
    const auto wide = static_cast<std::uint64_t>(value);
    add(std::as_bytes(std::span(&wide, 1)));
  }

  Hash128 digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sluice
