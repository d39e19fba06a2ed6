// Heads, choices and activations that no model has: where a bound, a threshold or a tie could go wrong, whole steps with a
// screened head choose what the full one chooses.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bf16.h"
#include "cpu/backend.h"
#include "program/screening.h"
#include "tests/cpu/devices.h"
#include "tests/oracle/random_model.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using program::Step;
using test::pick;
using test::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::size_t kSlots = 4;
constexpr std::size_t kContext = 40;

float sign(Random& random) {
  return pick(random, 0, 1) == 0 ? -1.0F : 1.0F;
}

// Any finite number, all exponents alike.
float any_number(Random& random, int least, int most) {
  const int exponent = least + static_cast<int>(pick(random, 0, static_cast<std::size_t>(most - least)));
  return sign(random) * std::ldexp(1.0F + static_cast<float>(pick(random, 0, 127)) / 128.0F, exponent);
}

constexpr const char* kRows[] = {"all equal",
                                 "all equal but one",
                                 "one weight each",
                                 "one huge weight each",
                                 "two values",
                                 "any exponents",
                                 "a row and its negative",
                                 "next to overflow",
                                 "subnormal and normal",
                                 "halves of a level"};

void make_row(Random& random, std::size_t kind, std::size_t r, const std::vector<float>& basis,
              std::span<float> row) {
  const std::size_t n = row.size();
  for (std::size_t k = 0; k < n; ++k) {
    float& w = row[k];
    switch (kind) {
      case 0:
        w = basis[k];
        break;
      case 1:
        w = basis[k] * (r == 1 && k == 0 ? 1.0F + 0x1p-7F : 1.0F);
        break;
      case 2:
        w = k == r % n ? any_number(random, -4, 4) : 0.0F;
        break;
      case 3:
        w = k == r % n ? any_number(random, 10, 60) : any_number(random, -10, 0);
        break;
      case 4:
        w = sign(random);
        break;
      case 5:
        w = any_number(random, -126, 100);
        break;
      case 6:
        w = r % 2 == 0 ? basis[k] : -basis[k];
        break;
      case 7:
        w = any_number(random, 120, 127);
        break;
      case 8:
        w = any_number(random, -133, -120);
        break;
      default:
        w = k == 0 ? 127.0F : sign(random) * (static_cast<float>(pick(random, 0, 60)) + 0.5F);
        break;
    }
  }
}

class HostileModel {
 public:
  HostileModel(std::size_t vocab, std::size_t hidden, std::size_t kind, bool is_bf16, Random& random)
      : random_(config_of(vocab, hidden), random), model_(random_.model()) {
    std::vector<float> basis(hidden);
    for (float& value : basis) value = any_number(random, -2, 2);
    std::vector<float> row(hidden);
    for (std::size_t r = 0; r < vocab; ++r) {
      make_row(random, kind, r, basis, row);
      for (const float weight : row) {
        halves_.push_back(float_to_bf16(weight));
        floats_.push_back(weight);
      }
    }
    model::Matrix& head = model_.weights.head;
    head.dtype = is_bf16 ? model::DType::kBF16 : model::DType::kF32;
    head.data = is_bf16 ? std::as_bytes(std::span<const std::uint16_t>(halves_))
                        : std::as_bytes(std::span<const float>(floats_));
  }

  static model::ModelConfig config_of(std::size_t vocab, std::size_t hidden) {
    model::ModelConfig config = test::small_config();
    config.vocab_size = vocab;
    config.hidden_size = hidden;
    config.layers = {model::LayerKind::kDeltaNet};
    return config;
  }

  model::Model& model() { return model_; }

 private:
  test::RandomModel random_;
  model::Model model_;
  std::vector<std::uint16_t> halves_;
  std::vector<float> floats_;
};

// Of the last norm: what the head is fed.
void spoil_norm(Random& random, std::vector<float>& norm) {
  const std::size_t n = norm.size();
  switch (pick(random, 0, 7)) {
    case 0:
      norm[pick(random, 0, n - 1)] = any_number(random, 20, 127);
      break;
    case 1:
      std::ranges::fill(norm, 0.0F);
      norm[pick(random, 0, n - 1)] = any_number(random, -126, 127);
      break;
    case 2:
      for (float& w : norm) w = any_number(random, -130, -110);
      break;
    case 3:
      for (float& w : norm) w = any_number(random, 0, 127);
      break;
    case 4: {
      const float values[] = {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()};
      norm[pick(random, 0, n - 1)] = values[pick(random, 0, 2)];
      break;
    }
    default:
      break;
  }
}

