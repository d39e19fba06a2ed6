#include <algorithm>
#include <bit>
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
using Position = std::array<std::uint64_t, 3>;  // in the source: file, line, column

constexpr std::uint64_t kMaxVariable = std::uint64_t{1} << 32U;  // bytes
constexpr std::size_t kMaxDepth = 64;  // of braces, in code, operands and initial values

// A pair of braces in a function: the names that it declares, and where labels are used that it may yet define.
struct NameScope {
  using Names = std::unordered_map<std::string, std::string>;  // as written → unique
  Names names;
  Names ranges;  // the same for the %r of %r<20>
  Names labels;
  std::vector<std::pair<std::size_t, std::size_t>> open_labels;  // instruction, operand
};

class Parser {
 public:
  Parser(std::string_view text, std::string_view name) : lexer_(text, name) { module_.name = name; }

  Module parse() {
    header();
    while (lexer_.now().kind != Kind::kEnd) top_level();
    return std::move(module_);
  }

 private:
  // What is listed up to `close`, with commas between.
  template <class Each>
  void up_to(std::string_view close, Each each) {
    while (!lexer_.accept(close)) {
      each();
      if (!lexer_.at(close)) lexer_.expect(",");
    }
  }
  // At least one, then a semicolon.
  template <class Each>
  void statement_of(Each each) {
    do {
      each();
    } while (lexer_.accept(","));
    lexer_.expect(";");
  }
  [[noreturn]] void refuse(std::string_view word, std::string_view why) {
    lexer_.fail(fmt::format("'{}' {}", printable(word, 40), why));
  }

  // --- The file ---

