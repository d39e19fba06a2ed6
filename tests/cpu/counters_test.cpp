#include "cpu/counters.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "cpu/workers.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

constexpr Patience kSleepAtOnce{0, 0};

TEST(Counter, IsFullAtItsTotal) {
  Counter counter;
  counter.reset(3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(counter.is_full());
    counter.bump();
  }
  EXPECT_TRUE(counter.is_full());
  counter.wait(kSleepAtOnce);
  counter.reset(1);
  EXPECT_FALSE(counter.is_full());
}

TEST(Counters, AreEmptyAfterEveryReset) {
  Counters counters;
  const std::vector<std::uint32_t> small = {1, 2};
  const std::vector<std::uint32_t> large = {3, 1, 1, 1, 7};
  for (const auto& totals : {small, large, small, large}) {
    counters.reset(totals);
    for (std::size_t i = 0; i < totals.size(); ++i) {
      EXPECT_FALSE(counters[i].is_full());
      for (std::uint32_t bump = 0; bump < totals[i]; ++bump) counters[i].bump();
      EXPECT_TRUE(counters[i].is_full());
    }
  }
}

TEST(Backoff, EndsSoon) {
  for (const std::size_t n_processors : {1U, 2U, 64U}) {
    const auto start = std::chrono::steady_clock::now();
    std::uint32_t n = 0;
    for (Backoff backoff(Patience::of(2, n_processors)); backoff.pause();) ++n;
    EXPECT_GT(n, 0U);
    // 200 µs awake; more only if others take the core meanwhile.
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  }
}

TEST(Backoff, IsShorterWithMoreThreadsThanProcessors) {
  const Patience few = Patience::of(8, 2);
  const Patience enough = Patience::of(2, 2);
  EXPECT_LT(few.n_spins, enough.n_spins);
  EXPECT_EQ(few.yield_nanoseconds, 0U);
}

// Threads in a ring, each passing plain data on by a counter, with every patience: asleep, awake and in between, so that
// bumps meet sleepers at all moments. A lost wake-up hangs, a missing edge is a race for ThreadSanitizer.
TEST(Counter, PassesDataAlongAChainAwakeAndAsleep) {
  test::Random random(test::seed_of_test());
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kLinks = 200;
  for (int round = 0; round < 20; ++round) {
    Workers workers(kThreads, {});
    Counters counters;
    counters.reset(std::vector<std::uint32_t>(kLinks, kThreads));
    std::vector<std::uint32_t> data(kLinks * kThreads, 0);
    std::vector<Patience> patience(kThreads);
    for (Patience& it : patience) {
      it.n_spins = static_cast<std::uint32_t>(test::pick(random, 0, 50));
      it.yield_nanoseconds =
          static_cast<std::uint32_t>(test::pick(random, 0, 1) * test::pick(random, 0, 3000));
    }
    std::atomic<std::uint32_t> wrong = 0;
    workers.run([&](std::size_t worker) {
      std::uint32_t sum = 1;
      for (std::size_t link = 0; link < kLinks; ++link) {
        data[link * kThreads + worker] = sum;
        counters[link].bump();
        counters[link].wait(patience[worker]);
        sum = 0;
        for (std::size_t other = 0; other < kThreads; ++other) sum += data[link * kThreads + other];
        sum %= 1000;
      }
      std::uint32_t want = 1;
      for (std::size_t link = 0; link < kLinks; ++link)
        want = want * static_cast<std::uint32_t>(kThreads) % 1000;
      if (sum != want) ++wrong;
    });
    ASSERT_EQ(wrong.load(), 0U);
  }
}

}  // namespace
}  // namespace sluice::cpu
