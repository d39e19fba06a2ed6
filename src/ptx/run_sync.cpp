// What lanes and warps do together: barriers, shuffles, votes.
#include <bit>

#include <fmt/format.h>

#include "ptx/executor.h"
#include "ptx/observer.h"
#include "ptx/warp_functions.h"

namespace sluice::ptx::run {
namespace {

// The lanes of `mask` whose value is that of the first of them. Values are words.
std::uint32_t same_as_first(const std::uint32_t* words, std::uint32_t mask) {
  const std::uint32_t value = words[first_lane(mask)];
  std::uint32_t same = 0;
  for (std::uint32_t i = 0; i < kLanes; ++i) same |= words[i] == value ? 1U << i : 0;
  return same & mask;
}

// Keeps in the group the lanes that execute this with one member mask, which it returns. The others of the group come here by
// themselves.
std::uint32_t members_of(const Executor& executor, Lanes& lanes, std::uint32_t mask, Row members_row) {
  Executor::keep_only(lanes, mask);
  const auto* words = lanes.of->rows.at<const std::uint32_t>(members_row);
  const std::uint32_t same = same_as_first(words, lanes.mask);
  if (same != lanes.mask) Executor::split(lanes, lanes.mask & ~same, lanes.pc);
  const std::uint32_t members = words[first_lane(lanes.mask)];
  if ((lanes.mask & ~members) != 0) {
    executor.fail(lanes, FindingKind::kAbsentLane,
                  fmt::format("a lane that is not in its own member mask {:#x}", members),
                  first_lane(lanes.mask & ~members));
  }
  return members;
}

// The same, and waits for the other members.
bool meet_members(Executor& executor, Lanes& lanes, std::uint32_t mask, Row members_row) {
  const std::uint32_t members = members_of(executor, lanes, mask, members_row);
  if ((members & ~lanes.of->existing) != 0 && members != ~0U) {
    executor.fail(lanes, FindingKind::kAbsentLane,
                  fmt::format("member mask {:#x} has lanes that the warp lacks", members),
                  first_lane(lanes.mask));
  }
  return executor.meet(lanes, members);
}

// After it: tells the observer, and goes on.
bool done(Executor& executor, Lanes& lanes) {
  if (executor.observer != nullptr) executor.observer->warp_exchange(lanes);
  ++lanes.pc;
  return true;
}

void store(const Rows& rows, Row row, const std::uint32_t* from, std::uint32_t mask) {
  auto* to = rows.at<std::uint32_t>(row);
  for (std::uint32_t i = 0; i < kLanes; ++i) to[i] = has_lane(mask, i) ? from[i] : to[i];
}

void store_in_all(const Rows& rows, Row row, std::uint32_t value, std::uint32_t mask) {
  auto* to = rows.at<std::uint32_t>(row);
  for (std::uint32_t i = 0; i < kLanes; ++i) to[i] = has_lane(mask, i) ? value : to[i];
}

void store_predicate(const Rows& rows, Row row, std::uint32_t bits, std::uint32_t mask) {
  auto* word = rows.at<std::uint32_t>(row);
  *word = (*word & ~mask) | (bits & mask);
}

}  // namespace

// PTX ISA, "shfl.sync": c holds the clamp in bits 0 to 4 and the segment's mask in bits 8 to 12.
bool shuffle(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  if (!meet_members(executor, lanes, mask, op.rows[4])) return false;
  const Rows& rows = lanes.of->rows;
  const auto* a = rows.at<const std::uint32_t>(op.rows[1]);
  const auto* b_row = rows.at<const std::uint32_t>(op.rows[2]);
  const auto* c_row = rows.at<const std::uint32_t>(op.rows[3]);
  std::uint32_t out[kLanes];
  std::uint32_t valid = 0;
  std::uint32_t absent = 0;
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    const std::uint32_t b = b_row[i] & 0x1fU;
    const std::uint32_t clamp = c_row[i] & 0x1fU;
    const std::uint32_t segment = (c_row[i] >> 8U) & 0x1fU;
    const std::uint32_t last = (i & segment) | (clamp & ~segment);
    const auto kind = static_cast<Shuffle>(op.variant);
    std::uint32_t from = i - b;
    if (kind == Shuffle::kDown) from = i + b;
    if (kind == Shuffle::kButterfly) from = i ^ b;
    if (kind == Shuffle::kIndex) from = (i & segment) | (b & ~segment);
    const bool inside = kind == Shuffle::kUp ? i >= b && from >= last : from <= last;
    if (!inside) from = i;
    valid |= inside ? 1U << i : 0;
    absent |= has_lane(lanes.mask, from) ? 0 : 1U << i;
    out[i] = a[from];
  }
  absent &= lanes.mask;
  if (absent != 0) {
    executor.fail(lanes, FindingKind::kAbsentLane, "a shuffle reads a lane that does not take part in it",
                  first_lane(absent));
  }
  store(rows, op.rows[0], out, lanes.mask);
  store_predicate(rows, op.more[0], valid, lanes.mask);
  return done(executor, lanes);
}

