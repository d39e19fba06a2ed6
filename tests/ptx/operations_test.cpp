// Every opcode that touches memory, other lanes or the order of execution, against the PTX ISA's text.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ptx/opcodes.h"
#include "tests/ptx/exact.h"
#include "tests/ptx/instruction.h"
#include "tests/ptx/ptx_run.h"

namespace sluice::ptx {
namespace {

using Bits = std::uint64_t;
using Cases = std::vector<Case>;

bool has(const Words& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}
Type type_of(const std::string& word) {
  return type_named(word).value_or(Type::kNone);
}
bool is_signed(Type type) {
  return type == Type::kS8 || type == Type::kS16 || type == Type::kS32 || type == Type::kS64;
}
bool is_float(Type type) {
  return type == Type::kF32 || type == Type::kF64;
}
Bits low_bits(Bits x, unsigned n) {
  return n >= 64 ? x : x & ((Bits{1} << n) - 1);
}

// 16 bytes of a state space: how a thread writes them from %s0 and %s1, and where they are.
struct Place {
  std::string space, fill, address;
  bool fixed = false;  // they are kFixed
  // An argument of a call that isn't made.
  bool is_argument() const { return space == "param" && !fixed; }
};

Place place_of(const Words& words) {
  if (has(words, "shared") || has(words, "shared::cta")) {
    return {"shared",
            ".shared .align 16 .b8 own[4096];\nmov.u64 %q7, own;\nmad.wide.u32 %q7, %t, 16, %q7;\n"
            "st.shared.v2.b64 [%q7], {%s0, %s1};\n",
            "%q7"};
  }
  if (has(words, "local"))
    return {"local", ".local .align 16 .b8 own[16];\nst.local.v2.b64 [own], {%s0, %s1};\n", "own"};
  if (has(words, "param::func") || (words[0] == "st" && has(words, "param")))
    return {"param", ".param .align 16 .b8 own[16];\nst.param.v2.b64 [own], {%s0, %s1};\n", "own"};
  if (has(words, "param") || has(words, "param::entry")) return {"param", "", "fixed", true};
  if (has(words, "const")) return {"const", "", "constant", true};
  return {"global", "", "%a"};
}

std::string policy(const Words& words) {
  return has(words, "L2::cache_hint") ? ", %q6" : "";
}

struct Vector {
  Type type = Type::kNone;
  std::size_t count = 1;
  unsigned bits() const { return 8 * size_of(type); }
  Bits element(const Bits* bytes, std::size_t i) const {
    const std::size_t at = i * bits();
    return low_bits(bytes[at / 64] >> (at % 64), bits());
  }
};
Vector vector_of(const Words& words) {
  return {type_of(words.back()), has(words, "v4") ? 4U : (has(words, "v2") ? 2U : 1U)};
}
// Registers of the natural width: halves, words or double words.
char natural(const Vector& vector) {
  return vector.bits() <= 16 ? 'h' : (vector.bits() == 32 ? 'r' : 'q');
}
std::string list(const Vector& vector, char name) {
  std::string text;
  for (std::size_t i = 0; i < vector.count; ++i) text += fmt::format("{}%{}{}", i == 0 ? "" : ", ", name, i);
  return vector.count == 1 ? text : "{" + text + "}";
}

constexpr Bits kMixer = 0x9e3779b97f4a7c15;

Cases load(const std::string& opcode, const Words& words) {
  const Vector vector = vector_of(words);
  const Place place = place_of(words);
  Cases cases;
  for (const bool wide : {false, true}) {
    if (wide && (is_float(vector.type) || natural(vector) == 'q')) continue;
    const char name = wide ? 'q' : natural(vector);
    const unsigned register_bits = wide ? 64 : std::max(vector.bits(), 16U);
    Plan plan{.sources = {Type::kB64, Type::kB64}, .results = {Type::kB64, Type::kB64}};
    plan.only_on_machine = place.is_argument();
    plan.body = place.fill +
                fmt::format("{} {}, [{}]{};\n", opcode, list(vector, name), place.address, policy(words));
    for (std::size_t i = 0; i < 4; ++i) {
      if (i >= vector.count)
        plan.body += fmt::format("mov.b64 %q{}, 0;\n", i);
      else if (name != 'q')
        plan.body += fmt::format("cvt.u64.u{} %q{}, %{}{};\n", register_bits, i, name, i);
    }
    plan.body += fmt::format("mad.lo.u64 %d0, %q1, {0}, %q0;\nmad.lo.u64 %d1, %q3, {0}, %q2;", kMixer);
    plan.expected = [=](const Bits* in, Bits* out) {
      Bits values[4] = {};
      for (std::size_t i = 0; i < vector.count; ++i) {
        values[i] = vector.element(place.fixed ? kFixed : in, i);
        const bool negative = is_signed(vector.type) && (values[i] >> (vector.bits() - 1)) != 0;
        if (negative && vector.bits() < 64)
          values[i] = low_bits(values[i] | ~Bits{0} << vector.bits(), register_bits);
      }
      out[0] = values[1] * kMixer + values[0];
      out[1] = values[3] * kMixer + values[2];
    };
    cases.push_back({opcode, std::move(plan)});
  }
  return cases;
}

Cases store(const std::string& opcode, const Words& words) {
  const Vector vector = vector_of(words);
  const Place place = place_of(words);
  Plan plan{.sources = std::vector<Type>(4, Type::kB64), .results = {Type::kB64, Type::kB64}};
  plan.only_on_machine = place.is_argument();
  plan.body =
      place.fill +
      fmt::format(
          "mov.b64 {{%h0, %h1, %h2, %h3}}, %s2;\nmov.b64 {{%r0, %r1}}, %s2;\nmov.b64 {{%r2, %r3}}, %s3;\n"
          "mov.b64 %q0, %s2;\nmov.b64 %q1, %s3;\n{0} [{1}], {2}{3};\nld.{4}.v2.b64 {{%d0, %d1}}, [{1}];",
          opcode, place.address, list(vector, natural(vector)), policy(words), place.space);
  plan.expected = [=](const Bits* in, Bits* out) {
    std::copy_n(in, 2, out);
    const unsigned step = std::max(vector.bits(), 16U);  // registers have 16 bits at least
    for (std::size_t i = 0; i < vector.count; ++i) {
      const Bits value = low_bits(in[2 + i * step / 64] >> (i * step % 64), vector.bits());
      const std::size_t at = i * vector.bits();
      out[at / 64] &= ~(low_bits(~Bits{0}, vector.bits()) << (at % 64));
      out[at / 64] |= value << (at % 64);
    }
  };
  return {{opcode, std::move(plan)}};
}

// --- Atomics ---

Bits changed(const Words& words, Type type, Bits old, Bits b, Bits c) {
  const unsigned bits = 8 * size_of(type);
  const auto number = [&](Bits x) {
    return is_signed(type) ? static_cast<std::int64_t>(x << (64 - bits)) >> (64 - bits) : 0;
  };
  const bool less = is_signed(type) ? number(old) < number(b) : old < b;
  if (has(words, "min")) return less ? old : b;
  if (has(words, "max")) return less ? b : old;
  if (has(words, "and")) return old & b;
  if (has(words, "or")) return old | b;
  if (has(words, "xor")) return old ^ b;
  if (has(words, "exch")) return b;
  if (has(words, "cas")) return old == b ? c : old;
  if (has(words, "inc")) return old >= b ? 0 : old + 1;
  if (has(words, "dec")) return old == 0 || old > b ? b : old - 1;
  const bool brain = type == Type::kBF16 || type == Type::kBF16x2;
  const bool half = type == Type::kF16 || type == Type::kF16x2;
  if (!is_float(type) && !brain && !half) return low_bits(old + b, bits);
  const exact::Format& format =
      brain ? exact::kBF16 : (half ? exact::kF16 : (type == Type::kF32 ? exact::kF32 : exact::kF64));
  const auto width = static_cast<unsigned>(format.bits());
  Bits sums = 0;
  for (unsigned at = 0; at < bits; at += width) {
    const auto part = [&](Bits x) { return exact::read(format, low_bits(x >> at, width)); };
    sums |= exact::write(format, exact::add(part(old), part(b))) << at;
  }
  return sums;
}

Cases atomic(const std::string& opcode, const Words& words) {
  const Type type = type_of(words.back());
  const bool returns = words[0] == "atom";
  const bool swaps = has(words, "cas");
  const bool shared = has(words, "shared") || has(words, "shared::cta");
  const std::string space = shared ? "shared" : "global";
  const unsigned bits = 8 * size_of(type);
  Plan plan{.sources = std::vector<Type>(swaps ? 3 : 2, type)};
  plan.results.assign(returns ? 2 : 1, type);
  plan.any_nan = true;
  const std::string address = shared ? "%q7" : "%a";
  if (shared) {
    plan.body = ".shared .align 8 .b8 own[2048];\nmov.u64 %q7, own;\nmad.wide.u32 %q7, %t, 8, %q7;\n";
    plan.body += fmt::format("st.shared.b{} [%q7], %s0;\n", bits);
  }
  plan.body +=
      fmt::format("{} {}[{}], %s1{}{};\nld.{}.b{} %d{}, [{}];", opcode, returns ? "%d0, " : "", address,
                  swaps ? ", %s2" : "", policy(words), space, bits, returns ? 1 : 0, address);
  plan.expected = [=](const Bits* in, Bits* out) {
    const Bits old = low_bits(in[0], bits);
    if (returns) out[0] = old;
    // Single precision flushes subnormal numbers in global memory, not in shared memory.
    const auto flushed = [&](Bits x) {
      const bool subnormal = type == Type::kF32 && !shared && (x & 0x7f800000U) == 0;
      return subnormal ? x & 0x80000000U : x;
    };
    const bool adds = type == Type::kF32 && has(words, "add");
    const Bits b = low_bits(in[1], bits);
    out[returns ? 1 : 0] = adds ? flushed(changed(words, type, flushed(old), flushed(b), 0))
                                : changed(words, type, old, b, low_bits(in[2], bits));
  };
  // Half of the comparisons hold.
  plan.adjust = [=](Bits* in, std::uint32_t thread) {
    if (swaps && thread % 2 != 0) in[1] = in[0];
  };
  return {{opcode, std::move(plan)}};
}

// --- Addresses ---

Cases address(const std::string& opcode, const Words& words) {
  const Place place = place_of(words);
  Plan plan{.sources = {Type::kB64, Type::kB64}};
  const std::string get =
      place.fill + (place.address[0] == '%' ? "mov.b64 %q0, " : "mov.u64 %q0, ") + place.address + ";\n";
  const std::string space = has(words, "param::entry") ? "param" : place.space;
  if (words[0] == "isspacep") {
    plan.results = {Type::kPred, Type::kPred};
    const bool global = place.space == "global";
    plan.body = get + fmt::format("cvta.{}.u64 %q1, %q0;\n{} %d0, %q1;\n", space, opcode);
    plan.body += global ? ".shared .b32 other;\nmov.u64 %q2, other;\ncvta.shared.u64 %q2, %q2;\n"
                        : "cvta.global.u64 %q2, %a;\n";
    plan.body += opcode + " %d1, %q2;";
    plan.expected = [](const Bits*, Bits* out) { out[0] = 1; };
    if (global) {  // the window of kernel parameters is in that of global memory
      Plan parameter = plan;
      parameter.body =
          "mov.b64 %q0, fixed;\ncvta.param.u64 %q1, %q0;\n" + opcode + " %d0, %q1;\n" + opcode + " %d1, %a;";
      parameter.expected = [](const Bits*, Bits* out) { out[0] = out[1] = 1; };
      return {{opcode, std::move(plan)}, {opcode, std::move(parameter)}};
    }
  } else {
    plan.results = {Type::kB64};
    plan.body =
        get + (has(words, "to") ? fmt::format("cvta.{0}.u64 %q1, %q0;\n{1} %q2, %q1;\nld.{0}.b64 %d0, [%q2];",
                                              space, opcode)
                                : fmt::format("{} %q1, %q0;\nld.b64 %d0, [%q1];", opcode));
    plan.expected = [=](const Bits* in, Bits* out) { out[0] = place.fixed ? kFixed[0] : in[0]; };
  }
  return {{opcode, std::move(plan)}};
}

Cases copy_async(const std::string& opcode, const Words& words) {
  Cases cases;
  const bool copies = has(words, "ca") || has(words, "cg");
  const std::string copy = copies ? opcode : "cp.async.ca.shared.global";
  const std::string wait = has(words, "commit_group") || has(words, "wait_group")
                               ? "cp.async.commit_group;\ncp.async.wait_group 0;"
                               : "cp.async.wait_all;";
  for (const unsigned size : {4U, 8U, 16U}) {
    if (size != 16 && has(words, "cg")) continue;
    for (const bool partly : {false, true}) {
      Plan plan{.sources = std::vector<Type>(4, Type::kB64), .results = {Type::kB64, Type::kB64}};
      plan.body = fmt::format(
          ".shared .align 16 .b8 own[4096];\nmov.u64 %q7, own;\nmad.wide.u32 %q7, %t, 16, %q7;\n"
          "st.shared.v2.b64 [%q7], {{%s2, %s3}};\nrem.u32 %r0, %t, {};\n{} [%q7], [%a], "
          "{}{};\n{}\nld.shared.v2.b64 {{%d0, %d1}}, [%q7];",
          size + 1, copy, size, partly ? ", %r0" : "", wait);
      plan.adjust = [](Bits* in, std::uint32_t thread) { in[4] = thread; };
      plan.expected = [=](const Bits* in, Bits* out) {
        std::copy_n(in + 2, 2, out);
        auto* bytes = reinterpret_cast<std::byte*>(out);
        std::memset(bytes, 0, size);
        std::memcpy(bytes, in, partly ? in[4] % (size + 1) : size);
      };
      cases.push_back({opcode, std::move(plan)});
    }
  }
  return cases;
}

// --- Lanes ---

Cases exchange(const std::string& opcode, const Words& words) {
  Cases cases;
  for (const std::uint32_t members : {~0U, 0xfffffU}) {
    Plan plan{.results = {Type::kB32}};
    const std::string& name = words[0];
    const bool taken_part = true;
    const auto in_members = [=](std::size_t i) { return taken_part && (members >> i & 1U) != 0; };
    const auto word = [](const Slots* in, std::size_t i, std::size_t slot) {
      return static_cast<std::uint32_t>(in[i][slot]);
    };
    if (name == "shfl") {
      plan.sources = {Type::kB32, Type::kB32, Type::kB32};
      plan.results = {Type::kB32, Type::kPred};
      plan.body = opcode + " %d0|%d1, %s0, %s1, %s2, %r9;";
      plan.warp = [=](const Slots* in, Bits(*out)[2]) {
        for (int lane = 0; lane < 32; ++lane) {
          if (!in_members(static_cast<std::size_t>(lane))) continue;
          const int b = static_cast<int>(in[lane][1] & 31U);
          const int c = static_cast<int>(in[lane][2] & 31U);
          const int segment = static_cast<int>(in[lane][2] >> 8U & 31U);
          const int max_lane = (lane & segment) | (c & ~segment);
          int j = lane;
          bool inside = false;
          if (has(words, "up")) {
            j = lane - b;
            inside = j >= max_lane;
          } else {
            j = has(words, "down") ? lane + b
                                   : (has(words, "bfly") ? lane ^ b : (lane & segment) | (b & ~segment));
            inside = j <= max_lane;
          }
          if (!inside) j = lane;
          out[lane][0] = low_bits(in[j][0], 32);
          out[lane][1] = inside ? 1 : 0;
        }
      };
      // With fewer members: each reads itself or a lane of its own segment of four.
      if (members != ~0U)
        plan.adjust = [=](Bits* in, std::uint32_t) {
          in[1] &= 3U;
          in[2] = has(words, "up") ? 0x1c00 : 0x1c03;
        };
    } else if (name == "vote") {
      plan.sources = {Type::kPred};
      if (!has(words, "ballot")) plan.results = {Type::kPred};
      plan.body = opcode + " %d0, %s0, %r9;";
      // Some warps are of one mind.
      plan.adjust = [](Bits* in, std::uint32_t thread) {
        in[0] = thread / 32 == 1 ? 1 : (thread / 32 == 2 ? 0 : in[0]);
      };
      plan.warp = [=](const Slots* in, Bits(*out)[2]) {
        std::uint32_t ballot = 0;
        for (unsigned i = 0; i < 32; ++i) ballot |= in_members(i) && in[i][0] != 0 ? 1U << i : 0;
        for (unsigned i = 0; i < 32; ++i) {
          if (!in_members(i)) continue;
          const bool all = ballot == members;
          out[i][0] =
              has(words, "ballot")
                  ? ballot
                  : (has(words, "all") ? all : (has(words, "any") ? ballot != 0 : all || ballot == 0));
        }
      };
    } else if (name == "match") {
      plan.sources = {type_of(words.back())};
      const bool all = has(words, "all");
      if (all) plan.results.push_back(Type::kPred);
      plan.body = opcode + (all ? " %d0|%d1, %s0, %r9;" : " %d0, %s0, %r9;");
      plan.adjust = [](Bits* in, std::uint32_t thread) {
        in[0] = thread < 64 ? 0x500000005 : (in[0] & 0x100000001U);
      };
      plan.warp = [=](const Slots* in, Bits(*out)[2]) {
        const unsigned bits = 8 * size_of(type_of(words.back()));
        for (unsigned i = 0; i < 32; ++i) {
          if (!in_members(i)) continue;
          for (unsigned j = 0; j < 32; ++j)
            out[i][0] |= in_members(j) && low_bits(in[i][0], bits) == low_bits(in[j][0], bits) ? 1U << j : 0;
          if (!all) continue;
          out[i][1] = out[i][0] == members ? 1 : 0;
          if (out[i][1] == 0) out[i][0] = 0;
        }
      };
    } else if (name == "redux") {
      const Type type = type_of(words.back());
      plan.sources = {type};
      plan.body = opcode + " %d0, %s0, %r9;";
      plan.warp = [=](const Slots* in, Bits(*out)[2]) {
        Bits sum = low_bits(in[0][0], 32);  // lane 0 is a member
        for (unsigned i = 1; i < 32; ++i) {
          if (in_members(i)) sum = changed(words, type, sum, word(in, i, 0), 0);
        }
        for (unsigned i = 0; i < 32; ++i) out[i][0] = in_members(i) ? sum : 0;
      };
    } else {  // activemask
      plan.body = opcode + " %d0;";
      plan.warp = [=](const Slots*, Bits(*out)[2]) {
        for (unsigned i = 0; i < 32; ++i) out[i][0] = in_members(i) ? members : 0;
      };
    }
    std::string begin;
    for (std::size_t i = 0; i < plan.results.size(); ++i)
      begin += plan.results[i] == Type::kPred ? fmt::format("setp.ne.u32 %d{}, 0, 0;\n", i)
                                              : fmt::format("mov.b32 %d{}, 0;\n", i);
    plan.body = begin +
                fmt::format(
                    "mov.b32 %r9, {};\nmov.u32 %r7, %laneid;\nshr.b32 %r8, {}, %r7;\nand.b32 %r8, %r8, "
                    "1;\nsetp.eq.u32 %p1, "
                    "%r8, 0;\n@%p1 bra over;\n",
                    members, members) +
                plan.body + "\nover:";
    cases.push_back({opcode, std::move(plan)});
  }
  return cases;
}

// --- Matrices ---

// Element (row, column) of the matrix of 8 × 8 halves whose row r lane `first` + r holds as 16 bytes.
Bits half_of(const Slots* in, int first, int row, int column) {
  return in[first + row][column / 4] >> (16 * (column % 4)) & 0xffffU;
}

Cases move_matrices(const std::string& opcode, const Words& words) {
  Plan plan{.sources = {Type::kB64, Type::kB64}, .results = {Type::kB64, Type::kB64}};
  if (words[0] == "movmatrix") {
    plan.body = "cvt.u32.u64 %r0, %s0;\n" + opcode + " %r1, %r0;\ncvt.u64.u32 %d0, %r1;\nmov.b64 %d1, 0;";
    plan.warp = [](const Slots* in, Bits(*out)[2]) {
      const auto element = [&](int r, int c) { return in[4 * r + c / 2][0] >> (16 * (c % 2)) & 0xffffU; };
      for (int lane = 0; lane < 32; ++lane) {
        const int r = lane / 4;
        const int c = lane % 4 * 2;
        out[lane][0] = element(c, r) | element(c + 1, r) << 16U;
      }
    };
    return {{opcode, std::move(plan)}};
  }
  const int n = has(words, "x4") ? 4 : (has(words, "x2") ? 2 : 1);
  const bool generic = !has(words, "shared") && !has(words, "shared::cta");
  const Words shared = {"ld", "shared"};
  plan.body = place_of(shared).fill + "bar.warp.sync 0xffffffff;\n" +
              (generic ? "cvta.shared.u64 %q7, %q7;\n" : "") +
              "mov.b32 %r0, 0;\nmov.b32 %r1, 0;\nmov.b32 %r2, 0;\nmov.b32 %r3, 0;\n" +
              fmt::format("{} {{{}}}, [%q7];\nmov.b64 %d0, {{%r0, %r1}};\nmov.b64 %d1, {{%r2, %r3}};", opcode,
                          n == 4 ? "%r0, %r1, %r2, %r3" : (n == 2 ? "%r0, %r1" : "%r0"));
  plan.warp = [=](const Slots* in, Bits(*out)[2]) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int m = 0; m < n; ++m) {
        const int r = lane / 4;
        const int c = lane % 4 * 2;
        const Bits low = has(words, "trans") ? half_of(in, 8 * m, c, r) : half_of(in, 8 * m, r, c);
        const Bits high = has(words, "trans") ? half_of(in, 8 * m, c + 1, r) : half_of(in, 8 * m, r, c + 1);
        out[lane][m / 2] |= (low | high << 16U) << (32 * (m % 2));
      }
    }
  };
  return {{opcode, std::move(plan)}};
}

