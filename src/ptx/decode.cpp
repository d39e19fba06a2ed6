#include "ptx/decode.h"

#include <algorithm>
#include <bit>
#include <cfenv>
#include <charconv>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "ptx/opcodes.h"
#include "ptx/specials.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx {
namespace {

using Kind = Operand::Kind;

std::uint8_t row_width(Type type) {
  if (type == Type::kPred) return 0;
  return static_cast<std::uint8_t>(std::max(size_of(type), 2U));
}

std::string bits_name(Type type) {
  return fmt::format("b{}", 8 * std::max(size_of(type), 2U));
}

bool is_float(Type type) {
  return type == Type::kF16 || type == Type::kBF16 || type == Type::kF32 || type == Type::kF64;
}
bool is_half(Type type) {
  return type == Type::kF16 || type == Type::kBF16;
}
bool is_signed(Type type) {
  return type == Type::kS8 || type == Type::kS16 || type == Type::kS32 || type == Type::kS64;
}

// The rounding mode is set around a call that the compiler can't see through.
void directed(const Operation& op, const Rows& rows, std::uint32_t mask) {
  constexpr int kModes[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
  std::fesetround(kModes[static_cast<std::size_t>(op.rounding)]);
  op.inner(op, rows, mask);
  std::fesetround(FE_TONEAREST);
}

}  // namespace

// --- Registers and operands ---

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

Row FunctionDecoder::immediate(const Operand& operand, Type type) {
  std::uint64_t bits = static_cast<std::uint64_t>(operand.integer);
  if (type == Type::kPred) return program_.constant(bits == 0 ? 0 : ~std::uint64_t{0}, 0);
  if (operand.kind == Kind::kFloat) {
    if (operand.real_bits != 8 * size_of(type)) {
      if (type == Type::kF32)
        bits = std::bit_cast<std::uint32_t>(static_cast<float>(operand.real));
      else if (type == Type::kF64)
        bits = std::bit_cast<std::uint64_t>(operand.real);
      else
        fail("a floating-point constant of the wrong size");
    }
  } else if (type == Type::kF32) {
    bits = std::bit_cast<std::uint32_t>(static_cast<float>(operand.integer));
  } else if (type == Type::kF64) {
    bits = std::bit_cast<std::uint64_t>(static_cast<double>(operand.integer));
  }
  if (size_of(type) == 1) {
    bits = is_signed(type) ? static_cast<std::uint64_t>(static_cast<std::int8_t>(bits)) : bits & 0xffU;
  }
  return program_.constant(bits, row_width(type));
}

// A predicate's.
Row FunctionDecoder::opposite(Row predicate) {
  const Row result = fresh(Type::kPred).row;
  emit_form("xor.pred", result, {predicate, program_.constant(~std::uint64_t{0}, 0)});
  return result;
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
  const Row sum = fresh(width == 8 ? Type::kB64 : Type::kB32).row;
  emit_form(width == 8 ? "add.u64" : "add.u32", sum,
            {base, program_.constant(static_cast<std::uint64_t>(offset), width)});
  return sum;
}

// A special register's value in so many bytes; nothing if there is none of that name.
std::optional<Row> FunctionDecoder::special(std::string_view name, std::uint8_t width) {
  const std::span<const Special> all = specials();
  const auto entry = std::ranges::find(all, name, &Special::name);
  if (entry == all.end()) return std::nullopt;
  if (name != kDynamicBase && words_[0] != "mov" && words_[0] != "cvt")
    fail("only mov and cvt read special registers");
  if (width < entry->bytes) fail(fmt::format("{} needs {} bits", name, 8 * entry->bytes));
  Operation op{.warp = &run::special};
  op.rows[0] = fresh(width == 8 ? Type::kB64 : Type::kB32).row;
  op.width = width;
  op.variant = static_cast<std::uint8_t>(entry - all.begin());
  emit(op, 1);
  return op.rows[0];
}

// The row of a value. `loose`: the register may be wider than the type, as for ld, st and cvt.
Row FunctionDecoder::source(const Operand& operand, Type type, bool loose) {
  switch (operand.kind) {
    case Kind::kInteger:
    case Kind::kFloat:
      return immediate(operand, type);
    case Kind::kName:
      break;
    default:
      fail("an operand of a kind that doesn't belong there");
  }
  if (const Register* found = find_register(operand.name)) {
    const std::uint8_t width = row_width(found->type);
    if ((found->type == Type::kPred) != (type == Type::kPred) || width < row_width(type) ||
        (width > row_width(type) && !loose)) {
      fail(fmt::format("{} has the wrong size", operand.name));
    }
    if (operand.integer != 0) fail(fmt::format("{} with an offset", operand.name));
    Row row = found->row;
    if (operand.negated) {
      if (type != Type::kPred) fail("'!' before what is no predicate");
      row = opposite(row);
    }
    // The low bits are the value: a hidden operation takes them.
    for (std::uint8_t have = width; type != Type::kPred && have > row_width(type); have /= 2) {
      const Row low = fresh(have == 8 ? Type::kB32 : Type::kB16).row;
      emit_form(have == 8 ? "low.b64" : "low.b32", low, {row});
      row = low;
    }
    return row;
  }
  if (const std::optional<Row> value = special(operand.name, row_width(type))) return *value;
  if (is_dynamic_shared(operand.name) && (size_of(type) == 8 || size_of(type) == 4)) {
    return dynamic_shared(operand.integer, row_width(type));
  }
  if (const auto address = symbol(operand.name); address && (size_of(type) == 8 || size_of(type) == 4)) {
    return program_.constant(*address + static_cast<std::uint64_t>(operand.integer), row_width(type));
  }
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
  if ((found.type == Type::kPred) != (type == Type::kPred) || row_width(found.type) != row_width(type)) {
    fail(fmt::format("{} has the wrong size", operand.name));
  }
  return found.row;
}

// --- Emission ---

bool FunctionDecoder::is_temporary(Row row) const {
  return row != kTrue && (row & 1U) == 0 && temporary_[row / 2 - 1];
}

// The last operation of an instruction counts as it; those before it are hidden. What only makes a temporary value is done for
// all lanes: under the guard, that value would have to live from the function's beginning.
void FunctionDecoder::emit(const Operation& op, std::uint32_t n_defined, std::vector<Row> more,
                           std::uint32_t n_more_defined) {
  Built made{op, std::move(more), n_defined, n_more_defined, now_, {}};
  made.op.hidden = true;
  const bool harmless = op.row != nullptr || op.warp == &run::special;
  if (!harmless || n_defined != 1 || !is_temporary(op.rows[0])) {
    made.op.guard = guard_;
    made.op.guard_negated = guard_negated_;
  }
  built_.push_back(std::move(made));
}

// An instruction that ends with the copy of a temporary value, made just before, makes it in its place instead.
void FunctionDecoder::fold_copy(std::size_t first) {
  if (built_.size() < first + 2) return;
  const Operation copy = built_.back().op;
  Operation& maker = built_[built_.size() - 2].op;
  const auto is = [&](std::string_view name) {
    return copy.row != nullptr && copy.row == form(name).function;
  };
  const bool copies =
      is("mov.b16") || is("mov.b32") || is("mov.b64") || (is("or.pred") && copy.rows[1] == copy.rows[2]);
  if (!copies || !is_temporary(copy.rows[1]) || maker.rows[0] != copy.rows[1] ||
      built_[built_.size() - 2].n_defined != 1) {
    return;
  }
  maker.rows[0] = copy.rows[0];
  maker.guard = copy.guard;
  maker.guard_negated = copy.guard_negated;
  built_.pop_back();
}

const Form& FunctionDecoder::form(std::string_view name) const {
  const Form* found = forms().find(name);
  if (found == nullptr) unsupported();
  return *found;
}

void FunctionDecoder::emit_form(std::string_view name, Row destination, const std::vector<Row>& sources,
                                std::optional<Rounding> rounding, std::int64_t immediate) {
  const Form& entry = form(name);
  Operation op{.row = entry.function};
  op.rows[0] = destination;
  std::ranges::copy(sources, op.rows + 1);
  op.immediate = immediate;
  const bool narrow = entry.destination == Type::kF16 || entry.destination == Type::kBF16 ||
                      entry.destination == Type::kF16x2 || entry.destination == Type::kBF16x2;
  if (rounding && (entry.rounds == Form::Rounds::kNever || (narrow && *rounding != Rounding::kNearest))) {
    fail("this rounding is not supported here");
  }
  if (!rounding && entry.rounds == Form::Rounds::kRequired) fail("a rounding such as .rn is missing");
  if (rounding && *rounding != Rounding::kNearest) {
    op.rounding = *rounding;
    op.inner = op.row;
    op.row = &directed;
  }
  emit(op, 1);
}

const Operand& FunctionDecoder::operand(std::size_t i) const {
  if (i >= now_->operands.size()) fail("an operand is missing");
  return now_->operands[i];
}

void FunctionDecoder::expect_operands(std::size_t n) const {
  if (now_->operands.size() != n)
    fail(fmt::format("expected {}, found {}", counted(n, "operand"), now_->operands.size()));
}

// --- Instructions ---

void FunctionDecoder::decode(const Instruction& instruction) {
  now_ = &instruction;
  words_ = split_opcode(instruction.opcode);
  if (words_.empty() || !is_opcode(words_)) unsupported();
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
  using Handler = void (FunctionDecoder::*)();
  static const std::map<std::string_view, Handler> kHandlers = {
      {"mov", &FunctionDecoder::mov},
      {"cvt", &FunctionDecoder::cvt},
      {"setp", &FunctionDecoder::setp},
      {"set", &FunctionDecoder::set},
      {"selp", &FunctionDecoder::select},
      {"slct", &FunctionDecoder::select},
      {"prmt", &FunctionDecoder::permute},
      {"lop3", &FunctionDecoder::lop3},
      {"addc", &FunctionDecoder::carry},
      {"subc", &FunctionDecoder::carry},
      {"madc", &FunctionDecoder::carry},
      {"mma", &FunctionDecoder::mma},
      {"ld", &FunctionDecoder::load_store},
      {"ldu", &FunctionDecoder::load_store},
      {"st", &FunctionDecoder::load_store},
      {"atom", &FunctionDecoder::atomic},
      {"red", &FunctionDecoder::atomic},
      {"cvta", &FunctionDecoder::cvta},
      {"isspacep", &FunctionDecoder::isspacep},
      {"membar", &FunctionDecoder::fence},
      {"fence", &FunctionDecoder::fence},
      {"bar", &FunctionDecoder::barrier},
      {"barrier", &FunctionDecoder::barrier},
      {"shfl", &FunctionDecoder::exchange},
      {"vote", &FunctionDecoder::exchange},
      {"match", &FunctionDecoder::exchange},
      {"redux", &FunctionDecoder::exchange},
      {"activemask", &FunctionDecoder::exchange},
      {"cp", &FunctionDecoder::copy_async},
      {"ldmatrix", &FunctionDecoder::matrix_move},
      {"movmatrix", &FunctionDecoder::matrix_move},
      {"bra", &FunctionDecoder::branch},
      {"brx", &FunctionDecoder::branch},
      {"call", &FunctionDecoder::call},
      {"ret", &FunctionDecoder::simple_control},
      {"exit", &FunctionDecoder::simple_control},
      {"trap", &FunctionDecoder::simple_control},
      {"nanosleep", &FunctionDecoder::simple_control},
      {"prefetch", &FunctionDecoder::simple_control},
      {"prefetchu", &FunctionDecoder::simple_control},
  };
  const auto handler = kHandlers.find(words_[0]);
  if (handler != kHandlers.end())
    (this->*handler->second)();
  else if (std::ranges::find(words_, "cc") != words_.end())
    carry();
  else
    arithmetic();
  fold_copy(first);
  if (built_.size() == first) emit({.warp = &run::nothing}, 0);
  built_.back().op.hidden = false;
}

// Everything that a table of forms_*.h lists as it stands.
void FunctionDecoder::arithmetic() {
  std::optional<Rounding> rounding;
  std::string name;
  for (const std::string& word : words_) {
    if (const std::optional<Rounding> named = rounding_named(word))
      rounding = named;
    else
      name += (name.empty() ? "" : ".") + word;
  }
  if (words_[0] == "not" && words_.back() == "pred") {
    expect_operands(2);
    const Row a = source(operand(1), Type::kPred);
    emit_form("xor.pred", destination(operand(0), Type::kPred), {a, program_.constant(~std::uint64_t{0}, 0)});
    return;
  }
  const Form& entry = form(name);
  if (entry.n_sources == 0) unsupported();
  expect_operands(entry.n_sources + 1U);
  std::vector<Row> sources;
  for (std::size_t i = 0; i < entry.n_sources; ++i)
    sources.push_back(source(operand(i + 1), entry.sources[i]));
  emit_form(name, destination(operand(0), entry.destination), sources, rounding);
}

// mov d, a; mov d, {a, b…}; mov {a, b…}, d.
void FunctionDecoder::mov() {
  expect_operands(2);
  if (words_.size() != 2) unsupported();
  const std::optional<Type> type = type_named(words_[1]);
  if (!type || size_of(*type) == 1 || size_of(*type) == 16) unsupported();
  const Operand& to = operand(0);
  const Operand& from = operand(1);
  const auto part_type = [&](std::size_t n) {
    const std::size_t size = n == 0 ? 0 : size_of(*type) / n;
    if (size * n != size_of(*type) || (size != 2 && size != 4))
      fail("a vector that doesn't fit its register");
    return size == 2 ? Type::kB16 : Type::kB32;
  };
  if (from.kind == Kind::kVector) {
    std::vector<Row> parts;
    const Type part = part_type(from.elements.size());
    for (const Operand& element : from.elements) parts.push_back(source(element, part));
    const Row whole = destination(to, *type);
    if (parts.size() == 4) {
      const Row low = fresh(Type::kB32).row;
      const Row high = fresh(Type::kB32).row;
      emit_form("join.b32", low, {parts[0], parts[1]});
      emit_form("join.b32", high, {parts[2], parts[3]});
      parts = {low, high};
    }
    emit_form("join." + bits_name(*type), whole, parts);
    return;
  }
  if (to.kind == Kind::kVector) {
    const Type part = part_type(to.elements.size());
    std::vector<Row> wholes = {source(from, *type)};
    if (to.elements.size() == 4) {
      const Row low = fresh(Type::kB32).row;
      const Row high = fresh(Type::kB32).row;
      emit_form("low.b64", low, {wholes[0]});
      emit_form("high.b64", high, {wholes[0]});
      wholes = {low, high};
    }
    const std::string name = size_of(part) == 2 ? "b32" : "b64";
    // All parts are read before the first is written: a part may be the register that is taken apart.
    std::vector<std::pair<Row, Row>> copies;
    for (std::size_t i = 0; i < to.elements.size(); ++i) {
      if (to.elements[i].kind == Kind::kSink) continue;
      const Row piece = fresh(part).row;
      emit_form((i % 2 == 0 ? "low." : "high.") + name, piece, {wholes[i / 2]});
      copies.emplace_back(destination(to.elements[i], part), piece);
    }
    for (const auto& [row, piece] : copies) emit_form("mov." + bits_name(part), row, {piece});
    return;
  }
  const Row value = source(from, *type);
  const Row row = destination(to, *type);
  if (*type == Type::kPred)
    emit_form("or.pred", row, {value, value});
  else
    emit_form("mov." + bits_name(*type), row, {value});
}

// cvt[.rounding][.relu][.ftz][.sat].D.S
void FunctionDecoder::cvt() {
  std::optional<Rounding> rounding;
  std::string integral;  // "rni"
  bool relu = false;
  bool flush = false;
  bool saturate = false;
  bool away = false;
  std::size_t at = 1;
  for (; at < words_.size() && !type_named(words_[at]); ++at) {
    const std::string& word = words_[at];
    if (word == "rni" || word == "rzi" || word == "rmi" || word == "rpi")
      integral = word;
    else if (rounding_named(word))
      rounding = rounding_named(word);
    else if (word == "rna")
      away = true;
    else if (word == "relu")
      relu = true;
    else if (word == "ftz")
      flush = true;
    else if (word == "sat")
      saturate = true;
    else
      unsupported();
  }
  if (words_.size() != at + 2 || !type_named(words_[at]) || !type_named(words_[at + 1])) {
    unsupported();
  }
  const Type to = *type_named(words_[at]);
  const Type from = *type_named(words_[at + 1]);
  const std::string to_name = words_[at];
  const std::string from_name = words_[at + 1];
  const auto narrow_name = [&] {
    if (!rounding) fail("a rounding such as .rn is missing");
    constexpr std::string_view kModes[] = {"rn", "rz", "rm", "rp"};
    const std::string_view mode = kModes[static_cast<std::size_t>(*rounding)];
    return fmt::format("cvt.{}.{}{}.f32", mode, relu ? "relu." : "", to_name);
  };

  if (to == Type::kF16x2 || to == Type::kBF16x2) {  // two floats
    expect_operands(3);
    if (from != Type::kF32 || flush || saturate || away || !integral.empty()) unsupported();
    const Row a = source(operand(1), Type::kF32);
    const Row b = source(operand(2), Type::kF32);
    emit_form(narrow_name(), destination(operand(0), to), {a, b});
    return;
  }
  expect_operands(2);
  Row value = source(operand(1), from, from != Type::kBF16);
  const auto step = [&](std::string_view name, Type type, std::optional<Rounding> how = std::nullopt) {
    const Row next = fresh(type).row;
    emit_form(name, next, {value}, how);
    value = next;
  };
  if (to == Type::kTF32) {
    if (!away || from != Type::kF32 || relu || saturate || flush) fail("only cvt.rna.tf32.f32 is supported");
    emit_form("cvt.rna.tf32.f32", destination(operand(0), Type::kB32), {value});
    return;
  }
  if (away || (relu && !is_half(to))) unsupported();
  Type have = from;
  if (is_float(from)) {
    if ((from == Type::kBF16 && to != Type::kF32) || (to == Type::kBF16 && from != Type::kF32)) {
      fail("this conversion of bf16 is not supported");
    }
    if (is_half(from)) {
      step("cvt.f32." + from_name, Type::kF32);
      have = Type::kF32;
    }
    if (flush && have == Type::kF32) step("cvt.flush.f32", Type::kF32);
    if (!integral.empty()) {
      if (is_float(to) && to != from) fail("a rounding to whole numbers between different types");
      step(fmt::format("cvt.{}.{}", integral, have == Type::kF32 ? "f32" : "f64"), have);
    } else if (!is_float(to)) {
      fail("a rounding such as .rzi is missing");
    }
    if (!is_float(to)) {
      step(fmt::format("cvt.{}.{}", to_name, have == Type::kF32 ? "f32" : "f64"), to);
      have = to;
    }
  } else if (is_float(to)) {
    if (to == Type::kBF16 || !integral.empty()) fail("this conversion is not supported");
    if (!rounding) fail("a rounding such as .rn is missing");
    const bool half = to == Type::kF16;
    step(fmt::format("cvt.{}.{}", half ? "f64" : to_name, from_name), half ? Type::kF64 : to,
         half ? Rounding::kNearest : *rounding);
    have = half ? Type::kF64 : to;
  } else {
    if (rounding || !integral.empty()) fail("a rounding between integers");
    step(fmt::format("cvt.{}{}.{}", saturate ? "sat." : "", to_name, from_name), to);
    have = to;
  }
  if (is_float(to)) {  // from a float that has the value, to the float that is wanted
    if (is_half(to)) {
      if (have == Type::kF64) step("cvt.odd.f32.f64", Type::kF32);
      if (saturate) step("cvt.saturate.f32", Type::kF32);
      if (is_half(from) && !rounding) rounding = Rounding::kNearest;  // exact
      step(narrow_name(), to);
    } else {
      if (have != to) {
        step(fmt::format("cvt.{}.{}", to_name, have == Type::kF64 ? "f64" : "f32"), to, rounding);
      } else if (from == to && rounding) {
        fail("a rounding between equal types");
      }
      if (flush && to == Type::kF32 && have == Type::kF64) step("cvt.flush.f32", Type::kF32);
      if (saturate) step(to == Type::kF32 ? "cvt.saturate.f32" : "cvt.saturate.f64", to);
    }
  }
  finish_wide(operand(0), to, value);
}

// Moves a value to a register that may be wider than its type: by sign or zeros.
void FunctionDecoder::finish_wide(const Operand& to, Type type, Row value) {
  const Register& found = target(to);
  const std::uint8_t width = row_width(found.type);
  if (found.type == Type::kPred || width < row_width(type))
    fail(fmt::format("{} has the wrong size", to.name));
  if (width == row_width(type)) {
    emit_form("mov." + bits_name(type), found.row, {value});
    return;
  }
  if (is_float(type)) fail(fmt::format("{} has the wrong size", to.name));
  const char sign = is_signed(type) ? 's' : 'u';
  emit_form(fmt::format("cvt.{0}{1}.{0}{2}", sign, 8 * width, 8 * row_width(type)), found.row, {value});
}

// How a comparison's result meets a third operand: "and", "or", "xor", or nothing.
std::string FunctionDecoder::take_boolean() {
  for (const char* word : {"and", "or", "xor"}) {
    if (take(word)) return word;
  }
  return "";
}

// setp.CMP[.BOOL][.ftz].T p[|q], a, b[, [!]c]
void FunctionDecoder::setp() {
  const bool flush = take("ftz");
  const std::string combine = take_boolean();
  const std::optional<Type> type = type_named(words_.back());
  if (words_.size() != 3 || !type) unsupported();
  expect_operands(combine.empty() ? 3 : 4);
  const Operand& to = operand(0);
  if (*type == Type::kF16x2 || *type == Type::kBF16x2) {
    setp_pair(*type, flush, combine);
    return;
  }
  if (is_half(*type) && !to.second.empty()) fail("has one predicate, no complement");
  const Row a = source(operand(1), *type);
  const Row b = source(operand(2), *type);
  const Row result = compare(words_[1], *type, flush, a, b);
  const Row c = combine.empty() ? kTrue : source(operand(3), Type::kPred);
  store_comparison(to, result, combine, c);
}

// The predicate `a CMP b`, in a row of its own.
Row FunctionDecoder::compare(std::string_view comparison, Type type, bool flush, Row a, Row b) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kOpposites = {{{"equ", "ne"},
                                                                                               {"neu", "eq"},
                                                                                               {"ltu", "ge"},
                                                                                               {"leu", "gt"},
                                                                                               {"gtu", "le"},
                                                                                               {"geu", "lt"},
                                                                                               {"nan", "num"},
                                                                                               {"", ""}}};
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kUnsigned = {
      {{"lo", "lt"}, {"ls", "le"}, {"hi", "gt"}, {"hs", "ge"}}};
  const bool real = is_float(type);
  bool negated = false;
  std::string name(comparison);
  for (const auto& [unordered, ordered] : kOpposites) {
    if (!real || name != unordered) continue;
    name = ordered;
    negated = true;
    break;
  }
  if (!real && !is_signed(type)) {
    for (const auto& [word, same] : kUnsigned) {
      if (name == word) name = same;
    }
  }
  if (!real && name == "num") unsupported();
  std::string type_name;
  if (real)
    type_name =
        type == Type::kF32 ? "f32" : (type == Type::kF64 ? "f64" : (type == Type::kF16 ? "f16" : "bf16"));
  else
    type_name = fmt::format("{}{}", is_signed(type) ? 's' : 'u', 8 * size_of(type));
  const bool bits_type = type == Type::kB16 || type == Type::kB32 || type == Type::kB64;
  if (bits_type && name != "eq" && name != "ne") unsupported();
  const Row result = fresh(Type::kPred).row;
  emit_form(fmt::format("setp.{}.{}{}", name, flush ? "ftz." : "", type_name), result, {a, b});
  return negated ? opposite(result) : result;
}

