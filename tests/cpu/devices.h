// Devices to be compared: the same steps on any table of kernels, this machine's and the emulated ones, through the same
// Programs, tasks and packing as the backend. And how tests feed them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "cpu/backend.h"
#include "cpu/executor.h"
#include "cpu/kernels.h"
#include "cpu/packed.h"
#include "cpu/sequences.h"
#include "cpu/workers.h"
#include "program/backend.h"
#include "program/builder.h"
#include "tests/cpu/emulated_kernels.h"
#include "tests/support/random_inputs.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace sluice::cpu {

using test::kIsSanitized;
using test::random_tokens;

// This machine's, then the emulated ones.
inline std::vector<const Kernels*> all_tables() {
  std::size_t n = 0;
  const Kernels* const* available = available_kernels(&n);
  std::vector<const Kernels*> tables(available, available + n);
  for (const Kernels* emulated : emulated_tables()) tables.push_back(emulated);
  return tables;
}

// What rounding the delta rule's operands to bf16 makes of a long span's mixer (delta_test.cpp derives it), and through it of
// logits and later rows, on tables that take activations in bf16.
inline constexpr double kDeltaRoundings = 7 * 0x1p-9;

inline bool is_emulated(const Kernels& kernels) {
  return std::string_view(kernels.name).ends_with("emulated");
}

// As if there were a processor for each worker, or, for every third number of workers, too few: executors do other things then.
inline Placement placement_for(std::size_t n_workers) {
  Placement placement;
  placement.n_processors = n_workers % 3 == 0 ? 1 : n_workers;
  return placement;
}

// A Program is built for every change of shape.
class TableDevice final : public program::Backend {
 public:
  TableDevice(const model::Model& model, const Kernels& kernels, std::size_t n_workers, std::size_t n_slots,
              std::size_t context, bool screened = false)
      : model_(model),
        name_(kernels.name),
        context_(context),
        workers_(n_workers, placement_for(n_workers)),
        tiling_(make_tiling(n_workers)),
        weights_(model, tiling_, workers_, nullptr, {}, screened),
        sequences_(model.config, n_slots, context),
        executor_(model, weights_, kernels, workers_, sequences_) {}

  std::string_view name() const override { return name_; }
  const model::ModelConfig& config() const override { return model_.config; }
  std::size_t n_slots() const override { return sequences_.n_slots(); }
  std::size_t context() const override { return context_; }
  void reset(std::size_t slot) override { sequences_.reset(slot); }

  using program::Backend::run;
  program::StepResult run(const program::Step& step) override {
    program::validate(step, model_.config, context_, sequences_.lengths());
    program::StepShape shape;
    shape.is_screened = weights_.is_screened() && can_screen(step, model_.config.vocab_size, 4);
    for (const program::Span& span : step.spans) {
      const auto rows = static_cast<std::uint32_t>(span.n_rows);
      shape.spans.push_back({rows, program::kv_splits_of(rows, span.position + span.n_rows)});
    }
    program::StepResult result;
    result.tokens.assign(step.outputs.size(), -1);
    for (const program::Output& output : step.outputs) {
      shape.output_rows.push_back(static_cast<std::uint32_t>(output.row));
      if (output.return_logits) result.logits.resize(result.logits.size() + model_.config.vocab_size);
    }
    if (program_ == nullptr || !(program_->shape == shape)) {
      program_ = std::make_unique<program::Program>(program::build(model_.config, shape, tiling_));
    }
    executor_.run(*program_, step, result);
    n_screened_ += shape.is_screened ? 1 : 0;
    for (const program::Span& span : step.spans) sequences_.advance(span.slot, span.n_rows);
    return result;
  }

  std::size_t n_screened() const { return n_screened_; }                           // steps
  std::size_t panels_recomputed() const { return executor_.panels_recomputed(); }  // in the last of them
  std::size_t panels_left() const { return executor_.panels_left(); }              // the same

 private:
  static program::Tiling make_tiling(std::size_t n_workers) {
    program::Tiling tiling;
    tiling.n_workers = n_workers;
    tiling.bytes_per_tile = 8 << 10;  // tests are small: more tiles
    return tiling;
  }

  const model::Model& model_;
  std::string_view name_;
  std::size_t context_;

  Workers workers_;
  program::Tiling tiling_;
  PackedWeights weights_;
  Sequences sequences_;
  Executor executor_;
  std::unique_ptr<program::Program> program_;
  std::size_t n_screened_ = 0;
};

// Feeds `tokens` to `slot` from `position` on in pieces of the given lengths; logits of every row from `from` on.
inline std::vector<float> feed(program::Backend& backend, std::size_t slot,
                               const std::vector<std::int32_t>& tokens,
                               const std::vector<std::size_t>& pieces, std::size_t position = 0,
                               std::size_t from = 0) {
  std::vector<float> logits;
  for (const std::size_t n : pieces) {
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(position);
    program::Step step{{first, first + static_cast<std::ptrdiff_t>(n)}, {{slot, position, 0, n}}, {}};
    for (std::size_t row = 0; row < n; ++row)
      if (position + row >= from) step.outputs.push_back({row, true, std::nullopt});
    const std::vector<float> part = backend.run(step).logits;
    logits.insert(logits.end(), part.begin(), part.end());
    position += n;
  }
  return logits;
}

// `n` cut at random places into pieces of up to `most`.
inline std::vector<std::size_t> random_pieces(test::Random& random, std::size_t n, std::size_t most) {
  std::vector<std::size_t> pieces;
  for (; n > 0; n -= pieces.back()) pieces.push_back(test::pick(random, 1, std::min(n, most)));
  return pieces;
}

}  // namespace sluice::cpu
