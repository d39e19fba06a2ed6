// Threads that stay: worker 0 is the thread that calls `run`, the others wait for it between dispatches, asleep when the
// wait is long.
//
// Memory. A dispatch starts by one word: the round's number, and one bit that says that somebody sleeps on it. The caller
// writes the job, then the next number by a release exchange; a worker that reads the number by an acquire load sees the
// job and all that happened before `run`. Only the caller changes the number, workers only set the bit by a
// read-modify-write, which continues the release sequence and which the exchange can't miss. It ends by a Counter
// (counters.h) that each worker bumps, so the caller sees what the jobs did, and may then overwrite the job.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "cpu/counters.h"
#include "cpu/placement.h"

namespace sluice::cpu {

class Workers {
 public:
  // `n` at least 1, the calling thread included. Those that are made stay where `placement` pins them; the calling
  // thread's affinity is never touched. Throws Error if a thread can't be made.
  Workers(std::size_t n, Placement placement);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  std::size_t size() const { return threads_.size() + 1; }
  Patience patience();  // for waits inside a job
  bool are_too_many() const { return size() > placement_.n_processors; }
  std::size_t n_runs() const { return n_runs_; }  // calls of `run` so far

  // Calls job(0) here and job(1), ... on the others; returns when all are done. What happened before the call is seen by
  // every job, what jobs did is seen after it. `job` must not throw. One call at a time, from any thread.
  void run(const std::function<void(std::size_t worker)>& job);

 private:
  void loop(std::size_t worker);
  std::uint32_t wait_for_round_after(std::uint32_t round);
  void start_round();
  void stop();

  static constexpr std::uint32_t kAsleep = 1;  // the word's lowest bit; the round's number is above it

  std::atomic<std::uint32_t> round_ = 0;
  Patience patience_;
  std::atomic<std::int64_t> crowded_until_ = 0;            // 0: not
  const std::function<void(std::size_t)>* job_ = nullptr;  // nothing: stop
  std::size_t n_runs_ = 0;
  std::vector<std::thread> threads_;
  Placement placement_;
  Counter done_;  // workers that have finished the job
};

}  // namespace sluice::cpu
