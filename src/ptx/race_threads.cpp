#include "ptx/race_threads.h"

#include <algorithm>
#include <bit>
#include <cstddef>

namespace sluice::ptx {

std::uint32_t RaceClock::warp_time(std::uint32_t warp_in_grid) const {
  const std::uint32_t block = warp_in_grid / warps_;
  const auto found = std::lower_bound(blocks_.begin(), blocks_.end(), block);
  if (found == blocks_.end() || *found != block) return 0;
  return times_[static_cast<std::size_t>(found - blocks_.begin()) * warps_ + warp_in_grid % warps_];
}

bool RaceClock::knows(std::uint32_t thread, std::uint32_t time) const {
  if (time <= warp_time(thread / kLanes)) return true;
  const std::uint32_t* known = lanes_.find(thread);
  return known != nullptr && time <= *known;
}

std::span<std::uint32_t> RaceClock::row(std::uint32_t block) {
  const auto found = std::lower_bound(blocks_.begin(), blocks_.end(), block);
  const auto index = found - blocks_.begin();
  const auto first = index * static_cast<std::ptrdiff_t>(warps_);
  if (found == blocks_.end() || *found != block) {
    blocks_.insert(found, block);
    times_.insert(times_.begin() + first, warps_, 0);
  }
  return {times_.data() + first, warps_};
}

void RaceClock::learn_warp(std::uint32_t warp_in_grid, std::uint32_t time) {
  std::uint32_t& known = row(warp_in_grid / warps_)[warp_in_grid % warps_];
  known = std::max(known, time);
  lanes_.erase_if(
      [&](const auto& lane) { return lane.first / kLanes == warp_in_grid && lane.second <= known; });
}

void RaceClock::learn_thread(std::uint32_t thread, std::uint32_t time) {
  if (time <= warp_time(thread / kLanes)) return;
  std::uint32_t& known = lanes_.find_or_add(thread).first;
  known = std::max(known, time);
}

void RaceClock::join(const RaceClock& other) {
  if (blocks_ == other.blocks_) {
    std::transform(times_.begin(), times_.end(), other.times_.begin(), times_.begin(),
                   [](std::uint32_t a, std::uint32_t b) { return std::max(a, b); });
  } else {
    for (std::size_t i = 0; i < other.blocks_.size(); ++i) {
      const std::span<std::uint32_t> mine = row(other.blocks_[i]);
      for (std::uint32_t warp = 0; warp < warps_; ++warp) {
        mine[warp] = std::max(mine[warp], other.times_[i * warps_ + warp]);
      }
    }
  }
  lanes_.erase_if([&](const auto& lane) { return lane.second <= warp_time(lane.first / kLanes); });
  for (const auto& [thread, time] : other.lanes_) learn_thread(thread, time);
}

void join_ref(ClockRef& clock, const ClockRef& other) {
  if (!other || clock == other) return;
  if (!clock) {
    clock = other;
    return;
  }
  auto joined = std::make_shared<RaceClock>(*clock);
  joined->join(*other);
  clock = std::move(joined);
}

std::uint32_t Knowledge::unknowing(std::uint32_t lanes, const Stamp& other) const {
  if (other.thread / kLanes == warp_in_grid) {
    if (other.time <= synced) return 0;
    if (other.time <= time) lanes &= ~(1U << (other.thread % kLanes));  // it knows what it did itself
  }
  std::uint32_t common = lanes & ~differing;
  if (common != 0 && known->knows(other.thread, other.time)) common = 0;
  std::uint32_t others = lanes & differing;
  each_lane(others, [&](std::uint32_t lane) {
    if (own[lane]->knows(other.thread, other.time)) others &= ~(1U << lane);
  });
  return common | others;
}

void Knowledge::learn(std::uint32_t lane, const ClockRef& clock) {
  if (!clock || clock == of(lane)) return;
  ClockRef joined = of(lane);
  join_ref(joined, clock);
  replace(lane, joined);
}

void Knowledge::replace(std::uint32_t lane, const ClockRef& clock) {
  own.resize(kLanes);
  own[lane] = clock;
  differing |= 1U << lane;
}

void Knowledge::replace_all(ClockRef clock) {
  known = std::move(clock);
  if (differing != 0) own.clear();
  differing = 0;
  asked_warp_ = ~0U;
}

LaneFences& RaceWarp::fence_of(std::uint32_t lane) {
  if (!fences) fences = std::make_unique<std::array<LaneFences, kLanes>>();
  return (*fences)[lane];
}

RaceThreads::RaceThreads(const LaunchShape& shape)
    : warps_(shape.warps),
      threads_(shape.threads),
      nothing_(std::make_shared<RaceClock>(shape.warps)),
      blocks_(shape.blocks),
      sc_blocks_(shape.blocks) {}

RaceWarp& RaceThreads::warp(const Group& group) {
  std::unique_ptr<RaceWarp[]>& block = blocks_[group.block];
  if (!block) {
    block = std::make_unique<RaceWarp[]>(warps_);
    for (std::uint32_t i = 0; i < warps_; ++i) {
      block[i].known = nothing_;
      block[i].block = group.block;
      block[i].warp_in_grid = group.block * warps_ + i;
      const std::uint32_t lanes = std::min(threads_ - i * kLanes, kLanes);
      block[i].lanes = lanes == kLanes ? ~0U : (1U << lanes) - 1U;
    }
  }
  return block[group.warp];
}

ClockRef RaceThreads::clock_of(const RaceWarp& warp, std::uint32_t lane, const ReleaseView& view) {
  auto clock = std::make_shared<RaceClock>(*view.known);
  clock->learn_warp(warp.warp_in_grid, view.synced);
  clock->learn_thread(warp.thread(lane), view.time);
  return clock;
}

// Joins what these lanes know and did.
void RaceThreads::join_lanes(RaceClock& clock, const RaceWarp& warp, std::uint32_t mask) {
  if ((mask & ~warp.differing) != 0) clock.join(*warp.known);
  each_lane(mask & warp.differing, [&](std::uint32_t lane) { clock.join(*warp.own[lane]); });
  clock.learn_warp(warp.warp_in_grid, mask == warp.lanes ? warp.time : warp.synced);
  if (mask == warp.lanes) return;
  each_lane(mask, [&](std::uint32_t lane) { clock.learn_thread(warp.thread(lane), warp.time); });
}

void RaceThreads::warp_barrier(const Group& group, std::uint32_t mask) {
  RaceWarp& warp = this->warp(group);
  if (mask != warp.lanes || warp.differing != 0) {
    auto clock = std::make_shared<RaceClock>(*warp.known);
    join_lanes(*clock, warp, mask);
    if (mask == warp.lanes) {
      warp.replace_all(std::move(clock));
    } else {
      each_lane(mask, [&](std::uint32_t lane) { warp.replace(lane, clock); });
    }
  }
  if (mask == warp.lanes) warp.synced = warp.time;
  ++warp.time;
}

void RaceThreads::barrier_arrive(const Group& group, std::uint32_t barrier_number) {
  RaceWarp& warp = this->warp(group);
  Barrier& barrier = barriers_[{group.block, barrier_number}];
  if (!barrier.joined || barrier.complete) {
    barrier.joined = std::make_shared<RaceClock>(warps_);
    barrier.complete = false;
  }
  join_lanes(*barrier.joined, warp, group.mask);
  ++warp.time;
}

void RaceThreads::barrier_leave(const Group& group, std::uint32_t barrier_number) {
  RaceWarp& warp = this->warp(group);
  Barrier& barrier = barriers_[{group.block, barrier_number}];
  barrier.complete = true;
  if (group.mask == warp.lanes) {
    warp.replace_all(barrier.joined);
    warp.synced = warp.known->warp_time(warp.warp_in_grid);
  } else {
    each_lane(group.mask, [&](std::uint32_t lane) { warp.replace(lane, barrier.joined); });
  }
}

void RaceThreads::fence(const Group& group, Order order, Scope scope) {
  RaceWarp& warp = this->warp(group);
  const bool device = scope == Scope::kGpu || scope == Scope::kSystem;
  const bool acquires = order != Order::kRelease;
  const bool releases = order != Order::kAcquire;
  each_lane(group.mask, [&](std::uint32_t lane) {
    LaneFences& fences = warp.fence_of(lane);
    if (acquires) {
      for (const Observed& observed : fences.observed) {
        warp.learn(lane, observed.block);
        if (device) warp.learn(lane, observed.device);
      }
      if (device) fences.observed.clear();
    }
  });
  if (order == Order::kSequential) fence_sc(warp, group.mask, device);
  if (!releases) return;
  each_lane(group.mask, [&](std::uint32_t lane) {
    LaneFences& fences = warp.fence_of(lane);
    fences.block = {warp.of(lane), warp.time, warp.synced};
    if (device) fences.device = fences.block;
  });
  ++warp.time;
}

// The Fence-SC order relates every two fence.sc operations whose scopes include each other; the order in which they run is one
// that the model allows. The lanes of one instruction stay unordered: nothing runs between them, so either order of two of them
// is as good, and what races in one of them races.
void RaceThreads::fence_sc(RaceWarp& warp, std::uint32_t mask, bool device) {
  ClockRef before = sc_blocks_[warp.block];
  if (device) join_ref(before, sc_device_);
  if (mask == warp.lanes && warp.differing == 0) {
    ClockRef all = warp.known;
    join_ref(all, before);
    warp.replace_all(std::move(all));
  } else {
    each_lane(mask, [&](std::uint32_t lane) { warp.learn(lane, before); });
  }
  auto clock = before ? std::make_shared<RaceClock>(*before) : std::make_shared<RaceClock>(warps_);
  join_lanes(*clock, warp, mask);
  if (device) sc_device_ = clock;
  sc_blocks_[warp.block] = std::move(clock);
}

void RaceThreads::block_exit(std::uint32_t block) {
  blocks_[block].reset();
  sc_blocks_[block].reset();
  barriers_.erase(barriers_.lower_bound({block, 0}), barriers_.lower_bound({block + 1, 0}));
}

}  // namespace sluice::ptx
