// Floating-point arithmetic by integers, to say what an instruction must give: exact values, rounded once to any format. It
// shares nothing with the machine, which computes with the processor's own arithmetic.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace sluice::ptx::exact {

__extension__ using Unsigned128 = unsigned __int128;
__extension__ using Signed128 = __int128;
using Bits = std::uint64_t;

struct Format {
  int exponent_bits, fraction_bits;
  constexpr int bits() const { return 1 + exponent_bits + fraction_bits; }
  constexpr int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  constexpr Bits infinity() const { return ((Bits{1} << exponent_bits) - 1) << fraction_bits; }
  constexpr Bits sign() const { return Bits{1} << (bits() - 1); }
  constexpr Bits nan() const { return sign() - 1; }  // the canonical one
  constexpr bool is_nan(Bits x) const { return (x & nan()) > infinity(); }
};
inline constexpr Format kF16{5, 10};
inline constexpr Format kBF16{8, 7};
inline constexpr Format kTF32{8, 10};
inline constexpr Format kF32{8, 23};
inline constexpr Format kF64{11, 52};

enum class Mode { kNearest, kZero, kDown, kUp, kAway };

// ± significand × 2^exponent. A significand of more than 120 bits may stand for a value that lies above it by less than one
// unit, if its lowest bit is set: enough to round it right to 53 bits.
struct Value {
  enum class Kind { kFinite, kInfinite, kNan } kind = Kind::kFinite;
  bool negative = false;
  Unsigned128 significand = 0;
  int exponent = 0;

  bool is_nan() const { return kind == Kind::kNan; }
  bool is_infinite() const { return kind == Kind::kInfinite; }
  bool is_zero() const { return kind == Kind::kFinite && significand == 0; }
};
inline Value nan() {
  return {Value::Kind::kNan};
}
inline Value infinity(bool negative) {
  return {Value::Kind::kInfinite, negative};
}
inline Value zero(bool negative) {
  return {Value::Kind::kFinite, negative};
}

inline int bit_length(Unsigned128 x) {
  const auto high = static_cast<std::uint64_t>(x >> 64U);
  return high != 0 ? 64 + static_cast<int>(std::bit_width(high))
                   : static_cast<int>(std::bit_width(static_cast<std::uint64_t>(x)));
}
// Right by n, where what falls out sets the lowest bit.
inline Unsigned128 shift_sticky(Unsigned128 x, int n) {
  if (n <= 0) return x;
  if (n >= 128) return x != 0 ? 1 : 0;
  const Unsigned128 kept = x >> n;
  return kept | ((kept << n) != x ? 1U : 0U);
}

inline Value read(Format format, Bits bits) {
  const bool negative = (bits & format.sign()) != 0;
  const Bits magnitude = bits & format.nan();
  if (magnitude > format.infinity()) return nan();
  if (magnitude == format.infinity()) return infinity(negative);
  const Bits fraction = magnitude & ((Bits{1} << format.fraction_bits) - 1);
  const int exponent = static_cast<int>(magnitude >> format.fraction_bits);
  const Bits hidden = exponent != 0 ? Bits{1} << format.fraction_bits : 0;
  return {Value::Kind::kFinite, negative, hidden | fraction,
          std::max(exponent, 1) - format.bias() - format.fraction_bits};
}
inline Value integer(Signed128 x) {
  return {Value::Kind::kFinite, x < 0, static_cast<Unsigned128>(x < 0 ? -x : x), 0};
}

// The significand in units of 2^exponent, to an integer.
inline Unsigned128 to_units(const Value& x, int exponent, Mode mode) {
  const int drop = exponent - x.exponent;
  if (drop <= 0) return x.significand << -drop;
  // Two bits more than wanted: half, and whether there is less.
  const Unsigned128 fine = drop >= 2 ? shift_sticky(x.significand, drop - 2) : x.significand << 1U;
  const auto rest = static_cast<unsigned>(fine & 3U);
  Unsigned128 whole = fine >> 2U;
  const bool up = (mode == Mode::kNearest && (rest == 3 || (rest == 2 && (whole & 1U) != 0))) ||
                  (mode == Mode::kAway && rest >= 2) ||
                  (rest != 0 && (x.negative ? mode == Mode::kDown : mode == Mode::kUp));
  return whole + (up ? 1U : 0U);
}

