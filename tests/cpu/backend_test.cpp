#include "cpu/backend.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cpu/kernels.h"
#include "model/random_model.h"
#include "tests/cpu/devices.h"
#include "tests/cpu/rounded_oracle.h"
#include "tests/oracle/random_model.h"
#include "tests/support/golden.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using test::pick;
using test::Random;

constexpr std::size_t kContext = kIsSanitized ? 120 : 300;

// A config with every trait that kernels could trip over, K and widths beyond a vector.
model::ModelConfig wide_config() {
  model::ModelConfig config = test::small_config();
  config.vocab_size = 203;
  config.hidden_size = 72;
  config.intermediate_size = 100;
  config.layers.push_back(model::LayerKind::kAttention);
  config.head_dim = 36;
  config.rotary_dim = 12;
  config.key_head_dim = 40;
  config.value_head_dim = 72;
  config.max_positions = 4096;
  return config;
}

class CpuBackendBits : public testing::Test {
 protected:
  CpuBackendBits() { model_.fill(2); }

  Random random_{test::seed_of_test()};
  model::RandomModel model_{wide_config(), random_()};
  std::size_t vocab_ = model_.model().config.vocab_size;
};

// Steps of three sequences, decode and prefill side by side, some rows with output.
std::vector<program::Step> random_steps(Random& random, std::size_t n_slots, std::size_t context,
                                        std::size_t vocab) {
  const std::size_t longest = kIsSanitized ? 30 : 60;
  std::vector<std::size_t> lengths(n_slots, 0);
  std::vector<program::Step> steps;
  for (int i = 0; i < (kIsSanitized ? 6 : 12); ++i) {
    program::Step step;
    for (std::size_t slot = 0; slot < n_slots; ++slot) {
      if (pick(random, 0, 4) == 0) continue;
      const std::size_t most =
          std::min<std::size_t>(context - lengths[slot], pick(random, 0, 2) == 0 ? longest : 3);
      if (most == 0) continue;
      const std::size_t n = pick(random, 1, most);
      step.spans.push_back({slot, lengths[slot], step.tokens.size(), n});
      const std::vector<std::int32_t> tokens = random_tokens(random, n, vocab);
      step.tokens.insert(step.tokens.end(), tokens.begin(), tokens.end());
      lengths[slot] += n;
    }
    for (std::size_t row = 0; row < step.tokens.size(); ++row) {
      if (pick(random, 0, 2) != 0) continue;
      program::Output output{row, true, std::nullopt};
      if (pick(random, 0, 1) == 0) {
        program::Choice choice;
        choice.sampling.temperature = pick(random, 0, 1) == 0 ? 0.0F : 0.8F;
        choice.sampling.top_k = pick(random, 0, 30);
        choice.sampling.top_p = 0.9F;
        choice.sampling.seed = random();
        choice.draw = row;
        choice.n_tokens = vocab - 5;
        for (std::int32_t token = 0; token < static_cast<std::int32_t>(vocab); token += 7)
          choice.edits.push_back(
              {token, 1.2F, token % 2 == 0 ? -0.5F : -std::numeric_limits<float>::infinity()});
        output.choice = choice;
      }
      step.outputs.push_back(output);
    }
    if (!step.spans.empty()) steps.push_back(step);
  }
  return steps;
}

std::vector<program::StepResult> run_all(program::Backend& backend, const std::vector<program::Step>& steps) {
  std::vector<program::StepResult> results;
  for (const program::Step& step : steps) results.push_back(backend.run(step));
  return results;
}

// Under ThreadSanitizer these are the whole-model runs: decode, prefill and both mixed.
TEST_F(CpuBackendBits, DoNotDependOnTheNumberOfWorkers) {
  const std::vector<program::Step> steps = random_steps(random_, 3, kContext, vocab_);
  for (const Kernels* kernels : all_tables()) {
    std::vector<program::StepResult> first;
    for (std::size_t workers = 1; workers <= 9; ++workers) {
      const bool is_one_of_few = workers == 1 || workers == 4;
      if ((kIsSanitized || is_emulated(*kernels)) && !is_one_of_few) continue;
      TableDevice device(model_.model(), *kernels, workers, 3, kContext);
      const std::vector<program::StepResult> results = run_all(device, steps);
      if (workers == 1) first = results;
      for (std::size_t i = 0; i < results.size(); ++i) {
        ASSERT_TRUE(results[i].logits == first[i].logits)
            << kernels->name << ", " << workers << " workers, step " << i;
        ASSERT_EQ(results[i].tokens, first[i].tokens);
      }
    }
  }
}

// The backend itself, which keeps Programs from step to step.
TEST_F(CpuBackendBits, AreThoseOfTheTableThatWasAskedFor) {
  const std::vector<program::Step> steps = random_steps(random_, 3, kContext, vocab_);
  for (const Kernels* kernels : all_tables()) {
    if (is_emulated(*kernels)) continue;
    CpuOptions options;
    options.isa = kernels->name;
    options.n_workers = 3;
    options.oversubscribe = true;
    options.verify_programs = true;
    const auto backend = make_backend(model_.model(), 3, kContext, options);
    EXPECT_EQ(backend->isa(), kernels->name);
    TableDevice device(model_.model(), *kernels, 1, 3, kContext);
    for (const program::Step& step : steps) {
      const std::size_t dispatches = backend->statistics().dispatches;
      const std::size_t runs = backend->workers().n_runs();
      const program::StepResult got = backend->run(step);
      EXPECT_EQ(backend->workers().n_runs() - runs, 1U) << "a step is one dispatch";
      EXPECT_EQ(backend->statistics().dispatches - dispatches, 1U);
      const program::StepResult want = device.run(step);
      ASSERT_TRUE(got.logits == want.logits) << kernels->name;
      ASSERT_EQ(got.tokens, want.tokens);
    }
  }
}

