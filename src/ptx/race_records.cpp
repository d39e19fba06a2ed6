// The race detector's memory of reads: where they are kept, and how a write is checked against them.
#include <algorithm>
#include <bit>

#include "ptx/race_detector.h"

namespace sluice::ptx {

void RaceDetector::record(const Actor& actor, Page& page, std::span<const Touched> touched) {
  if (touched.size() == 1) {
    record_segment(actor, page, touched.front().segment);
    return;
  }
  for (const Touched& at : touched)
    record_in_cells(actor, page, {at.segment, actor.time, actor.pc, true, actor.non_coherent});
}

// What an older record of the same key says beyond the new one goes into cells, or the new one does if that is less.
void RaceDetector::record_segment(const Actor& actor, Page& page, const Segment& segment) {
  const auto [record, added] = page.find_or_add(read_key(actor.warp.warp_in_grid, segment));
  const ReadRecord read{segment, actor.time, actor.pc, true, actor.non_coherent};
  ReadRecord before = *record;
  if (!added && before.segment.hi != before.segment.lo) {
    const bool same_coherence = before.non_coherent == read.non_coherent;
    const bool same_pattern = before.segment.deals_like(segment) && same_coherence;
    const bool same_lanes = same_pattern && before.segment.mask == segment.mask;
    if (same_lanes && before.time == read.time && segment.lo <= before.segment.hi &&
        before.segment.lo <= segment.hi) {
      record->segment.lo = std::min(before.segment.lo, segment.lo);
      record->segment.hi = std::max(before.segment.hi, segment.hi);
      record->pc = read.pc;
      return;
    }
    // A lane's read stands for its earlier one, and for any of the warp that it knows of.
    const bool superseded = (same_lanes || (same_pattern && segment.shift != Segment::kEveryLane) ||
                             (before.time <= actor.knowledge.synced && !segment.has_gaps())) &&
                            same_coherence;
    ReadRecord after = before;
    after.segment.lo = superseded ? std::max(before.segment.lo, segment.hi) : before.segment.hi;
    if (superseded) before.segment.hi = std::min(before.segment.hi, segment.lo);
    if (before.segment.bytes() + after.segment.bytes() > segment.bytes()) {
      record_in_cells(actor, page, read);
      return;
    }
    record_in_cells(actor, page, before);
    record_in_cells(actor, page, after);
  }
  *record = read;
}

void RaceDetector::record_in_cells(const Actor& actor, Page& page, const ReadRecord& read) {
  const Segment& segment = read.segment;
  if (segment.bytes() == 0) return;
  Cells& cells = page.cells_for(segment);
  for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
    const std::uint32_t lanes = segment.lanes_at(byte);
    if (lanes == 0) continue;
    Cell& cell = cells.cells[byte >> cells.shift];
    add_read(actor, cell, lanes, read);
    cell.non_coherent |= read.non_coherent;
  }
}

void RaceDetector::add_read(const Actor& actor, Cell& cell, std::uint32_t lanes, const ReadRecord& read) {
  const std::uint32_t warp = actor.warp.warp_in_grid;
  if (!cell.many) {
    const bool later =
        cell.read.thread / kLanes != warp || cell.read.time <= read.time;  // not kept elsewhere until now
    const bool superseded =
        cell.read.time == 0 || (later && actor.knowledge.unknowing(lanes, cell.read) == 0);
    if (superseded && is_one_lane(lanes)) {
      cell.read = {actor.warp.thread(first_lane(lanes)), read.time, read.pc};
      return;
    }
    if (superseded) cell.read = {};
    cell.make_reads();
  }
  cell.reads->add(warp, {lanes, read.time, read.pc}, actor.knowledge.synced);
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
  if (forget && !any_left) page.forget_reads();
}

// Against the lanes of a warp that have read some of the bytes lo to hi.
void RaceDetector::check_record(const Actor& actor, const Segment& segment, std::uint32_t lo,
                                std::uint32_t hi, std::uint32_t warp, const ReadRecord& record) {
  const Segment& read = record.segment;
  while (lo < hi && read.lanes_at(lo) == 0) ++lo;
  if (lo == hi) return;
  if (record.non_coherent) non_coherent(record.pc, warp * kLanes + first_lane(read.lanes_at(lo)), actor.pc);
  if (actor.knowledge.all_know(warp, record.time)) return;
  // Each lane writes what it has read itself.
  const bool dealt = read.shift != Segment::kEveryLane && read.deals_like(segment);
  if (dealt && warp == actor.warp.warp_in_grid && record.time <= actor.knowledge.time) return;
  constexpr std::uint32_t kPage = std::countr_zero(kPageBytes);
  const std::uint32_t unit = std::min<std::uint32_t>({read.shift, segment.shift, kPage});
  for (std::uint32_t byte = lo; byte < hi; byte = ((byte >> unit) + 1) << unit) {
    each_lane(read.lanes_at(byte), [&](std::uint32_t lane) {
      judge(actor, segment.lanes_at(byte), "load", {warp * kLanes + lane, record.time, record.pc},
            "nothing orders them");
    });
  }
}

void RaceDetector::check_cell_reads(const Actor& actor, const Cell& cell, std::uint32_t lanes) {
  if (cell.non_coherent) {
    const bool one = !cell.many && cell.read.time != 0;
    non_coherent(actor.pc, one ? cell.read.thread : actor.warp.thread(0), cell.read.pc);
  }
  if (!cell.many) {
    if (cell.read.time != 0) judge(actor, lanes, "load", cell.read, "nothing orders them");
    return;
  }
  cell.reads->for_each([&](std::uint32_t reader, const LaneAccess& access) {
    if (actor.knowledge.all_know(reader, access.time)) return;
    each_lane(access.mask, [&](std::uint32_t lane) {
      judge(actor, lanes, "load", {reader * kLanes + lane, access.time, access.pc}, "nothing orders them");
    });
  });
}

}  // namespace sluice::ptx
