// A PTX module as its text says it: functions with their instructions, variables, source lines. Nothing is decoded yet
// (program.h does that), but every name, operand and label has been resolved to what it is written as.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::ptx {

enum class Space : std::uint8_t { kRegister, kGeneric, kGlobal, kShared, kLocal, kParam, kConst };

// Fundamental types (PTX ISA, "Types"); the packed ones are 32 bits wide.
enum class Type : std::uint8_t {
  kNone,
  kPred,
  kB8,
  kB16,
  kB32,
  kB64,
  kB128,
  kU8,
  kU16,
  kU32,
  kU64,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kF16x2,
  kBF16,
  kBF16x2,
  kTF32,
  kF32,
  kF64
};
// In bytes; a predicate takes none.
std::uint32_t size_of(Type type);
// "s32" and so on; nothing if there is no such type.
std::optional<Type> type_named(std::string_view name);
std::optional<Space> space_named(std::string_view name);

// A place in the CUDA source, from .loc; file 0 if there is none.
struct SourceLine {
  std::uint32_t file = 0;  // key of Module::files
  std::uint32_t line = 0;
  std::uint32_t call = 0;  // that its function was inlined for: number in Module::calls, from 1; 0: none
  auto operator<=>(const SourceLine&) const = default;
};

// NOLINTBEGIN(readability-redundant-member-init): so that naming only some members of one is no warning

// One operand as written. A vector {a, b} has its parts in `elements`; an address [base+offset] has the base, a register or a
// variable, in `name`; `name+offset` without brackets is the address of a variable as a value.
struct Operand {
  enum class Kind : std::uint8_t { kName, kInteger, kFloat, kAddress, kVector, kSink };
  Kind kind = Kind::kName;
  std::string name = {};     // kName, kAddress; empty for [integer]
  std::int64_t integer = 0;  // kInteger; offset of kName and kAddress
  // kFloat: its value, and the bits that 0f (32) or 0d (64) gave in `integer`; 0 for a decimal fraction.
  double real = 0;
  std::uint32_t real_bits = 0;
  bool negated = false;     // !p
  std::string second = {};  // p|q of setp, shfl, match, elect: the name of q
  std::vector<Operand> elements = {};
};

struct Instruction {
  std::string opcode = {};  // with all modifiers: "ld.global.v4.u32"
  std::string guard = {};   // the predicate of @p and @!p; empty if there is none
  bool guard_negated = false;
  std::vector<Operand> operands = {};
  std::uint32_t ptx_line = 0;
  SourceLine source;
};

// A variable of any space but registers. `name` is unique within its function or module: what a nested scope declares is
// renamed.
struct Variable {
  std::string name = {};
  Space space = Space::kGlobal;
  Type type = Type::kB8;
  std::uint32_t align = 1;
  std::uint64_t size = 0;  // bytes; 0 for `.extern .shared x[]`
  bool external = false;
  std::vector<std::byte> initial = {};  // of the first bytes; zeros follow
  struct Address {                      // an address within `initial`: of a variable or function
    std::uint64_t offset = 0;
    std::string symbol = {};
    std::int64_t addend = 0;
  };
  std::vector<Address> addresses = {};
  std::uint32_t ptx_line = 0;
};

// NOLINTEND(readability-redundant-member-init)

// name, or with a count name0 … name(count-1), as in `.reg .b32 %r<20>`.
struct Registers {
  std::string name;
  Type type = Type::kNone;
  std::uint32_t count = 0;
};

struct Label {
  std::string name;
  std::uint32_t instruction = 0;
};

struct BranchTable {  // name: .branchtargets a, b;
  std::string name;
  std::vector<std::string> labels;
};

struct Prototype {  // name: .callprototype (ret) _ (params);
  std::string name;
  std::vector<Variable> returns;
  std::vector<Variable> parameters;
};

// NOLINTBEGIN(readability-redundant-member-init): as above
struct Function {
  std::string name = {};
  bool entry = false;
  bool defined = false;  // has a body
  std::vector<Variable> returns = {};
  std::vector<Variable> parameters = {};
  std::vector<Registers> registers = {};
  std::vector<Variable> variables = {};  // .local, .shared and .param in the body
  std::vector<Instruction> instructions = {};
  std::vector<Label> labels = {};
  std::vector<BranchTable> branch_tables = {};
  std::vector<Prototype> prototypes = {};
  std::array<std::uint32_t, 3> max_threads = {};       // .maxntid; 0: not given
  std::array<std::uint32_t, 3> required_threads = {};  // .reqntid
  std::uint32_t ptx_line = 0;
};
// NOLINTEND(readability-redundant-member-init)

struct Module {
  std::string name;                 // the file, for messages
  std::uint32_t target = 0;         // sm_75 is 75
  std::vector<Variable> variables;  // .global, .const, .shared
  std::vector<Function> functions;
  std::map<std::uint32_t, std::string> files;  // of .file
  std::vector<SourceLine> calls;               // of inlined functions; a call may be inlined in its turn

  const Function* find_function(std::string_view function) const;
  const Variable* find_variable(std::string_view variable) const;
};

// What a constant, kInteger or kFloat, is in memory of that type; nothing if its size is another.
std::optional<std::uint64_t> constant_bits(const Operand& constant, Type type);

// A message with names as the text has them: those that a nested scope declares are unique by an @number.
std::string as_written(std::string_view text);

// Throws Error with `name` and the line of the first thing that is no PTX.
Module parse(std::string_view text, std::string_view name);

}  // namespace sluice::ptx
