#include "cpu/workers.h"

#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace sluice::cpu {

Workers::Workers(std::size_t n, Placement placement)
    : patience_(Patience::of(n, placement.n_processors)), placement_(std::move(placement)) {
  SLUICE_CHECK(n >= 1);
  patience_.crowded_until = &crowded_until_;
  try {
    for (std::size_t worker = 1; worker < n; ++worker) {
      threads_.emplace_back([this, worker] { loop(worker); });
      if (worker < placement_.cpus.size()) pin(threads_.back(), placement_.cpus[worker]);
    }
  } catch (const std::system_error& error) {
    stop();
    throw Error(std::string("can't start a thread: ") + error.what(), std::to_string(n) + " workers",
                "use fewer (-t)");
  }
}

// While others want the processors, whoever waits had better sleep: woken, it runs at once, where a yield gives a slice away.
Patience Workers::patience() {
  const std::int64_t until = crowded_until_.load(std::memory_order_relaxed);
  if (until == 0) return patience_;
  if (nanoseconds_now() < until) return {patience_.n_spins, 0, nullptr};
  crowded_until_.store(0, std::memory_order_relaxed);
  return patience_;
}

Workers::~Workers() {
  stop();
}

void Workers::stop() {
  job_ = nullptr;
  start_round();
  for (std::thread& thread : threads_) thread.join();
}

void Workers::run(const std::function<void(std::size_t)>& job) {
  ++n_runs_;
  if (threads_.empty()) {
    job(0);
    return;
  }
  job_ = &job;
  done_.reset(static_cast<std::uint32_t>(threads_.size()));
  start_round();
  job(0);
  done_.wait(patience());
}

void Workers::start_round() {
  const std::uint32_t number = (round_.load(std::memory_order_relaxed) & ~kAsleep) + 2 * kAsleep;
  const std::uint32_t before = round_.exchange(number, std::memory_order_release);
  if ((before & kAsleep) != 0) wake_all(round_);
}

// Rounds don't pass a worker by: the caller starts the next when all have finished.
std::uint32_t Workers::wait_for_round_after(std::uint32_t round) {
  for (Backoff backoff(patience()); backoff.pause();) {
    const std::uint32_t seen = round_.load(std::memory_order_acquire) & ~kAsleep;
    if (seen != round) return seen;
  }
  std::uint32_t seen = round_.fetch_or(kAsleep, std::memory_order_acquire);
  while ((seen & ~kAsleep) == round) {
    sleep_on(round_, seen | kAsleep);
    seen = round_.load(std::memory_order_acquire);
  }
  return seen & ~kAsleep;
}

void Workers::loop(std::size_t worker) {
  for (std::uint32_t round = 0;;) {
    round = wait_for_round_after(round);
    if (job_ == nullptr) return;
    (*job_)(worker);
    done_.bump();
  }
}

}  // namespace sluice::cpu
