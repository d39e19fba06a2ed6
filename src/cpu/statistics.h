// What a backend has done since it was made.
#pragma once

#include <array>
#include <cstddef>

#include "program/program.h"

namespace sluice::cpu {

inline constexpr std::size_t kOpKinds = static_cast<std::size_t>(program::OpKind::kSample) + 1;

struct Statistics {
  std::size_t dispatches = 0;
  std::size_t tasks = 0;
  std::size_t programs_built = 0;
  std::size_t programs_verified = 0;
  std::size_t screened_steps = 0;
  std::size_t rows_recomputed = 0;   // of the head, in screened steps; at most all of it a step
  std::size_t bytes_recomputed = 0;  // of its weights; the same
  std::size_t bytes_left = 0;        // of its copy that weren't read at all, where screening was given up
  // While ops are timed: what worker 0 spent in tasks, by OpKind, and its steps as a whole. What is missing in the sum it
  // spent waiting and dispatching.
  std::array<double, kOpKinds> op_seconds{};
  double step_seconds = 0;
};

}  // namespace sluice::cpu
