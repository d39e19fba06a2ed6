// PTX ISA, "Integer Arithmetic Instructions", "Logic and Shift Instructions", and moves.
#pragma once

#include "ptx/forms_core.h"

namespace sluice::ptx::SLUICE_PTX_ISA {

__extension__ using Unsigned128 = unsigned __int128;
__extension__ using Signed128 = __int128;

// Twice as wide.
template <class T>
using Wider = std::conditional_t<
    sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, std::int32_t, std::uint32_t>,
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, std::int64_t, std::uint64_t>,
                       std::conditional_t<std::is_signed_v<T>, Signed128, Unsigned128>>>;

template <class T>
inline constexpr unsigned kWidth = sizeof(T) * 8;

template <class T>
T high_product(T a, T b) {
  return static_cast<T>(static_cast<Wider<T>>(a) * static_cast<Wider<T>>(b) >> kWidth<T>);
}

// A product's or sum's low bits, free of the sign's undefined overflow.
template <class T>
T wrap_add(T a, T b) {
  return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b));
}

// Shifts by the width or more give zero, or the sign.
template <class T>
T shift_left(T a, std::uint32_t n) {
  return n < kWidth<T> ? static_cast<T>(a << (n & (kWidth<T> - 1))) : T{0};
}
template <class T>
T shift_right(T a, std::uint32_t n) {
  if constexpr (std::is_signed_v<T>) {
    return static_cast<T>(a >> (n < kWidth<T> ? n : kWidth<T> - 1));
  } else {
    return n < kWidth<T> ? static_cast<T>(a >> (n & (kWidth<T> - 1))) : T{0};
  }
}
// The n lowest bits set.
template <class T>
T low_bits(std::uint32_t n) {
  return n < kWidth<T> ? static_cast<T>((T{1} << (n & (kWidth<T> - 1))) - 1) : static_cast<T>(~T{0});
}

template <class T>
T extract_field(T a, std::uint32_t position_word, std::uint32_t length_word) {
  using U = Unsigned<T>;
  const std::uint32_t position = position_word & 0xffU;
  const std::uint32_t length = length_word & 0xffU;
  const U field = shift_right(static_cast<U>(a), position) & low_bits<U>(length);
  if constexpr (std::is_unsigned_v<T>) {
    return field;
  } else {
    const std::uint32_t last = position + length == 0 ? 0 : position + length - 1;
    const std::uint32_t sign_at = last < kWidth<T> ? last : kWidth<T> - 1;
    const bool sign = length != 0 && (shift_right(static_cast<U>(a), sign_at) & 1U) != 0;
    // What lies above the field, or above the word's end, is the sign.
    const std::uint32_t left = position < kWidth<T> ? kWidth<T> - position : 0;
    return static_cast<T>(sign ? field | ~low_bits<U>(length < left ? length : left) : field);
  }
}

template <class T>
T insert_field(T a, T b, std::uint32_t position_word, std::uint32_t length_word) {
  const std::uint32_t position = position_word & 0xffU;
  const T mask = shift_left(low_bits<T>(length_word & 0xffU), position);
  return (b & ~mask) | (shift_left(a, position) & mask);
}

template <class T>
std::uint32_t leading_zeros(T a) {
  std::uint32_t n = 0;
  for (std::uint32_t step = kWidth<T> / 2; step != 0; step /= 2) {
    const bool zero = (a >> (kWidth<T> - step)) == 0;
    n += zero ? step : 0;
    a = zero ? a << step : a;
  }
  return n + (a == 0 ? 1U : 0U);
}

template <class T>
std::uint32_t count_ones(T a) {
  std::uint32_t n = 0;
  for (unsigned part = 0; part < sizeof(T); part += 4) {
    std::uint32_t x = static_cast<std::uint32_t>(a >> (8 * part));
    x -= (x >> 1U) & 0x55555555U;
    x = (x & 0x33333333U) + ((x >> 2U) & 0x33333333U);
    x = (x + (x >> 4U)) & 0x0f0f0f0fU;
    n += (x * 0x01010101U) >> 24U;
  }
  return n;
}

template <class T>
T reverse_bits(T a) {
  T r = 0;
  for (unsigned i = 0; i < kWidth<T>; ++i) r |= ((a >> i) & 1U) << (kWidth<T> - 1 - i);
  return r;
}

// The highest bit that differs from the sign; all ones if there is none.
template <class T>
std::uint32_t find_high_bit(T a) {
  using U = Unsigned<T>;
  U bits = static_cast<U>(a);
  if constexpr (std::is_signed_v<T>) bits = a < 0 ? ~bits : bits;
  return kWidth<T> - 1 - leading_zeros(bits);
}

