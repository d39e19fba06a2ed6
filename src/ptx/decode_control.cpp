// Decoding of control flow, of what lanes and warps do together; and a whole function.
#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/decode.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx {

using Kind = Operand::Kind;

// bar[.cta].(sync|arrive) a[, b]; bar.red.popc.u32 d, a[, b], p; bar.red.(and|or).pred p, a[, b], q; bar.warp.sync m;
// barrier[.cta].…[.aligned]
void FunctionDecoder::barrier() {
  const bool always_aligned = words_[0] == "bar";
  take("cta");
  if (take("warp")) {
    if (!always_aligned || !take("sync")) unsupported();
    expect_no_words();
    expect_operands(1);
    Operation op{.warp = &run::warp_barrier};
    op.rows[1] = source(operand(0), Type::kB32);
    emit(op, 0);
    return;
  }
  Operation op{.warp = &run::barrier};
  op.count = take("aligned") || always_aligned ? 1 : 0;
  auto kind = run::BarrierKind::kSync;
  bool reduces = false;
  if (take("arrive")) {
    kind = run::BarrierKind::kArrive;
  } else if (take("red")) {
    reduces = true;
    if (take("popc") && take("u32"))
      kind = run::BarrierKind::kPopc;
    else if (take("and") && take("pred"))
      kind = run::BarrierKind::kAnd;
    else if (take("or") && take("pred"))
      kind = run::BarrierKind::kOr;
    else
      unsupported();
  } else if (!take("sync")) {
    unsupported();
  }
  expect_no_words();
  op.variant = static_cast<std::uint8_t>(kind);
  const std::size_t n = now_->operands.size();
  const std::size_t first = reduces ? 1 : 0;
  const std::size_t last = reduces ? n - 1 : n;
  if (n < first + 1 + first || n > first + 2 + first) fail("a wrong number of operands");
  const bool counted = last - first == 2;
  if (kind == run::BarrierKind::kArrive && !counted) fail("the number of threads is missing");
  op.rows[1] = source(operand(first), Type::kU32);
  op.rows[2] = counted ? source(operand(first + 1), Type::kU32) : kTrue;
  if (!reduces) {
    emit(op, 0);
    return;
  }
  op.rows[3] = source(operand(n - 1), Type::kPred);
  op.rows[0] = destination(operand(0), kind == run::BarrierKind::kPopc ? Type::kU32 : Type::kPred);
  emit(op, 1);
}

// shfl.sync.MODE.b32 d[|p], a, b, c, members
void FunctionDecoder::shuffle() {
  using Mode = run::Shuffle;
  Operation op{.warp = &run::shuffle};
  auto mode = Mode::kIndex;
  if (take("up"))
    mode = Mode::kUp;
  else if (take("down"))
    mode = Mode::kDown;
  else if (take("bfly"))
    mode = Mode::kButterfly;
  else if (!take("idx"))
    unsupported();
  if (!take("sync") || !take("b32")) unsupported();
  expect_no_words();
  expect_operands(5);
  op.variant = static_cast<std::uint8_t>(mode);
  op.rows[1] = source(operand(1), Type::kB32);
  op.rows[2] = source(operand(2), Type::kB32);
  op.rows[3] = source(operand(3), Type::kB32);
  op.rows[4] = source(operand(4), Type::kB32);
  Operand to = operand(0);
  const std::string second = std::exchange(to.second, "");
  op.rows[0] = to.name == "_" ? fresh(Type::kB32).row : destination(to, Type::kB32);
  const Row valid = second.empty() || second == "_"
                        ? fresh(Type::kPred).row
                        : destination({.kind = Kind::kName, .name = second}, Type::kPred);
  emit(op, 1, {valid}, 1);
}

