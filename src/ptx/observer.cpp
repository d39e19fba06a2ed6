// The standard observer: races and reads of what nothing has written, a profiler's counters, virtual time.
#include <iterator>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "ptx/machine.h"
#include "ptx/profile.h"
#include "ptx/race_detector.h"
#include "ptx/virtual_time.h"

namespace sluice::ptx {
namespace {

class StandardObserver final : public Observer {
 public:
  void begin(const LaunchShape& shape) override {
    shape_ = shape;
    races_.emplace(shape_);
    profile_.emplace(shape_);
    time_.emplace(shape_);
  }
  void access(Group& group, const Access& access) override {
    if (access.kind == AccessKind::kLoad || access.kind == AccessKind::kLoadNonCoherent)
      check_poison(group, access);
    races_->access(group, access);
    profile_->access(group, access);
    time_->access(group, access);
  }
  void before_atomic(Group& group, const Access& access) override { check_poison(group, access); }
  void copy_issued(Group& group, const AsyncCopy& copy) override {
    each_lane(copy.mask, [&](std::uint32_t lane) {
      if (copy.source_size[lane] != 0)
        races_->check_poison(group, 1U << lane, copy.source_size[lane], copy.source);
    });
    races_->copy_issued(group, copy);
    profile_->copy(copy);
    time_->copy_issued(group, copy);
  }
  void copy_complete(Group& group, std::uint64_t id, std::uint32_t mask) override {
    const bool whole = races_->copy_complete(group, id, mask);
    time_->copy_complete(group, id, whole);
  }
  void fence(Group& group, Order order, Scope scope) override {
    races_->fence(group, order, scope);
    time_->fence(group, scope);
  }
  void warp_barrier(Group& group, std::uint32_t mask) override {
    races_->warp_barrier(group, mask);
    time_->exchange(group);
  }
  void warp_exchange(Group& group, std::uint32_t) override { time_->exchange(group); }
  void barrier_arrive(Group& group, std::uint32_t barrier) override {
    races_->barrier_arrive(group, barrier);
    time_->barrier_arrive(group, barrier);
  }
  void barrier_leave(Group& group, std::uint32_t barrier) override {
    races_->barrier_leave(group, barrier);
    time_->barrier_leave(group, barrier);
  }
  void exit(Group& group, std::uint32_t mask) override {
    time_->exit(group);
    races_->exit(group, mask);
  }
  void finish(std::vector<Finding>& findings, LaunchReport& report) override {
    std::move(races_->findings().begin(), races_->findings().end(), std::back_inserter(findings));
    races_->findings().clear();
    profile_->add_to(report.counters);
    time_->add_to(report);
  }

 private:
  void check_poison(const Group& group, const Access& access) {
    if (access.space == Space::kGlobal)
      races_->check_poison(group, access.mask, access.size, access.addresses);
  }

  LaunchShape shape_;
  std::optional<RaceDetector> races_;
  std::optional<Profile> profile_;
  std::optional<VirtualTime> time_;
};

}  // namespace

std::unique_ptr<Observer> make_observer() {
  return std::make_unique<StandardObserver>();
}

}  // namespace sluice::ptx