bool vote(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  if (!meet_members(executor, lanes, mask, op.rows[2])) return false;
  const Rows& rows = lanes.of->rows;
  const std::uint32_t ballot = *rows.at<const std::uint32_t>(op.rows[1]) & lanes.mask;
  const auto kind = static_cast<Vote>(op.variant);
  if (kind == Vote::kBallot) {
    store_in_all(rows, op.rows[0], ballot, lanes.mask);
  } else {
    const bool all = ballot == lanes.mask;
    const bool none = ballot == 0;
    const bool holds = kind == Vote::kAll ? all : (kind == Vote::kAny ? !none : all || none);
    store_predicate(rows, op.rows[0], holds ? ~0U : 0U, lanes.mask);
  }
  return done(executor, lanes);
}

bool match(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  if (!meet_members(executor, lanes, mask, op.rows[2])) return false;
  const Rows& rows = lanes.of->rows;
  const auto value = [&](std::uint32_t i) -> std::uint64_t {
    return op.width == 8 ? rows.at<const std::uint64_t>(op.rows[1])[i]
                         : rows.at<const std::uint32_t>(op.rows[1])[i];
  };
  std::uint32_t same[kLanes] = {};
  for (std::uint32_t i = 0; i < kLanes; ++i) {
    for (std::uint32_t j = 0; j < kLanes; ++j)
      same[i] |= has_lane(lanes.mask, j) && value(i) == value(j) ? 1U << j : 0;
  }
  if (static_cast<Match>(op.variant) == Match::kAll) {
    const bool all = same[first_lane(lanes.mask)] == lanes.mask;
    for (std::uint32_t& word : same) word = all ? lanes.mask : 0;
    store_predicate(rows, op.more[0], all ? ~0U : 0U, lanes.mask);
  }
  store(rows, op.rows[0], same, lanes.mask);
  return done(executor, lanes);
}

bool reduce(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  using Word = std::uint32_t;
  static constexpr auto kIsLess = [](Word a, Word b) { return static_cast<int>(a) < static_cast<int>(b); };
  static constexpr Word (*kReductions[])(Word, Word) = {// by Reduce
                                                        [](Word a, Word b) { return a + b; },
                                                        [](Word a, Word b) { return b < a ? b : a; },
                                                        [](Word a, Word b) { return a < b ? b : a; },
                                                        [](Word a, Word b) { return kIsLess(b, a) ? b : a; },
                                                        [](Word a, Word b) { return kIsLess(a, b) ? b : a; },
                                                        [](Word a, Word b) { return a & b; },
                                                        [](Word a, Word b) { return a | b; },
                                                        [](Word a, Word b) { return a ^ b; }};
  if (!meet_members(executor, lanes, mask, op.rows[2])) return false;
  const auto* a = lanes.of->rows.at<const Word>(op.rows[1]);
  Word result = a[first_lane(lanes.mask)];
  each_lane(lanes.mask & (lanes.mask - 1), [&](Word i) { result = kReductions[op.variant](result, a[i]); });
  store_in_all(lanes.of->rows, op.rows[0], result, lanes.mask);
  return done(executor, lanes);
}

bool active_mask(Executor& /*executor*/, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  store_in_all(lanes.of->rows, op.rows[0], mask, mask);
  ++lanes.pc;
  return true;
}

