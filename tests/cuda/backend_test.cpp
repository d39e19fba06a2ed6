// The shipped host path and kernels on the PTX machine: steps, launches of several tokens, interruption at every token, and what is
// said when something can't be. Any finding of the machine fails a launch.
#include "cuda/backend.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "cuda/build.h"
#include "model/random_model.h"
#include "tests/cpu/rounded_oracle.h"
#include "tests/cuda/kernels.h"
#include "tests/cuda/ptx_machine.h"
#include "tests/support/errors.h"
#include "tests/support/golden.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace sluice::cuda {
namespace {

using sluice::test::error_of;
using sluice::test::pick;
using testing::HasSubstr;

constexpr std::size_t kContext = 100;  // two KV pages

model::ModelConfig small_config() {
  model::ModelConfig config;
  config.vocab_size = 130;
  config.hidden_size = 40;
  config.intermediate_size = 48;
  config.layers = {model::LayerKind::kDeltaNet, model::LayerKind::kAttention};
  config.n_heads = 2;
  config.n_kv_heads = 1;
  config.head_dim = 16;
  config.rotary_dim = 8;
  config.rope_theta = 1e4;
  config.n_key_heads = 1;
  config.n_value_heads = 2;
  config.key_head_dim = 16;
  config.value_head_dim = 12;
  config.conv_kernel = 4;
  config.rms_norm_eps = 1e-6;
  config.max_positions = 1024;
  return config;
}

class CudaBackend : public testing::Test {
 protected:
  void SetUp() override {
    if (!is_built_in()) GTEST_SKIP() << "CUDA isn't built in: " << why_not_built_in();
    model_ = std::make_unique<model::RandomModel>(small_config(), random_());
    model_->fill(1);
  }

  std::unique_ptr<Backend> backend(std::size_t n_slots = 1, std::size_t blocks = 2,
                                   std::size_t context = kContext) {
    CudaOptions options;
    options.library = sluice::test::driver_library();
    options.launcher.most_blocks = blocks;
    return make_backend(model_->model(), n_slots, context, options);
  }

  // The kernels of an architecture as the GPU's driver compiles them.
  std::unique_ptr<Backend> backend_of(int architecture, std::size_t n_slots, std::size_t blocks,
                                      std::size_t most_rows = 512) {
    std::string& text = kernels_[architecture];
    if (text.empty()) text = sluice::test::kernels(architecture);
    CudaOptions options;
    options.library = sluice::test::driver_library();
    options.launcher.most_blocks = blocks;
    options.most_rows = most_rows;
    options.image = std::as_bytes(std::span(text.c_str(), text.size() + 1));
    return make_backend(model_->model(), n_slots, kContext, options);
  }

  std::vector<std::int32_t> tokens(std::size_t n) {
    std::vector<std::int32_t> tokens(n);
    for (std::int32_t& each : tokens) each = token();
    return tokens;
  }

  // Tokens [at, at + n) of a prompt in slot 0; the last one's logits are wanted.
  static program::Step prompt_step(const std::vector<std::int32_t>& prompt, std::size_t at, std::size_t n) {
    program::Step step;
    const auto begin = prompt.begin() + static_cast<std::ptrdiff_t>(at);
    step.tokens.assign(begin, begin + static_cast<std::ptrdiff_t>(n));
    step.spans = {{0, at, 0, n}};
    step.outputs = {{n - 1, true, {}}};
    return step;
  }

  std::int32_t token() { return static_cast<std::int32_t>(pick(random_, 0, small_config().vocab_size - 1)); }

  // Feeds `tokens` to an empty slot and returns the token chosen after them.
  static std::int32_t feed(Backend& backend, std::size_t slot, const std::vector<std::int32_t>& tokens,
                           const program::Choice& choice) {
    backend.reset(slot);
    program::Step step;
    step.tokens = tokens;
    step.spans = {{slot, 0, 0, tokens.size()}};
    step.outputs = {{tokens.size() - 1, false, choice}};
    return static_cast<program::Backend&>(backend).run(step).tokens.front();
  }