void FunctionDecoder::exchange() {
  const std::string base = words_[0];
  if (base == "shfl") {
    shuffle();
    return;
  }
  if (base == "activemask") {
    if (!take("b32")) unsupported();
    expect_no_words();
    expect_operands(1);
    Operation op{.warp = &run::active_mask};
    op.rows[0] = destination(operand(0), Type::kB32);
    emit(op, 1);
    return;
  }
  if (!take("sync")) unsupported();
  expect_operands(3);
  Operation op;
  if (base == "vote") {
    auto mode = run::Vote::kBallot;
    op.warp = &run::vote;
    const bool ballot = take("ballot");
    if (take("all"))
      mode = run::Vote::kAll;
    else if (take("any"))
      mode = run::Vote::kAny;
    else if (take("uni"))
      mode = run::Vote::kUniform;
    else if (!ballot)
      unsupported();
    if (!take(ballot ? "b32" : "pred")) unsupported();
    op.variant = static_cast<std::uint8_t>(mode);
    op.rows[1] = source(operand(1), Type::kPred);
    op.rows[2] = source(operand(2), Type::kB32);
    op.rows[0] = destination(operand(0), ballot ? Type::kB32 : Type::kPred);
  } else if (base == "match") {
    op.warp = &run::match;
    const bool all = take("all");
    if (!all && !take("any")) unsupported();
    const std::optional<Type> type = take_type();
    if (type != Type::kB32 && type != Type::kB64) unsupported();
    op.variant = static_cast<std::uint8_t>(all ? run::Match::kAll : run::Match::kAny);
    op.width = static_cast<std::uint8_t>(size_of(*type));
    op.rows[1] = source(operand(1), *type);
    op.rows[2] = source(operand(2), Type::kB32);
    Operand to = operand(0);
    const std::string second = std::exchange(to.second, "");
    op.rows[0] = destination(to, Type::kB32);
    const bool wants = all && !second.empty() && second != "_";
    const Row same =
        wants ? destination({.kind = Kind::kName, .name = second}, Type::kPred) : fresh(Type::kPred).row;
    expect_no_words();
    emit(op, 1, {same}, 1);
    return;
  } else {
    op.warp = &run::reduce;
    const std::optional<Type> type = take_type();
    const bool is_signed = type == Type::kS32;
    const bool number = is_signed || type == Type::kU32;
    using run::Reduce;
    auto kind = Reduce::kAdd;
    if (number && take("min"))
      kind = is_signed ? Reduce::kMinS : Reduce::kMinU;
    else if (number && take("max"))
      kind = is_signed ? Reduce::kMaxS : Reduce::kMaxU;
    else if (type == Type::kB32 && take("and"))
      kind = Reduce::kAnd;
    else if (type == Type::kB32 && take("or"))
      kind = Reduce::kOr;
    else if (type == Type::kB32 && take("xor"))
      kind = Reduce::kXor;
    else if (!number || !take("add"))
      unsupported();
    op.variant = static_cast<std::uint8_t>(kind);
    op.rows[1] = source(operand(1), Type::kB32);
    op.rows[2] = source(operand(2), Type::kB32);
    op.rows[0] = destination(operand(0), Type::kB32);
  }
  expect_no_words();
  emit(op, 1);
}

// bra[.uni] label; brx.idx[.uni] index, table
void FunctionDecoder::branch() {
  take("uni");
  const bool indexed = words_[0] == "brx";
  if (indexed && !take("idx")) unsupported();
  expect_no_words();
  expect_operands(indexed ? 2 : 1);
  Operation op{.warp = indexed ? &run::branch_indexed : &run::branch};
  std::vector<std::string> labels = {operand(0).name};
  if (indexed) {
    op.rows[1] = source(operand(0), Type::kU32);
    const auto table = std::ranges::find(function_.branch_tables, operand(1).name, &BranchTable::name);
    if (table == function_.branch_tables.end())
      fail(fmt::format("'{}' is no table of branch targets", printable(operand(1).name, 60)));
    labels = table->labels;
  }
  emit(op, 0);
  built_.back().labels = std::move(labels);
  built_.back().falls_through = !indexed && guard_ != kTrue;
  if (indexed) built_.back().falls_through = guard_ != kTrue;
}

// The place in local memory of a .param variable of this function.
std::uint32_t FunctionDecoder::frame_offset(const Operand& operand, std::uint64_t size) const {
  const auto found = names_.find(operand.name);
  if (operand.kind != Kind::kName || found == names_.end() || found->second.space != Space::kLocal) {
    fail(fmt::format("'{}' is no parameter of this scope", printable(operand.name, 60)));
  }
  if (found->second.size != size)
    fail(fmt::format("{} has {}, the function takes {}", operand.name, counted(found->second.size, "byte"),
                     size));
  return static_cast<std::uint32_t>(found->second.address);
}

// call[.uni] [(result),] function[, (arguments)][, prototype]
void FunctionDecoder::call() {
  take("uni");
  expect_no_words();
  const auto& operands = now_->operands;
  std::size_t at = 0;
  std::vector<Operand> results;
  std::vector<Operand> arguments;
  if (at < operands.size() && operands[at].kind == Kind::kVector) results = operands[at++].elements;
  const Operand callee = operand(at++);
  if (at < operands.size() && operands[at].kind == Kind::kVector) arguments = operands[at++].elements;
  const Function* function = program_.module.find_function(callee.name);
  const std::vector<Variable>* returns = nullptr;
  const std::vector<Variable>* parameters = nullptr;
  Operation op{.warp = &run::call};
  if (function != nullptr) {
    if (function->name == "__assertfail") {
      op.warp = &run::trap;
      op.variant = 1;
      emit(op, 0);
      return;
    }
    if (!function->defined || function->entry)
      fail(fmt::format(
          "function {} is not in the module: printf, malloc and launches by kernels aren't supported",
          printable(callee.name, 100)));
    returns = &function->returns;
    parameters = &function->parameters;
    op.rows[1] = program_.constant(*program_.symbol(callee.name), 8);
  } else {
    const std::string& name = operand(at++).name;
    const auto prototype = std::ranges::find(function_.prototypes, name, &Prototype::name);
    if (prototype == function_.prototypes.end()) fail("an indirect call needs a prototype");
    returns = &prototype->returns;
    parameters = &prototype->parameters;
    op.rows[1] = source(callee, Type::kU64);
  }
  if (at != operands.size()) fail("too many operands");
  if (results.size() != returns->size() || arguments.size() != parameters->size()) {
    fail(fmt::format("{} and {} for a function of {} and {}", counted(results.size(), "result"),
                     counted(arguments.size(), "argument"), returns->size(), parameters->size()));
  }
  CallSite site;
  for (std::size_t i = 0; i < results.size(); ++i) {
    site.results.push_back(frame_offset(results[i], (*returns)[i].size));
    site.result_sizes.push_back(static_cast<std::uint32_t>((*returns)[i].size));
  }
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    site.arguments.push_back(frame_offset(arguments[i], (*parameters)[i].size));
    site.argument_sizes.push_back(static_cast<std::uint32_t>((*parameters)[i].size));
  }
  op.immediate = static_cast<std::int64_t>(program_.calls.size());
  program_.calls.push_back(std::move(site));
  emit(op, 0);
}