struct At {
  int row, column;
};

// The ISA's figures of mma's fragments: where element i of a lane lies.
struct Layout {
  int m, k, per_register;
  At a(int lane, int i) const {
    const int group = lane / 4;
    const int thread = lane % 4;
    if (per_register == 2) return {group + (i / 2 % 2 != 0 ? 8 : 0), thread * 2 + i % 2 + (i < 4 ? 0 : 8)};
    if (per_register == 4) return {group + (i / 4 % 2 != 0 ? 8 : 0), thread * 4 + i % 4 + (i < 8 ? 0 : 16)};
    return {group + (i % 2 != 0 ? 8 : 0), thread + (i < 2 ? 0 : 4)};
  }
  At b(int lane, int i) const {
    const int thread = lane % 4;
    if (per_register == 2) return {thread * 2 + i % 2 + (i < 2 ? 0 : 8), lane / 4};
    if (per_register == 4) return {thread * 4 + i % 4 + (i < 4 ? 0 : 16), lane / 4};
    return {thread + 4 * i, lane / 4};
  }
  static At c(int lane, int i) { return {lane / 4 + (i < 2 ? 0 : 8), lane % 4 * 2 + i % 2}; }
};

// Whole numbers, so small that every order of the sum is exact, where numbers are floating.
Cases multiply(const std::string& opcode, const Words& words) {
  const std::string& shape = words[3];
  const std::size_t types = words.size() - 4;
  const Type to = type_of(words[types]);
  const Type a_type = type_of(words[types + 1]);
  const Type b_type = type_of(words[types + 2]);
  const auto bits = [](Type type) { return type == Type::kTF32 ? 32U : 8 * size_of(type); };
  const bool doubles = to == Type::kF64;
  const Layout layout{shape.starts_with("m16") ? 16 : 8, std::stoi(shape.substr(shape.find('k') + 1)),
                      doubles ? 1 : static_cast<int>(32 / bits(a_type))};
  const int n_a = layout.m * layout.k / 32;
  const int n_b = layout.k * 8 / 32;
  const int n_c = layout.m * 8 / 32;
  const auto value = [](Type type, Bits x) -> std::int64_t {
    const exact::Format* format = nullptr;
    if (type == Type::kF16) format = &exact::kF16;
    if (type == Type::kBF16) format = &exact::kBF16;
    if (type == Type::kF32 || type == Type::kTF32) format = &exact::kF32;
    if (type == Type::kF64) format = &exact::kF64;
    if (format == nullptr) {
      if (type == Type::kS32) return static_cast<std::int32_t>(x);
      return type == Type::kS8 ? static_cast<std::int8_t>(x) : static_cast<std::int64_t>(x & 0xffU);
    }
    const exact::Value v = exact::read(*format, x);
    const auto magnitude = static_cast<std::int64_t>(exact::to_units(v, 0, exact::Mode::kZero));
    return v.negative ? -magnitude : magnitude;
  };
  const auto coded = [](Type type, std::int64_t x) -> Bits {
    if (type == Type::kF16) return exact::write(exact::kF16, exact::integer(x));
    if (type == Type::kBF16) return exact::write(exact::kBF16, exact::integer(x));
    if (type == Type::kF32 || type == Type::kTF32) return exact::write(exact::kF32, exact::integer(x));
    if (type == Type::kF64) return exact::write(exact::kF64, exact::integer(x));
    return static_cast<std::uint32_t>(x);
  };
  // A is in slots 0 and 1, B in 2, C in 3 and 4; each element lies after the one before it.
  const auto element = [](const std::uint64_t* slots, int i, unsigned width) {
    const unsigned at = static_cast<unsigned>(i) * width;
    return low_bits(slots[at / 64] >> (at % 64), width);
  };
  Plan plan{.sources = std::vector<Type>(5, Type::kB64), .results = {Type::kB64, Type::kB64}};
  if (doubles) {
    plan.body = opcode + " {%d0, %d1}, {%s0}, {%s2}, {%s3, %s4};";
  } else {
    const auto registers = [](int first, unsigned total_bits) {
      std::string text;
      for (unsigned i = 0; i < total_bits / 32; ++i)
        text += fmt::format("{}%r{}", i == 0 ? "" : ", ", first + static_cast<int>(i));
      return "{" + text + "}";
    };
    const unsigned c_bits = static_cast<unsigned>(n_c) * bits(to);
    plan.body =
        "mov.b64 {%r0, %r1}, %s0;\nmov.b64 {%r2, %r3}, %s1;\nmov.b64 {%r4, %r5}, %s2;\nmov.b64 {%r6, %r7}, "
        "%s3;\nmov.b64 {%r8, %r9}, %s4;\n"
        "mov.b32 %r10, 0;\nmov.b32 %r11, 0;\nmov.b32 %r12, 0;\nmov.b32 %r13, 0;\n" +
        fmt::format("{} {}, {}, {}, {};\nmov.b64 %d0, {{%r10, %r11}};\nmov.b64 %d1, {{%r12, %r13}};", opcode,
                    registers(10, c_bits), registers(0, static_cast<unsigned>(n_a) * bits(a_type)),
                    registers(4, static_cast<unsigned>(n_b) * bits(b_type)), registers(6, c_bits));
  }
  plan.adjust = [=](Bits* in, std::uint32_t) {
    const auto small = [&](std::uint64_t* slots, std::size_t n_slots, Type type) {
      if (type == Type::kS8 || type == Type::kU8 || type == Type::kS32) return;
      const unsigned width = bits(type);
      for (std::size_t s = 0; s < n_slots; ++s) {
        Bits made = 0;
        for (unsigned at = 0; at < 64; at += width)
          made |= coded(type, static_cast<std::int64_t>(slots[s] >> at & 15U) - 8) << at;
        slots[s] = made;
      }
    };
    small(in, 2, a_type);
    small(in + 2, 1, b_type);
    small(in + 3, 2, to);
  };
  plan.warp = [=](const Slots* in, Bits(*out)[2]) {
    std::int64_t a[16][32] = {};
    std::int64_t b[32][8] = {};
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < n_a; ++i)
        a[layout.a(lane, i).row][layout.a(lane, i).column] =
            value(a_type, element(in[lane], i, bits(a_type)));
      for (int i = 0; i < n_b; ++i)
        b[layout.b(lane, i).row][layout.b(lane, i).column] =
            value(b_type, element(in[lane] + 2, i, bits(b_type)));
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < n_c; ++i) {
        std::int64_t sum = value(to, element(in[lane] + 3, i, bits(to)));
        const At at = Layout::c(lane, i);
        for (int k = 0; k < layout.k; ++k) sum += a[at.row][k] * b[k][at.column];
        if (has(words, "satfinite")) sum = std::clamp<std::int64_t>(sum, INT32_MIN, INT32_MAX);
        const unsigned bit = static_cast<unsigned>(i) * bits(to);
        out[lane][bit / 64] |= coded(to, sum) << (bit % 64);
      }
    }
  };
  return {{opcode, std::move(plan)}};
}

