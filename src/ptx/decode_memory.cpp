// Decoding of what touches memory or orders it, and of control flow.
#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/decode.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx {

using Kind = Operand::Kind;

FunctionDecoder::Address FunctionDecoder::address(const Operand& operand, Space space) {
  if (operand.kind != Kind::kAddress) fail("an address in brackets is missing");
  if (operand.name.empty())
    return {program_.constant(static_cast<std::uint64_t>(operand.integer), 8), 0, true};
  if (const Register* base = find_register(operand.name)) {
    if (base->type == Type::kPred || size_of(base->type) < 4)
      fail(fmt::format("{} is no address", operand.name));
    const bool wide = size_of(base->type) == 8;
    if (!wide && (space == Space::kGeneric || space == Space::kGlobal))
      fail(fmt::format("{} has 32 bits, the address needs 64", operand.name));
    return {base->row, operand.integer, wide};
  }
  if (is_dynamic_shared(operand.name)) return {dynamic_shared(0, 8), operand.integer, true};
  const auto found = symbol(operand.name);
  if (!found) fail(fmt::format("'{}' is not declared", printable(operand.name, 60)));
  return {program_.constant(*found, 8), operand.integer, true};
}

void FunctionDecoder::set_address(Operation& op, const Operand& operand) {
  const Address where = address(operand, op.space);
  op.rows[1] = where.row;
  op.immediate = where.offset;
  op.variant = where.wide ? 1 : 0;
}

// ld[.order][.scope][.space][.cache hints][.vec].type d, [a]; st the other way round.
void FunctionDecoder::load_store() {
  const bool loads = words_[0] != "st";
  expect_operands(has("L2::cache_hint") ? 3 : 2);
  Operation op = operation();
  op.warp = loads ? &run::load : &run::store;
  op.access = loads ? AccessKind::kLoad : AccessKind::kStore;
  if (has("nc")) op.access = AccessKind::kLoadNonCoherent;
  op.count = has("v4") ? 4 : (has("v2") ? 2 : 1);
  op.element = static_cast<std::uint8_t>(size_of(type()));
  op.sign_extend = is_signed(type());
  // In a device function, and for arguments of calls, parameters are the lane's own.
  const Operand& place = operand(loads ? 1 : 0);
  const auto named = names_.find(place.name);
  const bool own = named != names_.end() ? named->second.space == Space::kLocal : !function_.entry;
  if (op.space == Space::kParam && own) op.space = Space::kLocal;
  set_address(op, place);

  // A register may be wider than what is in memory: then all are.
  const std::span<const Operand> data = parts(loads ? 0 : 1, op.count);
  op.width = row_width(type());
  for (const Operand& part : data) {
    const Register* found = part.kind == Kind::kName ? find_register(part.name) : nullptr;
    if (found == nullptr) continue;
    if (row_width(found->type) < op.width) fail(fmt::format("{} is too small", part.name));
    op.width = row_width(found->type);
  }
  const Type row_type = op.width == 2 ? Type::kB16 : (op.width == 4 ? Type::kB32 : Type::kB64);
  std::vector<Row> rows;
  for (const Operand& part : data) {
    const bool is_constant = part.kind == Kind::kInteger || part.kind == Kind::kFloat;
    const Type wanted = is_constant && op.width == row_width(type()) ? type() : row_type;
    rows.push_back(loads ? destination(part, row_type) : source(part, wanted));
  }
  emit(op, 0, std::move(rows), loads ? op.count : 0);
}

