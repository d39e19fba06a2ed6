#include "ptx/race_detector.h"

#include <algorithm>
#include <bit>
#include <string>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::ptx {
namespace {

constexpr std::uint32_t kMaxWarps = 1U << 23U;
constexpr std::uint64_t kSectorBytes = 32;
constexpr std::uint32_t kLeastRecorded = 64;  // bytes

std::string_view verb_of(const Access& access) {
  switch (access.kind) {
    case AccessKind::kLoad:
      return access.order == Order::kWeak ? "plain load" : "load";
    case AccessKind::kLoadNonCoherent:
      return ".nc load";
    case AccessKind::kStore:
      return access.order == Order::kWeak ? "plain store" : "store";
    default:
      return access.kind == AccessKind::kAtomic ? "atomic operation" : "reduction";
  }
}

// A device address is the host's, see memory.h.
bool all_poison(std::uint64_t begin, std::uint64_t end) {
  return std::all_of(reinterpret_cast<const std::byte*>(begin), reinterpret_cast<const std::byte*>(end),
                     [](std::byte byte) { return byte == kPoison; });
}

}  // namespace

RaceDetector::RaceDetector(const LaunchShape& shape)
    : RaceThreads(shape), shape_(shape), shared_(shape.blocks), exited_(shape.blocks) {
  if (shape.blocks * shape.warps > kMaxWarps) {
    throw Error("a launch of " + counted(shape.blocks * shape.warps, "warp"), shape.kernel,
                fmt::format("the race detector can tell {} apart: launch fewer, or switch the checks off",
                            kMaxWarps));
  }
}

RaceShadow& RaceDetector::shadow_of(Space space, std::uint32_t block) {
  if (space == Space::kGlobal) return global_;
  if (!shared_[block]) shared_[block] = std::make_unique<RaceShadow>();
  return *shared_[block];
}

void RaceDetector::access(const Group& group, const Access& access) {
  if (access.mask == 0 || (access.space != Space::kGlobal && access.space != Space::kShared)) return;
  RaceWarp& warp = this->warp(group);
  const Actor actor{.warp = warp,
                    .knowledge = warp,
                    .shadow = shadow_of(access.space, group.block),
                    .space = access.space,
                    .pc = group.pc,
                    .time = warp.time,
                    .verb = verb_of(access),
                    .non_coherent = access.kind == AccessKind::kLoadNonCoherent};
  if (access.order != Order::kWeak || access.is_atomic()) {
    strong(access, actor);
    return;
  }
  const bool stores = access.kind == AccessKind::kStore;
  const auto touched = actor.shadow.cut(access.mask, access.size, access.addresses, access.pattern, !stores);
  for (const auto& [page, segment] : touched) {
    if (stores)
      write(actor, *page, segment);
    else
      read(actor, *page, segment, touched.size() == 1);
  }
}

// Reads of the same lanes that the warp's record holds need no check again: nothing has been written there since. Small parts of what
// one instruction reads would only push each other out of the records.
void RaceDetector::read(const Actor& actor, Page& page, const Segment& segment, bool alone) {
  if (!alone && segment.bytes() < kLeastRecorded) {
    check_read(actor, page, segment);
    record_in_cells(actor, page, {segment, actor.time, actor.pc, true, actor.non_coherent});
    return;
  }
  ReadRecord& record = page.reads.find_or_add(read_key(actor.warp.warp_in_grid, segment)).first;
  const bool checked = record.checked && record.segment.lo <= segment.lo && record.segment.hi >= segment.hi &&
                       record.segment.mask == segment.mask && record.segment.deals_like(segment) &&
                       record.non_coherent == actor.non_coherent;
  if (checked && record.time == actor.time) return;
  if (!checked) check_read(actor, page, segment);
  RaceDetector::record(actor, page, segment, record);
}

void RaceDetector::check_read(const Actor& actor, Page& page, const Segment& segment) {
  const bool shared = actor.space == Space::kShared;
  if (!page.cells || !page.cells->written) {
    if (shared) uninitialised(actor, segment.lanes_at(segment.lo));
    return;
  }
  Cells& cells = page.cells_for(segment);
  for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
    const std::uint32_t lanes = segment.lanes_at(byte);
    if (lanes == 0) continue;
    const Cell& cell = cells.cells[byte >> cells.shift];
    const bool written = cell.is_written();
    if (!written && shared) uninitialised(actor, lanes);
    if (written && actor.non_coherent)
      non_coherent(actor.pc, actor.warp.thread(first_lane(lanes)), cell.write.pc);
    check_last_write(actor, cell, lanes);
    if (cell.strong) check_strong(actor, cell, lanes, false);
  }
}

