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
    throw Error("a launch of " + std::to_string(shape.blocks * shape.warps) + " warps", shape.kernel,
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
  for (const Touched& at : actor.shadow.cut(access.mask, access.size, access.addresses)) {
    if (stores) {
      write(actor, *at.page, at.segment);
    } else {
      read(actor, *at.page, at.segment, at.whole);
    }
  }
}

void RaceDetector::read(const Actor& actor, Page& page, const Segment& segment, bool whole) {
  if (whole) {
    const auto [record, added] = page.find_or_add(actor.warp.warp_in_grid << 2U | segment.lo >> 7U);
    if (!added && record->version == page.version && record->time == actor.time && record->lo <= segment.lo &&
        record->hi >= segment.hi && record->mask == segment.mask && record->shift == segment.shift &&
        record->rotation == segment.rotation && record->non_coherent == actor.non_coherent) {
      return;  // nothing has happened since
    }
  }
  if (actor.space == Space::kShared) check_initialised(actor, page, segment);
  if (page.cells && page.cells->written) {
    Cells& cells = actor.shadow.cells(page, segment);
    for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
      const Cell& cell = cells.cells[byte >> cells.shift];
      if (actor.non_coherent &&
          (cell.write.time != 0 || (cell.strong != 0 && actor.shadow.strong(cell).last_write != 0))) {
        const std::uint32_t lane = static_cast<std::uint32_t>(std::countr_zero(segment.lanes_at(byte)));
        report(FindingKind::kNonCoherentRead, actor.pc, actor.warp.warp_in_grid * kLanes + lane,
               cell.write.pc,
               ".nc load of memory that is written during the launch: the read-only cache may hold what was "
               "there before");
      }
      check_last_write(actor, cell, segment.lanes_at(byte));
      if (cell.strong != 0) check_strong(actor, cell, segment.lanes_at(byte), false);
    }
  }
  record(actor, page, segment, whole);
}

void RaceDetector::record(const Actor& actor, Page& page, const Segment& segment, bool whole) {
  if (whole) {
    record_read(actor, page, segment);
    return;
  }
  Cells& cells = actor.shadow.cells(page, segment);
  for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
    Cell& cell = cells.cells[byte >> cells.shift];
    add_read(actor, cell, segment.lanes_at(byte), actor.time, actor.pc);
    cell.non_coherent |= actor.non_coherent;
  }
}

// Keeps one record for each warp and quarter of a page. What an older one says beyond the new one goes into cells.
void RaceDetector::record_read(const Actor& actor, Page& page, const Segment& segment) {
  const std::uint32_t key = actor.warp.warp_in_grid << 2U | segment.lo >> 7U;
  const auto [record, added] = page.find_or_add(key);
  const bool same_lanes = record->mask == segment.mask && record->shift == segment.shift &&
                          record->rotation == segment.rotation && record->non_coherent == actor.non_coherent;
  if (!added && record->hi != record->lo) {
    if (same_lanes && record->time == actor.time && segment.lo <= record->hi && record->lo <= segment.hi) {
      record->lo = static_cast<std::uint16_t>(std::min<std::uint32_t>(record->lo, segment.lo));
      record->hi = static_cast<std::uint16_t>(std::max<std::uint32_t>(record->hi, segment.hi));
      record->version = page.version;
      record->pc = actor.pc;
      return;
    }
    const bool covered = segment.lo <= record->lo && segment.hi >= record->hi &&
                         (same_lanes || record->time <= actor.knowledge.synced) &&
                         record->non_coherent == actor.non_coherent;
    if (!covered) {
      const Segment old = record->segment();
      Cells& cells = actor.shadow.cells(page, old);
      for (std::uint32_t byte = old.lo; byte < old.hi; byte += 1U << cells.shift) {
        Cell& cell = cells.cells[byte >> cells.shift];
        add_read(actor, cell, old.lanes_at(byte), record->time, record->pc);
        cell.non_coherent |= record->non_coherent;
      }
    }
  }
  *record = {segment.mask,
             actor.time,
             actor.pc,
             static_cast<std::uint16_t>(segment.lo),
             static_cast<std::uint16_t>(segment.hi),
             segment.shift,
             segment.rotation,
             page.version,
             actor.non_coherent};
}

