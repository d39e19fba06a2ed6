// Whole steps with a screened head choose the tokens of those with a full one: hard heads of 248,320 rows, sampling as the
// engine asks for it, on every table of kernels and any number of workers. And screening is left where it doesn't pay.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/bf16.h"
#include "cpu/backend.h"
#include "cpu/executor.h"
#include "cpu/head_policy.h"
#include "program/builder.h"
#include "program/order.h"
#include "program/screening.h"
#include "tests/cpu/devices.h"
#include "tests/oracle/random_model.h"
#include "tests/support/golden.h"
#include "tests/support/seed.h"
#include "tests/support/temp_folder.h"

namespace sluice::cpu {
namespace {

using program::Step;
using test::pick;
using test::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kSlots = 4;
constexpr std::size_t kContext = 64;
constexpr std::size_t kManyTokens = kIsSanitized ? 20011 : 248320;

model::ModelConfig config_of(std::size_t vocab, std::size_t hidden) {
  model::ModelConfig config = test::small_config();
  config.vocab_size = vocab;
  config.hidden_size = hidden;
  config.layers = {model::LayerKind::kDeltaNet};
  return config;
}

// A random model whose head is of one kind. In bf16 or fp32.
class HeadModel {
 public:
  enum class Kind { kUniform, kOneRow, kNearTies, kPeaked, kHuge, kZeroRows, kLowRank, kOutliers, kOverflow };
  static constexpr Kind kKinds[] = {Kind::kUniform, Kind::kOneRow,   Kind::kNearTies,
                                    Kind::kPeaked,  Kind::kHuge,     Kind::kZeroRows,
                                    Kind::kLowRank, Kind::kOutliers, Kind::kOverflow};

  HeadModel(const model::ModelConfig& config, Kind kind, bool is_bf16, Random& random)
      : random_(config, random), model_(random_.model()) {
    const std::size_t cols = config.hidden_size;
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<float> basis(4 * cols);
    for (float& value : basis) value = uniform(random);
    const std::size_t special = pick(random, 0, config.vocab_size - 1);
    std::vector<float> row(cols);
    for (std::size_t r = 0; r < config.vocab_size; ++r) {
      if (kind == Kind::kOneRow) {
        std::copy_n(basis.begin(), cols, row.begin());
      } else if (kind == Kind::kNearTies) {  // a bit or two of one weight apart
        std::copy_n(basis.begin(), cols, row.begin());
        row[r % cols] *= 1.0F + 0x1p-8F * static_cast<float>(r / cols % 3);
      } else {
        for (float& weight : row) weight = uniform(random);
      }
      if (kind == Kind::kPeaked && r % (config.vocab_size / 5) == special % (config.vocab_size / 5))
        for (float& weight : row) weight *= 40;
      if (kind == Kind::kHuge)
        for (float& weight : row) weight *= 1e25F;
      if (kind == Kind::kOverflow && r % 1000 == 3)
        for (float& weight : row) weight *= 3e38F;
      if (kind == Kind::kZeroRows && r % 3 != 0) std::ranges::fill(row, 0.0F);
      if (kind == Kind::kLowRank) {
        const float a = uniform(random);
        const float b = uniform(random);
        for (std::size_t k = 0; k < cols; ++k) row[k] = 0.01F * row[k] + a * basis[k] + b * basis[cols + k];
      }
      if (kind == Kind::kOutliers) row[1] *= 300;
      for (const float weight : row) {
        if (is_bf16) {
          halves_.push_back(float_to_bf16(weight));
        } else {
          floats_.push_back(weight);
        }
      }
    }
    model::Matrix& head = model_.weights.head;
    head.dtype = is_bf16 ? model::DType::kBF16 : model::DType::kF32;
    head.data = is_bf16 ? std::as_bytes(std::span<const std::uint16_t>(halves_))
                        : std::as_bytes(std::span<const float>(floats_));
  }

  model::Model& model() { return model_; }

