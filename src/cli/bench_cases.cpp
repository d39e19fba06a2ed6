#include "cli/bench_cases.h"

#include <algorithm>
#include <random>

#include "cli/interrupt.h"

namespace sluice::cli {
namespace {

class StepMaker {
 public:
  StepMaker(std::size_t vocab, std::uint64_t seed) : vocab_(vocab), random_(seed) {}

  // A row of each of `sequences` at `position`, then rows [begin, end) of the sequence behind them.
  program::Step make(std::size_t sequences, std::size_t position, std::size_t begin, std::size_t end,
                     bool is_last) {
    program::Step step;
    for (std::size_t slot = 0; slot < sequences; ++slot) {
      step.spans.push_back({.slot = slot, .position = position, .first_row = slot, .n_rows = 1});
      step.outputs.push_back(output(slot));
    }
    if (end > begin) {
      step.spans.push_back(
          {.slot = sequences, .position = begin, .first_row = sequences, .n_rows = end - begin});
      if (is_last) step.outputs.push_back(output(sequences + end - begin - 1));
    }
    std::uniform_int_distribution<std::size_t> any(0, vocab_ - 1);
    for (std::size_t row = 0; row < sequences + end - begin; ++row)
      step.tokens.push_back(static_cast<std::int32_t>(any(random_)));
    step.interrupted = &interrupt_flag();
    return step;
  }

 private:
  program::Output output(std::size_t row) const {
    program::Choice choice;  // the largest logit
    choice.n_tokens = vocab_;
    return {.row = row, .return_logits = false, .choice = choice};
  }

  std::size_t vocab_;
  std::mt19937_64 random_;
};

std::size_t prefill_steps(std::size_t rows) {
  return (rows + kPrefillRows - 1) / kPrefillRows;
}

}  // namespace

std::string_view name_of(BenchKind kind) {
  switch (kind) {
    case BenchKind::kDecode:
      return "decode";
    case BenchKind::kPrefill:
      return "prefill";
    case BenchKind::kMixed:
      break;
  }
  return "mixed";
}

std::size_t BenchCase::rows() const {
  return sequences + std::min(prefill, kPrefillRows);
}

std::size_t BenchCase::context() const {
  return std::max(prefill, sequences > 0 ? kWarmUpSteps + steps : 0);
}

std::vector<BenchCase> make_cases(const std::vector<std::size_t>& rows, std::size_t prefill,
                                  std::size_t decode) {
  std::vector<BenchCase> cases;
  if (decode > 0) {
    for (const std::size_t n : rows)
      cases.push_back({.kind = BenchKind::kDecode, .sequences = n, .prefill = 0, .steps = decode});
  }
  if (prefill > 0) {
    const std::size_t steps = prefill_steps(prefill);
    cases.push_back({.kind = BenchKind::kPrefill, .sequences = 0, .prefill = prefill, .steps = steps});
    if (decode > 0)
      cases.push_back({.kind = BenchKind::kMixed,
                       .sequences = *std::ranges::max_element(rows),
                       .prefill = prefill,
                       .steps = steps});
  }
  return cases;
}

BenchSteps make_steps(const BenchCase& what, const model::ModelConfig& config, std::uint64_t seed) {
  StepMaker maker(config.vocab_size, seed);
  BenchSteps steps;
  std::size_t position = 0;
  if (what.sequences > 0) {
    for (; position < kWarmUpSteps; ++position)
      steps.warm_up.push_back(maker.make(what.sequences, position, 0, 0, false));
  }
  for (std::size_t i = 0; i < what.steps; ++i) {
    const std::size_t begin = std::min(i * kPrefillRows, what.prefill);
    const std::size_t end = std::min(begin + kPrefillRows, what.prefill);
    steps.timed.push_back(maker.make(what.sequences, position + i, begin, end, end == what.prefill));
  }
  return steps;
}

}  // namespace sluice::cli