// --- Order of execution ---

// `text` around the instruction leaves d0 as the function of the thread's operands and number that is given.
Cases ordered(const std::string& opcode, const std::string& text,
              std::function<Bits(const Bits*, std::uint32_t)> result, const std::string& module_text = "") {
  Plan plan{.sources = {Type::kB64, Type::kB64}, .results = {Type::kB64}, .body = text};
  plan.module_text = module_text;
  plan.adjust = [](Bits* in, std::uint32_t thread) { in[5] = thread; };
  plan.expected = [=](const Bits* in, Bits* out) { out[0] = result(in, static_cast<std::uint32_t>(in[5])); };
  return {{opcode, std::move(plan)}};
}

Cases barriers(const std::string& opcode, const Words& words) {
  const std::string exchange_by =
      ".shared .align 8 .b8 all[2048];\nmov.u64 %q0, all;\nmad.wide.u32 %q1, %t, 8, %q0;\nxor.b32 %r1, %t, "
      "{};\nmad.wide.u32 %q2, %r1, 8, %q0;\n"
      "cvt.u64.u32 %q3, %t;\nmul.lo.u64 %q3, %q3, 77;\nst.shared.b64 [%q1], %q3;\n{}\nld.shared.b64 %d0, "
      "[%q2];";
  const auto exchanged = [&](unsigned with, const std::string& wait) {
    return ordered(opcode, fmt::format(fmt::runtime(exchange_by), with, wait),
                   [=](const Bits*, std::uint32_t thread) { return Bits{thread ^ with} * 77; });
  };
  if (has(words, "warp")) return exchanged(1, opcode + " 0xffffffff;");
  if (has(words, "sync")) {
    Cases cases = exchanged(32, opcode + " 0;");
    std::ranges::move(exchanged(32, opcode + " 3, 256;"), std::back_inserter(cases));
    return cases;
  }
  if (has(words, "arrive")) {
    // Warps 0 to 3 arrive and go on, the others wait for them.
    return ordered(
        opcode,
        fmt::format(".shared .align 8 .b8 all[2048];\nmov.u64 %q0, all;\nmad.wide.u32 %q1, %t, 8, "
                    "%q0;\nxor.b32 %r1, %t, 128;\n"
                    "mad.wide.u32 %q2, %r1, 8, %q0;\ncvt.u64.u32 %d0, %t;\nsetp.lt.u32 %p0, %t, 128;\n@!%p0 "
                    "bra waits;\nst.shared.b64 [%q1], %d0;\n"
                    "{} 1, 256;\nbra done;\nwaits:\nbar.sync 1, 256;\nld.shared.b64 %d0, [%q2];\ndone:",
                    opcode),
        [](const Bits*, std::uint32_t thread) { return Bits{thread % 128}; });
  }
  const bool counts = has(words, "popc");
  const std::string text = fmt::format(
      "rem.u32 %r1, %t, 3;\nsetp.eq.u32 %p0, %r1, 0;\nsetp.eq.u32 %p1, 0, {};\n{} {}, 0, %p0;\n{} {}, 1, "
      "256, %p1;\n{}",
      has(words, "and") ? 0 : 1, opcode, counts ? "%r2" : "%p2", opcode, counts ? "%r3" : "%p3",
      counts ? "mov.b64 %d0, {%r2, %r3};" : "selp.b64 %d0, 1, 0, %p2;\n@%p3 add.u64 %d0, %d0, 2;");
  // 86 of the numbers below 256 are divisible by three; all or none satisfy p1.
  const Bits result = counts ? 86 : (has(words, "and") ? 2 : 1);
  return ordered(opcode, text, [=](const Bits*, std::uint32_t) { return result; });
}

