#include "ptx/virtual_time.h"

#include <algorithm>
#include <bit>
#include <string>

namespace sluice::ptx {

const TimeModel& time_model(std::uint32_t compute_capability) {
  static constexpr TimeModel kTuring = {19, 440, 190, 500, 15, 20, 22};
  static constexpr TimeModel kAmpere = {23, 470, 200, 550, 15, 20, 23};
  static constexpr TimeModel kHopper = {29, 480, 260, 600, 15, 20, 24};
  if (compute_capability < 80) return kTuring;
  return compute_capability < 90 ? kAmpere : kHopper;
}

// Chains are long: freed by a loop, not by recursion.
VirtualTime::Event::~Event() {
  while (previous && previous.use_count() == 1) {
    EventRef before = std::move(previous->previous);
    previous = std::move(before);
  }
}

VirtualTime::VirtualTime(const LaunchShape& shape)
    : shape_(shape), model_(time_model(shape.gpu->compute_capability)), warps_(shape.blocks * shape.warps) {}

VirtualTime::EventRef VirtualTime::step(const Group& group, Reason reason, EventRef previous, Space space,
                                        std::uint64_t address) {
  auto event = std::make_shared<Event>();
  *event = {group.time, group.pc, group.block, group.warp, reason, space, address, std::move(previous)};
  return event;
}

void VirtualTime::wait_for_loads(Group& group) {
  group.time = std::max(group.time, warps_[group.warp_in_grid].loads);
}

void VirtualTime::access(Group& group, const Access& access) {
  if (access.mask == 0 || (access.space != Space::kGlobal && access.space != Space::kShared)) return;
  Warp& warp = warps_[group.warp_in_grid];
  const bool global = access.space == Space::kGlobal;
  const bool loads = access.is_load();
  if (access.order == Order::kWeak && !access.is_atomic()) {
    if (loads) {
      warp.loads = std::max(warp.loads, group.time + (global ? model_.global : model_.shared));
    } else {
      wait_for_loads(group);
    }
    return;
  }
  wait_for_loads(group);
  const double latency = global ? model_.second : model_.shared;
  std::unordered_map<std::uint64_t, Location>& locations = global ? global_ : shared_;
  const std::uint64_t address = access.addresses[first_lane(access.mask)];
  const std::uint64_t key = global ? address : std::uint64_t{group.block} << 32U | address;
  if (loads || access.kind == AccessKind::kAtomic) {
    const auto found = locations.find(key);
    strong_load(group, access, latency, found == locations.end() ? nullptr : &found->second);
  }
  if (loads) return;
  // Others see it when it has reached where they look.
  Location& location = locations[key];
  const double seen = group.time + (access.kind == AccessKind::kAtomic ? 0 : latency);
  if (seen < location.time) return;
  location.time = seen;
  location.event = step(group, Reason::kStore, warp.last, access.space, address);
}

void VirtualTime::strong_load(Group& group, const Access& access, double latency, Location* location) {
  Warp& warp = warps_[group.warp_in_grid];
  const std::uint64_t address = access.addresses[first_lane(access.mask)];
  const bool again = warp.poll_pc == group.pc && warp.poll_address == address;
  if (!again) {
    warp.poll_pc = group.pc;
    warp.poll_address = address;
    warp.poll_begin = group.time;
  }
  group.time = (again ? warp.poll_begin : group.time) + latency;
  // Which of two atomic operations came first was the machine's choice, unless the program waits for it.
  const bool waits = access.kind == AccessKind::kLoad || again || access.order == Order::kAcquire ||
                     access.order == Order::kAcquireRelease;
  if (location == nullptr || !waits || location->time + latency <= group.time) return;
  group.time = location->time + latency;
  warp.last = step(group, Reason::kAcquire, location->event, access.space, address);
}

void VirtualTime::copy_issued(Group& group, const AsyncCopy& copy) {
  warps_[group.warp_in_grid].copies.emplace_back(copy.id, group.time + model_.global);
}

void VirtualTime::copy_complete(Group& group, std::uint64_t id, bool whole) {
  auto& copies = warps_[group.warp_in_grid].copies;
  const auto found = std::ranges::find(copies, id, &std::pair<std::uint64_t, double>::first);
  group.time = std::max(group.time, found->second);
  if (whole) copies.erase(found);
}

void VirtualTime::fence(Group& group, Scope scope) {
  wait_for_loads(group);
  group.time += scope == Scope::kGpu || scope == Scope::kSystem ? model_.fence : model_.block_fence;
}

void VirtualTime::exchange(Group& group) {
  wait_for_loads(group);
  group.time += model_.exchange;
}

void VirtualTime::barrier_arrive(Group& group, std::uint32_t number) {
  wait_for_loads(group);
  Barrier& barrier = barriers_[{group.block, number}];
  if (barrier.complete) barrier = {};
  if (barrier.event && group.time <= barrier.time) return;
  barrier.time = group.time;
  barrier.event = step(group, Reason::kBarrier, warps_[group.warp_in_grid].last);
}

void VirtualTime::barrier_leave(Group& group, std::uint32_t number) {
  Barrier& barrier = barriers_[{group.block, number}];
  barrier.complete = true;
  const bool waited = barrier.time > group.time;
  group.time = std::max(group.time, barrier.time) + model_.barrier;
  if (waited) warps_[group.warp_in_grid].last = step(group, Reason::kBarrier, barrier.event);
}

void VirtualTime::exit(Group& group) {
  wait_for_loads(group);
  if (!end_ || group.time > end_->end) end_ = step(group, Reason::kExit, warps_[group.warp_in_grid].last);
}

std::string VirtualTime::name_of(const Event& event) const {
  if (event.reason == Reason::kBarrier) return "barrier";
  if (event.reason == Reason::kExit) return "exit";
  std::string where = "shared memory";
  std::uint64_t offset = event.address;
  if (event.space == Space::kGlobal) {
    const Allocation* holder = shape_.allocation_before(event.address);
    const bool inside = holder != nullptr && event.address < holder->end();
    where = inside ? holder->name : "memory";
    if (inside) offset -= holder->address;
  }
  return (event.reason == Reason::kStore ? "store to " : "wait for ") + where + "+" + std::to_string(offset);
}

void VirtualTime::add_to(LaunchReport& report) const {
  if (!end_) return;
  report.cycles = end_->end;
  for (const Event* event = end_.get(); event != nullptr; event = event->previous.get()) {
    report.critical_path.push_back({event->previous ? event->previous->end : 0, event->end, event->pc,
                                    event->block, event->warp, name_of(*event)});
  }
  std::reverse(report.critical_path.begin(), report.critical_path.end());
}

}  // namespace sluice::ptx
