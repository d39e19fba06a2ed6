// What the waits allow gives the same bits: steps run task by task in orders drawn to be as unlike the list as the waits let
// them be, against the same steps on threads.
#include "program/order.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/bf16.h"
#include "cpu/backend.h"
#include "cpu/executor.h"
#include "cpu/kernels.h"
#include "cpu/packed.h"
#include "cpu/sequences.h"
#include "cpu/workers.h"
#include "program/builder.h"
#include "tests/oracle/random_model.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using program::OpKind;
using program::Program;
using program::Step;
using program::StepResult;
using test::pick;
using test::Random;

constexpr std::size_t kSlots = 4;
constexpr std::size_t kContext = 2200;
constexpr std::size_t kOrders = test::kIsSanitized ? 4 : 20;

// Several tiles an op, several heads of every kind, DeltaNet first and attention last.
model::ModelConfig config_of_many_tasks() {
  model::ModelConfig config = test::small_config();
  config.vocab_size = 520;  // enough for a screened head to be skimmed first
  config.hidden_size = 40;
  config.intermediate_size = 70;
  config.layers.push_back(model::LayerKind::kAttention);
  config.head_dim = 16;
  config.rotary_dim = 8;
  config.key_head_dim = 16;
  config.value_head_dim = 20;
  config.max_positions = kContext;
  return config;
}

// Positions that slots hold before the first step: none, a few, and so many that attention is split (program::kKvSplit).
constexpr std::size_t kPast[kSlots] = {0, 7, 509, 2100};

// Random state for the past, instead of computing it.
class Past {
 public:
  explicit Past(Random& random) : noise_(kNoise), bf16_noise_(kNoise) {
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::generate(noise_.begin(), noise_.end(), [&] { return uniform(random); });
    std::transform(noise_.begin(), noise_.end(), bf16_noise_.begin(), float_to_bf16);
  }

  void fill(Sequences& sequences, const model::ModelConfig& config) const {
    for (std::size_t slot = 0; slot < kSlots; ++slot) {
      for (std::size_t layer = 0; layer < config.n_layers() && kPast[slot] > 0; ++layer)
        config.layers[layer] == model::LayerKind::kDeltaNet ? fill_state(sequences, config, layer, slot)
                                                            : fill_cache(sequences, config, layer, slot);
      sequences.advance(slot, kPast[slot]);
    }
  }

 private:
  static constexpr std::size_t kNoise = 1U << 17U;

  void fill_state(Sequences& sequences, const model::ModelConfig& config, std::size_t layer,
                  std::size_t slot) const {
    for (std::size_t head = 0; head < config.n_value_heads; ++head)
      std::copy_n(noise_.data() + (layer * 7 + slot * 5 + head) * 64,
                  config.key_head_dim * config.value_head_dim, sequences.delta_state(layer, slot, head));
  }

  void fill_cache(Sequences& sequences, const model::ModelConfig& config, std::size_t layer,
                  std::size_t slot) const {
    const std::size_t size = kPast[slot] * config.head_dim;
    for (std::size_t head = 0; head < config.n_kv_heads; ++head) {
      const std::uint16_t* noise = bf16_noise_.data() + (layer * 11 + slot * 3 + head) * 64;
      std::copy_n(noise, size, sequences.keys(layer, slot, head));
      std::copy_n(noise + size, size, sequences.values(layer, slot, head));
    }
  }

  std::vector<float> noise_;
  std::vector<std::uint16_t> bf16_noise_;
};

class StepMaker {
 public:
  StepMaker(Random& random, std::size_t vocab) : random_(random), vocab_(vocab) {
    std::copy(std::begin(kPast), std::end(kPast), lengths_);
  }

  // `rows` of each slot. Every row has an output with probability `share` / 4, and chooses a token.
  Step make(const std::vector<std::size_t>& rows, std::size_t share) {
    Step step;
    for (std::size_t slot = 0; slot < rows.size(); ++slot) {
      if (rows[slot] == 0) continue;
      step.spans.push_back({slot, lengths_[slot], step.tokens.size(), rows[slot]});
      for (std::size_t i = 0; i < rows[slot]; ++i)
        step.tokens.push_back(static_cast<std::int32_t>(pick(random_, 0, vocab_ - 1)));
      lengths_[slot] += rows[slot];
    }
    for (std::size_t row = 0; row < step.tokens.size(); ++row) {
      if (pick(random_, 0, 3) >= share) continue;
      program::Choice choice;
      choice.sampling.temperature = pick(random_, 0, 1) == 0 ? 0.0F : 0.8F;
      choice.sampling.seed = random_();
      choice.n_tokens = vocab_;
      step.outputs.push_back({row, true, choice});
    }
    return step;
  }

