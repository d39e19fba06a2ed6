// The decode kernel on the PTX machine, both architectures, against the oracle's ops in fp64 with the device's own roundings to
// bf16 (tests/cpu/rounded_oracle.h). Every launch has a seed of its own, all checks are on, and any finding fails the launch.
// Models' hidden sizes are up to 192; StagesWideOperands has those where a warp stages as much as in real models.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "model/random_model.h"
#include "program/backend.h"
#include "tests/cpu/rounded_oracle.h"
#include "tests/cuda/decode_device.h"
#include "tests/support/golden.h"
#include "tests/support/random_inputs.h"
#include "tests/support/seed.h"

namespace sluice::cuda::test {
namespace {

using model::LayerKind;
using sluice::test::describe;
using sluice::test::pick;
using sluice::test::Random;
using sluice::test::relative_rms;

// DeltaNet and attention in turn.
model::ModelConfig random_config(Random& random, std::size_t n_layers) {
  std::vector<LayerKind> layers;
  for (std::size_t i = 0; i < n_layers; ++i)
    layers.push_back(i % 2 == 0 ? LayerKind::kDeltaNet : LayerKind::kAttention);
  model::ModelConfig config = sluice::test::random_config(random, std::move(layers),
                                                          {.vocab = 200,
                                                           .kv_heads = 2,
                                                           .heads_per_kv_head = 5,
                                                           .value_head_dim = 40,
                                                           .conv_kernel = kMostConvKernel});
  config.tie_word_embeddings = pick(random, 0, 1) == 0;
  return config;
}

// Where no activation falls between two bf16 numbers, device and oracle differ by 1e-7 (half of the draws). One that does moves its
// row's next operands by 2^-9, those fall too, and in the end as many do as if the oracle didn't round: 1e-2 to 4e-2 of the logits
// (tests/cpu/layers_test.cpp) at worst, 6e-3 in 200 draws. A wrong index, position or sign moves them by a tenth and more.
constexpr double kLimit = 4e-2;

class Decode : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    if (!is_built_in()) GTEST_SKIP() << "CUDA isn't built in: " << why_not_built_in();
  }
  Random random_{sluice::test::seed_of_test()};
};

INSTANTIATE_TEST_SUITE_P(Architectures, Decode, testing::Values(75, 80),
                         [](const auto& info) { return "compute_" + std::to_string(info.param); });

// sm_75 has fp16 in its KV cache.
sluice::test::Roundings roundings(int architecture) {
  return {.activations = true, .keys_and_values = true, .to_fp16 = architecture < 80, .before_scale = true};
}

model::ModelConfig random_config(Random& random) {
  return random_config(random, pick(random, 1, 3));
}

DeviceOptions random_options(Random& random, int architecture) {
  constexpr unsigned kGrids[] = {1, 2, 3, 8, 13};
  return {.architecture = architecture,
          .blocks = kGrids[pick(random, 0, std::size(kGrids) - 1)],
          .ring_slots = static_cast<std::uint32_t>(pick(random, 1, 4))};
}

std::int32_t random_token(Random& random, const model::ModelConfig& config) {
  return static_cast<std::int32_t>(pick(random, 0, config.vocab_size - 1));
}

TEST_P(Decode, LogitsAndStatesAreTheOracles) {
  constexpr unsigned kGrids[] = {1, 2, 3, 8, 13};
  for (const unsigned blocks : kGrids) {
    const model::ModelConfig config = random_config(random_);
    SCOPED_TRACE(describe(config) + fmt::format(", {} blocks", blocks));
    model::RandomModel model(config, random_());
    model.fill(1);
    DecodeDevice device(model.model(),
                        {.architecture = GetParam(),
                         .blocks = blocks,
                         .ring_slots = static_cast<std::uint32_t>(pick(random_, 1, 3))},
                        random_);
    sluice::test::RoundedOracle oracle(model.model(), roundings(GetParam()));
    std::vector<float> got;
    std::vector<float> want;
    for (int i = 0; i < 4; ++i) {
      const auto token = static_cast<std::int32_t>(pick(random_, 0, config.vocab_size - 1));
      const DecodeResult result = device.run({{0, {{.token = token}}}});
      ASSERT_EQ(result.ring.n_steps, 1U);
      got.insert(got.end(), result.logits[0].begin(), result.logits[0].end());
      for (const double logit : oracle.feed(token)) want.push_back(static_cast<float>(logit));
    }
    EXPECT_LT(relative_rms<float>(got, want), kLimit);
    std::size_t delta_layer = 0;
    for (std::size_t layer = 0; layer < config.n_layers(); ++layer) {
      if (config.layers[layer] != LayerKind::kDeltaNet) continue;
      const auto& state = oracle.state().layers[layer];
      const std::vector<float> delta(state.delta_state.begin(), state.delta_state.end());
      const std::vector<float> conv(state.conv_state.begin(), state.conv_state.end());
      EXPECT_LT(relative_rms<float>(device.delta_state(delta_layer, 0), delta), kLimit) << "layer " << layer;
      EXPECT_LT(relative_rms<float>(device.conv_state(delta_layer, 0), conv), kLimit) << "layer " << layer;
      ++delta_layer;
    }
  }
}

