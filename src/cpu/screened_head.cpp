// The head in four steps (program/screening.h, cpu/screen.h): bounds of the first logits from the narrower copy; of all others, if
// those say that it pays; the panels that may hold the answer; and their logits as the full head computes them: by the same
// kernel, whose results for a column depend on that column alone.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "base/bf16.h"
#include "base/error.h"
#include "cpu/head_policy.h"
#include "cpu/tasks.h"
#include "program/screening.h"

namespace sluice::cpu {

using program::Columns;
using program::Op;
using program::OpKind;
using program::RowGroup;
using program::Task;

static_assert(program::kScreenPanel == kLanes);

// The group's rows as the full head's kernel takes them, quantized.
void Tasks::stage_operands(const Task& task) {
  if (s_.operands_step == d_.number && s_.operands_rows == task.rows) return;
  const PackedOp& head = d_.weights->of(OpKind::kHead, 0);
  stage_normed(task, d_.model->weights.norm, head);
  const std::size_t rows = group(task).size();
  if (s_.operands.size() < rows) s_.operands.resize(rows);
  s_.screen_rows.resize(rows);
  const bool is_rounded = head.tiles.front().is_bf16 && k_.activations == ActivationType::kBF16;
  std::vector<float> seen(config_.hidden_size);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t k = 0; k < seen.size(); ++k)
      seen[k] =
          is_rounded ? bf16_to_float(s_.staged_bf16[i * head.depth + k]) : s_.staged[i * head.depth + k];
    s_.operands[i].set(seen);
    s_.screen_rows[i] = s_.operands[i].row();
  }
  s_.operands_step = d_.number;
  s_.operands_rows = task.rows;
}

// Whether the panels that were skimmed say that it pays to screen the others. A later threshold is no lower than theirs, so as many
// or fewer of the others reach it. What is decided takes time or saves it, and changes nothing else.
bool Tasks::pays_to_screen(const Op& op, const Task& task) {
  const std::uint32_t n_columns = program::skimmed_columns(config_.vocab_size);
  if (n_columns == 0) return true;
  if (s_.judged_step == d_.number && s_.judged_rows == task.rows) return s_.pays_to_screen;
  const RowGroup& rows = group(task);
  const std::size_t n = n_columns / kLanes;
  s_.wanted.assign(n, false);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t output = rows.begin + i - program_.shape.n_rows();
    const auto& choice = step_.outputs[output].choice;
    if (!choice) continue;
    const auto rule = program::screen_rule(*choice, config_.vocab_size);
    SLUICE_CHECK(rule.has_value());
    const std::size_t first = output * head_panels();
    const float threshold =
        program::sample_threshold(*rule, choice->sampling, {a_.floors.data() + first, n}, head_panels());
    for (std::size_t panel = 0; panel < n; ++panel)
      if (program::reaches(a_.ceilings[first + panel], threshold)) s_.wanted[panel] = true;
  }
  // A small sample says little: less its own best panels and two standard deviations.
  const auto n_wanted = static_cast<double>(std::ranges::count(s_.wanted, true));
  const double surely = std::max(n_wanted - static_cast<double>(rows.size()) - 2 * std::sqrt(n_wanted), 0.0);
  const PackedOp& head = d_.weights->of(OpKind::kHead, 0);
  const std::size_t full = panel_bytes(OpKind::kHead, head.depth, head.tiles.front().is_bf16);
  const std::size_t screened = panel_bytes(op.kind, packed(op).depth, false);
  s_.pays_to_screen =
      HeadPolicy::pays(n * screened, static_cast<std::size_t>(surely) * full, n * full, rows.size());
  s_.judged_step = d_.number;
  s_.judged_rows = task.rows;
  return s_.pays_to_screen;
}

// No bounds of the tile: all of it will be recomputed.
void Tasks::leave_unscreened(const Op& op, const Task& task) {
  const Columns tile = columns(op, task);
  const std::size_t n_panels = program::screen_panels(tile.size());
  const RowGroup& rows = group(task);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t output = rows.begin + i - program_.shape.n_rows();
    const std::size_t first = output * head_panels() + tile.begin / kLanes;
    std::fill_n(a_.floors.data() + first, n_panels, -std::numeric_limits<float>::infinity());
    std::fill_n(a_.ceilings.data() + first, n_panels, std::numeric_limits<float>::infinity());
  }
  s_.panels_left += n_panels;
}

