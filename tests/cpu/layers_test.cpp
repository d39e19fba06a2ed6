// Every op with weights, both mixers, norms, rotation, gates and the head, in models of random shapes on every table of
// kernels, in pieces of random lengths, against the oracle's ops in fp64 with the device's own roundings to bf16
// (rounded_oracle.h).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "model/random_model.h"
#include "oracle/oracle.h"
#include "tests/cpu/devices.h"
#include "tests/cpu/rounded_oracle.h"
#include "tests/oracle/random_model.h"
#include "tests/support/golden.h"
#include "tests/support/random_inputs.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using model::LayerKind;
using test::describe;
using test::pick;
using test::Random;

model::ModelConfig random_config(Random& random) {
  std::vector<LayerKind> layers;
  for (std::size_t n = pick(random, 1, 3); n > 0; --n)
    layers.push_back(pick(random, 0, 1) == 0 ? LayerKind::kDeltaNet : LayerKind::kAttention);
  return test::random_config(random, std::move(layers));
}

std::vector<double> logits_of(const model::Model& model, const std::vector<std::int32_t>& tokens,
                              test::Roundings roundings) {
  test::RoundedOracle oracle(model, roundings);
  std::vector<double> all;
  for (const std::int32_t token : tokens) {
    const std::vector<double> logits = oracle.feed(token);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

// Without roundings it is the oracle.
TEST(RoundedOracle, IsTheOracle) {
  Random random(test::seed_of_test());
  const test::RandomModel model(random_config(random), random);
  const std::vector<std::int32_t> tokens = random_tokens(random, 20, model.model().config.vocab_size);
  auto state = oracle::empty_state<double>(model.model().config);
  std::vector<double> want;
  for (const std::int32_t token : tokens) {
    const std::vector<double> hidden = oracle::feed<double>(model.model(), state, token);
    const std::vector<double> logits = oracle::logits<double>(model.model(), hidden);
    want.insert(want.end(), logits.begin(), logits.end());
  }
  const std::vector<double> got = logits_of(model.model(), tokens, {});
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-12 * (1 + std::abs(want[i])));
}

// Sums of up to 300 terms in fp32 instead of fp64: 1e-6 of the logits is what is usually seen. Two numbers that close can
// still round to different neighbours in bf16, 2^-8 apart: one in some thousand keys and values, which moves the rows that look
// at it by 2e-4 of all logits at most in 100 draws; activations by the dozen, which through two more layers add up to 3e-3 (and
// are 1e-2 to 4e-2 if the oracle doesn't round them). Long spans on bf16 instructions also round queries and the softmax's
// weights to bf16, as flash attention does, which the oracle here doesn't: a score of size s is then off by up to s 2^-9, and
// scores come up to sqrt(head_dim) times the norms' weights, here about 15: 3e-2 of a mixer's output. A wrong mask, position
// or block moves logits by a tenth and more.
double limit_of(bool rounds_activations, bool rounds_queries) {
  if (rounds_queries) return 4e-2;
  return rounds_activations ? 1e-2 : 1e-3;
}

void expect_agreement(const model::Model& model, bool has_bf16_weights, Random& random) {
  const std::vector<std::int32_t> tokens =
      random_tokens(random, pick(random, 30, 150), model.config.vocab_size);
  for (const bool rounds : {false, true}) {
    const std::vector<double> exact =
        logits_of(model, tokens, {.activations = rounds, .keys_and_values = true});
    const std::vector<float> want(exact.begin(), exact.end());
    for (const Kernels* kernels : all_tables()) {
      if ((kernels->activations == ActivationType::kBF16) != rounds) continue;
      for (const std::size_t longest : {std::size_t{program::kMaxShortSpan}, std::size_t{60}}) {
        TableDevice device(model, *kernels, pick(random, 1, 3), 1, 160);
        const std::vector<std::size_t> pieces = random_pieces(random, tokens.size(), longest);
        const double error = test::relative_rms<float>(feed(device, 0, tokens, pieces), want);
        EXPECT_LT(error, limit_of(rounds && has_bf16_weights, rounds && longest > program::kMaxShortSpan))
            << kernels->name << ", pieces " << testing::PrintToString(pieces);
      }
    }
  }
}

TEST(Layers, OfAnyShapeAgreeWithTheOracle) {
  Random random(test::seed_of_test());
  for (int i = 0; i < (kIsSanitized ? 1 : 6); ++i) {
    const model::ModelConfig config = random_config(random);
    SCOPED_TRACE(describe(config));
    expect_agreement(test::RandomModel(config, random).model(), false, random);
    model::RandomModel bf16(config, random());
    bf16.fill(1);
    expect_agreement(bf16.model(), true, random);
  }
}

}  // namespace
}  // namespace sluice::cpu