  // .version 9.0 / .target sm_80[, option…] / .address_size 64
  void header() {
    lexer_.expect(".version");
    const Token version = lexer_.expect(Kind::kNumber, "a version such as 8.4");
    if (!version.is_real || !(version.real >= 6 && version.real < 10)) {
      lexer_.fail_at(version.line, fmt::format("PTX version {} is not known; 6.0 to 9.x are", version.text));
    }
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

  void top_level() {
    bool external = false;
    while (lexer_.at(".extern") || lexer_.at(".visible") || lexer_.at(".weak") || lexer_.at(".common"))
      external |= lexer_.take().text == ".extern";
    const Token word = lexer_.take();
    const std::string_view name = word.kind == Kind::kDirective ? word.text : "";
    const std::optional<Space> space = declared_space(word);
    if (name == ".entry" || name == ".func") {
      function(name == ".entry", external);
    } else if (name == ".file") {  // 1 "name"[, time, size]
      const auto index = static_cast<std::uint32_t>(lexer_.expect_integer());
      module_.files[index] = lexer_.expect(Kind::kText, "the name of a file").text;
      while (lexer_.accept(",")) lexer_.expect_integer();
    } else if (name == ".section") {  // debug information: skipped
      lexer_.take();
      lexer_.expect("{");
      skip_to("}", "a section");
    } else if (name == ".pragma") {
      pragma();
    } else if (space && *space != Space::kLocal && *space != Space::kParam) {
      statement_of([&] {
        module_.variables.push_back(variable_with_value(*space));
        module_.variables.back().external = external;
      });
    } else {
      lexer_.fail_at(word.line, fmt::format("'{}' is not known, or not supported, outside of functions",
                                            printable(word.text, 40)));
    }
  }

  // For NVIDIA's compiler: skipped.
  void pragma() {
    lexer_.expect(Kind::kText, "the text of the pragma");
    lexer_.expect(";");
  }

  void skip_to(std::string_view end, std::string_view what) {
    while (!lexer_.accept(end))
      if (lexer_.take().kind == Kind::kEnd) lexer_.fail(fmt::format("{} that never ends", what));
  }

  // --- Variables ---

  static std::optional<Space> declared_space(const Token& word) {
    return word.kind == Kind::kDirective ? space_named(word.text.substr(1)) : std::nullopt;
  }

  // [.align n] [.ptr …] .type name[dimensions…]; the space has been taken.
  Variable variable(Space space) {
    Variable result{.space = space, .ptx_line = lexer_.now().line};
    std::optional<Type> type;
    std::uint32_t vector = 1;
    std::uint32_t align = 0;
    bool pointer = false;
    while (lexer_.now().kind == Kind::kDirective) {
      const std::string_view word = lexer_.take().text.substr(1);
      if (word == "align") {
        const std::uint64_t value = lexer_.expect_integer();
        if (!std::has_single_bit(value) || value > 4096)
          lexer_.fail(fmt::format("an alignment of {}: it must be a power of 2, at most 4096", value));
        if (!pointer)
          align = static_cast<std::uint32_t>(value);  // after .ptr it is what the pointer points to
      } else if (word == "v2" || word == "v4") {
        vector = word == "v2" ? 2 : 4;
      } else if (word == "ptr") {
        pointer = true;
      } else if (type_named(word)) {
        type = type_named(word);
      } else if (word == "attribute" && lexer_.accept("(")) {
        skip_to(")", "an attribute");
      } else if (!pointer || !space_named(word)) {
        lexer_.fail(fmt::format("'.{}' is not known in a declaration", printable(word, 40)));
      }
    }
    if (!type || *type == Type::kPred) lexer_.fail("a declaration without a type that memory can hold");
    result.type = *type;
    result.name = lexer_.expect(Kind::kWord, "a name").text;
    result.size = std::uint64_t{size_of(*type)} * vector;
    result.align = align != 0 ? align : static_cast<std::uint32_t>(result.size);
    while (lexer_.accept("[")) {
      const std::uint64_t count = lexer_.at("]") ? 0 : lexer_.expect_integer();
      if (count > kMaxVariable / std::max<std::uint64_t>(result.size, 1))
        lexer_.fail("a variable larger than 4 GB");
      result.size *= count;
      lexer_.expect("]");
    }
    return result;
  }

  Variable variable_with_value(Space space) {
    Variable result = variable(space);
    if (!lexer_.accept("=")) return result;
    initial_value(result, 0);
    if (result.size == 0) result.size = result.initial.size();
    return result;
  }

  // One value, or a list of them in braces, behind those that are there.
  void initial_value(Variable& variable, std::size_t depth) {
    if (lexer_.accept("{")) {
      if (depth == kMaxDepth) lexer_.fail("an initial value with too many braces");
      up_to("}", [&] { initial_value(variable, depth + 1); });
      return;
    }
    const std::size_t at = variable.initial.size();
    const std::uint32_t size = size_of(variable.type);
    if (variable.size != 0 && variable.size < at + size)
      lexer_.fail("more initial values than the variable has room for");
    variable.initial.resize(at + size);
    if (lexer_.now().kind == Kind::kWord) {
      const bool generic = lexer_.accept("generic");
      if (generic) lexer_.expect("(");
      const std::string symbol(lexer_.expect(Kind::kWord, "a name").text);
      if (generic) lexer_.expect(")");
      if (size != 8) lexer_.fail("an address needs a variable of 64 bits");
      variable.addresses.push_back({at, symbol, offset()});
      return;
    }
    const std::optional<std::uint64_t> bits = constant_bits(number(), variable.type);
    if (!bits) lexer_.fail("a floating-point constant of the wrong size");
    for (std::uint32_t i = 0; i < std::min(size, 8U); ++i)
      variable.initial[at + i] = static_cast<std::byte>(*bits >> (8 * i));
  }

  // --- Functions ---

  std::vector<Variable> parameters() {
    std::vector<Variable> result;
    if (!lexer_.accept("(")) return result;
    up_to(")", [&] {
      if (lexer_.at(".reg")) lexer_.fail("parameters in registers are not supported: nvcc uses .param");
      lexer_.expect(".param");
      result.push_back(variable(Space::kParam));
    });
    return result;
  }

  void function(bool entry, bool external) {
    Function result{.entry = entry, .ptx_line = lexer_.now().line};
    if (!entry) result.returns = parameters();
    result.name = lexer_.expect(Kind::kWord, "the name of a function").text;
    result.parameters = parameters();
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
  void tuning(Function& function) {
    while (lexer_.now().kind == Kind::kDirective) {
      const std::string_view word = lexer_.take().text;
      if (word == ".maxntid" || word == ".reqntid") {
        auto& threads = word == ".maxntid" ? function.max_threads : function.required_threads;
        threads = {1, 1, 1};
        for (std::uint32_t& axis : threads) {
          axis = static_cast<std::uint32_t>(std::min<std::uint64_t>(lexer_.expect_integer(), 1U << 20U));
          if (!lexer_.accept(",")) break;
        }
      } else if (word == ".minnctapersm" || word == ".maxnreg" || word == ".maxnctapersm") {
        lexer_.expect_integer();
      } else if (word == ".pragma") {
        pragma();
      } else if (word != ".noreturn") {
        refuse(word, "is not supported on a function");
      }
    }
  }

  void body(Function& function) {
    scopes_.clear();
    labels_.clear();
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
      } else if (lexer_.now().kind == Kind::kDirective) {
        directive(function);
      } else {
        statement(function);
      }
    }
  }