void RaceDetector::add_read(const Actor& actor, Cell& cell, std::uint32_t lanes, std::uint32_t time,
                            std::uint32_t pc) {
  const std::uint32_t first =
      actor.warp.warp_in_grid * kLanes + static_cast<std::uint32_t>(std::countr_zero(lanes));
  if (cell.read.thread != Cell::kMany) {
    const bool superseded =
        cell.read.time == 0 ||
        actor.knowledge.unknowing(actor.warp.warp_in_grid, lanes, cell.read.thread, cell.read.time) == 0;
    if (superseded && std::has_single_bit(lanes)) {
      cell.read = {first, time, pc};
      return;
    }
    if (superseded) cell.read = {};
    actor.shadow.make_reads(cell);
  }
  actor.shadow.reads(cell).add(actor.warp.warp_in_grid, {lanes, time, pc}, actor.knowledge.synced);
}

void RaceDetector::write(const Actor& actor, Page& page, const Segment& segment) {
  Cells& cells = actor.shadow.cells(page, segment);
  cells.written = true;
  ++page.version;
  check_reads(actor, page, segment, true);
  for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
    Cell& cell = cells.cells[byte >> cells.shift];
    const std::uint32_t lanes = segment.lanes_at(byte);
    check_last_write(actor, cell, lanes);
    check_cell_reads(actor, cell, lanes);
    if (cell.strong != 0) check_strong(actor, cell, lanes, true);
    const std::uint32_t lane = static_cast<std::uint32_t>(std::countr_zero(lanes));
    const Stamp stamp{actor.warp.warp_in_grid * kLanes + lane, actor.time, actor.pc};
    if (!std::has_single_bit(lanes)) {
      race(actor, static_cast<std::uint32_t>(std::countr_zero(lanes & (lanes - 1))), actor.verb, stamp,
           "two lanes write one place at once");
    }
    actor.shadow.drop_reads(cell);
    if (cell.strong != 0) actor.shadow.strong(cell).forget();
    cell.write = stamp;
  }
}

void RaceDetector::check_last_write(const Actor& actor, const Cell& cell, std::uint32_t lanes) {
  if (cell.write.time == 0 ||
      actor.knowledge.all_know(actor.warp.warp_in_grid, cell.write.thread / kLanes, cell.write.time)) {
    return;
  }
  const std::uint32_t unknowing =
      actor.knowledge.unknowing(actor.warp.warp_in_grid, lanes, cell.write.thread, cell.write.time);
  if (unknowing == 0) return;
  const bool in_flight = cell.write.time == kInFlight;
  race(actor, static_cast<std::uint32_t>(std::countr_zero(unknowing)), in_flight ? "cp.async" : "plain store",
       cell.write, in_flight ? "a copy writes at any time until it is waited for" : "nothing orders them");
}

