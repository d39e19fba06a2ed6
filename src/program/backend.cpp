#include "program/backend.h"

#include <cmath>
#include <limits>
#include <string>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::program {
namespace {

void check_spans(const Step& step, std::size_t context, const std::vector<std::size_t>& slot_lengths) {
  std::vector<bool> used(slot_lengths.size(), false);
  std::size_t rows = 0;
  for (std::size_t i = 0; i < step.spans.size(); ++i) {
    const Span& span = step.spans[i];
    const std::string where = fmt::format("step.spans[{}]", i);
    if (span.slot >= slot_lengths.size()) {
      throw Error(fmt::format("slot is {}", span.slot), where,
                  fmt::format("there are {} slots", slot_lengths.size()));
    }
    if (used[span.slot])
      throw Error(fmt::format("slot {} is there twice", span.slot), where, "one span per slot");
    used[span.slot] = true;
    if (span.first_row != rows) {
      throw Error(fmt::format("first_row is {}", span.first_row), where,
                  fmt::format("want {}: spans cover the rows in order", rows));
    }
    if (span.n_rows == 0 || span.n_rows > step.tokens.size() - rows) {
      throw Error(fmt::format("n_rows is {}", span.n_rows), where,
                  fmt::format("want 1 to {}, the tokens left", step.tokens.size() - rows));
    }
    if (span.position != slot_lengths[span.slot]) {
      throw Error(fmt::format("position is {}", span.position), where,
                  fmt::format("slot {} holds {} positions so far", span.slot, slot_lengths[span.slot]));
    }
    if (span.position > context || span.n_rows > context - span.position) {
      throw Error(fmt::format("n_rows {} at position {} leaves the context", span.n_rows, span.position),
                  where, fmt::format("the context holds {} positions", context));
    }
    rows += span.n_rows;
  }
  if (rows != step.tokens.size()) {
    throw Error(fmt::format("{} of {} rows are in no span", step.tokens.size() - rows, step.tokens.size()),
                "step.spans", "spans cover all rows");
  }
}

void check_tokens(const std::vector<std::int32_t>& tokens, std::size_t vocab_size) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || static_cast<std::size_t>(tokens[i]) >= vocab_size) {
      throw Error(fmt::format("token {} is outside the vocabulary", tokens[i]),
                  fmt::format("step.tokens[{}]", i), fmt::format("ids are 0 to {}", vocab_size - 1));
    }
  }
}

void check_edits(const std::vector<LogitEdit>& edits, std::size_t vocab_size, const std::string& where) {
  for (std::size_t i = 0; i < edits.size(); ++i) {
    const LogitEdit& edit = edits[i];
    const std::string here = fmt::format("{}.edits[{}]", where, i);
    if (edit.token < 0 || static_cast<std::size_t>(edit.token) >= vocab_size) {
      throw Error(fmt::format("token {} is outside the vocabulary", edit.token), here,
                  fmt::format("ids are 0 to {}", vocab_size - 1));
    }
    if (i > 0 && edits[i - 1].token >= edit.token) {
      throw Error(fmt::format("token {} follows {}", edit.token, edits[i - 1].token), here,
                  "edits are sorted by token, no token twice");
    }
    if (!std::isfinite(edit.repeat) || edit.repeat <= 0.0F) {
      throw Error(fmt::format("repeat is {}", edit.repeat), here, "want a positive number");
    }
    if (!(edit.add < std::numeric_limits<float>::infinity())) {
      throw Error(fmt::format("add is {}", edit.add), here, "want a finite number, or -infinity for a mask");
    }
  }
}

void check_outputs(const Step& step, std::size_t vocab_size) {
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    const Output& output = step.outputs[i];
    const std::string where = fmt::format("step.outputs[{}]", i);
    if (output.row >= step.tokens.size()) {
      throw Error(fmt::format("row is {}", output.row), where,
                  fmt::format("the step has {} rows", step.tokens.size()));
    }
    if (i > 0 && step.outputs[i - 1].row >= output.row) {
      throw Error(fmt::format("row {} follows {}", output.row, step.outputs[i - 1].row), where,
                  "outputs are in row order, one a row");
    }
    if (!output.choice) continue;
    const std::string choice = where + ".choice";
    if (output.choice->n_tokens == 0 || output.choice->n_tokens > vocab_size) {
      throw Error(fmt::format("n_tokens is {}", output.choice->n_tokens), choice,
                  fmt::format("want 1 to {}", vocab_size));
    }
    validate(output.choice->sampling, choice + ".sampling");
    check_edits(output.choice->edits, vocab_size, choice);
  }
}

}  // namespace

std::int32_t choose(std::span<const float> logits, const Choice& choice) {
  if (choice.edits.empty())
    return try_sample(logits, choice.n_tokens, choice.sampling, choice.draw).value_or(-1);
  std::vector<float> edited(logits.begin(), logits.end());
  apply_edits(edited, choice.edits);
  return try_sample(edited, choice.n_tokens, choice.sampling, choice.draw).value_or(-1);
}

std::size_t Backend::run(const Continuation& continuation, const OnToken& on_token) {
  Step step;
  step.tokens = {continuation.token};
  step.spans.push_back({continuation.slot, continuation.position, 0, 1});
  step.outputs.push_back({0, false, continuation.choice});
  const StepResult result = run(step);
  on_token(result.tokens.front());
  return continuation.position + 1;
}

void validate(const Step& step, const model::ModelConfig& config, std::size_t context,
              const std::vector<std::size_t>& slot_lengths) {
  check_spans(step, context, slot_lengths);
  check_tokens(step.tokens, config.vocab_size);
  check_outputs(step, config.vocab_size);
}

}  // namespace sluice::program
