// Decoding of what touches memory, and of what orders it.
#include <algorithm>
#include <bit>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/decode.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx {
namespace {

using Kind = Operand::Kind;

std::uint8_t register_width(Type type) {
  return static_cast<std::uint8_t>(std::max(size_of(type), 2U));
}
bool is_signed(Type type) {
  return type == Type::kS8 || type == Type::kS16 || type == Type::kS32 || type == Type::kS64;
}

}  // namespace

bool FunctionDecoder::take(std::string_view word) {
  const auto found = std::find(words_.begin() + 1, words_.end(), word);
  if (found == words_.end()) return false;
  words_.erase(found);
  return true;
}

std::optional<Type> FunctionDecoder::take_type() {
  if (words_.size() < 2) return std::nullopt;
  const std::optional<Type> type = type_named(words_.back());
  if (type) words_.pop_back();
  return type;
}

Space FunctionDecoder::take_space() {
  if (take("global")) return Space::kGlobal;
  if (take("shared") || take("shared::cta")) return Space::kShared;
  if (take("local")) return Space::kLocal;
  if (take("param") || take("param::entry") || take("param::func")) return Space::kParam;
  if (take("const")) return Space::kConst;
  return Space::kGeneric;
}

void FunctionDecoder::take_order(Operation& op) {
  if (take("relaxed")) op.order = Order::kRelaxed;
  if (take("acquire")) op.order = Order::kAcquire;
  if (take("release")) op.order = Order::kRelease;
  if (take("acq_rel")) op.order = Order::kAcquireRelease;
  if (take("sc")) op.order = Order::kSequential;
  if (take("volatile")) op.order = Order::kVolatile;
  if (take("weak")) op.order = Order::kWeak;
  if (take("cta")) op.scope = Scope::kBlock;
  if (take("cluster")) op.scope = Scope::kCluster;
  if (take("gpu")) op.scope = Scope::kGpu;
  if (take("sys")) op.scope = Scope::kSystem;
}

void FunctionDecoder::expect_no_words() const {
  if (words_.size() != 1) unsupported();
}

FunctionDecoder::Address FunctionDecoder::address(const Operand& operand, Space space) {
  if (operand.kind != Kind::kAddress) fail("an address in brackets is missing");
  if (operand.name.empty())
    return {program_.constant(static_cast<std::uint64_t>(operand.integer), 8), 0, true};
  if (const Register* base = find_register(operand.name)) {
    if (base->type == Type::kPred || size_of(base->type) < 4)
      fail(fmt::format("{} is no address", operand.name));
    if (size_of(base->type) == 4 && space != Space::kShared && space != Space::kLocal &&
        space != Space::kParam && space != Space::kConst) {
      fail(fmt::format("{} has 32 bits, the address needs 64", operand.name));
    }
    return {base->row, operand.integer, size_of(base->type) == 8};
  }
  if (is_dynamic_shared(operand.name)) return {dynamic_shared(0, 8), operand.integer, true};
  const auto found = symbol(operand.name);
  if (!found) fail(fmt::format("'{}' is not declared", printable(operand.name, 60)));
  return {program_.constant(*found, 8), operand.integer, true};
}