void FunctionDecoder::simple_control() {
  const std::string base = words_[0];
  if (base.starts_with("prefetch")) return;  // a hint
  Operation op;
  if (base == "nanosleep") {
    if (!take("u32")) unsupported();
    expect_operands(1);
    op.warp = &run::sleep;
    op.rows[1] = source(operand(0), Type::kU32);
  } else {
    take("uni");
    expect_operands(0);
    op.warp = base == "trap" ? &run::trap : (base == "exit" || function_.entry ? &run::exit : &run::leave);
    op.immediate = function_index_;
  }
  expect_no_words();
  emit(op, 0);
  built_.back().falls_through = base == "nanosleep" || guard_ != kTrue;
}

RowPlan FunctionDecoder::run(std::uint32_t begin) {
  std::vector<std::uint32_t> starts;  // of instructions, in built_
  for (const Instruction& instruction : function_.instructions) {
    starts.push_back(static_cast<std::uint32_t>(built_.size()));
    decode(instruction);
  }
  // A body that runs off its end returns.
  starts.push_back(static_cast<std::uint32_t>(built_.size()));
  now_ = nullptr;
  const Instruction* last = function_.instructions.empty() ? nullptr : &function_.instructions.back();
  Operation leave{.warp = function_.entry ? &run::exit : &run::leave};
  leave.immediate = function_index_;
  leave.hidden = true;
  built_.push_back({leave, {}, 0, 0, last, {}});
  built_.back().falls_through = false;

  std::unordered_map<std::string, std::uint32_t> labels;
  for (const Label& label : function_.labels) labels[label.name] = starts[label.instruction];
  std::vector<FlowOperation> flow(built_.size());
  const auto first = static_cast<std::uint32_t>(program_.operations.size());
  for (std::size_t i = 0; i < built_.size(); ++i) {
    Built& made = built_[i];
    FlowOperation& node = flow[i];
    now_ = made.instruction;
    node.falls_through = made.falls_through;
    node.partial = made.op.guard != kTrue;
    std::vector<std::uint32_t> targets;
    for (const std::string& name : made.labels) {
      const auto label = labels.find(name);
      if (label == labels.end()) fail(fmt::format("label {} is not defined", printable(name, 60)));
      node.targets.push_back(label->second);
      targets.push_back(first + label->second);
    }
    if (made.op.warp == &run::branch) made.op.immediate = targets[0];
    if (made.op.warp == &run::branch_indexed) {
      made.op.immediate = static_cast<std::int64_t>(program_.branch_tables.size());
      program_.branch_tables.push_back(std::move(targets));
    }
    for (std::uint32_t r = 0; r < 5; ++r) {
      node.uses.push_back({&made.op.rows[r], r < made.n_defined || (r == 4 && made.defines_last)});
    }
    for (std::uint32_t r = 0; r < made.more.size(); ++r)
      node.uses.push_back({&made.more[r], r < made.n_more_defined});
    node.uses.push_back({&made.op.guard, false});
  }
  // Liveness takes a bit for each register and branch; a warp's registers take memory.
  constexpr std::size_t kMaxPairs = std::size_t{1} << 32U;
  constexpr std::uint32_t kMaxBytes = 1U << 22U;
  const auto branches = static_cast<std::size_t>(
      std::ranges::count_if(flow, [](const FlowOperation& node) { return !node.targets.empty(); }));
  now_ = nullptr;
  if ((branches + function_.labels.size() + 1) * widths_.size() > kMaxPairs)
    fail("too many registers and branches");
  const RowPlan plan = assign_rows(flow, widths_, begin);
  if (plan.end - begin > kMaxBytes) fail("more registers at once than any GPU has");
  for (Built& made : built_) {
    program_.code.lines.push_back(
        {made.instruction != nullptr ? made.instruction->ptx_line : function_.ptx_line,
         made.instruction != nullptr ? made.instruction->source : SourceLine{}, made.instruction,
         function_index_});
    if (!made.more.empty()) {
      program_.more.push_back(std::move(made.more));
      made.op.more = program_.more.back().data();
    }
    program_.operations.push_back(made.op);
  }
  return plan;
}

}  // namespace sluice::ptx
