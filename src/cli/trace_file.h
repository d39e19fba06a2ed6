// Traces in the form of Chrome's trace events, a JSON that ui.perfetto.dev and chrome://tracing show:
//
//   a process  a series of steps (a case of `bench`), whose clock starts with its first step
//   a thread   a worker; one more, "steps", has a slice for each step
//   a slice    a task: its op's name; layer, bytes, the counters that it waits for and the one that it bumps in its arguments,
//              of `recompute` the panels of 16 rows of the head, too
//              "wait": the worker had its task, and the task's inputs were not there yet; what it waited for
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "cli/output.h"
#include "cpu/trace.h"
#include "model/weights.h"

namespace sluice::cli {

struct TracedSteps {
  std::string name;
  const cpu::Trace* trace = nullptr;
};

class TraceFile {
 public:
  // Writes the beginning already, so that a place that can't be written is known before any work. Throws Error.
  explicit TraceFile(const std::filesystem::path& path);

  // All of it, at the end. Throws Error if the disk is full.
  void write(std::span<const TracedSteps> series, const model::Weights& weights);

 private:
  void write_steps(std::size_t process, const TracedSteps& series, const model::Weights& weights);

  OutputFile file_;
  bool is_first_ = true;  // event
};

// What of the steps that ran is in the trace, in words: "decode, 1 row: 21 of 64 steps (no room for more)".
std::string kept_text(const TracedSteps& series);

}  // namespace sluice::cli