 private:
  Random& random_;
  std::size_t vocab_;
  std::size_t lengths_[kSlots] = {};
};

// Decode, prefill and both, short and long spans; the last step shows the state that the others left.
std::vector<Step> random_steps(Random& random, std::size_t vocab) {
  StepMaker maker(random, vocab);
  std::vector<Step> steps;
  steps.push_back(maker.make({pick(random, 130, 160), 0, 0, 0}, 1));  // prefill, several groups
  steps.push_back(maker.make({1, 1, 1, 1}, 4));                       // decode
  steps.push_back(
      maker.make({0, pick(random, 9, 40), pick(random, 1, 8), 1}, 2));  // both; one grows past a split
  steps.push_back(maker.make({pick(random, 9, 70), 0, 1, pick(random, 9, 30)}, 0));  // nothing asked for
  steps.push_back(maker.make({pick(random, 1, 8), 1, pick(random, 1, 3), pick(random, 2, 8)}, 3));
  steps.push_back(maker.make({1, 1, 1, 1}, 4));
  return steps;
}

program::StepShape shape_of(const Step& step) {
  program::StepShape shape;
  for (const program::Span& span : step.spans) {
    const auto rows = static_cast<std::uint32_t>(span.n_rows);
    shape.spans.push_back({rows, program::kv_splits_of(rows, span.position + span.n_rows)});
  }
  for (const program::Output& output : step.outputs)
    shape.output_rows.push_back(static_cast<std::uint32_t>(output.row));
  return shape;
}

bool same_bits(const StepResult& a, const StepResult& b) {
  return a.tokens == b.tokens && a.logits.size() == b.logits.size() &&
         (a.logits.empty() ||
          std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)) == 0);
}

// Workers do what they do with a processor each: look ahead, share out small tasks.
Placement enough_processors(std::size_t n) {
  Placement placement;
  placement.n_processors = n;
  return placement;
}

// The list's order, but for the first op of kind `late`, which comes after the next op.
std::vector<std::uint32_t> order_with(const Program& program, OpKind late) {
  std::vector<std::uint32_t> order(program.tasks.size());
  std::iota(order.begin(), order.end(), 0U);
  const auto op = std::find_if(program.ops.begin(), program.ops.end(),
                               [&](const program::Op& it) { return it.kind == late; });
  if (op != program.ops.end()) {
    const program::Op& next = *(op + 1);
    const auto begin = order.begin() + op->first_task;
    std::rotate(begin, begin + op->n_tasks, begin + op->n_tasks + next.n_tasks);
  }
  return order;
}

class CpuOrder : public testing::Test {
 protected:
  CpuOrder() : workers_(4, enough_processors(4)), tiling_(tiling_for(4 * workers_.size())) {
    steps_ = random_steps(random_, config().vocab_size);
    for (const Step& step : steps_) programs_.push_back(program::build(config(), shape_of(step), tiling_));
  }

  const model::ModelConfig& config() const { return model_.model().config; }

  // All steps from the past on; `run_step(executor, i, result)` computes step i.
  template <typename RunStep>
  std::vector<StepResult> run(const PackedWeights& weights, const Kernels& kernels, const RunStep& run_step) {
    Sequences sequences(config(), kSlots, kContext);
    past_.fill(sequences, config());
    Executor executor(model_.model(), weights, kernels, workers_, sequences);
    std::vector<StepResult> results;
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      StepResult& result = results.emplace_back();
      result.tokens.assign(steps_[i].outputs.size(), -1);
      result.logits.assign(steps_[i].outputs.size() * config().vocab_size, -1e30F);
      run_step(executor, i, result);
      for (const program::Span& span : steps_[i].spans) sequences.advance(span.slot, span.n_rows);
    }
    return results;
  }

  std::vector<StepResult> run_on_threads(const PackedWeights& weights, const Kernels& kernels) {
    return run(weights, kernels, [this](Executor& executor, std::size_t i, StepResult& result) {
      executor.run(programs_[i], steps_[i], result);
    });
  }

  Random random_{test::seed_of_test()};
  test::RandomModel model_{config_of_many_tasks(), random_};
  Workers workers_;
  program::Tiling tiling_;
  Past past_{random_};
  std::vector<Step> steps_;
  std::vector<Program> programs_;  // [steps]
};