// One row after the other on a device of its own: what the same rows must give in any company, bit for bit.
struct Sequence {
  std::vector<std::int32_t> tokens;
  std::vector<std::vector<float>> logits;  // after each token
};

Sequence run_alone(const model::Model& model, std::vector<std::int32_t> tokens, const DeviceOptions& options,
                   Random& random) {
  DecodeDevice device(model, options, random);
  Sequence sequence{std::move(tokens), {}};
  for (const std::int32_t token : sequence.tokens)
    sequence.logits.push_back(device.run({{0, {{.token = token}}}}).logits[0]);
  return sequence;
}

TEST_P(Decode, RowsDoNotDependOnNeighboursGridOrRing) {
  const model::ModelConfig config = random_config(random_, 3);
  model::RandomModel model(config, random_());
  model.fill(1);
  std::vector<Sequence> sequences;
  for (int i = 0; i < 3; ++i) {
    std::vector<std::int32_t> tokens(6);
    for (std::int32_t& token : tokens) token = random_token(random_, config);
    sequences.push_back(run_alone(model.model(), tokens, random_options(random_, GetParam()), random_));
  }
  DeviceOptions options = random_options(random_, GetParam());
  options.n_slots = 3;
  options.most_rows = kMostDecodeRows;
  SCOPED_TRACE(describe(config) + fmt::format(", {} blocks", options.blocks));
  DecodeDevice device(model.model(), options, random_);
  for (;;) {
    std::vector<DecodeSpan> spans;
    std::vector<std::vector<float>> want;
    std::size_t room = kMostDecodeRows;
    for (std::uint32_t slot = 0; slot < sequences.size(); ++slot) {
      const Sequence& sequence = sequences[slot];
      const std::size_t done = device.length(slot);
      const std::size_t n = std::min({pick(random_, 0, 4), sequence.tokens.size() - done, room});
      if (n == 0) continue;
      room -= n;
      spans.push_back({slot, {}});
      for (std::size_t i = done; i < done + n; ++i) {
        const bool wants_logits = pick(random_, 0, 2) > 0;
        spans.back().rows.push_back({.token = sequence.tokens[i], .wants_logits = wants_logits});
        if (wants_logits) want.push_back(sequence.logits[i]);
      }
    }
    if (spans.empty()) continue;
    EXPECT_EQ(device.run(spans).logits, want);
    if (device.length(0) + device.length(1) + device.length(2) == 18) break;
  }
}

// As wide as real models are, with few parameters: each warp stages more of the residual than its lanes take at once (four
// numbers each), or more than twice what they take of an MLP's inner activations (sixteen numbers each on sm_80).
std::vector<model::ModelConfig> wide_configs(Random& random) {
  model::ModelConfig config = random_config(random, 1);
  config.vocab_size = pick(random, 8, 12);
  config.n_kv_heads = config.n_heads = 1;
  config.head_dim = 8;
  config.rotary_dim = 4;
  config.n_key_heads = config.n_value_heads = 1;
  config.key_head_dim = config.value_head_dim = pick(random, 5, 8);
  config.hidden_size = pick(random, 6 * kChunk * kComputeWarps, 8 * kChunk * kComputeWarps);
  config.intermediate_size = pick(random, 16, 20);
  std::vector<model::ModelConfig> configs(2, config);
  configs[1].layers = {LayerKind::kAttention};
  configs[1].hidden_size = pick(random, 16, 20);
  configs[1].intermediate_size = pick(random, 17 * kChunk * kComputeWarps, 18 * kChunk * kComputeWarps);
  return configs;
}