Cases control(const std::string& opcode, const Words& words) {
  static int number = 0;
  const std::string& name = words[0];
  const auto first = [](const Bits* in, std::uint32_t) { return in[0]; };
  const auto by_parity = [](const Bits* in, std::uint32_t thread) { return in[thread % 2]; };
  if (name == "bra") {
    Cases cases = ordered(opcode, "mov.b64 %d0, %s0;\n" + opcode + " over;\nmov.b64 %d0, %s1;\nover:", first);
    if (!has(words, "uni"))
      std::ranges::move(ordered(opcode,
                                "and.b32 %r0, %t, 1;\nsetp.eq.u32 %p0, %r0, 0;\nmov.b64 %d0, %s0;\n@%p0 " +
                                    opcode + " over;\nmov.b64 %d0, %s1;\nover:",
                                by_parity),
                        std::back_inserter(cases));
    return cases;
  }
  if (name == "brx") {
    const std::string chosen = has(words, "uni") ? "mov.b32 %r0, 1;\n" : "and.b32 %r0, %t, 1;\n";
    const bool uniform = has(words, "uni");
    return ordered(opcode,
                   chosen + "targets: .branchtargets even, odd;\n" + opcode +
                       " %r0, targets;\neven:\nmov.b64 %d0, %s0;\nbra over;\nodd:\nmov.b64 %d0, %s1;\nover:",
                   [=](const Bits* in, std::uint32_t thread) { return in[uniform ? 1 : thread % 2]; });
  }
  if (name == "call" || name == "ret") {
    const std::string function = fmt::format("function{}", number++);
    const std::string module_text = fmt::format(
        ".func (.param .b64 result) {}(.param .b64 x)\n{{\n.reg .b64 %v;\n.reg .pred %n;\nld.param.b64 %v, "
        "[x];\nst.param.b64 [result], %v;\nsetp.lt.s64 %n, %v, 0;\n"
        "@%n {};\nadd.u64 %v, %v, %v;\nst.param.b64 [result], %v;\nret;\n}}\n",
        function, name == "ret" && !has(words, "uni") ? opcode : "ret");
    const std::string made = name == "ret" && has(words, "uni") ? [&] {
      std::string text = module_text;
      return text.replace(text.rfind("ret;"), 4, opcode + ";");
    }()
                                                                : module_text;
    return ordered(
        opcode,
        fmt::format("{{\n.param .b64 argument;\n.param .b64 value;\nst.param.b64 [argument], %s0;\n{} "
                    "(value), {}, (argument);\nld.param.b64 %d0, [value];\n}}",
                    name == "call" ? opcode : "call", function),
        [](const Bits* in, std::uint32_t) {
          return static_cast<std::int64_t>(in[0]) < 0 ? in[0] : in[0] + in[0];
        },
        made);
  }
  if (name == "exit") {
    return ordered(opcode,
                   "mov.b64 %d0, %s1;\nand.b32 %r0, %t, 1;\nsetp.eq.u32 %p0, %r0, 0;\n@%p0 st.global.b64 "
                   "[%o], %s0;\n@%p0 exit;",
                   by_parity);
  }
  if (name == "membar" || name == "fence")  // the other's value has passed it
    return ordered(opcode, "mov.b64 %d0, %s0;\n" + opcode + ";", first);
  if (name == "nanosleep") return ordered(opcode, "mov.b64 %d0, %s0;\n" + opcode + " 20;", first);
  return ordered(opcode,
                 "mov.b64 %d0, %s0;\n.local .b64 own;\nst.local.b64 [own], %s1;\n" + opcode +
                     (has(words, "local") ? " [own];" : " [%a];"),
                 first);
}

