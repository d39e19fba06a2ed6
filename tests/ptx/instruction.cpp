#include "tests/ptx/instruction.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "cuda/context.h"
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

}  // namespace

std::string module_head(std::uint32_t target) {
  return fmt::format(
      ".version 8.4\n.target sm_{}\n.address_size 64\n.const .align 16 .b64 constant[2] = {{{}, {}}};\n",
      target, kFixed[0], kFixed[1]);
}

std::string kernel_text(const Plan& plan, std::size_t index) {
  std::string text =
      fmt::format("{}\n.visible .entry k{}(.param .align 16 .b8 fixed[32])\n{{\n", plan.module_text, index);
  for (std::size_t i = 0; i < plan.sources.size(); ++i) text += declare(plan, plan.sources, 's', i);
  for (std::size_t i = 0; i < plan.results.size(); ++i) text += declare(plan, plan.results, 'd', i);
  text += fmt::format(
      ".reg .b32 %t, %r<16>;\n.reg .b64 %a, %o, %q<8>;\n.reg .b16 %h<8>;\n.reg .pred %p<4>;\nld.param.u64 "
      "%a, [fixed+16];\nmov.u32 %t, %tid.x;\n"
      "mad.wide.u32 %o, %t, 16, %a;\nadd.u64 %o, %o, {};\nmad.wide.u32 %a, %t, {}, %a;\n",
      sizeof(Slots) * kThreads, sizeof(Slots));
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

namespace {

// The kernels' one parameter.
struct Parameters {
  std::uint64_t fixed[2];
  std::uint64_t slots;  // operands, then results
  std::uint64_t padding;
};

struct Operands {
  Slots of_thread[kThreads];
};
struct Results {
  std::uint64_t of_thread[kThreads][2];
};

Operands draw_operands(const Plan& plan, std::uint64_t seed) {
  Operands operands;
  auto& in = operands.of_thread;
  Random random(seed);
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
  return operands;
}

Results expected_results(const Plan& plan, const Operands& operands) {
  Results results{};
  for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
    if (!plan.warp)
      plan.expected(operands.of_thread[thread], results.of_thread[thread]);
    else if (thread % 32 == 0)
      plan.warp(operands.of_thread + thread, results.of_thread + thread);
  }
  return results;
}

// The first difference of a case is a failure of the test.
void expect_results(const Case& one, const Operands& operands, const Results& expected,
                    const Results& results, std::string_view whose) {
  const Plan& plan = one.plan;
  for (std::uint32_t thread = 0; thread < kThreads; ++thread) {
    for (std::size_t i = 0; i < plan.results.size(); ++i) {
      const Type type = plan.results[i];
      const std::uint64_t all = plan.wide && format_of(type) == nullptr ? ~std::uint64_t{0} : mask_of(type);
      const std::uint64_t want = expected.of_thread[thread][i] & all;
      const std::uint64_t got = results.of_thread[thread][i] & all;
      if (same(plan, type, want, got) || (plan.accepts && plan.accepts(want, got))) continue;
      std::string text;
      for (std::size_t s = 0; s < plan.sources.size(); ++s)
        text += fmt::format(" {:#x}", operands.of_thread[thread][s] &
                                          (plan.wide ? ~std::uint64_t{0} : mask_of(plan.sources[s])));
      ADD_FAILURE() << fmt::format("{} of{} in thread {} {}: result {} is {:#x}, the ISA says {:#x}",
                                   one.opcode, text, thread, whose, i, got, want);
      return;
    }
  }
}

// Where kernels run: false if one ended early, which is a failure of the test.
class Runner {
 public:
  virtual ~Runner() = default;
  virtual bool has(const Case& one) const = 0;
  virtual bool run(const Case& one, std::size_t index, const Operands& operands, Results& results) = 0;
  virtual std::string_view name() const = 0;
};

constexpr std::size_t kResultsAt = sizeof(Operands);
constexpr std::size_t kBufferBytes = sizeof(Operands) + sizeof(Results);

std::string module_of(std::span<const Case> cases, std::uint32_t target,
                      const std::function<bool(const Case&)>& has) {
  std::string text = module_head(target);
  for (std::size_t i = 0; i < cases.size(); ++i)
    if (has(cases[i])) text += kernel_text(cases[i].plan, i);
  return text;
}

constexpr std::uint32_t kNewestTarget = 90;  // of which the instructions here are

class OnMachine final : public Runner {
 public:
  OnMachine(std::span<const Case> cases, std::uint64_t seed, bool vary_inexact = false)
      : seed_(seed),
        vary_inexact_(vary_inexact),
        module_(parse(module_of(cases, kNewestTarget, [](const Case&) { return true; }), "instruction.ptx"),
                memory_, gpu_named("h100")),
        buffer_(memory_.allocate(kBufferBytes)) {}

  bool has(const Case&) const override { return true; }
  std::string_view name() const override { return "on the machine"; }

  bool run(const Case& one, std::size_t index, const Operands& operands, Results& results) override {
    std::memcpy(memory_.bytes(buffer_, sizeof operands).data(), &operands, sizeof operands);
    const std::span<std::byte> out = memory_.bytes(buffer_ + kResultsAt, sizeof results);
    std::ranges::fill(out, std::byte{0});
    const Parameters parameters = {{kFixed[0], kFixed[1]}, buffer_, 0};
    LaunchOptions options;
    options.block = {kThreads, 1, 1};
    options.checks = false;
    options.seed = seed_ + index;
    if (vary_inexact_) options.vary_inexact = seed_;
    const LaunchResult result =
        launch(*module_.find_kernel(fmt::format("k{}", index)), memory_, gpu_named("rtx3090"),
               std::as_bytes(std::span(&parameters, 1)), options);
    EXPECT_TRUE(result.completed) << one.opcode
                                  << (result.findings.empty() ? "" : ": " + result.findings[0].message);
    std::memcpy(&results, out.data(), sizeof results);
    return result.completed;
  }

 private:
  std::uint64_t seed_;
  bool vary_inexact_;
  Memory memory_{std::uint64_t{1} << 22U};
  LoadedModule module_;
  std::uint64_t buffer_;
};

// Through a driver: those that the GPU has. Calls throw Error.
class OnGpu final : public Runner {
 public:
  OnGpu(const std::filesystem::path& driver, std::span<const Case> cases)
      : context_(cuda::Context::make(cuda::Driver::open(driver), 0)),
        target_(std::min(static_cast<std::uint32_t>(context_->device().capability()), kNewestTarget)),
        stream_(context_),
        module_(load(cases)),
        buffer_(context_, kBufferBytes) {}

  bool has(const Case& one) const override {
    return !one.plan.only_on_machine && first_target(split_opcode(one.opcode)) <= target_;
  }
  std::string_view name() const override { return "on the GPU"; }

  bool run(const Case&, std::size_t index, const Operands& operands, Results& results) override {
    results = {};
    buffer_.upload(0, std::as_bytes(std::span(&operands, 1)));
    buffer_.upload(kResultsAt, std::as_bytes(std::span(&results, 1)));
    const Parameters parameters = {{kFixed[0], kFixed[1]}, buffer_.address(), 0};
    module_.kernel(fmt::format("k{}", index)).launch(1, kThreads, stream_, parameters);
    stream_.synchronize();
    buffer_.download(kResultsAt, std::as_writable_bytes(std::span(&results, 1)));
    return true;
  }

 private:
  cuda::Module load(std::span<const Case> cases) const {
    const std::string text = module_of(cases, target_, [this](const Case& one) { return has(one); });
    return {context_, std::as_bytes(std::span(text.c_str(), text.size() + 1))};
  }

  std::shared_ptr<const cuda::Context> context_;
  std::uint32_t target_;
  cuda::Stream stream_;
  cuda::Module module_;
  cuda::DeviceMemory buffer_;
};

void expect_as_planned(std::span<const Case> cases, std::uint64_t seed, Runner& runner) {
  for (std::size_t i = 0; i < cases.size(); ++i) {
    if (!runner.has(cases[i])) continue;
    const Operands operands = draw_operands(cases[i].plan, seed + i);
    Results results;
    if (runner.run(cases[i], i, operands, results))
      expect_results(cases[i], operands, expected_results(cases[i].plan, operands), results, runner.name());
  }
}

}  // namespace

