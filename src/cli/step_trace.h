// --trace and --timeline: the options, and their files from before the work to its end.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/output.h"
#include "cli/timeline.h"
#include "cli/trace_file.h"
#include "cpu/trace.h"
#include "model/weights.h"

namespace sluice::cli {

struct TraceOptions {
  std::optional<std::string> trace;
  std::optional<std::string> timeline;

  bool any() const { return trace || timeline; }
};

class StepTrace {
 public:
  // Opens the files that are wished for and writes their beginnings, so that a place that can't be written is known before
  // any work. `inputs`: files that must not be replaced. Throws Error, UsageError.
  StepTrace(const TraceOptions& options, const std::vector<std::filesystem::path>& inputs);

  // What is to hold the steps of one more series, one of `n_series`; nothing if no file is wished for. It lives as long as
  // this.
  cpu::Trace* add(std::string name, std::size_t n_series);

  // Writes the files, and to standard error how many steps the trace has. `facts` of the series that the timeline shows a step
  // of, the first one. Series without a step are left out.
  void write(const model::Weights& weights, const std::function<TimelineFacts()>& facts);

 private:
  std::string trace_name_, timeline_name_;
  std::optional<TraceFile> trace_;
  std::optional<OutputFile> timeline_;
  std::deque<cpu::Trace> traces_;
  std::vector<std::string> names_;
};

}  // namespace sluice::cli
