// The time that a step takes at least, from what it moves and computes and what the machine can do:
//
//   floor = max(bytes ÷ bandwidth, Σ over ops of FLOPs ÷ peak of the unit used)
//   bytes = weights read + recurrent state read and written + KV read                      (program/report.h)
//
// The bandwidth is that of main memory. A model that fits into the last-level cache is read faster than that, so its speed
// may be above this floor. For such a model there is a second bandwidth, that of a buffer as large as what a step moves,
// and a second floor from it, which is the one to judge by.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "cpu/probe.h"
#include "model/weights.h"
#include "program/backend.h"

namespace sluice::cli {

// Of one step on average.
struct StepCost {
  double bytes = 0;
  std::array<double, cpu::kUnits> flops{};  // by the unit that computes them

  double all_flops() const;
};

// `share` of the way from one to the other.
StepCost between(const StepCost& from, const StepCost& to, double share);

// The mean over `steps`. Those of which `is_screened` is true have a screened head; without it none. Bytes and FLOPs of steps that differ only
// in their positions grow in equal parts, so for a run of decode steps the first and the last do.
StepCost mean_cost(const model::Model& model, const std::vector<const program::Step*>& steps,
                   const std::function<bool(const program::Step&)>& is_screened = {});

struct MachinePeaks {
  double bytes_per_second = 0;
  std::array<double, cpu::kUnits> flops_per_second{};
};

double floor_seconds(const StepCost& cost, const MachinePeaks& peaks);

}  // namespace sluice::cli