void Tasks::screen(const Op& op, const Task& task) {
  if (op.kind == OpKind::kScreen && !pays_to_screen(op, task)) {
    leave_unscreened(op, task);
    return;
  }
  stage_operands(task);
  const PackedOp& weights = packed(op);
  const PackedTile& packed_tile = weights.tiles[task.part];
  const Columns tile = columns(op, task);
  const std::size_t width = packed_tile.n_panels * kLanes;
  const std::size_t rows = group(task).size();
  at_least(s_.lower, rows * width);
  at_least(s_.upper, rows * width);
  k_.screen(reinterpret_cast<const std::uint8_t*>(packed_tile.data), weights.depth, packed_tile.n_panels,
            s_.screen_rows.data(), rows, s_.lower.data(), s_.upper.data(), width, next_);
  for (std::size_t i = 0; i < rows; ++i) {
    const std::size_t output = group(task).begin + i - program_.shape.n_rows();
    const auto& choice = step_.outputs[output].choice;
    if (!choice) continue;
    const std::span<float> lower{s_.lower.data() + i * width, tile.size()};
    const std::span<float> upper{s_.upper.data() + i * width, tile.size()};
    edit(*choice, tile, lower.data());
    edit(*choice, tile, upper.data());
    const auto rule = program::screen_rule(*choice, config_.vocab_size);
    SLUICE_CHECK(rule.has_value());  // else the Program has a full head
    const std::size_t first = output * head_panels() + tile.begin / kLanes;
    program::panel_bounds(*rule, *choice, tile.begin, lower, upper,
                          {a_.floors.data() + first, packed_tile.n_panels},
                          {a_.ceilings.data() + first, packed_tile.n_panels});
  }
}

void Tasks::select(const Task& task) {
  const auto& choice = step_.outputs[task.rows].choice;
  const std::size_t n = head_panels();
  std::uint8_t* const selected = a_.selected.data() + task.rows * n;
  if (!choice) {
    std::fill_n(selected, n, std::uint8_t{0});
    return;
  }
  const auto rule = program::screen_rule(*choice, config_.vocab_size);
  SLUICE_CHECK(rule.has_value());
  const float threshold =
      program::screen_threshold(*rule, choice->sampling, {a_.floors.data() + task.rows * n, n});
  const float* const ceilings = a_.ceilings.data() + task.rows * n;
  for (std::size_t panel = 0; panel < n; ++panel)
    selected[panel] = program::reaches(ceilings[panel], threshold) ? 1 : 0;
}

// Runs of panels that some row of the group wants. What no row wants is neither computed nor looked at by `sample`.
void Tasks::recompute(const Op& op, const Task& task) {
  const Columns tile = columns(op, task);
  const RowGroup& rows = group(task);
  const std::size_t first_output = rows.begin - program_.shape.n_rows();
  const std::size_t n_tiles = program_.tilings[op.tiling].size();
  const std::size_t first_panel = tile.begin / kLanes;
  const std::size_t n_panels = program::screen_panels(tile.size());
  const auto wanted = [&](std::size_t output, std::size_t panel) {
    return a_.selected[output * head_panels() + first_panel + panel] != 0;
  };
  const auto wanted_by_any = [&](std::size_t panel) {
    for (std::size_t i = 0; i < rows.size(); ++i)
      if (wanted(first_output + i, panel)) return true;
    return false;
  };
  for (std::size_t i = 0; i < rows.size(); ++i)
    a_.tile_best[(first_output + i) * n_tiles + task.part] = -std::numeric_limits<float>::infinity();

  const PackedOp& weights = packed(op);
  const std::size_t bytes = panel_bytes(OpKind::kHead, weights.depth, weights.tiles.front().is_bf16);
  std::size_t n_recomputed = 0;
  for (std::size_t begin = 0; begin < n_panels; ++begin) {
    if (!wanted_by_any(begin)) continue;
    std::size_t end = begin + 1;
    while (end < n_panels && wanted_by_any(end)) ++end;
    if (n_recomputed == 0) {
      stage_normed(task, d_.model->weights.norm, weights);
      for (std::size_t i = 0; i < rows.size(); ++i)
        std::fill_n(a_.logits.data() + (first_output + i) * config_.vocab_size + tile.begin, tile.size(),
                    -std::numeric_limits<float>::infinity());
    }
    const Columns run{tile.begin + static_cast<std::uint32_t>(begin * kLanes),
                      std::min(tile.begin + static_cast<std::uint32_t>(end * kLanes), tile.end)};
    // Tiles of the head follow each other in memory.
    const PackedTile panels{.is_bf16 = weights.tiles.front().is_bf16,
                            .n_panels = end - begin,
                            .data = weights.tiles.front().data + (first_panel + begin) * bytes};
    const std::size_t width = panels.n_panels * kLanes;
    at_least(s_.tile, rows.size() * width);
    multiply(weights, panels, rows, s_.tile.data(), width);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::size_t output = first_output + i;
      const auto& choice = step_.outputs[output].choice;
      if (!choice) continue;
      float* const logits = s_.tile.data() + i * width;
      edit(*choice, run, logits);
      std::copy_n(logits, run.size(), a_.logits.data() + output * config_.vocab_size + run.begin);
      float& best = a_.tile_best[output * n_tiles + task.part];
      best = std::max(best, k_.largest(logits, run.size()));
    }
    n_recomputed += end - begin;
    begin = end;
  }
  s_.panels_recomputed += n_recomputed;
}

}  // namespace sluice::cpu
