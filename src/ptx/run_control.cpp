// Control flow of diverging lanes.
#include <bit>
#include <cstring>

#include <fmt/format.h>

#include "ptx/executor.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx::run {
namespace {

// Sends each lane of the group to where `target` says; lanes that part become groups of their own.
template <class F>
void scatter(Lanes& lanes, F&& target) {
  std::uint32_t left = lanes.mask;
  while (true) {
    const std::uint32_t to = target(first_lane(left));
    std::uint32_t same = 0;
    for (std::uint32_t i = 0; i < kLanes; ++i) same |= has_lane(left, i) && target(i) == to ? 1U << i : 0;
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
  each_lane(mask, [&](std::uint32_t i) {
    std::byte* local = executor.local(warp) + std::size_t{i} * executor.kernel.local_bytes;
    std::memcpy(local + to, local + from, size);
  });
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
    if (!has_lane(lanes.mask, i) || index[i] < table.size()) continue;
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
    if (!has_lane(lanes.mask, i)) continue;
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
    if (!has_lane(lanes.mask, i)) continue;
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

}  // namespace sluice::ptx::run
