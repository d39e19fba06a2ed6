#include "cpu/counters.h"

#include <chrono>
#include <climits>
#include <thread>

#include <linux/futex.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace sluice::cpu {
namespace {

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// The kernel's word is a plain one.
static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t) &&
              std::atomic<std::uint32_t>::is_always_lock_free);

long futex(const std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): the C library has no other way to it
  return ::syscall(SYS_futex, &word, operation | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

// How often the calling thread had to leave its processor to another one, yields included.
std::int64_t times_displaced() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

}  // namespace

std::int64_t nanoseconds_now() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Patience Patience::of(std::size_t n_workers, std::size_t n_processors) {
  if (n_workers > n_processors) return {32, 0, nullptr};
  // To fall asleep and be woken costs about 10 µs, on a virtual machine with an idle processor several times that. 200 µs
  // covers the differences between workers at an op's end and what a caller does between two steps.
  return {128, 200'000, nullptr};
}

bool Backoff::pause() {
  // ns. Nobody else there: below 1 µs. The kernel's own threads take some tens. A thread that computes keeps the processor for
  // a time slice, milliseconds.
  constexpr std::int64_t kLongYield = 500'000;
  constexpr std::int64_t kCrowded = 50'000'000;  // ns; so seldom do yields find out anew
  if (n_spins_ < patience_.n_spins) {
    ++n_spins_;
    relax();
    return true;
  }
  if (patience_.yield_nanoseconds == 0) return false;
  const std::int64_t before = nanoseconds_now();
  if (first_yield_ == 0) {
    first_yield_ = before;
    displaced_ = times_displaced();
  }
  std::this_thread::yield();
  const std::int64_t after = nanoseconds_now();
  // A virtual machine's host takes processors away, too: that is over when it shows, and no reason to sleep from now on.
  const bool is_crowded = after - before > kLongYield && times_displaced() != displaced_;
  if (is_crowded && patience_.crowded_until != nullptr)
    patience_.crowded_until->store(after + kCrowded, std::memory_order_relaxed);
  if (is_crowded || after - first_yield_ > patience_.yield_nanoseconds) patience_.yield_nanoseconds = 0;
  return true;
}

void sleep_on(const std::atomic<std::uint32_t>& word, std::uint32_t seen) {
  static_cast<void>(futex(word, FUTEX_WAIT, seen));  // whatever it returns, the caller looks again
}

void wake_all(const std::atomic<std::uint32_t>& word) {
  static_cast<void>(futex(word, FUTEX_WAKE, INT_MAX));
}

void Counter::wait_long(Patience patience) {
  for (Backoff backoff(patience); backoff.pause();)
    if (is_full()) return;
  std::uint32_t seen = word_.fetch_or(kAsleep, std::memory_order_acquire);
  while ((seen & ~kAsleep) != total_) {
    sleep_on(word_, seen | kAsleep);
    seen = word_.load(std::memory_order_acquire);
  }
}

void Counters::reset(std::span<const std::uint32_t> totals) {
  if (totals.size() > n_) {
    counters_ = std::make_unique<Counter[]>(totals.size());
    n_ = totals.size();
  }
  for (std::size_t i = 0; i < totals.size(); ++i) counters_[i].reset(totals[i]);
}

}  // namespace sluice::cpu