TEST_F(CpuOrder, AnyThatTheWaitsAllowGivesTheSameBits) {
  const PackedWeights weights(model_.model(), tiling_, workers_, nullptr, {});
  std::size_t n_kernels = 0;
  const Kernels* const* kernels = available_kernels(&n_kernels);
  const std::uint64_t first = random_();
  for (std::size_t k = 0; k < n_kernels; ++k) {
    const std::vector<StepResult> want = run_on_threads(weights, *kernels[k]);
    for (std::uint64_t seed = first; seed < first + kOrders; ++seed) {
      const std::vector<StepResult> got =
          run(weights, *kernels[k], [&](Executor& executor, std::size_t i, StepResult& result) {
            executor.run_in_order(programs_[i], steps_[i], program::adversarial_order(programs_[i], seed),
                                  result);
          });
      for (std::size_t i = 0; i < steps_.size(); ++i)
        ASSERT_TRUE(same_bits(got[i], want[i])) << kernels[k]->name << ", order " << seed << ", step " << i;
    }
  }
}

// Steps that choose tokens and return no logits, with a screened head; what the full head chooses.
TEST_F(CpuOrder, AnyOfAScreenedHeadChoosesTheFullHeadsTokens) {
  const PackedWeights weights(model_.model(), tiling_, workers_, nullptr, {}, true);
  for (Step& step : steps_) {
    for (program::Output& output : step.outputs) {
      output.return_logits = false;
      output.choice->sampling.top_k = pick(random_, 0, 2);
    }
  }
  std::size_t n_kernels = 0;
  const Kernels* const* kernels = available_kernels(&n_kernels);
  const auto tokens_of = [](const std::vector<StepResult>& results) {
    std::vector<std::vector<std::int32_t>> tokens;
    for (const StepResult& result : results) tokens.push_back(result.tokens);
    return tokens;
  };
  const std::vector<Program> full = programs_;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    program::StepShape shape = shape_of(steps_[i]);
    shape.is_screened = !shape.output_rows.empty();
    programs_[i] = program::build(config(), shape, tiling_);
  }
  const std::uint64_t first = random_();
  for (std::size_t k = 0; k < n_kernels; ++k) {
    const auto want =
        tokens_of(run(weights, *kernels[k], [&](Executor& executor, std::size_t i, StepResult& result) {
          executor.run(full[i], steps_[i], result);
        }));
    ASSERT_EQ(tokens_of(run_on_threads(weights, *kernels[k])), want) << kernels[k]->name;
    for (std::uint64_t seed = first; seed < first + kOrders; ++seed) {
      const auto got =
          tokens_of(run(weights, *kernels[k], [&](Executor& executor, std::size_t i, StepResult& result) {
            executor.run_in_order(programs_[i], steps_[i], program::adversarial_order(programs_[i], seed),
                                  result);
          }));
      ASSERT_EQ(got, want) << kernels[k]->name << ", order " << seed;
    }
    for (const OpKind late : {OpKind::kScreen, OpKind::kSelect, OpKind::kRecompute}) {
      const auto got =
          tokens_of(run(weights, *kernels[k], [&](Executor& executor, std::size_t i, StepResult& result) {
            executor.run_in_order(programs_[i], steps_[i], order_with(programs_[i], late), result);
          }));
      EXPECT_NE(got, want) << name_of(late) << " after its reader";
    }
  }
}

// The same comparison notices an order that a wait forbids: an op before the one that it reads from.
TEST_F(CpuOrder, ThatAWaitForbidsIsNoticed) {
  const PackedWeights weights(model_.model(), tiling_, workers_, nullptr, {});
  std::size_t n_kernels = 0;
  const Kernels& kernels = *available_kernels(&n_kernels)[0];
  const std::vector<StepResult> want = run_on_threads(weights, kernels);
  for (const OpKind late : {OpKind::kMixIn, OpKind::kKvAppend, OpKind::kMix, OpKind::kMixMerge,
                            OpKind::kMixOut, OpKind::kMlpIn, OpKind::kMlpOut, OpKind::kHead}) {
    const std::vector<StepResult> got =
        run(weights, kernels, [&](Executor& executor, std::size_t i, StepResult& result) {
          executor.run_in_order(programs_[i], steps_[i], order_with(programs_[i], late), result);
        });
    bool differs = false;
    for (std::size_t i = 0; i < steps_.size(); ++i) differs = differs || !same_bits(got[i], want[i]);
    EXPECT_TRUE(differs) << name_of(late) << " after its reader";
  }
}

}  // namespace
}  // namespace sluice::cpu
