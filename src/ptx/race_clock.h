// A vector clock over the threads of a grid, sized by what is known rather than by the grid: most threads learn of whole warps
// of few blocks, by barriers, and of single lanes, by releases.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace sluice::ptx {

// Threads are numbered through the grid by warp_in_grid * 32 + lane. A thread's time moves on whenever it tells others what it
// has done, and starts at 1.
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
  std::vector<std::uint32_t> blocks_;                           // sorted
  std::vector<std::uint32_t> times_;                            // (blocks_.size(), warps_)
  std::vector<std::pair<std::uint32_t, std::uint32_t>> lanes_;  // (thread, time) beyond its warp's, sorted
};

// Clocks are shared between the many that know the same, and never changed once they are.
using ClockRef = std::shared_ptr<const RaceClock>;

// Joins another clock into `clock`, without copying where one is known to hold the other.
void join_ref(ClockRef& clock, const ClockRef& other);

}  // namespace sluice::ptx