Cases cases_of(const std::string& opcode) {
  const Words words = split_opcode(opcode);
  const std::string& name = words[0];
  if (name == "ld" || name == "ldu") return load(opcode, words);
  if (name == "st") return store(opcode, words);
  if (name == "atom" || name == "red") return atomic(opcode, words);
  if (name == "cvta" || name == "isspacep") return address(opcode, words);
  if (name == "cp") return copy_async(opcode, words);
  if (name == "shfl" || name == "vote" || name == "match" || name == "redux" || name == "activemask")
    return exchange(opcode, words);
  if (name == "ldmatrix" || name == "movmatrix") return move_matrices(opcode, words);
  if (name == "mma") return multiply(opcode, words);
  if (name == "bar" || name == "barrier") return barriers(opcode, words);
  if (name == "bra" || name == "brx" || name == "call" || name == "ret" || name == "exit" ||
      name == "membar" || name == "fence" || name == "nanosleep" || name == "prefetch" ||
      name == "prefetchu") {
    return control(opcode, words);
  }
  return {};
}

constexpr std::string_view kNames[] = {
    "ld",         "ldu",       "st",      "atom", "red",      "cvta",      "isspacep",
    "prefetch",   "prefetchu", "cp",      "mma",  "ldmatrix", "movmatrix", "membar",
    "fence",      "bar",       "barrier", "shfl", "vote",     "match",     "redux",
    "activemask", "bra",       "brx",     "call", "ret",      "exit",      "nanosleep"};

