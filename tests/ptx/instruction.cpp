#include "tests/ptx/instruction.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "ptx/machine.h"
#include "ptx/opcodes.h"
#include "tests/ptx/exact.h"
#include "tests/support/temp_folder.h"

namespace sluice::ptx {
namespace {

using exact::Format;
using test::pick;
using test::Random;

constexpr std::string_view kConstant = ".const .align 16 .b64 constant[2]";

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
    std::string text = fmt::format(".version 8.4\n.target sm_90\n.address_size 64\n{} = {{{}, {}}};\n",
                                   kConstant, kFixed[0], kFixed[1]);
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

namespace {

// What a command prints, standard error too.
std::string output_of(const std::string& command) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(popen((command + " 2>&1").c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> part{};
  while (const std::size_t n = std::fread(part.data(), 1, part.size(), pipe.get()))
    text.append(part.data(), n);
  return text;
}

std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return std::string(text.substr(text.rfind('\n') + 1));
}

void expect_as_assembled(std::span<const Case> cases, std::uint32_t target, const std::string& nvcc) {
  std::string text =
      fmt::format(".version 8.4\n.target sm_{}\n.address_size 64\n{} = {{1, 2}};\n", target, kConstant);
  const auto next_line = [&] { return 1 + std::ranges::count(text, '\n'); };
  // Where each kernel begins. Of those that must be refused, some: many errors take the assembler long.
  std::map<std::ptrdiff_t, const Case*> begins;
  std::ptrdiff_t line = next_line();
  std::size_t n_refused = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    if (first_target(split_opcode(cases[i].opcode)) > target && n_refused++ % 16 != 0) continue;
    const std::string kernel = kernel_text(cases[i].plan, i);
    begins[line] = &cases[i];
    line += std::ranges::count(kernel, '\n');
    text += kernel;
  }
  // An error at the end, so that nothing is compiled.
  begins[line] = nullptr;
  text += ".visible .entry last()\n{\n.reg .b32 %r<3>;\nadd.rz.s32 %r0, %r1, %r2;\n}\n";
  const test::TempFolder folder;
  const std::string file = folder.write("instructions.ptx", text).string();
  const std::string said =
      output_of(fmt::format("'{0}' -arch=sm_{1} -cubin -o '{2}.cubin' '{2}'", nvcc, target, file));
  std::map<const Case*, std::string> refused;
  const std::string mark = file + ", line ";
  for (std::size_t at = said.find(mark); at != std::string::npos; at = said.find(mark, at + 1)) {
    const std::string_view rest = std::string_view(said).substr(at + mark.size());
    const auto after = begins.upper_bound(std::stol(std::string(rest.substr(0, 12))));
    ASSERT_NE(after, begins.begin());
    refused.emplace(std::prev(after)->second, rest.substr(0, rest.find('\n')));
  }
  ASSERT_TRUE(refused.contains(nullptr)) << said.substr(0, 2000);
  for (const auto& [begin, one] : begins) {
    if (one == nullptr) continue;
    const bool takes = first_target(split_opcode(one->opcode)) <= target;
    const auto found = refused.find(one);
    EXPECT_EQ(found == refused.end(), takes)
        << one->opcode << " for sm_" << target << ": " << (takes ? found->second : "the assembler takes it");
  }
}

}  // namespace

void expect_as_assembled(std::span<const Case> cases) {
  const std::string nvcc = last_line(output_of("'" SLUICE_SOURCE_DIR "/tools/get_nvcc.sh'"));
  if (!nvcc.starts_with('/')) GTEST_SKIP() << nvcc;
  for (const std::uint32_t target : {75U, 80U, 86U, 90U}) expect_as_assembled(cases, target, nvcc);
}

std::vector<Case> cases_for(std::span<const std::string> opcodes,
                            const std::function<std::vector<Case>(const std::string&)>& cases_of) {
  std::vector<Case> cases;
  for (const std::string& opcode : opcodes) {
    std::vector<Case> made = cases_of(opcode);
    EXPECT_FALSE(made.empty()) << opcode << " is accepted, and nothing here says what it must give";
    std::ranges::move(made, std::back_inserter(cases));
  }
  return cases;
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
