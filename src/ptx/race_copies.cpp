// The race detector's view of cp.async. A copy reads and writes at any moment from its issue until it has been waited for, so
// it may touch nothing that others touch meanwhile. Its writes are stamped with a time that nobody knows, not even the lane
// itself, until the wait makes them that lane's. Its reads are judged at the wait: no write may have come that the lane
// didn't know of when it issued the copy.
#include <algorithm>
#include <bit>
#include <utility>

#include "ptx/race_detector.h"

namespace sluice::ptx {

void RaceDetector::copy_issued(const Group& group, const AsyncCopy& copy) {
  RaceWarp& warp = threads_.warp(group);
  if (landed_.empty()) landed_.push_back(std::make_unique<RaceCopy>());
  warp.copies.push_back(std::move(landed_.back()));
  landed_.pop_back();
  RaceCopy& pending = *warp.copies.back();
  pending.id = copy.id;
  pending.issued.keep(warp);
  pending.pc = group.pc;
  pending.size = copy.size;
  pending.mask = copy.mask;
  pending.source_pattern = copy.source_pattern;
  pending.destination_pattern = copy.destination_pattern;
  std::copy_n(copy.source, kLanes, pending.source);
  std::copy_n(copy.destination, kLanes, pending.destination);
  std::copy_n(copy.source_size, kLanes, pending.source_size);
  const Actor writer{.warp = warp,
                     .knowledge = warp,
                     .shadow = shadow_of(Space::kShared, group.block),
                     .space = Space::kShared,
                     .pc = group.pc,
                     .time = kInFlight,
                     .verb = "cp.async's write"};
  for (const Touched& at :
       writer.shadow.cut(copy.mask, copy.size, copy.destination, copy.destination_pattern)) {
    write(writer, *at.page, at.segment);
  }
  ++warp.time;  // what its lanes do from now on is not before the copy
}

bool RaceDetector::copy_complete(const Group& group, std::uint64_t id, std::uint32_t mask) {
  RaceWarp& warp = threads_.warp(group);
  const auto found = std::ranges::find(warp.copies, id, &RaceCopy::id);
  RaceCopy& copy = **found;
  mask &= copy.mask;
  read_source({.warp = warp,
               .knowledge = copy.issued,
               .shadow = global_,
               .space = Space::kGlobal,
               .pc = copy.pc,
               .time = warp.time,
               .verb = "cp.async's read"},
              copy, mask);

  RaceShadow& shared = shadow_of(Space::kShared, group.block);
  const Pattern pattern = mask == ~0U ? copy.destination_pattern : Pattern::kUnknown;
  for (const Touched& at : shared.cut(mask, copy.size, copy.destination, pattern)) {
    Cells& cells = shared.cells(*at.page, at.segment);
    for (std::uint32_t byte = at.segment.lo; byte < at.segment.hi; byte += 1U << cells.shift) {
      Stamp& stamp = cells.cells[byte >> cells.shift].write;
      if (stamp.time == kInFlight && stamp.pc == copy.pc && stamp.thread / kLanes == warp.warp_in_grid) {
        stamp.time = warp.time;
      }
    }
  }
  copy.mask &= ~mask;
  if (copy.mask != 0) return false;
  landed_.push_back(std::move(*found));
  warp.copies.erase(found);
  return true;
}

void RaceDetector::read_source(const Actor& reader, RaceCopy& copy, std::uint32_t mask) {
  const auto read = [&](std::uint32_t lanes, std::uint32_t size, Pattern pattern) {
    for_each_page(global_.cut(lanes, size, copy.source, pattern, true),
                  [&](std::span<const Touched> touched) { read_in_flight(reader, touched); });
  };
  std::uint32_t whole = 0;
  each_lane(mask, [&](std::uint32_t lane) {
    if (copy.source_size[lane] == copy.size) whole |= 1U << lane;
  });
  read(whole, copy.size, whole == ~0U ? copy.source_pattern : Pattern::kUnknown);
  each_lane(mask & ~whole, [&](std::uint32_t lane) {  // of any size, so byte by byte
    const std::uint64_t begin = copy.source[lane];
    for (std::uint32_t i = 0; i < copy.source_size[lane]; ++i) {
      copy.source[lane] = begin + i;
      read(1U << lane, 1, Pattern::kUnknown);
    }
  });
}

void RaceDetector::read_in_flight(const Actor& actor, std::span<const Touched> touched) {
  Page& page = *touched.front().page;
  for (const Touched& at : touched) check_read(actor, page, at.segment);
  // From here on it is a read of the lanes that waited.
  const Actor waited{actor.warp, actor.warp, actor.shadow, actor.space, actor.pc, actor.time, actor.verb};
  record(waited, page, touched);
}

}  // namespace sluice::ptx