// p = t BOOL c; q = !t BOOL c.
void FunctionDecoder::store_comparison(const Operand& to, Row result, const std::string& combine, Row c) {
  const auto finish = [&](const Operand& place, Row t) {
    const Row row = destination(place, Type::kPred);
    if (combine.empty())
      emit_form("or.pred", row, {t, t});
    else
      emit_form(combine + ".pred", row, {t, c});
  };
  const Row complement = to.second.empty() ? kTrue : opposite(result);
  Operand first = to;
  first.second.clear();
  if (first.name != "_") finish(first, result);
  if (!to.second.empty() && to.second != "_") finish({.kind = Kind::kName, .name = to.second}, complement);
}

// Of f16x2 and bf16x2: p by the low halves, q by the high ones.
void FunctionDecoder::setp_pair(Type type, bool flush, const std::string& combine) {
  const Type half = type == Type::kF16x2 ? Type::kF16 : Type::kBF16;
  const Operand& to = operand(0);
  const Row a = source(operand(1), type);
  const Row b = source(operand(2), type);
  const Row c = combine.empty() ? kTrue : source(operand(3), Type::kPred);
  for (const bool high : {false, true}) {
    const Row part_a = fresh(half).row;
    const Row part_b = fresh(half).row;
    emit_form(high ? "high.b32" : "low.b32", part_a, {a});
    emit_form(high ? "high.b32" : "low.b32", part_b, {b});
    const Row result = compare(words_[1], half, flush, part_a, part_b);
    if (high && to.second.empty()) fail("needs p|q");
    store_comparison({.kind = Kind::kName, .name = high ? to.second : to.name}, result, combine, c);
  }
}

