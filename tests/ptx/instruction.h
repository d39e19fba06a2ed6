// One instruction as a kernel of its own: operands, and what must come of them.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ptx/module.h"
#include "tests/support/seed.h"

namespace sluice::ptx {

using Words = std::vector<std::string>;

inline constexpr std::uint32_t kThreads = 256;
inline constexpr std::size_t kSlots = 6;  // of 8 bytes for each thread: operands
using Slots = std::uint64_t[kSlots];

// What the parameter `fixed` and the variable `constant` hold.
inline constexpr std::uint64_t kFixed[2] = {0x8877665544332211, 0x0fedcba987654321};

// What one instruction of 256 threads does. In `body`, %s0, %s1, … are the operands and %d0, %d1 the results, registers of
// their types, or 64 bits wide where `wide` says so; %a is the address of the thread's slots, %r0… and %p0 are free.
struct Plan {
  // NOLINTBEGIN(readability-redundant-member-init): designated initializers may leave these out
  std::vector<Type> sources = {}, results = {};
  std::string body = {};
  // NOLINTEND(readability-redundant-member-init)
  // Results of one thread from its operands (without a warp's others), one after the other in `out`.
  std::function<void(const std::uint64_t* in, std::uint64_t* out)> expected = nullptr;
  // The same for the 32 lanes of a warp at once, instead.
  std::function<void(const Slots* in, std::uint64_t (*out)[2])> warp = nullptr;
  bool any_nan = false;   // the ISA doesn't say which NaN
  bool any_zero = false;  // nor which zero
  // Instead of equality, for results that the ISA bounds only.
  std::function<bool(std::uint64_t expected, std::uint64_t got)> accepts = nullptr;
  bool wide = false;
  bool only_on_machine = false;  // ptxas 13.0 dies of the kernel when it compiles it, so a driver would
  std::string module_text = {};  // NOLINT(readability-redundant-member-init): the same
  // Makes operands fit.
  std::function<void(std::uint64_t* in, std::uint32_t thread)> adjust = nullptr;
};

struct Case {
  std::string opcode;
  Plan plan;
};

// Those of each opcode; none for one is a failure of the test.
std::vector<Case> cases_for(std::span<const std::string> opcodes,
                            const std::function<std::vector<Case>(const std::string&)>& cases_of);

// Runs each case on the machine, and through the driver that SLUICE_TEST_DRIVER names if it does, on the same operands: a GPU, or
// the machine's own library. Every difference from what the ISA says is a failure of the test. So a GPU that passes gives the
// machine's bits, but for what the ISA only bounds (`accepts`) or leaves open (`any_nan`, `any_zero`).
void expect_as_planned(std::span<const Case> cases, std::uint64_t seed);
// The same on the machine alone, in launches that vary what the ISA only bounds.
void expect_within_bounds(std::span<const Case> cases, std::uint64_t seed);

// NVIDIA's own assembler on the same kernels, for sm_75, sm_80, sm_86 and sm_90: it must take every opcode from the target on from
// which the machine does, and refuse it before. Skips the test where there is no nvcc.
void expect_as_assembled(std::span<const Case> cases);

// The kernels' text: what stands before all of a module's, and each one, named k0, k1, …
std::string module_head(std::uint32_t target);
std::string kernel_text(const Plan& plan, std::size_t index);

std::string joined(std::span<const std::string> words, std::string_view separator);

// The instruction set: every opcode with all its modifiers; of those that are only hints to a cache, each once.
std::vector<std::string> opcodes();
// Those that begin with one of these words.
std::vector<std::string> opcodes_of(std::span<const std::string_view> first_words);

}  // namespace sluice::ptx