 private:
  test::RandomModel random_;
  model::Model model_;
  std::vector<std::uint16_t> halves_;
  std::vector<float> floats_;
};

// Penalties on tokens that occurred, a logit bias, a mask of ids: of some, or of all but a few.
std::vector<program::LogitEdit> random_edits(Random& random, std::size_t vocab) {
  std::vector<program::LogitEdit> edits;
  const std::size_t kind = pick(random, 0, 3);
  if (kind == 0) return edits;
  std::size_t token = pick(random, 0, 50);
  while (token < vocab) {
    const auto id = static_cast<std::int32_t>(token);
    if (kind == 1) edits.push_back({id, 1.1F, -1.5F});
    if (kind == 2) edits.push_back({id, 1.0F, pick(random, 0, 1) == 0 ? 4.0F : -kInfinity});
    if (kind == 3 && pick(random, 0, 99) != 0) edits.push_back({id, 1.0F, -kInfinity});
    token += kind == 3 ? 1 : pick(random, 1, vocab / 20);
  }
  return edits;
}

// What the engine asks for: greedy, a model's recommended settings, others; sometimes what needs all logits.
program::Choice random_choice(Random& random, std::size_t vocab) {
  constexpr program::Sampling kSettings[] = {
      {.temperature = 0.0F},
      {.temperature = 0.6F, .top_k = 20, .top_p = 0.95F},
      {.temperature = 1.0F, .top_k = 20, .top_p = 0.95F},
      {.temperature = 0.7F, .top_k = 40, .top_p = 0.8F, .min_p = 0.05F},
      {.temperature = 1.0F, .top_k = 1},
      {.temperature = 1.0F, .min_p = 0.1F},
      {.temperature = 1.0F},
      {.temperature = 0.1F},
      {.temperature = 1.0F, .top_p = 0.9F}};
  program::Choice choice;
  choice.sampling = kSettings[pick(random, 0, pick(random, 0, 3) == 0 ? 8 : 7)];
  choice.sampling.seed = random();
  choice.draw = random();
  choice.n_tokens = pick(random, 0, 1) == 0 ? vocab : vocab - pick(random, 1, vocab / 2);
  choice.edits = random_edits(random, vocab);
  return choice;
}

// Of each slot a row, or, in a quarter of the steps, some whose last one chooses: long spans go through the head one by one.
Step random_step(Random& random, std::vector<std::size_t>& lengths, std::size_t vocab) {
  Step step;
  const bool feeds = pick(random, 0, 3) == 0;
  const std::size_t n_slots = pick(random, 1, kSlots);
  for (std::size_t slot = 0; slot < n_slots; ++slot) {
    const std::size_t n = feeds ? pick(random, 1, 12) : 1;
    step.spans.push_back({slot, lengths[slot], step.tokens.size(), n});
    for (const std::int32_t token : random_tokens(random, n, vocab)) step.tokens.push_back(token);
    step.outputs.push_back({step.tokens.size() - 1, false, random_choice(random, vocab)});
    lengths[slot] += n;
  }
  return step;
}

struct Comparison {
  std::size_t screened = 0;  // steps
  std::size_t panels = 0;    // recomputed in them
};

Comparison compare(const model::Model& model, const Kernels& kernels, Random& random, std::size_t n_steps,
                   const std::string& what) {
  const std::size_t vocab = model.config.vocab_size;
  TableDevice full(model, kernels, 2, kSlots, kContext);
  TableDevice screened(model, kernels, pick(random, 1, 3), kSlots, kContext, true);
  std::vector<std::size_t> lengths(kSlots, 0);
  Comparison comparison;
  for (std::size_t i = 0; i < n_steps; ++i) {
    if (*std::ranges::max_element(lengths) + 12 > kContext) {
      for (std::size_t slot = 0; slot < kSlots; ++slot) {
        full.reset(slot);
        screened.reset(slot);
      }
      lengths.assign(kSlots, 0);
    }
    const Step step = random_step(random, lengths, vocab);
    const std::vector<std::int32_t> want = full.run(step).tokens;
    const std::size_t before = screened.n_screened();
    EXPECT_EQ(screened.run(step).tokens, want) << what << ", " << kernels.name << ", step " << i;
    if (screened.n_screened() > before) comparison.panels += screened.panels_recomputed();
  }
  EXPECT_EQ(full.n_screened(), 0U);
  comparison.screened = screened.n_screened();
  return comparison;
}

TEST(ScreenedHead, ChoosesTheFullHeadsTokensFromHardHeads) {
  Random random(test::seed_of_test());
  const model::ModelConfig config = config_of(kManyTokens, 16);
  for (const HeadModel::Kind kind : HeadModel::kKinds) {
    const bool is_bf16 = pick(random, 0, 3) != 0;
    HeadModel model(config, kind, is_bf16, random);
    const std::string what = "head " + std::to_string(static_cast<int>(kind)) + (is_bf16 ? " bf16" : " fp32");
    const std::vector<const Kernels*> tables = all_tables();
    const Comparison best = compare(model.model(), *tables.front(), random, 10, what);
    EXPECT_GE(best.screened, 1U) << what;
    if (kind == HeadModel::Kind::kPeaked) {
      EXPECT_LT(best.panels, best.screened * kSlots * program::screen_panels(kManyTokens) / 2) << what;
    }
    compare(model.model(), *tables[pick(random, 1, tables.size() - 1)], random, 2, what);
  }
}

TEST(ScreenedHead, ChoosesThemOnEveryTable) {
  Random random(test::seed_of_test());
  for (const Kernels* kernels : all_tables()) {
    std::size_t screened = 0;
    for (const HeadModel::Kind kind : HeadModel::kKinds) {
      const model::ModelConfig config = config_of(pick(random, 300, 1000), pick(random, 5, 70));
      HeadModel model(config, kind, pick(random, 0, 1) == 0, random);
      const Comparison all = compare(model.model(), *kernels, random, kIsSanitized ? 10 : 60,
                                     "head " + std::to_string(static_cast<int>(kind)));
      screened += all.screened;
    }
    EXPECT_GT(screened, 0U);  // of few steps of one kind it may be that none can be
  }
}

TEST(ScreenedHead, OfAWideModel) {
  Random random(test::seed_of_test());
  HeadModel model(config_of(kIsSanitized ? 512 : 8192, 1024), HeadModel::Kind::kUniform, true, random);
  const Comparison all = compare(model.model(), *all_tables().front(), random, 20, "K 1024");
  EXPECT_GT(all.screened, 0U);
}

TEST(ScreenedHead, ActivationsThatAreNoNumbers) {
  Random random(test::seed_of_test());
  for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), 3e38F}) {
    HeadModel model(config_of(1000, 24), HeadModel::Kind::kUniform, true, random);
    model.model().weights.norm[pick(random, 0, 23)] = bad;
    compare(model.model(), *all_tables().front(), random, 10, "norm " + std::to_string(bad));
  }
}

