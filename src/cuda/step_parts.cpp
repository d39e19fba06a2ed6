#include "cuda/step_parts.h"

#include <algorithm>

#include "cuda/backend.h"

namespace sluice::cuda {
namespace {

static_assert(program::kMaxShortSpan <= kMostDecodeRows);

bool is_short(const program::Span& span) {
  return span.n_rows <= program::kMaxShortSpan;
}

// Adds spans of a step to parts.
class Adder {
 public:
  Adder(const program::Step& step, std::span<const std::uint32_t> conv_parity)
      : step_(step),
        conv_parity_(conv_parity),
        output_of_(step.tokens.size(), Part::kNoOutput),
        logits_at_(step.outputs.size(), kNone) {
    std::uint32_t n_logits = 0;
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      const program::Output& output = step.outputs[i];
      output_of_[output.row] = i;
      if (needs_logits(output)) logits_at_[i] = n_logits++;
    }
  }

  void add(const program::Span& span, Part& part) const {
    part.spans.push_back({.slot = static_cast<std::uint32_t>(span.slot),
                          .position = static_cast<std::uint32_t>(span.position),
                          .first_row = static_cast<std::uint32_t>(part.rows.size()),
                          .n_rows = static_cast<std::uint32_t>(span.n_rows),
                          .conv_parity = conv_parity_[span.slot]});
    for (std::size_t i = span.first_row; i < span.first_row + span.n_rows; ++i) {
      Row row{};
      row.token = step_.tokens[i];
      row.span = static_cast<std::uint32_t>(part.spans.size() - 1);
      add(row, output_of_[i], part);
    }
  }

  // A row of `prefill` with an output, as a span of its own.
  void add_head(const Part& prefill, std::size_t index, Part& head) const {
    Row row{};
    row.token = prefill.rows[index].token;
    row.span = static_cast<std::uint32_t>(head.spans.size());
    const Span& span = prefill.spans[prefill.rows[index].span];
    head.spans.push_back({.slot = span.slot,
                          .position = span.position + static_cast<std::uint32_t>(index) - span.first_row,
                          .first_row = row.span,
                          .n_rows = 1,
                          .conv_parity = span.conv_parity});
    add(row, prefill.outputs[index], head);
  }

 private:
  void add(Row row, std::size_t output, Part& part) const {
    row.choice = ChoiceKind::kNothing;
    row.logits_at = kNone;
    if (output != Part::kNoOutput) {
      if (const auto& choice = step_.outputs[output].choice) set_choice(*choice, row, part.edits);
      row.logits_at = logits_at_[output];
    }
    part.rows.push_back(row);
    part.outputs.push_back(output);
  }

  const program::Step& step_;
  std::span<const std::uint32_t> conv_parity_;
  std::vector<std::size_t> output_of_;    // [rows]
  std::vector<std::uint32_t> logits_at_;  // [outputs]
};

// Rows [begin, end) of a step.
program::Step rows_of(const program::Step& step, std::size_t begin, std::size_t end) {
  program::Step part;
  part.tokens.assign(step.tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                     step.tokens.begin() + static_cast<std::ptrdiff_t>(end));
  for (const program::Span& span : step.spans) {
    const std::size_t first = std::max(span.first_row, begin);
    const std::size_t last = std::min(span.first_row + span.n_rows, end);
    if (first >= last) continue;
    part.spans.push_back({span.slot, span.position + first - span.first_row, first - begin, last - first});
  }
  for (const program::Output& output : step.outputs) {
    if (output.row < begin || output.row >= end) continue;
    part.outputs.push_back(output);
    part.outputs.back().row -= begin;
  }
  return part;
}

}  // namespace

void set_choice(const program::Choice& choice, Row& row, std::vector<Edit>& edits) {
  row.choice = choice_kind(choice);
  row.temperature = choice.sampling.temperature;
  row.top_p = choice.sampling.top_p;
  row.min_p = choice.sampling.min_p;
  row.top_k = static_cast<std::uint32_t>(std::min<std::size_t>(choice.sampling.top_k, kNone - 1));
  row.seed = choice.sampling.seed;
  row.draw = choice.draw;
  row.n_tokens = static_cast<std::uint32_t>(choice.n_tokens);
  row.first_edit = static_cast<std::uint32_t>(edits.size());
  row.n_edits = static_cast<std::uint32_t>(choice.edits.size());
  for (const program::LogitEdit& edit : choice.edits) edits.push_back({edit.token, edit.repeat, edit.add});
}

