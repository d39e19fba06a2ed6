#include "ptx/race_detector.h"

#include <algorithm>
#include <bit>
#include <string>

#include "base/error.h"

namespace sluice::ptx {
namespace {

constexpr std::uint32_t kMaxWarps = 1U << 23U;

std::string_view verb_of(const Access& access) {
  switch (access.kind) {
    case AccessKind::kLoad:
      return access.order == Order::kWeak ? "plain load" : "load";
    case AccessKind::kLoadNonCoherent:
      return ".nc load";
    case AccessKind::kStore:
      return access.order == Order::kWeak ? "plain store" : "store";
    case AccessKind::kAtomic:
      return "atomic operation";
    case AccessKind::kReduction:
      return "reduction";
  }
  return "access";
}

}  // namespace

RaceDetector::RaceDetector(const LaunchShape& shape)
    : shape_(shape), threads_(shape), shared_(shape.blocks), exited_(shape.blocks) {
  if (shape.blocks * shape.warps > kMaxWarps) {
    throw Error("a launch of " + counted(shape.blocks * shape.warps, "warp"), shape.kernel,
                "the race detector can tell " + std::to_string(kMaxWarps) +
                    " apart: launch fewer, or switch the checks off");
  }
}

RaceShadow& RaceDetector::shadow_of(Space space, std::uint32_t block) {
  if (space == Space::kGlobal) return global_;
  if (!shared_[block]) shared_[block] = std::make_unique<RaceShadow>();
  return *shared_[block];
}

void RaceDetector::access(const Group& group, const Access& access) {
  if (access.mask == 0 || (access.space != Space::kGlobal && access.space != Space::kShared)) return;
  RaceWarp& warp = threads_.warp(group);
  const Actor actor{.warp = warp,
                    .knowledge = warp,
                    .shadow = shadow_of(access.space, group.block),
                    .space = access.space,
                    .pc = group.pc,
                    .time = warp.time,
                    .verb = verb_of(access),
                    .non_coherent = access.kind == AccessKind::kLoadNonCoherent};
  if (access.order != Order::kWeak || access.kind == AccessKind::kAtomic ||
      access.kind == AccessKind::kReduction) {
    strong(access, actor);
    return;
  }
  const bool stores = access.kind == AccessKind::kStore;
  const auto touched = actor.shadow.cut(access.mask, access.size, access.addresses, access.pattern, !stores);
  if (stores) {
    for (const Touched& at : touched) write(actor, *at.page, at.segment);
    return;
  }
  for_each_page(touched, [&](std::span<const Touched> of_page) { read(actor, of_page); });
}

// What one instruction reads of one page.
void RaceDetector::read(const Actor& actor, std::span<const Touched> touched) {
  Page& page = *touched.front().page;
  const Known known = RaceDetector::known(actor, page, touched);
  if (!known.checked) {
    for (const Touched& at : touched) check_read(actor, page, at.segment);
  }
  if (!known.recorded) record(actor, page, touched);
}

void RaceDetector::check_read(const Actor& actor, Page& page, const Segment& segment) {
  const bool shared = actor.space == Space::kShared;
  if (!page.cells || !page.cells->written) {
    if (shared) uninitialised(actor, segment.lanes_at(segment.lo));
    return;
  }
  Cells& cells = actor.shadow.cells(page, segment);
  for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
    const std::uint32_t lanes = segment.lanes_at(byte);
    if (lanes == 0) continue;
    const Cell& cell = cells.cells[byte >> cells.shift];
    const bool written =
        cell.write.time != 0 || (cell.strong != 0 && actor.shadow.strong(cell).last_write != 0);
    if (!written && shared) uninitialised(actor, lanes);
    if (written && actor.non_coherent) {
      report(FindingKind::kNonCoherentRead, actor.pc, actor.warp.warp_in_grid * kLanes + first_lane(lanes),
             cell.write.pc, kNonCoherent);
    }
    check_last_write(actor, cell, lanes);
    if (cell.strong != 0) check_strong(actor, cell, lanes, false);
  }
}

void RaceDetector::write(const Actor& actor, Page& page, const Segment& segment) {
  Cells& cells = actor.shadow.cells(page, segment);
  cells.written = true;
  check_reads(actor, page, segment, true);
  for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
    Cell& cell = cells.cells[byte >> cells.shift];
    const std::uint32_t lanes = segment.lanes_at(byte);
    check_last_write(actor, cell, lanes);
    check_cell_reads(actor, cell, lanes);
    if (cell.strong != 0) check_strong(actor, cell, lanes, true);
    const std::uint32_t lane = first_lane(lanes);
    const Stamp stamp{actor.warp.warp_in_grid * kLanes + lane, actor.time, actor.pc};
    if (!is_one_lane(lanes)) {
      race(actor, first_lane(lanes & (lanes - 1)), actor.verb, stamp, "two lanes write one place at once");
    }
    actor.shadow.drop_reads(cell);
    if (cell.strong != 0) actor.shadow.strong(cell).forget();
    cell.write = stamp;
  }
}

