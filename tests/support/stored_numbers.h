// Numbers as a checkpoint stores them, drawn at random, and what they are worth by the definition of the
// formats (not by the program's conversions).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/seed.h"

namespace sluice::test {

// Fields of a binary floating-point format: value = (-1)^s · m · 2^e.
struct StoredFormat {
  std::size_t bytes;
  int exponent_bits;
  int mantissa_bits;
};

inline StoredFormat stored_format(std::string_view dtype) {
  if (dtype == "F32") return {4, 8, 23};
  return dtype == "F16" ? StoredFormat{2, 5, 10} : StoredFormat{2, 8, 7};
}

// `n` finite numbers of magnitude up to 2, one in 16 of them subnormal or zero.
inline std::string random_stored(Random& random, std::string_view dtype, std::size_t n) {
  const StoredFormat format = stored_format(dtype);
  const std::size_t bias = (std::size_t{1} << (format.exponent_bits - 1)) - 1;
  std::string bytes;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t exponent = random() % 16 == 0 ? 0 : pick(random, bias - 12, bias);
    const std::uint64_t mantissa = random() & ((std::uint64_t{1} << format.mantissa_bits) - 1);
    const std::uint64_t sign = random() & 1U;
    const std::uint64_t bits =
        (sign << (8 * format.bytes - 1)) | (exponent << format.mantissa_bits) | mantissa;
    for (std::size_t b = 0; b < format.bytes; ++b)
      bytes += static_cast<char>(static_cast<unsigned char>(bits >> (8 * b)));
  }
  return bytes;
}

// The values of finite numbers stored so; a double holds each of them exactly.
inline std::vector<double> stored_values(std::string_view dtype, std::string_view bytes) {
  const StoredFormat format = stored_format(dtype);
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  std::vector<double> values;
  for (std::size_t at = 0; at < bytes.size(); at += format.bytes) {
    std::uint64_t bits = 0;
    for (std::size_t b = format.bytes; b-- > 0;)
      bits = bits * 256 + static_cast<unsigned char>(bytes[at + b]);
    const auto exponent = static_cast<int>(bits >> format.mantissa_bits) & ((1 << format.exponent_bits) - 1);
    const auto mantissa = static_cast<double>(bits & ((std::uint64_t{1} << format.mantissa_bits) - 1));
    const double magnitude = exponent == 0 ? std::ldexp(mantissa, 1 - bias - format.mantissa_bits)
                                           : std::ldexp(mantissa + std::ldexp(1, format.mantissa_bits),
                                                        exponent - bias - format.mantissa_bits);
    values.push_back((bits >> (8 * format.bytes - 1)) != 0 ? -magnitude : magnitude);
  }
  return values;
}

}  // namespace sluice::test
