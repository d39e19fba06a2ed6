// The instruction set: every opcode that the machine accepts, with its modifiers and operands, as the PTX ISA's syntax has them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ptx/operation.h"

namespace sluice::ptx {

class FunctionDecoder;

// A row of the table.
struct Opcode {
  using Decode = void (FunctionDecoder::*)();

  // What the executor does, or a form (its name lacks the width of T), gets operands as they are listed.
  constexpr Opcode(const char* syntax_text, const char* operand_text, WarpFunction does,
                   std::uint8_t first_variant = 0, Decode how = nullptr)
      : syntax(syntax_text), operands(operand_text), function(does), variant(first_variant), decode(how) {}
  constexpr Opcode(const char* syntax_text, const char* operand_text, const char* form_name)
      : syntax(syntax_text), operands(operand_text), form(form_name) {}
  // Or the decoder knows how.
  constexpr Opcode(const char* syntax_text, Decode how) : syntax(syntax_text), decode(how) {}

  const char* syntax;
  const char* operands = "";
  WarpFunction function = nullptr;
  const char* form = nullptr;
  std::uint8_t variant = 0;  // Operation::variant, for the first word of the slot that chooses one
  Decode decode = nullptr;
};

// A row, read: one word of each slot, and the operands.
struct Slot {
  std::vector<std::string> words;
  bool optional = false;
  bool hint = false;     // optional, and changes no value
  bool chooses = false;  // the variant
};
struct OperandSlot {
  enum class Kind : std::uint8_t { kSource, kDestination, kConstant } kind = Kind::kSource;
  Type type = Type::kNone;      // none: T, the opcode's first
  bool optional = false;        // "?u32"
  bool with_predicate = false;  // "d.b32|pred"
  std::int64_t largest = 0;     // of a constant
};

struct Syntax {
  const Opcode* opcode = nullptr;
  std::vector<Slot> slots;
  std::vector<OperandSlot> operands;
};
using Syntaxes = std::multimap<std::string, Syntax, std::less<>>;  // by the first word
const Syntaxes& syntaxes();

// What computes in registers, in the ISA's names less the rounding. Those that begin with a dot are no opcodes: the decoder makes
// some of them.
const std::map<std::string, Form, std::less<>>& forms();
const Form* find_form(std::string_view name);

// An opcode by its row of the table, or by the form that has its name, less the rounding.
struct FoundOpcode {
  const Opcode* opcode = nullptr;
  std::span<const OperandSlot> operands;
  std::uint8_t variant = 0;
  const Form* form = nullptr;
  std::optional<Rounding> rounding = std::nullopt;
};

// `words` are an opcode without its dots; neither a row nor a form if there is no such opcode. Modifiers of those with a row may
// stand in another order than the ISA's, as ptxas allows.
FoundOpcode find_opcode(std::span<const std::string> words);

// The first target that has an opcode which not all of them have (sm_80: 80), else 0.
std::uint32_t first_target(std::span<const std::string> words);

std::optional<Rounding> rounding_named(std::string_view name);
std::vector<std::string> split_opcode(std::string_view opcode);

}  // namespace sluice::ptx
