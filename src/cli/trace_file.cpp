#include "cli/trace_file.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.h"

namespace sluice::cli {
namespace {

using program::Op;
using program::OpKind;
using program::Program;
using program::Task;

// Whole nanoseconds, so that slices that touch don't overlap for rounding.
std::int64_t rounded(double nanoseconds) {
  return std::llround(nanoseconds);
}

// The format's microseconds.
std::string microseconds(std::int64_t nanoseconds) {
  return fmt::format("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000);
}

std::string span_of(std::int64_t begin, std::int64_t end) {
  return fmt::format(R"("ts":{},"dur":{})", microseconds(begin), microseconds(end - begin));
}

// Of threads in all processes: Perfetto gives those with number 0, or their process's, a meaning of their own.
constexpr std::size_t kThreadsInProcess = 10'000;

std::size_t steps_thread(std::size_t process) {
  return process * kThreadsInProcess;
}

std::size_t worker_thread(std::size_t process, std::size_t worker) {
  return steps_thread(process) + 1 + worker;
}

std::string name_of_op(const Op& op) {
  return program::is_of_layer(op.kind) ? fmt::format("{} {}", program::name_of(op.kind), op.layer)
                                       : std::string(program::name_of(op.kind));
}

std::span<const program::Wait> waits_of(const Program& program, const Task& task) {
  return std::span(program.waits).subspan(task.first_wait, task.n_waits);
}

// Of one step.
class StepWriter {
 public:
  StepWriter(std::size_t process, std::size_t number, const cpu::StepTimes& step,
             const model::Weights& weights)
      : process_(process),
        number_(number),
        step_(step),
        program_(*step.program),
        bytes_(cpu::bytes_moved(step, weights)),
        producers_(program_.counters.size()) {
    for (const Task& task : program_.tasks) {
      std::vector<std::uint32_t>& ops = producers_[task.signal];
      if (ops.empty() || ops.back() != task.op) ops.push_back(task.op);
    }
  }

  std::vector<std::string> events() const {
    std::vector<std::string> events = {step_event()};
    for (const cpu::TaskTimes& it : step_.tasks) {
      if (rounded(it.begin) > rounded(it.waited_from)) events.push_back(wait_event(it));
      events.push_back(task_event(it));
    }
    return events;
  }

 private:
  std::string event(std::size_t thread, std::string_view name, std::string_view category, std::int64_t begin,
                    std::int64_t end, std::string_view arguments) const {
    return fmt::format(R"({{"ph":"X","pid":{},"tid":{},"cat":"{}","name":"{}",{},"args":{{"step":{},{}}}}})",
                       process_, thread, category, name, span_of(begin, end), number_, arguments);
  }

  std::string step_event() const {
    const std::size_t bytes = std::accumulate(bytes_.begin(), bytes_.end(), std::size_t{0});
    const std::string arguments = fmt::format(
        R"("rows":{},"tasks":{},"bytes":{},"gb_s":{:.2f})", program_.shape.n_rows(), program_.tasks.size(),
        bytes, static_cast<double>(bytes) / std::max(step_.end - step_.begin, 1.0));
    return event(steps_thread(process_), fmt::format("step {}", number_), "step", rounded(step_.begin),
                 rounded(step_.end), arguments);
  }

  std::string task_event(const cpu::TaskTimes& it) const {
    const Task& task = program_.tasks[it.task];
    const Op& op = program_.ops[task.op];
    std::string arguments =
        fmt::format(R"("task":{},"op":"{}","bytes":{})", it.task, name_of_op(op), bytes_[it.task]);
    if (program::is_of_layer(op.kind))
      arguments += fmt::format(R"(,"layer":{},"layer_kind":"{}")", op.layer,
                               op.layer_kind == model::LayerKind::kDeltaNet ? "DeltaNet" : "attention");
    if (op.kind == OpKind::kRecompute) arguments += fmt::format(R"(,"panels":{})", it.panels);
    std::vector<std::uint32_t> counters;
    for (const program::Wait& wait : waits_of(program_, task))
      if (!wait.previous_step) counters.push_back(wait.counter);
    arguments += fmt::format(R"(,"waits_for":[{}],"bumps":{})", fmt::join(counters, ","), task.signal);
    return event(worker_thread(process_, it.worker), program::name_of(op.kind), "task", rounded(it.begin),
                 rounded(it.end), arguments);
  }

  std::string wait_event(const cpu::TaskTimes& it) const {
    const Task& task = program_.tasks[it.task];
    std::vector<std::uint32_t> ops;
    for (const program::Wait& wait : waits_of(program_, task))
      if (!wait.previous_step) std::ranges::copy(producers_[wait.counter], std::back_inserter(ops));
    std::ranges::sort(ops);
    ops.erase(std::ranges::unique(ops).begin(), ops.end());
    std::vector<std::string> names;
    for (const std::uint32_t op : ops) names.push_back(name_of_op(program_.ops[op]));
    const std::string arguments = fmt::format(R"("task":{},"for":"{}")", it.task, fmt::join(names, ", "));
    return event(worker_thread(process_, it.worker), "wait", "wait", rounded(it.waited_from),
                 rounded(it.begin), arguments);
  }

  std::size_t process_;
  std::size_t number_;
  const cpu::StepTimes& step_;
  const Program& program_;
  std::vector<std::size_t> bytes_;                     // [tasks]
  std::vector<std::vector<std::uint32_t>> producers_;  // [counters]  ops that bump it
};

std::string metadata(std::size_t process, std::size_t thread, std::string_view what, const Json& value) {
  const Json json = {{"ph", "M"}, {"pid", process}, {"tid", thread}, {"name", what}, {"args", value}};
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

TraceFile::TraceFile(const std::filesystem::path& path) : file_(path) {
  file_.write(R"({"displayTimeUnit":"ns","traceEvents":[)");
  file_.sync();
}

void TraceFile::write_steps(std::size_t process, const TracedSteps& series, const model::Weights& weights) {
  const std::size_t n_workers = series.trace->n_workers();
  std::vector<std::string> events = {
      metadata(process, steps_thread(process), "process_name", {{"name", series.name}}),
      metadata(process, steps_thread(process), "thread_name", {{"name", "steps"}}),
      metadata(process, steps_thread(process), "thread_sort_index", {{"sort_index", 0}}),
  };
  for (std::size_t worker = 0; worker < n_workers; ++worker) {
    events.push_back(metadata(process, worker_thread(process, worker), "thread_name",
                              {{"name", fmt::format("worker {}", worker)}}));
    events.push_back(
        metadata(process, worker_thread(process, worker), "thread_sort_index", {{"sort_index", worker + 1}}));
  }
  const auto flush = [&] {
    file_.write(fmt::format("{}\n{}", is_first_ ? "" : ",", fmt::join(events, ",\n")));
    is_first_ = false;
  };
  flush();
  for (std::size_t number = 0; number < series.trace->n_kept(); ++number) {
    events = StepWriter(process, number, series.trace->step(number), weights).events();
    flush();
  }
}

void TraceFile::write(std::span<const TracedSteps> series, const model::Weights& weights) {
  Json kept = Json::array();
  for (std::size_t i = 0; i < series.size(); ++i) {
    write_steps(i + 1, series[i], weights);
    kept.push_back({{"name", series[i].name},
                    {"steps_run", series[i].trace->n_seen()},
                    {"steps_kept", series[i].trace->n_kept()}});
  }
  file_.write(fmt::format("\n],\"otherData\":{}}}\n",
                          Json({{"series", kept}}).dump(-1, ' ', false, Json::error_handler_t::replace)));
  file_.commit();
}

std::string kept_text(const TracedSteps& series) {
  const std::size_t kept = series.trace->n_kept();
  const std::size_t seen = series.trace->n_seen();
  return fmt::format("{}: {} of {} step{}{}", series.name, kept, seen, seen == 1 ? "" : "s",
                     kept < seen ? " (the first; no room for more)" : "");
}

}  // namespace sluice::cli
