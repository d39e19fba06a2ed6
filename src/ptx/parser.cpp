#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <ranges>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/lanes.h"
#include "ptx/lexer.h"
#include "ptx/module.h"

namespace sluice::ptx {
namespace {

using Kind = Token::Kind;

constexpr std::uint64_t kMaxVariable = std::uint64_t{1} << 32U;  // bytes
constexpr std::size_t kMaxDepth = 64;                            // of braces, in code and initial values

std::optional<Space> space_named(std::string_view directive) {
  if (directive == ".global") return Space::kGlobal;
  if (directive == ".shared") return Space::kShared;
  if (directive == ".local") return Space::kLocal;
  if (directive == ".param") return Space::kParam;
  if (directive == ".const") return Space::kConst;
  return std::nullopt;
}

// A pair of braces in a function: the names that it declares, and where labels are used that it may yet define.
struct NameScope {
  std::unordered_map<std::string, std::string> names;   // as written → unique
  std::unordered_map<std::string, std::string> ranges;  // the same for the %r of %r<20>
  std::unordered_map<std::string, std::string> labels;
  std::vector<std::pair<std::size_t, std::size_t>> open_labels;  // instruction, operand
};

class Parser {
 public:
  Parser(std::string_view text, std::string_view name) : lexer_(text, name) { module_.name = name; }
  Module parse();

 private:
  using Position = std::array<std::uint64_t, 3>;  // in the source: file, line, column

  void header();
  void top_level();
  void file();
  void pragma();
  void section();
  void function(bool entry, bool external);
  void tuning(Function& function);
  void body(Function& function);
  void statement(Function& function);
  void directive(Function& function);
  void registers(Function& function);
  void location();
  Position position();
  void instruction(Function& function, Instruction result);
  void end_scope(Function& function);
  void labelled(Function& function, const std::string& name);

  std::vector<Variable> parameter_list();
  Variable variable(Space space);
  void initial_value(Variable& variable);
  void initial_element(Variable& variable, std::uint64_t& at, std::size_t depth);

  Operand operand();
  Operand list(std::string_view close);
  Operand address();
  Operand number();
  std::int64_t offset();

  std::string declare(const std::string& name);
  std::string resolve(std::string_view name) const;

