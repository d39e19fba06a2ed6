// Watches a launch: finds what needs history (races, reads of what nothing has written), counts what a profiler would, and keeps
// virtual time. The executor makes one call for each warp instruction that touches memory or orders it; with checks off there
// is no observer, and nothing of this is computed.
//
// The machine itself finds, watched or not: accesses out of bounds or misaligned, barriers reached by part of a warp, shuffles
// from absent lanes, exits with copies in flight, deadlock and livelock, traps.
#pragma once

#include <utility>
#include <vector>

#include "ptx/checks.h"
#include "ptx/profile.h"
#include "ptx/race_detector.h"
#include "ptx/virtual_time.h"

namespace sluice::ptx {

class Observer {
 public:
  // The shape must outlive it. Throws Error if the launch is too large for the race detector.
  explicit Observer(const LaunchShape& shape) : races_(shape), profile_(shape), time_(shape) {}

  // Called when the addresses have been checked: before a load or store takes effect, after an atomic operation, when it is
  // known which lanes' have stored. Nothing else of the launch runs in between.
  void access(Group& group, const Access& access) {
    if (access.is_load()) before_atomic(group, access);
    races_.access(group, access);
    profile_.access(group, access);
    time_.access(group, access);
  }
  // An atomic operation that depends on what it finds is about to read it; its access() comes when it is done.
  void before_atomic(Group& group, const Access& access) {
    if (access.space == Space::kGlobal)
      races_.check_poison(group, access.mask, access.size, access.addresses);
  }
  void copy_issued(Group& group, const AsyncCopy& copy) {
    races_.copy_issued(group, copy);
    profile_.copy(copy);
    time_.copy_issued(group, copy);
  }
  // Lanes of `mask` have waited for this copy: its reads and writes are before what these lanes do next.
  void copy_complete(Group& group, std::uint64_t id, std::uint32_t mask) {
    time_.copy_complete(group, id, races_.copy_complete(group, id, mask));
  }
  void fence(Group& group, Order order, Scope scope) {
    races_.fence(group, order, scope);
    time_.fence(group, scope);
  }
  // bar.warp.sync of these lanes, which are all here: they are ordered.
  void warp_barrier(Group& group, std::uint32_t mask) {
    races_.warp_barrier(group, mask);
    time_.exchange(group);
  }
  // shfl, vote, match, redux, activemask: orders nothing, but takes time.
  void warp_exchange(Group& group) { time_.exchange(group); }
  // bar/barrier.arrive, .sync and .red: what the group's lanes did is before what the barrier's waiters do after it.
  void barrier_arrive(Group& group, std::uint32_t barrier) {
    races_.barrier_arrive(group, barrier);
    time_.barrier_arrive(group, barrier);
  }
  // The barrier is complete; called once for each group that waited in it, after all arrivals and before any other arrival
  // at the same barrier.
  void barrier_leave(Group& group, std::uint32_t barrier) {
    races_.barrier_leave(group, barrier);
    time_.barrier_leave(group, barrier);
  }
  void exit(Group& group, std::uint32_t mask) {
    time_.exit(group);
    races_.exit(group, mask);
  }
  // At the end, also after a fault: appends what it found and fills in its part of the report.
  void finish(std::vector<Finding>& findings, LaunchReport& report) {
    for (Finding& finding : races_.findings()) findings.push_back(std::move(finding));
    races_.findings().clear();
    profile_.add_to(report.counters);
    time_.add_to(report);
  }

 private:
  RaceDetector races_;
  Profile profile_;
  VirtualTime time_;
};

}  // namespace sluice::ptx
