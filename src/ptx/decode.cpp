// Decoding of a function: its registers, operands, and the order of its operations.
#include "ptx/decode.h"

#include <cfenv>
#include <charconv>
#include <functional>
#include <iterator>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/specials.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx {
namespace {

using Kind = Operand::Kind;

// The rounding mode is set around a call that the compiler can't see through.
void directed(const Operation& op, const Rows& rows, std::uint32_t mask) {
  constexpr int kModes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
  std::fesetround(kModes[static_cast<std::size_t>(op.rounding)]);
  op.inner(op, rows, mask);
  std::fesetround(FE_TONEAREST);
}

}  // namespace

FunctionDecoder::FunctionDecoder(Program& program, std::uint32_t function, const DeclaredNames& names)
    : program_(program),
      function_(program.module.functions[function]),
      function_index_(function),
      names_(names) {
  for (const Registers& range : function_.registers) {
    if (size_of(range.type) == 1 || size_of(range.type) == 16) {
      throw Error(fmt::format("registers of {} bits are not supported", 8 * size_of(range.type)),
                  fmt::format("{}: function {}", program_.module.name, function_.name));
    }
    if (range.count == 0)
      registers_[range.name] = fresh(range.type, false);
    else
      ranges_[range.name] = {range.type, range.count};
  }
}

void FunctionDecoder::fail(std::string_view what) const {
  throw Error(
      fmt::format("{}: {}", now_ != nullptr ? now_->opcode : function_.name, as_written(what)),
      fmt::format("{}:{}", program_.module.name, now_ != nullptr ? now_->ptx_line : function_.ptx_line));
}

// --- Names ---

FunctionDecoder::Register FunctionDecoder::fresh(Type type, bool temporary) {
  widths_.push_back(row_width(type));
  temporary_.push_back(temporary);
  return {virtual_row(static_cast<std::uint32_t>(widths_.size() - 1)), type};
}

const FunctionDecoder::Register* FunctionDecoder::find_register(const std::string& name) {
  const auto known = registers_.find(name);
  if (known != registers_.end()) return &known->second;
  const std::size_t digits = name.find_last_not_of("0123456789") + 1;
  const auto range = ranges_.find(name.substr(0, digits));
  if (digits == name.size() || range == ranges_.end()) return nullptr;
  std::uint32_t index = 0;
  const auto [end, error] = std::from_chars(name.data() + digits, name.data() + name.size(), index);
  if (error != std::errc{} || index >= range->second.second) return nullptr;
  return &registers_.emplace(name, fresh(range->second.first, false)).first->second;
}

std::optional<std::uint64_t> FunctionDecoder::symbol(const std::string& name) const {
  const auto local = names_.find(name);
  if (local != names_.end()) return local->second.address;
  return program_.symbol(name);
}

// `.extern .shared x[]`: it begins where the kernel's static shared memory ends, whichever kernel that is.
bool FunctionDecoder::is_dynamic_shared(const std::string& name) const {
  if (names_.contains(name)) return false;
  const Variable* variable = program_.module.find_variable(name);
  return variable != nullptr && variable->space == Space::kShared && variable->external;
}

Row FunctionDecoder::dynamic_shared(std::int64_t offset, std::uint8_t width) {
  const Row base = *special(kDynamicBase, width);
  if (offset == 0) return base;
  return make(width == 8 ? "add.u64" : "add.u32",
              {base, program_.constant(static_cast<std::uint64_t>(offset), width)});
}

// A special register's value in so many bytes; nothing if there is none of that name.
std::optional<Row> FunctionDecoder::special(std::string_view name, std::uint8_t width) {
  const std::optional<Special> found = special_named(name);
  if (!found) return std::nullopt;
  if (name != kDynamicBase && words_[0] != "mov" && words_[0] != "cvt")
    fail("only mov and cvt read special registers");
  if (width < found->bytes) fail(fmt::format("{} needs {} bits", name, 8 * found->bytes));
  Operation op{.warp = &run::special};
  op.rows[0] = fresh(width == 8 ? Type::kB64 : Type::kB32).row;
  op.width = width;
  op.variant = found->index;
  op.count = found->axis;
  emit(op, 1);
  return op.rows[0];
}

// --- Operands ---

const Operand& FunctionDecoder::operand(std::size_t i) const {
  if (i >= now_->operands.size()) fail("an operand is missing");
  return now_->operands[i];
}

void FunctionDecoder::expect_operands(std::size_t n) const {
  if (now_->operands.size() != n)
    fail(fmt::format("expected {}, found {}", counted(n, "operand"), now_->operands.size()));
}