// ld[.order][.scope][.space][.cache hints][.vec].type d, [a]; st the other way round.
void FunctionDecoder::load_store() {
  const bool loads = words_[0] != "st";
  Operation op{.warp = loads ? &run::load : &run::store};
  op.access = loads ? AccessKind::kLoad : AccessKind::kStore;
  const std::optional<Type> type = take_type();
  if (!type || *type == Type::kPred || size_of(*type) == 16) unsupported();
  take_order(op);
  op.space = take_space();
  if (take("nc")) {
    if (!loads || op.space != Space::kGlobal) unsupported();
    op.access = AccessKind::kLoadNonCoherent;
  }
  // Hints of caches and prefetching change no value.
  const bool has_policy = take("L2::cache_hint") || take("level::cache_hint");
  for (const std::string_view hint :
       {"ca", "cg", "cs", "lu", "cv", "wb", "wt", "L1::evict_normal", "L1::evict_unchanged",
        "L1::evict_first", "L1::evict_last", "L1::no_allocate", "L2::evict_normal", "L2::evict_first",
        "L2::evict_last", "L2::64B", "L2::128B", "L2::256B"}) {
    take(hint);
  }
  std::size_t count = 1;
  if (take("v2")) count = 2;
  if (take("v4")) count = 4;
  expect_no_words();
  expect_operands(has_policy ? 3 : 2);
  if (count * size_of(*type) > 16) unsupported();

  // In a device function, and for arguments of calls, parameters are the lane's own.
  const Operand& place = operand(loads ? 1 : 0);
  if (op.space == Space::kParam) {
    const auto named = names_.find(place.name);
    if (named != names_.end() ? named->second.space == Space::kLocal : !function_.entry)
      op.space = Space::kLocal;
  }
  const Address where = address(place, op.space);
  op.rows[1] = where.row;
  op.immediate = where.offset;
  op.variant = where.wide ? 1 : 0;
  op.element = static_cast<std::uint8_t>(size_of(*type));
  op.count = static_cast<std::uint8_t>(count);
  op.sign_extend = is_signed(*type);

  const Operand& data = operand(loads ? 0 : 1);
  std::vector<Operand> single = {data};
  const std::vector<Operand>& parts = data.kind == Kind::kVector ? data.elements : single;
  if (parts.size() != count) fail(fmt::format("needs {}", counted(count, "register")));
  std::vector<Row> rows;
  op.width = register_width(*type);
  for (const Operand& part : parts) {
    if (part.kind != Kind::kName || find_register(part.name) == nullptr) continue;
    const Type register_type = target(part).type;
    if (register_type == Type::kPred || register_width(register_type) < op.width)
      fail(fmt::format("{} is too small", part.name));
    op.width = std::max(op.width, register_width(register_type));
  }
  const Type row_type = op.width == 2 ? Type::kB16 : (op.width == 4 ? Type::kB32 : Type::kB64);
  for (const Operand& part : parts) {
    if (loads) {
      rows.push_back(destination(part, row_type));
    } else if (part.kind == Kind::kInteger || part.kind == Kind::kFloat) {
      const Row natural = immediate(part, *type);
      rows.push_back(op.width == register_width(*type) ? natural : immediate(part, row_type));
    } else {
      rows.push_back(source(part, row_type));
    }
  }
  emit(op, 0, std::move(rows), loads ? static_cast<std::uint32_t>(count) : 0);
}

// atom[.order][.scope][.space].op.type d, [a], b[, c]; red without d.
void FunctionDecoder::atomic() {
  const bool returns = words_[0] == "atom";
  Operation op{.warp = &run::atomic};
  op.access = returns ? AccessKind::kAtomic : AccessKind::kReduction;
  op.order = Order::kRelaxed;
  op.scope = Scope::kGpu;
  const std::optional<Type> type = take_type();
  if (!type) unsupported();
  take_order(op);
  op.space = take_space();
  take("noftz");
  const bool has_policy = take("L2::cache_hint");
  if (words_.size() != 2) unsupported();
  const std::string change = words_[1];
  op.change = run::change_named(change, *type);
  const bool swaps = change == "cas";
  const bool exchanges = swaps || change == "exch";
  if (op.change == nullptr || (exchanges && !returns)) unsupported();
  if (op.space != Space::kGeneric && op.space != Space::kGlobal && op.space != Space::kShared) unsupported();
  const std::size_t first = returns ? 1 : 0;
  expect_operands(first + (swaps ? 3U : 2U) + (has_policy ? 1U : 0U));
  const Address where = address(operand(first), op.space);
  op.rows[1] = where.row;
  op.immediate = where.offset;
  op.variant = where.wide ? 1 : 0;
  op.element = op.width = static_cast<std::uint8_t>(size_of(*type));
  op.rows[2] = source(operand(first + 1), *type);
  op.sign_extend = swaps;
  op.count = change == "exch" ? 0 : 1;
  if (swaps) op.rows[3] = source(operand(first + 2), *type);
  op.rows[0] = returns ? destination(operand(0), *type) : fresh(*type).row;
  emit(op, 1);
}

// cvta[.to].space.(u32|u64) d, a
void FunctionDecoder::cvta() {
  const std::optional<Type> type = take_type();
  const bool to = take("to");
  const Space space = take_space();
  expect_no_words();
  expect_operands(2);
  if (type != Type::kU64 || space == Space::kGeneric) unsupported();
  const Row value = source(operand(1), Type::kU64);
  Operation op{.warp = to ? &run::from_generic : &run::to_generic};
  op.space = space;
  op.rows[0] = destination(operand(0), Type::kU64);
  op.rows[1] = value;
  if (space == Space::kParam && !function_.entry) op.space = Space::kLocal;
  emit(op, 1);
}

void FunctionDecoder::isspacep() {
  Operation op{.warp = &run::is_in_space};
  op.space = take_space();
  expect_no_words();
  expect_operands(2);
  if (op.space == Space::kGeneric) unsupported();
  op.rows[1] = source(operand(1), Type::kU64);
  op.rows[0] = destination(operand(0), Type::kPred);
  emit(op, 1);
}

