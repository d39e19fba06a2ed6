// PTX ISA, "Data Movement and Conversion Instructions: cvt". The decoder makes a conversion of up to three steps: to a wider
// type that holds the value exactly, to an integral value, to the destination.
#pragma once

#include "ptx/forms_float.h"
#include "ptx/forms_integer.h"

namespace sluice::ptx::SLUICE_PTX_ISA {

// A lane's type as C++ computes with it.
template <class T>
using Value = std::conditional_t<std::is_same_v<T, U8>, std::uint8_t,
                                 std::conditional_t<std::is_same_v<T, S8>, std::int8_t, T>>;

template <class V>
struct Clamped {  // cvt.sat.V.S of integers
  template <class S>
  V operator()(S a) const {
    if constexpr (std::is_signed_v<S> && std::is_signed_v<V>) {
      return saturated<V>(a);
    } else {
      constexpr std::uint64_t kHigh = std::numeric_limits<V>::max();
      const std::uint64_t positive = a > 0 ? static_cast<std::uint64_t>(a) : 0;
      return static_cast<V>(positive > kHigh ? kHigh : positive);
    }
  }
};

template <class V>
struct FromFloat {  // of an integral value: out of range clamps
  template <class S>
  V operator()(S a) const {
    // 2^n and -2^n are exact in S; the highest V itself may not be.
    constexpr V kHigh = std::numeric_limits<V>::max();
    constexpr V kHalf = static_cast<V>(kHigh / 2 + 1);
    constexpr S kAbove = static_cast<S>(kHalf) * 2;
    constexpr S kBelow = std::is_signed_v<V> ? -kAbove : S{0};
    // NaN is 0 unless one side has 64 bits: then it is the highest bit alone.
    constexpr bool kHighBit = sizeof(S) == 8 || sizeof(V) == 8;
    constexpr V kNan = static_cast<V>(kHighBit ? std::uint64_t{1} << (kWidth<V> - 1) : 0);
    using Wide = std::conditional_t<sizeof(V) == 8, V, std::int64_t>;
    const bool inside = a > kBelow && a < kAbove;
    const V value = static_cast<V>(static_cast<Wide>(inside ? a : S{0}));
    constexpr V kLow = std::numeric_limits<V>::min();
    return inside ? value : (!is_number(a) ? kNan : (a >= kAbove ? kHigh : kLow));
  }
};

inline void list_integer_conversions(FormTable& t) {
  using All =
      List<U8, S8, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t, std::uint64_t, std::int64_t>;
  each_type(All{}, [&]<class T>() {
    each_type(All{}, [&]<class From>() {  // the low bits; with .sat what is out of range clamps
      t.add({".cvt", kName<T>, kName<From>}, form<T(From)>([](auto a) { return static_cast<Value<T>>(a); }));
      t.add({".cvt.sat", kName<T>, kName<From>}, form<T(From)>(Clamped<Value<T>>{}));
    });
    each_type(Reals{}, [&]<class Real>() {
      t.add({".cvt", kName<T>, kName<Real>}, form<T(Real)>(FromFloat<Value<T>>{}));
      t.add({".cvt", kName<Real>, kName<T>},
            form<Real(T)>([](auto a) { return static_cast<Real>(a); }, kRequired));
    });
  });
}

// A float to T, and two to T's pair: a is the upper half.
template <class T, bool kTruncate, bool kRelu>
struct Narrowed {
  std::uint16_t operator()(float x) const {
    if constexpr (kRelu) x = relu(x);
    if constexpr (std::is_same_v<T, F16>)
      return f16_bits<kTruncate>(x);
    else
      return bf16_bits<kTruncate>(x);
  }
  std::uint32_t operator()(float a, float b) const { return std::uint32_t{(*this)(a)} << 16U | (*this)(b); }
};

// fp16 below (or above) the value: truncated, and a unit further from zero on the side where that is wrong.
template <bool kUp>
struct DirectedHalf {
  std::uint16_t operator()(float x) const {
    const std::uint16_t truncated = f16_bits<true>(x);
    const bool further = is_number(x) && widen(F16{truncated}) != x && (kUp ? x > 0 : x < 0);
    return static_cast<std::uint16_t>(truncated + (further ? 1U : 0U));
  }
};

inline void list_conversions(FormTable& t) {
  list_integer_conversions(t);
  const auto narrow = [&]<bool kTruncate, bool kRelu>(const char* name) {
    each_type(List<F16, BF16>{}, [&]<class T>() {
      using F = Narrowed<T, kTruncate, kRelu>;
      t.add({name, kName<T>, "f32"}, form<std::uint16_t(float)>(F{}));
      t.add({name, kName<Pair<T>>, "f32"}, form<std::uint32_t(float, float)>(F{}));
    });
  };
  narrow.operator()<false, false>(".cvt.rn");
  narrow.operator()<true, false>(".cvt.rz");
  narrow.operator()<false, true>(".cvt.rn.relu");
  narrow.operator()<true, true>(".cvt.rz.relu");
  t.add({".cvt.rm.f16.f32"}, form<std::uint16_t(float)>(DirectedHalf<false>{}));
  t.add({".cvt.rp.f16.f32"}, form<std::uint16_t(float)>(DirectedHalf<true>{}));
  const auto same_value = [](float a) { return a; };
  t.add({".cvt.f32.f16"}, form<float(F16)>(same_value));
  t.add({".cvt.f32.bf16"}, form<float(BF16)>(same_value));
  // The one way to fp16 from double that rounds once: exact in float but for a sticky last bit.
  t.add({".cvt.odd.f32.f64"}, form<float(double)>([](double a) { return to_odd_float(a); }));
  t.add({".cvt.f32.f64"}, form<float(double)>([](double a) { return static_cast<float>(a); }, kRequired));
  t.add({".cvt.f64.f32"}, form<double(float)>([](float a) { return static_cast<double>(a); }));
  // 10 bits of fraction, ties away from zero; NaN is canonical.
  t.add({".cvt.rna.tf32.f32"}, form<std::uint32_t(float)>([](float a) {
          const auto bits = std::bit_cast<std::uint32_t>(a);
          return (bits & 0x7fffffffU) > 0x7f800000U
                     ? 0x7fffffffU
                     : ((bits & 0x7f800000U) == 0x7f800000U ? bits : (bits + 0x1000U) & 0xffffe000U);
        }));
  // To an integral value, in the same type.
  const auto integral = [&](const char* name, auto f) {
    using F = decltype(f);
    same<1>(t, name, Reals{}, [](auto a) { return static_cast<decltype(a)>(F{}(static_cast<double>(a))); });
  };
  integral(".cvt.rni", [](double a) { return __builtin_rint(a); });
  integral(".cvt.rzi", [](double a) { return __builtin_trunc(a); });
  integral(".cvt.rmi", [](double a) { return __builtin_floor(a); });
  integral(".cvt.rpi", [](double a) { return __builtin_ceil(a); });
  same<1>(t, ".cvt.saturate", Reals{}, [](auto a) { return saturate(a); });
  t.add({".cvt.flush.f32"}, form<float(float)>([](float a) { return flush(a); }));
}

}  // namespace sluice::ptx::SLUICE_PTX_ISA