bool Part::has_outputs() const {
  return std::ranges::any_of(outputs, [](std::size_t output) { return output != kNoOutput; });
}

program::StepShape Part::shape() const {
  program::StepShape shape;
  // Splits of the KV cache are pages, which every op counts by itself.
  for (const Span& span : spans) shape.spans.push_back({span.n_rows, 1});
  for (std::uint32_t row = 0; row < outputs.size(); ++row)
    if (outputs[row] != kNoOutput) shape.output_rows.push_back(row);
  return shape;
}

MixedLimits mixed_limits(std::size_t rows, std::size_t n_slots) {
  constexpr std::size_t kShortestLong = program::kMaxShortSpan + 1;
  const std::size_t long_spans = std::min(n_slots, rows / kShortestLong);
  // A span of n rows has (n + kRowBlock - 1) / kRowBlock blocks; two groups in a row have more rows than one takes.
  return {.rows = rows,
          .row_blocks = (rows + (kRowBlock - 1) * long_spans) / kRowBlock,
          .groups = std::min(n_slots, 2 * rows / (kMostDecodeRows + 1) + 1),
          .heads = (rows + kMostDecodeRows - 1) / kMostDecodeRows};
}

bool needs_logits(const program::Output& output) {
  return output.return_logits || (output.choice && choice_kind(*output.choice) == ChoiceKind::kHost);
}

bool is_decode(const program::Step& step) {
  return step.tokens.size() <= kMostDecodeRows && std::ranges::all_of(step.spans, is_short);
}

std::vector<program::Step> launches_of(const program::Step& step, std::size_t most_rows) {
  std::vector<program::Step> launches;
  std::size_t begin = 0;
  for (const program::Span& span : step.spans) {
    for (std::size_t first = 0; first < span.n_rows; first += most_rows) {
      const std::size_t end = span.first_row + std::min(first + most_rows, span.n_rows);
      if (end - begin <= most_rows) continue;
      launches.push_back(rows_of(step, begin, span.first_row + first));
      begin = span.first_row + first;
    }
  }
  launches.push_back(rows_of(step, begin, step.tokens.size()));
  return launches;
}

Part decode_part(const program::Step& step, std::span<const std::uint32_t> conv_parity) {
  const Adder adder(step, conv_parity);
  Part part;
  for (const program::Span& span : step.spans) adder.add(span, part);
  return part;
}

MixedParts mixed_parts(const program::Step& step, std::span<const std::uint32_t> conv_parity) {
  const Adder adder(step, conv_parity);
  MixedParts parts;
  for (const program::Span& span : step.spans) {
    if (!is_short(span)) {
      adder.add(span, parts.prefill);
      continue;
    }
    if (parts.groups.empty() || parts.groups.back().rows.size() + span.n_rows > kMostDecodeRows)
      parts.groups.emplace_back();
    adder.add(span, parts.groups.back());
  }
  const Part& prefill = parts.prefill;
  for (std::uint32_t index = 0; index < prefill.spans.size(); ++index) {
    const Span& span = prefill.spans[index];
    for (std::uint32_t row = 0; row < span.n_rows; row += kRowBlock)
      parts.blocks.push_back(
          {index, row / kRowBlock, span.first_row + row, std::min(kRowBlock, span.n_rows - row)});
  }
  for (std::uint32_t row = 0; row < prefill.rows.size(); ++row) {
    if (prefill.outputs[row] == Part::kNoOutput) continue;
    if (parts.heads.empty() || parts.heads.back().rows.size() == kMostDecodeRows) parts.heads.emplace_back();
    adder.add_head(prefill, row, parts.heads.back());
    parts.output_rows.push_back(row);
  }
  return parts;
}

}  // namespace sluice::cuda
