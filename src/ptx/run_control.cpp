// Control flow of diverging lanes, special registers.
#include <bit>
#include <cstring>

#include <fmt/format.h>

#include "ptx/executor.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx::run {
namespace {

std::uint32_t first_lane(std::uint32_t mask) {
  return static_cast<std::uint32_t>(std::countr_zero(mask));
}
bool has(std::uint32_t mask, std::uint32_t lane) {
  return ((mask >> lane) & 1U) != 0;
}

// Sends each lane of the group to where `target` says; lanes that part become groups of their own.
template <class F>
void scatter(Lanes& lanes, F&& target) {
  std::uint32_t left = lanes.mask;
  while (true) {
    const std::uint32_t to = target(first_lane(left));
    std::uint32_t same = 0;
    for (std::uint32_t i = 0; i < kLanes; ++i) same |= has(left, i) && target(i) == to ? 1U << i : 0;
    if (same == left) {
      lanes.pc = to;
      return;
    }
    Executor::split(lanes, same, to);
    left &= ~same;
  }
}

void copy_local(const Executor& executor, Warp& warp, std::uint32_t mask, std::uint32_t from,
                std::uint32_t to, std::uint32_t size) {
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    std::byte* local = executor.local(warp) + std::size_t{i} * executor.kernel.local_bytes;
    if (has(mask, i)) std::memcpy(local + to, local + from, size);
  }
}

}  // namespace

bool nothing(Executor& /*executor*/, Lanes& lanes, const Operation& /*op*/, std::uint32_t /*mask*/) {
  ++lanes.pc;
  return true;
}

bool branch(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  const auto target = static_cast<std::uint32_t>(op.immediate);
  if (mask == lanes.mask) {
    lanes.pc = target;
    return true;
  }
  // Which part goes on first is for the seed to say.
  if ((executor.random() & 1U) != 0) {
    Executor::split(lanes, mask, target);
    ++lanes.pc;
  } else {
    Executor::split(lanes, lanes.mask & ~mask, lanes.pc + 1);
    lanes.pc = target;
  }
  return true;
}

bool branch_indexed(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  Executor::keep_only(lanes, mask);
  const auto& table = executor.program.branch_tables[static_cast<std::size_t>(op.immediate)];
  const auto* index = lanes.of->rows.at<const std::uint32_t>(op.rows[1]);
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    if (!has(lanes.mask, i) || index[i] < table.size()) continue;
    executor.fail(lanes, FindingKind::kOther,
                  fmt::format("branch {} of a table of {}", index[i], table.size()), i);
  }
  scatter(lanes, [&](std::uint32_t i) { return table[index[i]]; });
  return true;
}

bool call(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  Executor::keep_only(lanes, mask);
  const Program& program = executor.program;
  Warp& warp = *lanes.of;
  const auto* code = warp.rows.at<const std::uint64_t>(op.rows[1]);
  const CallSite& site = program.calls[static_cast<std::size_t>(op.immediate)];
  const auto function_of = [&](std::uint32_t i) {
    return static_cast<std::uint32_t>(code[i] - kCodeWindow - 1);
  };
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    if (!has(lanes.mask, i)) continue;
    const std::uint64_t index = code[i] - kCodeWindow - 1;
    if (index >= program.frames.size() || program.frames[index].return_row == 0) {
      executor.fail(lanes, FindingKind::kOutOfBounds,
                    fmt::format("a call of {:#x}, which is no function", code[i]), i);
    }
    const Frame& frame = program.frames[index];
    const Function& function = program.module.functions[index];
    auto* back = warp.rows.at<std::uint32_t>(frame.return_row);
    if (back[i] != 0) {
      executor.fail(lanes, FindingKind::kUnsupported,
                    fmt::format("a recursive call of {}: recursion is not supported", function.name), i);
    }
    bool fits =
        function.parameters.size() == site.arguments.size() && function.returns.size() == site.results.size();
    for (std::size_t p = 0; fits && p < site.arguments.size(); ++p)
      fits = function.parameters[p].size == site.argument_sizes[p];
    for (std::size_t p = 0; fits && p < site.results.size(); ++p)
      fits = function.returns[p].size == site.result_sizes[p];
    if (!fits)
      executor.fail(lanes, FindingKind::kOther,
                    fmt::format("{} takes other parameters than the call gives", function.name), i);
    back[i] = lanes.pc + 1;
    for (std::size_t p = 0; p < site.arguments.size(); ++p) {
      copy_local(executor, warp, 1U << i, site.arguments[p], frame.parameters[p], site.argument_sizes[p]);
    }
  }
  scatter(lanes, [&](std::uint32_t i) { return program.frames[function_of(i)].entry; });
  return true;
}

