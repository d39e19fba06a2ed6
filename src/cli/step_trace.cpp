#include "cli/step_trace.h"

#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "cli/exit.h"
#include "cli/terminal.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

// Tasks that are kept, of all series together: 8 MB of records, some 60 MB of JSON, 49 decode steps of a model of 0.8 B.
constexpr std::size_t kTasks = std::size_t{1} << 18U;

void check(const std::string& file, const char* option, const std::vector<fs::path>& inputs) {
  if (file.empty()) throw UsageError("no file to write", option, "give its name");
  refuse_to_replace(file, inputs);
}

}  // namespace

StepTrace::StepTrace(const TraceOptions& options, const std::vector<fs::path>& inputs)
    : trace_name_(options.trace.value_or("")), timeline_name_(options.timeline.value_or("")) {
  if (options.trace) check(*options.trace, "--trace", inputs);
  if (options.timeline) check(*options.timeline, "--timeline", inputs);
  if (options.any() &&
      fs::path(trace_name_).lexically_normal() == fs::path(timeline_name_).lexically_normal())
    throw UsageError("one file can't be both", "--trace, --timeline", "give two names");
  if (options.trace) trace_.emplace(*options.trace);
  if (options.timeline) {
    timeline_.emplace(*options.timeline);
    timeline_->write(std::string_view("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"));
    timeline_->sync();
  }
}

cpu::Trace* StepTrace::add(std::string name, std::size_t n_series) {
  if (!trace_ && !timeline_) return nullptr;
  names_.push_back(std::move(name));
  return &traces_.emplace_back(kTasks / n_series);
}

void StepTrace::write(const model::Weights& weights, const std::function<TimelineFacts()>& facts) {
  std::vector<TracedSteps> series;
  for (std::size_t i = 0; i < traces_.size(); ++i)
    if (traces_[i].n_kept() > 0) series.push_back({.name = names_[i], .trace = &traces_[i]});
  if (trace_) {
    trace_->write(series, weights);
    for (const TracedSteps& it : series)
      to_stderr(fmt::format("{}: {}\n", printable(trace_name_), kept_text(it)));
  }
  if (timeline_ && !series.empty()) {
    timeline_->write(timeline_svg(median_step(*series.front().trace), weights, facts()));
    timeline_->commit();
  }
}

}  // namespace sluice::cli
