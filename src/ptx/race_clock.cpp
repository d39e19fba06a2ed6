#include "ptx/race_clock.h"

#include <algorithm>
#include <cstddef>

#include "ptx/checks.h"

namespace sluice::ptx {

std::uint32_t RaceClock::warp_time(std::uint32_t warp_in_grid) const {
  const std::uint32_t block = warp_in_grid / warps_;
  const auto found = std::lower_bound(blocks_.begin(), blocks_.end(), block);
  if (found == blocks_.end() || *found != block) return 0;
  return times_[static_cast<std::size_t>(found - blocks_.begin()) * warps_ + warp_in_grid % warps_];
}

bool RaceClock::knows(std::uint32_t thread, std::uint32_t time) const {
  if (time <= warp_time(thread / kLanes)) return true;
  const auto found = std::lower_bound(lanes_.begin(), lanes_.end(), std::pair{thread, std::uint32_t{0}});
  return found != lanes_.end() && found->first == thread && time <= found->second;
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
  std::erase_if(
      lanes_, [&](const auto& lane) { return lane.first / kLanes == warp_in_grid && lane.second <= known; });
}

void RaceClock::learn_thread(std::uint32_t thread, std::uint32_t time) {
  if (time <= warp_time(thread / kLanes)) return;
  const auto place = std::lower_bound(lanes_.begin(), lanes_.end(), std::pair{thread, std::uint32_t{0}});
  if (place != lanes_.end() && place->first == thread) {
    place->second = std::max(place->second, time);
  } else {
    lanes_.insert(place, {thread, time});
  }
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
  std::vector<std::pair<std::uint32_t, std::uint32_t>> merged;
  merged.reserve(lanes_.size() + other.lanes_.size());
  std::merge(lanes_.begin(), lanes_.end(), other.lanes_.begin(), other.lanes_.end(),
             std::back_inserter(merged));
  lanes_.clear();
  for (const auto& lane : merged) {  // of one thread the later time comes last
    if (lane.second <= warp_time(lane.first / kLanes)) continue;
    if (!lanes_.empty() && lanes_.back().first == lane.first) {
      lanes_.back() = lane;
    } else {
      lanes_.push_back(lane);
    }
  }
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

}  // namespace sluice::ptx
