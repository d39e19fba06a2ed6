// The race detector's view of accesses with an order: atomic operations, ld and st with .relaxed, .acquire, .release or
// .volatile. Which of them synchronise is the PTX ISA's "release pattern" and "acquire pattern".
#include <algorithm>
#include <bit>

#include "ptx/race_detector.h"

namespace sluice::ptx {

void RaceDetector::strong(const Access& access, const Actor& actor) {
  const bool both = access.order == Order::kAcquireRelease || access.order == Order::kSequential;
  StrongOp op{};
  op.reads = access.kind != AccessKind::kStore;
  op.writes = !access.is_load();
  op.reduction = access.kind == AccessKind::kReduction;
  op.acquires = op.reads && !op.reduction && (both || access.order == Order::kAcquire);
  op.releases = op.writes && (both || access.order == Order::kRelease);
  // Only its block reaches shared memory, whatever the scope says; .volatile is relaxed at system scope.
  op.narrow = access.space == Space::kGlobal && access.order != Order::kVolatile &&
              (access.scope == Scope::kBlock || access.scope == Scope::kCluster);
  op.size = access.element != 0 ? access.element : access.size;
  const std::uint32_t elements = access.size / op.size;
  each_lane(access.mask, [&](std::uint32_t lane) {
    StrongOp of_lane = op;
    of_lane.lane = lane;
    if (has_lane(access.failed, lane)) of_lane.writes = of_lane.releases = false;
    for (std::uint32_t i = 0; i < elements; ++i) {
      of_lane.address = access.addresses[lane] + std::uint64_t{i} * op.size;
      strong_lane(actor, of_lane);
    }
  });
  if (op.releases) ++actor.warp.time;
}

void RaceDetector::strong_lane(const Actor& actor, const StrongOp& op) {
  RaceWarp& warp = actor.warp;
  Page& page = actor.shadow.page(op.address);
  const auto lo = static_cast<std::uint32_t>(op.address % kPageBytes);
  const Segment segment{lo, lo + op.size, 1U << op.lane};
  Cells& cells = page.cells_for(segment);
  StrongSet& set = cells.cells[lo >> cells.shift].make_strong();
  const RaceWarp::Poll poll{&set, set.last_write, actor.time, segment.mask, actor.pc};
  if (!op.writes && warp.poll == poll) return;
  cells.written = true;
  // An acquire comes after what it acquires, in this location too.
  if (op.reads && !op.reduction) acquire(warp, set, op);
  if (op.writes) check_reads(actor, page, segment, false);
  for (std::uint32_t byte = lo; byte < segment.hi; byte += 1U << cells.shift) {
    Cell& cell = cells.cells[byte >> cells.shift];
    check_last_write(actor, cell, segment.mask);
    if (op.writes) check_cell_reads(actor, cell, segment.mask);
    StrongSet& part = cell.make_strong();
    if (actor.space == Space::kShared && op.reads && !cell.is_written()) uninitialised(actor, segment.mask);
    check_against_strong(actor, part, op);

    const bool link = linked(warp, part, op);
    StrongAccess access{{segment.mask, actor.time, actor.pc}, 0};
    if (op.reads && !op.reduction && link)
      part.seen.find_or_add(warp.thread(op.lane)).first.add({actor.time, part.chain_from, part.last_write});
    if (op.writes) {
      access.write = ++part.last_write;
      if (!op.reads || !link) part.chain_from = part.last_write;
    }
    part.accesses.add(strong_key(warp.warp_in_grid, op.shape(), op.writes, op.narrow), access, warp.synced);
    part.narrow |= op.narrow;
    if (!op.writes) continue;
    if (byte == lo) {            // the first part stands for the location
      if (!op.reads || !link) {  // a new chain begins
        part.blocks.clear();
        part.device.reset();
      }
      release(warp, part, op);
    }
    part.writer = warp.thread(op.lane);
    part.writer_shape = op.shape();
    part.writer_narrow = op.narrow;
  }
  if (!op.writes) warp.poll = poll;
}

// Whether the last write and this operation are morally strong, so that the one is read by the other in the model's sense.
bool RaceDetector::linked(const RaceWarp& warp, const StrongSet& set, const StrongOp& op) const {
  if (set.chain_from == 0 || set.writer_shape != op.shape()) return false;
  const std::uint32_t writer_warp = set.writer / kLanes;
  return (!set.writer_narrow && !op.narrow) || same_block(warp, writer_warp);
}

void RaceDetector::check_against_strong(const Actor& actor, StrongSet& set, const StrongOp& op) {
  set.mixed |= set.shape != op.shape() && set.shape != StrongSet::kNoShape;
  set.shape = op.shape();
  if (!set.mixed && !set.narrow && !op.narrow) return;
  set.accesses.for_each([&](std::uint32_t key, const StrongAccess& access) {
    if (!op.writes && access.write == 0) return;
    const bool partial = (key >> 2U & 0x7fU) != op.shape();
    const bool apart = ((key & 1U) != 0 || op.narrow) && !same_block(actor.warp, key >> 9U);
    if (!partial && !apart) return;
    judge_strong(actor, 1U << op.lane, set, key >> 9U, access,
                 partial ? "they overlap only in part, so their order settles nothing"
                         : "the scope of one is a block, and the other is in another");
  });
}

// Causality order: a write comes before what follows a strong read that saw it, even without an acquire.
void RaceDetector::judge_strong(const Actor& actor, std::uint32_t lanes, StrongSet& set,
                                std::uint32_t other_warp, const StrongAccess& other, std::string_view why) {
  const auto has_seen = [&](std::uint32_t lane) {
    for (const auto& [thread, seen] : set.seen) {
      for (const Seen::Range& range : seen.ranges) {
        if (range.time != 0 && other.write >= range.from && other.write <= range.to &&
            actor.knowledge.unknowing(1U << lane, {thread, range.time, 0}) == 0)
          return true;
      }
    }
    return false;
  };
  each_lane(other.mask, [&](std::uint32_t other_lane) {
    const Stamp stamp{other_warp * kLanes + other_lane, other.time, other.pc};
    std::uint32_t unknowing = actor.knowledge.unknowing(lanes, stamp);
    if (other.write != 0)
      each_lane(unknowing, [&](std::uint32_t lane) { unknowing &= has_seen(lane) ? ~(1U << lane) : ~0U; });
    if (unknowing != 0)
      race(actor, first_lane(unknowing), other.write != 0 ? "store or atomic" : "load", stamp, why);
  });
}

void RaceDetector::acquire(RaceWarp& warp, const StrongSet& set, const StrongOp& op) const {
  ClockRef block;
  ClockRef device;
  if (linked(warp, set, op)) {
    const auto mine = std::ranges::find(set.blocks, warp.block, &BlockRelease::block);
    if (mine != set.blocks.end()) block = mine->known;
    device = set.device;
  }
  const bool anything = block || device;
  if (!warp.fences && !anything) return;
  // What was read here before, and what a later fence or acquire can still make of it.
  std::vector<Observed>& observed = warp.fence_of(op.lane).observed;
  auto here = std::ranges::find_if(
      observed, [&](const Observed& other) { return other.location == &set && other.shape == op.shape(); });
  if (anything && here == observed.end()) {
    observed.push_back({&set, op.shape(), block, device});
    here = observed.end() - 1;
  } else if (anything) {
    join_ref(here->block, block);
    join_ref(here->device, device);
  }
  if (!op.acquires || here == observed.end()) return;
  warp.learn(op.lane, here->block);
  if (op.narrow) return;
  warp.learn(op.lane, here->device);
  observed.erase(here);
}

void RaceDetector::release(RaceWarp& warp, StrongSet& set, const StrongOp& op) {
  ClockRef block;
  ClockRef device;
  if (op.releases) {
    block = clock_of(warp, op.lane, {warp.of(op.lane), warp.time, warp.synced});
    OwnRelease& own = set.own.find_or_add(warp.thread(op.lane)).first;
    if (own.shape != op.shape()) own = {};
    own.shape = op.shape();
    own.block = block;
    if (!op.narrow) own.device = block;
    device = own.device;
  } else if (const OwnRelease* own = set.own.find(warp.thread(op.lane));
             own != nullptr && own->shape == op.shape()) {
    block = own->block;
    device = own->device;
  }
  if (warp.fences && (!op.releases || op.narrow)) {
    const LaneFences& fences = (*warp.fences)[op.lane];
    if (fences.block.known) join_ref(block, clock_of(warp, op.lane, fences.block));
    if (fences.device.known) join_ref(device, clock_of(warp, op.lane, fences.device));
  }
  if (!block) return;
  const auto mine = std::ranges::find(set.blocks, warp.block, &BlockRelease::block);
  if (mine == set.blocks.end()) {
    set.blocks.push_back({warp.block, block});
  } else {
    join_ref(mine->known, block);
  }
  join_ref(set.device, device);
}

}  // namespace sluice::ptx
