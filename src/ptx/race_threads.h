// Who knows what: the happens-before order of a launch's threads, by the PTX memory model's base causality order. Barriers,
// releases and acquires move knowledge; what a lane knows of another is up to when everything that the other did is before what
// the lane does next.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "ptx/checks.h"
#include "ptx/race_clock.h"
#include "ptx/race_shadow.h"

namespace sluice::ptx {

// What the lanes of one warp know. Mostly they all know the same; lanes that know more have clocks of their own until the next
// barrier of the whole warp.
struct Knowledge {
  std::uint32_t time = 1;    // of all its lanes
  std::uint32_t synced = 0;  // up to when its lanes know each other
  ClockRef known;
  std::uint32_t differing = 0;
  std::vector<ClockRef> own;  // [32] if any differ

  // Which of these lanes don't know what the thread did at that time.
  std::uint32_t unknowing(std::uint32_t warp, std::uint32_t lanes, std::uint32_t thread,
                          std::uint32_t other_time) const;
  // Whether `lanes` are that thread alone, which knows what it did itself.
  bool is_own(std::uint32_t warp, std::uint32_t lanes, std::uint32_t thread, std::uint32_t other_time) const {
    return other_time <= time && thread / kLanes == warp && lanes == 1U << (thread % kLanes);
  }
  // Whether all lanes know what all lanes of the other warp did at that time: a quick test that may say no.
  bool all_know(std::uint32_t warp, std::uint32_t other_warp, std::uint32_t other_time) const {
    if (other_warp == warp && other_time <= synced) return true;
    if (other_warp != asked_warp_) ask(other_warp);
    return other_time <= answer_;
  }
  // As it is now, to be asked later.
  void keep(const Knowledge& other);
  // All lanes know this now, which holds all that they knew.
  void replace_all(ClockRef clock);
  const ClockRef& of(std::uint32_t lane) const { return (differing >> lane & 1U) != 0 ? own[lane] : known; }
  void learn(std::uint32_t lane, const ClockRef& clock);
  // The lane knows this now instead, which holds all that it knew.
  void replace(std::uint32_t lane, const ClockRef& clock);

 private:
  void ask(std::uint32_t other_warp) const;
  mutable std::uint32_t asked_warp_ = ~0U, answer_ = 0;
};

// A cp.async that has not been waited for by all its lanes.
struct RaceCopy {
  std::uint64_t id = 0;
  Knowledge issued;  // what the warp knew
  std::uint32_t pc = 0, size = 0, mask = 0;
  std::uint64_t source[kLanes], destination[kLanes];  // of the lanes in the mask
  std::uint32_t source_size[kLanes];
  Pattern source_pattern = Pattern::kUnknown, destination_pattern = Pattern::kUnknown;
};

// What a lane would release: its clock, itself and its warp included, made when needed.
struct ReleaseView {
  ClockRef known;
  std::uint32_t time = 0, synced = 0;
};

// What a lane read from strongly and a fence, or an acquire at the same place, would make it know.
struct Observed {
  const StrongSet* location = nullptr;
  std::uint32_t shape = 0;
  ClockRef block, device;  // what its own block released there, and what any did
};

struct LaneFences {
  ReleaseView block, device;  // the last fences of these scopes, or wider
  std::vector<Observed> observed;
};

struct RaceWarp : Knowledge {
  std::uint32_t warp_in_grid = 0, block = 0;
  std::uint32_t lanes = 0;                                 // that the launch gave it
  std::unique_ptr<std::array<LaneFences, kLanes>> fences;  // made by the first fence or strong read
  // The last strong load, so that a poll costs little: nothing has changed since if these are equal.
  struct Poll {
    const StrongSet* set = nullptr;
    std::uint32_t last_write = 0, time = 0, mask = 0, pc = 0;
    bool operator==(const Poll&) const = default;
  } poll;
  std::vector<std::unique_ptr<RaceCopy>> copies;  // in flight

  LaneFences& fence_of(std::uint32_t lane);
};

class RaceThreads {
 public:
  explicit RaceThreads(const LaunchShape& shape);

  RaceWarp& warp(const Group& group);
  static ClockRef clock_of(const RaceWarp& warp, std::uint32_t lane) {
    return clock_of(warp, lane, {warp.of(lane), warp.time, warp.synced});
  }
  static ClockRef clock_of(const RaceWarp& warp, std::uint32_t lane, const ReleaseView& view);

  void warp_barrier(const Group& group, std::uint32_t mask);
  void arrive(const Group& group, std::uint32_t barrier_number);
  void leave(const Group& group, std::uint32_t barrier_number);
  void fence(const Group& group, Order order, Scope scope);
  // Frees what nobody can ask for any more; the block's threads have all exited.
  void block_exit(std::uint32_t block);

 private:
  struct Barrier {
    std::shared_ptr<RaceClock> joined;
    ClockRef last_joined;  // the clock that was joined last: mostly all warps have the same
    bool complete = false;
  };
  static void join_lanes(RaceClock& clock, RaceWarp& warp, std::uint32_t mask, ClockRef* joined_already);
  void fence_sc(RaceWarp& warp, std::uint32_t mask, bool device);

  std::uint32_t warps_, threads_;  // per block
  ClockRef nothing_;
  std::vector<std::unique_ptr<RaceWarp[]>> blocks_;
  std::map<std::pair<std::uint32_t, std::uint32_t>, Barrier> barriers_;  // by block and number
  // What came before the fence.sc operations so far: those whose scope is the device, and all of a block's.
  ClockRef sc_device_;
  std::vector<ClockRef> sc_blocks_;
};

}  // namespace sluice::ptx