TEST(ScreenedHead, RecomputesTheSamePanelsOnAnyNumberOfWorkers) {
  Random random(test::seed_of_test());
  HeadModel model(config_of(9000, 16), HeadModel::Kind::kUniform, true, random);
  std::vector<std::size_t> lengths(kSlots, 0);
  std::vector<Step> steps;
  for (int i = 0; i < 4; ++i) steps.push_back(random_step(random, lengths, 9000));
  std::vector<std::vector<std::int32_t>> want;
  std::vector<std::size_t> panels;
  for (const std::size_t workers : {1U, 2U, 5U}) {
    TableDevice device(model.model(), *all_tables().front(), workers, kSlots, kContext, true);
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const std::vector<std::int32_t> tokens = device.run(steps[i]).tokens;
      if (workers == 1) {
        want.push_back(tokens);
        panels.push_back(device.panels_recomputed());
      }
      EXPECT_EQ(tokens, want[i]);
      EXPECT_EQ(device.panels_recomputed(), panels[i]) << workers;
    }
  }
}

program::Choice greedy_choice(std::size_t vocab) {
  program::Choice choice;
  choice.n_tokens = vocab;
  return choice;
}

// Where all rows are alike, so that any may be the answer, the first ones say so, and the others aren't screened.
TEST(ScreenedHead, IsGivenUpWithinTheStep) {
  Random random(test::seed_of_test());
  constexpr std::size_t kTokens = 40000;
  constexpr std::size_t kPanels = program::screen_panels(kTokens);
  program::Choice top_k = greedy_choice(kTokens);
  top_k.sampling = {.temperature = 1.0F, .top_k = kPanels / 2};
  struct Case {
    HeadModel::Kind kind;
    program::Choice choice;
    bool pays;
  };
  const Case cases[] = {{HeadModel::Kind::kOneRow, greedy_choice(kTokens), false},
                        {HeadModel::Kind::kUniform, greedy_choice(kTokens), true},
                        {HeadModel::Kind::kUniform, top_k, false}};
  for (const Case& it : cases) {
    HeadModel model(config_of(kTokens, 16), it.kind, true, random);
    for (const std::size_t workers : {1U, 3U}) {
      for (const std::size_t n_rows : {1U, 4U}) {
        TableDevice full(model.model(), *all_tables().front(), 1, kSlots, kContext);
        TableDevice screened(model.model(), *all_tables().front(), workers, kSlots, kContext, true);
        Step step;
        for (std::size_t slot = 0; slot < n_rows; ++slot) {
          step.spans.push_back({slot, 0, slot, 1});
          step.tokens.push_back(static_cast<std::int32_t>(slot));
          step.outputs.push_back({slot, false, it.choice});
        }
        EXPECT_EQ(screened.run(step).tokens, full.run(step).tokens);
        if (it.pays) {
          EXPECT_EQ(screened.panels_left(), 0U);
          EXPECT_LT(screened.panels_recomputed(), kPanels / 4);
        } else {
          EXPECT_EQ(screened.panels_left(), kPanels - kPanels / 16);
          EXPECT_GE(screened.panels_recomputed(), screened.panels_left());
        }
      }
    }
  }
}