// set.CMP[.BOOL][.ftz].D.S d, a, b[, c]: all ones or 1.0 where the comparison holds.
void FunctionDecoder::set() {
  const bool flush = take("ftz");
  const std::string combine = take_boolean();
  if (words_.size() != 4) unsupported();
  const std::optional<Type> to = type_named(words_[2]);
  const std::optional<Type> from = type_named(words_.back());
  if (!to || !from) unsupported();
  expect_operands(combine.empty() ? 3 : 4);
  const Row a = source(operand(1), *from);
  const Row b = source(operand(2), *from);
  const Row c = combine.empty() ? kTrue : source(operand(3), Type::kPred);
  const auto value = [&](Type type, Row x, Row y, Type kind) {
    Row holds = compare(words_[1], type, flush, x, y);
    if (!combine.empty()) {
      const Row both = fresh(Type::kPred).row;
      emit_form(combine + ".pred", both, {holds, c});
      holds = both;
    }
    std::uint64_t one = ~std::uint64_t{0};
    if (kind == Type::kF32) one = 0x3f800000U;
    if (kind == Type::kF16) one = 0x3c00U;
    if (kind == Type::kBF16) one = 0x3f80U;
    const std::uint32_t width = row_width(kind);
    const Row result = fresh(kind).row;
    emit_form("selp." + bits_name(kind), result,
              {program_.constant(one, width), program_.constant(0, width), holds});
    return result;
  };
  const bool pair = *from == Type::kF16x2 || *from == Type::kBF16x2;
  Row result = kTrue;
  if (pair) {
    const Type half = *from == Type::kF16x2 ? Type::kF16 : Type::kBF16;
    if (size_of(*to) != 4) unsupported();
    Type kind = Type::kB16;
    if (*to == Type::kF16x2) kind = Type::kF16;
    if (*to == Type::kBF16x2) kind = Type::kBF16;
    Row parts[2];
    for (const bool high : {false, true}) {
      const Row x = fresh(half).row;
      const Row y = fresh(half).row;
      emit_form(high ? "high.b32" : "low.b32", x, {a});
      emit_form(high ? "high.b32" : "low.b32", y, {b});
      parts[high ? 1 : 0] = value(half, x, y, kind);
    }
    emit_form("join.b32", destination(operand(0), *to), {parts[0], parts[1]});
    return;
  }
  if (*to == Type::kF64 || size_of(*to) == 8) unsupported();
  result = value(*from, a, b, *to);
  emit_form("mov." + bits_name(*to), destination(operand(0), *to), {result});
}