std::span<const Operand> FunctionDecoder::parts(std::size_t i, std::size_t n) const {
  const Operand& whole = operand(i);
  const auto all = whole.kind == Kind::kVector ? std::span(whole.elements) : std::span(&whole, 1);
  if (all.size() != n) fail(fmt::format("operand {} needs {}", i + 1, counted(n, "register")));
  return all;
}

std::int64_t FunctionDecoder::constant(std::size_t i, std::int64_t largest) const {
  const Operand& value = operand(i);
  if (value.kind != Kind::kInteger || value.integer < 0 || value.integer > largest)
    fail(fmt::format("operand {} must be a constant from 0 to {}", i + 1, largest));
  return value.integer;
}

Row FunctionDecoder::immediate(const Operand& operand, Type type) {
  const std::optional<std::uint64_t> bits = constant_bits(operand, type);
  if (!bits) fail("a floating-point constant of the wrong size");
  return program_.constant(*bits, row_width(type));
}

// The row of a value. `loose`: the register may be wider than the type, as for cvt.
Row FunctionDecoder::source(const Operand& operand, Type type, bool loose) {
  if (operand.kind == Kind::kInteger || operand.kind == Kind::kFloat) return immediate(operand, type);
  if (operand.kind != Kind::kName) fail("an operand of a kind that doesn't belong there");
  if (const Register* found = find_register(operand.name)) {
    std::uint8_t width = row_width(found->type);
    if ((found->type == Type::kPred) != (type == Type::kPred) || width < row_width(type) ||
        (width > row_width(type) && !loose)) {
      fail(fmt::format("{} has the wrong size", operand.name));
    }
    if (operand.integer != 0) fail(fmt::format("{} with an offset", operand.name));
    if (operand.negated && type != Type::kPred) fail("'!' before what is no predicate");
    Row row = operand.negated ? make("not.pred", {found->row}) : found->row;
    // The low bits are the value: a hidden operation takes them.
    for (; width > row_width(type); width /= 2) row = make(width == 8 ? ".low.b64" : ".low.b32", {row});
    return row;
  }
  if (const std::optional<Row> value = special(operand.name, row_width(type))) return *value;
  const bool holds_address = size_of(type) == 8 || size_of(type) == 4;
  if (holds_address && is_dynamic_shared(operand.name))
    return dynamic_shared(operand.integer, row_width(type));
  if (const auto address = symbol(operand.name); address && holds_address)
    return program_.constant(*address + static_cast<std::uint64_t>(operand.integer), row_width(type));
  fail(fmt::format("'{}' is not declared", printable(operand.name, 60)));
}

const FunctionDecoder::Register& FunctionDecoder::target(const Operand& operand) {
  const Register* found = operand.kind == Kind::kName ? find_register(operand.name) : nullptr;
  if (found == nullptr) fail("the destination must be a register");
  return *found;
}

Row FunctionDecoder::destination(const Operand& operand, Type type) {
  if (operand.kind == Kind::kSink) return fresh(type).row;
  const Register& found = target(operand);
  if ((found.type == Type::kPred) != (type == Type::kPred) || row_width(found.type) != row_width(type))
    fail(fmt::format("{} has the wrong size", operand.name));
  return found.row;
}

// The q of d|q, which may be missing.
Row FunctionDecoder::predicate_beside(const Operand& operand) {
  if (operand.second.empty() || operand.second == "_") return fresh(Type::kPred).row;
  return destination({.kind = Kind::kName, .name = operand.second}, Type::kPred);
}

// --- Operations ---

bool FunctionDecoder::is_temporary(Row row) const {
  return row != kTrue && (row & 1U) == 0 && temporary_[row / 2 - 1];
}

// The last operation of an instruction counts as it; those before it are hidden. What only makes a temporary value is done for
// all lanes: under the guard, that value would have to live from the function's beginning.
void FunctionDecoder::emit(const Operation& op, std::uint32_t defines, std::vector<Row> more,
                           std::uint32_t n_more_defined) {
  DecodedOperation made{op, std::move(more), defines, n_more_defined, now_, {}, {}};
  made.op.hidden = true;
  const bool harmless = op.row != nullptr || op.warp == &run::special;
  if (!harmless || defines != 1 || !is_temporary(op.rows[0])) {
    made.op.guard = guard_;
    made.op.guard_negated = guard_negated_;
  }
  built_.push_back(std::move(made));
}

const Form& FunctionDecoder::form(std::string_view name) const {
  const Form* found = find_form(name);
  if (found == nullptr) unsupported();
  return *found;
}

