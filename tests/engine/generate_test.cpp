// Risk: generation feeds the wrong rows, stops in the wrong place, or shows text that isn't the model's.
#include "engine/generate.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/utf8.h"
#include "tests/engine/byte_tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/seed.h"

namespace sluice::engine {
namespace {

constexpr std::size_t kContext = 64;

// Chooses the tokens of a script, one after the other, then spaces; checks and keeps every step.
class ScriptedBackend final : public program::Backend {
 public:
  explicit ScriptedBackend(std::vector<std::int32_t> script) : script_(std::move(script)) {
    config_.vocab_size = 300;  // more than the tokenizer's 257: padding
  }

  std::string_view name() const override { return "scripted"; }
  const model::ModelConfig& config() const override { return config_; }
  std::size_t n_slots() const override { return lengths_.size(); }
  std::size_t context() const override { return kContext; }
  void reset(std::size_t slot) override { lengths_.at(slot) = 0; }

  using program::Backend::run;
  program::StepResult run(const program::Step& step) override {
    if (before_step) before_step();
    if (step.interrupted != nullptr && *step.interrupted) throw program::StepInterrupted();
    program::validate(step, config_, kContext, lengths_);
    for (const program::Span& span : step.spans) lengths_[span.slot] += span.n_rows;
    fed.insert(fed.end(), step.tokens.begin(), step.tokens.end());
    steps.push_back(step);
    program::StepResult result;
    for (const program::Output& output : step.outputs) {
      EXPECT_TRUE(output.choice.has_value());
      EXPECT_FALSE(output.return_logits);
      result.tokens.push_back(next_ < script_.size() ? script_[next_] : ' ');
      ++next_;
    }
    return result;
  }

  std::size_t run(const program::Continuation& continuation, const program::OnToken& on_token) override {
    dispatches.push_back(continuation);
    program::Continuation now = continuation;
    for (std::size_t made = 0; made < std::min(tokens_per_dispatch, continuation.most_tokens); ++made) {
      const bool interrupted = now.interrupted != nullptr && now.interrupted->load();
      if (made > 0 && interrupted) break;
      bool more = true;
      Backend::run(now, [&](std::int32_t token) {
        now.token = token;
        if (more) more = on_token(token);
        return more;
      });
      ++now.position;
      ++now.choice.draw;
      if (std::ranges::find(now.stop_tokens, now.token) != now.stop_tokens.end()) break;
      if (!more && ++overrun > most_overrun) break;  // the device hears of it later
    }
    return now.position;
  }

  std::size_t tokens_per_dispatch = 1;
  std::size_t most_overrun = 0;
  std::size_t overrun = 0;
  std::vector<program::Continuation> dispatches;
  std::function<void()> before_step;
  std::vector<program::Step> steps;
  std::vector<std::int32_t> fed;

 private:
  model::ModelConfig config_;
  std::vector<std::size_t> lengths_ = {7, 3};  // what was there before must not matter
  std::vector<std::int32_t> script_;
  std::size_t next_ = 0;
};

class Generate : public testing::Test {
 protected:
  static void SetUpTestSuite() { tokenizer_ = new model::Tokenizer(test::byte_tokenizer()); }
  static void TearDownTestSuite() {
    delete tokenizer_;
    tokenizer_ = nullptr;
  }

  Generate() {
    options_.max_tokens = 20;
    options_.stop_tokens = {test::kEndToken};
  }

  GenerateResult run(ScriptedBackend& backend, const std::vector<std::int32_t>& prompt) {
    text_.clear();
    const GenerateResult result = generate(
        backend, *tokenizer_, 1, prompt, options_,
        [this](std::string_view piece) {
          EXPECT_FALSE(piece.empty());
          EXPECT_EQ(utf8::replace_invalid(piece), piece) << "half a character";
          text_ += piece;
          return !on_piece_ || on_piece_(piece);
        },
        &interrupted_);
    EXPECT_EQ(result.prompt_tokens, prompt.size());
    EXPECT_GE(result.seconds_to_first_token, 0.0);
    EXPECT_GE(result.seconds_decoding, 0.0);
    return result;
  }

