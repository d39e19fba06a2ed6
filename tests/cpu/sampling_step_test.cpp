// Choosing tokens is part of the dispatch: what a step answers is what the sampler chooses from the step's own logits, edited,
// whatever the settings; rows without output never meet the head.
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "tests/cpu/devices.h"
#include "tests/oracle/random_model.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using test::pick;
using test::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kVocab = 700;  // many tiles of the head
constexpr std::size_t kSlots = 3;

model::ModelConfig many_tokens() {
  model::ModelConfig config = test::small_config();
  config.vocab_size = kVocab;
  return config;
}

// Edits of some tokens, each with a reason: a penalty, a bias, a mask, a tie with all others that have it; and one that would
// make the first padding token, `n_tokens`, the largest.
std::vector<program::LogitEdit> random_edits(Random& random, std::size_t n_tokens) {
  std::vector<program::LogitEdit> edits;
  const std::size_t share = std::size_t{1} << pick(random, 0, 9);
  for (std::int32_t token = 0; token < static_cast<std::int32_t>(kVocab); ++token) {
    if (static_cast<std::size_t>(token) == n_tokens) {
      edits.push_back({token, 1.0F, 2e30F});
      continue;
    }
    if (pick(random, 0, share) != 0) continue;
    const program::LogitEdit kinds[] = {{token, 1.3F, -0.4F},
                                        {token, 1.0F, 2.5F},
                                        {token, 1.0F, -kInfinity},
                                        {token, 1.0F, 1e30F}};  // so large that the logit is lost in it
    edits.push_back(kinds[pick(random, 0, pick(random, 0, 1) == 0 ? 2 : 3)]);
  }
  return edits;
}

program::Choice random_choice(Random& random) {
  const float temperatures[] = {0.0F, 1e-6F, 0.3F, 1.0F, 3.0F};
  const float shares[] = {0.0F, 0.2F, 0.9F, 1.0F};
  program::Choice choice;
  choice.sampling.temperature = temperatures[pick(random, 0, 4)];
  choice.sampling.top_k = pick(random, 0, 2) == 0 ? 0 : pick(random, 1, pick(random, 0, 1) == 0 ? 5 : kVocab);
  choice.sampling.top_p = shares[pick(random, 0, 3)];
  choice.sampling.min_p = pick(random, 0, 1) == 0 ? 0.0F : 0.1F;
  choice.sampling.seed = random();
  choice.draw = random();
  choice.n_tokens = pick(random, 0, 1) == 0 ? kVocab : pick(random, 1, kVocab);
  if (pick(random, 0, 3) != 0) choice.edits = random_edits(random, choice.n_tokens);
  return choice;
}

// Decode and prefill side by side; outputs with a choice, with logits, with both, with neither.
program::Step random_step(Random& random, std::vector<std::size_t>& lengths) {
  program::Step step;
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    const std::size_t n = pick(random, 0, 1) == 0 ? 1 : pick(random, 1, 20);
    step.spans.push_back({slot, lengths[slot], step.tokens.size(), n});
    const std::vector<std::int32_t> tokens = random_tokens(random, n, kVocab);
    step.tokens.insert(step.tokens.end(), tokens.begin(), tokens.end());
    lengths[slot] += n;
  }
  for (std::size_t row = 0; row < step.tokens.size(); ++row) {
    if (pick(random, 0, 1) == 0) continue;
    std::optional<program::Choice> choice;
    if (pick(random, 0, 4) != 0) choice = random_choice(random);
    step.outputs.push_back({row, pick(random, 0, 1) == 0, choice});
  }
  return step;
}

