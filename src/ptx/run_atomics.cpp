// PTX ISA, "atom" and "red": what each operation makes of the value that it finds.
#include <bit>
#include <cmath>
#include <type_traits>

#define SLUICE_PTX_ISA scalar
#include "ptx/forms_core.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx::run {
namespace {

template <class T>
using BitsOf = std::conditional_t<sizeof(T) == 2, std::uint16_t,
                                  std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;

template <class T>
T value_of(std::uint64_t bits) {
  return std::bit_cast<T>(static_cast<BitsOf<T>>(bits));
}

float flushed(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0F, x) : x;
}

// f of what is found and b, both of type T.
template <class T, class F>
std::uint64_t change(std::uint64_t old, std::uint64_t b, std::uint64_t /*c*/) {
  return std::bit_cast<BitsOf<T>>(scalar::to_lane<T>(F{}(value_of<T>(old), value_of<T>(b))));
}

template <class T, class F>
Change change_by(F /*f*/) {
  return &change<T, F>;
}

// Sums of halves, one or two in a word.
template <class T, unsigned kCount>
std::uint64_t add_halves(std::uint64_t old, std::uint64_t b, std::uint64_t /*c*/) {
  std::uint64_t sums = 0;
  for (unsigned i = 0; i < 16 * kCount; i += 16) {
    const float x = scalar::widen(T{static_cast<std::uint16_t>(old >> i)});
    const float y = scalar::widen(T{static_cast<std::uint16_t>(b >> i)});
    sums |= std::uint64_t{scalar::to_lane<T>(x + y).bits} << i;
  }
  return sums;
}

// The table: one operation for the types that it has.
Change integer_change(std::string_view operation, Type type) {
  const auto for_signs = [&](auto f) -> Change {
    if (type == Type::kU32) return change_by<std::uint32_t>(f);
    if (type == Type::kS32) return change_by<std::int32_t>(f);
    if (type == Type::kU64) return change_by<std::uint64_t>(f);
    if (type == Type::kS64) return change_by<std::int64_t>(f);
    return nullptr;
  };
  const auto for_bits = [&](auto f) -> Change {
    if (type == Type::kB32) return change_by<std::uint32_t>(f);
    if (type == Type::kB64) return change_by<std::uint64_t>(f);
    return nullptr;
  };
  const bool number = type == Type::kU32 || type == Type::kS32 || type == Type::kU64 || type == Type::kS64;
  if (operation == "add" && number) {
    const auto add = [](auto a, auto b) { return a + b; };
    return size_of(type) == 4 ? change_by<std::uint32_t>(add) : change_by<std::uint64_t>(add);
  }
  if (operation == "min") return for_signs([](auto a, auto b) { return b < a ? b : a; });
  if (operation == "max") return for_signs([](auto a, auto b) { return a < b ? b : a; });
  if (operation == "and") return for_bits([](auto a, auto b) { return a & b; });
  if (operation == "or") return for_bits([](auto a, auto b) { return a | b; });
  if (operation == "xor") return for_bits([](auto a, auto b) { return a ^ b; });
  if (operation == "exch") return for_bits([](auto /*a*/, auto b) { return b; });
  if (operation == "inc" && type == Type::kU32) {
    return change_by<std::uint32_t>([](auto a, auto b) { return a >= b ? 0U : a + 1; });
  }
  if (operation == "dec" && type == Type::kU32) {
    return change_by<std::uint32_t>([](auto a, auto b) { return a == 0 || a > b ? b : a - 1; });
  }
  if (operation == "cas" && (type == Type::kB16 || type == Type::kB32 || type == Type::kB64)) {
    return [](std::uint64_t old, std::uint64_t b, std::uint64_t c) { return old == b ? c : old; };
  }
  return nullptr;
}

constexpr Change kAddSingle = &change<float, decltype([](float a, float b) { return a + b; })>;
constexpr Change kAddFlushed =
    &change<float, decltype([](float a, float b) { return flushed(flushed(a) + flushed(b)); })>;

}  // namespace

Change in_global_memory(Change change) {
  return change == kAddSingle ? kAddFlushed : change;
}

Change change_named(std::string_view operation, Type type) {
  if (const Change found = integer_change(operation, type)) return found;
  if (operation != "add") return nullptr;
  if (type == Type::kF32) return kAddSingle;
  if (type == Type::kF64) return change_by<double>([](double a, double b) { return a + b; });
  if (type == Type::kF16) return &add_halves<scalar::F16, 1>;
  if (type == Type::kF16x2) return &add_halves<scalar::F16, 2>;
  if (type == Type::kBF16) return &add_halves<scalar::BF16, 1>;
  if (type == Type::kBF16x2) return &add_halves<scalar::BF16, 2>;
  return nullptr;
}

}  // namespace sluice::ptx::run