TEST_P(Decode, StagesWideOperands) {
  constexpr std::uint32_t kRows = 3;
  for (const model::ModelConfig& config : wide_configs(random_)) {
    model::RandomModel model(config, random_());
    model.fill(1);
    DeviceOptions options{.architecture = GetParam(),
                          .blocks = static_cast<unsigned>(pick(random_, 1, 3)),
                          .ring_slots = static_cast<std::uint32_t>(pick(random_, 1, 3))};
    SCOPED_TRACE(describe(config) + fmt::format(", {} blocks", options.blocks));
    std::vector<DecodeSpan> spans;
    std::vector<std::vector<float>> alone;
    std::vector<std::vector<float>> want;
    for (std::uint32_t slot = 0; slot < kRows; ++slot) {
      const std::int32_t token = random_token(random_, config);
      spans.push_back({slot, {{.token = token}}});
      alone.push_back(run_alone(model.model(), {token}, options, random_).logits[0]);
      sluice::test::RoundedOracle oracle(model.model(), roundings(GetParam()));
      const std::vector<double> logits = oracle.feed(token);
      want.emplace_back(logits.begin(), logits.end());
    }
    options.n_slots = options.most_rows = kRows;
    const DecodeResult result = DecodeDevice(model.model(), options, random_).run(spans);
    EXPECT_EQ(result.logits, alone);
    for (std::uint32_t row = 0; row < kRows; ++row)
      EXPECT_LT(relative_rms<float>(result.logits[row], want[row]), kLimit) << "row " << row;
  }
}

TEST_P(Decode, ReadsAllPagesOfALongContext) {
  model::ModelConfig config = random_config(random_, 2);
  config.layers = {LayerKind::kAttention, LayerKind::kAttention};
  config.hidden_size = 24;
  config.intermediate_size = 16;
  model::RandomModel model(config, random_());
  model.fill(1);
  DeviceOptions options = random_options(random_, GetParam());
  options.most_rows = program::kMaxShortSpan;
  options.context = 200;
  SCOPED_TRACE(describe(config) + fmt::format(", {} blocks", options.blocks));
  DecodeDevice device(model.model(), options, random_);
  sluice::test::RoundedOracle oracle(model.model(), roundings(GetParam()));
  std::vector<float> got;
  std::vector<float> want;
  const auto compare = [&](const DecodeResult& result) {
    for (const std::vector<float>& logits : result.logits)
      got.insert(got.end(), logits.begin(), logits.end());
  };
  while (device.length(0) < 132) {
    const std::size_t left =
        kKvPage - 1 - std::min(device.length(0), kKvPage - 1);  // in the first page, but one
    if (device.length(0) == kKvPage - 1) {                      // into the second within a launch
      std::int32_t token = random_token(random_, config);
      const DecodeResult result = device.run({{0, {{.token = token, .choice = ChoiceKind::kGreedy}}}}, 3);
      ASSERT_EQ(result.ring.n_steps, 3U);
      compare(result);
      for (std::size_t step = 0; step < 2; ++step) {
        oracle.feed(token);
        token = result.ring.tokens[step][0];
      }
      for (const double logit : oracle.feed(token)) want.push_back(static_cast<float>(logit));
      continue;
    }
    DecodeSpan span{0, {}};
    for (std::size_t n = std::min(pick(random_, 6, 8), left == 0 ? 8 : left); n > 0; --n) {
      span.rows.push_back({.token = random_token(random_, config)});
      for (const double logit : oracle.feed(span.rows.back().token))
        want.push_back(static_cast<float>(logit));
    }
    compare(device.run({span}));
  }
  EXPECT_LT(relative_rms<float>(got, want), kLimit);
}

// How a row's tokens are chosen, and its device's word for that.
struct Choosing {
  ChoiceKind kind;
  program::Choice choice;
};

