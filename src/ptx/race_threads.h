// Who knows what: the happens-before order of a launch's threads, by the PTX memory model's base causality order. Barriers,
// releases and acquires move knowledge; what a lane knows of another is up to when everything that the other did is before what
// the lane does next.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "ptx/checks.h"

namespace sluice::ptx {

struct StrongSet;  // race_shadow.h

// Values by number, sorted in one array: the detector has millions of tables of a few entries, which are filled again and again.
template <typename Value>
class Table {
 public:
  using Entry = std::pair<std::uint32_t, Value>;

  auto begin() { return entries_.begin(); }
  auto end() { return entries_.end(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }
  void clear() { entries_.clear(); }
  const Value* find(std::uint32_t key) const {
    const auto place = std::ranges::lower_bound(entries_, key, {}, &Entry::first);
    return place != end() && place->first == key ? &place->second : nullptr;
  }
  // The value of this key; a fresh one if there was none, which `added` tells.
  std::pair<Value&, bool> find_or_add(std::uint32_t key) {
    auto place = std::ranges::lower_bound(entries_, key, {}, &Entry::first);
    const bool added = place == end() || place->first != key;
    if (added) place = entries_.insert(place, {key, Value{}});
    return {place->second, added};
  }
  template <typename Condition>
  void erase_if(Condition&& condition) {
    std::erase_if(entries_, condition);
  }

 private:
  std::vector<Entry> entries_;
};

// One access: which thread, when, which instruction. Threads are numbered through the grid by warp_in_grid * 32 + lane. A
// thread's time moves on whenever it tells others what it has done, and starts at 1.
struct Stamp {
  std::uint32_t thread = 0;
  std::uint32_t time = 0;  // 0: there was none
  std::uint32_t pc = 0;
};

// A vector clock over the threads of a grid, sized by what is known rather than by the grid: most threads learn of whole warps
// of few blocks, by barriers, and of single lanes, by releases.
class RaceClock {
 public:
  explicit RaceClock(std::uint32_t warps_per_block) : warps_(warps_per_block) {}

  // What all lanes of a warp did up to this time is known; 0 is nothing.
  std::uint32_t warp_time(std::uint32_t warp_in_grid) const;
  bool knows(std::uint32_t thread, std::uint32_t time) const;

  void learn_warp(std::uint32_t warp_in_grid, std::uint32_t time);
  void learn_thread(std::uint32_t thread, std::uint32_t time);
  void join(const RaceClock& other);

 private:
  // The times of a block's warps; they are added if there are none.
  std::span<std::uint32_t> row(std::uint32_t block);

  std::uint32_t warps_;
  std::vector<std::uint32_t> blocks_;  // sorted
  std::vector<std::uint32_t> times_;   // (blocks_.size(), warps_)
  Table<std::uint32_t> lanes_;         // times of threads beyond their warp's
};

// Clocks are shared between the many that know the same, and never changed once they are.
using ClockRef = std::shared_ptr<const RaceClock>;

// Joins another clock into `clock`, without copying where one is known to hold the other.
void join_ref(ClockRef& clock, const ClockRef& other);

// What the lanes of one warp know. Mostly they all know the same; lanes that know more have clocks of their own until the next
// barrier of the whole warp.
struct Knowledge {
  std::uint32_t warp_in_grid = 0;
  std::uint32_t time = 1;    // of all its lanes
  std::uint32_t synced = 0;  // up to when its lanes know each other
  ClockRef known;
  std::uint32_t differing = 0;
  std::vector<ClockRef> own;  // [32] if any differ

  // Which of these lanes don't know of an access.
  std::uint32_t unknowing(std::uint32_t lanes, const Stamp& other) const;
  // Whether all lanes know what all lanes of the other warp did at that time: a quick test that may say no.
  bool all_know(std::uint32_t other_warp, std::uint32_t other_time) const {
    if (other_warp == warp_in_grid && other_time <= synced) return true;
    if (other_warp != asked_warp_) {
      asked_warp_ = other_warp;
      answer_ = known->warp_time(other_warp);
    }
    return other_time <= answer_;
  }
  const ClockRef& of(std::uint32_t lane) const { return has_lane(differing, lane) ? own[lane] : known; }
  void learn(std::uint32_t lane, const ClockRef& clock);
  // The lane, or all of them, know this now instead, which holds all that they knew.
  void replace(std::uint32_t lane, const ClockRef& clock);
  void replace_all(ClockRef clock);

 private:
  mutable std::uint32_t asked_warp_ = ~0U, answer_ = 0;
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

// A cp.async that has not been waited for by all its lanes.
struct RaceCopy {
  const AsyncCopy* copy = nullptr;
  Knowledge issued;           // what the warp knew
  std::uint32_t waiting = 0;  // lanes that have yet to wait
};

struct RaceWarp : Knowledge {
  std::uint32_t block = 0;
  std::uint32_t lanes = 0;                                 // that the launch gave it
  std::unique_ptr<std::array<LaneFences, kLanes>> fences;  // made by the first fence or strong read
  // The last strong load, so that a poll costs little: nothing has changed since if these are equal.
  struct Poll {
    const StrongSet* set = nullptr;
    std::uint32_t last_write = 0, time = 0, mask = 0, pc = 0;
    bool operator==(const Poll&) const = default;
  } poll;
  std::vector<RaceCopy> copies;  // in flight

  LaneFences& fence_of(std::uint32_t lane);
  std::uint32_t thread(std::uint32_t lane) const { return warp_in_grid * kLanes + lane; }
};

class RaceThreads {
 public:
  explicit RaceThreads(const LaunchShape& shape);

  RaceWarp& warp(const Group& group);
  static ClockRef clock_of(const RaceWarp& warp, std::uint32_t lane, const ReleaseView& view);

  void warp_barrier(const Group& group, std::uint32_t mask);
  void barrier_arrive(const Group& group, std::uint32_t barrier_number);
  void barrier_leave(const Group& group, std::uint32_t barrier_number);
  void fence(const Group& group, Order order, Scope scope);
  // Frees what nobody can ask for any more; the block's threads have all exited.
  void block_exit(std::uint32_t block);

 private:
  struct Barrier {
    std::shared_ptr<RaceClock> joined;
    bool complete = false;
  };
  static void join_lanes(RaceClock& clock, const RaceWarp& warp, std::uint32_t mask);
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