// What `screen` decides is what `skim` has found in this very step, whichever tasks come first.
TEST(ScreenedHead, IsGivenUpWhateverTheOrder) {
  Random random(test::seed_of_test());
  constexpr std::size_t kTokens = 8000;
  constexpr std::size_t kPanels = program::screen_panels(kTokens);
  HeadModel model(config_of(kTokens, 16), HeadModel::Kind::kUniform, true, random);
  Workers workers(2, placement_for(2));
  program::Tiling tiling;
  tiling.bytes_per_tile = 2048;
  const PackedWeights weights(model.model(), tiling, workers, nullptr, {}, true);
  Sequences sequences(model.model().config, 1, kContext);
  Executor executor(model.model(), weights, *all_tables().front(), workers, sequences);
  program::StepShape shape;
  shape.spans = {{1, 1}};
  shape.output_rows = {0};
  shape.is_screened = true;
  const program::Program program = program::build(model.model().config, shape, tiling);

  const auto run = [&](const program::Choice& choice, const std::vector<std::uint32_t>& order) {
    sequences.reset(0);
    program::StepResult result;
    result.tokens.assign(1, -1);
    executor.run_in_order(program, {{1}, {{0, 0, 0, 1}}, {{0, false, choice}}}, order, result);
    return std::pair(result.tokens.front(), executor.panels_left());
  };
  const program::Choice pays = greedy_choice(kTokens);
  program::Choice does_not = pays;  // all that is skimmed is alike
  for (std::uint32_t token = 0; token < program::skimmed_columns(kTokens); ++token)
    does_not.edits.push_back({static_cast<std::int32_t>(token), 1.0F, 1e30F});
  const auto run_both = [&](const std::vector<std::uint32_t>& order) {
    const auto first = run(pays, order);
    return std::pair(first, run(does_not, order));
  };
  std::vector<std::uint32_t> order(program.tasks.size());
  std::iota(order.begin(), order.end(), 0U);
  const auto want = run_both(order);
  EXPECT_EQ(want.first.second, 0U);
  EXPECT_EQ(want.second.second, kPanels - kPanels / 16);
  const std::uint64_t first = random();
  for (std::uint64_t seed = first; seed < first + 20; ++seed) {
    order = program::adversarial_order(program, seed);
    ASSERT_EQ(run_both(order), want) << "order " << seed;
  }
  // An order that the waits forbid: then it goes by what it found a step ago.
  std::iota(order.begin(), order.end(), 0U);
  const auto skim = std::ranges::find(program.ops, program::OpKind::kSkim, &program::Op::kind);
  const auto begin = order.begin() + skim->first_task;
  std::rotate(begin, begin + skim->n_tasks, begin + skim->n_tasks + (skim + 1)->n_tasks);
  EXPECT_NE(run(pays, order).second, 0U);
}

class ScreenedBackend : public testing::Test {
 protected:
  ScreenedBackend() : model_(config_of(4000, 16), HeadModel::Kind::kUniform, true, random_) {}

  void make(HeadMode head) {
    CpuOptions options;
    options.n_workers = 1;
    options.head = head;
    backend_ = make_backend(model_.model(), 10, 600, options);
  }

  // Steps of one row; how many of them were screened.
  std::size_t screened_of(std::size_t n_steps, const program::Choice& choice, bool return_logits = false) {
    const std::size_t before = backend_->statistics().screened_steps;
    for (std::size_t i = 0; i < n_steps; ++i)
      backend_->run({{1}, {{0, position_++, 0, 1}}, {{0, return_logits, choice}}});
    return backend_->statistics().screened_steps - before;
  }

  static program::Choice greedy() { return greedy_choice(4000); }

  Random random_{test::seed_of_test()};
  HeadModel model_;
  std::unique_ptr<Backend> backend_;
  std::size_t position_ = 0;
};