void RaceDetector::write(const Actor& actor, Page& page, const Segment& segment) {
  Cells& cells = page.cells_for(segment);
  cells.written = true;
  check_reads(actor, page, segment, true);
  for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
    Cell& cell = cells.cells[byte >> cells.shift];
    const std::uint32_t lanes = segment.lanes_at(byte);
    check_last_write(actor, cell, lanes);
    check_cell_reads(actor, cell, lanes);
    if (cell.strong) check_strong(actor, cell, lanes, true);
    const Stamp stamp{actor.warp.thread(first_lane(lanes)), actor.time, actor.pc};
    if (!is_one_lane(lanes)) {
      race(actor, first_lane(lanes & (lanes - 1)), actor.verb, stamp, "two lanes write one place at once");
    }
    cell.overwrite(stamp);
  }
}

void RaceDetector::check_last_write(const Actor& actor, const Cell& cell, std::uint32_t lanes) {
  const Stamp& write = cell.write;
  if (write.time == 0 || actor.knowledge.all_know(write.thread / kLanes, write.time)) return;
  const bool in_flight = write.time == kInFlight;
  judge(actor, lanes, in_flight ? "cp.async" : "plain store", write,
        in_flight ? "a copy writes at any time until it is waited for" : "nothing orders them");
}

// A plain access against those with an order.
void RaceDetector::check_strong(const Actor& actor, const Cell& cell, std::uint32_t lanes, bool writes) {
  StrongSet& set = *cell.strong;
  set.accesses.for_each([&](std::uint32_t key, const StrongAccess& access) {
    const std::uint32_t other = key >> 9U;
    if ((!writes && access.write == 0) || actor.knowledge.all_know(other, access.time)) return;
    judge_strong(actor, lanes, set, other, access, "nothing orders them, and one of them is plain");
  });
}

// --- cp.async ---
//
// A copy reads and writes at any moment from its issue until it has been waited for, so it may touch nothing that others touch
// meanwhile. Its writes are stamped with a time that nobody knows, not even the lane itself, until the wait makes them that
// lane's. Its reads are judged at the wait: no write may have come that the lane didn't know of when it issued the copy.

void RaceDetector::copy_issued(const Group& group, const AsyncCopy& copy) {
  each_lane(copy.mask, [&](std::uint32_t lane) {
    if (copy.source_size[lane] != 0) check_poison(group, 1U << lane, copy.source_size[lane], copy.source);
  });
  RaceWarp& warp = this->warp(group);
  warp.copies.push_back({&copy, warp, copy.mask});
  const Actor writer{.warp = warp,
                     .knowledge = warp,
                     .shadow = shadow_of(Space::kShared, group.block),
                     .space = Space::kShared,
                     .pc = group.pc,
                     .time = kInFlight,
                     .verb = "cp.async's write"};
  for (const auto& [page, segment] :
       writer.shadow.cut(copy.mask, copy.size, copy.destination, copy.destination_pattern))
    write(writer, *page, segment);
  ++warp.time;  // what its lanes do from now on is not before the copy
}

bool RaceDetector::copy_complete(const Group& group, std::uint64_t id, std::uint32_t mask) {
  RaceWarp& warp = this->warp(group);
  const auto found =
      std::ranges::find(warp.copies, id, [](const RaceCopy& pending) { return pending.copy->id; });
  const AsyncCopy& copy = *found->copy;
  mask &= found->waiting;
  read_source({.warp = warp,
               .knowledge = found->issued,
               .shadow = global_,
               .space = Space::kGlobal,
               .pc = copy.pc,
               .time = warp.time,
               .verb = "cp.async's read"},
              copy, mask);

  RaceShadow& shared = shadow_of(Space::kShared, group.block);
  const Pattern pattern = mask == ~0U ? copy.destination_pattern : Pattern::kUnknown;
  for (const auto& [page, segment] : shared.cut(mask, copy.size, copy.destination, pattern)) {
    Cells& cells = page->cells_for(segment);
    for (std::uint32_t byte = segment.lo; byte < segment.hi; byte += 1U << cells.shift) {
      Stamp& stamp = cells.cells[byte >> cells.shift].write;
      if (stamp.time == kInFlight && stamp.pc == copy.pc && stamp.thread / kLanes == warp.warp_in_grid) {
        stamp.time = warp.time;
      }
    }
  }
  found->waiting &= ~mask;
  if (found->waiting != 0) return false;
  warp.copies.erase(found);
  return true;
}

