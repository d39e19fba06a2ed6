// Penalties for tokens that a sequence has already seen, as edits of the logits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "program/sampling.h"

namespace sluice::engine {

struct PenaltyOptions {
  float presence = 0.0F;   // subtracted once from every token generated before (as OpenAI's API and vLLM do)
  float frequency = 0.0F;  // subtracted per occurrence among the tokens generated before
  float repeat =
      1.0F;  // divides positive, multiplies negative logits of tokens in prompt or output (as transformers)
};

class Penalties {
 public:
  // Throws Error that names the field unless presence and frequency are finite and repeat is finite and
  // positive.
  Penalties(const PenaltyOptions& options, std::span<const std::int32_t> prompt);

  void add_generated(std::int32_t token);

  // Sorted by token, no token twice; empty if all penalties are neutral.
  std::vector<program::LogitEdit> edits() const;

 private:
  PenaltyOptions options_;
  std::map<std::int32_t, std::size_t> generated_;  // token → occurrences; 0 for tokens of the prompt only
};

}  // namespace sluice::engine
