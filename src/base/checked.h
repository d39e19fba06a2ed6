// Arithmetic on sizes that come from files: overflow is an answer, not undefined behaviour.
#pragma once

#include <cstddef>
#include <optional>

namespace sluice {

// a * b, or nothing on overflow.
inline std::optional<std::size_t> checked_multiply(std::size_t a, std::size_t b) {
  std::size_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// a + b, or nothing on overflow.
inline std::optional<std::size_t> checked_add(std::size_t a, std::size_t b) {
  std::size_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

}  // namespace sluice