// bar.warp.sync: unlike the others, lanes may come to different ones of them.
bool warp_barrier(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  const std::uint32_t members = members_of(executor, lanes, mask, op.rows[1]);
  const auto waits_too = [&](const Lanes& other) {
    const Operation& its = executor.program.operations[other.pc];
    return &other == &lanes ||
           (other.state == Lanes::State::kMeeting && its.warp == &warp_barrier &&
            other.of->rows.at<const std::uint32_t>(its.rows[1])[first_lane(other.mask)] == members);
  };
  Warp& warp = *lanes.of;
  std::uint32_t here = 0;
  for (const auto& group : warp.groups) here |= waits_too(*group) ? group->mask : 0;
  if ((members & warp.alive() & ~here) != 0) {
    lanes.state = Lanes::State::kMeeting;
    return false;
  }
  double latest = 0;
  for (const auto& group : warp.groups) latest = waits_too(*group) ? std::max(latest, group->time) : latest;
  lanes.time = latest;
  if (executor.observer != nullptr) executor.observer->warp_barrier(lanes, here);
  for (const auto& group : warp.groups) {
    if (!waits_too(*group)) continue;
    group->time = lanes.time;
    if (group.get() != &lanes) {
      ++group->pc;
      executor.make_ready(*group);
    }
  }
  ++lanes.pc;
  if (warp.groups.size() == 1) return true;
  executor.join_equals(warp);
  return false;  // the turn ends: this group may have become part of another
}

bool barrier(Executor& executor, Lanes& lanes, const Operation& op, std::uint32_t mask) {
  Warp& warp = *lanes.of;
  Block& block = *warp.block;
  const bool aligned = op.count != 0;
  Executor::keep_only(lanes, mask);
  if (aligned) {
    if (warp.exited != 0) {
      executor.fail(lanes, FindingKind::kPartialBarrier,
                    "a barrier reached by a part of the warp: other lanes have exited",
                    first_lane(lanes.mask));
    }
    if (!executor.meet(lanes, ~0U)) return false;
  }
  const auto* ids = warp.rows.at<const std::uint32_t>(op.rows[1]);
  std::uint32_t same = same_as_first(ids, lanes.mask);
  const bool counted = op.rows[2] != kTrue;
  const auto* counts = counted ? warp.rows.at<const std::uint32_t>(op.rows[2]) : nullptr;
  if (counted) same &= same_as_first(counts, lanes.mask);
  if (same != lanes.mask) {
    if (aligned)
      executor.fail(lanes, FindingKind::kPartialBarrier, "lanes of a warp name different barriers",
                    first_lane(lanes.mask & ~same));
    Executor::split(lanes, lanes.mask & ~same, lanes.pc);
  }
  const std::uint32_t lane = first_lane(lanes.mask);
  const std::uint32_t id = ids[lane];
  if (id >= block.barriers.size())
    executor.fail(lanes, FindingKind::kOther, fmt::format("barrier {}: there are 16", id), lane);
  Barrier& barrier = block.barriers[id];
  const std::uint32_t all = executor.shape.warps * kLanes;
  const std::uint32_t expected = counted ? counts[lane] : all;
  if (expected == 0 || expected % kLanes != 0 || expected > all) {
    executor.fail(lanes, FindingKind::kOther,
                  fmt::format("a barrier of {}: needs a multiple of 32, at most the block's {}",
                              ptx::counted(expected, "thread"), all),
                  lane);
  }
  if (barrier.arrived != 0 && barrier.expected != expected) {
    executor.fail(lanes, FindingKind::kPartialBarrier,
                  fmt::format("barrier {} is used for {} threads here, for {} by those who wait", id,
                              expected, barrier.expected),
                  lane);
  }
  barrier.counted |= counted;
  barrier.expected = expected;
  barrier.arrived += static_cast<std::uint32_t>(std::popcount(lanes.mask));
  barrier.by[warp.index] |= lanes.mask;
  const std::uint32_t reached = Executor::reached(block, barrier);
  if (barrier.counted && reached > expected) {
    executor.fail(lanes, FindingKind::kPartialBarrier,
                  fmt::format("barrier {} for {} threads is reached by more", id, expected), lane);
  }
  const auto kind = static_cast<BarrierKind>(op.variant);
  if (kind != BarrierKind::kSync && kind != BarrierKind::kArrive) {
    barrier.votes += static_cast<std::uint32_t>(std::popcount(lanes.mask));
    barrier.ones += static_cast<std::uint32_t>(
        std::popcount(*warp.rows.at<const std::uint32_t>(op.rows[3]) & lanes.mask));
  }
  if (executor.observer != nullptr) executor.observer->barrier_arrive(lanes, id);
  const bool complete = reached == expected;
  if (kind == BarrierKind::kArrive) {
    if (complete) executor.finish_barrier(block, id);
    ++lanes.pc;
    return true;
  }
  lanes.state = Lanes::State::kInBarrier;
  barrier.waiting.push_back(&lanes);
  if (complete) executor.finish_barrier(block, id);
  return false;
}

}  // namespace sluice::ptx::run
