// Launches that never end: deadlock, where everybody waits, and livelock, where the state repeats itself.
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <thread>

#include <fmt/format.h>

#include "ptx/executor.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx {
namespace {

constexpr std::uint64_t kMaxSteps = 1U << 16U;     // of a group whose state is watched for a repetition
constexpr std::uint64_t kMaxPatience = 1U << 24U;  // warp instructions
constexpr std::chrono::microseconds kHostPause{50};
constexpr double kMaxSkip = 60e9;  // ns of virtual time that may pass while nothing changes

}  // namespace

// No lane of the warp can go on. If all of them wait for each other, nobody will ever help them.
void Executor::check_stuck_warp(Warp& warp) {
  const auto meets = [](const std::unique_ptr<Lanes>& lanes) {
    return lanes->state == Lanes::State::kMeeting;
  };
  if (!std::ranges::all_of(warp.groups, meets)) return;
  const auto at_barrier = [&](const std::unique_ptr<Lanes>& lanes) {
    return program.operations[lanes->pc].warp == &run::barrier;
  };
  auto some = std::ranges::find_if(warp.groups, at_barrier);
  const bool barrier = some != warp.groups.end();
  if (!barrier) some = warp.groups.begin();
  std::string others;
  for (const auto& lanes : warp.groups) {
    if (lanes == *some) continue;
    others += fmt::format("{}lanes {:#x} wait in {}", others.empty() ? "; " : ", ", lanes->mask,
                          place_text(shape, lanes->pc, lanes->block, lanes->warp, first_lane(lanes->mask)));
  }
  fail(**some, barrier ? FindingKind::kPartialBarrier : FindingKind::kAbsentLane,
       fmt::format("{} lanes {:#x} of its warp{}",
                   barrier ? "a barrier reached by a part of the warp: only"
                           : "waits for ever for the other members of its mask: only",
                   (*some)->mask, others),
       first_lane((*some)->mask));
}

void Executor::report_deadlock() {
  const Lanes* first = nullptr;
  std::size_t waiting = 0;
  for (const auto& block : blocks_) {
    for (const Warp& warp : block->warps) {
      for (const auto& lanes : warp.groups) {
        ++waiting;
        if (first == nullptr) first = lanes.get();
      }
    }
  }
  const Operation& op = program.operations[first->pc];
  std::string what = waiting == 1
                         ? "deadlock: a group of lanes waits for ever,"
                         : fmt::format("deadlock: {} groups of lanes wait for ever, the first", waiting);
  if (op.warp == &run::barrier && first->state == Lanes::State::kInBarrier) {
    const std::uint32_t id = first->of->rows.at<const std::uint32_t>(op.rows[1])[first_lane(first->mask)];
    const Barrier& barrier = first->of->block->barriers[id];
    what += fmt::format(" in barrier {} that {} of {} threads have reached", id, barrier.arrived,
                        std::min(barrier.expected, shape.threads));
  } else {
    what += " for lanes of its warp";
  }
  fail(*first, FindingKind::kDeadlock, what, first_lane(first->mask));
}

// True if the group comes back to a state that it has been in, with nothing changed meanwhile: it will do so for ever. Brent's
// way: the state to come back to moves up at powers of two.
bool Executor::recurs(Lanes& lanes) {
  Warp& warp = *lanes.of;
  const std::uint64_t changes_before = changes;
  const std::size_t groups_before = warp.groups.size();
  std::vector<std::byte> snapshot;
  std::uint32_t snapshot_pc = 0;
  std::uint64_t next_snapshot = 1;
  for (std::uint64_t step = 1; step < kMaxSteps; ++step) {
    if (lanes.state != Lanes::State::kReady || changes != changes_before ||
        warp.groups.size() != groups_before)
      return false;
    if (step == next_snapshot) {
      snapshot.assign(warp.registers.begin(), warp.registers.end());
      snapshot_pc = lanes.pc;
      next_snapshot *= 2;
    }
    run_group(lanes, 1);
    if (lanes.pc == snapshot_pc && lanes.state == Lanes::State::kReady &&
        warp.groups.size() == groups_before &&
        std::memcmp(snapshot.data(), warp.registers.data(), snapshot.size()) == 0) {
      return changes == changes_before;
    }
  }
  return false;
}

void Executor::look_for_livelock() {
  quiet_since_ = counters_.warp_instructions;
  patience_ = std::min(patience_ * 2, kMaxPatience);
  bool flew = false;
  for (Warp* warp : ready_) {
    for (const auto& copy : warp->copies) {
      flew = flew || !copy->written;
      land(*warp, *copy, true, true);
    }
  }
  if (flew) return;
  if (clock_was_read) {  // who waits for a time to come needs not wait for long
    const double nanosecond = shape.gpu->clock_mhz * 1e-3;
    skip_ = std::max(skip_ * 2, 1e6 * nanosecond);
    if (skip_ <= kMaxSkip * nanosecond) {
      clock_ += skip_;
      patience_ = 1U << 16U;
      return;
    }
  }
  const Lanes* some = nullptr;
  const std::vector<Warp*> spinning = ready_;
  const auto begin = std::chrono::steady_clock::now();
  while (true) {
    for (Warp* warp : spinning) {
      std::vector<Lanes*> groups;
      for (const auto& lanes : warp->groups) {
        if (lanes->state == Lanes::State::kReady) groups.push_back(lanes.get());
      }
      for (Lanes* lanes : groups) {
        if (!clock_was_read && !recurs(*lanes)) {
          after_turn(*warp);
          return;
        }
        some = lanes;
      }
    }
    if (some == nullptr) return;
    // The host may still change what they poll; it needs the processor for that.
    if (std::chrono::steady_clock::now() - begin >= options.host_patience) break;
    std::this_thread::sleep_for(kHostPause);
  }
  fail(*some, FindingKind::kLivelock,
       spinning.size() == 1
           ? "livelock: a warp runs on, and nothing will ever change"
           : fmt::format("livelock: {} warps run on, and nothing will ever change; one of them",
                         spinning.size()),
       first_lane(some->mask));
}

}  // namespace sluice::ptx