Choosing random_choosing(Random& random, const model::ModelConfig& config, std::size_t index) {
  Choosing it{};
  program::Choice& choice = it.choice;
  choice.n_tokens = pick(random, config.vocab_size / 2, config.vocab_size);
  choice.draw = random();
  choice.sampling.seed = random();
  for (std::size_t token = pick(random, 0, 5); token < config.vocab_size; token += pick(random, 1, 30))
    choice.edits.push_back({static_cast<std::int32_t>(token), pick(random, 0, 1) == 0 ? 1.0F : 1.5F,
                            pick(random, 0, 3) == 0 ? -std::numeric_limits<float>::infinity() : 0.75F});
  it.kind = index % 3 == 0 ? ChoiceKind::kGreedy : index % 3 == 1 ? ChoiceKind::kGumbel : ChoiceKind::kTopK;
  if (it.kind != ChoiceKind::kGreedy)
    choice.sampling.temperature = 0.3F + static_cast<float>(pick(random, 0, 10)) / 5;
  if (it.kind == ChoiceKind::kTopK) {
    choice.sampling.top_k = pick(random, 1, std::min<std::size_t>(kMostTopK, choice.n_tokens / 2));
    choice.sampling.top_p = pick(random, 0, 1) == 0 ? 1.0F : 0.8F;
    choice.sampling.min_p = pick(random, 0, 1) == 0 ? 0.0F : 0.05F;
  }
  return it;
}

DecodeRow row_of(std::int32_t token, const Choosing& choosing) {
  return {.token = token,
          .choice = choosing.kind,
          .wants_logits = false,
          .sampling = choosing.choice.sampling,
          .draw = choosing.choice.draw,
          .n_tokens = choosing.choice.n_tokens,
          .edits = choosing.choice.edits};
}

// A vocabulary smaller than the grid.
TEST_P(Decode, SomeBlocksHaveNoTokens) {
  model::ModelConfig config = random_config(random_, 1);
  config.vocab_size = pick(random_, 4, 8);
  model::RandomModel model(config, random_());
  model.fill(1);
  DecodeDevice device(model.model(), {.architecture = GetParam(), .blocks = 13, .most_rows = 3, .n_slots = 3},
                      random_);
  std::vector<DecodeSpan> spans;
  std::vector<Choosing> choosing;
  for (std::uint32_t slot = 0; slot < 3; ++slot) {
    choosing.push_back(random_choosing(random_, config, slot));
    spans.push_back({slot, {row_of(random_token(random_, config), choosing[slot])}});
    spans[slot].rows[0].wants_logits = true;
  }
  const DecodeResult result = device.run(spans);
  for (std::uint32_t slot = 0; slot < 3; ++slot)
    EXPECT_EQ(result.ring.tokens[0][slot], program::choose(result.logits[slot], choosing[slot].choice));
}

constexpr std::uint32_t kSteps = 4;

// Rows that sample in a launch of several steps, and what the host's sampler makes of the same logits one step at a time.
class DecodeSampling : public Decode {
 protected:
  void SetUp() override {
    Decode::SetUp();
    if (IsSkipped()) return;
    config_ = random_config(random_, 2);
    model_ = std::make_unique<model::RandomModel>(config_, random_());
    model_->fill(1);
    for (std::uint32_t slot = 0; slot < 3; ++slot) {
      const Choosing choosing = random_choosing(random_, config_, slot);
      const std::int32_t first = random_token(random_, config_);
      DecodeDevice alone(model_->model(), random_options(random_, GetParam()), random_);
      program::Choice choice = choosing.choice;
      std::int32_t token = first;
      for (std::uint32_t step = 0; step < kSteps; ++step, ++choice.draw) {
        const std::vector<float> logits = alone.run({{0, {{.token = token}}}}).logits[0];
        token = program::choose(logits, choice);
        ASSERT_GE(token, 0);
        want_[step][slot] = token;
      }
      spans_.push_back({slot, {row_of(first, choosing)}});
    }
    DeviceOptions options = random_options(random_, GetParam());
    options.n_slots = options.most_rows = 3;
    device_ = std::make_unique<DecodeDevice>(model_->model(), options, random_);
  }

  void expect_steps(const TokenRing& ring, std::uint32_t n, Ending ending) const {
    ASSERT_EQ(ring.n_steps, n);
    EXPECT_EQ(ring.ending, ending);
    for (std::uint32_t step = 0; step < n; ++step)
      for (std::uint32_t row = 0; row < 3; ++row)
        EXPECT_EQ(ring.tokens[step][row], want_[step][row]) << step << ", " << row;
  }

  model::ModelConfig config_;
  std::unique_ptr<model::RandomModel> model_;
  std::int32_t want_[kSteps][3] = {};
  std::vector<DecodeSpan> spans_;
  std::unique_ptr<DecodeDevice> device_;
};