void FunctionDecoder::emit_form(const Form& entry, Row destination, const std::vector<Row>& sources,
                                std::optional<Rounding> rounding) {
  Operation op{.row = entry.function};
  op.rows[0] = destination;
  std::ranges::copy(sources, op.rows + 1);
  const bool narrow = is_half(entry.destination) || is_pair(entry.destination);
  if (rounding && (entry.rounds == Form::Rounds::kNever || (narrow && *rounding != Rounding::kNearest)))
    fail("this rounding is not supported here");
  if (!rounding && entry.rounds == Form::Rounds::kRequired) fail("a rounding such as .rn is missing");
  if (rounding && *rounding != Rounding::kNearest) {
    op.rounding = *rounding;
    op.inner = op.row;
    op.row = &directed;
  }
  emit(op, 1);
}

Row FunctionDecoder::make(std::string_view name, const std::vector<Row>& sources,
                          std::optional<Rounding> rounding) {
  const Form& entry = form(name);
  const Row result = fresh(entry.destination).row;
  emit_form(entry, result, sources, rounding);
  return result;
}

void FunctionDecoder::copy(const Operand& to, Type type, Row value) {
  emit_form(form(fmt::format(".mov.{}", bits_name(type))), destination(to, type), {value});
}

// An instruction that ends with the copy of a temporary value, made just before, makes it in its place instead.
void FunctionDecoder::fold_copy(std::size_t first) {
  if (built_.size() < first + 2) return;
  const Operation copy = built_.back().op;
  DecodedOperation& maker = built_[built_.size() - 2];
  const auto is = [&](std::string_view name) { return copy.row == form(name).function; };
  const bool copies = is(".mov.b16") || is(".mov.b32") || is(".mov.b64") || is(".mov.pred");
  if (!copies || !is_temporary(copy.rows[1]) || maker.op.rows[0] != copy.rows[1] || maker.defines != 1)
    return;
  maker.op.rows[0] = copy.rows[0];
  maker.op.guard = copy.guard;
  maker.op.guard_negated = copy.guard_negated;
  built_.pop_back();
}

// --- Instructions ---

bool FunctionDecoder::has(std::string_view word) const {
  return std::find(words_.begin() + 1, words_.end(), word) != words_.end();
}

Type FunctionDecoder::type() const {
  return *type_named(words_.back());
}

// What the table and the opcode's words say of it.
Operation FunctionDecoder::operation() const {
  static constexpr std::pair<std::string_view, Order> kOrders[] = {
      {"relaxed", Order::kRelaxed},        {"acquire", Order::kAcquire}, {"release", Order::kRelease},
      {"acq_rel", Order::kAcquireRelease}, {"sc", Order::kSequential},   {"volatile", Order::kVolatile}};
  static constexpr std::pair<std::string_view, Scope> kScopes[] = {{"cta", Scope::kBlock},
                                                                   {"cluster", Scope::kCluster},
                                                                   {"gpu", Scope::kGpu},
                                                                   {"gl", Scope::kGpu},
                                                                   {"sys", Scope::kSystem}};
  Operation op{.warp = found_.opcode->function};
  op.variant = found_.variant;
  for (const std::string& word : std::span(words_).subspan(1)) {
    for (const auto& [name, order] : kOrders) op.order = word == name ? order : op.order;
    for (const auto& [name, scope] : kScopes) op.scope = word == name ? scope : op.scope;
    op.space = space_named(word.substr(0, word.find("::"))).value_or(op.space);
  }
  return op;
}

void FunctionDecoder::decode(const Instruction& instruction) {
  now_ = &instruction;
  words_ = split_opcode(instruction.opcode);
  found_ = words_.empty() ? FoundOpcode() : find_opcode(words_);
  const Opcode* opcode = found_.opcode;
  if (opcode == nullptr && found_.form == nullptr) unsupported();
  if (const std::uint32_t first = first_target(words_); program_.module.target < first) {
    fail(fmt::format("sm_{} is the first target that has it, the module is for sm_{}", first,
                     program_.module.target));
  }
  if (!instruction.operands.empty() && instruction.operands[0].kind == Kind::kSink && words_[0] != "atom")
    fail("the destination must be a register");
  guard_ = kTrue;
  guard_negated_ = false;
  if (!instruction.guard.empty()) {
    guard_ = source({.kind = Kind::kName, .name = instruction.guard}, Type::kPred);
    guard_negated_ = instruction.guard_negated;
  }
  const std::size_t first = built_.size();
  // Types to the end, as the ISA has them.
  const auto is_type = [](const std::string& word) { return type_named(word).has_value(); };
  std::vector<std::string> ordered;
  std::ranges::copy_if(words_, std::back_inserter(ordered), std::not_fn(is_type));
  std::ranges::copy_if(words_, std::back_inserter(ordered), is_type);
  words_ = std::move(ordered);
  if (opcode == nullptr)
    arithmetic();
  else if (opcode->decode != nullptr)
    (this->*opcode->decode)();
  else
    listed();
  fold_copy(first);
  if (built_.size() == first) emit({.warp = &run::nothing}, 0);
  built_.back().op.hidden = false;
}