// atom[.order][.scope][.space].op.type d, [a], b[, c]; red without d.
void FunctionDecoder::atomic() {
  const bool returns = words_[0] == "atom";
  const bool swaps = has("cas");
  const std::size_t first = returns ? 1 : 0;
  expect_operands(first + (swaps ? 3 : 2) + (has("L2::cache_hint") ? 1 : 0));
  Operation op = operation();
  op.warp = &run::atomic;
  op.access = returns ? AccessKind::kAtomic : AccessKind::kReduction;
  if (op.order == Order::kWeak) op.order = Order::kRelaxed;
  if (op.scope == Scope::kNone) op.scope = Scope::kGpu;
  for (const std::string& word : words_)
    if (const run::Change change = run::change_named(word, type())) op.change = change;
  op.element = op.width = static_cast<std::uint8_t>(size_of(type()));
  op.sign_extend = swaps;
  op.count = has("exch") ? 0 : 1;
  set_address(op, operand(first));
  op.rows[2] = source(first + 1, type());
  if (swaps) op.rows[3] = source(first + 2, type());
  op.rows[0] = returns ? destination(operand(0), type()) : fresh(type()).row;
  emit(op, 1);
}

void FunctionDecoder::cvta() {
  listed();
  Operation& op = built_.back().op;
  if (op.space == Space::kParam && !function_.entry) op.space = Space::kLocal;
}

// membar.(cta|gl|sys); fence[.acq_rel|.sc].scope. On sm_70 and later membar is fence.sc.
void FunctionDecoder::fence() {
  listed();
  Operation& op = built_.back().op;
  if (op.order == Order::kWeak)
    op.order = words_[0] == "membar" ? Order::kSequential : Order::kAcquireRelease;
}

// cp.async.(ca|cg).shared.global [to], [from], size[, source size]
void FunctionDecoder::copy_async() {
  const std::size_t n = now_->operands.size();
  if (n != 4) expect_operands(3);
  const std::int64_t size = constant(2, 16);
  if (size != 16 && (has("cg") || (size != 4 && size != 8)))
    fail("the size must be 16 bytes, or 4 or 8 with .ca");
  const Address from = address(operand(1), Space::kGlobal);
  const Address to = address(operand(0), Space::kShared);
  Operation op{.warp = &run::copy_async};
  op.rows[1] = to.row;
  op.variant = to.wide ? 1 : 0;
  op.rows[2] = from.row;
  op.immediate = from.offset;
  op.count = static_cast<std::uint8_t>(size);
  op.rows[3] = n == 4 ? source(3, Type::kU32) : program_.constant(static_cast<std::uint64_t>(size), 4);
  op.rows[4] = program_.constant(static_cast<std::uint64_t>(to.offset), 4);
  emit(op, 0);
}

void FunctionDecoder::wait_all() {
  listed();
  built_.back().op.immediate = -1;
}

// ldmatrix.sync.aligned.m8n8.(x1|x2|x4)[.trans][.shared].b16 {d…}, [a]
void FunctionDecoder::load_matrix() {
  expect_operands(2);
  Operation op = operation();
  op.warp = &run::load_matrix;
  op.count = has("x4") ? 4 : (has("x2") ? 2 : 1);
  const Address where = address(operand(1), op.space);
  op.rows[1] = where.row;
  op.immediate = where.offset;
  op.sign_extend = where.wide;
  op.element = program_.module.target <= 75 ? 1 : 0;  // all lanes' addresses must be valid
  if (operand(0).kind != Kind::kVector) fail("the destination must be registers in braces");
  std::vector<Row> rows;
  for (const Operand& part : parts(0, op.count)) rows.push_back(destination(part, Type::kB32));
  emit(op, 0, std::move(rows), op.count);
}

// bar is always aligned.
void FunctionDecoder::barrier() {
  listed();
  built_.back().op.count = has("aligned") ? 1 : 0;
}

// bra[.uni] label; brx.idx[.uni] index, table
void FunctionDecoder::branch() {
  const bool indexed = words_[0] == "brx";
  expect_operands(indexed ? 2 : 1);
  Operation op{.warp = indexed ? &run::branch_indexed : &run::branch};
  std::vector<std::string> labels = {operand(0).name};
  if (indexed) {
    op.rows[1] = source(0, Type::kU32);
    const auto table = std::ranges::find(function_.branch_tables, operand(1).name, &BranchTable::name);
    if (table == function_.branch_tables.end())
      fail(fmt::format("'{}' is no table of branch targets", printable(operand(1).name, 60)));
    labels = table->labels;
  }
  emit(op, 0);
  built_.back().labels = std::move(labels);
  built_.back().falls_through = guard_ != kTrue;
}