// Of the low 24 bits of each.
template <class T>
Wider<T> product24(T a, T b) {
  const auto low = [](T x) {
    return static_cast<T>(static_cast<T>(static_cast<std::uint32_t>(x) << 8U) >> 8U);
  };
  return static_cast<Wider<T>>(low(a)) * low(b);
}

// Division by zero gives all ones, as the hardware does; the ISA leaves it open.
template <class T>
T divide(T a, T b) {
  if (b == 0) return static_cast<T>(~T{0});
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return static_cast<T>(0 - static_cast<Unsigned<T>>(a));
  }
  return static_cast<T>(a / b);
}
template <class T>
T remainder(T a, T b) {
  if (b == 0) return a;
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return 0;
  }
  return static_cast<T>(a % b);
}

inline std::uint64_t joined(std::uint32_t low, std::uint32_t high) {
  return std::uint64_t{high} << 32U | low;
}

// Byte `selector` & 7 of b:a; with bit 3, its sign in all bits.
inline std::uint32_t pick_byte(std::uint64_t bytes, std::uint32_t selector) {
  const auto byte = static_cast<std::uint32_t>(bytes >> (8 * (selector & 7U))) & 0xffU;
  return (selector & 8U) == 0 ? byte : ((byte & 0x80U) != 0 ? 0xffU : 0U);
}

// prmt's modes: which bytes they pick for c & 3.
inline std::uint32_t permute_selector(std::uint32_t mode, std::uint32_t c) {
  constexpr std::uint16_t kSelectors[6][4] = {
      {0x3210, 0x4321, 0x5432, 0x6543}, {0x5670, 0x6701, 0x7012, 0x0123}, {0x0000, 0x1111, 0x2222, 0x3333},
      {0x3210, 0x3211, 0x3222, 0x3333}, {0x0000, 0x1110, 0x2210, 0x3210}, {0x1010, 0x3232, 0x1010, 0x3232}};
  return mode == 0 ? c : kSelectors[mode - 1][c & 3U];
}

inline std::uint32_t lop3(std::uint32_t table, std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t r = 0;
  for (std::uint32_t i = 0; i < 8; ++i) {
    const std::uint32_t chosen = ((table >> i) & 1U) != 0 ? ~0U : 0U;
    r |= chosen & ((i & 4U) != 0 ? a : ~a) & ((i & 2U) != 0 ? b : ~b) & ((i & 1U) != 0 ? c : ~c);
  }
  return r;
}

template <class T>
using Wider8 = std::conditional_t<std::is_signed_v<T>, std::int16_t, std::uint16_t>;

// c + the sum of n products: of a's elements, which lie kStep bits apart, with b's bytes.
template <unsigned n, class A, class B, unsigned kStep>
std::uint32_t dot(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  for (unsigned i = 0; i < n; ++i) {
    c += static_cast<std::uint32_t>(static_cast<A>(a >> (kStep * i)) * static_cast<B>(b >> (8 * i)));
  }
  return c;
}

template <class T>
T saturated(std::int64_t value) {
  using Limits = std::numeric_limits<T>;
  return static_cast<T>(value < Limits::min() ? Limits::min()
                                              : (value > Limits::max() ? Limits::max() : value));
}

// d = a + b + carry, or with ~b for b: then the carry is the opposite of the ISA's borrow. So it is on hardware, and nvcc's
// division of 128-bit integers reads by addc what subc.cc has left. Rows are d, a, b, carry in, carry out.
template <class T, bool kSubtract>
void with_carry(const Operation& op, const Rows& rows, std::uint32_t mask) {
  const Source<T> a(rows, op.rows[1]);
  const Source<T> b(rows, op.rows[2]);
  const Source<Bit> carry(rows, op.rows[3]);
  T out[kLanes];
  std::uint32_t carries = 0;
  for (int i = 0; i < kN; ++i) {
    const Unsigned128 in = carry[i] ? 1 : 0;
    const Unsigned128 sum = Unsigned128{a[i]} + static_cast<T>(kSubtract ? ~b[i] : b[i]) + in;
    out[i] = static_cast<T>(sum);
    carries |= ((sum >> kWidth<T>)&1U) != 0 ? 1U << static_cast<unsigned>(i) : 0U;
  }
  store(rows.at<T>(op.rows[0]), out, mask);
  store_predicate(rows, op.rows[4], carries, mask);
}

// bmsk: `width` ones from bit `position` on. With kClamp, what leaves the word is cut off; else both count modulo 32.
template <bool kClamp>
std::uint32_t bit_mask(std::uint32_t position, std::uint32_t width) {
  const std::uint32_t from = position & 31U;
  const std::uint32_t n = width & 31U;
  const std::uint32_t above = ~0U << from;
  const bool open = from + n >= 32 || (kClamp && width >= 32);
  const std::uint32_t below = open ? ~0U : ~(~0U << ((from + n) & 31U));
  return (kClamp && position >= 32) || (n == 0 && !open) ? 0U : above & below;
}

