// The race detector's memory of reads: where they are kept, and how a write is checked against them.
#include <algorithm>
#include <bit>

#include "ptx/race_detector.h"

namespace sluice::ptx {

// An older record of the same key goes into cells, unless the new one comes to stand for it.
void RaceDetector::record(const Actor& actor, Page& page, const Segment& segment, ReadRecord& record) {
  const ReadRecord read{segment, actor.time, actor.pc, true, actor.non_coherent};
  if (record.segment.bytes() != 0) {
    Segment& before = record.segment;
    const bool same_pattern = before.deals_like(segment) && record.non_coherent == read.non_coherent;
    const bool same_lanes = same_pattern && before.mask == segment.mask;
    if (same_lanes && record.time == read.time && segment.lo <= before.hi && before.lo <= segment.hi) {
      before.lo = std::min(before.lo, segment.lo);
      before.hi = std::max(before.hi, segment.hi);
      record.pc = read.pc;
      return;
    }
    // A lane's read stands for its earlier one, and for any of the warp that it knows of.
    const bool superseded = segment.lo <= before.lo && segment.hi >= before.hi &&
                            record.non_coherent == read.non_coherent &&
                            (same_lanes || (same_pattern && segment.shift != Segment::kEveryLane) ||
                             (record.time <= actor.knowledge.synced && !segment.has_gaps()));
    if (!superseded) record_in_cells(actor, page, record);
  }
  record = read;
}

void RaceDetector::record_in_cells(const Actor& actor, Page& page, const ReadRecord& read) {
  const Segment& segment = read.segment;
  Cells& cells = page.cells_for(segment);
  for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
    const std::uint32_t lanes = segment.lanes_at(byte);
    if (lanes == 0) continue;
    Cell& cell = cells.cells[byte >> cells.shift];
    add_read(actor, cell, lanes, read);
    if (read.non_coherent) cell.non_coherent = {actor.warp.thread(first_lane(lanes)), read.time, read.pc};
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
  for (auto& [key, record] : page.reads) {
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
  }
  if (forget && !any_left) page.reads.clear();
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
  const std::uint32_t smaller = std::min(read.shift, segment.shift);
  const std::uint32_t unit = std::min(smaller, kPage);
  for (std::uint32_t byte = lo; byte < hi; byte = ((byte >> unit) + 1) << unit) {
    each_lane(read.lanes_at(byte), [&](std::uint32_t lane) {
      judge(actor, segment.lanes_at(byte), "load", {warp * kLanes + lane, record.time, record.pc},
            "nothing orders them");
    });
  }
}

void RaceDetector::check_cell_reads(const Actor& actor, const Cell& cell, std::uint32_t lanes) {
  if (cell.non_coherent.time != 0) non_coherent(cell.non_coherent.pc, cell.non_coherent.thread, actor.pc);
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