  // `n` tokens after `first`, in launches of up to `most` tokens.
  static std::vector<std::int32_t> go_on(Backend& backend, std::size_t position, std::int32_t first,
                                         program::Choice choice, std::size_t n, std::size_t most) {
    std::vector<std::int32_t> tokens;
    while (tokens.size() < n) {
      program::Continuation continuation{.position = position,
                                         .token = tokens.empty() ? first : tokens.back(),
                                         .choice = choice,
                                         .most_tokens = std::min(most, n - tokens.size())};
      const std::size_t before = tokens.size();
      const std::size_t length = backend.run(continuation, [&](std::int32_t token) {
        tokens.push_back(token);
        return true;
      });
      EXPECT_EQ(length - position, tokens.size() - before);
      EXPECT_GE(length, position + 1);
      choice.draw += length - position;
      position = length;
    }
    return tokens;
  }

  sluice::test::Random random_{sluice::test::seed_of_test()};
  std::unique_ptr<model::RandomModel> model_;
  std::map<int, std::string> kernels_;
};

program::Choice choice_of(program::Sampling sampling, std::uint64_t draw = 0) {
  return {.sampling = sampling, .draw = draw, .n_tokens = small_config().vocab_size, .edits = {}};
}

// tests/cpu/layers_test.cpp derives it: activations that two orders of addition round to different bf16 numbers.
constexpr double kLimit = 1e-2;

TEST_F(CudaBackend, StepsOfSeveralSlotsAreTheOracles) {
  const auto device = backend(3, 3);
  std::vector<sluice::test::RoundedOracle> oracles;
  for (int slot = 0; slot < 3; ++slot)
    oracles.emplace_back(
        model_->model(),
        sluice::test::Roundings{.activations = true, .keys_and_values = true, .before_scale = true});
  std::vector<std::size_t> lengths(3, 0);
  std::vector<float> got;
  std::vector<float> want;
  // 3, 1 and 2 rows; 12 rows, which one decode launch doesn't take; then one row each.
  for (const std::vector<std::size_t>& rows : {std::vector<std::size_t>{3, 1, 2}, {4, 7, 1}, {1, 1, 1}}) {
    program::Step step;
    for (std::size_t slot = 0; slot < 3; ++slot) {
      step.spans.push_back({slot, lengths[slot], step.tokens.size(), rows[slot]});
      for (std::size_t i = 0; i < rows[slot]; ++i) {
        step.outputs.push_back({step.tokens.size(), true, {}});
        step.tokens.push_back(token());
        for (const double logit : oracles[slot].feed(step.tokens.back()))
          want.push_back(static_cast<float>(logit));
      }
      lengths[slot] += rows[slot];
    }
    const auto result = static_cast<program::Backend&>(*device).run(step);
    got.insert(got.end(), result.logits.begin(), result.logits.end());
  }
  EXPECT_LT(sluice::test::relative_rms<float>(got, want), kLimit);
}

TEST_F(CudaBackend, PromptPartsWithoutOutputsLeaveTheSameState) {
  const auto device = backend();
  for (const std::size_t part : {std::size_t{7}, std::size_t{11}}) {  // short spans, long ones
    const std::vector<std::int32_t> all = tokens(3 * part);
    const auto logits_after = [&](std::size_t with_output_from) {
      device->reset(0);
      std::vector<float> logits;
      for (std::size_t at = 0; at < all.size(); at += part) {
        program::Step step = prompt_step(all, at, part);
        if (at < with_output_from) step.outputs.clear();
        logits = static_cast<program::Backend&>(*device).run(step).logits;
      }
      return logits;
    };
    EXPECT_EQ(logits_after(0), logits_after(2 * part)) << "bit for bit";
  }
}

TEST_F(CudaBackend, ChoosesAsTheHostDoes) {
  const auto device = backend();
  const std::uint64_t seed = random_();
  std::size_t position = 0;
  device->reset(0);
  for (const program::Sampling& sampling :
       {program::Sampling{}, program::Sampling{.temperature = 0.8F, .seed = seed},
        program::Sampling{.temperature = 1.2F, .top_k = 20, .top_p = 0.9F, .min_p = 0.01F, .seed = seed},
        program::Sampling{.temperature = 1.2F, .top_k = 64, .seed = seed},
        program::Sampling{.temperature = 1.2F, .top_k = 100, .seed = seed},
        program::Sampling{.temperature = 1.0F, .top_p = 0.8F, .seed = seed}}) {
    program::Choice choice = choice_of(sampling, position);
    choice.edits = {{3, 1.5F, -1.0F}, {40, 1.0F, 2.0F}};
    program::Step step;
    step.tokens = {token()};
    step.spans = {{0, position++, 0, 1}};
    step.outputs = {{0, true, choice}};
    const auto result = static_cast<program::Backend&>(*device).run(step);
    EXPECT_EQ(result.tokens.front(), program::choose(result.logits, choice)) << "top_k " << sampling.top_k;
  }
}

TEST_F(CudaBackend, KnowsWhichChoicesALaunchMakes) {
  const auto kind = [](program::Sampling sampling) { return choice_kind(choice_of(sampling)); };
  EXPECT_EQ(kind({.temperature = 0, .top_k = 100}), ChoiceKind::kGreedy);
  EXPECT_EQ(kind({.temperature = 1}), ChoiceKind::kGumbel);
  EXPECT_EQ(kind({.temperature = 1, .top_k = 130}), ChoiceKind::kGumbel) << "all of them";
  EXPECT_EQ(kind({.temperature = 1, .top_k = 64, .top_p = 0.5F}), ChoiceKind::kTopK);
  EXPECT_EQ(kind({.temperature = 1, .top_k = 65}), ChoiceKind::kHost);
  EXPECT_EQ(kind({.temperature = 1, .top_p = 0.5F}), ChoiceKind::kHost);
  EXPECT_EQ(kind({.temperature = 1, .min_p = 0.5F}), ChoiceKind::kHost);
}

TEST_F(CudaBackend, ALaunchOfSeveralTokensIsAsManySteps) {
  const auto device = backend();
  const std::vector<std::int32_t> prompt = {token(), token(), token()};
  for (const program::Sampling& sampling :
       {program::Sampling{}, program::Sampling{.temperature = 1.5F, .top_k = 40, .seed = random_()}}) {
    const std::int32_t first = feed(*device, 0, prompt, choice_of(sampling));
    const auto single = go_on(*device, 3, first, choice_of(sampling, 1), 9, 1);
    EXPECT_EQ(feed(*device, 0, prompt, choice_of(sampling)), first);
    const std::size_t before = device->launcher().n_launches();
    const auto several = go_on(*device, 3, first, choice_of(sampling, 1), 9, 9);
    EXPECT_EQ(device->launcher().n_launches(), before + 1);
    EXPECT_EQ(several, single);
  }
}

// One that takes longer than it may ends with the step under way; the next one goes on from there.
TEST_F(CudaBackend, ALaunchEndsWhenItsTimeIsUp) {
  CudaOptions options;
  options.library = sluice::test::driver_library();
  options.launcher.most_blocks = 2;
  options.launcher.launch_ns = 1;
  const auto hasty = make_backend(model_->model(), 1, kContext, options);
  const auto patient = backend();
  const std::int32_t first = feed(*patient, 0, {5}, choice_of({}));
  const auto want = go_on(*patient, 1, first, choice_of({}), 5, 5);
  EXPECT_EQ(patient->launcher().n_launches(), 2U);
  EXPECT_EQ(feed(*hasty, 0, {5}, choice_of({})), first);
  EXPECT_EQ(go_on(*hasty, 1, first, choice_of({}), 5, 5), want);
  // A GPU's clock may stand still for longer than a step of so small a model takes.
  const bool is_exact = hasty->device().is_emulated();
  EXPECT_GE(hasty->launcher().n_launches(), is_exact ? 6U : 2U);
}

TEST_F(CudaBackend, StopTokensEndALaunch) {
  const auto device = backend();
  const program::Sampling sampling{.temperature = 3.0F, .seed = random_()};
  const std::int32_t first = feed(*device, 0, {5}, choice_of(sampling));
  const auto all = go_on(*device, 1, first, choice_of(sampling, 1), 6, 6);
  feed(*device, 0, {5}, choice_of(sampling));
  program::Continuation continuation{.position = 1,
                                     .token = first,
                                     .choice = choice_of(sampling, 1),
                                     .most_tokens = 6,
                                     .stop_tokens = {all[3]}};
  std::vector<std::int32_t> told;
  const std::size_t length = device->run(continuation, [&](std::int32_t token) {
    told.push_back(token);
    return true;
  });
  const auto end = std::ranges::find(all, all[3]) - all.begin() + 1;
  EXPECT_EQ(told, std::vector<std::int32_t>(all.begin(), all.begin() + end));
  EXPECT_EQ(length, 1 + told.size());
}

// The flag is set by another thread while the kernel runs, after each number of tokens; whatever the launch made then, the sequence
// goes on as if nothing had happened.
TEST_F(CudaBackend, IsInterruptedAtEveryTokenWhileTheKernelRuns) {
  const auto device = backend();
  constexpr std::size_t kTokens = 6;
  const program::Choice choice = choice_of({.temperature = 2.0F, .seed = random_()});
  const std::int32_t first = feed(*device, 0, {9, 8}, choice);
  program::Choice next = choice;
  next.draw = 1;
  const auto want = go_on(*device, 2, first, next, kTokens, kTokens);
  for (std::size_t at = 0; at < kTokens; ++at) {
    feed(*device, 0, {9, 8}, choice);
    std::atomic<bool> interrupted = false;
    std::atomic<std::size_t> told = 0;
    std::vector<std::int32_t> tokens;
    std::jthread other([&] {
      while (told < at) std::this_thread::yield();
      interrupted = true;
    });
    program::Continuation continuation{
        .position = 2, .token = first, .choice = next, .most_tokens = kTokens, .interrupted = &interrupted};
    const std::size_t length = device->run(continuation, [&](std::int32_t token) {
      tokens.push_back(token);
      ++told;
      return true;
    });
    other.join();
    ASSERT_GE(tokens.size(), std::max<std::size_t>(at, 1));
    EXPECT_EQ(length, 2 + tokens.size());
    if (tokens.size() < kTokens) {
      program::Choice rest = choice;
      rest.draw = 1 + tokens.size();
      const auto more = go_on(*device, length, tokens.back(), rest, kTokens - tokens.size(), kTokens);
      tokens.insert(tokens.end(), more.begin(), more.end());
    }
    EXPECT_EQ(tokens, want) << "interrupted after " << at;
  }
}

TEST_F(CudaBackend, AListenerMayStopOrThrow) {
  const auto device = backend();
  const program::Choice choice = choice_of({});
  const std::int32_t first = feed(*device, 0, {1}, choice);
  program::Continuation continuation{.position = 1, .token = first, .choice = choice, .most_tokens = 8};
  std::size_t told = 0;
  const std::size_t length = device->run(continuation, [&](std::int32_t) { return ++told < 3; });
  EXPECT_EQ(told, 3U) << "nothing is told after that";
  EXPECT_GE(length, 4U);
  EXPECT_LE(length, 9U);
  feed(*device, 0, {1}, choice);
  EXPECT_THROW(device->run(continuation, [](std::int32_t) -> bool { throw std::runtime_error("enough"); }),
               std::runtime_error);
  EXPECT_EQ(feed(*device, 0, {1}, choice), first) << "the device is as good as before";
}

TEST_F(CudaBackend, SeveralModelsAtOnce) {
  const auto one = backend();
  model::RandomModel other_model(small_config(), random_());
  other_model.fill(1);
  CudaOptions options;
  options.library = sluice::test::driver_library();
  options.launcher.most_blocks = 1;
  const auto other = make_backend(other_model.model(), 1, kContext, options);
  const program::Choice choice = choice_of({});
  const std::int32_t first = feed(*one, 0, {7}, choice);
  const std::int32_t second = feed(*other, 0, {7}, choice);
  const auto alone = go_on(*one, 1, first, choice, 4, 4);
  feed(*one, 0, {7}, choice);
  std::vector<std::int32_t> together;
  std::jthread thread([&] { together = go_on(*one, 1, first, choice, 4, 2); });
  go_on(*other, 1, second, choice, 4, 2);
  thread.join();
  EXPECT_EQ(together, alone);
}

class MixedSteps : public CudaBackend, public testing::WithParamInterface<int> {};

// The architecture changes the kernels, not the host's side, which the sanitizers see.
INSTANTIATE_TEST_SUITE_P(Architectures, MixedSteps,
                         testing::ValuesIn(test::kIsSanitized ? std::vector{80} : std::vector{75, 80}),
                         [](const auto& info) { return "compute_" + std::to_string(info.param); });

// tests/cuda/mixed/mixed_test.cpp derives it: long spans round queries and the softmax's weights, too.
constexpr double kLongLimit = 4e-2;

TEST_P(MixedSteps, APromptInOneStepAndInSplitsIsTheOracles) {
  constexpr std::size_t kRows = 65;
  const std::vector<std::int32_t> prompt = tokens(kRows);
  sluice::test::RoundedOracle oracle(
      model_->model(), {.activations = true, .keys_and_values = true, .to_fp16 = GetParam() == 75});
  std::vector<float> want;
  for (const std::int32_t token : prompt)
    for (const double logit : oracle.feed(token)) want.push_back(static_cast<float>(logit));
  std::vector<std::size_t> splits;
  for (std::size_t left = kRows; left > 0; left -= splits.back())
    splits.push_back(pick(random_, 1, std::min<std::size_t>(left, 40)));
  for (const auto& [blocks, parts] : {std::pair{2, std::vector{kRows}}, std::pair{5, splits}}) {
    SCOPED_TRACE(testing::PrintToString(parts));
    const auto device = backend_of(GetParam(), 1, static_cast<std::size_t>(blocks));
    std::vector<float> got;
    std::size_t at = 0;
    for (const std::size_t n : parts) {
      program::Step step = prompt_step(prompt, at, n);
      step.outputs.clear();
      for (std::size_t row = 0; row < n; ++row) step.outputs.push_back({row, true, {}});
      const auto result = static_cast<program::Backend&>(*device).run(step);
      got.insert(got.end(), result.logits.begin(), result.logits.end());
      at += n;
    }
    EXPECT_EQ(device->launcher().n_launches(), parts.size()) << "one dispatch a step";
    EXPECT_LT(sluice::test::relative_rms<float>(got, want), kLongLimit);
  }
}

// Three groups of short spans beside long ones, first without outputs, then with those of three heads and choices that the host
// makes: in one launch what the spans make alone, where the short ones are decode launches.
TEST_P(MixedSteps, AStepIsItsSpansAlone) {
  constexpr std::size_t kSlots = 5;
  const auto together = backend_of(GetParam(), kSlots, 5);
  const auto alone = backend_of(GetParam(), kSlots, 2);
  std::vector<std::size_t> lengths(kSlots, 0);
  const std::uint64_t seed = random_();
  const program::Sampling samplings[] = {{},
                                         {.temperature = 0.8F, .seed = seed},
                                         {.temperature = 1.2F, .top_k = 20, .top_p = 0.9F, .seed = seed},
                                         {.temperature = 1.2F, .top_k = 100, .seed = seed}};
  for (const std::vector<std::size_t>& rows :
       {std::vector<std::size_t>{5, 12, 6, 9, 7}, {3, 1, 17, 8, 1}, {1, 1, 1, 1, 1}}) {
    const bool has_outputs = lengths[0] != 0;
    program::Step step;
    std::vector<program::Step> spans;
    for (std::size_t slot = 0; slot < kSlots; ++slot) {
      program::Step span;
      span.tokens = tokens(rows[slot]);
      span.spans = {{slot, lengths[slot], 0, rows[slot]}};
      for (std::size_t row = 0; has_outputs && row < rows[slot]; ++row) {
        program::Choice choice = choice_of(samplings[pick(random_, 0, 3)], lengths[slot] + row);
        choice.edits = {{3, 1.5F, -1.0F}, {40, 1.0F, 2.0F}};
        span.outputs.push_back({row, true, choice});
        step.outputs.push_back({step.tokens.size() + row, true, choice});
      }
      step.spans.push_back({slot, lengths[slot], step.tokens.size(), rows[slot]});
      step.tokens.insert(step.tokens.end(), span.tokens.begin(), span.tokens.end());
      lengths[slot] += rows[slot];
      spans.push_back(std::move(span));
    }
    const std::size_t before = together->launcher().n_launches();
    const auto mixed = static_cast<program::Backend&>(*together).run(step);
    EXPECT_EQ(together->launcher().n_launches(), before + 1) << "one dispatch a step";
    program::StepResult want;
    for (const program::Step& span : spans) {
      const auto result = static_cast<program::Backend&>(*alone).run(span);
      want.logits.insert(want.logits.end(), result.logits.begin(), result.logits.end());
      want.tokens.insert(want.tokens.end(), result.tokens.begin(), result.tokens.end());
    }
    EXPECT_EQ(mixed.logits, want.logits) << "bit for bit";
    EXPECT_EQ(mixed.tokens, want.tokens);
  }
}

TEST_P(MixedSteps, AStepLongerThanALaunchIsSeveral) {
  const std::vector<std::int32_t> prompt = tokens(65);
  const auto whole = backend_of(GetParam(), 2, 2, 30);
  const auto parts = backend_of(GetParam(), 2, 2);
  program::Step step = prompt_step(prompt, 0, prompt.size());
  step.spans.push_back({1, 0, step.tokens.size(),
                        26});  // another sequence, which doesn't fit beside the first one's last rows
  for (int i = 0; i < 26; ++i) step.tokens.push_back(token());
  step.outputs.push_back({step.tokens.size() - 1, true, {}});
  const auto got = static_cast<program::Backend&>(*whole).run(step);
  EXPECT_EQ(whole->launcher().n_launches(), 4U) << "30, 30, 5 and 26 rows";
  std::vector<float> want;
  for (const std::size_t at : {std::size_t{0}, std::size_t{30}, std::size_t{60}})
    want = static_cast<program::Backend&>(*parts)
               .run(prompt_step(prompt, at, std::min<std::size_t>(30, 65 - at)))
               .logits;
  program::Step other;
  other.tokens.assign(step.tokens.begin() + 65, step.tokens.end());
  other.spans = {{1, 0, 0, 26}};
  other.outputs = {{25, true, {}}};
  const auto others = static_cast<program::Backend&>(*parts).run(other).logits;
  want.insert(want.end(), others.begin(), others.end());
  EXPECT_EQ(got.logits, want) << "bit for bit";
}

// Kernels whose blocks never say that they are done.
std::string kernels_without_arrivals() {
  std::string text = sluice::test::kernels(80);
  std::size_t removed = 0;
  for (std::size_t at = 0; (at = text.find("red.release.gpu", at)) != std::string::npos; ++removed)
    text.erase(at, text.find('\n', at) - at);
  EXPECT_GT(removed, 0U);
  return text;
}

TEST_F(CudaBackend, AWaitThatTakesTooLongIsAnErrorThatNamesIt) {
  const std::string text = kernels_without_arrivals();
  CudaOptions options;
  options.library = sluice::test::driver_library();
  options.launcher.most_blocks = 3;
  options.launcher.wait_ns = 100'000;
  options.image = std::as_bytes(std::span(text.c_str(), text.size() + 1));
  const auto device = make_backend(model_->model(), 3, kContext, options);
  const program::Choice choice = choice_of({});
  for (int round = 0; round < 2; ++round) {  // the second launch finds all as the first one found it
    EXPECT_THAT(
        error_of([&] { feed(*device, 0, {1, 2}, choice); }),
        testing::AllOf(
            HasSubstr("a launch was given up: in step 0, block "),
            HasSubstr("at task 1 (mix_in, layer 0) waited too long for counter 0 (embed, layer 0), which "
                      "stood at 0 of 3 (cuda:0, ")));
  }
  EXPECT_THAT(
      error_of([&] { feed(*device, 0, tokens(9), choice); }),
      testing::AllOf(
          HasSubstr("a launch was given up: in the long spans, block "),
          // One block prepares the rows, the others wait for it: whose patience ends first is the seed's to say.
          testing::AnyOf(
              HasSubstr("at task 1 (mix_in, layer 0) waited too long for counter 1 (embed, layer 0, row "
                        "block 0 done), which stood at 0 of 2 (cuda:0, "),
              HasSubstr("at task 1 (mix_in, layer 0) waited too long for counter 2 (mix_in, layer 0, row "
                        "block 0 prepared), which stood at 0 of 2 (cuda:0, "))));
  program::Step step;
  for (std::size_t slot = 0; slot < 3; ++slot) step.spans.push_back({slot, 0, 4 * slot, 4});
  step.tokens = tokens(12);
  EXPECT_THAT(error_of([&] { static_cast<program::Backend&>(*device).run(step); }),
              HasSubstr("slot 0 was in a launch that was given up (step): reset it"));
  device->reset(0);
  EXPECT_THAT(error_of([&] { static_cast<program::Backend&>(*device).run(step); }),
              testing::AllOf(HasSubstr("a launch was given up: in group 0 of short spans, block "),
                             HasSubstr("at task 1 (mix_in, layer 0)")));
}

// Wherever waits end too early, all threads of a block leave together: no thread stays at a barrier, none reads what another may
// be writing.
TEST_F(CudaBackend, GivesUpAnywhereInALongSpan) {
  const std::vector<std::int32_t> prompt = tokens(99);
  std::size_t given_up = 0;
  for (std::uint64_t wait_ns = 1; wait_ns < 1000;
       wait_ns += test::kIsSanitized ? wait_ns : (wait_ns + 1) / 2) {
    CudaOptions options;
    options.library = sluice::test::driver_library();
    options.launcher.most_blocks = 3;
    options.launcher.wait_ns = wait_ns;
    const auto device = make_backend(model_->model(), 1, kContext, options);
    try {
      static_cast<program::Backend&>(*device).run(prompt_step(prompt, 0, prompt.size()));
    } catch (const Error& error) {
      ++given_up;
      EXPECT_THAT(error.what(), HasSubstr("a launch was given up: in "));
    }
  }
  EXPECT_GE(given_up,
            test::kIsSanitized ? 3U : 5U);  // of the shortest, 1 to 27 ns, there are 8 (5)
}

TEST_F(CudaBackend, SaysWhatDoesNotFit) {
  EXPECT_THAT(error_of([&] { backend(1, 2, std::size_t{1} << 30U); }),
              testing::AllOf(HasSubstr("needs "), HasSubstr(" GB free (cuda:0, "), HasSubstr("-c")));
  const auto device = backend();
  program::Step step;
  step.tokens = {130};
  step.spans = {{0, 0, 0, 1}};
  EXPECT_THAT(error_of([&] { static_cast<program::Backend&>(*device).run(step); }),
              HasSubstr("outside the vocabulary"));
}

}  // namespace
}  // namespace sluice::cuda