void FunctionDecoder::arithmetic() {
  const Form& entry = *found_.form;
  expect_operands(entry.n_sources + 1U);
  std::vector<Row> sources;
  for (std::size_t i = 0; i < entry.n_sources; ++i) sources.push_back(source(i + 1, entry.sources[i]));
  emit_form(entry, destination(operand(0), entry.destination), sources, found_.rounding);
}

// The destination is row 0, sources are the rows behind it, a constant is the immediate.
void FunctionDecoder::listed() {
  const std::span<const OperandSlot> slots = found_.operands;
  const bool optional = std::ranges::any_of(slots, &OperandSlot::optional);
  const bool without = optional && now_->operands.size() + 1 == slots.size();
  if (!without) expect_operands(slots.size());
  const auto word = std::ranges::find_if(words_, [](const auto& w) { return type_named(w).has_value(); });
  const Type first = word == words_.end() ? Type::kNone : *type_named(*word);
  Operation op = operation();
  op.width = static_cast<std::uint8_t>(size_of(first));
  if (const char* name = found_.opcode->form)
    op.row = form(fmt::format("{}.{}", name, bits_name(first))).function;
  std::vector<Row> more;
  std::uint32_t defines = 0;
  std::size_t i = 0;
  Row* row = op.rows;
  for (const OperandSlot& slot : slots) {
    const Type type = slot.type == Type::kNone ? first : slot.type;
    if (slot.kind == OperandSlot::Kind::kDestination) {
      const Operand& to = operand(i++);
      defines = 1;
      op.rows[0] = slot.with_predicate && to.name == "_" ? fresh(type).row : destination(to, type);
      if (slot.with_predicate) more = {predicate_beside(to)};
    } else if (slot.kind == OperandSlot::Kind::kConstant) {
      op.immediate = constant(i++, slot.largest);
    } else {
      ++row;
      if (!slot.optional || !without) *row = source(i++, type);
    }
  }
  const auto n_more = static_cast<std::uint32_t>(more.size());
  emit(op, defines, std::move(more), n_more);
}

RowPlan FunctionDecoder::run(std::uint32_t begin) {
  std::vector<std::uint32_t> starts;  // of instructions, in built_
  for (const Instruction& instruction : function_.instructions) {
    starts.push_back(static_cast<std::uint32_t>(built_.size()));
    decode(instruction);
  }
  // A body that runs off its end returns.
  starts.push_back(static_cast<std::uint32_t>(built_.size()));
  Operation leave{.warp = function_.entry ? &run::exit : &run::leave};
  leave.immediate = function_index_;
  leave.hidden = true;
  built_.push_back(
      {.op = leave, .more = {}, .instruction = now_, .labels = {}, .targets = {}, .falls_through = false});

  std::unordered_map<std::string, std::uint32_t> labels;
  for (const Label& label : function_.labels) labels[label.name] = starts[label.instruction];
  const auto first = static_cast<std::uint32_t>(program_.operations.size());
  std::size_t branches = 0;
  for (DecodedOperation& made : built_) {
    now_ = made.instruction;
    std::vector<std::uint32_t> targets;
    for (const std::string& name : made.labels) {
      const auto label = labels.find(name);
      if (label == labels.end()) fail(fmt::format("label {} is not defined", printable(name, 60)));
      made.targets.push_back(label->second);
      targets.push_back(first + label->second);
    }
    branches += targets.empty() ? 0 : 1;
    if (made.op.warp == &run::branch) made.op.immediate = targets[0];
    if (made.op.warp == &run::branch_indexed) {
      made.op.immediate = static_cast<std::int64_t>(program_.branch_tables.size());
      program_.branch_tables.push_back(std::move(targets));
    }
  }
  // Liveness takes a bit for each register and branch; a warp's registers take memory.
  constexpr std::size_t kMaxPairs = std::size_t{1} << 32U;
  constexpr std::uint32_t kMaxBytes = 1U << 22U;
  now_ = nullptr;
  if ((branches + function_.labels.size() + 1) * widths_.size() > kMaxPairs)
    fail("too many registers and branches");
  const RowPlan plan = assign_rows(built_, widths_, begin);
  if (plan.end - begin > kMaxBytes) fail("more registers at once than any GPU has");
  for (DecodedOperation& made : built_) {
    const Instruction* from = made.instruction;
    program_.code.lines.push_back({from != nullptr ? from->ptx_line : function_.ptx_line,
                                   from != nullptr ? from->source : SourceLine{}, from, function_index_});
    if (!made.more.empty()) {
      program_.more.push_back(std::move(made.more));
      made.op.more = program_.more.back().data();
    }
    program_.operations.push_back(made.op);
  }
  return plan;
}

}  // namespace sluice::ptx
