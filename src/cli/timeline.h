// One step as a picture (SVG): workers × time, coloured by op, waits in red; below it what each op takes and moves, beside
// the step's floor. Needs nothing but itself; follows the reader's light or dark mode.
#pragma once

#include <optional>
#include <string>

#include "cpu/trace.h"
#include "model/weights.h"

namespace sluice::cli {

struct TimelineFacts {
  std::string title;     // what was run: "qwen3.5-0.8b, decode, 1 row"
  std::string subtitle;  // where: processor, instruction set, threads
  std::size_t n_workers = 0;
  double floor_seconds = 0;
  std::string floor;  // what the floor is made of: "1.51 GB at 51.2 GB/s"
};

std::string timeline_svg(const cpu::StepTimes& step, const model::Weights& weights,
                         const TimelineFacts& facts);

// The step of median length among those kept.
cpu::StepTimes median_step(const cpu::Trace& trace);

}  // namespace sluice::cli