// membar.(cta|gl|sys); fence[.acq_rel|.sc].scope
void FunctionDecoder::fence() {
  Operation op{.warp = &run::fence};
  const bool old = words_[0] == "membar";
  if (old && take("gl")) op.scope = Scope::kGpu;
  op.order = Order::kAcquireRelease;
  take_order(op);
  // On sm_70 and later membar is fence.sc.
  if (old) op.order = Order::kSequential;
  expect_no_words();
  expect_operands(0);
  const bool known = op.order == Order::kAcquireRelease || op.order == Order::kSequential;
  if (!known || op.scope == Scope::kNone || op.scope == Scope::kCluster) unsupported();
  emit(op, 0);
}

// cp.async.(ca|cg).shared.global [to], [from], size[, source size]; .commit_group; .wait_group n; .wait_all
void FunctionDecoder::copy_async() {
  if (!take("async")) unsupported();
  if (take("commit_group")) {
    expect_no_words();
    expect_operands(0);
    emit({.warp = &run::commit_copies}, 0);
    return;
  }
  Operation op{.warp = &run::wait_copies};
  if (take("wait_all")) {
    expect_no_words();
    expect_operands(0);
    op.immediate = -1;
    emit(op, 0);
    return;
  }
  if (take("wait_group")) {
    expect_no_words();
    expect_operands(1);
    if (operand(0).kind != Kind::kInteger || operand(0).integer < 0)
      fail("the number of groups must be a constant");
    op.immediate = operand(0).integer;
    emit(op, 0);
    return;
  }
  op.warp = &run::copy_async;
  const bool all_levels = take("ca");
  if (!all_levels && !take("cg")) unsupported();
  if ((!take("shared") && !take("shared::cta")) || !take("global")) unsupported();
  for (const std::string_view hint : {"L2::64B", "L2::128B", "L2::256B"}) take(hint);
  expect_no_words();
  const std::size_t n = now_->operands.size();
  if (n != 3 && n != 4) fail("expected 3 or 4 operands");
  const std::int64_t size = operand(2).integer;
  const bool fits = size == 16 || (all_levels && (size == 4 || size == 8));
  if (operand(2).kind != Kind::kInteger || !fits) fail("the size must be 16 bytes, or 4 or 8 with .ca");
  const Address to = address(operand(0), Space::kShared);
  const Address from = address(operand(1), Space::kGlobal);
  // Both addresses have an offset: that of the destination is added here.
  op.rows[1] = to.row;
  op.variant = to.wide ? 1 : 0;
  op.more = nullptr;
  op.rows[2] = from.row;
  op.immediate = from.offset;
  op.count = static_cast<std::uint8_t>(size);
  op.rows[4] = program_.constant(static_cast<std::uint64_t>(to.offset), 4);
  op.rows[3] =
      n == 4 ? source(operand(3), Type::kU32) : program_.constant(static_cast<std::uint64_t>(size), 4);
  emit(op, 0);
}

// ldmatrix.sync.aligned.m8n8.(x1|x2|x4)[.trans][.shared].b16 {d…}, [a]; movmatrix.sync.aligned.m8n8.trans.b16 d, a
void FunctionDecoder::matrix_move() {
  const bool loads = words_[0] == "ldmatrix";
  if (!take("sync") || !take("aligned") || !take("m8n8") || take_type() != Type::kB16) unsupported();
  Operation op{.warp = loads ? &run::load_matrix : &run::move_matrix};
  op.variant = take("trans") ? 1 : 0;
  expect_operands(2);
  if (!loads) {
    expect_no_words();
    if (op.variant == 0) unsupported();
    op.rows[1] = source(operand(1), Type::kB32);
    op.rows[0] = destination(operand(0), Type::kB32);
    emit(op, 1);
    return;
  }
  op.space = take_space();
  op.count = take("x4") ? 4 : (take("x2") ? 2 : (take("x1") ? 1 : 0));
  expect_no_words();
  if (op.count == 0 || (op.space != Space::kShared && op.space != Space::kGeneric)) unsupported();
  const Address where = address(operand(1), op.space);
  op.rows[1] = where.row;
  op.immediate = where.offset;
  op.sign_extend = where.wide;
  op.element = program_.module.target <= 75 ? 1 : 0;  // all lanes' addresses must be valid
  const std::vector<Operand>& parts = operand(0).elements;
  if (operand(0).kind != Kind::kVector || parts.size() != op.count)
    fail(fmt::format("needs {}", counted(op.count, "register")));
  std::vector<Row> rows;
  for (const Operand& part : parts) rows.push_back(destination(part, Type::kB32));
  emit(op, 0, std::move(rows), op.count);
}

}  // namespace sluice::ptx