  // Labels are known now: those of this scope are found, the others may be of the scope around it.
  void end_scope(Function& function) {
    const NameScope ended = std::move(scopes_.back());
    scopes_.pop_back();
    for (const auto& use : ended.open_labels) {
      std::string& name = function.instructions[use.first].operands[use.second].name;
      const auto label = ended.labels.find(name);
      if (label != ended.labels.end())
        name = label->second;
      else if (!scopes_.empty())
        scopes_.back().open_labels.push_back(use);
    }
  }

  void directive(Function& function) {
    const Token word = lexer_.take();
    const std::optional<Space> space = declared_space(word);
    if (word.text == ".loc") {
      location();
    } else if (word.text == ".reg") {
      registers(function);
    } else if (word.text == ".pragma") {
      pragma();
    } else if (space && *space != Space::kConst) {
      statement_of([&] {
        function.variables.push_back(variable_with_value(*space));
        std::string& name = function.variables.back().name;
        name = declare(scopes_.back().names, name);
      });
    } else {
      lexer_.fail_at(word.line, fmt::format("'{}' is not supported in a function", printable(word.text, 40)));
    }
  }

  // .reg .b32 %r<20>, a, b;
  void registers(Function& function) {
    const Token type_word = lexer_.expect(Kind::kDirective, "a type");
    const std::optional<Type> type = type_named(type_word.text.substr(1));
    if (!type) {
      lexer_.fail(fmt::format("registers of type '{}' are not supported", printable(type_word.text, 40)));
    }
    statement_of([&] {
      const std::string name(lexer_.expect(Kind::kWord, "the name of a register").text);
      if (!lexer_.accept("<")) {
        function.registers.push_back({declare(scopes_.back().names, name), *type, 0});
        return;
      }
      const std::uint64_t count = lexer_.expect_integer();
      if (count > (1U << 20U)) lexer_.fail("more than a million registers");
      lexer_.expect(">");
      function.registers.push_back(
          {declare(scopes_.back().ranges, name, "."), *type, static_cast<std::uint32_t>(count)});
    });
  }

  Position position() {
    Position result{};
    for (std::uint64_t& part : result) part = lexer_.expect_integer();
    return result;
  }