void RaceDetector::read_source(const Actor& reader, const AsyncCopy& copy, std::uint32_t mask) {
  // From the wait on it is a read of the lanes that waited.
  const Actor waited{reader.warp, reader.warp, reader.shadow, reader.space,
                     reader.pc,   reader.time, reader.verb};
  const auto read = [&](std::uint32_t lanes, std::uint32_t size, const std::uint64_t* addresses,
                        Pattern pattern) {
    for (const auto& [page, segment] : global_.cut(lanes, size, addresses, pattern, true)) {
      check_read(reader, *page, segment);
      record(waited, *page, segment,
             page->reads.find_or_add(read_key(waited.warp.warp_in_grid, segment)).first);
    }
  };
  std::uint32_t whole = 0;
  each_lane(mask, [&](std::uint32_t lane) {
    if (copy.source_size[lane] == copy.size) whole |= 1U << lane;
  });
  read(whole, copy.size, copy.source, whole == ~0U ? copy.source_pattern : Pattern::kUnknown);
  std::uint64_t bytes[kLanes];
  each_lane(mask & ~whole, [&](std::uint32_t lane) {  // of any size, so byte by byte
    for (std::uint32_t i = 0; i < copy.source_size[lane]; ++i) {
      bytes[lane] = copy.source[lane] + i;
      read(1U << lane, 1, bytes, Pattern::kUnknown);
    }
  });
}

// --- Reads of memory that nothing has written ---

// Global memory is poisoned when it is allocated. Data may hold a poisoned byte or word by chance, but hardly a sector of them.
void RaceDetector::check_poison(const Group& group, std::uint32_t mask, std::uint32_t size,
                                const std::uint64_t* addresses) {
  std::uint64_t last_sector = ~std::uint64_t{0};
  each_lane(mask, [&](std::uint32_t lane) {
    const std::uint64_t address = addresses[lane];
    const std::uint64_t sector = address / kSectorBytes;
    if (std::exchange(last_sector, sector) == sector || !all_poison(address, address + size)) return;
    const Allocation* allocation = shape_.allocation_before(address);
    if (allocation == nullptr) return;
    const std::uint64_t begin = std::max(sector * kSectorBytes, allocation->address);
    const std::uint64_t end = std::min((sector + 1) * kSectorBytes, allocation->end());
    if (begin >= end || !all_poison(begin, end)) return;
    const Page& page = global_.page(address);
    if (page.cells && page.cells->cells[address % kPageBytes >> page.cells->shift].is_written()) return;
    report(FindingKind::kUninitialised, group.pc, group.warp_in_grid * kLanes + lane, 0,
           "load of global memory that nothing has written");
  });
}

void RaceDetector::uninitialised(const Actor& actor, std::uint32_t lanes) {
  report(FindingKind::kUninitialised, actor.pc, actor.warp.thread(first_lane(lanes)), 0,
         fmt::format("{} of shared memory that nothing has written", actor.verb));
}

// --- Findings ---

void RaceDetector::judge(const Actor& actor, std::uint32_t lanes, std::string_view other_verb,
                         const Stamp& other, std::string_view why) {
  const std::uint32_t unknowing = actor.knowledge.unknowing(lanes, other);
  if (unknowing != 0) race(actor, first_lane(unknowing), other_verb, other, why);
}

void RaceDetector::race(const Actor& actor, std::uint32_t lane, std::string_view other_verb,
                        const Stamp& other, std::string_view why) {
  const std::uint32_t warp = other.thread / kLanes;
  const std::string place =
      place_text(shape_, other.pc, warp / shape_.warps, warp % shape_.warps, other.thread % kLanes);
  report(FindingKind::kRace, actor.pc, actor.warp.thread(lane), other.pc,
         fmt::format("race: {} against the {} of ({}): {}", actor.verb, other_verb, place, why));
}

void RaceDetector::non_coherent(std::uint32_t pc, std::uint32_t thread, std::uint32_t other_pc) {
  report(FindingKind::kNonCoherentRead, pc, thread, other_pc,
         ".nc load of memory that is written during the launch: the read-only cache may hold what was there "
         "before");
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
  block_exit(group.block);
  shared_[group.block].reset();
}

}  // namespace sluice::ptx
