// How a function of one lane's values becomes an operation on rows. Included once by each forms_ISA.cpp, into a namespace of
// its own: nothing here may become a symbol that other files share.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "ptx/operation.h"

namespace sluice::ptx::SLUICE_PTX_ISA {

inline constexpr int kN = static_cast<int>(kLanes);

// The types of lanes that C++ lacks.
struct Bit {};  // a predicate
struct F16 {    // IEEE 754 binary16
  std::uint16_t bits;
};
struct BF16 {  // the upper half of an fp32
  std::uint16_t bits;
};
template <class T>
struct Pair {  // two of them in 32 bits
  T low, high;
};
struct U8 {  // in 16 bits
  std::uint16_t bits;
};
struct S8 {
  std::uint16_t bits;
};

template <class T>
inline constexpr Type kType = Type::kNone;
template <class T>
inline constexpr const char* kName = "";

#define SLUICE_LANE_TYPE(T, type, name)        \
  template <>                                  \
  inline constexpr Type kType<T> = Type::type; \
  template <>                                  \
  inline constexpr const char* kName<T> = name;
SLUICE_LANE_TYPE(Bit, kPred, "")
SLUICE_LANE_TYPE(U8, kU8, "u8")
SLUICE_LANE_TYPE(S8, kS8, "s8")
SLUICE_LANE_TYPE(std::uint16_t, kU16, "u16")
SLUICE_LANE_TYPE(std::int16_t, kS16, "s16")
SLUICE_LANE_TYPE(std::uint32_t, kU32, "u32")
SLUICE_LANE_TYPE(std::int32_t, kS32, "s32")
SLUICE_LANE_TYPE(std::uint64_t, kU64, "u64")
SLUICE_LANE_TYPE(std::int64_t, kS64, "s64")
SLUICE_LANE_TYPE(F16, kF16, "f16")
SLUICE_LANE_TYPE(BF16, kBF16, "bf16")
SLUICE_LANE_TYPE(Pair<F16>, kF16x2, "f16x2")
SLUICE_LANE_TYPE(Pair<BF16>, kBF16x2, "bf16x2")
SLUICE_LANE_TYPE(float, kF32, "f32")
SLUICE_LANE_TYPE(double, kF64, "f64")
#undef SLUICE_LANE_TYPE
template <class T>  // of as many bits
inline constexpr const char* kBits = sizeof(T) == 2 ? "b16" : (sizeof(T) == 4 ? "b32" : "b64");

template <class T>
concept Integer = std::is_integral_v<T>;
template <class T>
concept Narrow = std::is_same_v<T, F16> || std::is_same_v<T, BF16>;
template <Integer T>
using Unsigned = std::make_unsigned_t<T>;
template <std::size_t n>
using Bits =
    std::conditional_t<n == 2, std::uint16_t, std::conditional_t<n == 4, std::uint32_t, std::uint64_t>>;

// --- Narrow floating point ---
// Values are computed in float or double and rounded once. Where float's rounding would come before, it is to odd: a result
// that is not exact gets its last bit set, which no later rounding to fewer bits (by two or more) can mistake for a tie.

inline double sum_to_odd(double a, double b) {
  const double sum = a + b;
  const double part = sum - a;
  const double error = (a - (sum - part)) + (b - part);
  const auto bits = std::bit_cast<std::uint64_t>(sum);
  const auto sign = (bits ^ std::bit_cast<std::uint64_t>(error)) >> 63U;
  const std::uint64_t odd = (bits - sign) | 1U;
  // Infinities and NaN have an error that is NaN.
  return error < 0 || error > 0 ? std::bit_cast<double>(odd) : sum;
}

inline float to_odd_float(double value) {
  const auto rounded = static_cast<float>(value);
  const auto bits = std::bit_cast<std::uint32_t>(rounded);
  const double back = rounded;
  const double magnitude = __builtin_fabs(value);
  const std::uint32_t away = __builtin_fabs(back) > magnitude ? 1 : 0;
  const std::uint32_t odd = (bits - away) | 1U;
  return back < value || back > value ? std::bit_cast<float>(odd) : rounded;
}

inline float widen(F16 half) {
  const std::uint32_t sign = (half.bits & 0x8000U) << 16U;
  const std::uint32_t magnitude = half.bits & 0x7fffU;
  // The exponent is 112 too low after the shift; subnormals come out of a multiplication, infinities keep a full exponent.
  const float scaled = std::bit_cast<float>(magnitude << 13U) * 0x1p112F;
  const std::uint32_t special = magnitude >= 0x7c00U ? 0x7f800000U : 0U;
  return std::bit_cast<float>(sign | special | std::bit_cast<std::uint32_t>(scaled));
}
inline float widen(BF16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16U);
}

