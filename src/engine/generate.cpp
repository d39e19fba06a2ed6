#include "engine/generate.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "engine/penalties.h"
#include "engine/stop_text.h"

namespace sluice::engine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// From tokens to the caller: characters made whole, stop texts found, what may become one held back.
class TextOutput {
 public:
  TextOutput(const model::Tokenizer& tokenizer, const std::vector<std::string>& stop_texts,
             const std::function<bool(std::string_view)>& on_text)
      : decoder_(tokenizer), stop_text_(stop_texts), on_text_(on_text) {}

  void push(std::int32_t token) { emit(stop_text_.push(decoder_.push(token))); }

  void finish() {
    emit(stop_text_.push(decoder_.finish()));
    emit(stop_text_.finish());
  }

  bool stopped() const { return stop_text_.found(); }
  bool refused() const { return refused_; }  // the caller wants no more

 private:
  void emit(const std::string& text) {
    if (!text.empty() && !refused_) refused_ = !on_text_(text);
  }

  model::StreamDecoder decoder_;
  StopText stop_text_;
  const std::function<bool(std::string_view)>& on_text_;
  bool refused_ = false;
};

// One sequence in a slot: feeds tokens and gets the next one.
class Sequence {
 public:
  Sequence(program::Backend& backend, std::size_t slot, const std::vector<std::int32_t>& prompt,
           const SamplingOptions& options, std::size_t n_tokens)
      : backend_(backend),
        slot_(slot),
        sampling_(options.sampling),
        n_tokens_(n_tokens),
        penalties_({options.presence_penalty, options.frequency_penalty, options.repeat_penalty}, prompt) {
    program::validate(sampling_, "sampling");
    backend_.reset(slot_);
  }

  std::size_t length() const { return length_; }

  // Feeds `tokens`. With `choose`, returns the token chosen after the last of them, else -1.
  std::int32_t feed(std::span<const std::int32_t> tokens, bool choose) {
    program::Step step;
    step.tokens.assign(tokens.begin(), tokens.end());
    step.spans.push_back({slot_, length_, 0, tokens.size()});
    if (choose) {
      program::Choice choice{sampling_, draw_, n_tokens_, penalties_.edits()};
      step.outputs.push_back({tokens.size() - 1, false, std::move(choice)});
    }
    const program::StepResult result = backend_.run(step);
    length_ += tokens.size();
    if (!choose) return -1;

    SLUICE_CHECK(result.tokens.size() == 1);
    const std::int32_t token = result.tokens.front();
    if (token < 0) {
      throw Error("no token can be chosen: every logit is masked or NaN",
                  fmt::format("after position {}", length_ - 1), "check the checkpoint's weights");
    }
    ++draw_;
    penalties_.add_generated(token);
    return token;
  }

 private:
  program::Backend& backend_;
  std::size_t slot_;
  program::Sampling sampling_;
  std::size_t n_tokens_;
  Penalties penalties_;
  std::size_t length_ = 0;
  std::uint64_t draw_ = 0;
};

void check(const program::Backend& backend, std::size_t slot, const std::vector<std::int32_t>& prompt,
           const GenerateOptions& options) {
  SLUICE_CHECK(slot < backend.n_slots());
  if (prompt.empty()) throw Error("there are no tokens", "prompt", "give at least one");
  if (prompt.size() > backend.context()) {
    throw Error(fmt::format("{} tokens don't fit into a context of {}", prompt.size(), backend.context()),
                "prompt", "shorten it, or enlarge the context (--ctx)");
  }
  if (options.prefill_chunk == 0) throw Error("prefill_chunk is 0", "options", "want at least 1");
}

}  // namespace

GenerateResult generate(program::Backend& backend, const model::Tokenizer& tokenizer, std::size_t slot,
                        const std::vector<std::int32_t>& prompt, const GenerateOptions& options,
                        const std::function<bool(std::string_view)>& on_text,
                        const std::atomic<bool>* interrupted) {
  const Clock::time_point start = Clock::now();
  check(backend, slot, prompt, options);
  TextOutput text(tokenizer, options.stop_texts, on_text);
  Sequence sequence(backend, slot, prompt, options.sampling,
                    std::min(tokenizer.size(), backend.config().vocab_size));

  GenerateResult result;
  result.prompt_tokens = prompt.size();

  // Why generation ends with `token`, if it does.
  const auto end_with = [&](std::int32_t token) -> std::optional<StopReason> {
    if (std::ranges::find(options.stop_tokens, token) != options.stop_tokens.end())
      return StopReason::kEndToken;
    text.push(token);
    if (text.stopped()) return StopReason::kStopText;
    if (text.refused()) return StopReason::kInterrupted;
    if (result.generated_tokens == options.max_tokens) return StopReason::kMaxTokens;  // never, if that is 0
    if (sequence.length() == backend.context()) return StopReason::kContext;           // no room to feed it
    return std::nullopt;
  };

  std::optional<StopReason> end;
  std::int32_t token = -1;
  std::span<const std::int32_t> to_feed = prompt;
  Clock::time_point first_token;
  while (!end) {
    if (interrupted != nullptr && interrupted->load()) {
      end = StopReason::kInterrupted;
      break;
    }
    const bool whole = to_feed.size() <= options.prefill_chunk;
    token = sequence.feed(whole ? to_feed : to_feed.first(options.prefill_chunk), whole);
    if (!whole) {
      to_feed = to_feed.subspan(options.prefill_chunk);
      continue;
    }
    if (++result.generated_tokens == 1) {
      first_token = Clock::now();
      result.seconds_to_first_token = seconds_between(start, first_token);
    }
    end = end_with(token);
    to_feed = {&token, 1};
  }
  text.finish();
  result.reason = *end;
  if (result.generated_tokens > 0) result.seconds_decoding = seconds_between(first_token, Clock::now());
  return result;
}

}  // namespace sluice::engine
