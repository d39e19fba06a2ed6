// PTX ISA, "Data Movement and Conversion Instructions: cvt". The decoder makes a conversion of up to three steps: to a wider
// type that holds the value exactly, to an integral value, to the destination.
#pragma once

#include "ptx/forms_float.h"

namespace sluice::ptx::SLUICE_PTX_ISA {

template <class T>
inline constexpr bool kSignedLane = std::is_signed_v<T> || std::is_same_v<T, S8>;
template <class T>
inline constexpr unsigned kLaneBits = sizeof(T) * 8;
template <>
inline constexpr unsigned kLaneBits<U8> = 8;
template <>
inline constexpr unsigned kLaneBits<S8> = 8;

// The largest value.
template <class D>
constexpr std::uint64_t highest() {
  return ~std::uint64_t{0} >> (64 - kLaneBits<D> + (kSignedLane<D> ? 1 : 0));
}
// The bits of an 8-bit destination fill 16.
template <class D, class V>
auto lane_bits(V value) {
  if constexpr (std::is_same_v<D, U8>)
    return static_cast<std::uint8_t>(value);
  else if constexpr (std::is_same_v<D, S8>)
    return static_cast<std::int8_t>(value);
  else
    return static_cast<D>(value);
}

template <class D>
struct Wrapped {  // cvt.D.S of integers: the low bits
  template <class S>
  auto operator()(S a) const {
    return lane_bits<D>(a);
  }
};

template <class D>
struct Clamped {  // cvt.sat.D.S of integers
  template <class S>
  auto operator()(S a) const {
    if constexpr (std::is_signed_v<S>) {
      const std::int64_t value = a;  // NOLINT(bugprone-signed-char-misuse): 8 bits are a number here
      if constexpr (kSignedLane<D>) {
        constexpr auto kHigh = static_cast<std::int64_t>(highest<D>());
        return lane_bits<D>(value > kHigh ? kHigh : (value < -kHigh - 1 ? -kHigh - 1 : value));
      } else {
        const std::uint64_t positive = value < 0 ? 0 : static_cast<std::uint64_t>(value);
        return lane_bits<D>(positive > highest<D>() ? highest<D>() : positive);
      }
    } else {
      return lane_bits<D>(std::uint64_t{a} > highest<D>() ? highest<D>() : std::uint64_t{a});
    }
  }
};

template <class D>
struct FromFloat {  // of an integral value: out of range clamps
  template <class S>
  auto operator()(S a) const {
    // 2^n and -2^n are exact in S; highest() itself may not be.
    constexpr auto kHalf = highest<D>() / 2 + 1;
    constexpr S kAbove = static_cast<S>(kHalf) * 2;
    constexpr S kBelow = kSignedLane<D> ? -kAbove : S{0};
    using V = std::conditional_t<kLaneBits<D> == 64, D, std::int64_t>;
    // NaN is 0 unless one side has 64 bits: then it is the highest bit alone.
    constexpr bool kHighBit = sizeof(S) == 8 || kLaneBits<D> == 64;
    constexpr auto kNan = static_cast<V>(kHighBit ? std::uint64_t{1} << (kLaneBits<D> - 1) : 0);
    constexpr auto kHigh = static_cast<V>(highest<D>());
    constexpr auto kLow = static_cast<V>(kSignedLane<D> ? ~highest<D>() : 0);
    const bool inside = a > kBelow && a < kAbove;
    const V value = static_cast<V>(inside ? a : S{0});
    return lane_bits<D>(inside ? value : (!is_number(a) ? kNan : (a >= kAbove ? kHigh : kLow)));
  }
};

template <class... D>
void list_to_integers(FormTable& t, List<D...> /*all*/) {
  const auto to = [&]<class To>() {
    const auto from = [&]<class From>() {
      t.add("cvt.", kName<To>, kName<From>, form<Wrapped<To>, To, From>({}));
      t.add("cvt.sat.", kName<To>, kName<From>, form<Clamped<To>, To, From>({}));
    };
    (from.template operator()<D>(), ...);
    t.add("cvt.", kName<To>, "f32", form<FromFloat<To>, To, float>({}));
    t.add("cvt.", kName<To>, "f64", form<FromFloat<To>, To, double>({}));
    const auto to_float = [](auto a) { return static_cast<float>(a); };
    const auto to_double = [](auto a) { return static_cast<double>(a); };
    t.add("cvt.f32", "", kName<To>, form<decltype(to_float), float, To>(to_float, kRequired));
    t.add("cvt.f64", "", kName<To>, form<decltype(to_double), double, To>(to_double, kRequired));
  };
  (to.template operator()<D>(), ...);
}

// f16x2 and bf16x2 of two floats: a is the upper half.
template <class T, bool kTruncate, bool kRelu>
struct PackTwo {
  std::uint32_t operator()(float a, float b) const { return std::uint32_t{one(a)} << 16U | one(b); }
  static std::uint16_t one(float x) {
    if constexpr (kRelu) x = relu(x);
    if constexpr (std::is_same_v<T, F16>)
      return f16_bits<kTruncate>(x);
    else
      return bf16_bits<kTruncate>(x);
  }
};
template <class T, bool kTruncate, bool kRelu>
struct NarrowOne {
  std::uint16_t operator()(float x) const { return PackTwo<T, kTruncate, kRelu>::one(x); }
};

// fp16 below (or above) the value: truncated, and a unit further from zero on the side where that is wrong.
template <bool kUp>
std::uint16_t directed_f16_bits(float x) {
  const std::uint16_t truncated = f16_bits<true>(x);
  const bool further = is_number(x) && widen(F16{truncated}) != x && (kUp ? x > 0 : x < 0);
  return static_cast<std::uint16_t>(truncated + (further ? 1U : 0U));
}

template <class T>
void list_narrow(FormTable& t, const char* one, const char* two) {
  const auto with = [&]<bool kTruncate, bool kRelu>(const char* name) {
    Form single = form<NarrowOne<T, kTruncate, kRelu>, std::uint16_t, float>({});
    single.destination = kType<T>;
    t.add(name, one, "f32", single);
    Form pair = form<PackTwo<T, kTruncate, kRelu>, std::uint32_t, float, float>({});
    pair.destination = kType<Pair<T>>;
    t.add(name, two, "f32", pair);
  };
  with.template operator()<false, false>("cvt.rn.");
  with.template operator()<true, false>("cvt.rz.");
  with.template operator()<false, true>("cvt.rn.relu.");
  with.template operator()<true, true>("cvt.rz.relu.");
}

inline void list_conversions(FormTable& t) {
  list_to_integers(
      t,
      List<U8, S8, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t, std::uint64_t, std::int64_t>{});
  list_narrow<F16>(t, "f16", "f16x2");
  list_narrow<BF16>(t, "bf16", "bf16x2");
  const auto directed = [&](const char* name, auto f) {
    Form entry = form<decltype(f), std::uint16_t, float>(f);
    entry.destination = Type::kF16;
    t.add(name, "f16", "f32", entry);
  };
  directed("cvt.rm.", [](float a) { return directed_f16_bits<false>(a); });
  directed("cvt.rp.", [](float a) { return directed_f16_bits<true>(a); });
  const auto same_value = [](float a) { return a; };
  t.add("cvt.f32", "", "f16", form<decltype(same_value), float, F16>(same_value));
  t.add("cvt.f32", "", "bf16", form<decltype(same_value), float, BF16>(same_value));
  // The one way to fp16 from double that rounds once: exact in float but for a sticky last bit.
  const auto odd = [](double a) { return to_odd_float(a); };
  t.add("cvt.odd.f32", "", "f64", form<decltype(odd), float, double>(odd));
  const auto shorten = [](double a) { return static_cast<float>(a); };
  const auto lengthen = [](float a) { return static_cast<double>(a); };
  t.add("cvt.f32", "", "f64", form<decltype(shorten), float, double>(shorten, kRequired));
  t.add("cvt.f64", "", "f32", form<decltype(lengthen), double, float>(lengthen));
  // 10 bits of fraction, ties away from zero; NaN is canonical.
  const auto tf32 = [](float a) {
    const auto bits = std::bit_cast<std::uint32_t>(a);
    return (bits & 0x7fffffffU) > 0x7f800000U
               ? 0x7fffffffU
               : ((bits & 0x7f800000U) == 0x7f800000U ? bits : (bits + 0x1000U) & 0xffffe000U);
  };
  t.add("cvt.rna.tf32", "", "f32", form<decltype(tf32), std::uint32_t, float>(tf32));
  // To an integral value, in the same type.
  const auto integral = [&](const char* name, auto f) {
    t.add(name, "", "f32", form<decltype(f), float, float>(f));
    t.add(name, "", "f64", form<decltype(f), double, double>(f));
  };
  integral("cvt.rni", [](auto a) {
    if constexpr (sizeof(a) == 4)
      return __builtin_rintf(a);
    else
      return __builtin_rint(a);
  });
  integral("cvt.rzi", [](auto a) {
    if constexpr (sizeof(a) == 4)
      return __builtin_truncf(a);
    else
      return __builtin_trunc(a);
  });
  integral("cvt.rmi", [](auto a) {
    if constexpr (sizeof(a) == 4)
      return __builtin_floorf(a);
    else
      return __builtin_floor(a);
  });
  integral("cvt.rpi", [](auto a) {
    if constexpr (sizeof(a) == 4)
      return __builtin_ceilf(a);
    else
      return __builtin_ceil(a);
  });
  integral("cvt.saturate", [](auto a) { return saturate(a); });
  const auto flushed = [](float a) { return flush(a); };
  t.add("cvt.flush", "", "f32", form<decltype(flushed), float, float>(flushed));
}

}  // namespace sluice::ptx::SLUICE_PTX_ISA
