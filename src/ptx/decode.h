// From parsed instructions to operations (program.h): one function at a time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "ptx/liveness.h"
#include "ptx/program.h"

namespace sluice::ptx {

// Where a variable of a function lies: offset in its space.
struct DeclaredName {
  Space space = Space::kLocal;
  std::uint64_t address = 0;
  std::uint64_t size = 0;
};
using DeclaredNames = std::unordered_map<std::string, DeclaredName>;

class FunctionDecoder {
 public:
  FunctionDecoder(Program& program, std::uint32_t function, const DeclaredNames& names);

  // Appends the function's operations to the program's; its registers begin at byte `begin` of the warp's. Returns the
  // plan of its rows. Throws Error with file and line.
  RowPlan run(std::uint32_t begin);

 private:
  struct Register {
    Row row = 0;
    Type type = Type::kNone;
  };
  struct Built {
    Operation op;
    std::vector<Row> more;
    std::uint32_t n_defined = 0;       // rows[0], …
    std::uint32_t n_more_defined = 0;  // the first of `more`
    const Instruction* instruction = nullptr;
    std::vector<std::string> labels;  // that it may branch to
    bool defines_last = false;        // rows[4]
    bool falls_through = true;
  };

  [[noreturn]] void fail(std::string_view what) const;
  [[noreturn]] void unsupported() const { fail("this opcode or form is not supported"); }
  Register fresh(Type type, bool temporary = true);
  const Register* find_register(const std::string& name);
  const Register& target(const Operand& operand);
  std::optional<std::uint64_t> symbol(const std::string& name) const;
  bool is_dynamic_shared(const std::string& name) const;
  std::optional<Row> special(std::string_view name, std::uint8_t width);
  Row dynamic_shared(std::int64_t offset, std::uint8_t width);
  Row immediate(const Operand& operand, Type type);
  Row opposite(Row predicate);
  Row source(const Operand& operand, Type type, bool loose = false);
  Row destination(const Operand& operand, Type type);
  // The row of an address and what to add to it; `wide`: it has 64 bits.
  struct Address {
    Row row = 0;
    std::int64_t offset = 0;
    bool wide = false;
  };
  Address address(const Operand& operand, Space space);

  const Operand& operand(std::size_t i) const;
  void expect_operands(std::size_t n) const;
  // True, and the word is gone, if the opcode has it.
  bool take(std::string_view word);
  std::optional<Type> take_type();  // the last word
  Space take_space();
  void take_order(Operation& op);
  void expect_no_words() const;  // beside the first

  const Form& form(std::string_view name) const;
  void emit_form(std::string_view name, Row destination, const std::vector<Row>& sources,
                 std::optional<Rounding> rounding = std::nullopt, std::int64_t immediate = 0);
  void emit(const Operation& op, std::uint32_t n_defined, std::vector<Row> more = {},
            std::uint32_t n_more_defined = 0);
  void fold_copy(std::size_t first);
  bool is_temporary(Row row) const;

  void decode(const Instruction& instruction);
  void arithmetic();
  void mov();
  void cvt();
  void finish_wide(const Operand& to, Type type, Row value);
  void setp();
  std::string take_boolean();
  void setp_pair(Type type, bool flush, const std::string& combine);
  Row compare(std::string_view comparison, Type type, bool flush, Row a, Row b);
  void store_comparison(const Operand& to, Row result, const std::string& combine, Row c);
  void set();
  void select();
  void permute();
  void lop3();
  void carry();
  void mma();

  void load_store();
  void atomic();
  void cvta();
  void isspacep();
  void fence();
  void copy_async();
  void matrix_move();

  void barrier();
  void exchange();
  void shuffle();
  void branch();
  void call();
  void simple_control();
  std::uint32_t frame_offset(const Operand& operand, std::uint64_t size) const;

  Program& program_;
  const Function& function_;
  std::uint32_t function_index_;
  const DeclaredNames& names_;
  std::unordered_map<std::string, Register> registers_;
  std::unordered_map<std::string, std::pair<Type, std::uint32_t>> ranges_;
  std::vector<std::uint8_t> widths_;  // of virtual registers
  std::vector<bool> temporary_;       // made here: used by one instruction
  std::vector<Built> built_;
  std::optional<Row> carry_;  // the condition code

  // Of the instruction that is being decoded.
  const Instruction* now_ = nullptr;
  std::vector<std::string> words_;  // of its opcode
  Row guard_ = kTrue;
  bool guard_negated_ = false;
};

}  // namespace sluice::ptx