bool leave(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  Executor::keep_only(lanes, mask);
  const Program& program = executor.program;
  const Frame& frame = program.frames[static_cast<std::size_t>(op.immediate)];
  Warp& warp = *lanes.of;
  auto* back = warp.rows.at<std::uint32_t>(frame.return_row);
  std::uint32_t to[kLanes] = {};
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    if (!has(lanes.mask, i)) continue;
    to[i] = std::exchange(back[i], 0U);
    const CallSite& site = program.calls[static_cast<std::size_t>(program.operations[to[i] - 1].immediate)];
    for (std::size_t p = 0; p < site.results.size(); ++p) {
      copy_local(executor, warp, 1U << i, frame.returns[p], site.results[p], site.result_sizes[p]);
    }
  }
  scatter(lanes, [&](std::uint32_t i) { return to[i]; });
  return true;
}

bool exit(Executor& executor, Lanes& lanes, const Operation& /*op*/, std::uint32_t mask) {
  const bool all = mask == lanes.mask;
  executor.exit(lanes, mask);
  if (!all) ++lanes.pc;
  return !all;
}

bool trap(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  executor.fail(lanes, FindingKind::kTrap,
                op.variant != 0 ? "an assertion of the kernel failed" : "the kernel executed trap",
                first_lane(mask));
}

bool sleep(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  const auto* nanoseconds = lanes.of->rows.at<const std::uint32_t>(op.rows[1]);
  if (executor.observer != nullptr) {
    lanes.time += nanoseconds[first_lane(mask)] * 1e-3 * executor.shape.gpu->clock_mhz;
  }
  ++lanes.pc;
  return false;
}

bool special(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  const LaunchShape& shape = executor.shape;
  const Warp& warp = *lanes.of;
  const Block& block = *warp.block;
  const auto kind = static_cast<Special>(op.variant);
  const auto cycles = static_cast<std::uint64_t>(executor.now());
  const auto nanoseconds = static_cast<std::uint64_t>(executor.now() * 1e3 / shape.gpu->clock_mhz);
  const auto value = [&](std::uint32_t lane) -> std::uint64_t {
    const std::uint32_t thread = warp.index * kLanes + lane;
    switch (kind) {
      case Special::kTidX:
        return thread % shape.block[0];
      case Special::kTidY:
        return thread / shape.block[0] % shape.block[1];
      case Special::kTidZ:
        return thread / shape.block[0] / shape.block[1];
      case Special::kNtidX:
        return shape.block[0];
      case Special::kNtidY:
        return shape.block[1];
      case Special::kNtidZ:
        return shape.block[2];
      case Special::kCtaidX:
        return block.id[0];
      case Special::kCtaidY:
        return block.id[1];
      case Special::kCtaidZ:
        return block.id[2];
      case Special::kNctaidX:
        return shape.grid[0];
      case Special::kNctaidY:
        return shape.grid[1];
      case Special::kNctaidZ:
        return shape.grid[2];
      case Special::kLaneid:
        return lane;
      case Special::kWarpid:
        return warp.index;
      case Special::kNwarpid:
        return shape.warps;
      case Special::kSmid:
        return block.slot % shape.gpu->sms;
      case Special::kNsmid:
        return shape.gpu->sms;
      case Special::kGridid:
        return 1;
      case Special::kClock:
        return cycles & 0xffffffffU;
      case Special::kClockHigh:
        return cycles >> 32U;
      case Special::kClock64:
        return cycles;
      case Special::kGlobaltimer:
        return nanoseconds;
      case Special::kGlobaltimerLow:
        return nanoseconds & 0xffffffffU;
      case Special::kGlobaltimerHigh:
        return nanoseconds >> 32U;
      case Special::kLanemaskEq:
        return 1U << lane;
      case Special::kLanemaskLe:
        return (2ULL << lane) - 1;
      case Special::kLanemaskLt:
        return (1ULL << lane) - 1;
      case Special::kLanemaskGe:
        return 0xffffffffU << lane & 0xffffffffU;
      case Special::kLanemaskGt:
        return 0xfffffffeU << lane & 0xffffffffU;
      case Special::kDynamicShared:
        return executor.options.dynamic_shared;
      case Special::kTotalShared:
        return shape.shared_bytes;
      case Special::kGridBarrierHigh:
        return executor.grid_barrier >> 32U;
      case Special::kGridBarrierLow:
        return executor.grid_barrier & 0xffffffffU;
      case Special::kDynamicBase:
        return (std::uint64_t{executor.kernel.static_shared} + 15U) / 16 * 16;
    }
    return 0;
  };
  if (kind >= Special::kClock && kind <= Special::kGlobaltimerHigh) executor.clock_was_read = true;
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    if (!has(mask, i)) continue;
    if (op.width == 8)
      warp.rows.at<std::uint64_t>(op.rows[0])[i] = value(i);
    else
      warp.rows.at<std::uint32_t>(op.rows[0])[i] = static_cast<std::uint32_t>(value(i));
  }
  ++lanes.pc;
  return true;
}

}  // namespace sluice::ptx::run
