// From parsed instructions to operations (program.h): one function at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "ptx/liveness.h"
#include "ptx/opcodes.h"
#include "ptx/program.h"

namespace sluice::ptx {

class FunctionDecoder {
 public:
  FunctionDecoder(Program& program, std::uint32_t function, const DeclaredNames& names);

  // Appends the function's operations to the program's; its registers begin at byte `begin` of the warp's. Returns the
  // plan of its rows. Throws Error with file and line.
  RowPlan run(std::uint32_t begin);

  // What the table of opcodes names: each decodes the present instruction, whose words are right.
  void listed();  // by the operands that the table lists
  void mov();
  void cvt();
  void cvta();
  void compare();
  void carry();
  void mma();
  void load_store();
  void atomic();
  void fence();
  void copy_async();
  void wait_all();
  void load_matrix();
  void barrier();
  void branch();
  void call();
  void leave();
  void hint() {}

 private:
  struct Register {
    Row row = 0;
    Type type = Type::kNone;
  };

  [[noreturn]] void fail(std::string_view what) const;
  [[noreturn]] void unsupported() const { fail("this opcode or form is not supported"); }
  void decode(const Instruction& instruction);
  void arithmetic();

  // Words of the opcode.
  bool has(std::string_view word) const;
  Type type() const;  // the last
  Operation operation() const;

  // Operands.
  const Operand& operand(std::size_t i) const;
  void expect_operands(std::size_t n) const;
  std::span<const Operand> parts(std::size_t i, std::size_t n) const;  // of a vector
  std::int64_t constant(std::size_t i, std::int64_t largest) const;
  Row source(const Operand& operand, Type type, bool loose = false);
  Row source(std::size_t i, Type type) { return source(operand(i), type); }
  Row destination(const Operand& operand, Type type);
  Row predicate_beside(const Operand& operand);
  // The row of an address and what to add to it; `wide`: it has 64 bits.
  struct Address {
    Row row = 0;
    std::int64_t offset = 0;
    bool wide = false;
  };
  Address address(const Operand& operand, Space space);
  void set_address(Operation& op, const Operand& operand);
  std::uint32_t frame_offset(const Operand& operand, std::uint64_t size) const;

  // Names.
  Register fresh(Type type, bool temporary = true);
  const Register* find_register(const std::string& name);
  const Register& target(const Operand& operand);
  std::optional<std::uint64_t> symbol(const std::string& name) const;
  bool is_dynamic_shared(const std::string& name) const;
  std::optional<Row> special(std::string_view name, std::uint8_t width);
  Row dynamic_shared(std::int64_t offset, std::uint8_t width);
  Row immediate(const Operand& operand, Type type);

  // Operations.
  const Form& form(std::string_view name) const;
  void emit(const Operation& op, std::uint32_t defines, std::vector<Row> more = {},
            std::uint32_t n_more_defined = 0);
  void emit_form(const Form& entry, Row destination, const std::vector<Row>& sources,
                 std::optional<Rounding> rounding = std::nullopt);
  // The same into a row of its own.
  Row make(std::string_view name, const std::vector<Row>& sources,
           std::optional<Rounding> rounding = std::nullopt);
  void copy(const Operand& to, Type type, Row value);
  void copy_widened(const Operand& to, Type type, Row value);
  void fold_copy(std::size_t first);
  bool is_temporary(Row row) const;

  Program& program_;
  const Function& function_;
  std::uint32_t function_index_;
  const DeclaredNames& names_;
  std::unordered_map<std::string, Register> registers_;
  std::unordered_map<std::string, std::pair<Type, std::uint32_t>> ranges_;
  std::vector<std::uint8_t> widths_;  // of virtual registers
  std::vector<bool> temporary_;       // made here: used by one instruction
  std::vector<DecodedOperation> built_;
  std::optional<Row> carry_;  // the condition code

  // Of the instruction that is being decoded.
  const Instruction* now_ = nullptr;
  std::vector<std::string> words_;  // of its opcode
  FoundOpcode found_;
  Row guard_ = kTrue;
  bool guard_negated_ = false;
};

inline bool is_signed(Type type) {
  return type == Type::kS8 || type == Type::kS16 || type == Type::kS32 || type == Type::kS64;
}
inline bool is_half(Type type) {
  return type == Type::kF16 || type == Type::kBF16;
}
inline bool is_pair(Type type) {
  return type == Type::kF16x2 || type == Type::kBF16x2;
}
inline bool is_float(Type type) {
  return is_half(type) || type == Type::kF32 || type == Type::kF64;
}
// Bytes of a lane in a register that holds it; 0 for a predicate.
inline std::uint8_t row_width(Type type) {
  return static_cast<std::uint8_t>(type == Type::kPred ? 0U : std::max(size_of(type), 2U));
}
// "b32", "pred"
inline std::string bits_name(Type type) {
  return type == Type::kPred ? "pred" : fmt::format("b{}", 8 * row_width(type));
}

}  // namespace sluice::ptx
