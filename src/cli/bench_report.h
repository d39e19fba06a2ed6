// What `bench` has found, as text and as JSON (its schema is number 1).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "cli/bench_cases.h"
#include "cli/bench_floor.h"
#include "cli/bench_load.h"
#include "cli/timeline.h"

namespace sluice::cli {

struct BenchResult {
  BenchCase what;
  std::vector<double> tok_s;  // of each repetition
  StepCost cost;
  StepCost full_cost;  // with a full head in all steps: the same, if none was screened
  double dispatches_per_step = 0;
  double tasks_per_step = 0;
  std::optional<double> screened_share;  // of steps whose head was screened; nothing: none could be
  double head_rows_recomputed = 0;       // a step
  std::vector<std::pair<std::string, double>> op_share;  // of worker 0's time; "wait" is what no task took
  std::optional<double> tokens_per_joule;
  // Of a GPU.
  std::optional<MachinePeaks> peaks;    // measured with this result; nothing: the report's
  double launch_share = 1;              // of the time: in launches, not between them
  std::optional<double> power_limit_w;  // that was set for it
};

// What computed if it wasn't the CPU.
struct GpuFacts {
  std::string device;  // "cuda:0"
  std::string name;
  std::size_t blocks = 0;
  bool is_emulated = false;  // by the PTX machine: times are the emulation's, and no speed
  std::string no_energy;     // why tokens a joule aren't known; empty: they are
};

struct ReadFigure {
  double bytes_per_second = 0;
  std::string variant;
  std::size_t buffer_bytes = 0;
};

struct BenchReport {
  std::optional<GpuFacts> gpu;
  std::string cpu, isa;
  std::size_t threads = 0;
  std::string model;
  std::size_t parameters = 0;
  std::size_t weight_bytes = 0;
  ReadFigure memory;
  std::optional<ReadFigure> cache;  // of a model that fits into the last-level cache
  std::array<double, cpu::kUnits> flops_per_second{};
  std::array<std::string, cpu::kUnits> instructions;
  std::optional<LoadFigure> load;  // of a model out of files
  std::vector<BenchResult> results;
};

Json json_of(const BenchReport& report);
std::string text_of(const BenchReport& report);

// What a picture of one of the result's steps says beside it.
TimelineFacts timeline_facts(const BenchReport& report, const BenchResult& result);

}  // namespace sluice::cli
