#include "cpu/trace.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "program/screening.h"
#include "program/task_bytes.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sluice::cpu {

namespace {

#if defined(__x86_64__)
// Whether there are RDTSCP and a counter of constant rate, which also runs while the processor sleeps.
bool has_constant_cycles() {
  constexpr unsigned kPower = 0x80000007U;
  constexpr unsigned kFeatures = 0x80000001U;
  constexpr unsigned kInvariant = 1U << 8U;
  constexpr unsigned kRdtscp = 1U << 27U;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid(kPower, &a, &b, &c, &d) == 0 || (d & kInvariant) == 0) return false;
  return __get_cpuid(kFeatures, &a, &b, &c, &d) != 0 && (d & kRdtscp) != 0;
}
#endif

}  // namespace

TickClock::TickClock() {
#if defined(__x86_64__)
  static const bool is_constant = has_constant_cycles();
  has_cycles_ = is_constant;
#endif
}

std::vector<std::size_t> bytes_moved(const StepTimes& step, const model::Weights& weights) {
  std::vector<std::size_t> bytes = program::bytes_of_tasks(*step.program, weights, step.lengths);
  const std::size_t n_panels = program::screen_panels(weights.head.rows);
  for (const TaskTimes& it : step.tasks) {
    if (it.panels == 0) continue;
    const bool is_left = step.program->ops[step.program->tasks[it.task].op].kind == program::OpKind::kScreen;
    bytes[it.task] = is_left ? 0 : bytes[it.task] + weights.head.data.size() * it.panels / n_panels;
  }
  return bytes;
}

const program::Program& Trace::copy_of(const program::Program& program) {
  const auto known =
      std::ranges::find_if(programs_, [&](const auto& copy) { return copy->shape == program.shape; });
  if (known != programs_.end()) return **known;
  return *programs_.emplace_back(std::make_unique<program::Program>(program));
}

void Trace::reserve(std::size_t n_workers) {
  workers_ = std::vector<WorkerTrace>(n_workers);
  records_ = std::vector<Records>(n_workers);
  // What isn't written takes no memory, however many workers there are.
  const std::size_t share = std::min(max_tasks_ / n_workers + max_tasks_ / (8 * n_workers), max_tasks_);
  for (std::size_t worker = 0; worker < n_workers; ++worker) {
    records_[worker] = std::make_unique_for_overwrite<TaskTicks[]>(max_tasks_);
    std::fill_n(records_[worker].get(), share, TaskTicks{});
    workers_[worker].start(records_[worker].get());
  }
}

bool Trace::begin_step(std::size_t n_workers, const program::Program& program, const program::Step& step) {
  ++n_seen_;
  const std::size_t n = program.tasks.size();
  const bool is_first = steps_.empty();
  if (n_seen_ != steps_.size() + 1 || (!is_first && n_tasks_ + n > max_tasks_)) return false;
  if (is_first && (n > max_tasks_ || n_workers != workers_.size())) {
    max_tasks_ = std::max(max_tasks_, n);
    reserve(n_workers);
  }
  n_tasks_ += n;
  Step& kept = steps_.emplace_back();
  kept.program = &copy_of(program);
  for (const program::Span& span : step.spans) kept.lengths.push_back(span.position + span.n_rows);
  for (const WorkerTrace& worker : workers_) kept.tasks.emplace_back(worker.next(), 0U);
  if (is_first) first_nanoseconds_ = nanoseconds_now();
  kept.begin = clock_.now(Reading::kAfterLoads);
  return true;
}

void Trace::end_step() {
  Step& kept = steps_.back();
  kept.end = clock_.now(Reading::kAfterLoads);
  last_nanoseconds_ = nanoseconds_now();
  for (std::size_t worker = 0; worker < n_workers(); ++worker)
    kept.tasks[worker] = {kept.tasks[worker].data(), workers_[worker].next()};
}

double Trace::nanoseconds(std::uint64_t ticks) const {
  const std::uint64_t first = steps_.front().begin;
  const auto passed = static_cast<double>(steps_.back().end - first);
  const double each = static_cast<double>(last_nanoseconds_ - first_nanoseconds_) / std::max(passed, 1.0);
  return static_cast<double>(ticks - first) * each;
}

StepTimes Trace::step(std::size_t kept) const {
  SLUICE_CHECK(kept < steps_.size());
  const Step& step = steps_[kept];
  const program::Program& program = *step.program;
  StepTimes times = {.program = step.program,
                     .lengths = step.lengths,
                     .begin = nanoseconds(step.begin),
                     .end = nanoseconds(step.end),
                     .tasks = {}};
  struct Note {
    std::uint32_t worker = 0;
    TaskTicks ticks;
  };
  // In the Program's order, in which tasks come after what they wait for; each worker took its own in that order, too.
  std::vector<Note> notes(program.tasks.size());
  std::size_t n_noted = 0;
  for (std::size_t worker = 0; worker < n_workers(); ++worker)
    for (const TaskTicks& it : step.tasks[worker]) {
      notes[it.task] = {static_cast<std::uint32_t>(worker), it};
      ++n_noted;
    }
  SLUICE_CHECK(n_noted == notes.size());
  std::vector<std::uint64_t> full(program.counters.size(), 0);  // when the last task that bumps it ended
  std::vector<std::uint64_t> free_from(n_workers(), step.begin);
  for (Note& note : notes) {
    TaskTicks& it = note.ticks;
    const program::Task& task = program.tasks[it.task];
    std::uint64_t& free = free_from[note.worker];
    if (it.begin == 0) {
      it.begin = free;
      for (std::uint32_t i = task.first_wait; i < task.first_wait + task.n_waits; ++i)
        if (!program.waits[i].previous_step) it.begin = std::max(it.begin, full[program.waits[i].counter]);
      it.waited_from = it.begin;
    } else {
      it.waited_from = std::max(it.waited_from == 0 ? it.begin : it.waited_from, free);
      it.begin = std::max(it.begin, it.waited_from);
    }
    it.end = std::max(it.end, it.begin);
    free = it.end;
    full[task.signal] = std::max(full[task.signal], it.end);
  }
  std::ranges::sort(notes, {}, [](const Note& note) { return std::pair(note.worker, note.ticks.task); });
  times.tasks.reserve(notes.size());
  for (const auto& [worker, it] : notes)
    times.tasks.push_back({.worker = worker,
                           .task = it.task,
                           .waited_from = nanoseconds(it.waited_from),
                           .begin = nanoseconds(it.begin),
                           .end = nanoseconds(it.end),
                           .panels = it.panels});
  return times;
}

}  // namespace sluice::cpu