Cases all_cases() {
  Cases cases = cases_for(opcodes_of(kNames), cases_of);
  EXPECT_GT(cases.size(), 5000U);
  return cases;
}

TEST(PtxInstruction, OfMemoryAndWarpsGivesWhatTheIsaSays) {
  expect_as_planned(all_cases(), 2);
}

TEST(PtxInstruction, OfMemoryAndWarpsIsOneOfTheAssemblers) {
  expect_as_assembled(all_cases());
}

// On sm_75 "all threads must contain valid addresses", later those that give one.
TEST(PtxInstruction, LdmatrixChecksTheAddressesOfAllLanesOnSm75) {
  for (const int target : {75, 80}) {
    const PtxRun run{
        .text = fmt::format(".version 8.4\n.target sm_{}\n.address_size 64\n.visible .entry k(.param .u64 "
                            "p)\n{{\n.shared .align 16 .b8 tile[128];\n.reg .b32 %r<4>;\n"
                            "mov.u32 %r0, %laneid;\nmov.u32 %r1, tile;\nmad.lo.u32 %r1, %r0, 16, %r1;\n"
                            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r2}}, [%r1];\n}}\n",
                            target)};
    EXPECT_EQ(sluice::ptx::has(run(0), FindingKind::kOutOfBounds), target == 75);
  }
}

