// The counters of a dispatch, and how workers wait for them.
//
// Memory. A counter is one atomic word: how often it was bumped, and one bit that says that somebody sleeps on it. The
// argument that a waiter which returns sees all that the counter's tasks wrote:
//
//   1. A task's writes are sequenced before its bump, which is a release operation.
//   2. After the reset all operations that change the word are read-modify-writes: bumps, and the setting of the bit. So
//      each continues the release sequence of every bump that precedes it in the word's modification order, whoever
//      did it and with whatever order it was done (C++20 [intro.races]).
//   3. The bumps are exactly `total`. A load that reads the full count reads a value that stands behind all of them, hence
//      in the release sequence of each; being an acquire operation it synchronises with each. That is why a wait is always
//      for the total: a count below it would not say whose bumps they are.
//   4. What a task itself waited for happens before its bump, so it happens before all that waits for the bump: waits
//      compose, and a task need not wait again for what its producers waited for.
//   5. Writing the zero is no read-modify-write, so it has to be ordered by other means: the thread that starts a
//      dispatch resets the counters before it lets the workers go (workers.h), after the last dispatch's workers are done.
//
// Nobody sleeps forever: a sleeper sets its bit by a read-modify-write. If the last bump stands before it in the
// modification order, the sleeper reads the full count and does not sleep; if behind, the bump reads the bit and
// wakes. The kernel compares the word before it puts a thread to sleep, under the lock that the waking takes.
//
// No fence is needed, so ThreadSanitizer sees every edge. tests/cpu/protocol_test.cpp explores all executions of a small
// Program under a model of these rules, and shows which of them each weaker variant breaks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace sluice::cpu {

// How long a waiter stays awake. A worker whose neighbour has lost its core must not burn the core that the neighbour
// needs; one whose neighbour runs should see its bump at once.
struct Patience {
  std::uint32_t n_spins = 0;            // pauses in place, some 20 to 50 ns each
  std::uint32_t yield_nanoseconds = 0;  // then lets others run, for that long in all
  // Told until when (steady clock, ns) yielding is known not to pay, if anywhere.
  std::atomic<std::int64_t>* crowded_until = nullptr;

  // For `n_workers` threads that share `n_processors`. With more threads than processors, whoever waits holds up the one
  // that it waits for: then it sleeps nearly at once.
  static Patience of(std::size_t n_workers, std::size_t n_processors);
};

std::int64_t nanoseconds_now();  // steady clock

class Backoff {
 public:
  explicit Backoff(Patience patience) : patience_(patience) {}

  // Passes a little time; false once patience is exhausted. A yield that takes long because another thread ran meanwhile
  // shows that others want the core, and exhausts it.
  bool pause();

 private:
  Patience patience_;
  std::uint32_t n_spins_ = 0;
  std::int64_t first_yield_ = 0;  // ns
  std::int64_t displaced_ = 0;    // before it, by other threads
};

// One word to sleep on: wakes when it no longer holds `seen` or when woken, and at times without reason.
void sleep_on(const std::atomic<std::uint32_t>& word, std::uint32_t seen);
void wake_all(const std::atomic<std::uint32_t>& word);

// Counts to a total. A cache line of its own: workers bump different counters at the same time.
class alignas(64) Counter {
 public:
  // Neither while a dispatch runs. `total` below 2^31.
  void reset(std::uint32_t total) {
    total_ = total;
    word_.store(0, std::memory_order_relaxed);
  }

  // By `n`: what one worker has to say at once. n bumps of one in a row.
  void bump(std::uint32_t n = 1) {
    const std::uint32_t total = total_;  // after the last bump it may be reset at any moment
    if (word_.fetch_add(n, std::memory_order_release) == (kAsleep | (total - n))) wake_all(word_);
  }
  bool is_full() const { return (word_.load(std::memory_order_acquire) & ~kAsleep) == total_; }

  // Returns when the counter has its total: spins, yields, then sleeps.
  void wait(Patience patience) {
    if (!is_full()) wait_long(patience);
  }

 private:
  static constexpr std::uint32_t kAsleep = 1U << 31U;

  void wait_long(Patience patience);

  std::atomic<std::uint32_t> word_ = 0;
  std::uint32_t total_ = 0;
};

class Counters {
 public:
  // One counter for each total, all at zero. Not while a dispatch runs.
  void reset(std::span<const std::uint32_t> totals);

  Counter& operator[](std::size_t counter) { return counters_[counter]; }

 private:
  std::unique_ptr<Counter[]> counters_;
  std::size_t n_ = 0;
};

}  // namespace sluice::cpu