// To nearest, ties to even, or with kTruncate to zero.
template <bool kTruncate>
inline std::uint16_t f16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16U) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7fffffffU;
  const std::uint32_t round = kTruncate ? 0U : 0xfffU + ((magnitude >> 13U) & 1U);
  const std::uint32_t normal = (magnitude + round - 0x38000000U) >> 13U;
  // Below 2^-14: in units of 2^-24, by an addition that rounds there. Truncation takes back what rounding added.
  const float absolute = std::bit_cast<float>(magnitude);
  const float units = absolute * 0x1p24F;  // exact
  const float nearest = (units + 0x1p23F) - 0x1p23F;
  const float whole = kTruncate && nearest > units ? nearest - 1.0F : nearest;
  const auto subnormal =
      static_cast<std::uint32_t>(static_cast<std::int32_t>(magnitude < 0x38800000U ? whole : 0.0F));
  std::uint32_t result = magnitude < 0x38800000U ? subnormal : normal;
  const std::uint32_t largest = kTruncate ? 0x7bffU : 0x7c00U;
  result = magnitude >= 0x47800000U ? largest : (result > largest ? largest : result);
  result = magnitude == 0x7f800000U ? 0x7c00U : result;
  return static_cast<std::uint16_t>(magnitude > 0x7f800000U ? 0x7fffU : (sign | result));
}

template <bool kTruncate>
inline std::uint16_t bf16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = kTruncate ? bits : bits + 0x7fffU + ((bits >> 16U) & 1U);
  return static_cast<std::uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? 0x7fffU : rounded >> 16U);
}

// --- A lane's value ---

// Not NaN. Written so that it stays one vector instruction.
template <class T>
inline bool is_number(T x) {
  return x == x;  // NOLINT(misc-redundant-expression): false for NaN
}

template <class T, class V>
inline T to_lane(V value) {
  if constexpr (std::is_same_v<T, V>) {
    if constexpr (std::is_same_v<T, float>) {  // PTX has one NaN in single precision
      return is_number(value) ? value : std::bit_cast<float>(0x7fffffffU);
    } else {
      return value;
    }
  } else if constexpr (std::is_same_v<T, U8> || std::is_same_v<T, S8>) {
    return T{static_cast<std::uint16_t>(value)};
  } else if constexpr (Narrow<T>) {
    float single = 0;
    if constexpr (std::is_same_v<V, double>) {
      single = to_odd_float(value);
    } else {
      static_assert(std::is_same_v<V, float>);
      single = value;
    }
    if constexpr (std::is_same_v<T, F16>)
      return T{f16_bits<false>(single)};
    else
      return T{bf16_bits<false>(single)};
  } else {
    return static_cast<T>(value);
  }
}

template <class T>
struct Source {
  using Element = T;
  explicit Source(const Rows& rows, Row row) : lanes(rows.at<const T>(row)) {}
  auto operator[](int i) const {
    if constexpr (Narrow<T>)
      return widen(lanes[i]);
    else if constexpr (std::is_same_v<T, U8>)
      return static_cast<std::uint8_t>(lanes[i].bits);
    else if constexpr (std::is_same_v<T, S8>)
      return static_cast<std::int8_t>(lanes[i].bits);
    else
      return lanes[i];
  }
  const T* lanes;
};
template <>
struct Source<Bit> {
  using Element = std::uint32_t;
  explicit Source(const Rows& rows, Row row) : bits(*rows.at<const std::uint32_t>(row)) {}
  bool operator[](int i) const { return ((bits >> static_cast<unsigned>(i)) & 1U) != 0; }
  std::uint32_t bits;
};
template <class T>
struct Source<Pair<T>> : Source<T> {
  using Source<T>::Source;
};

// Lanes outside the mask keep what they have.
template <class T>
inline void store(T* __restrict to, const T* __restrict from, std::uint32_t mask) {
  if (mask == ~0U) {
    std::memcpy(to, from, kLanes * sizeof(T));
    return;
  }
  for (int i = 0; i < kN; ++i) {
    to[i] = ((mask >> static_cast<unsigned>(i)) & 1U) != 0 ? from[i] : to[i];
  }
}

inline void store_predicate(const Rows& rows, Row row, std::uint32_t bits, std::uint32_t mask) {
  auto* word = rows.at<std::uint32_t>(row);
  *word = (*word & ~mask) | (bits & mask);
}

template <class T>
inline constexpr int kPerLane = 1;
template <class T>
inline constexpr int kPerLane<Pair<T>> = 2;
template <class T>
struct ElementOf {
  using type = T;
};
template <class T>
struct ElementOf<Pair<T>> {
  using type = T;
};

