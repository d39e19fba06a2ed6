// Probes must do what they are credited with: read every byte once, and all the arithmetic that they count.
#include "cpu/probe.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/reserved_memory.h"
#include "cpu/kernels.h"
#include "cpu/placement.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using test::pick;
using test::Random;

// Random words: one that is read twice in place of another changes the sum.
TEST(ReadLoops, SumEveryWordOnce) {
  Random random(test::seed_of_test());
  const std::size_t n = kReadGranule * pick(random, 1, 9);
  ReservedMemory memory(n);
  std::vector<std::uint64_t> words(n / sizeof(std::uint64_t));
  std::ranges::generate(words, random);
  std::memcpy(memory.data(), words.data(), n);
  std::uint64_t want = 0;
  for (const std::uint64_t word : words) want += word;
  for (const ReadLoop* loop : read_loops()) EXPECT_EQ(loop->read(memory.data(), n), want) << name_of(*loop);
  for (std::size_t i = 0; i < kPortableReads.n; ++i)
    EXPECT_EQ(kPortableReads.begin[i].read(memory.data(), n), want) << name_of(kPortableReads.begin[i]);
}

TEST(ReadLoops, AreManyAndAllDifferent) {
  std::set<std::string> names;
  for (const ReadLoop* loop : read_loops()) EXPECT_TRUE(names.insert(name_of(*loop)).second);
  EXPECT_GE(names.size(), 12U);
}

TEST(ReadProbe, HoldsWhatItWasAskedForAndFindsTheBest) {
  for (const std::size_t n_workers : {1U, 2U, 3U}) {
    Workers workers(n_workers, Placement());
    ReadProbe probe(workers, 1000000);
    EXPECT_GE(probe.bytes(), 999000U);
    EXPECT_LE(probe.bytes(), 1000000U + n_workers * kReadGranule);
    probe.measure();
    probe.measure();
    const Bandwidth best = probe.best();
    ASSERT_NE(best.loop, nullptr);
    EXPECT_GT(best.bytes_per_second, 1e6);   // anything
    EXPECT_LT(best.bytes_per_second, 1e14);  // nothing that exists
  }
}

TEST(PeakProbe, EveryUnitOfEveryInstructionSetRuns) {
  std::size_t n = 0;
  const Kernels* const* all = available_kernels(&n);
  Workers workers(1, Placement());
  for (std::size_t i = 0; i < n; ++i) {
    PeakProbe probe(workers, all[i]->name);
    probe.measure();
    for (const Unit unit : {Unit::kBf16, Unit::kFp32, Unit::kInt8}) {
      EXPECT_NE(arithmetic_loop(all[i]->name, unit).instruction, nullptr);
      // The slowest: two of four lanes a cycle at 100 MHz. The fastest: 2048 a cycle at 10 GHz.
      EXPECT_GT(probe.flops_per_second(unit), 1e7) << all[i]->name;
      EXPECT_LT(probe.flops_per_second(unit), 1e14) << all[i]->name;
    }
    if (std::string(all[i]->name) == "portable") {
      EXPECT_EQ(probe.flops_per_second(Unit::kBf16), probe.flops_per_second(Unit::kFp32));
    }
  }
}

// Twice the rounds must take twice the time: a loop that the compiler has seen through would not. The best of several
// tries, since machines are shared; a fifth is allowed for what remains.
TEST(PeakProbe, TimeGrowsWithTheRounds) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](const ArithmeticLoop& loop, std::size_t rounds) {
    const auto start = Clock::now();
    loop.run(rounds);
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  std::size_t n = 0;
  const Kernels* const* all = available_kernels(&n);
  for (std::size_t i = 0; i < n; ++i) {
    for (const Unit unit : {Unit::kBf16, Unit::kFp32, Unit::kInt8}) {
      const ArithmeticLoop& loop = arithmetic_loop(all[i]->name, unit);
      constexpr std::size_t kRounds = 20000;
      // The least of both, taken in turn, until it shows or for long enough that a busy processor can't be the reason.
      double once = seconds(loop, kRounds);
      double four_times = seconds(loop, 4 * kRounds);
      for (int tries = 1; tries < 15 || (tries < 5000 && four_times <= 2 * once); ++tries) {
        once = std::min(once, seconds(loop, kRounds));
        four_times = std::min(four_times, seconds(loop, 4 * kRounds));
      }
      EXPECT_GT(four_times, 2 * once) << loop.instruction;
      // 16 sums in less than 0.2 ns each: nothing does that.
      EXPECT_GT(once, static_cast<double>(kRounds) * 0.2e-9) << loop.instruction;
    }
  }
}

TEST(MemoryBuffer, IsBeyondTheCacheButWithinTheLimit) {
  constexpr std::size_t kMebibyte = std::size_t{1} << 20U;
  EXPECT_GE(memory_buffer_bytes(std::size_t{1} << 40U), 256 * kMebibyte);
  EXPECT_GE(memory_buffer_bytes(std::size_t{1} << 40U), 8 * last_level_cache());
  EXPECT_EQ(memory_buffer_bytes(kMebibyte), kMebibyte);
}

TEST(UnitOf, IsTheWeightsType) {
  using program::OpKind;
  EXPECT_EQ(unit_of(OpKind::kMlpIn, model::DType::kBF16), Unit::kBf16);
  EXPECT_EQ(unit_of(OpKind::kHead, model::DType::kF16), Unit::kFp32);
  EXPECT_EQ(unit_of(OpKind::kMix, model::DType::kBF16), Unit::kFp32);
}

}  // namespace
}  // namespace sluice::cpu
