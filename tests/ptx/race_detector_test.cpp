// The race detector by itself, in orders that no program can force: what each rule orders, and that its short cuts (whole
// warps, whole pages, cells) say the same as the long way.
#include "ptx/race_detector.h"

#include <array>
#include <map>
#include <random>
#include <set>
#include <span>
#include <tuple>

#include <gtest/gtest.h>

#include "tests/ptx/race_script.h"
#include "tests/support/seed.h"

namespace sluice::ptx {
namespace {

constexpr std::uint64_t kX = 0;
constexpr std::uint64_t kFlag = 2048;

// Accesses to global memory that read no bytes: the kinds that the observer looks at bytes for are given real ones.
class Device {
 public:
  std::uint64_t at(std::uint64_t offset) { return reinterpret_cast<std::uint64_t>(bytes_.data()) + offset; }

 private:
  alignas(512) std::array<std::byte, 8192> bytes_{};
};

TEST(RaceDetector, BlockBarrierOrdersAllWarpsOfTheBlock) {
  RaceScript with;
  with.as(0, 0).store(kX, 4, 4).barrier(0, {0, 1}).as(0, 1).load(kX, 4, 4);
  EXPECT_EQ(with.races(), 0U);
  RaceScript without;
  without.as(0, 0).store(kX, 4, 4).as(0, 1).load(kX, 4, 4);
  EXPECT_EQ(without.races(), 1U);
}

TEST(RaceDetector, BarrierDoesNotOrderWhatFollowsIt) {
  RaceScript script;
  script.as(0, 0).barrier(0, {0, 1}).as(0, 0).store(kX, 4, 4).as(0, 1).load(kX, 4, 4);
  EXPECT_EQ(script.races(), 1U);
}

TEST(RaceDetector, NamedBarrierOrdersItsOwnWarpsOnly) {
  RaceScript script(1, 96);
  script.as(0, 0).store(kX, 4, 4).barrier(1, {0, 1}).as(0, 1).load(kX, 4, 4);
  EXPECT_EQ(script.races(), 0U);
  RaceScript third(1, 96);
  third.as(0, 0).store(kX, 4, 4).barrier(1, {0, 1}).as(0, 2).load(kX, 4, 4);
  EXPECT_EQ(third.races(), 1U);
}

TEST(RaceDetector, ArrivingDoesNotLearnFromOthers) {
  // Warp 0 arrives, warp 1 waits: 0 → 1 is ordered, 1 → 0 isn't.
  RaceScript forth;
  forth.as(0, 0).store(kX, 4, 4).arrive(1).as(0, 1).arrive(1).leave(1).load(kX, 4, 4);
  EXPECT_EQ(forth.races(), 0U);
  RaceScript back;
  back.as(0, 1).store(kX, 4, 4).as(0, 0).arrive(1).as(0, 1).arrive(1).leave(1).as(0, 0).load(kX, 4, 4);
  EXPECT_EQ(back.races(), 1U);
}

TEST(RaceDetector, LanesOfAWarpAreOrderedByWarpBarriersAlone) {
  RaceScript without;
  without.as(0, 0).store(kX, 4, 4).lane(0, 0, 3).load(kX);
  EXPECT_EQ(without.races(), 1U);
  RaceScript with;
  with.as(0, 0).store(kX, 4, 4).sync_warp().lane(0, 0, 3).load(kX);
  EXPECT_EQ(with.races(), 0U);
  RaceScript exchange;
  exchange.as(0, 0).store(kX, 4, 4);
  exchange.observer().warp_exchange(exchange.group());
  exchange.lane(0, 0, 3).load(kX);
  EXPECT_EQ(exchange.races(), 1U);
}

TEST(RaceDetector, PartialWarpBarrierOrdersItsLanesOnly) {
  RaceScript inside;
  inside.lane(0, 0, 0).store(kX).as(0, 0, 0xffU).sync_warp().lane(0, 0, 7).load(kX);
  EXPECT_EQ(inside.races(), 0U);
  RaceScript outside;
  outside.lane(0, 0, 0).store(kX).as(0, 0, 0xffU).sync_warp().lane(0, 0, 8).load(kX);
  EXPECT_EQ(outside.races(), 1U);
}

TEST(RaceDetector, LanesThatStoreToOnePlaceAtOnceRace) {
  RaceScript script;
  script.as(0, 0).store(kX);
  EXPECT_EQ(script.races(), 1U);
  RaceScript one;
  one.lane(0, 0, 5).store(kX);
  EXPECT_EQ(one.races(), 0U);
}

TEST(RaceDetector, NeighbouringHalvesOfAWordDoNotRace) {
  RaceScript halves;
  halves.as(0, 0).store(kX, 2, 2).as(0, 1).store(kX + 64, 2, 2).as(0, 0).load(kX, 2, 2);
  EXPECT_EQ(halves.races(), 0U);
  RaceScript bytes;  // byte 1 is the second of lane 0's half, and lane 1 writes it
  bytes.as(0, 0).store(kX, 2, 2).store(kX, 1, 1);
  EXPECT_EQ(bytes.races(), 1U);
}

TEST(RaceDetector, ReadsAreRememberedInEveryShape) {
  // Write, barrier, read by a shape, then an unordered write: always a race, and none behind a barrier.
  const auto script = [](auto read, bool ordered) {
    RaceScript script(1, 96);
    script.as(0, 0).store(kX, 16, 16).barrier(0, {0, 1, 2});
    read(script);
    if (ordered) script.barrier(0, {0, 1, 2});
    return script.as(0, 0).store(kX, 16, 16).races();
  };
  const auto whole = [](RaceScript& s) { s.as(0, 1).load(kX, 16, 16); };
  const auto part = [](RaceScript& s) { s.as(0, 1).load(kX + 128, 4, 4); };
  const auto broadcast = [](RaceScript& s) { s.as(0, 1).load(kX + 8); };
  const auto strided = [](RaceScript& s) { s.as(0, 1, 0xfU).load(kX, 4, 36); };
  const auto twice = [](RaceScript& s) {
    s.as(0, 1).load(kX, 16, 16).sync_warp().load(kX + 4).as(0, 2).load(kX, 4, 12).as(0, 2).load(kX, 8, 8);
  };
  EXPECT_EQ(script(whole, false), 1U);
  EXPECT_EQ(script(part, false), 1U);
  EXPECT_EQ(script(broadcast, false), 1U);
  EXPECT_EQ(script(strided, false), 1U);
  EXPECT_GE(script(twice, false), 2U);
  EXPECT_EQ(script(whole, true), 0U);
  EXPECT_EQ(script(part, true), 0U);
  EXPECT_EQ(script(broadcast, true), 0U);
  EXPECT_EQ(script(strided, true), 0U);
  EXPECT_EQ(script(twice, true), 0U);
}

TEST(RaceDetector, OlderReadIsNotForgottenForALaterOne) {
  // Lane 0 reads; the warp's time moves on by another lane's release; lane 1 reads and then writes: it knows itself, not lane 0.
  RaceScript script;
  script.as(0, 0).store(kX, 16, 16).barrier(0, {0, 1});
  script.lane(0, 0, 0).load(kX).lane(0, 0, 9).fence(Scope::kGpu).lane(0, 0, 1).load(kX).store(kX);
  EXPECT_EQ(script.races(), 1U);
}

TEST(RaceDetector, CopyInFlightBelongsToNobody) {
  Device device;
  RaceScript waited;
  const std::uint64_t done = waited.as(0, 0).copy(device.at(0), kX);
  waited.wait(done).load(kX, 16, 16);
  EXPECT_EQ(waited.races(), 0U);

  RaceScript early;
  early.as(0, 0).copy(device.at(0), kX);
  early.load(kX, 16, 16);
  EXPECT_EQ(early.races(), 1U);

  // The lane that waited may read, its neighbours only behind a barrier.
  RaceScript neighbour;
  const std::uint64_t own = neighbour.as(0, 0).copy(device.at(0), kX);
  neighbour.wait(own).lane(0, 0, 1).load(kX);
  EXPECT_EQ(neighbour.races(), 1U);
  RaceScript synced;
  const std::uint64_t shared = synced.as(0, 0).copy(device.at(0), kX);
  synced.wait(shared).sync_warp().lane(0, 0, 1).load(kX);
  EXPECT_EQ(synced.races(), 0U);
}

TEST(RaceDetector, SourceOfACopyMayNotChangeBeforeItIsWaitedFor) {
  Device device;
  const auto script = [&](bool before) {
    RaceScript script;
    const auto store = [&] {
      script.access(AccessKind::kStore, Order::kWeak, Scope::kNone, device.at(0), 16, 16, Space::kGlobal);
    };
    script.as(0, 0);
    if (before) store();
    const std::uint64_t copy = script.copy(device.at(0), kX);
    if (!before) store();
    return script.wait(copy).races();
  };
  EXPECT_EQ(script(true), 0U);
  EXPECT_EQ(script(false), 1U);
}

TEST(RaceDetector, FailedCompareAndSwapReleasesNothing) {
  const auto script = [](std::uint32_t failed) {
    RaceScript script;
    script.lane(0, 0, 0).access(AccessKind::kStore, Order::kRelaxed, Scope::kBlock, kFlag);
    script.barrier(0, {0, 1});
    script.lane(0, 0, 0).store(kX).access(AccessKind::kAtomic, Order::kRelease, Scope::kBlock, kFlag, 4, 0,
                                          Space::kShared, failed);
    return script.lane(0, 1, 0)
        .access(AccessKind::kLoad, Order::kAcquire, Scope::kBlock, kFlag)
        .load(kX)
        .races();
  };
  EXPECT_EQ(script(0), 0U);
  EXPECT_EQ(script(1), 1U);
}

TEST(RaceDetector, NonCoherentReadsOfWrittenMemoryAreFoundInEitherOrder) {
  Device device;
  const auto access = [&](RaceScript& script, AccessKind kind) {
    script.access(kind, Order::kWeak, Scope::kNone, device.at(0), 4, 4, Space::kGlobal);
  };
  RaceScript read_last;
  access(read_last.as(0, 0), AccessKind::kStore);
  access(read_last.barrier(0, {0, 1}).as(0, 1), AccessKind::kLoadNonCoherent);
  EXPECT_EQ(read_last.count(FindingKind::kNonCoherentRead), 1U);
  RaceScript read_first;
  access(read_first.as(0, 0), AccessKind::kLoadNonCoherent);
  access(read_first.barrier(0, {0, 1}).as(0, 1), AccessKind::kStore);
  EXPECT_EQ(read_first.count(FindingKind::kNonCoherentRead), 1U);
  RaceScript coherent;
  access(coherent.as(0, 0), AccessKind::kStore);
  access(coherent.barrier(0, {0, 1}).as(0, 1), AccessKind::kLoad);
  EXPECT_EQ(coherent.count(FindingKind::kNonCoherentRead), 0U);
}

TEST(RaceDetector, SharedMemoryIsUninitialisedUntilWritten) {
  RaceScript script;
  script.as(0, 0, 0xffffU).store(kX, 4, 4).as(0, 0).load(kX, 4, 4);
  EXPECT_EQ(script.count(FindingKind::kUninitialised), 1U);
  RaceScript other_block;
  other_block.as(0, 0).store(kX, 4, 4).as(1, 0).load(kX, 4, 4);
  EXPECT_EQ(other_block.count(FindingKind::kUninitialised), 1U);
  RaceScript written;
  written.as(0, 0).store(kX, 4, 4).load(kX, 4, 4);
  EXPECT_EQ(written.count(FindingKind::kUninitialised), 0U);
}

// Against the definition: random programs of plain accesses and barriers in one block, whose order is computed for every pair
// of accesses by reachability over single lanes.
TEST(RaceDetector, AgreesWithTheDefinitionOnRandomPrograms) {
  std::mt19937 random(static_cast<std::uint32_t>(test::seed_of_test()));
  const auto below = [&](std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); };
  std::size_t racy = 0;
  Device device;
  for (int program = 0; program < 600; ++program) {
    struct Event {
      bool store;
      std::uint64_t lo, hi;
      std::uint32_t lane, step;
      std::vector<std::uint32_t> known;  // of each lane, up to which step
    };
    constexpr std::uint32_t kThreads = 96;
    RaceScript script(1, kThreads);
    script.tell_patterns(below(2) == 0);
    struct Copy {
      std::uint64_t id;
      std::uint32_t warp, mask;  // lanes that have yet to wait
      std::size_t first, end;    // of its events
    };
    std::vector<Copy> copies;
    constexpr std::uint32_t kNever = ~0U;  // while a copy is in flight nobody knows that it has written
    std::vector<std::vector<std::uint32_t>> known(kThreads, std::vector<std::uint32_t>(kThreads, 0));
    std::vector<Event> events;
    std::set<std::pair<std::uint32_t, std::uint32_t>> expected;  // (earlier step, later step)
    const auto join = [&](std::vector<std::uint32_t> lanes, std::uint32_t step) {
      for (const std::uint32_t lane : lanes) known[lane][lane] = step;
      std::vector<std::uint32_t> all(kThreads, 0);
      for (const std::uint32_t lane : lanes) {
        for (std::uint32_t i = 0; i < kThreads; ++i) all[i] = std::max(all[i], known[lane][i]);
      }
      for (const std::uint32_t lane : lanes) known[lane] = all;
    };
    script.as(0, 0).store(0, 16, 16).store(512, 16, 16).barrier(0, {0, 1, 2});
    std::vector<std::uint32_t> everyone(kThreads);
    for (std::uint32_t i = 0; i < kThreads; ++i) everyone[i] = i;
    join(everyone, script.step());
    // What the lanes do in this step, each to bytes of its own.
    const auto happen = [&](bool store, std::span<const std::uint32_t> by, std::uint64_t begin,
                            std::uint32_t stride, std::uint32_t size) {
      std::vector<Event> now;
      for (const std::uint32_t lane : by) {
        const std::uint64_t lo = begin + std::uint64_t{lane % kLanes} * stride;
        known[lane][lane] = script.step();
        now.push_back({store, lo, lo + size, lane, script.step(), known[lane]});
      }
      for (const Event& later : now) {
        for (const Event& earlier : events) {
          if ((!later.store && !earlier.store) || later.lo >= earlier.hi || earlier.lo >= later.hi) continue;
          if (later.known[earlier.lane] < earlier.step) expected.insert({earlier.step, later.step});
        }
      }
      events.insert(events.end(), now.begin(), now.end());
    };
    for (int i = 0; i < 14; ++i) {
      const std::uint32_t warp = below(3);
      const std::uint32_t mask = below(3) == 0   ? 1U << below(32)
                                 : below(3) == 0 ? static_cast<std::uint32_t>(random()) | 1U
                                                 : ~0U;
      script.as(0, warp, mask);
      std::vector<std::uint32_t> lanes;
      each_lane(mask, [&](std::uint32_t lane) { lanes.push_back(warp * kLanes + lane); });
      const std::uint32_t what = below(14);
      if (what == 3) {
        const std::uint32_t size = 4U << below(3);
        const std::uint64_t begin = below(4) * 128U;
        const std::size_t first = events.size();
        copies.push_back({script.copy(device.at(0), begin, size), warp, mask, first, first + lanes.size()});
        happen(true, lanes, begin, size, size);
        for (std::size_t event = first; event < events.size(); ++event) events[event].step = kNever;
        continue;
      }
      if (what >= 4 && what <= 6) {
        if (copies.empty()) continue;
        Copy& copy = copies[below(static_cast<std::uint32_t>(copies.size()))];
        const std::uint32_t waiting = below(4) == 0 && (copy.mask & mask) != 0 ? copy.mask & mask : copy.mask;
        if (waiting == 0) continue;
        copy.mask &= ~waiting;
        script.as(0, copy.warp, waiting).wait(copy.id);
        for (std::size_t event = copy.first; event < copy.end; ++event) {
          const std::uint32_t lane = events[event].lane;
          if (has_lane(waiting, lane % kLanes)) events[event].step = known[lane][lane] = script.step();
        }
        continue;
      }
      if (what == 0) {
        script.barrier(1, {0, 1, 2});
        join(everyone, script.step());
        continue;
      }
      if (what == 1) {
        script.sync_warp();
        join(lanes, script.step());
        continue;
      }
      if (what == 2) {  // a pair of warps
        const std::uint32_t other = (warp + 1 + below(2)) % 3;
        script.as(0, warp).barrier(2, {warp, other});
        std::vector<std::uint32_t> both;
        for (std::uint32_t lane = 0; lane < kLanes; ++lane)
          both.insert(both.end(), {warp * kLanes + lane, other * kLanes + lane});
        join(both, script.step());
        continue;
      }
      const std::uint32_t size = 1U << below(5);
      const std::uint32_t strides[] = {size, size, size, 0, 2 * size, 16, 80};
      const std::uint32_t stride = strides[below(7)];
      const bool store = below(3) == 0 && stride >= size;
      const std::uint64_t begin = below(4) * 128U / size * size;
      script.access(store ? AccessKind::kStore : AccessKind::kLoad, Order::kWeak, Scope::kNone, begin, size,
                    stride);
      happen(store, lanes, begin, stride, size);
    }
    // The detector keeps the latest access for each place, so of several races with one step it may name another; but a step
    // that races is always found, up to the first race: what follows it may be hidden behind the racing write.
    std::set<std::uint32_t> found;
    for (const Finding& finding : script.finish()) {
      if (finding.kind == FindingKind::kRace) found.insert(finding.pc);
    }
    std::set<std::uint32_t> racing;
    for (const auto& [earlier, later] : expected) racing.insert(later);
    for (const std::uint32_t step : found)
      EXPECT_TRUE(racing.contains(step)) << "program " << program << " step " << step;
    if (racing.empty()) continue;
    ++racy;
    EXPECT_TRUE(found.contains(*racing.begin())) << "program " << program << " step " << *racing.begin();
  }
  EXPECT_GT(racy, 100U);
  EXPECT_LT(racy, 580U);
}

}  // namespace
}  // namespace sluice::ptx
