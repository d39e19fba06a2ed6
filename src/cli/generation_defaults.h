// How a model likes to be sampled, where the user doesn't say.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "engine/generate.h"
#include "model/chat_template.h"

namespace sluice::cli {

struct GenerationDefaults {
  engine::SamplingOptions sampling;      // the seed is not set
  std::vector<std::int32_t> end_tokens;  // eos_token_id of generation_config.json; may be empty
};

// Off for small models, on from 4B up (docs/models.md §4); drawn at 3e9 parameters.
model::Thinking default_thinking(std::size_t parameters);

// From generation_config.json in the folder `model` (a .gguf file has none), if it is there and says anything about sampling: greedy unless do_sample, which
// counts as true where only temperature, top_k, top_p or min_p is given; what it leaves out is off. Else by
// size as the model cards advise (docs/models.md §4). Throws Error naming file, field and expectation.
GenerationDefaults generation_defaults(const std::filesystem::path& model, std::size_t parameters,
                                       model::Thinking thinking);

}  // namespace sluice::cli
