// The instruction set: every opcode that the machine accepts, with its modifiers, as the PTX ISA's syntax has them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ptx/operation.h"

namespace sluice::ptx {

// Whether these words, an opcode without its dots, are one of the instruction set. Modifiers may stand in another order than
// the ISA's, as ptxas allows.
bool is_opcode(std::span<const std::string> words);

// The first target that has an opcode which not all of them have (sm_80: 80), else 0.
std::uint32_t first_target(std::span<const std::string> words);

// All of them, in the ISA's order; of modifiers that are only hints to a cache, each once.
std::vector<std::string> opcodes();

// What computes those that touch nothing but registers.
const FormTable& forms();

std::optional<Rounding> rounding_named(std::string_view name);
std::vector<std::string> split_opcode(std::string_view opcode);

}  // namespace sluice::ptx
