// Counters against counting by hand, and virtual time along chains of waits.
#include "ptx/profile.h"

#include <algorithm>
#include <array>
#include <functional>
#include <map>
#include <random>
#include <set>

#include <gtest/gtest.h>

#include "ptx/virtual_time.h"
#include "tests/ptx/ptx_run.h"
#include "tests/ptx/race_script.h"
#include "tests/support/seed.h"

namespace sluice::ptx {
namespace {

using Addresses = std::array<std::uint64_t, kLanes>;

Addresses addresses(const std::function<std::uint64_t(std::uint32_t)>& of_lane) {
  Addresses result{};
  for (std::uint32_t lane = 0; lane < kLanes; ++lane) result[lane] = of_lane(lane);
  return result;
}

// NVIDIA's best practices guide, "Coalesced access to global memory": sequential, misaligned, strided.
TEST(Profile, SectorsOfAWarp) {
  const auto sectors = [](std::uint32_t size, const Addresses& at) {
    return count_sectors(~0U, size, at.data());
  };
  EXPECT_EQ(sectors(4, addresses([](std::uint32_t lane) { return 4096 + lane * 4; })), 4U);
  EXPECT_EQ(sectors(4, addresses([](std::uint32_t lane) { return 4096 + 16 + lane * 4; })), 5U);
  EXPECT_EQ(sectors(16, addresses([](std::uint32_t lane) { return 4096 + lane * 16; })), 16U);
  EXPECT_EQ(sectors(4, addresses([](std::uint32_t lane) { return 4096 + lane * 8; })), 8U);
  EXPECT_EQ(sectors(4, addresses([](std::uint32_t lane) { return 4096 + lane * 128; })), 32U);
  EXPECT_EQ(sectors(4, addresses([](std::uint32_t) { return 4096; })), 1U);
  EXPECT_EQ(count_sectors(1U << 7U, 4, addresses([](std::uint32_t lane) { return lane * 4; }).data()), 1U);
}

// CUDA programming guide, "Shared memory": strides of one, two and 32 words, one word for all, and rows that are padded.
TEST(Profile, WavefrontsOfAWarp) {
  const auto wavefronts = [](std::uint32_t size, const Addresses& at) {
    return count_wavefronts(~0U, size, at.data());
  };
  EXPECT_EQ(wavefronts(4, addresses([](std::uint32_t lane) { return lane * 4; })), 1U);
  EXPECT_EQ(wavefronts(4, addresses([](std::uint32_t lane) { return lane * 8; })), 2U);
  EXPECT_EQ(wavefronts(4, addresses([](std::uint32_t lane) { return lane * 128; })), 32U);
  EXPECT_EQ(wavefronts(4, addresses([](std::uint32_t lane) { return lane * 132; })), 1U);
  EXPECT_EQ(wavefronts(4, addresses([](std::uint32_t) { return 64; })), 1U);
  EXPECT_EQ(wavefronts(4, addresses([](std::uint32_t lane) { return 31 * 4 - lane * 4; })), 1U);
  EXPECT_EQ(wavefronts(2, addresses([](std::uint32_t lane) { return lane * 2; })), 1U);
  EXPECT_EQ(wavefronts(8, addresses([](std::uint32_t lane) { return lane * 8; })), 2U);
  EXPECT_EQ(wavefronts(16, addresses([](std::uint32_t lane) { return lane * 16; })), 4U);
  EXPECT_EQ(wavefronts(16, addresses([](std::uint32_t lane) { return lane * 32; })), 8U);
}

// A fault that ends the launch: what ran before it is counted, the faulty instruction included.
TEST(Profile, CountsUpToAFault) {
  PtxRun run{.text = R"(.version 8.4
.target sm_80
.address_size 64
.visible .entry k(.param .u64 buffer)
{
.reg .pred %p;
.reg .b32 %r<2>;
.reg .b64 %a;
ld.param.u64 %a, [buffer];
mov.u32 %r0, %laneid;
setp.lt.u32 %p, %r0, 8;
@%p st.global.u32 [%a], 1;
st.global.u32 [%a+4096], 1;
ret;
}
)"};
  const LaunchResult result = run(0);
  ASSERT_TRUE(has(result, FindingKind::kOutOfBounds)) << text_of(result);
  EXPECT_FALSE(result.completed);
  EXPECT_EQ(result.report.counters.warp_instructions, 5U);
  EXPECT_EQ(result.report.counters.thread_instructions, 32U * 4 + 8);
  EXPECT_EQ(result.report.counters.global_requests, 1U);
  EXPECT_TRUE(result.report.critical_path.empty());
  EXPECT_EQ(result.report.cycles, 0);
}

// Of the lanes that are served at once, 32, 16 or 8: as often as the busiest bank has different words, of the lanes' own size.
std::uint32_t wavefronts_of_banks(std::uint32_t mask, std::uint32_t size, const Addresses& at) {
  const std::uint32_t unit = std::max(size, 4U);
  const std::uint32_t lanes = 128 / unit;
  if (mask != 0 && std::ranges::all_of(at, [&](std::uint64_t a) { return a == at[0]; })) return 1;
  std::uint32_t sum = 0;
  for (std::uint32_t first = 0; first < kLanes; first += lanes) {
    std::map<std::uint64_t, std::set<std::uint64_t>> words;
    for (std::uint32_t lane = first; lane < first + lanes; ++lane) {
      if (has_lane(mask, lane)) words[at[lane] / unit % lanes].insert(at[lane] / unit);
    }
    std::size_t busiest = 0;
    for (const auto& [bank, of_bank] : words) busiest = std::max(busiest, of_bank.size());
    sum += static_cast<std::uint32_t>(busiest);
  }
  return sum;
}

TEST(Profile, ShortCutsCountWhatEveryLaneWould) {
  std::mt19937 random(static_cast<std::uint32_t>(test::seed_of_test()));
  for (int i = 0; i < 2000; ++i) {
    const std::uint32_t size = 1U << random() % 5;
    const std::uint32_t mask = random() % 2 == 0 ? ~0U : static_cast<std::uint32_t>(random()) | 1U;
    const std::uint64_t begin = random() % 64 * size;
    const std::uint32_t stride = random() % 3 == 0 ? size : static_cast<std::uint32_t>(random() % 4) * size;
    const Addresses at = addresses([&](std::uint32_t lane) { return begin + std::uint64_t{lane} * stride; });
    std::set<std::uint64_t> sectors;
    each_lane(mask, [&](std::uint32_t lane) { sectors.insert(at[lane] / 32); });
    EXPECT_EQ(count_sectors(mask, size, at.data()), sectors.size());
    // Who is told how the addresses lie counts the same.
    const bool contiguous = mask == ~0U && stride == size;
    const Pattern pattern = contiguous    ? Pattern::kContiguous
                            : stride == 0 ? Pattern::kOneAddress
                                          : Pattern::kUnknown;
    EXPECT_EQ(count_sectors(mask, size, at.data(), pattern), sectors.size());
    const std::uint32_t wavefronts = wavefronts_of_banks(mask, size, at);
    EXPECT_EQ(count_wavefronts(mask, size, at.data()), wavefronts);
    EXPECT_EQ(count_wavefronts(mask, size, at.data(), pattern), wavefronts);
  }
}

// One kernel with a known number of everything: 64 threads of one block read 256 bytes, write them to shared memory with a
// stride of two words, read them back, add them up atomically.
TEST(Profile, CountsOfALaunch) {
  const PtxRun run{.text = R"(.version 8.4
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p)
{
.reg .b32 %r<4>;
.reg .b64 %d<4>;
.shared .align 16 .b8 s[512];
ld.param.u64 %d0, [p];
mov.u32 %r0, %tid.x;
mad.wide.u32 %d1, %r0, 4, %d0;
ld.global.u32 %r1, [%d1];
mov.u64 %d2, s;
mad.wide.u32 %d2, %r0, 8, %d2;
st.shared.u32 [%d2], %r1;
ld.shared.u32 %r2, [%d2];
red.global.add.u32 [%d0+1024], %r2;
ret;
}
)",
                   .threads = 64};
  const LaunchResult result = run(1);
  EXPECT_TRUE(result.findings.empty()) << text_of(result);
  const Counters& counters = result.report.counters;
  EXPECT_EQ(counters.global_requests, 4U);
  EXPECT_EQ(counters.global_sectors, 2U * 4 + 2U * 1);
  EXPECT_EQ(counters.global_sectors_ideal, 2U * 4 + 2U * 1);
  EXPECT_EQ(counters.shared_wavefronts, 2U * 2 * 2);
  EXPECT_EQ(counters.shared_wavefronts_ideal, 2U * 2 * 1);
  EXPECT_EQ(counters.atomics, 64U);
  EXPECT_EQ(counters.waits, 0U);
  ASSERT_EQ(counters.traffic.size(), 1U);
  EXPECT_EQ(counters.traffic[0].name, "buffer");
  EXPECT_EQ(counters.traffic[0].read, 256U + 2 * 4);
  EXPECT_EQ(counters.traffic[0].written, 2U * 4);
}