// The operation d = f(a, b, …) on lanes; D Bit makes a predicate. An f that takes the operation reads its immediate.
template <class F, class D, class... S>
void each_lane(const Operation& op, const Rows& rows, std::uint32_t mask) {
  [&]<int... I>(std::integer_sequence<int, I...>) {
    const auto run = [&](const auto&... in) {
      const auto value = [&](int i) {
        if constexpr (std::is_invocable_v<F, decltype(in[0])...>)
          return F{}(in[i]...);
        else
          return F{}(op, in[i]...);
      };
      if constexpr (std::is_same_v<D, Bit>) {
        constexpr std::size_t kLargest =
            std::max({std::size_t{4}, sizeof(typename std::decay_t<decltype(in)>::Element)...});
        Bits<kLargest> bits = 0;
        for (int i = 0; i < kN; ++i)
          bits |= value(i) ? Bits<kLargest>{1} << static_cast<unsigned>(i) : Bits<kLargest>{0};
        store_predicate(rows, op.rows[0], static_cast<std::uint32_t>(bits), mask);
      } else {
        using T = typename ElementOf<D>::type;
        constexpr int kCount = kN * kPerLane<D>;
        alignas(64) T out[kCount];
        for (int i = 0; i < kCount; ++i) out[i] = to_lane<T>(value(i));
        store(rows.at<D>(op.rows[0]), reinterpret_cast<const D*>(out), mask);
      }
    };
    run(Source<S>(rows, op.rows[1 + I])...);
  }(std::make_integer_sequence<int, static_cast<int>(sizeof...(S))>{});
}

// How a form comes of the types of its lanes, written as a function's: D(S…).
template <class Signature>
struct FormOf;
template <class D, class... S>
struct FormOf<D(S...)> {
  template <class F>
  static Form made(Form::Rounds rounds) {
    return {&each_lane<F, D, S...>, rounds, kType<D>, {kType<S>...}, static_cast<std::uint8_t>(sizeof...(S))};
  }
};

constexpr auto kNever = Form::Rounds::kNever;
constexpr auto kOptional = Form::Rounds::kOptional;
constexpr auto kRequired = Form::Rounds::kRequired;

template <class Signature, class F>
Form form(F /*value*/, Form::Rounds rounds = kNever) {
  return FormOf<Signature>::template made<F>(rounds);
}
// T(T…) with N operands.
template <int N, class T>
using Same = std::conditional_t<N == 1, T(T), std::conditional_t<N == 2, T(T, T), T(T, T, T)>>;

template <class... T>
struct List {};

using Integers = List<std::uint16_t, std::int16_t, std::uint32_t, std::int32_t, std::uint64_t, std::int64_t>;
using Signeds = List<std::int16_t, std::int32_t, std::int64_t>;
using Unsigneds = List<std::uint16_t, std::uint32_t, std::uint64_t>;
using Wide = List<std::uint32_t, std::int32_t, std::uint64_t, std::int64_t>;
using Reals = List<float, double>;
using Halves = List<F16, BF16, Pair<F16>, Pair<BF16>>;
using Ieee = List<F16, Pair<F16>>;

template <class... T, class F>
void each_type(List<T...> /*types*/, F f) {
  (f.template operator()<T>(), ...);
}

// NAME.MODIFIERS.T: T(T…).
template <int N, class Types, class F>
void same(FormTable& t, const char* name, const char* modifiers, Types types, F f,
          Form::Rounds rounds = kNever) {
  each_type(types, [&]<class T>() { t.add({name, modifiers, kName<T>}, form<Same<N, T>>(f, rounds)); });
}
template <int N, class Types, class F>
void same(FormTable& t, const char* name, Types types, F f, Form::Rounds rounds = kNever) {
  same<N>(t, name, "", types, f, rounds);
}

// NAME.b16, .b32 and .b64, computed without sign.
template <int N, class F>
void bits(FormTable& t, const char* name, F f) {
  each_type(Unsigneds{}, [&]<class T>() { t.add({name, kBits<T>}, form<Same<N, T>>(f)); });
}

// For .uX and .sX alike: computed without sign, where overflow wraps.
template <int N, class F>
void wrapping(FormTable& t, const char* name, F f) {
  each_type(Unsigneds{}, [&]<class T>() {
    t.add({name, kName<T>}, form<Same<N, T>>(f));
    t.add({name, kName<std::make_signed_t<T>>}, form<Same<N, T>>(f));
  });
}

}  // namespace sluice::ptx::SLUICE_PTX_ISA
