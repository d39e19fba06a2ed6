// The mixed entry point on the PTX machine: prompts in pieces of any length against the oracle's ops in fp64, steps that mix spans
// against the same spans alone, any grid against one block; both architectures, every launch with a seed of its own and all checks.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cuda/build.h"
#include "model/random_model.h"
#include "program/backend.h"
#include "tests/cpu/rounded_oracle.h"
#include "tests/cuda/mixed/mixed_device.h"
#include "tests/support/golden.h"
#include "tests/support/random_inputs.h"
#include "tests/support/seed.h"

namespace sluice::cuda::test {
namespace {

using model::LayerKind;
using sluice::test::describe;
using sluice::test::pick;
using sluice::test::Random;
using sluice::test::random_tokens;
using sluice::test::relative_rms;

// DeltaNet and attention in turn, either first.
model::ModelConfig random_config(Random& random, std::size_t n_layers) {
  const std::size_t first = pick(random, 0, 1);
  std::vector<LayerKind> layers;
  for (std::size_t i = 0; i < n_layers; ++i)
    layers.push_back((i + first) % 2 == 0 ? LayerKind::kDeltaNet : LayerKind::kAttention);
  model::ModelConfig config = sluice::test::random_config(random, std::move(layers),
                                                          {.vocab = 150,
                                                           .hidden = 140,
                                                           .intermediate = 90,
                                                           .kv_heads = 2,
                                                           .key_heads = 2,
                                                           .value_heads_per_key_head = 2,
                                                           .value_head_dim = 40,
                                                           .conv_kernel = kMostConvKernel});
  config.tie_word_embeddings = pick(random, 0, 1) == 0;
  return config;
}

// A span of a sequence's tokens from `position` on.
struct Piece {
  std::size_t slot, position, n;
  const std::vector<std::int32_t>* tokens;
};

// One step of these spans. Outputs: every row, or the last of each span.
program::Step step_of(const std::vector<Piece>& pieces, bool all_rows) {
  program::Step step;
  for (const Piece& piece : pieces) {
    step.spans.push_back({piece.slot, piece.position, step.tokens.size(), piece.n});
    for (std::size_t i = 0; i < piece.n; ++i) {
      if (all_rows || i + 1 == piece.n) step.outputs.push_back({step.tokens.size(), true, std::nullopt});
      step.tokens.push_back((*piece.tokens)[piece.position + i]);
    }
  }
  return step;
}

// tests/cpu/layers_test.cpp derives them: activations that two orders of addition round to different bf16 numbers add up to 3e-3
// of all logits, 1e-2 at most; long spans round queries and the softmax's weights too, which is up to 3e-2 of a mixer's output.
constexpr double kLimit = 4e-2;

class Mixed : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!is_built_in()) GTEST_SKIP() << "CUDA isn't built in: " << why_not_built_in();
  }
  static MixedOptions options(std::uint32_t blocks) {
    MixedOptions options;
    options.architecture = GetParam();
    options.blocks = blocks;
    return options;
  }
  Random random_{sluice::test::seed_of_test()};
};

INSTANTIATE_TEST_SUITE_P(Architectures, Mixed, testing::Values(75, 80),
                         [](const auto& info) { return "compute_" + std::to_string(info.param); });

// Lengths around chunks of the delta rule, row blocks and KV pages, then short spans that go on from the state.
TEST_P(Mixed, PromptsInPiecesAreTheOracles) {
  const std::vector<std::vector<std::size_t>> cuts = {
      {9, 1, 17}, {65, 2, 12}, {64, 31, 3}, {33, 40}, {1, 63, 10}};
  constexpr std::uint32_t kGrids[] = {1, 2, 3, 8, 13};
  for (std::size_t i = 0; i < cuts.size(); ++i) {
    const model::ModelConfig config = random_config(random_, pick(random_, 2, 3));
    const std::uint32_t blocks = kGrids[i];
    SCOPED_TRACE(describe(config) +
                 fmt::format(", {} blocks, pieces {}", blocks, testing::PrintToString(cuts[i])));
    model::RandomModel model(config, random_());
    model.fill(1);
    MixedDevice device(model.model(), options(blocks), random_);
    std::size_t n = 0;
    for (const std::size_t piece : cuts[i]) n += piece;
    const std::vector<std::int32_t> tokens = random_tokens(random_, n, config.vocab_size);
    std::vector<float> got;
    std::size_t position = 0;
    for (const std::size_t piece : cuts[i]) {
      const std::vector<float> logits = device.run(step_of({{0, position, piece, &tokens}}, true)).logits;
      got.insert(got.end(), logits.begin(), logits.end());
      position += piece;
    }
    sluice::test::RoundedOracle oracle(model.model(), {.activations = true, .keys_and_values = true});
    std::vector<float> want;
    for (const std::int32_t token : tokens)
      for (const double logit : oracle.feed(token)) want.push_back(static_cast<float>(logit));
    EXPECT_LT(relative_rms<float>(got, want), kLimit);
  }
}

