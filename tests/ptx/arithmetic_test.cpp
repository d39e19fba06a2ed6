// Every opcode that computes from registers alone, on random and special operands, against the PTX ISA's text: integers in 128
// bits, floating point by exact.h. An opcode that the machine accepts and that has no reference here is a failure.
#include <climits>
#include <cmath>
#include <map>
#include <optional>

#include <gtest/gtest.h>

#include "ptx/opcodes.h"
#include "tests/ptx/exact.h"
#include "tests/ptx/instruction.h"

namespace sluice::ptx {
namespace {

using exact::Format;
using exact::Mode;
using exact::Signed128;
using exact::Unsigned128;
using exact::Value;
using Bits = std::uint64_t;

bool has(const Words& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}
Type type_of(const std::string& word) {
  return type_named(word).value_or(Type::kNone);
}
bool is_signed(Type type) {
  return type == Type::kS8 || type == Type::kS16 || type == Type::kS32 || type == Type::kS64;
}
bool is_packed(Type type) {
  return type == Type::kF16x2 || type == Type::kBF16x2;
}
const Format* format_of(Type type) {
  if (type == Type::kF16 || type == Type::kF16x2) return &exact::kF16;
  if (type == Type::kBF16 || type == Type::kBF16x2) return &exact::kBF16;
  if (type == Type::kF32) return &exact::kF32;
  return type == Type::kF64 ? &exact::kF64 : nullptr;
}
int width_of(Type type) {
  return static_cast<int>(8 * size_of(type));
}
Signed128 number(Type type, Bits bits) {
  const int above = 64 - width_of(type);
  return is_signed(type) ? Signed128{static_cast<std::int64_t>(bits << above) >> above}
                         : Signed128{bits << above >> above};
}
Signed128 largest(Type type) {
  return (Signed128{1} << (width_of(type) - (is_signed(type) ? 1 : 0))) - 1;
}
Signed128 clamp(Type type, Signed128 x) {
  return std::clamp(x, is_signed(type) ? -largest(type) - 1 : Signed128{0}, largest(type));
}
// As its register holds it, extended to 64 bits.
Bits in_register(Type type, Signed128 x) {
  return static_cast<Bits>(number(type, static_cast<Bits>(x)));
}

Mode mode_of(const Words& words) {
  if (has(words, "rz") || has(words, "rzi")) return Mode::kZero;
  if (has(words, "rm") || has(words, "rmi")) return Mode::kDown;
  return has(words, "rp") || has(words, "rpi") ? Mode::kUp : Mode::kNearest;
}
Bits flush(const Format& format, Bits x) {
  return (x & format.infinity()) == 0 ? x & format.sign() : x;
}
// .sat: to [0, 1], and NaN to 0. .relu: negative numbers to 0.
Bits saturate(const Format& format, Bits x) {
  const Bits one = static_cast<Bits>(format.bias()) << format.fraction_bits;
  if (format.is_nan(x) || (x & format.sign()) != 0) return 0;
  return std::min(x, one);
}
Bits relu(const Format& format, Bits x) {
  return !format.is_nan(x) && (x & format.sign()) != 0 ? 0 : x;
}

Plan plan(const std::string& opcode, std::vector<Type> sources, std::vector<Type> results,
          std::function<void(const Bits*, Bits*)> expected) {
  Plan made{.sources = std::move(sources),
            .results = std::move(results),
            .body = opcode,
            .expected = std::move(expected)};
  made.body += " %d0";
  for (std::size_t i = 0; i < made.sources.size(); ++i) made.body += ", %s" + std::to_string(i);
  made.body += ";";
  return made;
}

// --- Integers ---

std::optional<Plan> integer(const std::string& opcode, const Words& words) {
  const Type type = type_of(words.back());
  if (type == Type::kNone || format_of(type) != nullptr || type == Type::kPred) return std::nullopt;
  const int width = width_of(type);
  const std::string name = joined(std::span(words).first(words.size() - 1), ".");
  using Function = std::function<Signed128(Signed128, Signed128, Signed128)>;
  const auto make = [&](std::vector<Type> sources, Type result, const Function& f) {
    return plan(opcode, sources, {result}, [=](const Bits* in, Bits* out) {
      Signed128 x[3] = {};
      for (std::size_t i = 0; i < sources.size() && i < 3; ++i) x[i] = number(sources[i], in[i]);
      out[0] = in_register(result, f(x[0], x[1], x[2]));
    });
  };
  const std::vector<Type> one = {type};
  const std::vector<Type> two = {type, type};
  const std::vector<Type> three = {type, type, type};
  const auto product = [](Signed128 a, Signed128 b) {
    return static_cast<Signed128>(static_cast<Unsigned128>(a) * static_cast<Unsigned128>(b));
  };
  const auto high = [=](Signed128 a, Signed128 b) {
    return static_cast<Signed128>(static_cast<Unsigned128>(product(a, b)) >> width);
  };
  if (name == "add") return make(two, type, [](auto a, auto b, auto) { return a + b; });
  if (name == "sub") return make(two, type, [](auto a, auto b, auto) { return a - b; });
  if (name == "add.sat") return make(two, type, [=](auto a, auto b, auto) { return clamp(type, a + b); });
  if (name == "sub.sat") return make(two, type, [=](auto a, auto b, auto) { return clamp(type, a - b); });
  if (name == "mul.lo") return make(two, type, [=](auto a, auto b, auto) { return product(a, b); });
  if (name == "mul.hi") return make(two, type, [=](auto a, auto b, auto) { return high(a, b); });
  if (name == "mad.lo") return make(three, type, [=](auto a, auto b, auto c) { return product(a, b) + c; });
  if (name == "mad.hi") return make(three, type, [=](auto a, auto b, auto c) { return high(a, b) + c; });
  if (name == "mad.hi.sat")
    return make(three, type,
                [=](auto a, auto b, auto c) { return clamp(type, (product(a, b) >> width) + c); });
  if (name == "mul.wide" || name == "mad.wide") {
    const Type twice = type_of(words.back()[0] + std::to_string(2 * width));
    if (name == "mul.wide") return make(two, twice, [=](auto a, auto b, auto) { return product(a, b); });
    return make({type, type, twice}, twice, [=](auto a, auto b, auto c) { return product(a, b) + c; });
  }
  if (words[0] == "mul24" || words[0] == "mad24") {
    // Of the low 24 bits of both: the product has 48.
    const auto low = [=](Signed128 x) {
      const auto bits = static_cast<std::int64_t>(x) & 0xffffff;
      return is_signed(type) && (bits & 0x800000) != 0 ? bits - 0x1000000 : bits;
    };
    if (name == "mul24.lo")
      return make(two, type, [=](auto a, auto b, auto) { return Signed128{low(a)} * low(b); });
    if (name == "mul24.hi")
      return make(two, type, [=](auto a, auto b, auto) { return (Signed128{low(a)} * low(b)) >> 16; });
    if (name == "mad24.lo")
      return make(three, type, [=](auto a, auto b, auto c) { return Signed128{low(a)} * low(b) + c; });
  }
  if (name == "sad")
    return make(three, type, [](auto a, auto b, auto c) { return c + (a < b ? b - a : a - b); });
  if (name == "div" || name == "rem") {
    // The ISA leaves division by zero open; the most negative number by -1 too.
    Plan made = make(two, type, [=](auto a, auto b, auto) { return name == "div" ? a / b : a % b; });
    made.adjust = [=](Bits* in, std::uint32_t) {
      const bool overflows =
          is_signed(type) && number(type, in[1]) == -1 && number(type, in[0]) == -largest(type) - 1;
      if (number(type, in[1]) == 0 || overflows) in[1] = 3;
    };
    return made;
  }
  if (name == "abs") return make(one, type, [](auto a, auto, auto) { return a < 0 ? -a : a; });
  if (name == "neg") return make(one, type, [](auto a, auto, auto) { return -a; });
  if (name == "min") return make(two, type, [](auto a, auto b, auto) { return std::min(a, b); });
  if (name == "max") return make(two, type, [](auto a, auto b, auto) { return std::max(a, b); });
  if (name == "and") return make(two, type, [](auto a, auto b, auto) { return a & b; });
  if (name == "or") return make(two, type, [](auto a, auto b, auto) { return a | b; });
  if (name == "xor") return make(two, type, [](auto a, auto b, auto) { return a ^ b; });
  if (name == "not") return make(one, type, [](auto a, auto, auto) { return ~a; });
  if (name == "cnot") return make(one, type, [](auto a, auto, auto) { return a == 0 ? 1 : 0; });
  if (name == "shl")
    return make({type, Type::kU32}, type,
                [=](auto a, auto n, auto) { return n >= width ? 0 : product(a, Signed128{1} << n); });
  if (name == "shr")
    return make({type, Type::kU32}, type,
                [=](auto a, auto n, auto) { return a >> (n > width ? width : static_cast<int>(n)); });
  const auto bit = [](Signed128 x, int i) { return static_cast<unsigned>(x >> i) & 1U; };
  if (name == "popc" || name == "clz" || name == "brev") {
    return make(one, name == "brev" ? type : Type::kU32, [=](auto a, auto, auto) {
      Signed128 ones = 0;
      Signed128 zeros = 0;
      Signed128 reversed = 0;
      for (int i = 0; i < width; ++i) {
        ones += bit(a, i);
        zeros = bit(a, i) != 0 ? 0 : zeros + 1;
        reversed |= Signed128{bit(a, i)} << (width - 1 - i);
      }
      return name == "popc" ? ones : (name == "clz" ? zeros : reversed);
    });
  }
  if (words[0] == "bfind") {
    return make(one, Type::kU32, [=](auto a, auto, auto) -> Signed128 {
      const Signed128 x = a < 0 ? ~a : a;
      for (int i = width - 1; i >= 0; --i) {
        if (bit(x, i) != 0) return has(words, "shiftamt") ? width - 1 - i : i;
      }
      return -1;
    });
  }
  if (name == "bfe") {
    return make({type, Type::kU32, Type::kU32}, type, [=](auto a, auto b, auto c) {
      const int position = static_cast<int>(b & 0xff);
      const int length = static_cast<int>(c & 0xff);
      const bool sign =
          is_signed(type) && length != 0 && bit(a, std::min(position + length - 1, width - 1)) != 0;
      Signed128 d = 0;
      for (int i = 0; i < width; ++i) {
        const unsigned one_bit = i < length && position + i < width ? bit(a, position + i) : (sign ? 1U : 0U);
        d |= Signed128{one_bit} << i;
      }
      return d;
    });
  }
  if (name == "bfi") {
    return plan(opcode, {type, type, Type::kU32, Type::kU32}, {type}, [=](const Bits* in, Bits* out) {
      const int position = static_cast<int>(in[2] & 0xff);
      const int length = static_cast<int>(in[3] & 0xff);
      out[0] = in_register(type, static_cast<Signed128>(in[1]));
      for (int i = 0; i < length && position + i < width; ++i) {
        out[0] &= ~(Bits{1} << (position + i));
        out[0] |= (in[0] >> i & 1U) << (position + i);
      }
    });
  }
  if (words[0] == "shf") {
    return make({type, type, Type::kU32}, type, [=](auto a, auto b, auto c) {
      const int n =
          has(words, "wrap") ? static_cast<int>(c & 31) : static_cast<int>(std::min<Signed128>(c, 32));
      return has(words, "l") ? (b << n) | (a >> (32 - n)) : (b << (32 - n)) | (a >> n);
    });
  }
  if (words[0] == "bmsk") {
    return make({type, type}, type, [=](auto a, auto b, auto) {
      const bool clamps = has(words, "clamp");
      const auto from = clamps ? std::min<Signed128>(a, 32) : a & 31;
      const auto n = clamps ? std::min<Signed128>(b, 32) : b & 31;
      return ((Signed128{1} << n) - 1) << from;
    });
  }
  if (words[0] == "szext") {
    return make({type, Type::kU32}, type, [=](auto a, auto b, auto) {
      const auto n = static_cast<int>(has(words, "clamp") ? std::min<Signed128>(b, 32) : b & 31);
      const Signed128 low = a & ((Signed128{1} << n) - 1);
      return is_signed(type) && n != 0 && bit(a, n - 1) != 0 ? low - (Signed128{1} << n) : low;
    });
  }
  if (words[0] == "dp4a" || words[0] == "dp2a") {
    const bool a_signed = words[words.size() - 2] == "s32";
    const bool b_signed = words.back() == "s32";
    const Type result = a_signed || b_signed ? Type::kS32 : Type::kU32;
    return plan(opcode, {Type::kU32, Type::kU32, Type::kU32}, {result}, [=](const Bits* in, Bits* out) {
      const Type byte = b_signed ? Type::kS8 : Type::kU8;
      Signed128 sum = static_cast<Signed128>(in[2]);
      for (int i = 0; i < (words[0] == "dp4a" ? 4 : 2); ++i) {
        const int b_at = 8 * (has(words, "hi") ? i + 2 : i);
        const Signed128 a = words[0] == "dp4a"
                                ? number(a_signed ? Type::kS8 : Type::kU8, in[0] >> (8 * i))
                                : number(a_signed ? Type::kS16 : Type::kU16, in[0] >> (16 * i));
        sum += a * number(byte, in[1] >> b_at);
      }
      out[0] = in_register(result, sum);
    });
  }
  return std::nullopt;
}

Plan permutes(const std::string& opcode, const Words& words) {
  const Type type = Type::kB32;
  const std::string mode = words.size() == 3 ? words[2] : "";
  return plan(opcode, {type, type, type}, {type}, [=](const Bits* in, Bits* out) {
    static const std::map<std::string, std::vector<Bits>> kPicks = {
        {"f4e", {0x3210, 0x4321, 0x5432, 0x6543}}, {"b4e", {0x5670, 0x6701, 0x7012, 0x0123}},
        {"rc8", {0x0000, 0x1111, 0x2222, 0x3333}}, {"ecl", {0x3210, 0x3211, 0x3222, 0x3333}},
        {"ecr", {0x0000, 0x1110, 0x2210, 0x3210}}, {"rc16", {0x1010, 0x3232, 0x1010, 0x3232}}};
    const Bits picks = mode.empty() ? in[2] : kPicks.at(mode)[in[2] & 3U];
    out[0] = 0;
    for (int i = 0; i < 4; ++i) {
      const Bits pick = picks >> (4 * i) & 15U;
      const Bits byte = ((pick & 4U) != 0 ? in[1] : in[0]) >> (8 * (pick & 3U)) & 0xffU;
      out[0] |= ((pick & 8U) == 0 ? byte : ((byte & 0x80U) != 0 ? 0xffU : 0U)) << (8 * i);
    }
  });
}

// add.cc and its kin: the carry comes from an addition before, the borrow from a subtraction, and is read by an addition after,
// which finds a borrow's opposite: hardware adds ~b.
std::optional<Plan> with_carry(const std::string& opcode, const Words& words) {
  const Type type = type_of(words.back());
  const bool multiplies = words[0].starts_with("mad");
  const bool subtracts = words[0].starts_with("sub");
  const bool takes = words[0].ends_with('c');
  const bool gives = has(words, "cc");
  const std::size_t n = multiplies ? 3 : 2;
  std::vector<Type> sources(n, type);
  sources.push_back(Type::kU32);
  const std::string carry = "%s" + std::to_string(n);
  Plan made = plan(opcode, sources, {type, Type::kU32}, [=](const Bits* in, Bits* out) {
    const auto unsigned_value = [&](std::size_t i) {
      return static_cast<Unsigned128>(in[i] << (64 - width_of(type)) >> (64 - width_of(type)));
    };
    const Unsigned128 carried = takes ? in[n] & 1U : 0;
    const Unsigned128 all = (Unsigned128{1} << width_of(type)) - 1;
    Unsigned128 a = unsigned_value(0);
    if (multiplies) {
      const auto product =
          static_cast<Unsigned128>(number(type, in[0])) * static_cast<Unsigned128>(number(type, in[1]));
      a = (has(words, "hi") ? product >> width_of(type) : product) & all;
    }
    const Unsigned128 b = unsigned_value(n - 1);
    const Unsigned128 sum = subtracts ? a - b - carried : a + b + carried;
    out[0] = in_register(type, static_cast<Signed128>(sum));
    const Bits over = gives ? static_cast<Bits>(sum >> width_of(type)) & 1U : in[n] & 1U;
    out[1] = subtracts ? 1 - over : over;
  });
  made.body = (subtracts ? "sub.cc.u32 %r1, 0, " + carry : "add.cc.u32 %r1, " + carry + ", 0xffffffff") +
              ";\n" + opcode + " %d0";
  for (std::size_t i = 0; i < n; ++i) made.body += ", %s" + std::to_string(i);
  made.body += ";\naddc.u32 %d1, 0, 0;";
  made.adjust = [=](Bits* in, std::uint32_t) { in[n] &= 1U; };
  return made;
}

// --- Floating point ---

// f of one element's bits, for each of the type's.
Plan elementwise(const std::string& opcode, Type type, std::size_t n,
                 const std::function<Bits(const Format&, const Bits*)>& f) {
  const Format& format = *format_of(type);
  Plan made = plan(opcode, std::vector<Type>(n, type), {type}, [=, &format](const Bits* in, Bits* out) {
    out[0] = 0;
    for (int at = 0; at < width_of(type); at += format.bits()) {
      Bits element[3] = {};
      for (std::size_t i = 0; i < n; ++i) element[i] = in[i] >> at & (format.sign() | format.nan());
      out[0] |= f(format, element) << at;
    }
  });
  made.any_nan = type != Type::kF32;
  return made;
}

Bits smaller(const Format& format, Bits a, Bits b, const Words& words) {
  const bool largest_wanted = words[0] == "max";
  if (format.is_nan(a) && format.is_nan(b)) return format.nan();
  if (format.is_nan(a) || format.is_nan(b))
    return has(words, "NaN") ? format.nan() : (format.is_nan(a) ? b : a);
  const int order = exact::compare(exact::read(format, a), exact::read(format, b));
  const bool a_less = order != 0 ? order < 0 : (a & format.sign()) != 0;  // -0 < +0
  return a_less != largest_wanted ? a : b;
}

// What a real function of one operand comes to, and the error that the ISA allows it in single precision, the largest of
// these: units of the last place, relative to the result, absolute.
struct Approximation {
  double (*f)(double);
  int places = 0;
  double relative = 0, absolute = 0;
};
const std::map<std::string, Approximation>& approximations() {
  static const std::map<std::string, Approximation> all = {
      {"rcp", {[](double x) { return 1 / x; }, 1}},
      {"sqrt", {[](double x) { return std::sqrt(x); }, 0, 0x1p-23}},
      {"rsqrt", {[](double x) { return 1 / std::sqrt(x); }, 0, std::exp2(-22.9)}},
      {"sin", {[](double x) { return std::sin(x); }, 0, 0, std::exp2(-20.5)}},
      {"cos", {[](double x) { return std::cos(x); }, 0, 0, std::exp2(-20.5)}},
      {"lg2", {[](double x) { return std::log2(x); }, 0, 0x1p-22, 0x1p-22}},
      {"ex2", {[](double x) { return std::exp2(x); }, 2}},
      {"tanh", {[](double x) { return std::tanh(x); }, 0, 0x1p-11}}};
  return all;
}
double real_of(const Format& format, Bits bits) {
  const Value x = exact::read(format, bits);
  if (x.is_nan()) return std::nan("");
  const double magnitude =
      x.is_infinite() ? HUGE_VAL : std::ldexp(static_cast<double>(x.significand), x.exponent);
  return x.negative ? -magnitude : magnitude;
}

std::optional<Plan> approximate(const std::string& opcode, const Words& words) {
  const Type type = type_of(words.back());
  const auto found = approximations().find(words[0]);
  if (found == approximations().end()) return std::nullopt;
  // In double precision .ftz also means that the lower halves of the operand's and the result's bits don't count, and that there
  // is one NaN.
  const bool flushes = has(words, "ftz");
  const bool upper = flushes && type == Type::kF64;
  Approximation bound = found->second;
  const auto f = bound.f;
  Plan made = elementwise(opcode, type, 1, [=](const Format& format, const Bits* in) {
    const Bits x = flushes ? flush(format, upper ? in[0] >> 32U << 32U : in[0]) : in[0];
    const double y = f(real_of(format, x));
    if (upper && std::isnan(y)) return format.nan() >> 32U << 32U;
    const Bits result = exact::write(format, exact::read(exact::kF64, std::bit_cast<Bits>(y)));
    return flushes ? flush(format, result) : result;
  });
  const bool any_nan = type != Type::kF32 && !upper;
  made.any_nan = any_nan;
  const bool brain = type == Type::kBF16 || type == Type::kBF16x2;
  if (type == Type::kF64)
    bound = {.f = f, .relative = 0x1p-20};  // "gross": of 20 bits of fraction
  else if (type != Type::kF32 && words[0] == "tanh")
    bound = {.f = f, .absolute = brain ? 0x1p-8 : std::exp2(-10.987)};
  else if (type != Type::kF32)
    bound = {.f = f, .relative = brain ? 0x1p-7 : std::exp2(-9.9)};
  made.accepts = [=](Bits expected, Bits got) {
    const Format& format = *format_of(type);
    if (upper && (got & 0xffffffffU) != 0) return false;
    for (int at = 0; at < width_of(type); at += format.bits()) {
      const Bits e_bits = expected >> at & (format.sign() | format.nan());
      const Bits g_bits = got >> at & (format.sign() | format.nan());
      const double e = real_of(format, e_bits);
      const double g = real_of(format, g_bits);
      if (e_bits == g_bits || (any_nan && std::isnan(e) && std::isnan(g))) continue;
      const int exponent = std::max(e == 0 ? INT_MIN : std::ilogb(e), 1 - format.bias());
      const double place = std::ldexp(1, exponent - format.fraction_bits);
      const double allowed = std::max({bound.places * place, bound.relative * std::abs(e), bound.absolute});
      if (!(std::abs(e - g) <= allowed) || (e == 0 && g == 0)) return false;
    }
    return true;
  };
  if (words[0] == "sin" || words[0] == "cos") {  // bounded from -2 π to 2 π, and defined at infinity
    made.adjust = [](Bits* in, std::uint32_t) {
      const float x = std::bit_cast<float>(static_cast<std::uint32_t>(in[0]));
      if (std::abs(x) > 6.283F && !std::isinf(x))
        in[0] = std::bit_cast<std::uint32_t>(std::remainder(x, 12.56F));
    };
  }
  return made;
}

std::optional<Plan> real(const std::string& opcode, const Words& words) {
  const Type type = type_of(words.back());
  if (format_of(type) == nullptr) return std::nullopt;
  const Mode mode = mode_of(words);
  const bool flushes = has(words, "ftz");
  const std::string& name = words[0];
  if (has(words, "approx") && name != "div") return approximate(opcode, words);
  if (name == "min" || name == "max") {
    Plan made = elementwise(opcode, type, 2, [=](const Format& format, const Bits* in) {
      Bits a = flushes ? flush(format, in[0]) : in[0];
      Bits b = flushes ? flush(format, in[1]) : in[1];
      if (!has(words, "xorsign")) return smaller(format, a, b, words);
      const Bits sign = (a ^ b) & format.sign();
      a &= format.nan();
      b &= format.nan();
      const Bits chosen = smaller(format, a, b, words);
      return format.is_nan(chosen) ? chosen : chosen | sign;
    });
    made.any_nan = type == Type::kF64 || has(words, "xorsign");
    return made;
  }
  if (name == "neg" || name == "abs") {
    Plan made = elementwise(opcode, type, 1, [=](const Format& format, const Bits* in) {
      const Bits a = flushes ? flush(format, in[0]) : in[0];
      return name == "neg" ? a ^ format.sign() : a & format.nan();
    });
    made.any_nan = true;
    if (name == "abs" &&
        type == Type::kF64)  // passes NaN through unchanged; of its sign the text says nothing
      made.accepts = [](Bits expected, Bits got) { return (expected ^ got) << 1U == 0; };
    if (name == "abs" && type == Type::kF64) made.any_nan = false;
    return made;
  }
  if (name == "copysign") {
    Plan made = elementwise(opcode, type, 2, [](const Format& format, const Bits* in) {
      return (in[0] & format.sign()) | (in[1] & format.nan());
    });
    made.any_nan = false;
    return made;
  }
  static const std::map<std::string, std::pair<std::size_t, std::function<Value(const Value*, Mode)>>>
      kOperations = {
          {"add", {2, [](const Value* x, Mode m) { return exact::add(x[0], x[1], m); }}},
          {"sub", {2, [](const Value* x, Mode m) { return exact::add(x[0], exact::negate(x[1]), m); }}},
          {"mul", {2, [](const Value* x, Mode) { return exact::multiply(x[0], x[1]); }}},
          {"fma",
           {3, [](const Value* x, Mode m) { return exact::add(exact::multiply(x[0], x[1]), x[2], m); }}},
          {"mad",
           {3, [](const Value* x, Mode m) { return exact::add(exact::multiply(x[0], x[1]), x[2], m); }}},
          {"div", {2, [](const Value* x, Mode) { return exact::divide(x[0], x[1]); }}},
          {"rcp", {1, [](const Value* x, Mode) { return exact::divide(exact::integer(1), x[0]); }}},
          {"sqrt", {1, [](const Value* x, Mode) { return exact::root(x[0]); }}}};
  const auto found = kOperations.find(name);
  if (found == kOperations.end()) return std::nullopt;
  const auto& [n, f] = found->second;
  const auto count = n;
  const auto operation = f;
  const bool fast = has(words, "approx") || has(words, "full");
  Plan made = elementwise(opcode, type, n, [=](const Format& format, const Bits* in) {
    Value x[3];
    for (std::size_t i = 0; i < count; ++i)
      x[i] = exact::read(format, flushes ? flush(format, in[i]) : in[i]);
    // div.approx: beyond 2^126 the quotient is zero, of infinity NaN.
    if (has(words, "approx") &&
        exact::compare({x[1].kind, false, x[1].significand, x[1].exponent},
                       {Value::Kind::kFinite, false, 1, 126}) == 1 &&
        !x[1].is_infinite()) {
      return x[0].is_nan() || x[0].is_infinite() ? format.nan()
                                                 : (x[0].negative != x[1].negative ? format.sign() : 0);
    }
    Bits result = exact::write(format, operation(x, mode), mode);
    if (flushes) result = flush(format, result);
    if (has(words, "sat")) result = saturate(format, result);
    return has(words, "relu") ? relu(format, result) : result;
  });
  if (has(words, "sat") || has(words, "relu")) made.any_zero = true;
  if (fast) {  // within 2 units of the last place, of the same sign
    made.accepts = [](Bits expected, Bits got) {
      const auto magnitude = [](Bits x) { return static_cast<std::int64_t>(x & 0x7fffffffU); };
      return !exact::kF32.is_nan(expected) && !exact::kF32.is_nan(got) && (expected ^ got) >> 31U == 0 &&
             std::abs(magnitude(expected) - magnitude(got)) <= 2;
    };
  }
  if (has(words, "approx")) {  // of divisors below 2^-126 the text says nothing
    made.adjust = [](Bits* in, std::uint32_t) {
      in[1] = (in[1] & 0x7f800000U) == 0 ? in[1] & ~Bits{0x7fffffffU} : in[1];
    };
  }
  return made;
}

// --- Comparison and selection ---

using Comparison = std::function<bool(Bits, Bits)>;

Comparison comparison(const Words& words, Type type) {
  const std::string& name = words[1];
  const Format* format = format_of(type);
  const bool flushes = has(words, "ftz");
  return [=](Bits a, Bits b) {
    int order = 0;
    if (format != nullptr) {
      order = exact::compare(exact::read(*format, flushes ? flush(*format, a) : a),
                             exact::read(*format, flushes ? flush(*format, b) : b));
    } else {
      const Signed128 x = number(type, a);
      const Signed128 y = number(type, b);
      order = x < y ? -1 : (x > y ? 1 : 0);
    }
    if (name == "num") return order != 2;
    if (name == "nan") return order == 2;
    const bool unordered_too = format != nullptr && name.size() == 3;
    if (order == 2) return unordered_too;
    const std::string relation = name.substr(0, 2);
    if (relation == "eq") return order == 0;
    if (relation == "ne") return order != 0;
    if (relation == "lt" || relation == "lo") return order < 0;
    if (relation == "le" || relation == "ls") return order <= 0;
    if (relation == "gt" || relation == "hi") return order > 0;
    return order >= 0;
  };
}

bool combine(const Words& words, bool holds, bool c) {
  if (has(words, "and")) return holds && c;
  if (has(words, "or")) return holds || c;
  return has(words, "xor") ? holds != c : holds;
}

std::optional<Plan> compares(const std::string& opcode, const Words& words) {
  const Type type = type_of(words.back());
  const bool combined = has(words, "and") || has(words, "or") || has(words, "xor");
  const bool packed = is_packed(type);
  const Type element = type == Type::kF16x2 ? Type::kF16 : (packed ? Type::kBF16 : type);
  const Comparison holds = comparison(words, element);
  std::vector<Type> sources = {type, type};
  if (combined) sources.push_back(Type::kPred);
  const auto low = [](Bits x) { return x & 0xffffU; };
  if (words[0] == "setp") {
    Plan made = plan(opcode, sources, {Type::kPred, Type::kPred}, [=](const Bits* in, Bits* out) {
      const bool first = packed ? holds(low(in[0]), low(in[1])) : holds(in[0], in[1]);
      const bool second = packed ? holds(in[0] >> 16U & 0xffffU, in[1] >> 16U & 0xffffU) : !first;
      out[0] = combine(words, first, in[2] != 0) ? 1 : 0;
      out[1] = combine(words, second, in[2] != 0) ? 1 : 0;
    });
    const bool half = type == Type::kF16 || type == Type::kBF16;  // without a complement
    made.body = opcode + (half ? " %d0, %s0, %s1" : " %d0|%d1, %s0, %s1") + (combined ? ", %s2;" : ";");
    if (half) made.results.pop_back();
    return made;
  }
  const Type to = type_of(words[words.size() - 2]);
  return plan(opcode, sources, {to}, [=](const Bits* in, Bits* out) {
    const auto one = [&](bool value, Type kind) -> Bits {
      if (!value) return 0;
      const Format* format = format_of(kind);
      if (format != nullptr) return static_cast<Bits>(format->bias()) << format->fraction_bits;
      return in_register(kind, packed ? 0xffff : -1);
    };
    if (!packed) {
      out[0] = one(combine(words, holds(in[0], in[1]), in[2] != 0), to);
      return;
    }
    const Bits below = one(combine(words, holds(low(in[0]), low(in[1])), in[2] != 0), to);
    const Bits above =
        one(combine(words, holds(in[0] >> 16U & 0xffffU, in[1] >> 16U & 0xffffU), in[2] != 0), to);
    out[0] = (above & 0xffffU) << 16U | (below & 0xffffU);
  });
}

std::optional<Plan> selects(const std::string& opcode, const Words& words) {
  const Type type = type_of(words[0] == "selp" ? words.back() : words[words.size() - 2]);
  if (words[0] == "selp") {
    return plan(opcode, {type, type, Type::kPred}, {type},
                [](const Bits* in, Bits* out) { out[0] = in[2] != 0 ? in[0] : in[1]; });
  }
  const Type chooser = type_of(words.back());
  return plan(opcode, {type, type, chooser}, {type}, [=](const Bits* in, Bits* out) {
    bool first = number(Type::kS32, in[2]) >= 0;
    if (chooser == Type::kF32) {
      const Bits c = has(words, "ftz") ? flush(exact::kF32, in[2] & 0xffffffffU) : in[2] & 0xffffffffU;
      const int order = exact::compare(exact::read(exact::kF32, c), exact::zero(false));
      first = order == 0 || order == 1;
    }
    out[0] = first ? in[0] : in[1];
  });
}

std::optional<Plan> tests_property(const std::string& opcode, const Words& words) {
  const Type type = type_of(words.back());
  return plan(opcode, {type}, {Type::kPred}, [=](const Bits* in, Bits* out) {
    const Format& format = *format_of(type);
    const Bits x = in[0] & format.nan();
    const bool subnormal = x != 0 && (x & format.infinity()) == 0;
    const std::map<std::string, bool> is = {
        {"finite", x < format.infinity()},
        {"infinite", x == format.infinity()},
        {"number", x <= format.infinity()},
        {"notanumber", x > format.infinity()},
        {"normal", x < format.infinity() && !subnormal},  // zeros count as normal
        {"subnormal", subnormal}};
    out[0] = is.at(words[1]) ? 1 : 0;
  });
}

// --- Conversion ---

Bits convert(const Words& words, Type to, Type from, Bits bits) {
  const Format* source = format_of(from);
  const Format* target = format_of(to);
  const bool flushes = has(words, "ftz");
  const bool saturates = has(words, "sat");
  const bool integral = has(words, "rni") || has(words, "rzi") || has(words, "rmi") || has(words, "rpi");
  const Mode mode = mode_of(words);
  Value x = source == nullptr
                ? exact::integer(number(from, bits))
                : exact::read(*source, flushes && from == Type::kF32 ? flush(*source, bits) : bits);
  if (integral) x = exact::to_integral(x, mode);
  if (to == Type::kTF32) return exact::write(exact::kTF32, x, Mode::kAway) << 13U;
  if (target == nullptr) {
    if (source == nullptr)
      return in_register(to, saturates ? clamp(to, number(from, bits)) : number(from, bits));
    // NaN is zero, but the highest bit where one side has 64 bits.
    if (x.is_nan())
      return from == Type::kF64 || size_of(to) == 8 ? in_register(to, Signed128{1} << (width_of(to) - 1)) : 0;
    const bool huge = x.is_infinite() || (!x.is_zero() && exact::bit_length(x.significand) + x.exponent > 66);
    const Signed128 magnitude =
        huge ? Signed128{1} << 100 : static_cast<Signed128>(exact::to_units(x, 0, Mode::kZero));
    return in_register(to, clamp(to, x.negative ? -magnitude : magnitude));
  }
  Bits result = exact::write(*target, x, mode);
  if (flushes && to == Type::kF32) result = flush(*target, result);
  if (saturates) result = saturate(*target, result);
  return has(words, "relu") ? relu(*target, result) : result;
}

std::optional<Plan> converts(const std::string& opcode, const Words& words, bool wide) {
  const Type to = type_of(words[words.size() - 2]);
  const Type from = type_of(words.back());
  if (is_packed(to)) {
    Plan made = plan(opcode, {from, from}, {to}, [=](const Bits* in, Bits* out) {
      const Type half = to == Type::kF16x2 ? Type::kF16 : Type::kBF16;
      out[0] = convert(words, half, from, in[0] & 0xffffffffU) << 16U |
               convert(words, half, from, in[1] & 0xffffffffU);
    });
    made.any_zero = has(words, "relu");
    return made;
  }
  Plan made = plan(opcode, {from}, {to == Type::kTF32 ? Type::kB32 : to}, [=](const Bits* in, Bits* out) {
    const int above = 64 - width_of(from);
    out[0] = convert(words, to, from, in[0] << above >> above);
    if (to == Type::kTF32 && exact::kF32.is_nan(out[0])) out[0] = exact::kF32.nan();
  });
  made.any_nan = true;
  made.any_zero = has(words, "relu") || has(words, "sat");
  made.wide = wide;
  return made;
}

std::vector<Case> moves(const std::string& opcode, const Words& words) {
  const Type type = type_of(words[1]);
  std::vector<Case> cases = {
      {opcode, plan(opcode, {type}, {type}, [](const Bits* in, Bits* out) { out[0] = in[0]; })}};
  if (opcode == "mov.b32" || opcode == "mov.b64") {
    const bool words32 = type == Type::kB64;
    const Type part = words32 ? Type::kB32 : Type::kB16;
    const unsigned shift = words32 ? 32 : 16;
    const Bits all = (Bits{1} << shift) - 1;
    Plan pack = plan(opcode, {part, part}, {type},
                     [=](const Bits* in, Bits* out) { out[0] = in[1] << shift | (in[0] & all); });
    pack.body = opcode + " %d0, {%s0, %s1};";
    Plan unpack = plan(opcode, {type}, {part, part}, [=](const Bits* in, Bits* out) {
      out[0] = in[0] & all;
      out[1] = in[0] >> shift;
    });
    unpack.body = opcode + " {%d0, %d1}, %s0;";
    cases.push_back({opcode + " {}", pack});
    cases.push_back({opcode + " of {}", unpack});
  }
  if (opcode == "mov.b64") {
    const std::vector<Type> four(4, Type::kB16);
    Plan pack = plan(opcode, four, {type}, [](const Bits* in, Bits* out) {
      for (int i = 0; i < 4; ++i) out[0] |= (in[i] & 0xffffU) << (16 * i);
    });
    pack.body = opcode + " %d0, {%s0, %s1, %s2, %s3};";
    Plan unpack = plan(opcode, {type}, {Type::kB16, Type::kB16}, [](const Bits* in, Bits* out) {
      out[0] = in[0] >> 16U & 0xffffU;
      out[1] = in[0] >> 48U;
    });
    unpack.body = opcode + " {_, %d0, %h0, %d1}, %s0;";
    cases.push_back({opcode + " {4}", pack});
    cases.push_back({opcode + " of {4}", unpack});
  }
  return cases;
}

std::vector<Case> logic(const std::string& opcode) {
  std::vector<Case> cases;
  for (unsigned table = 0; table < 256; ++table) {
    Plan made =
        plan(opcode, {Type::kB32, Type::kB32, Type::kB32}, {Type::kB32}, [=](const Bits* in, Bits* out) {
          for (int i = 0; i < 32; ++i) {
            const Bits index = (in[0] >> i & 1U) << 2U | (in[1] >> i & 1U) << 1U | (in[2] >> i & 1U);
            out[0] |= (Bits{table} >> index & 1U) << i;
          }
        });
    made.body = opcode + " %d0, %s0, %s1, %s2, " + std::to_string(table) + ";";
    cases.push_back({opcode, std::move(made)});
  }
  return cases;
}

std::optional<Plan> of_predicates(const std::string& opcode, const Words& words) {
  if (words.back() != "pred") return std::nullopt;
  if (words[0] == "not")
    return plan(opcode, {Type::kPred}, {Type::kPred}, [](const Bits* in, Bits* out) { out[0] = in[0] ^ 1U; });
  return plan(opcode, {Type::kPred, Type::kPred}, {Type::kPred},
              [=](const Bits* in, Bits* out) { out[0] = combine(words, in[0] != 0, in[1] != 0) ? 1 : 0; });
}

std::vector<Case> cases_of(const std::string& opcode) {
  const Words words = split_opcode(opcode);
  const std::string& name = words[0];
  if (name == "mov") return moves(opcode, words);
  if (name == "prmt") return {{opcode, permutes(opcode, words)}};
  if (name == "lop3") return logic(opcode);
  if (name == "cvt") {
    const std::optional<Plan> narrow = converts(opcode, words, false);
    const bool can_be_wide =
        format_of(type_of(words.back())) == nullptr || format_of(type_of(words[words.size() - 2])) == nullptr;
    if (can_be_wide && words[words.size() - 2] != "tf32")
      return {{opcode, *narrow}, {opcode, *converts(opcode, words, true)}};
    return {{opcode, *narrow}};
  }
  std::optional<Plan> made;
  if (name == "setp" || name == "set")
    made = compares(opcode, words);
  else if (name == "selp" || name == "slct")
    made = selects(opcode, words);
  else if (name == "testp")
    made = tests_property(opcode, words);
  else if (has(words, "cc") || name == "addc" || name == "subc" || name == "madc")
    made = with_carry(opcode, words);
  if (!made) made = of_predicates(opcode, words);
  if (!made) made = real(opcode, words);
  if (!made) made = integer(opcode, words);
  if (!made) return {};
  return {{opcode, std::move(*made)}};
}

// Which have tests of their own, beside this file.
bool is_elsewhere(const std::string& opcode) {
  static const std::vector<std::string> kOthers = {
      "ld",        "ldu",  "st",   "atom",     "red",       "cvta",       "isspacep", "prefetch",
      "prefetchu", "cp",   "mma",  "ldmatrix", "movmatrix", "membar",     "fence",    "bar",
      "barrier",   "shfl", "vote", "match",    "redux",     "activemask", "bra",      "brx",
      "call",      "ret",  "exit", "trap",     "nanosleep"};
  return std::ranges::find(kOthers, opcode.substr(0, opcode.find('.'))) != kOthers.end();
}

std::vector<Case> all_cases() {
  std::vector<std::string> names = opcodes();
  std::erase_if(names, is_elsewhere);
  std::vector<Case> cases = cases_for(names, cases_of);
  EXPECT_GT(cases.size(), 4000U);
  return cases;
}

TEST(PtxInstruction, OfRegistersGivesWhatTheIsaSays) {
  expect_as_planned(all_cases(), 1);
}

TEST(PtxInexact, EveryFormStaysWithinItsBoundWhenItVaries) {
  std::vector<Case> cases = all_cases();
  std::erase_if(cases, [](const Case& one) {
    const Words words = split_opcode(one.opcode);
    return !has(words, "approx") && !has(words, "full");
  });
  EXPECT_GT(cases.size(), 25U);
  for (const std::uint64_t seed : {1U, 1001U, 2001U, 3001U}) expect_within_bounds(cases, seed);
}

TEST(PtxInstruction, OfRegistersIsOneOfTheAssemblers) {
  expect_as_assembled(all_cases());
}

}  // namespace
}  // namespace sluice::ptx