TEST_F(CpuBackendBits, DoNotDependOnNeighbours) {
  const std::vector<program::Step> steps = random_steps(random_, 3, kContext, vocab_);
  for (const Kernels* kernels : all_tables()) {
    TableDevice together(model_.model(), *kernels, 3, 3, kContext);
    TableDevice alone(model_.model(), *kernels, 2, 3, kContext);
    for (const program::Step& step : steps) {
      const program::StepResult want = together.run(step);
      program::StepResult got;
      for (const program::Span& span : step.spans) {
        program::Step one;
        const auto begin = step.tokens.begin() + static_cast<std::ptrdiff_t>(span.first_row);
        one.tokens.assign(begin, begin + static_cast<std::ptrdiff_t>(span.n_rows));
        one.spans.push_back({span.slot, span.position, 0, span.n_rows});
        for (program::Output output : step.outputs) {
          if (output.row < span.first_row || output.row >= span.first_row + span.n_rows) continue;
          output.row -= span.first_row;
          one.outputs.push_back(output);
        }
        const program::StepResult part = alone.run(one);
        got.logits.insert(got.logits.end(), part.logits.begin(), part.logits.end());
        got.tokens.insert(got.tokens.end(), part.tokens.begin(), part.tokens.end());
      }
      ASSERT_TRUE(got.logits == want.logits) << kernels->name;
      ASSERT_EQ(got.tokens, want.tokens) << kernels->name;
    }
  }
}

// So many short spans that their rows fill groups as large as a long span's, and a long span beside them: each has the bits
// that it has alone, whose group is small. How many of a span's rows have an output changes nothing either.
TEST_F(CpuBackendBits, DoNotDependOnHowManyRowsAreComputedTogether) {
  constexpr std::size_t kShort = 10;
  constexpr std::size_t kLong = 24;
  program::Step together;
  const auto add = [&](std::size_t n) {
    together.spans.push_back({together.spans.size(), 0, together.tokens.size(), n});
    const std::vector<std::int32_t> tokens = random_tokens(random_, n, vocab_);
    together.tokens.insert(together.tokens.end(), tokens.begin(), tokens.end());
  };
  for (std::size_t i = 0; i < kShort; ++i) add(pick(random_, 1, 3));
  add(kLong);
  for (std::size_t row = 0; row < together.tokens.size(); ++row)
    together.outputs.push_back({row, true, std::nullopt});
  for (const Kernels* kernels : all_tables()) {
    TableDevice one(model_.model(), *kernels, 2, kShort + 1, kLong);
    TableDevice other(model_.model(), *kernels, 2, kShort + 1, kLong);
    const std::vector<float> want = one.run(together).logits;
    for (const program::Span& span : together.spans) {
      const auto begin = together.tokens.begin() + static_cast<std::ptrdiff_t>(span.first_row);
      const std::size_t last = span.n_rows - 1;
      const program::Step alone{{begin, begin + static_cast<std::ptrdiff_t>(span.n_rows)},
                                {{span.slot, 0, 0, span.n_rows}},
                                {{last, true, std::nullopt}}};
      const std::span<const float> row = std::span(want).subspan((span.first_row + last) * vocab_, vocab_);
      ASSERT_TRUE(std::ranges::equal(other.run(alone).logits, row))
          << kernels->name << ", a span of " << span.n_rows;
    }
  }
}

// Steps of all kinds, each row against the oracle's ops with the device's roundings (limits as layers_test.cpp derives
// them, and the delta rule's roundings of long spans).
TEST_F(CpuBackendBits, AreCloseToTheOracle) {
  const std::vector<program::Step> steps = random_steps(random_, 3, kContext, vocab_);
  for (const bool rounds : {false, true}) {
    std::vector<test::RoundedOracle> slots(
        3, test::RoundedOracle(model_.model(), {.activations = rounds, .keys_and_values = true}));
    std::vector<float> want;
    for (const program::Step& step : steps) {
      auto output = step.outputs.begin();
      for (const program::Span& span : step.spans) {
        for (std::size_t row = span.first_row; row < span.first_row + span.n_rows; ++row) {
          const std::vector<double> logits = slots[span.slot].feed(step.tokens[row]);
          if (output == step.outputs.end() || output->row != row) continue;
          want.insert(want.end(), logits.begin(), logits.end());
          ++output;
        }
      }
    }
    for (const Kernels* kernels : all_tables()) {
      if ((kernels->activations == ActivationType::kBF16) != rounds) continue;
      TableDevice device(model_.model(), *kernels, 2, 3, kContext);
      std::vector<float> got;
      for (const program::StepResult& result : run_all(device, steps))
        got.insert(got.end(), result.logits.begin(), result.logits.end());
      EXPECT_LT(test::relative_rms<float>(got, want), rounds ? 1e-2 + kDeltaRoundings : 1e-3)
          << kernels->name;
      RecordProperty(kernels->name, fmt::format("{:.1e}", test::relative_rms<float>(got, want)));
    }
  }
}

}  // namespace
}  // namespace sluice::cpu