program::Choice choice_of(Random& random, std::size_t vocab) {
  program::Choice choice;
  choice.n_tokens = vocab;
  choice.draw = pick(random, 0, 1000);
  switch (pick(random, 0, 2)) {
    case 0:
      break;  // greedy
    case 1:
      choice.sampling = {.temperature = 0.7F, .seed = random()};
      break;
    default:
      choice.sampling = {.temperature = 1.3F, .top_k = pick(random, 1, 20), .top_p = 0.9F, .seed = random()};
  }
  choice.edits = {{static_cast<std::int32_t>(pick(random, 0, vocab - 1)), 1.5F, -2.0F}};
  return choice;
}

// What a device says of one step: bits.
void expect_same(const program::StepResult& got, const program::StepResult& want) {
  EXPECT_EQ(got.tokens, want.tokens);
  ASSERT_EQ(got.logits.size(), want.logits.size());
  EXPECT_EQ(std::memcmp(got.logits.data(), want.logits.data(), got.logits.size() * sizeof(float)), 0);
}

// Outputs [first, first + n) of a result.
program::StepResult part_of(const program::StepResult& result, std::size_t first, std::size_t n,
                            std::size_t vocab) {
  const auto tokens = result.tokens.begin() + static_cast<std::ptrdiff_t>(first);
  const auto logits = result.logits.begin() + static_cast<std::ptrdiff_t>(first * vocab);
  return {{logits, logits + static_cast<std::ptrdiff_t>(n * vocab)},
          {tokens, tokens + static_cast<std::ptrdiff_t>(n)}};
}

// Two steps in a row that mix long spans, short ones and single rows; every row's logits and token are those of its span alone,
// where short spans take the decode entry. What is chosen is what the CPU chooses from these logits.
TEST_P(Mixed, StepsAreTheirSpansAlone) {
  constexpr std::uint32_t kGrids[] = {1, 2, 3, 8, 13};
  for (const std::uint32_t blocks : {kGrids[pick(random_, 0, 1)], kGrids[pick(random_, 2, 4)]}) {
    const model::ModelConfig config = random_config(random_, 2);
    SCOPED_TRACE(describe(config) + fmt::format(", {} blocks", blocks));
    model::RandomModel model(config, random_());
    model.fill(1);
    constexpr std::size_t kSlots = 6;
    MixedOptions shared = options(blocks);
    shared.n_slots = kSlots;
    MixedOptions own = options(static_cast<std::uint32_t>(pick(random_, 1, 4)));
    own.n_slots = kSlots;
    own.takes_decode_entry = true;
    MixedDevice together(model.model(), shared, random_);
    MixedDevice alone(model.model(), own, random_);
    std::vector<std::vector<std::int32_t>> tokens;
    for (std::size_t slot = 0; slot < kSlots; ++slot)
      tokens.push_back(random_tokens(random_, 150, config.vocab_size));
    std::vector<std::size_t> lengths(kSlots, 0);
    for (int i = 0; i < 2; ++i) {
      const std::size_t sizes[kSlots] = {
          1, pick(random_, 9, 40), pick(random_, 2, 8), i == 0 ? std::size_t{66} : 9, 1, pick(random_, 1, 8)};
      std::vector<Piece> pieces;
      for (std::size_t slot = 0; slot < kSlots; ++slot)
        pieces.push_back({slot, lengths[slot], sizes[slot], &tokens[slot]});
      std::shuffle(pieces.begin(), pieces.end(), random_);
      program::Step step = step_of(pieces, false);
      for (program::Output& output : step.outputs) output.choice = choice_of(random_, config.vocab_size);
      const program::StepResult mixed = together.run(step);
      for (std::size_t piece = 0; piece < pieces.size(); ++piece) {
        SCOPED_TRACE(fmt::format("span of {} at {}", pieces[piece].n, pieces[piece].position));
        program::Step one = step_of({pieces[piece]}, false);
        one.outputs[0].choice = step.outputs[piece].choice;
        const program::StepResult result = alone.run(one);
        expect_same(part_of(mixed, piece, 1, config.vocab_size), result);
        EXPECT_EQ(result.tokens[0], program::choose(result.logits, *one.outputs[0].choice));
      }
      for (std::size_t slot = 0; slot < kSlots; ++slot) lengths[slot] += sizes[slot];
    }
  }
}