void expect_as_planned(std::span<const Case> cases, std::uint64_t seed) {
  constexpr std::size_t kPerModule = 400;
  const char* driver = std::getenv("SLUICE_TEST_DRIVER");
  for (std::size_t first = 0; first < cases.size(); first += kPerModule) {
    const auto part = cases.subspan(first, std::min(kPerModule, cases.size() - first));
    try {
      OnMachine machine(part, seed + first);
      expect_as_planned(part, seed + first, machine);
      if (driver == nullptr) continue;
      OnGpu gpu(driver, part);
      expect_as_planned(part, seed + first, gpu);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what() << " in one of " << part.size() << " kernels";
    }
  }
}

void expect_within_bounds(std::span<const Case> cases, std::uint64_t seed) {
  OnMachine machine(cases, seed, true);
  expect_as_planned(cases, seed, machine);
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

namespace {

void expand(const Syntax& syntax, std::size_t at, const std::string& begin, std::vector<std::string>& all) {
  if (at == syntax.slots.size()) {
    all.push_back(begin);
    return;
  }
  const Slot& slot = syntax.slots[at];
  if (slot.optional) expand(syntax, at + 1, begin, all);
  if (slot.hint) return;
  for (const std::string& word : slot.words) expand(syntax, at + 1, fmt::format("{}.{}", begin, word), all);
}

// With one hint: the last word of every other slot beside it, where the slot must have one.
void expand_hints(const Syntax& syntax, const std::string& name, std::vector<std::string>& all) {
  for (const Slot& hints : syntax.slots) {
    for (std::size_t i = 0; hints.hint && i < hints.words.size(); ++i) {
      std::string opcode = name;
      for (const Slot& slot : syntax.slots) {
        if (&slot == &hints)
          opcode += fmt::format(".{}", slot.words[i]);
        else if (!slot.optional)
          opcode += fmt::format(".{}", slot.words[i % slot.words.size()]);
      }
      all.push_back(std::move(opcode));
    }
  }
}

}  // namespace

std::vector<std::string> opcodes() {
  std::vector<std::string> all;
  for (const auto& [name, syntax] : syntaxes()) {
    expand(syntax, 0, name, all);
    expand_hints(syntax, name, all);
  }
  for (const auto& [name, form] : forms()) {
    if (name.starts_with('.')) continue;
    const std::size_t dot = name.find('.');
    const Type to = form.destination;
    const bool single = to == Type::kF32 || to == Type::kF64;
    if (form.rounds != Form::Rounds::kRequired) all.push_back(name);
    if (form.rounds == Form::Rounds::kNever) continue;
    for (const char* rounding : {"rn", "rz", "rm", "rp"}) {
      if (single || rounding[1] == 'n')
        all.push_back(fmt::format("{}.{}{}", name.substr(0, dot), rounding, name.substr(dot)));
    }
  }
  return all;
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
