// The race detector's memory of reads: where they are kept, and how a write is checked against them.
#include <algorithm>
#include <bit>

#include "ptx/race_detector.h"

namespace sluice::ptx {

// What the warp's record says of these reads: that the same lanes read there before and nothing has been written since, so
// that they need no check; and that it was at this time.
RaceDetector::Known RaceDetector::known(const Actor& actor, Page& page, std::span<const Touched> touched) {
  if (touched.size() != 1) return {};
  const Segment& segment = touched.front().segment;
  const ReadRecord* record = page.find(read_key(actor.warp.warp_in_grid, segment));
  const bool checked = record != nullptr && record->checked && record->segment.lo <= segment.lo &&
                       record->segment.hi >= segment.hi && record->segment.mask == segment.mask &&
                       record->segment.deals_like(segment) && record->non_coherent == actor.non_coherent;
  return {checked, checked && record->time == actor.time};
}

void RaceDetector::record(const Actor& actor, Page& page, std::span<const Touched> touched) {
  if (touched.size() == 1) {
    record_segment(actor, page, touched.front().segment);
    return;
  }
  for (const Touched& at : touched)
    record_in_cells(actor, page, at.segment, actor.time, actor.pc, actor.non_coherent);
}

// What an older record of the same key says beyond the new one goes into cells, or the new one does if that is less.
void RaceDetector::record_segment(const Actor& actor, Page& page, const Segment& segment) {
  const auto [record, added] = page.find_or_add(read_key(actor.warp.warp_in_grid, segment));
  Segment before = record->segment;
  if (!added && before.hi != before.lo) {
    const bool same_pattern = before.deals_like(segment) && record->non_coherent == actor.non_coherent;
    const bool same_lanes = same_pattern && before.mask == segment.mask;
    if (same_lanes && record->time == actor.time && segment.lo <= before.hi && before.lo <= segment.hi) {
      record->segment.lo = std::min(before.lo, segment.lo);
      record->segment.hi = std::max(before.hi, segment.hi);
      record->pc = actor.pc;
      return;
    }
    // A lane's read stands for its earlier one, and for any of the warp that it knows of.
    const bool superseded = (same_lanes || (same_pattern && segment.shift != Segment::kEveryLane) ||
                             (record->time <= actor.knowledge.synced && !segment.has_gaps())) &&
                            record->non_coherent == actor.non_coherent;
    Segment after = before;
    if (superseded) {
      before.hi = std::min(before.hi, segment.lo);
      after.lo = std::max(after.lo, segment.hi);
    } else {
      after.lo = after.hi;
    }
    const auto bytes = [](const Segment& part) { return part.hi > part.lo ? part.hi - part.lo : 0; };
    if (bytes(before) + bytes(after) > segment.hi - segment.lo) {
      record_in_cells(actor, page, segment, actor.time, actor.pc, actor.non_coherent);
      return;
    }
    for (const Segment& part : {before, after}) {
      if (bytes(part) != 0)
        record_in_cells(actor, page, part, record->time, record->pc, record->non_coherent);
    }
  }
  *record = {segment, actor.time, actor.pc, true, actor.non_coherent};
}

void RaceDetector::record_in_cells(const Actor& actor, Page& page, const Segment& segment, std::uint32_t time,
                                   std::uint32_t pc, bool non_coherent) {
  Cells& cells = actor.shadow.cells(page, segment);
  for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
    const std::uint32_t lanes = segment.lanes_at(byte);
    if (lanes == 0) continue;
    Cell& cell = cells.cells[byte >> cells.shift];
    add_read(actor, cell, lanes, time, pc);
    cell.non_coherent |= non_coherent;
  }
}

void RaceDetector::add_read(const Actor& actor, Cell& cell, std::uint32_t lanes, std::uint32_t time,
                            std::uint32_t pc) {
  const std::uint32_t warp = actor.warp.warp_in_grid;
  if (cell.read.thread != Cell::kMany) {
    const bool later =
        cell.read.thread / kLanes != warp || cell.read.time <= time;  // not kept elsewhere until now
    const bool superseded =
        cell.read.time == 0 ||
        (later && actor.knowledge.unknowing(warp, lanes, cell.read.thread, cell.read.time) == 0);
    if (superseded && is_one_lane(lanes)) {
      cell.read = {warp * kLanes + first_lane(lanes), time, pc};
      return;
    }
    if (superseded) cell.read = {};
    actor.shadow.make_reads(cell);
  }
  actor.shadow.reads(cell).add(warp, {lanes, time, pc}, actor.knowledge.synced);
}