  Lexer lexer_;
  Module module_;
  SourceLine source_;
  std::map<Position, std::uint32_t> call_of_;  // the call of the last .loc there, in this function
  std::map<SourceLine, std::uint32_t> calls_;  // numbers in module_.calls
  std::vector<NameScope> scopes_;
  std::unordered_set<std::string> labels_, ranges_;  // of the function
  std::size_t renamed_ = 0;
  std::size_t depth_ = 0;
};

// --- The file ---

Module Parser::parse() {
  header();
  while (lexer_.now().kind != Kind::kEnd) top_level();
  return std::move(module_);
}

// .version 9.0 / .target sm_80[, option…] / .address_size 64
void Parser::header() {
  lexer_.expect(".version");
  const Token version = lexer_.expect(Kind::kNumber, "a version such as 8.4");
  if (!version.is_real || !(version.real >= 6 && version.real < 10)) {
    lexer_.fail_at(version.line, fmt::format("PTX version {} is not known; 6.0 to 9.x are", version.text));
  }
  module_.version = static_cast<std::uint32_t>(std::lround(version.real * 10));
  lexer_.expect(".target");
  const Token target = lexer_.expect(Kind::kWord, "a target such as sm_80");
  for (const char c : target.text.starts_with("sm_") ? target.text.substr(3) : std::string_view()) {
    if (c < '0' || c > '9' || module_.target > 999) break;  // sm_90a
    module_.target = module_.target * 10 + static_cast<std::uint32_t>(c - '0');
  }
  if (module_.target < 50)
    lexer_.fail_at(target.line, fmt::format("target {} is not known", printable(target.text)));
  while (lexer_.accept(",")) lexer_.expect(Kind::kWord, "an option of the target");
  lexer_.expect(".address_size");
  if (lexer_.expect_integer() != 64) lexer_.fail("only modules with 64-bit addresses are supported");
}

void Parser::top_level() {
  bool external = false;
  for (;;) {
    if (lexer_.accept(".extern")) {
      external = true;
    } else if (!lexer_.accept(".visible") && !lexer_.accept(".weak") && !lexer_.accept(".common")) {
      break;
    }
  }
  if (lexer_.accept(".entry")) {
    function(true, external);
    return;
  }
  if (lexer_.accept(".func")) {
    function(false, external);
    return;
  }
  if (lexer_.accept(".file")) {
    file();
    return;
  }
  if (lexer_.accept(".section")) {
    section();
    return;
  }
  if (lexer_.accept(".pragma")) {
    pragma();
    return;
  }
  const std::optional<Space> space = space_named(lexer_.now().text);
  if (!space || *space == Space::kLocal || *space == Space::kParam) {
    lexer_.fail(fmt::format("'{}' is not known, or not supported, outside of functions",
                            printable(lexer_.now().text, 40)));
  }
  lexer_.take();
  do {
    Variable declared = variable(*space);
    declared.external = external;
    if (lexer_.accept("=")) initial_value(declared);
    module_.variables.push_back(std::move(declared));
  } while (lexer_.accept(","));
  lexer_.expect(";");
}

// .file 1 "name"[, time, size]
void Parser::file() {
  const auto index = static_cast<std::uint32_t>(lexer_.expect_integer());
  module_.files[index] = lexer_.expect(Kind::kText, "the name of a file").text;
  while (lexer_.accept(",")) lexer_.expect_integer();
}

// For NVIDIA's compiler: skipped.
void Parser::pragma() {
  lexer_.expect(Kind::kText, "the text of the pragma");
  lexer_.expect(";");
}

// Debug information: skipped.
void Parser::section() {
  lexer_.take();
  lexer_.expect("{");
  while (!lexer_.accept("}")) {
    if (lexer_.take().kind == Kind::kEnd) lexer_.fail("a section that never ends");
  }
}

// --- Variables ---

// [.align n] [.ptr …] .type name[dimensions…]; the space has been taken.
Variable Parser::variable(Space space) {
  Variable result{.space = space, .ptx_line = lexer_.now().line};
  std::optional<Type> type;
  std::uint32_t vector = 1;
  std::uint32_t align = 0;
  bool pointer = false;
  while (lexer_.now().kind == Kind::kDirective) {
    const std::string_view word = lexer_.take().text.substr(1);
    if (word == "align") {
      const std::uint64_t value = lexer_.expect_integer();
      if (value == 0 || (value & (value - 1)) != 0 || value > 4096)
        lexer_.fail(fmt::format("an alignment of {}: it must be a power of 2, at most 4096", value));
      if (!pointer) align = static_cast<std::uint32_t>(value);  // after .ptr it is what the pointer points to
    } else if (word == "v2" || word == "v4") {
      vector = word == "v2" ? 2 : 4;
    } else if (word == "ptr") {
      pointer = true;
    } else if (type_named(word)) {
      type = type_named(word);
    } else if (!pointer || !space_named(fmt::format(".{}", word))) {
      if (word != "attribute" || !lexer_.accept("(")) {
        lexer_.fail(fmt::format("'.{}' is not known in a declaration", printable(word, 40)));
      }
      while (!lexer_.accept(")")) {
        if (lexer_.take().kind == Kind::kEnd) lexer_.fail("an attribute that never ends");
      }
    }
  }
  if (!type || *type == Type::kPred) lexer_.fail("a declaration without a type that memory can hold");
  result.type = *type;
  result.name = lexer_.expect(Kind::kWord, "a name").text;
  std::uint64_t size = std::uint64_t{size_of(*type)} * vector;
  result.align = std::max(align, static_cast<std::uint32_t>(size));
  if (align != 0) result.align = align;
  while (lexer_.accept("[")) {
    const std::uint64_t count = lexer_.at("]") ? 0 : lexer_.expect_integer();
    if (count > kMaxVariable) lexer_.fail("a variable larger than 4 GB");
    size *= count;
    if (size > kMaxVariable) lexer_.fail("a variable larger than 4 GB");
    lexer_.expect("]");
  }
  result.size = size;
  return result;
}

void Parser::initial_value(Variable& variable) {
  std::uint64_t at = 0;
  initial_element(variable, at, 0);
  if (variable.size == 0) variable.size = at;
}

// One value or a list of them, in braces, at byte `at`.
void Parser::initial_element(Variable& variable, std::uint64_t& at, std::size_t depth) {
  if (lexer_.accept("{")) {
    if (depth == kMaxDepth) lexer_.fail("an initial value with too many braces");
    while (!lexer_.accept("}")) {
      initial_element(variable, at, depth + 1);
      if (!lexer_.at("}")) lexer_.expect(",");
    }
    return;
  }
  const std::uint32_t size = size_of(variable.type);
  if (variable.initial.size() < at + size) {
    if (variable.size != 0 && variable.size < at + size)
      lexer_.fail("more initial values than the variable has room for");
    variable.initial.resize(at + size);
  }
  std::uint64_t bits = 0;
  if (lexer_.now().kind == Kind::kWord) {
    const bool generic = lexer_.accept("generic");
    if (generic) lexer_.expect("(");
    const std::string symbol(lexer_.expect(Kind::kWord, "a name").text);
    if (generic) lexer_.expect(")");
    if (size != 8) lexer_.fail("an address needs a variable of 64 bits");
    variable.addresses.push_back({at, symbol, offset()});
  } else {
    const Operand value = number();
    const bool real = value.kind == Operand::Kind::kFloat;
    bits = static_cast<std::uint64_t>(value.integer);
    if (real && variable.type == Type::kF32 && value.real_bits != 32) {
      bits = std::bit_cast<std::uint32_t>(static_cast<float>(value.real));
    } else if (real && variable.type == Type::kF64 && value.real_bits != 64) {
      bits = std::bit_cast<std::uint64_t>(value.real);
    }
  }
  for (std::uint32_t i = 0; i < std::min(size, 8U); ++i) {
    variable.initial[at + i] = static_cast<std::byte>(bits >> (8 * i));
  }
  at += size;
}

// --- Functions ---

std::vector<Variable> Parser::parameter_list() {
  std::vector<Variable> parameters;
  lexer_.expect("(");
  while (!lexer_.accept(")")) {
    if (lexer_.accept(".reg")) lexer_.fail("parameters in registers are not supported: nvcc uses .param");
    lexer_.expect(".param");
    parameters.push_back(variable(Space::kParam));
    if (!lexer_.at(")")) lexer_.expect(",");
  }
  return parameters;
}

void Parser::function(bool entry, bool external) {
  Function result{.entry = entry, .ptx_line = lexer_.now().line};
  if (!entry && lexer_.at("(")) result.returns = parameter_list();
  result.name = lexer_.expect(Kind::kWord, "the name of a function").text;
  if (lexer_.at("(")) result.parameters = parameter_list();
  tuning(result);
  if (lexer_.at("{")) {
    if (external) lexer_.fail("an external function with a body");
    result.defined = true;
    body(result);
  } else {
    lexer_.expect(";");
  }
  const auto same = std::ranges::find(module_.functions, result.name, &Function::name);
  if (same == module_.functions.end()) {
    module_.functions.push_back(std::move(result));
  } else if (!same->defined) {
    *same = std::move(result);
  } else if (result.defined) {
    lexer_.fail_at(result.ptx_line, fmt::format("function {} is defined twice", printable(result.name)));
  }
}

// What stands between a function's parameters and its body. What only tunes the compiler is skipped.
void Parser::tuning(Function& function) {
  while (lexer_.now().kind == Kind::kDirective) {
    const std::string_view word = lexer_.take().text;
    if (word == ".maxntid" || word == ".reqntid") {
      auto& threads = word == ".maxntid" ? function.max_threads : function.required_threads;
      threads = {1, 1, 1};
      for (std::size_t i = 0; i < 3; ++i) {
        threads[i] = static_cast<std::uint32_t>(std::min<std::uint64_t>(lexer_.expect_integer(), 1U << 20U));
        if (!lexer_.accept(",")) break;
      }
    } else if (word == ".minnctapersm" || word == ".maxnreg" || word == ".maxnctapersm") {
      lexer_.expect_integer();
    } else if (word == ".pragma") {
      pragma();
    } else if (word != ".noreturn") {
      lexer_.fail(fmt::format("'{}' is not supported on a function", printable(word, 40)));
    }
  }
}

void Parser::body(Function& function) {
  scopes_.clear();
  labels_.clear();
  ranges_.clear();
  source_ = {};
  call_of_.clear();
  lexer_.expect("{");
  scopes_.emplace_back();
  while (!scopes_.empty()) {
    if (lexer_.now().kind == Kind::kEnd) lexer_.fail("a function that never ends");
    if (lexer_.accept("{")) {
      if (scopes_.size() == kMaxDepth) lexer_.fail("braces nested too deep");
      scopes_.emplace_back();
    } else if (lexer_.accept("}")) {
      end_scope(function);
    } else {
      statement(function);
    }
  }
}

// Labels are known now: those of this scope are found, the others may be of the scope around it.
void Parser::end_scope(Function& function) {
  NameScope ended = std::move(scopes_.back());
  scopes_.pop_back();
  for (const auto& [instruction, operand] : ended.open_labels) {
    Operand& use = function.instructions[instruction].operands[operand];
    const auto label = ended.labels.find(use.name);
    if (label != ended.labels.end()) {
      use.name = label->second;
    } else if (!scopes_.empty()) {
      scopes_.back().open_labels.emplace_back(instruction, operand);
    }
  }
}

void Parser::statement(Function& function) {
  if (lexer_.now().kind == Kind::kDirective) {
    directive(function);
    return;
  }
  Instruction result{.ptx_line = lexer_.now().line, .source = source_};
  if (lexer_.accept("@")) {
    result.guard_negated = lexer_.accept("!");
    result.guard = resolve(lexer_.expect(Kind::kWord, "a predicate").text);
  }
  if (lexer_.now().kind == Kind::kWord) {
    result.opcode = lexer_.take().text;
    if (result.guard.empty() && lexer_.accept(":")) {
      labelled(function, result.opcode);
      return;
    }
    instruction(function, std::move(result));
    return;
  }
  lexer_.fail(fmt::format("expected an instruction, found '{}'", printable(lexer_.now().text, 40)));
}

void Parser::directive(Function& function) {
  if (lexer_.accept(".loc")) {
    location();
    return;
  }
  if (lexer_.accept(".reg")) {
    registers(function);
    return;
  }
  if (lexer_.accept(".pragma")) {
    pragma();
    return;
  }
  const std::optional<Space> space = space_named(lexer_.now().text);
  if (!space || *space == Space::kConst) {
    lexer_.fail(fmt::format("'{}' is not supported in a function", printable(lexer_.now().text, 40)));
  }
  lexer_.take();
  do {
    Variable declared = variable(*space);
    declared.name = declare(declared.name);
    if (lexer_.accept("=")) initial_value(declared);
    function.variables.push_back(std::move(declared));
  } while (lexer_.accept(","));
  lexer_.expect(";");
}

// .reg .b32 %r<20>, a, b;
void Parser::registers(Function& function) {
  const Token type_word = lexer_.expect(Kind::kDirective, "a type");
  const std::optional<Type> type = type_named(type_word.text.substr(1));
  if (!type)
    lexer_.fail(fmt::format("registers of type '{}' are not supported", printable(type_word.text, 40)));
  do {
    const std::string name(lexer_.expect(Kind::kWord, "the name of a register").text);
    std::uint64_t count = 0;
    if (lexer_.accept("<")) {
      count = lexer_.expect_integer();
      if (count > (1U << 20U)) lexer_.fail("more than a million registers");
      lexer_.expect(">");
    }
    std::string unique = name;
    if (count == 0) {
      unique = declare(name);
    } else {
      if (!ranges_.insert(name).second) unique = fmt::format("{}@{}.", name, ++renamed_);
      scopes_.back().ranges[name] = unique;
    }
    function.registers.push_back({unique, *type, static_cast<std::uint32_t>(count)});
  } while (lexer_.accept(","));
  lexer_.expect(";");
}

Parser::Position Parser::position() {
  Position result{};
  for (std::uint64_t& part : result) part = lexer_.expect_integer();
  return result;
}

// .loc file line column[, function_name label[+n], inlined_at file line column]. Where a function was inlined, a .loc before
// this one has the call's place, and where that was inlined in its turn.
void Parser::location() {
  const auto source_line = [](const Position& at, std::uint32_t call) {
    return SourceLine{static_cast<std::uint32_t>(at[0]), static_cast<std::uint32_t>(at[1]), call};
  };
  const Position own = position();
  std::uint32_t call = 0;
  while (lexer_.accept(",")) {
    const Token word = lexer_.expect(Kind::kWord, "function_name or inlined_at");
    if (word.text == "function_name") {
      lexer_.expect(Kind::kWord, "a label");
      if (lexer_.accept("+")) lexer_.expect_integer();
    } else if (word.text == "inlined_at") {
      const Position at = position();
      const auto outer = call_of_.find(at);
      const SourceLine caller = source_line(at, outer == call_of_.end() ? 0 : outer->second);
      const auto [known, added] = calls_.try_emplace(caller, module_.calls.size() + 1);
      if (added) module_.calls.push_back(caller);
      call = known->second;
    } else {
      lexer_.fail(fmt::format("'{}' is not known in .loc", printable(word.text, 40)));
    }
  }
  source_ = source_line(own, call);
  call_of_[own] = call;
}

// name: .branchtargets a, b; or name: .callprototype (ret) _ (params); or a label.
void Parser::labelled(Function& function, const std::string& name) {
  if (lexer_.accept(".branchtargets")) {
    BranchTable table{declare(name), {}};
    do {
      table.labels.emplace_back(lexer_.expect(Kind::kWord, "a label").text);
    } while (lexer_.accept(","));
    lexer_.expect(";");
    function.branch_tables.push_back(std::move(table));
  } else if (lexer_.accept(".callprototype")) {
    Prototype prototype;
    prototype.name = declare(name);
    if (lexer_.at("(")) prototype.returns = parameter_list();
    lexer_.expect(Kind::kWord, "_");
    if (lexer_.at("(")) prototype.parameters = parameter_list();
    while (lexer_.accept(".noreturn")) {
    }
    lexer_.expect(";");
    function.prototypes.push_back(std::move(prototype));
  } else {
    std::string unique = name;
    if (!labels_.insert(name).second) {
      unique = fmt::format("{}@{}", name, ++renamed_);
    }
    if (!scopes_.back().labels.emplace(name, unique).second) {
      lexer_.fail(fmt::format("label {} is defined twice", printable(name)));
    }
    function.labels.push_back({unique, static_cast<std::uint32_t>(function.instructions.size())});
  }
}

// [@[!]p] opcode operand, …; the guard has not been taken, the opcode has.
void Parser::instruction(Function& function, Instruction result) {
  while (!lexer_.accept(";")) {
    result.operands.push_back(operand());
    if (!lexer_.at(";")) lexer_.expect(",");
  }
  for (std::size_t i = 0; i < result.operands.size(); ++i) {
    if (result.operands[i].kind == Operand::Kind::kName) {
      scopes_.back().open_labels.emplace_back(function.instructions.size(), i);
    }
  }
  function.instructions.push_back(std::move(result));
}

// --- Operands ---

Operand Parser::operand() {
  if (lexer_.accept("{")) return list("}");
  if (lexer_.accept("(")) return list(")");
  if (lexer_.accept("[")) return address();
  if (lexer_.at("-") || lexer_.now().kind == Kind::kNumber) return number();
  Operand result;
  result.negated = lexer_.accept("!");
  const Token word = lexer_.expect(Kind::kWord, "an operand");
  if (word.text == "_" && !lexer_.at("|")) return {.kind = Operand::Kind::kSink};
  if (word.text == "WARP_SZ") return {.kind = Operand::Kind::kInteger, .integer = kLanes};
  result.name = resolve(word.text);
  if (lexer_.accept("|")) result.second = resolve(lexer_.expect(Kind::kWord, "a predicate").text);
  result.integer = offset();
  return result;
}

Operand Parser::list(std::string_view close) {
  Operand result{.kind = Operand::Kind::kVector};
  if (++depth_ > kMaxDepth) lexer_.fail("operands nested too deep");
  while (!lexer_.accept(close)) {
    result.elements.push_back(operand());
    if (!lexer_.at(close)) lexer_.expect(",");
  }
  --depth_;
  return result;
}

// [name], [name+8], [64]; the bracket has been taken.
Operand Parser::address() {
  Operand result{.kind = Operand::Kind::kAddress};
  if (lexer_.now().kind == Kind::kWord) {
    result.name = resolve(lexer_.take().text);
    result.integer = offset();
  } else {
    result.integer = number().integer;
  }
  lexer_.expect("]");
  return result;
}

Operand Parser::number() {
  const bool negative = lexer_.accept("-");
  const Token token = lexer_.expect(Kind::kNumber, "a number");
  if (token.is_real) {
    const auto bits = static_cast<std::int64_t>(token.integer);
    if (negative) return {.kind = Operand::Kind::kFloat, .real = -token.real};
    return {.kind = Operand::Kind::kFloat, .integer = bits, .real = token.real, .real_bits = token.real_bits};
  }
  const std::uint64_t value = negative ? 0 - token.integer : token.integer;
  return {.kind = Operand::Kind::kInteger, .integer = static_cast<std::int64_t>(value)};
}

// +8, -8, +-8 or nothing.
std::int64_t Parser::offset() {
  if (lexer_.at("-")) return number().integer;
  if (!lexer_.accept("+")) return 0;
  return number().integer;
}

// --- Names ---

// The unique form of a name that the innermost scope declares; as_written() undoes it.
std::string Parser::declare(const std::string& name) {
  const bool outermost = scopes_.size() == 1;
  std::string unique = outermost ? name : fmt::format("{}@{}", name, ++renamed_);
  if (!scopes_.back().names.emplace(name, unique).second) {
    lexer_.fail(fmt::format("{} is declared twice", printable(name)));
  }
  return unique;
}

std::string Parser::resolve(std::string_view name) const {
  std::string whole(name);
  const std::size_t digits = name.find_last_not_of("0123456789") + 1;
  for (const NameScope& scope : std::views::reverse(scopes_)) {
    const auto single = scope.names.find(whole);
    if (single != scope.names.end()) return single->second;
    if (digits == name.size() || scope.ranges.empty()) continue;
    const auto range = scope.ranges.find(whole.substr(0, digits));
    if (range != scope.ranges.end()) return range->second + whole.substr(digits);
  }
  return whole;
}

}  // namespace

Module parse(std::string_view text, std::string_view name) {
  return Parser(text, name).parse();
}

std::string as_written(std::string_view text) {
  std::string result;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '@') {
      result += text[at++];
      continue;
    }
    at = std::min(text.find_first_not_of("0123456789", at + 1), text.size());
    if (at + 1 < text.size() && text[at] == '.' && text[at + 1] >= '0' && text[at + 1] <= '9') ++at;
  }
  return result;
}

