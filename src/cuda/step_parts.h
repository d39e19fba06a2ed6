// A step as launches take it: cut where it is too long for one, its rows and spans on the device, the parts of a mixed launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cuda/launch.h"
#include "program/backend.h"
#include "program/program.h"

namespace sluice::cuda {

// Rows that become one decode launch, alone or inside a mixed one; or the long spans' rows.
struct Part {
  static constexpr std::size_t kNoOutput = ~std::size_t{0};

  std::vector<Row> rows;
  std::vector<Span> spans;
  std::vector<Edit> edits;
  std::vector<std::size_t> outputs;  // [rows]  index among the step's; kNoOutput

  bool has_outputs() const;
  program::StepShape shape() const;
};

// launch.h, MixedLaunch, says what becomes of a step.
struct MixedParts {
  std::vector<Part> groups;
  Part prefill;
  std::vector<Part> heads;
  std::vector<RowBlock> blocks;
  std::vector<std::uint32_t> output_rows;  // of prefill, in the order of the heads' rows
};

// How large a mixed launch of up to `rows` rows in `n_slots` slots can be.
struct MixedLimits {
  std::size_t rows = 0;
  std::size_t row_blocks = 0;
  std::size_t groups = 0;
  std::size_t heads = 0;
};
MixedLimits mixed_limits(std::size_t rows, std::size_t n_slots);

// Whether it is one decode launch, else a mixed one.
bool is_decode(const program::Step& step);

// The steps that `step` is in launches of up to `most_rows` rows, each with outputs of its own: its spans, in pieces of
// `most_rows` from their first row on, so that a row's arithmetic depends on no neighbour.
std::vector<program::Step> launches_of(const program::Step& step, std::size_t most_rows);

// Whether the host needs the row's logits: to hand them on, or to choose from them.
bool needs_logits(const program::Output& output);

// What `row` is to choose; its edits join `edits`.
void set_choice(const program::Choice& choice, Row& row, std::vector<Edit>& edits);

// `conv_parity`: Span::conv_parity of each slot.
Part decode_part(const program::Step& step, std::span<const std::uint32_t> conv_parity);
MixedParts mixed_parts(const program::Step& step, std::span<const std::uint32_t> conv_parity);

}  // namespace sluice::cuda
