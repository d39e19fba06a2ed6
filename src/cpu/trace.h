// What each worker did when, while steps run: for `bench --trace` and `--timeline`. No file formats here.
//
// A worker writes down when it ended each task, in memory of its own that is there before the step begins: one reading of the
// processor's cycle counter, two more where it really waits. A task whose inputs were there began when its worker's last one had
// ended and they were there, which is worked out when the step is looked at.
// The order of readings is that of the protocol: a task's end is read before its counter is bumped, the beginning of one that waits
// after its waits have returned. So where the processors' cycle counters agree (Linux sees to that where they count at a constant
// rate), nothing begins before what it waited for has ended. Processors without such a counter read the steady clock, which is slower.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "cpu/counters.h"
#include "model/weights.h"
#include "program/backend.h"
#include "program/program.h"

namespace sluice::cpu {

// Cycles, or nanoseconds where cycles tell no time. `kAfterLoads`: not before what the program has loaded earlier, which costs
// 10 ns more; else it may be read a little early.
enum class Reading : std::uint8_t { kAfterLoads, kEarly };

class TickClock {
 public:
  TickClock();

  std::uint64_t now(Reading how) const {
#if defined(__x86_64__)
    if (has_cycles_) {
      if (how == Reading::kEarly) return __builtin_ia32_rdtsc();
      unsigned processor = 0;
      return __builtin_ia32_rdtscp(&processor);
    }
#endif
    static_cast<void>(how);
    return static_cast<std::uint64_t>(nanoseconds_now());
  }

 private:
  bool has_cycles_ = false;
};

struct TaskTicks {
  std::uint64_t waited_from = 0;  // 0: its inputs were there at once
  std::uint64_t begin = 0;        // 0: not read
  std::uint64_t end = 0;
  std::uint32_t task = 0;
  std::uint32_t panels = 0;  // of the head that it recomputed, or (screen) left unscreened
};

// One worker's notes of a step.
class WorkerTrace {
 public:
  void start(TaskTicks* next) { next_ = next; }

  void waits() {
    if (waited_from_ == 0) waited_from_ = clock_.now(Reading::kEarly);
  }
  // `is_first`: of the worker's in this step.
  void begins(std::size_t task, bool is_first) {
    next_->task = static_cast<std::uint32_t>(task);
    next_->waited_from = std::exchange(waited_from_, 0);
    next_->begin = is_first || next_->waited_from != 0 ? clock_.now(Reading::kAfterLoads) : 0;
  }
  // Early is good enough: the bump that follows, an atomic operation, can't overtake it, and what is too early for the task's
  // own beginning is put right later.
  void ends(std::size_t panels) {
    next_->panels = static_cast<std::uint32_t>(panels);
    (next_++)->end = clock_.now(Reading::kEarly);
  }

  const TaskTicks* next() const { return next_; }

 private:
  alignas(64) TaskTicks* next_ = nullptr;  // a line of its own: workers write at the same time
  std::uint64_t waited_from_ = 0;          // 0: it hasn't waited yet
  TickClock clock_;
};

// Nanoseconds since the first step that is kept began.
struct TaskTimes {
  std::uint32_t worker = 0;
  std::uint32_t task = 0;
  double waited_from = 0;
  double begin = 0;
  double end = 0;
  std::uint32_t panels = 0;  // of a screened head that it recomputed, or (screen) left unscreened
};

struct StepTimes {
  const program::Program* program = nullptr;  // the trace's own copy
  std::vector<std::size_t> lengths;           // [spans]  positions of each sequence when the step is done
  double begin = 0;                           // when the calling thread started the dispatch
  double end = 0;                             // and when all workers were done
  std::vector<TaskTimes> tasks;               // worker by worker, each in its order
};

// [tasks]  What each has to move (program/task_bytes.h), and what it recomputed of a screened head, or left unread, which
// only the step tells.
std::vector<std::size_t> bytes_moved(const StepTimes& step, const model::Weights& weights);

class Trace {
 public:
  // Keeps steps from the first on, whole ones, as long as they have at most `max_tasks` tasks together; the first one in any
  // case. That many records of 32 bytes are the memory it comes to.
  explicit Trace(std::size_t max_tasks) : max_tasks_(max_tasks) {}

  std::size_t n_workers() const { return workers_.size(); }  // once a step has begun
  std::size_t n_seen() const { return n_seen_; }             // steps that ran, kept or not
  std::size_t n_kept() const { return steps_.size(); }

  // For the executor, before the first dispatch: makes room, and touches as much of it as so many workers should need, since a
  // page's first use costs more than its notes.
  void reserve(std::size_t n_workers);

  // Around a dispatch. Whether the step that begins is to be kept.
  bool begin_step(std::size_t n_workers, const program::Program& program, const program::Step& step);
  void end_step();
  WorkerTrace& of(std::size_t worker) { return workers_[worker]; }

  StepTimes step(std::size_t kept) const;

 private:
  struct Step {
    const program::Program* program = nullptr;
    std::vector<std::size_t> lengths;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::vector<std::span<const TaskTicks>> tasks;  // [workers]
  };
  using Records = std::unique_ptr<TaskTicks[]>;

  const program::Program& copy_of(const program::Program& program);
  double nanoseconds(std::uint64_t ticks) const;

  TickClock clock_;
  std::size_t max_tasks_;
  std::size_t n_tasks_ = 0;  // kept
  std::size_t n_seen_ = 0;
  std::vector<WorkerTrace> workers_;
  std::vector<Records> records_;  // [workers]  each has room for all tasks: any worker may take any
  std::vector<std::unique_ptr<program::Program>> programs_;
  std::vector<Step> steps_;
  std::int64_t first_nanoseconds_ = 0;  // the steady clock when the first step began
  std::int64_t last_nanoseconds_ = 0;   // and when the last one ended
};

}  // namespace sluice::cpu
