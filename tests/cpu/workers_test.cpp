#include "cpu/workers.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double process_cpu_seconds() {
  timespec time{};
  EXPECT_EQ(::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time), 0);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

Placement on_usable_processors() {
  Placement placement;
  placement.n_processors = usable_processors();
  return placement;
}

// Plain variables throughout: ThreadSanitizer reports whatever `run` fails to order.
TEST(Workers, EveryWorkerRunsEveryJobOnce) {
  for (std::size_t n = 1; n <= 9; ++n) {
    Workers workers(n, on_usable_processors());
    ASSERT_EQ(workers.size(), n);
    std::vector<std::uint32_t> counts(n, 0);
    for (std::uint32_t round = 1; round <= 200; ++round) {
      const std::uint32_t before = round;
      workers.run([&](std::size_t worker) { counts[worker] += before == round ? 1 : 1000; });
      for (const std::uint32_t count : counts) ASSERT_EQ(count, round);
    }
  }
}

TEST(Workers, WorkerZeroIsTheCaller) {
  Workers workers(3, {});
  std::vector<std::thread::id> ids(3);
  workers.run([&](std::size_t worker) { ids[worker] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  const std::vector<std::thread::id> first = ids;
  workers.run([&](std::size_t worker) { ids[worker] = std::this_thread::get_id(); });
  EXPECT_EQ(ids, first);
  std::thread other(
      [&] { workers.run([&](std::size_t worker) { ids[worker] = std::this_thread::get_id(); }); });
  const std::thread::id other_id = other.get_id();
  other.join();
  EXPECT_EQ(ids[0], other_id);
}

TEST(Workers, StopWithoutAJobAndSoonAfterOne) {
  for (int i = 0; i < 50; ++i) Workers workers(4, on_usable_processors());
  for (int i = 0; i < 50; ++i) {
    Workers workers(4, on_usable_processors());
    std::atomic<int> n = 0;
    workers.run([&](std::size_t) { ++n; });
    ASSERT_EQ(n.load(), 4);
  }
}

// Pauses between rounds and inside them that cover awake, yielding and asleep on both sides.
TEST(Workers, RoundsMeetWorkersAwakeAndAsleep) {
  test::Random random(test::seed_of_test());
  Workers workers(3, on_usable_processors());
  std::vector<std::uint32_t> counts(3, 0);
  std::vector<std::size_t> naps(3);
  for (std::uint32_t round = 1; round <= 300; ++round) {
    const auto nap = [&] { return test::pick(random, 0, 2) == 0 ? test::pick(random, 0, 600) : 0; };
    std::generate(naps.begin(), naps.end(), nap);
    workers.run([&](std::size_t worker) {
      if (naps[worker] != 0) std::this_thread::sleep_for(std::chrono::microseconds(naps[worker]));
      ++counts[worker];
    });
    ASSERT_EQ(counts, std::vector<std::uint32_t>(3, round));
    if (const std::size_t n = nap(); n != 0) std::this_thread::sleep_for(std::chrono::microseconds(n));
  }
}

std::int64_t nanoseconds_of(clockid_t clock) {
  timespec time{};
  EXPECT_EQ(::clock_gettime(clock, &time), 0);
  return time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
}

// Not a nanosecond of any worker, once it sleeps: what else the machine does has no part in these clocks, only in when that is. One
// that never slept, or woke now and then to look, would be seen in each of the naps.
TEST(Workers, IdleCostsNoCpu) {
  Workers workers(8, on_usable_processors());
  std::vector<clockid_t> clocks(workers.size());
  workers.run(
      [&](std::size_t worker) { EXPECT_EQ(::pthread_getcpuclockid(::pthread_self(), &clocks[worker]), 0); });
  const auto used = [&] {
    std::vector<std::int64_t> times;
    for (std::size_t worker = 1; worker < clocks.size(); ++worker)
      times.push_back(nanoseconds_of(clocks[worker]));
    return times;
  };
  bool is_idle = false;
  for (int nap = 0; nap < 20 && !is_idle; ++nap) {
    const std::vector<std::int64_t> before = used();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    is_idle = used() == before;
  }
  EXPECT_TRUE(is_idle);
}

TEST(Workers, IdleAfterADispatchCostsLittleCpu) {
  Workers workers(2, on_usable_processors());
  std::vector<double> costs;
  for (int i = 0; i < 5; ++i) {
    workers.run([](std::size_t) {});
    const double before = process_cpu_seconds();
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    costs.push_back(process_cpu_seconds() - before);
  }
  std::sort(costs.begin(), costs.end());
  EXPECT_LT(costs[2], 0.003);  // 200 µs, and 15 times that for a sanitizer
}

// The main thread while a worker has a long task: it sleeps too.
TEST(Workers, WaitingForALongTaskCostsLittleCpu) {
  Workers workers(2, on_usable_processors());
  const double before = process_cpu_seconds();
  workers.run([](std::size_t worker) {
    if (worker == 1) std::this_thread::sleep_for(std::chrono::milliseconds(200));
  });
  EXPECT_LT(process_cpu_seconds() - before, 0.01);
}

// --- Steps as a model has them: `kOps` ops of `kTilesPerOp` tiles each, every op waiting for the whole one before.

constexpr std::size_t kOps = 30;
constexpr std::size_t kTilesPerOp = 16;

class Steps {
 public:
  Steps(std::size_t n_workers, std::size_t work)
      : workers_(n_workers, on_usable_processors()),
        totals_(kOps, kTilesPerOp),
        work_(work),
        sums_(kOps * kTilesPerOp) {}

  void run() {
    counters_.reset(totals_);
    next_.store(0, std::memory_order_relaxed);
    workers_.run([this](std::size_t) {
      while (true) {
        const std::size_t task = next_.fetch_add(1, std::memory_order_relaxed);
        if (task >= kOps * kTilesPerOp) return;
        const std::size_t op = task / kTilesPerOp;
        if (op > 0) counters_[op - 1].wait(workers_.patience());
        sums_[task] = compute(op == 0 ? 1 : sums_[task - kTilesPerOp]);
        counters_[op].bump();
      }
    });
  }

  // Of the median of `n` steps.
  double seconds(std::size_t n) {
    std::vector<double> times;
    for (std::size_t i = 0; i < n; ++i) {
      const auto start = Clock::now();
      run();
      times.push_back(seconds_since(start));
    }
    std::sort(times.begin(), times.end());
    return times[n / 2];
  }

 private:
  std::uint64_t compute(std::uint64_t x) const {
    for (std::size_t i = 0; i < work_; ++i) x = (x ^ (x >> 29U)) * 6364136223846793005U;
    return x;
  }

  Workers workers_;
  Counters counters_;
  std::vector<std::uint32_t> totals_;
  std::size_t work_;
  std::vector<std::uint64_t> sums_;
  std::atomic<std::size_t> next_ = 0;
};

// What spinning would do to it is a factor of tens: whoever waits holds a core for a time slice of milliseconds. The
// bound leaves room for a machine that is busy with other things; the figures are printed.
TEST(Workers, MoreThanProcessorsDoNotStall) {
  const std::size_t n_processors = usable_processors();
  for (const std::size_t work : {300U, 60'000U}) {  // steps of about 0.15 ms and 20 ms on two processors
    Steps few(n_processors, work);
    Steps many(4 * n_processors, work);
    const std::size_t n = work < 1000 ? 60 : 5;
    few.seconds(3);
    many.seconds(3);
    double best = 1e9;
    for (int attempt = 0; attempt < 3; ++attempt) {
      const double alone = few.seconds(n);
      const double crowded = many.seconds(n);
      best = std::min(best, crowded / alone);
      std::printf("%zu workers %.3f ms, %zu workers %.3f ms: %.2f times\n", n_processors, 1e3 * alone,
                  4 * n_processors, 1e3 * crowded, crowded / alone);
    }
    EXPECT_LT(best, work < 1000 ? 8 : 2.5);
  }
}

TEST(Workers, DispatchIsQuick) {
  Workers workers(usable_processors(), on_usable_processors());
  std::vector<double> times;
  for (int i = 0; i < 2000; ++i) {
    const auto start = Clock::now();
    workers.run([](std::size_t) {});
    times.push_back(seconds_since(start));
  }
  std::sort(times.begin(), times.end());
  std::printf("dispatch of %zu workers: %.2f us median, %.2f us 10%%\n", workers.size(),
              1e6 * times[times.size() / 2], 1e6 * times[times.size() / 10]);
  EXPECT_LT(times[times.size() / 10], 1e-3);
}

// Exits with 7 if the error says what is wrong.
[[noreturn]] void ask_for_threads_in_vain() {
  const rlimit none = {0, 0};
  // No limit binds root.
  if (::setrlimit(RLIMIT_NPROC, &none) != 0 || (::getuid() == 0 && ::setuid(65534) != 0)) std::_Exit(7);
  try {
    const Workers workers(4, {});
  } catch (const Error& error) {
    std::_Exit(std::string_view(error.what()).find("4 workers") != std::string_view::npos ? 7 : 2);
  }
  std::_Exit(1);
}

// A process that may not have more threads says so, and stops those that it has.
TEST(WorkersDeathTest, ThreadsThatCantBeMadeAreAnError) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(ask_for_threads_in_vain(), testing::ExitedWithCode(7), "");
}

}  // namespace
}  // namespace sluice::cpu