// Kernels that execute trap where something isn't as it must be.
void expect_no_trap(std::string_view body, std::uint32_t threads = 32) {
  const PtxRun run{
      .text = fmt::format(".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k(.param "
                          ".u64 p)\n{{\n.reg .pred %p;\n.reg .b32 %r<20>;\n{}}}\n",
                          body),
      .threads = threads};
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const LaunchResult result = run(seed);
    EXPECT_TRUE(result.completed && result.findings.empty()) << text_of(result);
  }
}

TEST(PtxInstruction, MmaReadsAllOfCBeforeItWritesD) {
  std::string body = "mov.u32 %r0, %laneid;\nmov.b32 %r1, 0x3f803f80;\n";  // two ones
  for (int i = 0; i < 4; ++i)
    body += fmt::format("mad.lo.u32 %r2, %r0, 4, {};\ncvt.rn.f32.u32 %r{}, %r2;\n", i, 4 + i);
  const std::string shape = "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 ";
  const std::string factors = ", {%r1, %r1, %r1, %r1}, {%r1, %r1}, {%r4, %r5, %r6, %r7};\n";
  body += shape + "{%r8, %r9, %r10, %r11}" + factors + shape + "{%r7, %r6, %r5, %r4}" + factors;
  for (int i = 0; i < 4; ++i) body += fmt::format("setp.ne.b32 %p, %r{}, %r{};\n@%p trap;\n", 8 + i, 7 - i);
  expect_no_trap(body);
}