// selp.T d, a, b, p; slct[.ftz].T.(s32|f32) d, a, b, c.
void FunctionDecoder::select() {
  const bool by_predicate = words_[0] == "selp";
  const bool flush = take("ftz");
  const std::optional<Type> type = type_named(words_[1]);
  expect_operands(4);
  std::string name = words_[0];
  Type chooser = Type::kPred;
  if (!by_predicate) {
    chooser = *type_named(words_[2]);
    if (chooser == Type::kF32) name += flush ? ".float.ftz" : ".float";
  }
  const Row a = source(operand(1), *type);
  const Row b = source(operand(2), *type);
  const Row c = source(operand(3), chooser);
  emit_form(name + "." + bits_name(*type), destination(operand(0), *type), {a, b, c});
}

// prmt.b32[.mode] d, a, b, c
void FunctionDecoder::permute() {
  static constexpr std::array<std::string_view, 7> kModes = {"", "f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
  const auto* const mode =
      std::ranges::find(kModes, words_.size() == 3 ? std::string_view(words_[2]) : std::string_view());
  if (words_.size() < 2 || words_.size() > 3 || words_[1] != "b32" || mode == kModes.end()) {
    unsupported();
  }
  expect_operands(4);
  const Row a = source(operand(1), Type::kB32);
  const Row b = source(operand(2), Type::kB32);
  const Row c = source(operand(3), Type::kB32);
  emit_form("prmt.b32", destination(operand(0), Type::kB32), {a, b, c}, std::nullopt, mode - kModes.begin());
}

// lop3.b32 d, a, b, c, table
void FunctionDecoder::lop3() {
  if (words_.size() != 2 || words_[1] != "b32") unsupported();
  expect_operands(5);
  const Operand& table = operand(4);
  if (table.kind != Kind::kInteger || table.integer < 0 || table.integer > 255)
    fail("the table must be 0 to 255");
  const Row a = source(operand(1), Type::kB32);
  const Row b = source(operand(2), Type::kB32);
  const Row c = source(operand(3), Type::kB32);
  emit_form("lop3.b32", destination(operand(0), Type::kB32), {a, b, c}, std::nullopt, table.integer);
}

// add.cc, addc[.cc], sub.cc, subc[.cc], mad.(lo|hi).cc, madc.(lo|hi)[.cc]; .type is 32 or 64 bits.
void FunctionDecoder::carry() {
  const bool out = std::erase(words_, "cc") != 0;
  const std::string base = words_[0];
  const bool in = base.ends_with('c');
  const bool multiply = base.starts_with("mad");
  const bool subtract = base.starts_with("sub");
  const std::optional<Type> type = type_named(words_.back());
  const bool half = multiply && words_.size() == 3 && (words_[1] == "lo" || words_[1] == "hi");
  const bool known = multiply || subtract || base.starts_with("add");
  if (!known || !type || is_float(*type) || (size_of(*type) != 4 && size_of(*type) != 8) ||
      (multiply ? !half : words_.size() != 2)) {
    unsupported();
  }
  expect_operands(multiply ? 4 : 3);
  Row a = source(operand(1), *type);
  Row b = source(operand(2), *type);
  if (multiply) {
    const Row product = fresh(*type).row;
    emit_form(fmt::format("mul.{}.{}", words_[1], words_[2]), product, {a, b});
    a = product;
    b = source(operand(3), *type);
  }
  if (!carry_) carry_ = fresh(Type::kPred, false).row;
  const Row none = program_.constant(subtract ? ~std::uint64_t{0} : 0, 0);
  const Form& entry = form(fmt::format("{}.carry.{}", subtract ? "sub" : "add", bits_name(*type)));
  Operation op{.row = entry.function};
  op.rows[0] = destination(operand(0), *type);
  op.rows[1] = a;
  op.rows[2] = b;
  op.rows[3] = in ? *carry_ : none;
  op.rows[4] = out ? *carry_ : fresh(Type::kPred).row;
  emit(op, 1);
  built_.back().defines_last = true;
}

// mma.sync.aligned.SHAPE.row.col[.satfinite].D.A.B.C {d}, {a}, {b}, {c}
void FunctionDecoder::mma() {
  if (words_.size() < 10 || words_[1] != "sync" || words_[2] != "aligned" || words_[4] != "row" ||
      words_[5] != "col") {
    unsupported();
  }
  std::string name = "mma." + words_[3];
  for (std::size_t i = 6; i < words_.size(); ++i) name += "." + words_[i];
  const Form& entry = form(name);
  expect_operands(4);
  std::vector<Row> rows;
  const bool doubles = entry.destination == Type::kB64;
  for (std::size_t part = 0; part < 4; ++part) {
    const Operand& list = operand(part);
    const std::size_t n = list.kind == Kind::kVector ? list.elements.size() : 1;
    if (n != entry.registers[part])
      fail(fmt::format("operand {} needs {}", part + 1, counted(entry.registers[part], "register")));
    for (std::size_t i = 0; i < n; ++i) {
      const Operand& one = list.kind == Kind::kVector ? list.elements[i] : list;
      rows.push_back(part == 0 ? destination(one, entry.destination)
                               : source(one, doubles ? Type::kB64 : Type::kB32));
    }
  }
  Operation op{.warp = &run::multiply_matrices};
  op.inner = entry.function;
  emit(op, 0, std::move(rows), entry.registers[0]);
}

}  // namespace sluice::ptx
