// The contract between what runs sequences (engine) and what computes steps (oracle, cpu, cuda).
//
// A step is a list of rows; a row is (sequence slot, position, token). Rows of one sequence are contiguous: a
// span. Decode is spans of one row, prefill a span of many. Every step is one dispatch. A row's logits do not
// depend on what else shares the step.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "program/sampling.h"

namespace sluice::program {

// Consecutive positions of the sequence in `slot`. Rows are numbered through the step: a span's rows are
// first_row .. first_row + n_rows - 1, the tokens are Step::tokens at those indices.
struct Span {
  std::size_t slot = 0;
  std::size_t position = 0;  // of the first row; must be the slot's length so far
  std::size_t first_row = 0;
  std::size_t n_rows = 0;  // at least 1
};

// How the next token after a row is chosen.
struct Choice {
  Sampling sampling;
  std::uint64_t draw = 0;
  std::size_t n_tokens = 0;  // ids from here on are padding; 1 to vocab
  std::vector<LogitEdit> edits;
};

// A row whose logits are needed. Rows without an output never meet the head.
struct Output {
  std::size_t row = 0;
  bool return_logits = false;
  std::optional<Choice> choice;
};

struct Step {
  std::vector<std::int32_t> tokens;  // [n_rows]
  std::vector<Span> spans;           // in row order, covering all rows; no slot twice
  std::vector<Output> outputs;       // in row order
  // Once it is true, a device that can ends the step early, by StepInterrupted.
  const std::atomic<bool>* interrupted = nullptr;
};

// A step was given up, since its flag said so. The slots of its spans must be reset before they are used again.
struct StepInterrupted : std::exception {
  const char* what() const noexcept override { return "the step was interrupted"; }
};

struct StepResult {
  std::vector<float> logits;  // [outputs with return_logits, vocab], unedited
  // [outputs]: the chosen id; -1 where no choice was asked for, or none was possible (all logits masked or NaN):
  // one row's trouble is not its neighbours'.
  std::vector<std::int32_t> tokens;
};

// A sequence that goes on by itself: `token` is fed, then the token chosen after it, and so on.
struct Continuation {
  std::size_t slot = 0;
  std::size_t position = 0;  // of `token`; must be the slot's length so far
  std::int32_t token = 0;
  Choice choice;                // of the first choice; `draw` goes up by one a token
  std::size_t most_tokens = 1;  // to choose; each is a position of the context
  // Choosing one is the end.
  std::vector<std::int32_t> stop_tokens = {};  // NOLINT(readability-redundant-member-init): may be left out
  // Once it is true, a dispatch ends as soon as the device can.
  const std::atomic<bool>* interrupted = nullptr;
};

// Told of each token as soon as it is chosen, -1 if none can be; says whether more are wanted.
using OnToken = std::function<bool(std::int32_t token)>;

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;
  virtual const model::ModelConfig& config() const = 0;
  virtual std::size_t n_slots() const = 0;
  virtual std::size_t context() const = 0;  // positions that a slot can hold

  // Empties a slot: length 0, recurrent and convolution state zero.
  virtual void reset(std::size_t slot) = 0;

  // Runs one step. Throws Error for what `validate` rejects, such as a token outside the vocabulary or a span
  // that leaves the context; the slots are unchanged then. Throws StepInterrupted if the step's flag is set meanwhile and
  // the device heeds it.
  virtual StepResult run(const Step& step) = 0;

  // Makes tokens in one dispatch: at least one, at most continuation.most_tokens, fewer if a stop token comes, `on_token` wants no
  // more, or it suits the device. Returns the slot's length then: the last token told of is not fed yet, unless `on_token`
  // wanted no more, in which case the device may be some tokens further. Throws Error as `run` does. By default a step.
  virtual std::size_t run(const Continuation& continuation, const OnToken& on_token);
};

// The id that `choice` picks from `logits` [vocab], unedited; -1 if none is possible.
std::int32_t choose(std::span<const float> logits, const Choice& choice);

// Throws Error, naming the field, unless `step` keeps to the rules above, for slots of the given lengths.
void validate(const Step& step, const model::ModelConfig& config, std::size_t context,
              const std::vector<std::size_t>& slot_lengths);

}  // namespace sluice::program
