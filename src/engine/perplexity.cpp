#include "engine/perplexity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::engine {
namespace {

std::size_t scored_in_window(std::size_t window) {
  return window - window / 2 - 1;
}

// The rows of one window, fed step by step.
class Scorer {
 public:
  Scorer(program::Backend& backend, std::size_t slot, const std::atomic<bool>* interrupted)
      : backend_(backend), slot_(slot), interrupted_(interrupted) {}

  // Feeds rows `begin` to `begin + n_rows` of `window`; appends the scores of those that are scored to `nll`.
  // `at` is where the window begins in the text.
  void feed(std::span<const std::int32_t> window, std::size_t begin, std::size_t n_rows, std::size_t at,
            std::vector<double>& nll) const {
    const program::Step step = make_step(window, begin, n_rows);
    const program::StepResult result = backend_.run(step);
    const std::size_t vocab = backend_.config().vocab_size;
    SLUICE_CHECK(result.logits.size() == step.outputs.size() * vocab);
    for (std::size_t i = 0; i < step.outputs.size(); ++i) {
      const auto logits = std::span<const float>(result.logits).subspan(i * vocab, vocab);
      const std::size_t position = begin + step.outputs[i].row;
      if (!std::ranges::all_of(logits, [](float logit) { return std::isfinite(logit); })) {
        throw Error(fmt::format("the logits after token {} of the text are not finite", at + position),
                    "perplexity", "check the checkpoint's weights");
      }
      nll.push_back(negative_log_likelihood(logits, static_cast<std::size_t>(window[position + 1])));
    }
  }

 private:
  program::Step make_step(std::span<const std::int32_t> window, std::size_t begin, std::size_t n_rows) const {
    program::Step step;
    const auto rows = window.subspan(begin, n_rows);
    step.tokens.assign(rows.begin(), rows.end());
    step.spans = {{.slot = slot_, .position = begin, .first_row = 0, .n_rows = n_rows}};
    for (std::size_t row = 0; row < n_rows; ++row) {
      if (begin + row >= window.size() / 2)
        step.outputs.push_back({.row = row, .return_logits = true, .choice = std::nullopt});
    }
    step.interrupted = interrupted_;
    return step;
  }

  program::Backend& backend_;
  std::size_t slot_;
  const std::atomic<bool>* interrupted_;
};

Perplexity summarize(const std::vector<double>& nll, std::size_t windows) {
  const auto n = static_cast<double>(nll.size());
  double sum = 0;
  for (const double value : nll) sum += value;
  const double mean = sum / n;
  // The same as mean nll² - (mean nll)², without the cancellation.
  double squares = 0;
  for (const double value : nll) squares += (value - mean) * (value - mean);
  const double perplexity = std::exp(mean);
  if (!std::isfinite(perplexity)) {
    throw Error(fmt::format("the perplexity, exp({:.6g}), is beyond the range of numbers", mean),
                "perplexity", "check the checkpoint's weights");
  }
  return {.value = perplexity,
          .standard_error = perplexity * std::sqrt(squares / n / (n - 1)),
          .mean_nll = mean,
          .scored_tokens = nll.size(),
          .windows = windows};
}

}  // namespace

double negative_log_likelihood(std::span<const float> logits, std::size_t token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - largest);
  return largest + std::log(sum) - double{logits[token]};
}

std::size_t count_windows(std::size_t n_tokens, const PerplexityOptions& options) {
  if (options.window < kSmallestWindow) {
    throw Error(fmt::format("a window of {} positions has no token to score", options.window), "context",
                fmt::format("use at least {}", kSmallestWindow));
  }
  const std::size_t windows = n_tokens / options.window;
  if (windows < 2) {
    throw Error(
        fmt::format("the text has {} tokens, too few for two windows of {}", n_tokens, options.window),
        "perplexity", "give a longer text, or a smaller context (-c)");
  }
  const std::size_t used = options.max_windows == 0 ? windows : std::min(windows, options.max_windows);
  if (used * scored_in_window(options.window) < 2) {
    throw Error("one scored token has no standard error", "perplexity",
                "use more windows, or a larger context (-c)");
  }
  return used;
}

Perplexity measure_perplexity(program::Backend& backend, std::size_t slot,
                              std::span<const std::int32_t> tokens, const PerplexityOptions& options,
                              const std::function<void(std::size_t done, std::size_t total)>& on_step) {
  SLUICE_CHECK(slot < backend.n_slots() && options.rows_per_step > 0);
  const std::size_t windows = count_windows(tokens.size(), options);
  if (options.window > backend.context()) {
    throw Error(fmt::format("a window of {} positions doesn't fit into a context of {}", options.window,
                            backend.context()),
                "perplexity", "use a smaller window");
  }
  const std::size_t fed = options.window - 1;  // the last token of a window predicts nothing that is scored
  const Scorer scorer(backend, slot, options.interrupted);
  std::vector<double> nll;
  nll.reserve(windows * scored_in_window(options.window));
  for (std::size_t i = 0; i < windows; ++i) {
    const std::size_t at = i * options.window;
    backend.reset(slot);
    for (std::size_t begin = 0; begin < fed; begin += options.rows_per_step) {
      const std::size_t n_rows = std::min(options.rows_per_step, fed - begin);
      scorer.feed(tokens.subspan(at, options.window), begin, n_rows, at, nll);
      if (on_step) on_step(i * fed + begin + n_rows, windows * fed);
    }
  }
  return summarize(nll, windows);
}

}  // namespace sluice::engine