INSTANTIATE_TEST_SUITE_P(Architectures, DecodeSampling, testing::Values(75, 80),
                         [](const auto& info) { return "compute_" + std::to_string(info.param); });

TEST_P(DecodeSampling, ChoosesInsideWhatTheHostWould) {
  expect_steps(device_->run(spans_, kSteps).ring, kSteps, Ending::kAllSteps);
}

TEST_P(DecodeSampling, EndsAtAStopToken) {
  const std::int32_t stop = want_[2][1];
  std::uint32_t first = 0;
  while (std::find(want_[first], want_[first] + 3, stop) == want_[first] + 3) ++first;
  const Ending ending = first + 1 == kSteps ? Ending::kAllSteps : Ending::kStopToken;
  expect_steps(device_->run(spans_, kSteps, {-5, stop}).ring, first + 1, ending);
}

TEST_P(DecodeSampling, EndsAtTheStopWordAndGoesOnInAnotherLaunch) {
  device_->stop_word() = 1;
  expect_steps(device_->run(spans_, kSteps).ring, 1, Ending::kStopWord);
  device_->stop_word() = 0;
  std::vector<DecodeSpan> rest = spans_;
  for (std::uint32_t row = 0; row < 3; ++row) {
    rest[row].rows[0].token = want_[0][row];
    ++rest[row].rows[0].draw;
  }
  const TokenRing ring = device_->run(rest, kSteps - 1).ring;
  ASSERT_EQ(ring.n_steps, kSteps - 1);
  for (std::uint32_t step = 1; step < kSteps; ++step)
    for (std::uint32_t row = 0; row < 3; ++row) EXPECT_EQ(ring.tokens[step - 1][row], want_[step][row]);
}

TEST_P(DecodeSampling, EndsWhereTheHostMustChoose) {
  spans_[2].rows[0].choice = ChoiceKind::kHost;
  const TokenRing ring = device_->run(spans_, kSteps).ring;
  ASSERT_EQ(ring.n_steps, 1U);
  EXPECT_EQ(ring.ending, Ending::kHostChoice);
  EXPECT_EQ(ring.tokens[0][0], want_[0][0]);
  EXPECT_EQ(ring.tokens[0][1], want_[0][1]);
  EXPECT_EQ(ring.tokens[0][2], -1);
}

TEST_P(DecodeSampling, EndsWhereNoTokenIsLeft) {
  for (std::size_t token = 0; token < config_.vocab_size; ++token) {
    if (token == 0) spans_[1].rows[0].edits.clear();
    spans_[1].rows[0].edits.push_back(
        {static_cast<std::int32_t>(token), 1.0F, -std::numeric_limits<float>::infinity()});
  }
  const TokenRing ring = device_->run(spans_, kSteps).ring;
  ASSERT_EQ(ring.n_steps, 1U);
  EXPECT_EQ(ring.ending, Ending::kNoToken);
  EXPECT_EQ(ring.tokens[0][0], want_[0][0]);
  EXPECT_EQ(ring.tokens[0][1], -1);
}

// An op that waits for itself: all blocks give up, and one says who waited for what.
TEST_P(Decode, GivesUpAWaitThatTakesTooLong) {
  const model::ModelConfig config = random_config(random_, 2);
  model::RandomModel model(config, random_());
  model.fill(1);
  const auto op = static_cast<std::uint32_t>(pick(random_, 1, 10));
  DecodeDevice device(
      model.model(), {.architecture = GetParam(), .blocks = 3, .wait_ns = 1000, .endless_wait = op}, random_);
  const TokenRing ring = device.run({{0, {{.token = 1}}}}).ring;
  const AbortRecord& record = device.abort_record();
  EXPECT_EQ(ring.n_steps, 0U);
  ASSERT_EQ(record.is_set, 1U);
  EXPECT_LT(record.block, 3U);
  EXPECT_EQ(record.step, 0U);
  if (record.task != op) return;  // so short a time may be up elsewhere, too
  EXPECT_EQ(record.counter, op);
  EXPECT_EQ(record.seen, 0U);
  EXPECT_EQ(record.target, 3U);
}