inline Bits write(Format format, const Value& x, Mode mode = Mode::kNearest) {
  if (x.is_nan()) return format.nan();
  const Bits sign = x.negative ? format.sign() : 0;
  if (x.is_infinite()) return sign | format.infinity();
  if (x.is_zero()) return sign;
  const int lowest = 1 - format.bias() - format.fraction_bits;
  const int exponent = std::max(x.exponent + bit_length(x.significand) - 1 - format.fraction_bits, lowest);
  const auto units = static_cast<Bits>(to_units(x, exponent, mode));
  // Rounding up into the next power of two carries into the exponent, as it should.
  const Bits magnitude = units + (static_cast<Bits>(exponent - lowest) << format.fraction_bits);
  if (exponent - lowest <= (1 << format.exponent_bits) && magnitude < format.infinity())
    return sign | magnitude;
  const bool to_infinity =
      mode == Mode::kNearest || mode == Mode::kAway || (x.negative ? mode == Mode::kDown : mode == Mode::kUp);
  return sign | (to_infinity ? format.infinity() : format.infinity() - 1);
}

inline Value negate(Value x) {
  x.negative = !x.negative;
  return x;
}

inline Value multiply(const Value& a, const Value& b) {
  const bool negative = a.negative != b.negative;
  if (a.is_nan() || b.is_nan()) return nan();
  if (a.is_infinite() || b.is_infinite()) return a.is_zero() || b.is_zero() ? nan() : infinity(negative);
  return {Value::Kind::kFinite, negative, a.significand * b.significand, a.exponent + b.exponent};
}

// The sign of an exact zero from numbers of different signs depends on the mode.
inline Value add(const Value& a, const Value& b, Mode mode = Mode::kNearest) {
  if (a.is_nan() || b.is_nan()) return nan();
  if (a.is_infinite() || b.is_infinite()) {
    if (a.is_infinite() && b.is_infinite() && a.negative != b.negative) return nan();
    return a.is_infinite() ? a : b;
  }
  if (a.is_zero() && b.is_zero()) return zero(a.negative == b.negative ? a.negative : mode == Mode::kDown);
  if (a.is_zero()) return b;
  if (b.is_zero()) return a;
  const auto top = [](const Value& x) {  // shifted to 125 bits
    const int up = 125 - bit_length(x.significand);
    return Value{x.kind, x.negative, x.significand << up, x.exponent - up};
  };
  Value large = top(a);
  Value small = top(b);
  if (large.exponent < small.exponent) std::swap(large, small);
  const Unsigned128 aligned = shift_sticky(small.significand, large.exponent - small.exponent);
  if (large.negative == small.negative) {
    large.significand += aligned;
    return large;
  }
  if (large.significand == aligned) return zero(mode == Mode::kDown);
  const bool swapped = large.significand < aligned;
  return {Value::Kind::kFinite, large.negative != swapped,
          swapped ? aligned - large.significand : large.significand - aligned, large.exponent};
}

inline Value divide(const Value& a, const Value& b) {
  const bool negative = a.negative != b.negative;
  if (a.is_nan() || b.is_nan()) return nan();
  if (a.is_infinite()) return b.is_infinite() ? nan() : infinity(negative);
  if (b.is_infinite()) return zero(negative);
  if (b.is_zero()) return a.is_zero() ? nan() : infinity(negative);
  if (a.is_zero()) return zero(negative);
  const int up = 126 - bit_length(a.significand);
  const Unsigned128 dividend = a.significand << up;
  const Unsigned128 quotient = dividend / b.significand;
  return {Value::Kind::kFinite, negative, quotient << 1U | (quotient * b.significand != dividend ? 1U : 0U),
          a.exponent - up - b.exponent - 1};
}

inline Value root(const Value& a) {
  if (a.is_nan() || a.is_zero()) return a;
  if (a.negative) return nan();
  if (a.is_infinite()) return a;
  int up = 126 - bit_length(a.significand);
  if ((a.exponent - up) % 2 != 0) --up;
  const Unsigned128 square = a.significand << up;
  Unsigned128 result = 0;
  for (int bit = 63; bit >= 0; --bit) {
    const Unsigned128 next = result | Unsigned128{1} << bit;
    if (next * next <= square) result = next;
  }
  return {Value::Kind::kFinite, false, result << 1U | (result * result != square ? 1U : 0U),
          (a.exponent - up) / 2 - 1};
}

// -1, 0, 1, or 2 if they are unordered.
inline int compare(const Value& a, const Value& b) {
  if (a.is_nan() || b.is_nan()) return 2;
  if (a.is_infinite() && b.is_infinite() && a.negative == b.negative) return 0;
  const Value difference = add(a, negate(b));
  return difference.is_zero() ? 0 : (difference.negative ? -1 : 1);
}

inline Value to_integral(const Value& x, Mode mode) {
  if (x.kind != Value::Kind::kFinite || x.exponent >= 0) return x;
  return {Value::Kind::kFinite, x.negative, to_units(x, 0, mode), 0};
}

}  // namespace sluice::ptx::exact
