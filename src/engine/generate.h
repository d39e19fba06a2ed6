// A sequence from prompt to end: feeding, penalties, stopping, streaming.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "program/backend.h"

namespace sluice::engine {

struct SamplingOptions {
  program::Sampling sampling;
  float presence_penalty = 0.0F;   // subtracted once from every token generated before
  float frequency_penalty = 0.0F;  // subtracted per occurrence among the tokens generated before
  float repeat_penalty = 1.0F;  // divides positive, multiplies negative logits of tokens in prompt or output
};

struct GenerateOptions {
  SamplingOptions sampling;
  std::size_t max_tokens = 0;             // 0: until the end token or the end of the context
  std::vector<std::int32_t> stop_tokens;  // end the text, are not part of it
  std::vector<std::string> stop_texts;    // likewise; matched across token borders
  std::size_t prefill_chunk = 512;        // rows a step while the prompt is fed
};

enum class StopReason : unsigned char { kEndToken, kStopText, kMaxTokens, kContext, kInterrupted };

struct GenerateResult {
  StopReason reason = StopReason::kEndToken;
  std::size_t prompt_tokens = 0;
  std::size_t generated_tokens = 0;  // end token included
  double seconds_to_first_token = 0;
  double seconds_decoding = 0;  // after the first token
};

// Resets `slot`, feeds `prompt` (not empty) and generates. `on_text` gets whole UTF-8 characters as they are
// certain (text that may be the beginning of a stop text is held back); it returns false to interrupt.
// `interrupted` is looked at before every step, within those of the prompt where the device can, and by a device that makes
// several tokens in one dispatch before each of them. Throws Error if the prompt doesn't fit into the context, an
// option is out of its range, or no token can be chosen (the checkpoint gives NaN).
GenerateResult generate(program::Backend& backend, const model::Tokenizer& tokenizer, std::size_t slot,
                        const std::vector<std::int32_t>& prompt, const GenerateOptions& options,
                        const std::function<bool(std::string_view)>& on_text,
                        const std::atomic<bool>* interrupted = nullptr);

}  // namespace sluice::engine
