#include "tests/ptx/instruction.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ptx/machine.h"
#include "ptx/opcodes.h"
#include "tests/ptx/exact.h"

namespace sluice::ptx {
namespace {

using exact::Format;
using test::pick;
using test::Random;

const Format* format_of(Type type) {
  if (type == Type::kF16 || type == Type::kF16x2) return &exact::kF16;
  if (type == Type::kBF16 || type == Type::kBF16x2) return &exact::kBF16;
  if (type == Type::kF32) return &exact::kF32;
  return type == Type::kF64 ? &exact::kF64 : nullptr;
}

std::uint32_t bits_of(Type type) {
  return type == Type::kPred ? 0 : std::max(8 * size_of(type), 16U);
}

std::uint64_t draw_float(Random& random, const Format& format) {
  const std::uint64_t one = static_cast<std::uint64_t>(format.bias()) << format.fraction_bits;
  const std::uint64_t unit = std::uint64_t{1} << format.fraction_bits;
  const std::uint64_t specials[] = {0,
                                    1,
                                    unit - 1,
                                    unit,
                                    one,
                                    one + 1,
                                    one - 1,
                                    one + unit / 2,
                                    one - unit,
                                    one + unit,
                                    one + unit + unit / 4,
                                    format.infinity() - 1,
                                    format.infinity(),
                                    format.nan(),
                                    format.infinity() + 1,
                                    format.infinity() + unit / 2 + 5};
  std::uint64_t value = random() & format.nan();
  const std::size_t kind = pick(random, 0, 7);
  if (kind < 2) value = specials[pick(random, 0, std::size(specials) - 1)];
  if (kind >= 4)  // near one
    value = (value & (unit - 1)) + one + unit * pick(random, 0, 24) - unit * 12;
  // Few bits, for ties and exact results.
  if (kind >= 3 && kind <= 5)
    value &= ~std::uint64_t{0} << pick(random, 0, static_cast<std::size_t>(format.fraction_bits));
  return (value & format.nan()) | (random() % 2 != 0 ? format.sign() : 0);
}

std::uint64_t draw_integer(Random& random, std::uint32_t width) {
  const std::size_t kind = pick(random, 0, 5);
  if (kind == 0) return pick(random, 0, 70);
  if (kind == 1) return (std::uint64_t{1} << pick(random, 0, width - 1U)) - pick(random, 0, 1);
  if (kind == 2) return ~std::uint64_t{0} - pick(random, 0, 2);
  if (kind == 3) return random() >> pick(random, 64 - width, 63);
  return random();
}

std::uint64_t draw(Random& random, Type type) {
  if (type == Type::kPred) return random() % 2;
  const Format* format = format_of(type);
  if (format == nullptr) return draw_integer(random, bits_of(type));
  std::uint64_t value = draw_float(random, *format);
  if (type == Type::kF16x2 || type == Type::kBF16x2) value = value << 16U | draw_float(random, *format);
  return value;
}

std::uint64_t mask_of(Type type) {
  const std::uint32_t bits = bits_of(type);
  return bits == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << std::max(bits, 1U)) - 1;
}

bool same(const Plan& plan, Type type, std::uint64_t expected, std::uint64_t got) {
  if (expected == got) return true;
  const Format* format = format_of(type);
  if (format == nullptr || (!plan.any_nan && !plan.any_zero)) return false;
  const std::uint32_t width = static_cast<std::uint32_t>(format->bits());
  for (std::uint32_t at = 0; at < bits_of(type); at += width) {
    const std::uint64_t all = format->sign() | format->nan();
    const std::uint64_t e = (expected >> at) & all;
    const std::uint64_t g = (got >> at) & all;
    const bool nan = plan.any_nan && format->is_nan(e) && format->is_nan(g);
    const bool zero = plan.any_zero && ((e | g) & format->nan()) == 0;
    if (e != g && !nan && !zero) return false;
  }
  return true;
}

std::string declare(const Plan& plan, const std::vector<Type>& types, char name, std::size_t i) {
  if (types[i] == Type::kPred) return fmt::format(".reg .pred %{}{};\n", name, i);
  return fmt::format(".reg .b{} %{}{};\n",
                     plan.wide && format_of(types[i]) == nullptr ? 64 : bits_of(types[i]), name, i);
}

std::string kernel_text(const Plan& plan, std::size_t index) {
  std::string text =
      fmt::format("{}\n.visible .entry k{}(.param .u64 p, .param .align 16 .b8 fixed[16])\n{{\n",
                  plan.module_text, index);
  for (std::size_t i = 0; i < plan.sources.size(); ++i) text += declare(plan, plan.sources, 's', i);
  for (std::size_t i = 0; i < plan.results.size(); ++i) text += declare(plan, plan.results, 'd', i);
  text += fmt::format(
      ".reg .b32 %t, %r<16>;\n.reg .b64 %a, %o, %q<8>;\n.reg .b16 %h<8>;\n.reg .pred %p<4>;\nld.param.u64 "
      "%a, [p];\nmov.u32 %t, %tid.x;\n"
      "mad.wide.u32 %o, %t, 16, %a;\nadd.u64 %o, %o, {};\nmad.wide.u32 %a, %t, {}, %a;\n",
      kThreads * 8 * kSlots, 8 * kSlots);
  for (std::size_t i = 0; i < plan.sources.size(); ++i) {
    if (plan.sources[i] == Type::kPred) {
      text += fmt::format("ld.global.b32 %r0, [%a+{}];\nsetp.ne.b32 %s{}, %r0, 0;\n", 8 * i, i);
    } else {
      const bool wide = plan.wide && format_of(plan.sources[i]) == nullptr;
      text += fmt::format("ld.global.b{} %s{}, [%a+{}];\n", wide ? 64 : bits_of(plan.sources[i]), i, 8 * i);
    }
  }
  text += plan.body + "\n";
  for (std::size_t i = 0; i < plan.results.size(); ++i) {
    if (plan.results[i] == Type::kPred) {
      text += fmt::format("selp.b32 %r0, 1, 0, %d{};\nst.global.b32 [%o+{}], %r0;\n", i, 8 * i);
    } else {
      const bool wide = plan.wide && format_of(plan.results[i]) == nullptr;
      text += fmt::format("st.global.b{} [%o+{}], %d{};\n", wide ? 64 : bits_of(plan.results[i]), 8 * i, i);
    }
  }
  return text + "ret;\n}\n";
}

void run_case(const Case& one, const Kernel& kernel, Memory& memory, std::uint64_t buffer,
              std::uint64_t seed) {
  const Plan& plan = one.plan;
  Random random(seed);
  static Slots in[kThreads];
  for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
    for (std::uint64_t& slot : in[thread]) slot = random();
    for (std::size_t i = 0; i < plan.sources.size(); ++i) {
      const std::uint64_t drawn = draw(random, plan.sources[i]);
      // What lies above an operand must not matter.
      in[thread][i] =
          plan.sources[i] == Type::kPred ? drawn : drawn ^ (in[thread][i] & ~mask_of(plan.sources[i]));
      if (plan.sources[i] == Type::kPred) in[thread][i] = drawn;
    }
    // Sums that cancel.
    if (plan.sources.size() > 1 && pick(random, 0, 7) == 0) {
      const Format* format = format_of(plan.sources[0]);
      if (plan.sources.back() == plan.sources[0])
        in[thread][plan.sources.size() - 1] = in[thread][0] ^ (format != nullptr ? format->sign() : 0);
    }
    if (plan.adjust) plan.adjust(in[thread], thread);
  }
  std::memcpy(memory.bytes(buffer, sizeof(in)).data(), in, sizeof(in));
  const std::uint64_t results = buffer + sizeof(in);
  std::ranges::fill(memory.bytes(results, std::uint64_t{16} * kThreads), std::byte{0});
  std::vector<std::byte> parameters(32);
  std::memcpy(parameters.data(), &buffer, 8);
  std::memcpy(parameters.data() + 16, kFixed, sizeof(kFixed));
  LaunchOptions options;
  options.block = {kThreads, 1, 1};
  options.checks = false;
  options.seed = seed;
  const LaunchResult result = launch(kernel, memory, gpu_named("rtx3090"), parameters, options);
  ASSERT_TRUE(result.completed) << one.opcode
                                << (result.findings.empty() ? "" : ": " + result.findings[0].message);
  std::uint64_t out[kThreads][2];
  std::memcpy(out, memory.bytes(results, sizeof(out)).data(), sizeof(out));
  std::uint64_t expected[kThreads][2] = {};
  for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
    if (!plan.warp)
      plan.expected(in[thread], expected[thread]);
    else if (thread % 32 == 0)
      plan.warp(in + thread, expected + thread);
  }
  for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
    for (std::size_t i = 0; i < plan.results.size(); ++i) {
      const Type type = plan.results[i];
      const std::uint64_t all = plan.wide && format_of(type) == nullptr ? ~std::uint64_t{0} : mask_of(type);
      const std::uint64_t want = expected[thread][i] & all;
      const std::uint64_t got = out[thread][i] & all;
      if (same(plan, type, want, got) || (plan.accepts && plan.accepts(want, got))) continue;
      std::string operands;
      for (std::size_t s = 0; s < plan.sources.size(); ++s)
        operands +=
            fmt::format(" {:#x}", in[thread][s] & (plan.wide ? ~std::uint64_t{0} : mask_of(plan.sources[s])));
      ADD_FAILURE() << fmt::format("{} of{} in thread {}: result {} is {:#x}, the ISA says {:#x}", one.opcode,
                                   operands, thread, i, got, want);
      return;
    }
  }
}

}  // namespace