program::Choice hostile_choice(Random& random, std::size_t vocab) {
  const float temperatures[] = {0.0F, 1e-5F, 1.001e-5F, 0.01F, 0.7F, 1.0F, 1.0F, 50.0F, 1e6F, 3e38F};
  const float min_ps[] = {0.0F, 0.0F, 0.0F, 1.2e-38F, 1e-30F, 1e-3F, 0.5F, 0.999999F, 1.0F};
  const std::size_t panels = program::screen_panels(vocab);
  const std::size_t top_ks[] = {0,         0,     0,        1, 2, 15, 16, 17, panels / 2, panels / 2 + 1,
                                vocab - 1, vocab, vocab + 1};
  program::Choice choice;
  choice.sampling.temperature = temperatures[pick(random, 0, std::size(temperatures) - 1)];
  choice.sampling.top_k = top_ks[pick(random, 0, std::size(top_ks) - 1)];
  choice.sampling.min_p = min_ps[pick(random, 0, std::size(min_ps) - 1)];
  const float top_ps[] = {0.0F, 0.3F, 0.95F};
  if (choice.sampling.top_k != 0 && pick(random, 0, 1) == 0)
    choice.sampling.top_p = top_ps[pick(random, 0, 2)];
  choice.sampling.seed = random();
  choice.draw = random();
  choice.n_tokens = pick(random, 0, 2) == 0 ? pick(random, 1, vocab) : vocab;
  const float repeats[] = {1.0F, 1e-3F, 0.5F, 1.3F, 1e3F, 1e-38F, 1e38F, 1e-44F};
  const float adds[] = {0.0F, 1.0F, -2.5F, -kInfinity, 3e38F, -3e38F, 1e-40F, 1e10F};
  const std::size_t among = pick(random, 0, 3);
  for (std::size_t token = 0; among != 0 && token < vocab; ++token)
    if (pick(random, 0, among == 1 ? 20 : 1) == 0)
      choice.edits.push_back({static_cast<std::int32_t>(token),
                              repeats[pick(random, 0, std::size(repeats) - 1)],
                              adds[pick(random, 0, among == 2 ? std::size(adds) - 1 : 3)]});
  return choice;
}

// A row of each slot, or a span of one slot.
Step hostile_step(Random& random, std::size_t vocab) {
  Step step;
  const bool feeds = pick(random, 0, 2) == 0;
  const std::size_t n_slots = feeds ? 1 : pick(random, 1, kSlots);
  for (std::size_t slot = 0; slot < n_slots; ++slot) {
    const std::size_t n = feeds ? pick(random, 1, 20) : 1;
    step.spans.push_back({slot, 0, step.tokens.size(), n});
    for (const std::int32_t token : random_tokens(random, n, vocab)) step.tokens.push_back(token);
    step.outputs.push_back({step.tokens.size() - 1, false, hostile_choice(random, vocab)});
  }
  return step;
}

TEST(HostileHead, IsScreenedToTheSameTokens) {
  Random random(test::seed_of_test());
  const std::vector<const Kernels*> tables = all_tables();
  const std::size_t vocabs[] = {1, 2, 15, 16, 17, 31, 33, 48, 250, 1025};
  std::size_t n_screened = 0;
  const int rounds = kIsSanitized ? 15 : 150;
  for (int round = 0; round < rounds; ++round) {
    const std::size_t kind = pick(random, 0, std::size(kRows) - 1);
    const std::size_t vocab = vocabs[pick(random, 0, std::size(vocabs) - 1)];
    const std::size_t hidden = pick(random, 0, 5) == 0 ? pick(random, 200, 3000) : pick(random, 1, 40);
    const bool is_bf16 = pick(random, 0, 2) != 0;
    HostileModel model(vocab, hidden, kind, is_bf16, random);
    spoil_norm(random, model.model().weights.norm);
    const Kernels& kernels = *tables[pick(random, 0, tables.size() - 1)];
    TableDevice full(model.model(), kernels, 1, kSlots, kContext);
    TableDevice screened(model.model(), kernels, pick(random, 1, 3), kSlots, kContext, true);
    for (int i = 0; i < 12; ++i) {
      for (std::size_t slot = 0; slot < kSlots; ++slot) {
        full.reset(slot);
        screened.reset(slot);
      }
      const Step step = hostile_step(random, vocab);
      ASSERT_EQ(screened.run(step).tokens, full.run(step).tokens)
          << kRows[kind] << (is_bf16 ? ", bf16, " : ", fp32, ") << vocab << " rows of " << hidden << ", "
          << kernels.name << ", round " << round << ", step " << i;
    }
    n_screened += screened.n_screened();
  }
  EXPECT_GT(n_screened, static_cast<std::size_t>(rounds));
}

}  // namespace
}  // namespace sluice::cpu