// The grid changes no bit, of logits and of the states that later steps start from; nor does reusing a slot.
TEST_P(Mixed, AnyGridGivesTheSameBits) {
  const model::ModelConfig config = random_config(random_, 2);
  SCOPED_TRACE(describe(config));
  model::RandomModel model(config, random_());
  model.fill(1);
  const std::vector<std::int32_t> tokens = random_tokens(random_, 120, config.vocab_size);
  const std::size_t first = pick(random_, 65, 100);
  std::optional<program::StepResult> want;
  for (const std::uint32_t blocks : {1U, 2U, 3U, 8U, 13U}) {
    MixedDevice device(model.model(), options(blocks), random_);
    if (blocks == 2) {
      device.run(step_of({{0, 0, 20, &tokens}}, false));
      device.reset(0);
    }
    device.run(step_of({{0, 0, first, &tokens}}, false));
    const program::StepResult result = device.run(step_of({{0, first, 10, &tokens}}, true));
    if (want) expect_same(result, *want);
    want = result;
  }
}

// Products read every byte of their weights once for each block of rows; the head once.
TEST_P(Mixed, WeightsAreReadOncePerRowBlock) {
  model::ModelConfig config = random_config(random_, 2);
  config.vocab_size =
      8 * pick(random_, 5, 20);  // decode, which the head is, leaves out what a last panel lacks
  config.tie_word_embeddings = false;
  SCOPED_TRACE(describe(config));
  model::RandomModel model(config, random_());
  model.fill(1);
  const std::vector<std::int32_t> tokens = random_tokens(random_, 150, config.vocab_size);
  MixedDevice device(model.model(), options(3), random_);
  for (const std::size_t rows : {std::size_t{9}, std::size_t{64}, std::size_t{65}, std::size_t{130}}) {
    device.reset(0);
    program::Step step = step_of({{0, 0, rows, &tokens}}, false);
    device.run(step);
    const std::size_t blocks = (rows + kRowBlock - 1) / kRowBlock;
    EXPECT_EQ(device.product_bytes_read(), blocks * device.layer_bytes() + device.head_bytes())
        << rows << " rows";
  }
}

// Products and attention are at the ideal but for edges; the delta rule stores its dot products with two lanes at a bank, 8 of some
// hundred accesses. A stride without padding comes to twice the ideal and more.
TEST_P(Mixed, TilesMeetNoBankTwice) {
  for (const LayerKind kind : {LayerKind::kAttention, LayerKind::kDeltaNet}) {
    model::ModelConfig config = random_config(random_, 1);
    config.layers = {kind};
    config.head_dim = 64;
    config.key_head_dim = 64;
    SCOPED_TRACE(describe(config));
    model::RandomModel model(config, random_());
    model.fill(1);
    const std::vector<std::int32_t> tokens = random_tokens(random_, 150, config.vocab_size);
    MixedDevice device(model.model(), options(3), random_);
    program::Step step = step_of({{0, 0, 130, &tokens}}, false);
    step.outputs.clear();
    device.run(step);
    const auto& counters = device.report().counters;
    EXPECT_LE(counters.shared_wavefronts,
              counters.shared_wavefronts_ideal + counters.shared_wavefronts_ideal / 20);
  }
}

}  // namespace
}  // namespace sluice::cuda::test
