#include "program/task_bytes.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "program/report.h"

namespace sluice::program {
namespace {

// Positions of `length` that lie in a KV split.
std::size_t positions_in_split(std::size_t length, std::uint32_t split) {
  const std::size_t begin = std::size_t{split} * kKvSplit;
  return std::min(std::max(length, begin), begin + kKvSplit) - begin;
}

// In proportion to which an op's bytes are shared out.
std::size_t share_of(const Program& program, const Op& op, const Task& task,
                     std::span<const std::size_t> lengths) {
  switch (op.kind) {
    case OpKind::kMixIn:
    case OpKind::kMixOut:
    case OpKind::kMlpIn:
    case OpKind::kMlpOut:
    case OpKind::kHead:
    case OpKind::kSkim:
    case OpKind::kScreen:
      return program.tilings[op.tiling][task.part].size();
    case OpKind::kEmbed:
      return program.groups[task.rows].size();
    case OpKind::kMix: {
      if (op.layer_kind == model::LayerKind::kDeltaNet) return 1;
      const RowGroup& group = program.groups[task.rows];
      if (!group.is_short) return group.size();
      return positions_in_split(lengths[program.span_of_row(program.rows[group.begin])], task.split);
    }
    case OpKind::kKvAppend:
    case OpKind::kMixMerge:
    case OpKind::kSelect:
    case OpKind::kRecompute:  // what it reads only the step's bounds tell
    case OpKind::kSample:
      return 1;
  }
  return 1;
}

}  // namespace

std::vector<std::size_t> bytes_of_tasks(const Program& program, const model::Weights& weights,
                                        std::span<const std::size_t> lengths) {
  std::vector<std::size_t> bytes(program.tasks.size(), 0);
  for (const Op& op : program.ops) {
    const std::size_t total = cost_of(program, op, weights, lengths).bytes();
    const std::span<const Task> tasks = std::span(program.tasks).subspan(op.first_task, op.n_tasks);
    std::size_t shares = 0;
    for (const Task& task : tasks) shares += share_of(program, op, task, lengths);
    if (total == 0 || shares == 0) continue;
    // Each task gets what lies between two rounded points, so that nothing is lost.
    const double each = static_cast<double>(total) / static_cast<double>(shares);
    std::size_t given = 0;
    std::size_t before = 0;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      before += share_of(program, op, tasks[i], lengths);
      const std::size_t upto =
          before == shares ? total
                           : static_cast<std::size_t>(std::llround(static_cast<double>(before) * each));
      bytes[op.first_task + i] = upto - given;
      given = upto;
    }
    SLUICE_CHECK(given == total);
  }
  return bytes;
}

}  // namespace sluice::program
