// Plays a launch to an observer by hand, step by step, where a test must fix the order in which things happen.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "ptx/checks.h"
#include "ptx/machine.h"
#include "ptx/observer.h"

namespace sluice::ptx {

class RaceScript {
 public:
  static constexpr std::uint64_t kGlobal = std::uint64_t{1} << 40U;

  explicit RaceScript(std::uint64_t blocks = 2, std::uint32_t threads = 64) {
    code_.module = &module_;
    code_.lines.resize(1000);
    for (std::uint32_t i = 0; i < code_.lines.size(); ++i) code_.lines[i].ptx_line = i;
    shape_.kernel = "script";
    shape_.blocks = blocks;
    shape_.grid[0] = static_cast<std::uint32_t>(blocks);
    shape_.threads = threads;
    shape_.block[0] = threads;
    shape_.warps = (threads + kLanes - 1) / kLanes;
    shape_.shared_bytes = 4096;
    shape_.gpu = &gpu_named("tiny");
    shape_.code = &code_;
    observer_.emplace(shape_);
  }

  // Whose turn it is: lanes of a warp, converged. Every step is an instruction of its own.
  RaceScript& as(std::uint32_t block, std::uint32_t warp, std::uint32_t mask = ~0U) {
    group_.block = block;
    group_.warp = warp;
    group_.warp_in_grid = block * shape_.warps + warp;
    group_.mask = mask;
    return *this;
  }
  RaceScript& lane(std::uint32_t block, std::uint32_t warp, std::uint32_t number) {
    return as(block, warp, 1U << number);
  }

  // Lane i accesses address + i * stride.
  RaceScript& access(AccessKind kind, Order order, Scope scope, std::uint64_t address, std::uint32_t size = 4,
                     std::uint32_t stride = 0, Space space = Space::kShared, std::uint32_t failed = 0) {
    std::array<std::uint64_t, kLanes> addresses{};
    for (std::uint32_t i = 0; i < kLanes; ++i) addresses[i] = address + std::uint64_t{i} * stride;
    Access access;
    access.space = space;
    access.kind = kind;
    access.order = order;
    access.scope = scope;
    access.size = size;
    access.mask = group_.mask;
    access.addresses = addresses.data();
    access.failed = failed;
    if (tells_patterns_) access.pattern = pattern(size, stride);
    observer_->access(next(), access);
    return *this;
  }
  RaceScript& store(std::uint64_t at, std::uint32_t size = 4, std::uint32_t stride = 0) {
    return access(AccessKind::kStore, Order::kWeak, Scope::kNone, at, size, stride);
  }
  RaceScript& load(std::uint64_t at, std::uint32_t size = 4, std::uint32_t stride = 0) {
    return access(AccessKind::kLoad, Order::kWeak, Scope::kNone, at, size, stride);
  }
  RaceScript& barrier(std::uint32_t number, const std::vector<std::uint32_t>& warps) {
    const Group before = group_;
    for (const std::uint32_t warp : warps) {
      as(before.block, warp);
      observer_->barrier_arrive(next(), number);
    }
    for (const std::uint32_t warp : warps) {
      as(before.block, warp);
      observer_->barrier_leave(next(), number);
    }
    as(before.block, before.warp, before.mask);
    return *this;
  }
  RaceScript& arrive(std::uint32_t number) {
    observer_->barrier_arrive(next(), number);
    return *this;
  }
  RaceScript& leave(std::uint32_t number) {
    observer_->barrier_leave(next(), number);
    return *this;
  }
  RaceScript& sync_warp() {
    observer_->warp_barrier(next(), group_.mask);
    return *this;
  }
  RaceScript& fence(Scope scope, Order order = Order::kSequential) {
    observer_->fence(next(), order, scope);
    return *this;
  }
  std::uint64_t copy(std::uint64_t source, std::uint64_t destination, std::uint32_t size = 16) {
    AsyncCopy& made = copies_.emplace_back();
    made.id = copies_.size();
    made.size = size;
    made.mask = group_.mask;
    for (std::uint32_t i = 0; i < kLanes; ++i) {
      made.source[i] = source + std::uint64_t{i} * size;
      made.destination[i] = destination + std::uint64_t{i} * size;
      made.source_size[i] = size;
    }
    if (tells_patterns_) made.source_pattern = made.destination_pattern = pattern(size, size);
    made.pc = next().pc;
    observer_->copy_issued(group_, made);
    return made.id;
  }
  RaceScript& wait(std::uint64_t copy) {
    observer_->copy_complete(next(), copy, group_.mask);
    return *this;
  }

  // From here on accesses tell how their addresses lie, as the machine's do.
  RaceScript& tell_patterns(bool tells = true) {
    tells_patterns_ = tells;
    return *this;
  }

  Group& group() { return group_; }
  Observer& observer() { return *observer_; }
  std::uint32_t step() const { return group_.pc; }

  // The kinds that were found.
  std::vector<Finding> finish() {
    std::vector<Finding> findings;
    observer_->finish(findings, report_);
    return findings;
  }
  std::size_t count(FindingKind kind) {
    std::size_t found = 0;
    for (const Finding& finding : finish()) found += finding.kind == kind ? 1U : 0U;
    return found;
  }
  std::size_t races() { return count(FindingKind::kRace); }
  const LaunchReport& report() const { return report_; }

 private:
  Pattern pattern(std::uint32_t size, std::uint32_t stride) const {
    if (group_.mask == ~0U && stride == size) return Pattern::kContiguous;
    return stride == 0 || is_one_lane(group_.mask) ? Pattern::kOneAddress : Pattern::kUnknown;
  }
  Group& next() {
    ++group_.pc;
    return group_;
  }

  Module module_;
  Code code_;
  LaunchShape shape_;
  std::optional<Observer> observer_;
  Group group_;
  std::deque<AsyncCopy> copies_;  // which stay where they are
  bool tells_patterns_ = false;
  LaunchReport report_;
};

}  // namespace sluice::ptx