TEST(SamplingStep, TokensAreWhatTheSamplerChoosesFromTheLogits) {
  Random random(test::seed_of_test());
  const test::RandomModel model(many_tokens(), random);
  for (const Kernels* kernels : all_tables()) {
    SCOPED_TRACE(kernels->name);
    TableDevice device(model.model(), *kernels, 2, kSlots, 400);
    TableDevice twin(model.model(), *kernels, 1, kSlots, 400);
    std::vector<std::size_t> lengths(kSlots, 0);
    std::set<std::int32_t> chosen;
    for (int i = 0; i < (kIsSanitized ? 4 : 12); ++i) {
      const program::Step step = random_step(random, lengths);
      program::Step with_logits = step;
      for (program::Output& output : with_logits.outputs) output.return_logits = true;
      const program::StepResult result = device.run(step);
      const program::StepResult all = twin.run(with_logits);
      ASSERT_EQ(result.tokens, all.tokens) << "asking for logits changes nothing";
      std::vector<float> returned;
      for (std::size_t o = 0; o < step.outputs.size(); ++o) {
        const std::span<const float> logits = std::span(all.logits).subspan(o * kVocab, kVocab);
        const auto& choice = step.outputs[o].choice;
        ASSERT_EQ(all.tokens[o], choice ? program::choose(logits, *choice) : -1);
        chosen.insert(all.tokens[o]);
        if (step.outputs[o].return_logits) returned.insert(returned.end(), logits.begin(), logits.end());
      }
      ASSERT_TRUE(result.logits == returned) << "of the rows that asked, unedited";
    }
    EXPECT_GT(chosen.size(), 3U);
  }
}

TEST(SamplingStep, ARowWithoutAPossibleTokenIsItsOwnTrouble) {
  Random random(test::seed_of_test());
  const test::RandomModel model(many_tokens(), random);
  TableDevice device(model.model(), *all_tables().front(), 2, kSlots, 8);
  program::Choice masked = random_choice(random);
  masked.edits.clear();
  for (std::int32_t token = 0; token < static_cast<std::int32_t>(kVocab); ++token)
    masked.edits.push_back({token, 1.0F, -kInfinity});
  program::Choice free = masked;
  free.edits.clear();
  const program::Step step{{1, 2, 3},
                           {{0, 0, 0, 1}, {1, 0, 1, 1}, {2, 0, 2, 1}},
                           {{0, false, free}, {1, false, masked}, {2, false, free}}};
  const std::vector<std::int32_t> tokens = device.run(step).tokens;
  EXPECT_GE(tokens[0], 0);
  EXPECT_EQ(tokens[1], -1);
  EXPECT_GE(tokens[2], 0);
}

TEST(SamplingStep, OnlyRowsWithOutputMeetTheHead) {
  Random random(test::seed_of_test());
  const model::ModelConfig config = many_tokens();
  for (int i = 0; i < 20; ++i) {
    program::StepShape shape;
    for (std::size_t n = pick(random, 1, 4); n > 0; --n)
      shape.spans.push_back({static_cast<std::uint32_t>(pick(random, 1, 40)), 1});
    for (std::uint32_t row = 0; row < shape.n_rows(); ++row)
      if (pick(random, 0, 5) == 0) shape.output_rows.push_back(row);
    const program::Program program = program::build(config, shape, {});
    std::multiset<std::pair<std::uint32_t, std::uint32_t>> met;  // tile, row
    std::size_t n_tiles = 0;
    for (const program::Task& task : program.tasks) {
      const program::Op& op = program.ops[task.op];
      if (op.kind != program::OpKind::kHead) continue;
      n_tiles = program.tilings[op.tiling].size();
      const program::RowGroup& group = program.groups[task.rows];
      for (std::uint32_t at = group.begin; at < group.end; ++at) met.insert({task.part, program.rows[at]});
    }
    std::multiset<std::pair<std::uint32_t, std::uint32_t>> want;
    for (std::uint32_t tile = 0; tile < n_tiles; ++tile)
      for (const std::uint32_t row : shape.output_rows) want.insert({tile, row});
    EXPECT_EQ(met, want);
  }
}

}  // namespace
}  // namespace sluice::cpu