  static inline model::Tokenizer* tokenizer_ = nullptr;
  GenerateOptions options_;
  std::function<bool(std::string_view)> on_piece_;
  std::atomic<bool> interrupted_ = false;
  std::string text_;
};

std::vector<std::int32_t> then_end(std::string_view text) {
  std::vector<std::int32_t> tokens = test::bytes_of(text);
  tokens.push_back(test::kEndToken);
  return tokens;
}

TEST_F(Generate, FeedsPromptThenEachTokenAndAsksForOneChoiceAStep) {
  options_.prefill_chunk = 4;
  options_.sampling.sampling = {.temperature = 0.7F, .top_k = 5, .seed = 77};
  ScriptedBackend backend(then_end("hello"));
  const std::vector<std::int32_t> prompt = test::bytes_of("prompt of 19 tokens");
  const GenerateResult result = run(backend, prompt);
  EXPECT_EQ(result.reason, StopReason::kEndToken);
  EXPECT_EQ(result.generated_tokens, 6U);
  EXPECT_EQ(text_, "hello");

  std::vector<std::int32_t> want = prompt;  // the end token is not fed
  for (const std::int32_t token : test::bytes_of("hello")) want.push_back(token);
  EXPECT_EQ(backend.fed, want);
  ASSERT_EQ(backend.steps.size(), 5U + 5U);
  for (std::size_t i = 0; i < backend.steps.size(); ++i) {
    const program::Step& step = backend.steps[i];
    ASSERT_EQ(step.spans.size(), 1U);
    EXPECT_EQ(step.spans[0].slot, 1U);
    ASSERT_EQ(step.outputs.size(), i < 4 ? 0U : 1U) << "step " << i;
    if (i < 4) continue;
    const program::Choice& choice = step.outputs[0].choice.value();
    EXPECT_EQ(step.outputs[0].row, step.tokens.size() - 1);
    EXPECT_EQ(choice.draw, i - 4);
    EXPECT_EQ(choice.n_tokens, 257U) << "the head's padding rows have no token";
    EXPECT_EQ(choice.sampling.seed, 77U);
    EXPECT_EQ(choice.sampling.top_k, 5U);
    EXPECT_TRUE(choice.edits.empty());
  }
}

TEST_F(Generate, FeedsThePromptInChunksOfEverySize) {
  const std::vector<std::int32_t> prompt = test::bytes_of("twelve bytes");
  for (std::size_t chunk = 1; chunk <= 14; ++chunk) {
    options_.prefill_chunk = chunk;
    ScriptedBackend backend(then_end(""));
    run(backend, prompt);
    EXPECT_EQ(backend.fed, prompt);
    EXPECT_EQ(backend.steps.size(), (prompt.size() + chunk - 1) / chunk);
  }
}

TEST_F(Generate, MakesExactlyMaxTokens) {
  for (const std::size_t n : {1U, 2U, 7U}) {
    options_.max_tokens = n;
    ScriptedBackend backend(test::bytes_of("abcdefghij"));
    const GenerateResult result = run(backend, {1, 2, 3});
    EXPECT_EQ(result.reason, StopReason::kMaxTokens);
    EXPECT_EQ(result.generated_tokens, n);
    EXPECT_EQ(text_, std::string("abcdefghij").substr(0, n));
    EXPECT_EQ(backend.fed.size(), 3 + n - 1) << "the last token is not fed";
  }
  options_.max_tokens = 3;
  ScriptedBackend backend(then_end("ab"));
  EXPECT_EQ(run(backend, {1}).reason, StopReason::kEndToken) << "the end comes as the last token";
}

TEST_F(Generate, StopsAtTheEndOfTheContext) {
  options_.max_tokens = 0;
  for (const std::size_t prompt : {std::size_t{1}, kContext - 1, kContext}) {
    ScriptedBackend backend({});
    const GenerateResult result = run(backend, std::vector<std::int32_t>(prompt, 'x'));
    EXPECT_EQ(result.reason, StopReason::kContext);
    EXPECT_EQ(backend.fed.size(), kContext) << "every position was used";
    EXPECT_EQ(result.generated_tokens, kContext - prompt + 1);
  }
  ScriptedBackend backend({});
  EXPECT_THAT(test::error_of([&] { run(backend, std::vector<std::int32_t>(kContext + 1, 'x')); }),
              testing::AllOf(testing::HasSubstr("65 tokens"), testing::HasSubstr("context of 64")));
  EXPECT_TRUE(backend.steps.empty());
}

TEST_F(Generate, StopsAtAStopTextAcrossTokens) {
  options_.stop_texts = {"STOP", "\n\n"};
  ScriptedBackend backend(test::bytes_of("a STO STOP b"));
  const GenerateResult result = run(backend, {1});
  EXPECT_EQ(result.reason, StopReason::kStopText);
  EXPECT_EQ(result.generated_tokens, 10U);
  EXPECT_EQ(text_, "a STO ");
}

TEST_F(Generate, GivesHeldBackTextWhenNothingCameOfIt) {
  options_.stop_texts = {"STOP"};
  ScriptedBackend ends(then_end("no STO"));
  EXPECT_EQ(run(ends, {1}).reason, StopReason::kEndToken);
  EXPECT_EQ(text_, "no STO");
  options_.max_tokens = 5;
  ScriptedBackend cut(test::bytes_of("no STOP"));
  EXPECT_EQ(run(cut, {1}).reason, StopReason::kMaxTokens);
  EXPECT_EQ(text_, "no ST");
}

TEST_F(Generate, StreamsWholeCharacters) {
  const std::string text = "é漢\U0001F600!";
  std::vector<std::string> pieces;
  on_piece_ = [&](std::string_view piece) {
    pieces.emplace_back(piece);
    return true;
  };
  ScriptedBackend backend(then_end(text));
  run(backend, {1});
  EXPECT_THAT(pieces, testing::ElementsAre("é", "漢", "\U0001F600", "!"));
  options_.max_tokens = 4;  // in the middle of the second character
  ScriptedBackend cut(test::bytes_of(text));
  run(cut, {1});
  EXPECT_EQ(text_, "é\uFFFD");
}

TEST_F(Generate, EqualsTheTextUpToTheFirstStop) {
  test::Random random(test::seed_of_test());
  options_.max_tokens = 0;
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (std::size_t i = test::pick(random, 0, 20); i > 0; --i) {
      text += std::vector<std::string>{"a", "b", "é"}[test::pick(random, 0, 2)];
    }
    const std::string stop = test::pick(random, 0, 1) == 0 ? "ab" : "éa";
    options_.stop_texts = {stop};
    ScriptedBackend backend(then_end(text));
    const GenerateResult result = run(backend, {1});
    EXPECT_EQ(text_, text.substr(0, text.find(stop)));
    EXPECT_EQ(result.reason,
              text.find(stop) == std::string::npos ? StopReason::kEndToken : StopReason::kStopText);
  }
}

TEST_F(Generate, IsInterruptedByTheFlag) {
  interrupted_ = true;
  ScriptedBackend untouched({});
  GenerateResult result = run(untouched, {1, 2});
  EXPECT_EQ(result.reason, StopReason::kInterrupted);
  EXPECT_EQ(result.generated_tokens, 0U);
  EXPECT_TRUE(untouched.steps.empty());

  interrupted_ = false;
  options_.prefill_chunk = 2;
  for (std::size_t whole_steps = 0; whole_steps < 3; ++whole_steps) {  // then one of the prompt is given up
    interrupted_ = false;
    ScriptedBackend in_prefill({});
    in_prefill.before_step = [&] { interrupted_ = in_prefill.steps.size() == whole_steps; };
    result = run(in_prefill, {1, 2, 3, 4, 5});
    EXPECT_EQ(result.reason, StopReason::kInterrupted);
    EXPECT_EQ(result.generated_tokens, 0U);
    EXPECT_EQ(in_prefill.steps.size(), whole_steps);
  }

  interrupted_ = false;
  options_.stop_texts = {"bx"};
  ScriptedBackend decoding(test::bytes_of("abcdef"));
  decoding.before_step = [&] { interrupted_ = decoding.steps.size() == 3; };
  result = run(decoding, {1});
  EXPECT_EQ(result.reason, StopReason::kInterrupted);
  EXPECT_EQ(text_, "abcd") << "what was made is shown";
}

TEST_F(Generate, SeveralTokensInADispatchAreTheSameText) {
  test::Random random(test::seed_of_test());
  for (int round = 0; round < 200; ++round) {
    std::string text;
    for (std::size_t i = test::pick(random, 0, 70); i > 0; --i)
      text += std::vector<std::string>{"a", "b", "é"}[test::pick(random, 0, 2)];
    options_.max_tokens = test::pick(random, 0, 40);
    options_.stop_texts = {"abba"};
    options_.sampling.sampling = {.temperature = 1.0F, .top_k = 3, .seed = 5};
    const std::vector<std::int32_t> prompt(test::pick(random, 1, kContext), 'x');
    ScriptedBackend single(then_end(text));
    const GenerateResult want = run(single, prompt);
    const std::string want_text = text_;

    ScriptedBackend several(then_end(text));
    several.tokens_per_dispatch = test::pick(random, 2, 32);
    const GenerateResult got = run(several, prompt);
    EXPECT_EQ(text_, want_text);
    EXPECT_EQ(got.reason, want.reason);
    EXPECT_EQ(got.generated_tokens, want.generated_tokens);
    EXPECT_EQ(several.fed, single.fed);
    const std::size_t decoded = want.generated_tokens - 1;
    EXPECT_EQ(several.dispatches.size(),
              (decoded + several.tokens_per_dispatch - 1) / several.tokens_per_dispatch);
    for (std::size_t i = 0; i < several.steps.size(); ++i) {
      EXPECT_EQ(several.steps[i].outputs[0].choice->draw, i);
    }
  }
}

TEST_F(Generate, ADeviceThatWentFurtherIsLeftAlone) {
  options_.stop_texts = {"cd"};
  ScriptedBackend backend(test::bytes_of("abcdefgh"));
  backend.tokens_per_dispatch = 32;
  backend.most_overrun = 3;
  const GenerateResult result = run(backend, {1});
  EXPECT_EQ(result.reason, StopReason::kStopText);
  EXPECT_EQ(text_, "ab");
  EXPECT_EQ(backend.overrun, 4U) << "the device did go on";
}

TEST_F(Generate, PenaltiesTakeTheirDispatchForEachToken) {
  options_.sampling.presence_penalty = 1.0F;
  ScriptedBackend backend(then_end("abcd"));
  backend.tokens_per_dispatch = 32;
  run(backend, {1});
  EXPECT_EQ(backend.dispatches.size(), 4U);
  for (const program::Continuation& dispatch : backend.dispatches) EXPECT_EQ(dispatch.most_tokens, 1U);
}

TEST_F(Generate, IsInterruptedAtEveryTokenOfADispatch) {
  for (std::size_t at = 2; at <= 12; ++at) {  // the first comes with the prompt, whose step is given up
    interrupted_ = false;
    ScriptedBackend backend(test::bytes_of("abcdefghijklmnop"));
    backend.tokens_per_dispatch = 8;
    backend.before_step = [&] { interrupted_ = backend.steps.size() + 1 == at; };
    const GenerateResult result = run(backend, {1});
    EXPECT_EQ(result.reason, StopReason::kInterrupted);
    EXPECT_EQ(result.generated_tokens, at);
    EXPECT_EQ(text_, std::string("abcdefghijklmnop").substr(0, at));
  }
}

TEST_F(Generate, IsInterruptedByItsListener) {
  on_piece_ = [](std::string_view piece) { return piece != "c"; };
  options_.stop_texts = {"dx"};
  ScriptedBackend backend(test::bytes_of("abcdef"));
  const GenerateResult result = run(backend, {1});
  EXPECT_EQ(result.reason, StopReason::kInterrupted);
  EXPECT_EQ(result.generated_tokens, 3U);
  EXPECT_EQ(text_, "abc");
}

TEST_F(Generate, PenalisesWhatWasThere) {
  options_.sampling.presence_penalty = 1.0F;
  options_.sampling.frequency_penalty = 0.25F;
  options_.sampling.repeat_penalty = 2.0F;
  ScriptedBackend backend({'b', 'b', 'a', test::kEndToken});
  run(backend, {'a', 'c'});
  ASSERT_EQ(backend.steps.size(), 4U);
  const auto edits = [&](std::size_t step) {
    std::vector<std::tuple<std::int32_t, float, float>> all;
    for (const program::LogitEdit& edit : backend.steps[step].outputs[0].choice->edits) {
      all.emplace_back(edit.token, edit.repeat, edit.add);
    }
    return all;
  };
  using testing::ElementsAre;
  using testing::FieldsAre;
  EXPECT_THAT(edits(0), ElementsAre(FieldsAre('a', 2.0F, 0.0F), FieldsAre('c', 2.0F, 0.0F)));
  EXPECT_THAT(edits(1), ElementsAre(FieldsAre('a', 2.0F, 0.0F), FieldsAre('b', 2.0F, -1.25F),
                                    FieldsAre('c', 2.0F, 0.0F)));
  EXPECT_THAT(edits(2), ElementsAre(FieldsAre('a', 2.0F, 0.0F), FieldsAre('b', 2.0F, -1.5F),
                                    FieldsAre('c', 2.0F, 0.0F)));
  EXPECT_THAT(edits(3), ElementsAre(FieldsAre('a', 2.0F, -1.25F), FieldsAre('b', 2.0F, -1.5F),
                                    FieldsAre('c', 2.0F, 0.0F)));
}

TEST_F(Generate, SaysWhatIsWrong) {
  const auto error = [&](const std::vector<std::int32_t>& prompt) {
    ScriptedBackend backend({-1});
    return test::error_of([&] { run(backend, prompt); });
  };
  using testing::HasSubstr;
  EXPECT_THAT(error({}), HasSubstr("prompt"));
  EXPECT_THAT(error({300}), HasSubstr("token 300 is outside the vocabulary"));
  EXPECT_THAT(error({1, 2}),
              testing::AllOf(HasSubstr("no token can be chosen"), HasSubstr("after position 1")));
  const GenerateOptions good = options_;
  options_.prefill_chunk = 0;
  EXPECT_THAT(error({1}), HasSubstr("prefill_chunk"));
  options_ = good;
  options_.stop_texts = {""};
  EXPECT_THAT(error({1}), HasSubstr("stop text"));
  options_ = good;
  options_.sampling.sampling.top_p = 2;
  EXPECT_THAT(error({1}), HasSubstr("top_p is 2"));
  options_ = good;
  options_.sampling.repeat_penalty = 0;
  EXPECT_THAT(error({1}), HasSubstr("repeat_penalty is 0"));
}

}  // namespace
}  // namespace sluice::engine
