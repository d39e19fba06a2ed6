// When a launch's steps would happen on the GPU, by a model: a group's time moves by issue and latencies, and what waits for
// others takes the time of the last of them. The longest chain of such waits is the critical path.
//
// Caches, contention and what the hardware's compiler makes of the code are not modelled. A plain load costs its latency when
// its warp next stores, exchanges or waits; until then later instructions hide it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ptx/checks.h"

namespace sluice::ptx {

// Latencies in cycles of the SM's clock: published microbenchmarks, rounded.
struct TimeModel {
  double shared = 0;  // a load from shared memory
  double global = 0;  // from device memory
  double second = 0;  // from the second-level cache: atomics, loads that poll
  double fence = 0;   // a fence of device scope
  double block_fence = 0;
  double barrier = 0;
  double exchange = 0;  // shuffle, vote, mma
};
const TimeModel& time_model(std::uint32_t compute_capability);

class VirtualTime {
 public:
  explicit VirtualTime(const LaunchShape& shape);

  void access(Group& group, const Access& access);
  void copy_issued(Group& group, const AsyncCopy& copy);
  // `whole`: all lanes have waited for it now.
  void copy_complete(Group& group, std::uint64_t id, bool whole);
  void fence(Group& group, Scope scope);
  void exchange(Group& group);
  void barrier_arrive(Group& group, std::uint32_t number);
  void barrier_leave(Group& group, std::uint32_t number);
  void exit(Group& group);
  void add_to(LaunchReport& report) const;

 private:
  enum class Reason : std::uint8_t { kStore, kAcquire, kBarrier, kExit };
  // The end of one step of a chain. Many chains share their beginnings.
  struct Event {
    double end = 0;
    std::uint32_t pc = 0, block = 0, warp = 0;
    Reason reason = Reason::kExit;
    Space space = Space::kGlobal;
    std::uint64_t address = 0;
    std::shared_ptr<Event> previous;
    ~Event();
  };
  using EventRef = std::shared_ptr<Event>;
  struct Warp {
    double loads = 0;                                      // when its plain loads have arrived
    std::vector<std::pair<std::uint64_t, double>> copies;  // in flight, and when they arrive
    EventRef last;
    // A poll that repeats itself is one wait, however often the machine let it run.
    std::uint32_t poll_pc = ~0U;
    std::uint64_t poll_address = 0;
    double poll_begin = 0;
  };
  struct Location {
    double time = 0;
    EventRef event;
  };
  struct Barrier {
    double time = 0;
    EventRef event;  // of the last to arrive
    bool complete = false;
  };

  void wait_for_loads(Group& group);
  void strong_load(Group& group, const Access& access, double latency, Location* location);
  static EventRef step(const Group& group, Reason reason, EventRef previous, Space space = Space::kGlobal,
                       std::uint64_t address = 0);
  std::string name_of(const Event& event) const;

  const LaunchShape& shape_;
  const TimeModel& model_;
  std::vector<Warp> warps_;                                              // by warp_in_grid
  std::unordered_map<std::uint64_t, Location> global_, shared_;          // shared: block << 32 | offset
  std::map<std::pair<std::uint32_t, std::uint32_t>, Barrier> barriers_;  // by block and number
  EventRef end_;
};

}  // namespace sluice::ptx
