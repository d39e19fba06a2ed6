// How well a model foresees a text, scored as llama.cpp's llama-perplexity does (ggml-org/llama.cpp,
// tools/perplexity/perplexity.cpp):
//
//   The tokens are cut into windows of `window` positions; what is left over in the end is dropped. Every window is
//   a sequence of its own. In each, the rows at window / 2 ... window - 2 are scored: the row at position i predicts
//   token i + 1, so every scored token has at least half a window before it.
//
//   nll_j = log Σ exp(logits) - logits[token]        over the whole vocabulary, padding rows included
//   perplexity     = exp(mean nll)
//   standard error = perplexity · sqrt((mean nll² - (mean nll)²) / (n - 1)),  n scored tokens
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "program/backend.h"

namespace sluice::engine {

constexpr std::size_t kSmallestWindow = 3;  // positions; the smallest that has a row to score

struct PerplexityOptions {
  std::size_t window = 512;        // positions; at least kSmallestWindow, at most the backend's context
  std::size_t max_windows = 0;     // 0: all
  std::size_t rows_per_step = 64;  // at least 1
  const std::atomic<bool>* interrupted = nullptr;  // of every step
};

struct Perplexity {
  double value = 0;
  double standard_error = 0;
  double mean_nll = 0;            // natural logarithm
  std::size_t scored_tokens = 0;  // n
  std::size_t windows = 0;
};

// How many windows `n_tokens` give. Throws Error unless there are two windows at least, as llama-perplexity wants
// them, and two scored tokens, without which there is no standard error.
std::size_t count_windows(std::size_t n_tokens, const PerplexityOptions& options);

// Scores `tokens` in `slot`. `on_step` is told after every step how many positions of how many are fed; it may throw
// to stop. Throws Error as `count_windows` does, for a window that the backend's context doesn't hold, for logits
// that are not finite, and for a perplexity beyond the range of double.
Perplexity measure_perplexity(program::Backend& backend, std::size_t slot,
                              std::span<const std::int32_t> tokens, const PerplexityOptions& options,
                              const std::function<void(std::size_t done, std::size_t total)>& on_step = {});

// -log softmax(logits)[token], summed in double. Nothing is checked: infinite or NaN logits give NaN or infinity.
double negative_log_likelihood(std::span<const float> logits, std::size_t token);

}  // namespace sluice::engine
