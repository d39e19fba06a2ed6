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

// One sequence in a slot: feeds tokens and gets the next ones.
class Sequence {
 public:
  Sequence(program::Backend& backend, std::size_t slot, const std::vector<std::int32_t>& prompt,
           const GenerateOptions& options, std::size_t n_tokens, const std::atomic<bool>* interrupted)
      : backend_(backend),
        slot_(slot),
        interrupted_(interrupted),
        sampling_(options.sampling.sampling),
        stop_tokens_(options.stop_tokens),
        n_tokens_(n_tokens),
        penalties_({options.sampling.presence_penalty, options.sampling.frequency_penalty,
                    options.sampling.repeat_penalty},
                   prompt) {
    program::validate(sampling_, "sampling");
    backend_.reset(slot_);
  }

  // Positions that are fed, or whose token is chosen by a dispatch that feeds it.
  std::size_t length() const { return length_; }

  // Feeds a part of the prompt after which no token is wanted.
  void feed(std::span<const std::int32_t> tokens) { run(tokens, {}); }

  // Feeds the prompt's end and tells `on_token` the token chosen after it.
  void feed_last(std::span<const std::int32_t> tokens, const program::OnToken& on_token) {
    take(run(tokens, {{tokens.size() - 1, false, choice()}}).tokens.front(), on_token);
  }

  // Feeds the last token, and up to `most` - 1 of those that come of it; tells them `on_token`, which says whether there
  // shall be more.
  void go_on(std::size_t most, const program::OnToken& on_token) {
    program::Continuation continuation{.slot = slot_,
                                       .position = length_,
                                       .token = last_,
                                       .choice = choice(),
                                       .most_tokens = most,
                                       .stop_tokens = stop_tokens_,
                                       .interrupted = interrupted_};
    if (!continuation.choice.edits.empty()) continuation.most_tokens = 1;  // each token has edits of its own
    length_ = backend_.run(continuation, [&](std::int32_t token) {
      ++length_;  // what it was chosen after is fed
      return take(token, on_token);
    });
  }

 private:
  program::Choice choice() const { return {sampling_, draw_, n_tokens_, penalties_.edits()}; }

  program::StepResult run(std::span<const std::int32_t> tokens, std::vector<program::Output> outputs) {
    program::Step step;
    step.tokens.assign(tokens.begin(), tokens.end());
    step.spans.push_back({slot_, length_, 0, tokens.size()});
    step.outputs = std::move(outputs);
    step.interrupted = interrupted_;
    program::StepResult result = backend_.run(step);
    length_ += tokens.size();
    return result;
  }

  bool take(std::int32_t token, const program::OnToken& on_token) {
    if (token < 0) {
      throw Error("no token can be chosen: every logit is masked or NaN",
                  fmt::format("after position {}", length_ - 1), "check the checkpoint's weights");
    }
    ++draw_;
    last_ = token;
    penalties_.add_generated(token);
    return on_token(token);
  }

  program::Backend& backend_;
  std::size_t slot_;
  const std::atomic<bool>* interrupted_;
  program::Sampling sampling_;
  const std::vector<std::int32_t>& stop_tokens_;
  std::size_t n_tokens_;
  Penalties penalties_;
  std::size_t length_ = 0;
  std::uint64_t draw_ = 0;
  std::int32_t last_ = -1;
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
  Sequence sequence(backend, slot, prompt, options, std::min(tokenizer.size(), backend.config().vocab_size),
                    interrupted);

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
  Clock::time_point first_token;
  const program::OnToken on_token = [&](std::int32_t token) {
    if (++result.generated_tokens == 1) {
      first_token = Clock::now();
      result.seconds_to_first_token = seconds_between(start, first_token);
    }
    end = end_with(token);
    return !end;
  };
  const auto is_interrupted = [&] { return interrupted != nullptr && interrupted->load(); };
  std::span<const std::int32_t> to_feed = prompt;
  const auto step = [&] {
    if (result.generated_tokens > 0) {
      const std::size_t room = backend.context() - sequence.length();
      const std::size_t wanted =
          options.max_tokens == 0 ? room : options.max_tokens - result.generated_tokens;
      sequence.go_on(std::min(room, wanted), on_token);
    } else if (to_feed.size() > options.prefill_chunk) {
      sequence.feed(to_feed.first(options.prefill_chunk));
      to_feed = to_feed.subspan(options.prefill_chunk);
    } else {
      sequence.feed_last(to_feed, on_token);
    }
  };
  try {
    while (!end && !is_interrupted()) step();
  } catch (const program::StepInterrupted&) {
    end = StopReason::kInterrupted;  // in the prompt: there is no token yet
  }
  text.finish();
  result.reason = end.value_or(StopReason::kInterrupted);
  if (result.generated_tokens > 0) result.seconds_decoding = seconds_between(first_token, Clock::now());
  return result;
}

}  // namespace sluice::engine