TEST_F(ScreenedBackend, ScreensWhatItCan) {
  make(HeadMode::kScreened);
  EXPECT_TRUE(backend_->is_screened());
  EXPECT_EQ(screened_of(3, greedy()), 3U);
  EXPECT_GT(backend_->statistics().rows_recomputed, 0U);
  EXPECT_LT(backend_->statistics().rows_recomputed, 3000U);
  EXPECT_EQ(screened_of(3, greedy(), true), 0U);  // all logits are wanted
  program::Choice all = greedy();
  all.sampling = {.temperature = 1.0F, .top_p = 0.5F};
  EXPECT_EQ(screened_of(3, all), 0U);
  Step many;
  for (std::size_t slot = 1; slot < 10; ++slot) {
    many.spans.push_back({slot, 0, slot - 1, 1});
    many.tokens.push_back(1);
    many.outputs.push_back({slot - 1, false, greedy()});
  }
  const std::size_t before = backend_->statistics().screened_steps;
  backend_->run(many);
  EXPECT_EQ(backend_->statistics().screened_steps, before);
}

TEST_F(ScreenedBackend, IsThereOnDemandOnly) {
  make(HeadMode::kFull);
  const std::size_t bytes = backend_->packed_bytes();
  EXPECT_FALSE(backend_->is_screened());
  EXPECT_EQ(screened_of(3, greedy()), 0U);
  make(HeadMode::kBest);  // too small to be worth it
  EXPECT_FALSE(backend_->is_screened());
  make(HeadMode::kScreened);
  EXPECT_EQ(backend_->packed_bytes(), bytes + 250 * program::screen_panel_bytes(16));
}

// A checkpoint's packed file holds the copy, and isn't taken for that of a model without.
TEST(ScreenedFile, GivesTheSameTokens) {
  const test::TempFolder folder;
  const model::Model model = model::load_model(test::golden_folder("nested_tied"));
  std::vector<std::vector<std::int32_t>> tokens;
  std::vector<bool> from_cache;
  for (const HeadMode head : {HeadMode::kFull, HeadMode::kScreened, HeadMode::kScreened, HeadMode::kFull}) {
    CpuOptions options;
    options.n_workers = 2;
    options.head = head;
    options.cache = folder.path();
    const auto backend = make_backend(model, 1, 64, options);
    from_cache.push_back(backend->from_cache());
    EXPECT_EQ(backend->is_screened(), head == HeadMode::kScreened);
    std::vector<std::int32_t>& chosen = tokens.emplace_back();
    program::Choice choice;
    choice.n_tokens = model.config.vocab_size;
    for (std::size_t i = 0; i < 40; ++i)
      chosen.push_back(backend->run({{static_cast<std::int32_t>(i)}, {{0, i, 0, 1}}, {{0, false, choice}}})
                           .tokens.front());
    EXPECT_EQ(backend->statistics().screened_steps > 0, head == HeadMode::kScreened);
  }
  EXPECT_EQ(from_cache, (std::vector<bool>{false, false, true, true}));
  for (const std::vector<std::int32_t>& other : tokens) EXPECT_EQ(other, tokens.front());
}

// Flat logits: everything is recomputed, so screening is tried ever more seldom.
TEST_F(ScreenedBackend, IsLeftWhereItDoesNotPay) {
  model_.model().weights.norm.assign(16, 0.0F);
  make(HeadMode::kScreened);
  EXPECT_EQ(screened_of(1, greedy()), 1U);
  EXPECT_EQ(backend_->statistics().rows_recomputed, 4000U);
  EXPECT_EQ(screened_of(16, greedy()), 0U);
  EXPECT_EQ(screened_of(1, greedy()), 1U);
  EXPECT_EQ(screened_of(32, greedy()), 0U);
  EXPECT_EQ(screened_of(1, greedy()), 1U);
  EXPECT_EQ(screened_of(500, greedy()), 3U);  // after 64, 128, 256
}

// A tenth of the panels, of steps with a row and with four.
TEST_F(ScreenedBackend, IsLeftEarlierWithSeveralRows) {
  program::Choice choice = greedy();
  choice.sampling = {.temperature = 1.0F, .top_k = 8};
  make(HeadMode::kScreened);
  EXPECT_EQ(screened_of(3, choice), 3U);
  Step four;
  for (std::size_t slot = 1; slot < 5; ++slot) {
    four.spans.push_back({slot, 0, slot - 1, 1});
    four.tokens.push_back(static_cast<std::int32_t>(slot));
    four.outputs.push_back({slot - 1, false, choice});
  }
  EXPECT_TRUE(backend_->may_screen(four));
  backend_->run(four);
  EXPECT_EQ(backend_->statistics().screened_steps, 4U);
  EXPECT_EQ(screened_of(16, choice), 0U);
  EXPECT_EQ(screened_of(1, choice), 1U);
}