std::size_t occurrences(std::string_view text, std::string_view what) {
  std::size_t n = 0;
  for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

// What the host reads or writes meanwhile, which the machine doesn't see: tokens and the record of who gave up are released to
// it, and its word to stop is read as its own. Counters, which blocks alone share, go up by red.
TEST_P(Decode, SharesWithTheHostAtSystemScope) {
  std::string text = sluice::test::kernels(GetParam());
  const std::size_t begin = text.find(".entry sluice_decode");
  ASSERT_NE(begin, std::string::npos);
  text = text.substr(begin, text.find(".entry", begin + 1) - begin);
  EXPECT_GE(occurrences(text, "st.release.sys.global"), 2U);
  EXPECT_EQ(occurrences(text, "st.release"), occurrences(text, "st.release.sys.global"));
  EXPECT_GE(occurrences(text, "ld.relaxed.sys.global"), 1U);
}

// Sizes that are multiples of what a lane, a panel and two blocks take, as those of real models are; but with β and decay the second block
// begins its outputs inside a sector.
TEST_P(Decode, ReadsEachWeightOnceSideBySideAndWithoutBankConflicts) {
  model::ModelConfig config = random_config(random_, 2);
  config.vocab_size = 512;
  config.hidden_size = 192;
  config.intermediate_size = 256;
  config.n_kv_heads = 2;
  config.n_heads = 4;
  config.head_dim = 32;
  config.rotary_dim = 16;
  config.n_key_heads = config.n_value_heads = 4;
  config.key_head_dim = config.value_head_dim = 32;
  config.tie_word_embeddings = true;
  model::RandomModel model(config, random_());
  model.fill(1);
  DecodeDevice device(model.model(), {.architecture = GetParam(), .blocks = 2, .ring_slots = 2}, random_);
  device.run({{0, {{.token = 1}}}});
  const Json counters = sluice::test::counters_of(
      [&] { device.run({{0, {{.token = 2, .choice = ChoiceKind::kGreedy, .wants_logits = false}}}}); });

  std::size_t matrices = 0;
  const DeviceWeights weights(model.model());
  const auto bytes_of = [](const DeviceWeights::PackedMatrix& m) {
    return std::size_t{m.n_rows} * m.chunks * kChunk * 2;
  };
  for (std::size_t layer = 0; layer < 2; ++layer) {
    const DeviceWeights::LayerMatrices& m = weights.matrices(layer);
    matrices += bytes_of(m.mix_in) + bytes_of(m.mix_out) + bytes_of(m.mlp_in) + bytes_of(m.mlp_out);
  }
  matrices += bytes_of(weights.head());
  std::size_t read =
      0;  // from the weights' allocation, of which the matrices are the most: the largest traffic
  for (const Json& traffic : counters.at("traffic"))
    read = std::max(read, traffic.at("read").get<std::size_t>());
  // Norms, taps and the token's embedding beside them, by each block.
  EXPECT_GE(read, matrices);
  EXPECT_LE(static_cast<double>(read), 1.05 * static_cast<double>(matrices));
  const auto count = [&](const char* name) { return counters.at(name).get<double>(); };
  EXPECT_LE(count("global_sectors"), 1.01 * count("global_sectors_ideal"));
  EXPECT_EQ(count("shared_wavefronts"), count("shared_wavefronts_ideal"));
}

// Sizes for which the kernels have places of a fixed size.
TEST(DecodePlan, RefusesWhatTheKernelsDoNotTake) {
  const std::pair<std::size_t model::ModelConfig::*, std::string> limits[] = {
      {&model::ModelConfig::head_dim, "head_dim is 257"},
      {&model::ModelConfig::key_head_dim, "linear_key_head_dim is 129"},
      {&model::ModelConfig::value_head_dim, "linear_value_head_dim is 129"},
      {&model::ModelConfig::conv_kernel, "linear_conv_kernel_dim is 5"}};
  Random random{sluice::test::seed_of_test()};
  for (const auto& [field, message] : limits) {
    model::ModelConfig config = random_config(random, 2);
    config.*field = std::stoul(message.substr(message.rfind(' ')));
    try {
      model_shape(config);
      ADD_FAILURE() << message;
    } catch (const Error& error) {
      EXPECT_NE(std::string_view(error.what()).find(message), std::string_view::npos) << error.what();
    }
    --(config.*field);
    EXPECT_NO_THROW(model_shape(config));
  }
}

}  // namespace
}  // namespace sluice::cuda::test
