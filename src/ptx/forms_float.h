// PTX ISA, "Floating-Point Instructions" and "Half Precision Floating-Point Instructions"; comparisons and selections.
//
// The last bits of .approx are the implementation's own: here they are the exact result, rounded once, unless the launch varies
// them. Then they are functions of the operands and the seed within the ISA's bounds, but for f64, whose gross ones aren't used up.
#pragma once

#include "ptx/forms_core.h"

namespace sluice::ptx::SLUICE_PTX_ISA {

// A subnormal number becomes a zero of its sign.
inline float flush(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return (bits & 0x7f800000U) == 0 ? std::bit_cast<float>(bits & 0x80000000U) : x;
}

// To [0, 1]; NaN becomes 0.
template <class T>
T saturate(T x) {
  return x > 0 ? (x < 1 ? x : T{1}) : T{0};
}

inline bool negative(float x) {
  return (std::bit_cast<std::uint32_t>(x) >> 31U) != 0;
}
inline bool negative(double x) {
  return (std::bit_cast<std::uint64_t>(x) >> 63U) != 0;
}

// -0 is less than +0. A NaN gives the other operand, or with kNan itself.
template <bool kNan, class T>
T smaller(T a, T b) {
  const T less = a < b ? a : (b < a ? b : (negative(a) ? a : b));
  const T other = kNan ? std::numeric_limits<T>::quiet_NaN() : (is_number(a) ? a : b);
  return is_number(a) && is_number(b) ? less : other;
}
template <bool kNan, class T>
T larger(T a, T b) {
  const T greater = a > b ? a : (b > a ? b : (negative(a) ? b : a));
  const T other = kNan ? std::numeric_limits<T>::quiet_NaN() : (is_number(a) ? a : b);
  return is_number(a) && is_number(b) ? greater : other;
}
template <class T>
inline bool is_finite(T x) {
  return x - x == 0;  // NOLINT(misc-redundant-expression): NaN for infinity and NaN
}
inline float absolute(float x) {
  return __builtin_fabsf(x);
}
inline double absolute(double x) {
  return __builtin_fabs(x);
}
inline float fused(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
inline double fused(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}
inline float root(float x) {
  return __builtin_sqrtf(x);
}
inline double root(double x) {
  return __builtin_sqrt(x);
}

// .ftz: operands and results that are subnormal become zeros of their sign. Those of fp16 are still in float: what is not below
// 2^-14 - 2^-25 rounds up to 2^-14.
struct SingleFlush {
  static float operand(float x) { return flush(x); }
  static float result(float x) { return flush(x); }
};
struct HalfFlush {
  static float operand(float x) { return absolute(x) < 0x1p-14F ? x * 0 : x; }
  template <class T>
  static T result(T x) {
    return absolute(x) < 0x1p-14F - 0x1p-25F ? x * 0 : x;
  }
};
template <class F, class Flush>
struct Flushed {
  template <class... T>
  auto operator()(T... x) const {
    return Flush::result(F{}(Flush::operand(x)...));
  }
};
template <class F>
struct Saturated {
  template <class... T>
  auto operator()(T... x) const {
    return saturate(F{}(x...));
  }
};

// NAME.T of all types, NAME[.ftz][.sat].T of some.
template <int N, class Flush, bool kCanSaturate, class F, class All, class Some>
void arithmetic(FormTable& t, const char* name, Form::Rounds rounds, F f, All all, Some some) {
  same<N>(t, name, all, f, rounds);
  same<N>(t, name, "ftz", some, Flushed<F, Flush>{}, rounds);
  if constexpr (kCanSaturate) {
    same<N>(t, name, "sat", some, Saturated<F>{}, rounds);
    same<N>(t, name, "ftz.sat", some, Saturated<Flushed<F, Flush>>{}, rounds);
  }
}
template <int N, bool kCanSaturate, class F>
void real(FormTable& t, const char* name, Form::Rounds rounds, F f) {
  arithmetic<N, SingleFlush, kCanSaturate>(t, name, rounds, f, Reals{}, List<float>{});
}

// --- What PTX only bounds ---

constexpr double negative_power(int exponent) {
  return exponent == 0 ? 0 : 1 / static_cast<double>(std::uint64_t{1} << static_cast<unsigned>(exponent));
}

// F(x...) off by up to 2^-kRelative of it or 2^-kAbsolute, whichever is more; 0: by none. A function of the operands and the
// seed. What the ISA gives for zeros, subnormal numbers, infinities and NaN stays, and so do results at the ends of T's range.
template <class T, class F, int kRelative, int kAbsolute>
struct Varied {
  template <class... V>
  double operator()(V... x) const {
    const double exact = F{}(static_cast<double>(x)...);
    const double least = std::is_same_v<T, F16> ? 0x1p-13 : 0x1p-125;
    const double most = std::is_same_v<T, F16> ? 0x1p15 : 0x1p127;
    const auto ordinary = [](double v) { return absolute(v) >= 0x1p-126 && is_finite(v); };
    if (!(absolute(exact) >= least && absolute(exact) < most) || !(ordinary(x) && ...)) return exact;
    // Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    std::uint64_t word = inexact_seed;
    const auto mix = [&](double v) {
      word = (word + 1) * 0x9e3779b97f4a7c15U ^ std::bit_cast<std::uint64_t>(v);
      word = (word ^ word >> 30U) * 0xbf58476d1ce4e5b9U;
      word = (word ^ word >> 27U) * 0x94d049bb133111ebU;
      word ^= word >> 31U;
    };
    (mix(x), ...);
    const double share = static_cast<double>(static_cast<std::int64_t>(word)) * 0x1p-63;
    return exact +
           share * larger<false>(negative_power(kRelative) * absolute(exact), negative_power(kAbsolute));
  }
};

template <class Fixed, class Off, class T, class... S>
void fixed_or_varied(const Operation& op, const Rows& rows, std::uint32_t mask) {
  if (inexact_seed == 0) {
    each_lane<Fixed, T, S...>(op, rows, mask);
  } else {
    each_lane<Off, T, S...>(op, rows, mask);
  }
}

template <class Fixed, class Off, class T, class... S>
Form inexact() {
  Form made = form<T(S...)>(Fixed{});
  made.function = &fixed_or_varied<Fixed, Off, T, S...>;
  return made;
}

template <class F>
struct Rounded {
  template <class... T>
  float operator()(T... x) const {
    return static_cast<float>(F{}(x...));
  }
};

// NAME[.ftz].f32. The errors are what the ISA allows less a rounding of the result.
template <int kRelative, int kAbsolute, bool kCanFlush = true, class F>
void approximate(FormTable& t, const char* name, F /*f*/) {
  using Fixed = Rounded<F>;
  using Off = Rounded<Varied<float, F, kRelative, kAbsolute>>;
  const auto add = [&]<class A, class B>(const char* modifiers) {
    if constexpr (std::is_invocable_v<F, float>)
      t.add({name, modifiers, "f32"}, inexact<A, B, float, float>());
    else
      t.add({name, modifiers, "f32"}, inexact<A, B, float, float, float>());
  };
  add.template operator()<Fixed, Off>("");
  if constexpr (kCanFlush)
    add.template operator()<Flushed<Fixed, SingleFlush>, Flushed<Off, SingleFlush>>("ftz");
}

inline constexpr auto kExp2 = [](auto x) { return __builtin_exp2(static_cast<double>(x)); };
inline constexpr auto kTanh = [](auto x) { return __builtin_tanh(static_cast<double>(x)); };

inline void list_single_and_double(FormTable& t) {
  real<2, true>(t, "add", kOptional, [](auto a, auto b) { return a + b; });
  real<2, true>(t, "sub", kOptional, [](auto a, auto b) { return a - b; });
  real<2, true>(t, "mul", kOptional, [](auto a, auto b) { return a * b; });
  real<3, true>(t, "fma", kRequired, [](auto a, auto b, auto c) { return fused(a, b, c); });
  real<3, true>(t, "mad", kRequired, [](auto a, auto b, auto c) { return fused(a, b, c); });
  real<2, false>(t, "div", kRequired, [](auto a, auto b) { return a / b; });
  approximate<24, 0>(t, "div.approx", [](auto a, auto b) {
    const bool huge = absolute(b) > 0x1p126F && is_finite(b);
    return a / b * (huge ? 0.0F : 1.0F);  // zero, or NaN for an infinite a
  });
  approximate<24, 0>(t, "div.full", [](auto a, auto b) { return a / b; });
  real<1, false>(t, "rcp", kRequired, [](auto a) { return 1 / a; });
  approximate<25, 0>(t, "rcp.approx", [](auto a) { return 1 / a; });
  real<1, false>(t, "sqrt", kRequired, [](auto a) { return root(a); });
  approximate<24, 0>(t, "sqrt.approx", [](auto a) { return root(a); });
  approximate<24, 0>(t, "rsqrt.approx", [](auto a) { return 1 / __builtin_sqrt(static_cast<double>(a)); });
  approximate<0, 21>(t, "sin.approx", [](auto a) { return __builtin_sin(static_cast<double>(a)); });
  approximate<0, 21>(t, "cos.approx", [](auto a) { return __builtin_cos(static_cast<double>(a)); });
  approximate<24, 23>(t, "lg2.approx", [](auto a) { return __builtin_log2(static_cast<double>(a)); });
  approximate<24, 0>(t, "ex2.approx", kExp2);
  approximate<12, 0, false>(t, "tanh.approx", kTanh);
  // .ftz.f64: only the upper half of the operand's and result's bits counts, subnormal numbers are zeros, and there is one NaN.
  const auto upper = [](double x) {
    const auto bits = std::bit_cast<std::uint64_t>(x) >> 32U << 32U;
    if (!is_number(std::bit_cast<double>(bits))) return std::bit_cast<double>(0x7fffffff00000000U);
    return std::bit_cast<double>((bits & 0x7ff0000000000000U) == 0 ? bits & 0x8000000000000000U : bits);
  };
  using Upper = decltype(upper);
  using Double = List<double>;
  same<1>(t, "rcp.approx.ftz", Double{}, [](double x) { return Upper{}(1 / Upper{}(x)); });
  same<1>(t, "rsqrt.approx", Double{}, [](double x) { return 1 / __builtin_sqrt(x); });
  same<1>(t, "rsqrt.approx.ftz", Double{}, [](double x) { return Upper{}(1 / __builtin_sqrt(Upper{}(x))); });

  real<1, false>(t, "abs", kNever, [](auto a) { return absolute(a); });
  real<1, false>(t, "neg", kNever, [](auto a) { return -a; });
  real<2, false>(t, "min", kNever, [](auto a, auto b) { return smaller<false>(a, b); });
  real<2, false>(t, "max", kNever, [](auto a, auto b) { return larger<false>(a, b); });
  const auto extreme = [&](const char* name, const char* modifiers, auto f) {
    t.add({name, modifiers, "f32"}, form<float(float, float)>(f));
    t.add({name, "ftz", modifiers, "f32"}, form<float(float, float)>(Flushed<decltype(f), SingleFlush>{}));
  };
  extreme("min", "NaN", [](float a, float b) { return smaller<true>(a, b); });
  extreme("max", "NaN", [](float a, float b) { return larger<true>(a, b); });
  // The sign of the product of both, the magnitude of the one that is chosen by magnitude.
  const auto signed_by_both = [](float chosen, float a, float b) {
    const std::uint32_t sign =
        (std::bit_cast<std::uint32_t>(a) ^ std::bit_cast<std::uint32_t>(b)) & 0x80000000U;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(chosen) | sign);
  };
  using SignedByBoth = decltype(signed_by_both);
  extreme("min", "xorsign.abs",
          [](float a, float b) { return SignedByBoth{}(smaller<false>(absolute(a), absolute(b)), a, b); });
  extreme("max", "xorsign.abs",
          [](float a, float b) { return SignedByBoth{}(larger<false>(absolute(a), absolute(b)), a, b); });
  // The sign of a, the magnitude of b: in this order copysign(a, b) has b's magnitude.
  t.add({"copysign.f32"}, form<Same<2, std::uint32_t>>([](std::uint32_t a, std::uint32_t b) {
          return (a & 0x80000000U) | (b & 0x7fffffffU);
        }));
  t.add({"copysign.f64"}, form<Same<2, std::uint64_t>>([](std::uint64_t a, std::uint64_t b) {
          return (a >> 63U << 63U) | (b << 1U >> 1U);
        }));
  const auto test = [&](const char* name, auto f) {
    each_type(Reals{}, [&]<class T>() { t.add({name, kName<T>}, form<Bit(T)>(f)); });
  };
  test("testp.finite", [](auto x) { return is_finite(x); });
  test("testp.infinite", [](auto x) { return is_number(x) && !is_finite(x); });
  test("testp.number", [](auto x) { return is_number(x); });
  test("testp.notanumber", [](auto x) { return !is_number(x); });
  test("testp.normal", [](auto x) {  // zero is
    return x == 0 || (is_finite(x) && absolute(x) >= std::numeric_limits<decltype(x)>::min());
  });
  test("testp.subnormal",
       [](auto x) { return absolute(x) > 0 && absolute(x) < std::numeric_limits<decltype(x)>::min(); });
}

// A sum in float of two numbers of 8 or 11 bits may round twice and still be right (24 ≥ 2 × 11 + 2); products and fma don't
// fit, so they are exact in double, and their sum with c rounds to odd.
inline double narrow_product(float a, float b) {
  return static_cast<double>(a) * static_cast<double>(b);
}
inline double narrow_fma(float a, float b, float c) {
  return sum_to_odd(narrow_product(a, b), static_cast<double>(c));
}
// Of a result that is yet to be rounded: NaN and what is negative become +0.
template <class T>
T relu(T x) {
  return x > 0 || !is_number(x) ? x : T{0};
}

template <class F>
struct Relu {
  template <class... T>
  auto operator()(T... x) const {
    return relu(F{}(x...));
  }
};

template <int N, class F>
void half(FormTable& t, const char* name, F f) {
  constexpr auto kRounds = N == 3 ? kRequired : kOptional;
  arithmetic<N, HalfFlush, true>(t, name, kRounds, f, Halves{}, Ieee{});
  if constexpr (N == 3) {
    same<N>(t, name, "relu", Halves{}, Relu<F>{}, kRounds);
    same<N>(t, name, "ftz.relu", Ieee{}, Relu<Flushed<F, HalfFlush>>{}, kRounds);
  }
}

template <class F>
struct FlushedBrain {
  double operator()(float x) const {
    const double result = F{}(x);
    return result < 0x1p-126 - 0x1p-134 ? 0.0 : result;  // the rest rounds up to 2^-126
  }
};
template <class F>
using Plain = F;

template <int kRelative, int kAbsolute, template <class> class Modifier = Plain, class Types, class F>
void approximate_half(FormTable& t, const char* name, Types types, F /*f*/) {
  each_type(types, [&]<class T>() {
    using Off = Varied<typename ElementOf<T>::type, F, kRelative, kAbsolute>;
    t.add({name, kName<T>}, inexact<Modifier<F>, Modifier<Off>, T, T>());
  });
}

inline void list_half(FormTable& t) {
  half<2>(t, "add", [](float a, float b) { return a + b; });
  half<2>(t, "sub", [](float a, float b) { return a - b; });
  half<2>(t, "mul", [](float a, float b) { return narrow_product(a, b); });
  half<3>(t, "fma", [](float a, float b, float c) { return narrow_fma(a, b, c); });
  const auto extreme = [&](const char* name, const char* flushed_name, auto f) {
    same<2>(t, name, Halves{}, f);
    same<2>(t, flushed_name, Ieee{}, Flushed<decltype(f), HalfFlush>{});
  };
  extreme("min", "min.ftz", [](float a, float b) { return smaller<false>(a, b); });
  extreme("max", "max.ftz", [](float a, float b) { return larger<false>(a, b); });
  extreme("min.NaN", "min.ftz.NaN", [](float a, float b) { return smaller<true>(a, b); });
  extreme("max.NaN", "max.ftz.NaN", [](float a, float b) { return larger<true>(a, b); });
  const auto sign = [&](const char* name, auto f) {  // bits alone: a NaN keeps its own
    each_type(Halves{}, [&]<class T>() {
      Form entry = form<Same<1, Bits<sizeof(T)>>>(f);
      entry.destination = entry.sources[0] = kType<T>;
      t.add({name, kName<T>}, entry);
    });
  };
  sign("neg", [](auto a) { return a ^ static_cast<decltype(a)>(0x80008000U); });
  sign("abs", [](auto a) { return a & static_cast<decltype(a)>(0x7fff7fffU); });
  const auto flushed = [](auto f) { return Flushed<decltype(f), HalfFlush>{}; };
  same<1>(t, "neg.ftz", Ieee{}, flushed([](float a) { return -a; }));
  same<1>(t, "abs.ftz", Ieee{}, flushed([](float a) { return absolute(a); }));
  approximate_half<0, 12>(t, "tanh.approx", Ieee{}, kTanh);
  approximate_half<0, 9>(t, "tanh.approx", List<BF16, Pair<BF16>>{}, kTanh);
  approximate_half<11, 0>(t, "ex2.approx", Ieee{}, kExp2);
  approximate_half<8, 0, FlushedBrain>(t, "ex2.approx.ftz", List<BF16, Pair<BF16>>{}, kExp2);
}

// setp.CMP.T: the ordered comparisons. The decoder makes the unordered ones (equ, ltu, …, nan) by negating their opposites.
inline void list_comparisons(FormTable& t) {
  const auto compare_reals = [&](const char* name, auto f) {
    using F = decltype(f);
    each_type(List<F16, BF16, float, double>{},
              [&]<class T>() { t.add({".setp", name, kName<T>}, form<Bit(T, T)>(f)); });
    t.add({".setp", name, "ftz.f32"},
          form<Bit(float, float)>([](float a, float b) { return F{}(flush(a), flush(b)); }));
    t.add({".setp", name, "ftz.f16"}, form<Bit(F16, F16)>([](float a, float b) {
            return F{}(HalfFlush::operand(a), HalfFlush::operand(b));
          }));
  };
  const auto compare = [&](const char* name, auto f) {
    each_type(Integers{}, [&]<class T>() { t.add({".setp", name, kName<T>}, form<Bit(T, T)>(f)); });
    each_type(Unsigneds{}, [&]<class T>() { t.add({".setp", name, kBits<T>}, form<Bit(T, T)>(f)); });
    compare_reals(name, f);
  };
  compare("eq", [](auto a, auto b) { return a == b; });
  compare("lt", [](auto a, auto b) { return a < b; });
  compare("le", [](auto a, auto b) { return a <= b; });
  compare("gt", [](auto a, auto b) { return a > b; });
  compare("ge", [](auto a, auto b) { return a >= b; });
  compare("ne", [](auto a, auto b) { return a < b || a > b; });
  compare_reals("num", [](auto a, auto b) { return is_number(a) && is_number(b); });
}

// Predicates are whole words: f of 32 lanes at once.
template <class F>
Form predicate_form(std::uint8_t n_sources) {
  const auto function = [](const Operation& op, const Rows& rows, std::uint32_t mask) {
    const std::uint32_t a = *rows.at<const std::uint32_t>(op.rows[1]);
    const std::uint32_t b = *rows.at<const std::uint32_t>(op.rows[2]);
    store_predicate(rows, op.rows[0], F{}(a, b), mask);
  };
  return {function, kNever, Type::kPred, {Type::kPred, Type::kPred}, n_sources};
}

// selp, and slct by the sign of c; mov and the ways to take words apart and join them; logic of predicates.
inline void list_moves(FormTable& t) {
  each_type(Unsigneds{}, [&]<class T>() {
    const char* type = kBits<T>;
    t.add({".mov", type}, form<T(T)>([](T a) { return a; }));
    t.add({".selp", type}, form<T(T, T, Bit)>([](T a, T b, bool c) { return c ? a : b; }));
    t.add({".slct.s32", type},
          form<T(T, T, std::int32_t)>([](T a, T b, std::int32_t c) { return c >= 0 ? a : b; }));
    t.add({".slct.f32", type}, form<T(T, T, float)>([](T a, T b, float c) { return c >= 0 ? a : b; }));
    t.add({".slct.ftz.f32", type},
          form<T(T, T, float)>([](T a, T b, float c) { return flush(c) >= 0 ? a : b; }));
  });
  // join: high:low; low and high: the halves.
  each_type(List<std::uint16_t, std::uint32_t>{}, [&]<class T>() {
    using W = Bits<2 * sizeof(T)>;
    const char* type = kBits<W>;
    t.add({".join", type},
          form<W(T, T)>([](T low, T high) { return static_cast<W>(W{high} << (8 * sizeof(T))) | low; }));
    t.add({".low", type}, form<T(W)>([](W a) { return static_cast<T>(a); }));
    t.add({".high", type}, form<T(W)>([](W a) { return static_cast<T>(a >> (8 * sizeof(T))); }));
  });
  const auto predicate = [&]<class F>(const char* name, std::uint8_t n_sources, F /*f*/) {
    t.add({name, "pred"}, predicate_form<F>(n_sources));
  };
  predicate("and", 2, [](std::uint32_t a, std::uint32_t b) { return a & b; });
  predicate("or", 2, [](std::uint32_t a, std::uint32_t b) { return a | b; });
  predicate("xor", 2, [](std::uint32_t a, std::uint32_t b) { return a ^ b; });
  predicate("not", 1, [](std::uint32_t a, std::uint32_t /*none*/) { return ~a; });
  predicate(".mov", 1, [](std::uint32_t a, std::uint32_t /*none*/) { return a; });
}

}  // namespace sluice::ptx::SLUICE_PTX_ISA