  // .loc file line column[, function_name label[+n], inlined_at file line column]. Where a function was inlined, a .loc before
  // this one has the call's place, and where that was inlined in its turn.
  void location() {
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
        refuse(word.text, "is not known in .loc");
      }
    }
    source_ = source_line(own, call);
    call_of_[own] = call;
  }

  // [@[!]p] opcode operand, …; or a name that a colon follows.
  void statement(Function& function) {
    Instruction result{.ptx_line = lexer_.now().line, .source = source_};
    if (lexer_.accept("@")) {
      result.guard_negated = lexer_.accept("!");
      result.guard = resolve(lexer_.expect(Kind::kWord, "a predicate").text);
    }
    if (lexer_.now().kind != Kind::kWord) {
      lexer_.fail(fmt::format("expected an instruction, found '{}'", printable(lexer_.now().text, 40)));
    }
    result.opcode = lexer_.take().text;
    if (result.guard.empty() && lexer_.accept(":")) {
      labelled(function, result.opcode);
      return;
    }
    up_to(";", [&] {
      result.operands.push_back(operand());
      if (result.operands.back().kind == Operand::Kind::kName)
        scopes_.back().open_labels.emplace_back(function.instructions.size(), result.operands.size() - 1);
    });
    function.instructions.push_back(std::move(result));
  }

  // name: .branchtargets a, b; or name: .callprototype (ret) _ (params); or a label.
  void labelled(Function& function, const std::string& name) {
    if (lexer_.accept(".branchtargets")) {
      BranchTable table{declare(scopes_.back().names, name), {}};
      statement_of([&] { table.labels.emplace_back(lexer_.expect(Kind::kWord, "a label").text); });
      function.branch_tables.push_back(std::move(table));
    } else if (lexer_.accept(".callprototype")) {
      Prototype prototype{
          .name = declare(scopes_.back().names, name), .returns = parameters(), .parameters = {}};
      lexer_.expect(Kind::kWord, "_");
      prototype.parameters = parameters();
      while (lexer_.accept(".noreturn")) {
      }
      lexer_.expect(";");
      function.prototypes.push_back(std::move(prototype));
    } else {
      const std::string unique = labels_.insert(name).second ? name : fmt::format("{}@{}", name, ++renamed_);
      if (!scopes_.back().labels.emplace(name, unique).second)
        lexer_.fail(fmt::format("label {} is defined twice", printable(name)));
      function.labels.push_back({unique, static_cast<std::uint32_t>(function.instructions.size())});
    }
  }

  // --- Operands ---

  Operand operand() {
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

  Operand list(std::string_view close) {
    Operand result{.kind = Operand::Kind::kVector};
    if (++depth_ > kMaxDepth) lexer_.fail("operands nested too deep");
    up_to(close, [&] { result.elements.push_back(operand()); });
    --depth_;
    return result;
  }

  // [name], [name+8], [64]; the bracket has been taken.
  Operand address() {
    Operand result{.kind = Operand::Kind::kAddress};
    const bool named = lexer_.now().kind == Kind::kWord;
    if (named) result.name = resolve(lexer_.take().text);
    result.integer = named ? offset() : number().integer;
    lexer_.expect("]");
    return result;
  }

  Operand number() {
    const bool negative = lexer_.accept("-");
    const Token token = lexer_.expect(Kind::kNumber, "a number");
    if (token.is_real && negative) return {.kind = Operand::Kind::kFloat, .real = -token.real};
    const auto integer = static_cast<std::int64_t>(negative ? 0 - token.integer : token.integer);
    if (!token.is_real) return {.kind = Operand::Kind::kInteger, .integer = integer};
    return {
        .kind = Operand::Kind::kFloat, .integer = integer, .real = token.real, .real_bits = token.real_bits};
  }

  // +8, -8, +-8 or nothing.
  std::int64_t offset() { return lexer_.accept("+") || lexer_.at("-") ? number().integer : 0; }

  // --- Names ---

  // The unique form of a name that the innermost scope declares; as_written() undoes it. What ends it keeps digits behind it apart.
  std::string declare(NameScope::Names& names, const std::string& name, std::string_view end = "") {
    const bool outermost = scopes_.size() == 1;
    std::string unique = outermost ? name : fmt::format("{}@{}{}", name, ++renamed_, end);
    if (!names.emplace(name, unique).second)
      lexer_.fail(fmt::format("{} is declared twice", printable(name)));
    return unique;
  }

  std::string resolve(std::string_view name) const {
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

  Lexer lexer_;
  Module module_;
  SourceLine source_;
  std::map<Position, std::uint32_t> call_of_;  // the call of the last .loc there, in this function
  std::map<SourceLine, std::uint32_t> calls_;  // numbers in module_.calls
  std::vector<NameScope> scopes_;
  std::unordered_set<std::string> labels_;  // of the function
  std::size_t renamed_ = 0;
  std::size_t depth_ = 0;
};

}  // namespace

Module parse(std::string_view text, std::string_view name) {
  return Parser(text, name).parse();
}

}  // namespace sluice::ptx