// szext: the low `width` bits, extended by zeros or by their sign.
template <class T, bool kClamp>
T extend_low(T a, std::uint32_t width) {
  const std::uint32_t n = width & 31U;
  const bool whole = kClamp && width >= 32;
  const std::uint32_t low = whole ? ~0U : ~(~0U << n);
  const auto bits = static_cast<std::uint32_t>(a);
  const bool sign = std::is_signed_v<T> && n != 0 && !whole && ((bits >> ((n - 1) & 31U)) & 1U) != 0;
  return static_cast<T>((bits & low) | (sign ? ~low : 0U));
}

inline void list_integer(FormTable& t) {
  wrapping<2>(t, "add", [](auto a, auto b) { return a + b; });
  wrapping<2>(t, "sub", [](auto a, auto b) { return a - b; });
  wrapping<2>(t, "mul.lo", [](auto a, auto b) { return std::uint64_t{a} * b; });
  wrapping<3>(t, "mad.lo", [](auto a, auto b, auto c) { return std::uint64_t{a} * b + c; });
  same<2>(t, "mul.hi", Integers{}, [](auto a, auto b) { return high_product(a, b); });
  same<3>(t, "mad.hi", Integers{}, [](auto a, auto b, auto c) { return wrap_add(high_product(a, b), c); });
  each_type(List<std::uint16_t, std::int16_t, std::uint32_t, std::int32_t>{}, [&]<class T>() {
    using W = Wider<T>;
    t.add({"mul.wide", kName<T>},
          form<W(T, T)>([](T a, T b) { return static_cast<W>(a) * static_cast<W>(b); }));
    t.add({"mad.wide", kName<T>}, form<W(T, T, W)>([](T a, T b, W c) {
            return wrap_add<W>(static_cast<W>(a) * static_cast<W>(b), c);
          }));
  });
  using S32 = List<std::int32_t>;
  same<2>(t, "add.sat", S32{}, [](std::int64_t a, std::int64_t b) { return saturated<std::int32_t>(a + b); });
  same<2>(t, "sub.sat", S32{}, [](std::int64_t a, std::int64_t b) { return saturated<std::int32_t>(a - b); });
  same<3>(t, "mad.hi.sat", S32{},
          [](auto a, auto b, std::int64_t c) { return saturated<std::int32_t>(high_product(a, b) + c); });
  using Words = List<std::uint32_t, std::int32_t>;
  same<2>(t, "mul24.lo", Words{}, [](auto a, auto b) { return product24(a, b); });
  same<2>(t, "mul24.hi", Words{}, [](auto a, auto b) { return product24(a, b) >> 16U; });
  same<3>(t, "mad24.lo", Words{}, [](auto a, auto b, auto c) { return product24(a, b) + c; });
  same<3>(t, "sad", Integers{}, [](auto a, auto b, auto c) {
    using U = Unsigned<decltype(a)>;
    return static_cast<U>(c) + static_cast<U>(a < b ? static_cast<U>(b) - static_cast<U>(a)
                                                    : static_cast<U>(a) - static_cast<U>(b));
  });
  same<2>(t, "div", Integers{}, [](auto a, auto b) { return divide(a, b); });
  same<2>(t, "rem", Integers{}, [](auto a, auto b) { return remainder(a, b); });
  same<1>(t, "abs", Signeds{}, [](auto a) {
    using U = Unsigned<decltype(a)>;
    return a < 0 ? static_cast<U>(0 - static_cast<U>(a)) : static_cast<U>(a);
  });
  same<1>(t, "neg", Signeds{}, [](auto a) { return 0 - static_cast<Unsigned<decltype(a)>>(a); });
  same<2>(t, "min", Integers{}, [](auto a, auto b) { return b < a ? b : a; });
  same<2>(t, "max", Integers{}, [](auto a, auto b) { return a < b ? b : a; });

  using B32 = std::uint32_t;
  each_type(List<std::uint32_t, std::uint64_t>{}, [&]<class T>() {
    const char* type = kBits<T>;
    t.add({"popc", type}, form<B32(T)>([](T a) { return count_ones(a); }));
    t.add({"clz", type}, form<B32(T)>([](T a) { return leading_zeros(a); }));
    t.add({"brev", type}, form<T(T)>([](T a) { return reverse_bits(a); }));
    t.add({"bfi", type},
          form<T(T, T, B32, B32)>([](T a, T b, B32 c, B32 d) { return insert_field(a, b, c, d); }));
  });
  each_type(Wide{}, [&]<class T>() {
    const char* type = kName<T>;
    t.add({"bfe", type}, form<T(T, B32, B32)>([](T a, B32 b, B32 c) { return extract_field(a, b, c); }));
    t.add({"bfind", type}, form<B32(T)>([](T a) { return find_high_bit(a); }));
    t.add({"bfind.shiftamt", type}, form<B32(T)>([](T a) {
            const B32 at = find_high_bit(a);
            return at == ~0U ? at : kWidth<T> - 1 - at;
          }));
  });

  bits<2>(t, "and", [](auto a, auto b) { return a & b; });
  bits<2>(t, "or", [](auto a, auto b) { return a | b; });
  bits<2>(t, "xor", [](auto a, auto b) { return a ^ b; });
  bits<1>(t, "not", [](auto a) { return ~a; });
  bits<1>(t, "cnot", [](auto a) { return a == 0 ? 1U : 0U; });
  each_type(Unsigneds{}, [&]<class U>() {
    using S = std::make_signed_t<U>;
    const Form right = form<U(U, B32)>([](U a, B32 n) { return shift_right(a, n); });
    t.add({"shl", kBits<U>}, form<U(U, B32)>([](U a, B32 n) { return shift_left(a, n); }));
    t.add({"shr", kBits<U>}, right);
    t.add({"shr", kName<U>}, right);
    t.add({"shr", kName<S>}, form<S(S, B32)>([](S a, B32 n) { return shift_right(a, n); }));
  });

  const auto word3 = [&](const char* name, const char* type, auto f) {
    t.add({name, type}, form<B32(B32, B32, B32)>(f));
  };
  word3("shf.l.wrap", "b32", [](B32 a, B32 b, B32 c) { return joined(a, b) << (c & 31U) >> 32U; });
  word3("shf.r.wrap", "b32", [](B32 a, B32 b, B32 c) { return joined(a, b) >> (c & 31U); });
  word3("shf.l.clamp", "b32", [](B32 a, B32 b, B32 c) { return joined(a, b) << (c < 32 ? c : 32U) >> 32U; });
  word3("shf.r.clamp", "b32", [](B32 a, B32 b, B32 c) { return joined(a, b) >> (c < 32 ? c : 32U); });
  const auto masks = [&]<bool kClamp>(const char* mode) {
    t.add({"bmsk", mode, "b32"}, form<B32(B32, B32)>([](B32 a, B32 b) { return bit_mask<kClamp>(a, b); }));
    each_type(Words{}, [&]<class T>() {
      t.add({"szext", mode, kName<T>},
            form<T(T, B32)>([](T a, B32 b) { return extend_low<T, kClamp>(a, b); }));
    });
  };
  masks.operator()<true>("clamp");
  masks.operator()<false>("wrap");
  // Its variant is the mode of prmt, its immediate the table of lop3.
  word3(".prmt", "b32", [](const Operation& op, B32 a, B32 b, B32 c) {
    const std::uint32_t selector = permute_selector(op.variant, c);
    std::uint32_t r = 0;
    for (unsigned i = 0; i < 4; ++i) r |= pick_byte(joined(a, b), selector >> (4 * i)) << (8 * i);
    return r;
  });
  word3(".lop3", "b32", [](const Operation& op, B32 a, B32 b, B32 c) {
    return lop3(static_cast<std::uint32_t>(op.immediate), a, b, c);
  });
  const auto dots = [&]<class A, class B>(const char* types) {
    word3("dp4a", types, [](B32 a, B32 b, B32 c) { return dot<4, A, B, 8>(a, b, c); });
    word3("dp2a.lo", types, [](B32 a, B32 b, B32 c) { return dot<2, Wider8<A>, B, 16>(a, b, c); });
    word3("dp2a.hi", types, [](B32 a, B32 b, B32 c) { return dot<2, Wider8<A>, B, 16>(a, b >> 16U, c); });
  };
  dots.operator()<std::uint8_t, std::uint8_t>("u32.u32");
  dots.operator()<std::uint8_t, std::int8_t>("u32.s32");
  dots.operator()<std::int8_t, std::uint8_t>("s32.u32");
  dots.operator()<std::int8_t, std::int8_t>("s32.s32");
  each_type(List<std::uint32_t, std::uint64_t>{}, [&]<class T>() {
    t.add({".add.carry", kBits<T>}, {.function = &with_carry<T, false>});
    t.add({".sub.carry", kBits<T>}, {.function = &with_carry<T, true>});
  });
}

}  // namespace sluice::ptx::SLUICE_PTX_ISA