// A write against all records of reads. With `forget` it comes to stand for them.
void RaceDetector::check_reads(const Actor& actor, Page& page, const Segment& segment, bool forget) {
  bool any_left = false;
  page.for_each_read([&](std::uint32_t key, ReadRecord& record) {
    Segment& read = record.segment;
    const std::uint32_t lo = std::max(read.lo, segment.lo);
    const std::uint32_t hi = std::min(read.hi, segment.hi);
    if (lo < hi) {
      record.checked = false;
      check_record(actor, segment, lo, hi, read_warp(key), record);
      if (forget && lo == read.lo) read.lo = hi;
      if (forget && hi == read.hi) read.hi = std::max(read.lo, lo);
    }
    any_left |= read.lo != read.hi;
  });
  if (forget && !any_left) {
    page.first_key = FlatTable<ReadRecord>::kNoKey;
    page.others.reset();
  }
}

// Against the lanes of a warp that have read some of the bytes lo to hi.
void RaceDetector::check_record(const Actor& actor, const Segment& segment, std::uint32_t lo,
                                std::uint32_t hi, std::uint32_t warp, const ReadRecord& record) {
  const Segment& read = record.segment;
  while (lo < hi && read.lanes_at(lo) == 0) ++lo;
  if (lo == hi) return;
  if (record.non_coherent) {
    report(FindingKind::kNonCoherentRead, record.pc, warp * kLanes + first_lane(read.lanes_at(lo)), actor.pc,
           kNonCoherent);
  }
  if (actor.knowledge.all_know(actor.warp.warp_in_grid, warp, record.time)) return;
  // Each lane writes what it has read itself.
  const bool dealt = read.shift != Segment::kEveryLane && read.deals_like(segment);
  if (dealt && warp == actor.warp.warp_in_grid && record.time <= actor.knowledge.time) return;
  constexpr std::uint32_t kPage = std::countr_zero(kPageBytes);
  const std::uint32_t smaller = std::min(read.shift, segment.shift);
  const std::uint32_t unit = std::min(smaller, kPage);
  for (std::uint32_t byte = lo; byte < hi; byte = ((byte >> unit) + 1) << unit) {
    each_lane(read.lanes_at(byte), [&](std::uint32_t lane) {
      const Stamp stamp{warp * kLanes + lane, record.time, record.pc};
      const std::uint32_t unknowing = actor.knowledge.unknowing(
          actor.warp.warp_in_grid, segment.lanes_at(byte), stamp.thread, stamp.time);
      if (unknowing == 0) return;
      race(actor, first_lane(unknowing), "load", stamp, "nothing orders them");
    });
  }
}

void RaceDetector::check_cell_reads(const Actor& actor, const Cell& cell, std::uint32_t lanes) {
  const std::uint32_t warp = actor.warp.warp_in_grid;
  if (cell.non_coherent) {
    const bool one = cell.read.thread != Cell::kMany && cell.read.time != 0;
    report(FindingKind::kNonCoherentRead, actor.pc, one ? cell.read.thread : warp * kLanes, cell.read.pc,
           kNonCoherent);
  }
  const auto check = [&](const Stamp& stamp) {
    const std::uint32_t unknowing = actor.knowledge.unknowing(warp, lanes, stamp.thread, stamp.time);
    if (unknowing == 0) return;
    race(actor, first_lane(unknowing), "load", stamp, "nothing orders them");
  };
  if (cell.read.thread != Cell::kMany) {
    if (cell.read.time != 0) check(cell.read);
    return;
  }
  actor.shadow.reads(cell).for_each([&](std::uint32_t reader, const LaneAccess& access) {
    if (actor.knowledge.all_know(warp, reader, access.time)) return;
    each_lane(access.mask,
              [&](std::uint32_t lane) { check({reader * kLanes + lane, access.time, access.pc}); });
  });
}

}  // namespace sluice::ptx