// Against the records of reads. With `forget` the write that is checked comes to stand for them.
void RaceDetector::check_reads(const Actor& actor, Page& page, const Segment& segment, bool forget) {
  bool any_left = false;
  page.for_each_read([&](std::uint32_t key, ReadRecord& record) {
    const std::uint32_t lo = std::max<std::uint32_t>(record.lo, segment.lo);
    const std::uint32_t hi = std::min<std::uint32_t>(record.hi, segment.hi);
    if (lo >= hi) {
      any_left |= record.lo != record.hi;
      return;
    }
    const std::uint32_t reader = key >> 2U;
    if (record.non_coherent) {
      report(FindingKind::kNonCoherentRead, record.pc,
             reader * kLanes + static_cast<std::uint32_t>(std::countr_zero(record.segment().lanes_at(lo))),
             actor.pc,
             ".nc load of memory that is written during the launch: the read-only cache may hold what was "
             "there before");
    }
    if (!actor.knowledge.all_know(actor.warp.warp_in_grid, reader, record.time)) {
      for (std::uint32_t byte = lo; byte < hi; ++byte) {
        for_each_lane(record.segment().lanes_at(byte), [&](std::uint32_t lane) {
          const Stamp stamp{reader * kLanes + lane, record.time, record.pc};
          const std::uint32_t unknowing = actor.knowledge.unknowing(
              actor.warp.warp_in_grid, segment.lanes_at(byte), stamp.thread, stamp.time);
          if (unknowing == 0) return;
          race(actor, static_cast<std::uint32_t>(std::countr_zero(unknowing)), "load", stamp,
               "nothing orders them");
        });
      }
    }
    if (forget && lo == record.lo) record.lo = static_cast<std::uint16_t>(hi);
    if (forget && hi == record.hi) record.hi = std::max(record.lo, static_cast<std::uint16_t>(lo));
    any_left |= record.lo != record.hi;
  });
  if (any_left || !forget) return;
  page.first_key = FlatTable<ReadRecord>::kNoKey;
  page.others.reset();
}

void RaceDetector::check_cell_reads(const Actor& actor, const Cell& cell, std::uint32_t lanes) {
  if (cell.non_coherent) {
    const std::uint32_t thread = cell.read.thread == Cell::kMany || cell.read.time == 0
                                     ? actor.warp.warp_in_grid * kLanes
                                     : cell.read.thread;
    report(FindingKind::kNonCoherentRead, actor.pc, thread, cell.read.pc,
           "write to memory that the launch has read by .nc loads");
  }
  const auto check = [&](const Stamp& stamp) {
    const std::uint32_t unknowing =
        actor.knowledge.unknowing(actor.warp.warp_in_grid, lanes, stamp.thread, stamp.time);
    if (unknowing != 0) {
      race(actor, static_cast<std::uint32_t>(std::countr_zero(unknowing)), "load", stamp,
           "nothing orders them");
    }
  };
  if (cell.read.thread != Cell::kMany) {
    if (cell.read.time != 0) check(cell.read);
    return;
  }
  actor.shadow.reads(cell).for_each([&](std::uint32_t reader, const LaneAccess& access) {
    if (actor.knowledge.all_know(actor.warp.warp_in_grid, reader, access.time)) return;
    for_each_lane(access.mask,
                  [&](std::uint32_t lane) { check({reader * kLanes + lane, access.time, access.pc}); });
  });
}

// A plain access against those with an order.
void RaceDetector::check_strong(const Actor& actor, const Cell& cell, std::uint32_t lanes, bool writes) {
  StrongSet& set = actor.shadow.strong(cell);
  set.accesses.for_each([&](std::uint32_t key, const StrongAccess& access) {
    const std::uint32_t other = key >> 9U;
    const bool other_writes = access.write != 0;
    if ((!writes && !other_writes) || actor.knowledge.all_know(actor.warp.warp_in_grid, other, access.time))
      return;
    for_each_lane(access.mask, [&](std::uint32_t other_lane) {
      const Stamp stamp{other * kLanes + other_lane, access.time, access.pc};
      std::uint32_t unknowing =
          actor.knowledge.unknowing(actor.warp.warp_in_grid, lanes, stamp.thread, stamp.time);
      for_each_lane(unknowing, [&](std::uint32_t lane) {
        if (other_writes && has_seen(actor, set, access.write, lane)) unknowing &= ~(1U << lane);
      });
      if (unknowing == 0) return;
      race(actor, static_cast<std::uint32_t>(std::countr_zero(unknowing)),
           other_writes ? "store or atomic" : "load", stamp, "nothing orders them, and one of them is plain");
    });
  });
}

// Causality order: a write comes before what follows a strong read that saw it, even without an acquire.
bool RaceDetector::has_seen(const Actor& actor, StrongSet& set, std::uint32_t write,
                            std::uint32_t lane) const {
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
