#include "program/programs.h"

#include <algorithm>
#include <utility>

#include "program/verify.h"

namespace sluice::program {
namespace {

// Programs of the shapes seen last. A decode shape and the pieces of a prompt come again and again.
constexpr std::size_t kMost = 16;

// All of them. A piece of a prompt of a model with 64 layers has 200,000 tasks, which take 8 MB.
constexpr std::size_t kMostBytes = std::size_t{16} << 20U;

std::size_t bytes_of(const Program& program) {
  return program.tasks.size() * sizeof(Task) + program.waits.size() * sizeof(Wait);
}

}  // namespace

std::vector<std::uint32_t> structure_of(const Program& program) {
  const std::vector<std::uint32_t>& outputs = program.shape.output_rows;
  const std::uint32_t n_rows = program.shape.n_rows();
  // Regions of the step's buffers begin and end at these rows (regions.h), or at outputs and spans, which keep their numbers.
  std::vector<std::uint32_t> edges = program.first_row;
  for (const RowGroup& group : program.groups) {
    if (group.begin >= n_rows) continue;
    edges.push_back(group.begin);
    edges.push_back(group.end);
  }
  for (const std::uint32_t row : outputs) {
    edges.push_back(row);
    edges.push_back(row + 1);
  }
  std::sort(edges.begin(), edges.end());
  edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
  const auto rank = [&](std::uint32_t edge) {
    return static_cast<std::uint32_t>(std::lower_bound(edges.begin(), edges.end(), edge) - edges.begin());
  };

  std::vector<std::uint32_t> structure;
  const auto add = [&](auto... values) { (structure.push_back(static_cast<std::uint32_t>(values)), ...); };
  add(program.shape.spans.size(), outputs.size(), program.groups.size(), program.shape.is_screened);
  for (std::size_t span = 0; span < program.shape.spans.size(); ++span)
    add(rank(program.first_row[span]), program.shape.spans[span].kv_splits);
  for (const std::uint32_t row : outputs) add(rank(row));
  for (const RowGroup& group : program.groups) {
    if (group.begin < n_rows)
      add(group.is_short, 0, rank(group.begin), rank(group.end));
    else
      add(group.is_short, 1, group.begin - n_rows, group.end - n_rows);
  }
  return structure;
}

const Program& Programs::of(const StepShape& shape) {
  const auto known =
      std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) { return kept.program.shape == shape; });
  if (known != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, known);
    return kept_.front().program;
  }
  kept_.push_front(make(shape));
  std::size_t bytes = 0;
  std::size_t n = 0;
  auto it = kept_.begin();
  for (; it != kept_.end() && n < kMost; ++it, ++n) {
    bytes += bytes_of(it->program);
    if (n > 0 && bytes > kMostBytes) break;
  }
  kept_.erase(it, kept_.end());
  return kept_.front().program;
}

Programs::Kept Programs::make(const StepShape& shape) {
  Kept kept{lay_out(config_, shape), {}};
  kept.structure = structure_of(kept.program);
  const auto like = std::find_if(kept_.begin(), kept_.end(),
                                 [&](const Kept& other) { return other.structure == kept.structure; });
  ++n_made_;
  if (like != kept_.end()) {
    kept.program.tilings = like->program.tilings;
    kept.program.ops = like->program.ops;
    kept.program.tasks = like->program.tasks;
    kept.program.waits = like->program.waits;
    kept.program.counters = like->program.counters;
  } else {
    kept.program = build(config_, shape, tiling_);
    ++n_derived_;
  }
  if (verify_) {
    require_valid(kept.program);
    ++n_verified_;
  }
  return kept;
}

}  // namespace sluice::program