void RaceDetector::check_last_write(const Actor& actor, const Cell& cell, std::uint32_t lanes) {
  const std::uint32_t warp = actor.warp.warp_in_grid;
  if (cell.write.time == 0 || actor.knowledge.all_know(warp, cell.write.thread / kLanes, cell.write.time) ||
      actor.knowledge.is_own(warp, lanes, cell.write.thread, cell.write.time)) {
    return;
  }
  const std::uint32_t unknowing = actor.knowledge.unknowing(warp, lanes, cell.write.thread, cell.write.time);
  if (unknowing == 0) return;
  const bool in_flight = cell.write.time == kInFlight;
  race(actor, first_lane(unknowing), in_flight ? "cp.async" : "plain store", cell.write,
       in_flight ? "a copy writes at any time until it is waited for" : "nothing orders them");
}

// A plain access against those with an order.
void RaceDetector::check_strong(const Actor& actor, const Cell& cell, std::uint32_t lanes, bool writes) {
  StrongSet& set = actor.shadow.strong(cell);
  set.accesses.for_each([&](std::uint32_t key, const StrongAccess& access) {
    const std::uint32_t other = key >> 9U;
    const bool other_writes = access.write != 0;
    if ((!writes && !other_writes) || actor.knowledge.all_know(actor.warp.warp_in_grid, other, access.time))
      return;
    each_lane(access.mask, [&](std::uint32_t other_lane) {
      const Stamp stamp{other * kLanes + other_lane, access.time, access.pc};
      std::uint32_t unknowing =
          actor.knowledge.unknowing(actor.warp.warp_in_grid, lanes, stamp.thread, stamp.time);
      each_lane(unknowing, [&](std::uint32_t lane) {
        if (other_writes && has_seen(actor, set, access.write, lane)) unknowing &= ~(1U << lane);
      });
      if (unknowing == 0) return;
      race(actor, first_lane(unknowing), other_writes ? "store or atomic" : "load", stamp,
           "nothing orders them, and one of them is plain");
    });
  });
}

// Causality order: a write comes before what follows a strong read that saw it, even without an acquire.
bool RaceDetector::has_seen(const Actor& actor, StrongSet& set, std::uint32_t write, std::uint32_t lane) {
  bool result = false;
  set.seen.for_each([&](std::uint32_t thread, const Seen& seen) {
    for (const Seen::Range& range : seen.ranges) {
      if (result) return;
      result = range.time != 0 && write >= range.from && write <= range.to &&
               actor.knowledge.unknowing(actor.warp.warp_in_grid, 1U << lane, thread, range.time) == 0;
    }
  });
  return result;
}

void RaceDetector::race(const Actor& actor, std::uint32_t lane, std::string_view other_verb,
                        const Stamp& other, std::string_view why) {
  const std::uint32_t other_warp = other.thread / kLanes;
  const std::string what = "race: " + std::string(actor.verb) + " against the " + std::string(other_verb) +
                           " of (" +
                           place_text(shape_, other.pc, other_warp / shape_.warps, other_warp % shape_.warps,
                                      other.thread % kLanes) +
                           "): " + std::string(why);
  report(FindingKind::kRace, actor.pc, actor.warp.warp_in_grid * kLanes + lane, other.pc, what);
}

void RaceDetector::report(FindingKind kind, std::uint32_t pc, std::uint32_t thread, std::uint32_t other_pc,
                          std::string_view what) {
  const auto [found, added] = found_.try_emplace({kind, pc, other_pc}, findings_.size());
  if (!added) {
    ++findings_[found->second].count;
    return;
  }
  const std::uint32_t warp = thread / kLanes;
  findings_.push_back(
      finding_at(shape_, kind, what, pc, warp / shape_.warps, warp % shape_.warps, thread % kLanes));
}

void RaceDetector::exit(const Group& group, std::uint32_t mask) {
  exited_[group.block] += static_cast<std::uint32_t>(std::popcount(mask));
  if (exited_[group.block] < shape_.threads) return;
  threads_.block_exit(group.block);
  shared_[group.block].reset();
}

}  // namespace sluice::ptx