TEST(VirtualTime, WhoWaitsTakesTheTimeOfTheLast) {
  RaceScript script(1, 64);
  script.as(0, 0);
  script.group().time = 1000;
  script.arrive(0).as(0, 1);
  script.group().time = 400;
  script.arrive(0).leave(0);
  EXPECT_GE(script.group().time, 1000);
  EXPECT_LT(script.group().time, 1100);
  script.observer().exit(script.group(), ~0U);
  script.finish();
  const LaunchReport& report = script.report();
  EXPECT_EQ(report.cycles, script.group().time);
  ASSERT_EQ(report.critical_path.size(), 3U);  // warp 0 to the barrier, the barrier, warp 1 to its end
  EXPECT_EQ(report.critical_path[0].warp, 0U);
  EXPECT_EQ(report.critical_path[0].end, 1000);
  EXPECT_EQ(report.critical_path[1].what, "barrier");
  EXPECT_EQ(report.critical_path[2].warp, 1U);
  for (std::size_t i = 1; i < 3; ++i) {
    EXPECT_EQ(report.critical_path[i].begin, report.critical_path[i - 1].end);
  }
}

// However often the machine lets a waiting lane poll, it waits until the release and no longer.
TEST(VirtualTime, PollsWaitForTheReleaseOnly) {
  const auto time_after = [](int polls) {
    RaceScript script(1, 64);
    constexpr std::uint64_t kFlag = 128;
    script.lane(0, 0, 0);
    script.group().time = 5000;
    script.access(AccessKind::kStore, Order::kRelease, Scope::kBlock, kFlag);
    script.lane(0, 1, 0);
    script.group().time = 100;
    const std::uint32_t pc = script.group().pc;
    for (int i = 0; i < polls; ++i) {
      script.group().pc = pc;  // the same instruction again
      script.access(AccessKind::kLoad, Order::kAcquire, Scope::kBlock, kFlag);
    }
    return script.group().time;
  };
  EXPECT_GT(time_after(1), 5000);
  EXPECT_LT(time_after(1), 5100);
  EXPECT_EQ(time_after(1000), time_after(1));
}