// ret, exit, trap
void FunctionDecoder::leave() {
  listed();
  DecodedOperation& made = built_.back();
  if (made.op.warp == &run::leave && function_.entry) made.op.warp = &run::exit;
  made.op.immediate = function_index_;
  made.falls_through = guard_ != kTrue;
}

// The place in local memory of a .param variable of this function.
std::uint32_t FunctionDecoder::frame_offset(const Operand& operand, std::uint64_t size) const {
  const auto found = names_.find(operand.name);
  if (operand.kind != Kind::kName || found == names_.end() || found->second.space != Space::kLocal)
    fail(fmt::format("'{}' is no parameter of this scope", printable(operand.name, 60)));
  if (found->second.size != size)
    fail(fmt::format("{} has {}, the function takes {}", operand.name, counted(found->second.size, "byte"),
                     size));
  return static_cast<std::uint32_t>(found->second.address);
}

// call[.uni] [(result),] function[, (arguments)][, prototype]
void FunctionDecoder::call() {
  std::size_t at = 0;
  const auto list = [&]() -> std::span<const Operand> {
    const bool here = at < now_->operands.size() && operand(at).kind == Kind::kVector;
    return here ? std::span(operand(at++).elements) : std::span<const Operand>();
  };
  const std::span<const Operand> results = list();
  const Operand& callee = operand(at++);
  const std::span<const Operand> arguments = list();
  const Function* function = program_.module.find_function(callee.name);
  const std::vector<Variable>* returns = nullptr;
  const std::vector<Variable>* parameters = nullptr;
  Operation op{.warp = &run::call};
  if (function != nullptr && function->name == "__assertfail") {
    op.warp = &run::trap;
    op.variant = 1;
    emit(op, 0);
    return;
  }
  if (function != nullptr) {
    if (!function->defined || function->entry)
      fail(fmt::format(
          "function {} is not in the module: printf, malloc and launches by kernels aren't supported",
          printable(callee.name, 100)));
    returns = &function->returns;
    parameters = &function->parameters;
    op.rows[1] = program_.constant(*program_.symbol(callee.name), 8);
  } else {
    const auto prototype = std::ranges::find(function_.prototypes, operand(at++).name, &Prototype::name);
    if (prototype == function_.prototypes.end()) fail("an indirect call needs a prototype");
    returns = &prototype->returns;
    parameters = &prototype->parameters;
    op.rows[1] = source(callee, Type::kU64);
  }
  if (at != now_->operands.size()) fail("too many operands");
  if (results.size() != returns->size() || arguments.size() != parameters->size()) {
    fail(fmt::format("{} and {} for a function of {} and {}", counted(results.size(), "result"),
                     counted(arguments.size(), "argument"), returns->size(), parameters->size()));
  }
  CallSite site;
  const auto place = [&](std::span<const Operand> given, const std::vector<Variable>& wanted,
                         std::vector<std::uint32_t>& offsets, std::vector<std::uint32_t>& sizes) {
    for (std::size_t i = 0; i < given.size(); ++i) {
      offsets.push_back(frame_offset(given[i], wanted[i].size));
      sizes.push_back(static_cast<std::uint32_t>(wanted[i].size));
    }
  };
  place(results, *returns, site.results, site.result_sizes);
  place(arguments, *parameters, site.arguments, site.argument_sizes);
  op.immediate = static_cast<std::int64_t>(program_.calls.size());
  program_.calls.push_back(std::move(site));
  emit(op, 0);
}

}  // namespace sluice::ptx