// The last rows of two prompts, which go through the head one after the other.
class ScreenedPrompts : public ScreenedBackend {
 protected:
  static Step prompts(const program::Choice& choice) {
    constexpr std::size_t kRows = program::kMaxShortSpan + 4;
    Step step;
    for (std::size_t i = 0; i < 2; ++i) {
      step.spans.push_back({1 + i, 0, i * kRows, kRows});
      step.outputs.push_back({(i + 1) * kRows - 1, false, choice});
    }
    for (std::size_t row = 0; row < 2 * kRows; ++row) step.tokens.push_back(static_cast<std::int32_t>(row));
    return step;
  }
};

TEST_F(ScreenedPrompts, CountEveryByteOnce) {
  model_.model().weights.norm.assign(16, 0.0F);
  make(HeadMode::kScreened);
  backend_->run(prompts(greedy()));
  const Statistics& statistics = backend_->statistics();
  constexpr std::size_t kPanels = program::screen_panels(4000);
  const std::size_t skimmed = program::skimmed_columns(4000) / program::kScreenPanel;
  EXPECT_EQ(statistics.screened_steps, 1U);
  EXPECT_EQ(statistics.rows_recomputed, 4000U);
  EXPECT_EQ(statistics.bytes_recomputed, 4000U * 16 * sizeof(std::uint16_t));
  EXPECT_EQ(statistics.bytes_left, (kPanels - skimmed) * program::screen_panel_bytes(16));
  EXPECT_EQ(screened_of(16, greedy()), 0U);
  EXPECT_EQ(screened_of(1, greedy()), 1U);
}

// A tenth of the panels each, which pays for rows that aren't side by side.
TEST_F(ScreenedPrompts, AreJudgedOneByOne) {
  program::Choice choice = greedy();
  choice.sampling = {.temperature = 1.0F, .top_k = 8};
  make(HeadMode::kScreened);
  backend_->run(prompts(choice));
  EXPECT_EQ(backend_->statistics().screened_steps, 1U);
  EXPECT_EQ(screened_of(1, choice), 1U);
}

TEST(HeadPolicy, CostsLittleWhereScreeningNeverPays) {
  struct Worst {
    double cost;  // of a step that recomputes everything, in full heads
    std::size_t n_rows;
    int from_step;
  };
  for (const Worst& worst : {Worst{1.51, 1, 6}, Worst{1.9, 8, 9}}) {
    HeadPolicy policy;
    double cost = 0;
    double most = 0;
    for (int step = 1; step <= 2000; ++step) {
      const bool screens = policy.screens();
      cost += screens ? worst.cost : 1.0;
      if (screens) policy.learn(51, 100, 100, worst.n_rows);
      if (step >= worst.from_step) most = std::max(most, cost / step);
    }
    EXPECT_LE(most, 1.1 + 1e-9) << worst.n_rows;
    EXPECT_LT(cost / 2000, 1.01) << worst.n_rows;
  }
}

// As much as pays for one row doesn't for several, which share the full head's bytes.
TEST(HeadPolicy, LeavesItEarlierForSeveralRows) {
  for (const std::size_t n_rows : {1U, 2U, 8U}) {
    HeadPolicy policy;
    policy.learn(51, 12, 100, n_rows);
    EXPECT_TRUE(policy.screens());
    policy.learn(51, 20, 100, n_rows);
    EXPECT_EQ(policy.screens(), n_rows == 1);
  }
}

TEST(HeadPolicy, ComesBackWhereItPaysAgain) {
  HeadPolicy policy;
  for (int i = 0; i < 3; ++i) {
    while (!policy.screens()) continue;
    policy.learn(51, 100, 100, 1);
  }
  while (!policy.screens()) continue;
  policy.learn(51, 1, 100, 1);
  EXPECT_TRUE(policy.screens());
  policy.learn(51, 100, 100, 1);
  int pause = 0;
  while (!policy.screens()) ++pause;
  EXPECT_EQ(pause, 16);
}

}  // namespace
}  // namespace sluice::cpu