TEST(VirtualTime, EveryDependencyIsAStepOfTheCriticalPath) {
  // Three blocks hand a word on; each step costs at least what the hardware needs to see it.
  const auto relay = [](std::uint32_t blocks) {
    const PtxRun run{.text = R"(.version 8.4
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p)
{
.reg .pred %q;
.reg .b32 %r<4>;
.reg .b64 %d<4>;
ld.param.u64 %d0, [p];
mov.u32 %r0, %ctaid.x;
mov.u32 %r3, %tid.x;
setp.ne.u32 %q, %r3, 0;
@%q bra END;
mad.wide.u32 %d1, %r0, 64, %d0;
setp.eq.u32 %q, %r0, 0;
@%q bra SIGNAL;
POLL:
ld.acquire.gpu.global.u32 %r1, [%d1];
setp.eq.u32 %q, %r1, 0;
@%q bra POLL;
SIGNAL:
st.release.gpu.global.u32 [%d1+64], 1;
END:
ret;
}
)",
                     .blocks = blocks};
    return run(3).report;
  };
  const LaunchReport three = relay(3);
  const LaunchReport six = relay(6);
  const double latency = time_model(86).second;
  EXPECT_GE(six.cycles - three.cycles, 3 * 2 * latency);
  const auto waits = std::ranges::count_if(
      six.critical_path, [](const PathStep& step) { return step.what.find("wait for buffer+") == 0; });
  EXPECT_EQ(waits, 5);
  EXPECT_EQ(six.critical_path.back().what, "exit");
}

}  // namespace
}  // namespace sluice::ptx