TEST(PtxInstruction, WarpSizeIsAConstant) {
  expect_no_trap("mov.u32 %r0, WARP_SZ;\nadd.u32 %r0, %r0, WARP_SZ;\nsetp.ne.u32 %p, %r0, 64;\n@%p trap;\n");
}

// The ISA speaks of borrow; on hardware a subtraction leaves a carry, and nvcc's code for 128 bits counts on it.
TEST(PtxInstruction, AddcAfterASubtractionAddsOneIfThereWasNoBorrow) {
  for (const auto& [a, b, carry] : {std::array{5, 3, 1}, std::array{3, 5, 0}, std::array{4, 4, 1}})
    expect_no_trap(
        fmt::format("mov.u32 %r1, {};\nsub.cc.u32 %r2, %r1, {};\naddc.u32 %r3, 0, 0;\n"
                    "setp.ne.u32 %p, %r3, {};\n@%p trap;\n",
                    a, b, carry));
}

TEST(PtxInstruction, BarrierOfAllIsThatOfAsManyAsThereAre) {
  expect_no_trap(
      "mov.u32 %r0, %tid.x;\nsetp.lt.u32 %p, %r0, 32;\n@%p bra FIRST;\nbar.sync 1, 64;\nret;\n"
      "FIRST:\nbar.sync 1;\nret;\n",
      64);
}

TEST(PtxInstruction, TrapEndsTheLaunch) {
  const PtxRun run{
      .text =
          ".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\ntrap;\n}\n"};
  const LaunchResult result = run(0);
  EXPECT_FALSE(result.completed);
  EXPECT_TRUE(sluice::ptx::has(result, FindingKind::kTrap));
}

}  // namespace
}  // namespace sluice::ptx