const Function* Module::find_function(std::string_view function) const {
  const auto found = std::ranges::find(functions, function, &Function::name);
  return found == functions.end() ? nullptr : &*found;
}

const Variable* Module::find_variable(std::string_view variable) const {
  const auto found = std::ranges::find(variables, variable, &Variable::name);
  return found == variables.end() ? nullptr : &*found;
}

namespace {

struct TypeEntry {
  std::string_view name;
  Type type;
  std::uint32_t size;
};
constexpr TypeEntry kTypes[] = {
    {"pred", Type::kPred, 0},   {"b8", Type::kB8, 1},     {"b16", Type::kB16, 2},
    {"b32", Type::kB32, 4},     {"b64", Type::kB64, 8},   {"b128", Type::kB128, 16},
    {"u8", Type::kU8, 1},       {"u16", Type::kU16, 2},   {"u32", Type::kU32, 4},
    {"u64", Type::kU64, 8},     {"s8", Type::kS8, 1},     {"s16", Type::kS16, 2},
    {"s32", Type::kS32, 4},     {"s64", Type::kS64, 8},   {"f16", Type::kF16, 2},
    {"f16x2", Type::kF16x2, 4}, {"bf16", Type::kBF16, 2}, {"bf16x2", Type::kBF16x2, 4},
    {"tf32", Type::kTF32, 4},   {"f32", Type::kF32, 4},   {"f64", Type::kF64, 8},
};

}  // namespace

std::uint32_t size_of(Type type) {
  const auto* entry = std::ranges::find(kTypes, type, &TypeEntry::type);
  return entry == std::end(kTypes) ? 0 : entry->size;
}

std::optional<Type> type_named(std::string_view name) {
  const auto* entry = std::ranges::find(kTypes, name, &TypeEntry::name);
  if (entry == std::end(kTypes)) return std::nullopt;
  return entry->type;
}

}  // namespace sluice::ptx