void expect_as_planned(std::span<const Case> cases, std::uint64_t seed) {
  constexpr std::size_t kPerModule = 400;
  for (std::size_t first = 0; first < cases.size(); first += kPerModule) {
    const auto part = cases.subspan(first, std::min(kPerModule, cases.size() - first));
    std::string text = fmt::format(
        ".version 8.4\n.target sm_90\n.address_size 64\n.const .align 16 .b64 constant[2] = {{{}, {}}};\n",
        kFixed[0], kFixed[1]);
    for (std::size_t i = 0; i < part.size(); ++i) text += kernel_text(part[i].plan, i);
    Memory memory(std::uint64_t{1} << 22U);
    const std::uint64_t buffer = memory.allocate(kThreads * (8 * kSlots + 16));
    try {
      const LoadedModule module(parse(text, "instruction.ptx"), memory, gpu_named("h100"));
      for (std::size_t i = 0; i < part.size(); ++i)
        run_case(part[i], *module.find_kernel(fmt::format("k{}", i)), memory, buffer, seed + first + i);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what() << " in one of " << part.size() << " kernels";
    }
  }
}

std::string joined(std::span<const std::string> words, std::string_view separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

std::vector<std::string> opcodes_of(std::span<const std::string_view> first_words) {
  std::vector<std::string> found;
  for (std::string& opcode : opcodes()) {
    if (std::ranges::find(first_words, std::string_view(opcode).substr(0, opcode.find('.'))) !=
        first_words.end())
      found.push_back(std::move(opcode));
  }
  return found;
}

}  // namespace sluice::ptx
