// A context of 32,768 positions up to its very end: rows all along and the last ones, through attention over all that came
// before them, against the oracle.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "cpu/backend.h"
#include "tests/cpu/devices.h"
#include "tests/cpu/rounded_oracle.h"
#include "tests/oracle/random_model.h"
#include "tests/support/errors.h"
#include "tests/support/golden.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using model::LayerKind;
using test::Random;

constexpr std::size_t kContext = kIsSanitized ? 2048 : 32768;
constexpr std::size_t kPiece = 512;
constexpr std::size_t kLast = 40;

// The positions of the last steps: a long span, a short one, decode.
constexpr std::size_t kSpan = program::kMaxShortSpan;
constexpr std::size_t kDecoded = 12;

model::ModelConfig long_config() {
  model::ModelConfig config;
  config.vocab_size = 50;
  config.hidden_size = 24;
  config.intermediate_size = 30;
  config.layers = {LayerKind::kDeltaNet, LayerKind::kAttention};
  config.n_heads = 2;
  config.n_kv_heads = 1;
  config.head_dim = 16;
  config.rotary_dim = 14;
  config.rope_theta = 1e7;
  config.n_key_heads = 1;
  config.n_value_heads = 1;
  config.key_head_dim = 12;
  config.value_head_dim = 16;
  config.conv_kernel = 4;
  config.rms_norm_eps = 1e-6;
  config.max_positions = kContext;
  return config;
}

// Scores of deviation 5 or so: a softmax over thousands of positions that still looks at a few.
model::Model sharpened(model::Model model) {
  for (float& weight : std::get<model::AttentionWeights>(model.weights.layers.back().mixer).q_norm)
    weight *= 5.0F;
  return model;
}

std::vector<std::size_t> pieces_of_a_context() {
  std::vector<std::size_t> pieces;
  for (std::size_t left = kContext - kSpan - kDecoded; left > 0; left -= pieces.back())
    pieces.push_back(std::min(left, kPiece));
  pieces.push_back(kSpan);
  pieces.insert(pieces.end(), kDecoded, 1);
  return pieces;
}

// Rows that are looked at: the last of every piece, and the last of all.
bool has_output(std::size_t position) {
  return position % kPiece == kPiece - 1 || position >= kContext - kLast;
}

// Logits of those rows.
std::vector<float> fill(program::Backend& backend, const std::vector<std::int32_t>& tokens) {
  std::vector<float> logits;
  std::size_t position = 0;
  for (const std::size_t n : pieces_of_a_context()) {
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(position);
    program::Step step{{first, first + static_cast<std::ptrdiff_t>(n)}, {{0, position, 0, n}}, {}};
    for (std::size_t row = 0; row < n; ++row)
      if (has_output(position + row)) step.outputs.push_back({row, true, std::nullopt});
    const std::vector<float> part = backend.run(step).logits;
    logits.insert(logits.end(), part.begin(), part.end());
    position += n;
  }
  return logits;
}

class CpuContext : public testing::Test {
 protected:
  std::vector<float> expected() const {
    test::RoundedOracle oracle(model_, {.activations = false, .keys_and_values = true});
    std::vector<float> want;
    for (std::size_t i = 0; i < kContext; ++i) {
      if (!has_output(i)) {
        oracle.skip(tokens_[i]);
        continue;
      }
      const std::vector<double> logits = oracle.feed(tokens_[i]);
      want.insert(want.end(), logits.begin(), logits.end());
    }
    return want;
  }

  Random random_{test::seed_of_test()};
  test::RandomModel original_{long_config(), random_};
  model::Model model_ = sharpened(original_.model());
  std::size_t vocab_ = model_.config.vocab_size;
  std::vector<std::int32_t> tokens_ = random_tokens(random_, kContext, vocab_);
};

// Limits as layers_test.cpp derives them: rows of long spans may have queries, weights of the softmax and the operands of the
// delta rule in bf16, which shows in the state that they leave to those behind them.
TEST_F(CpuContext, RowsUpToTheLastAgreeWithTheOracle) {
  const std::vector<float> want = expected();
  for (const Kernels* kernels : all_tables()) {
    TableDevice device(model_, *kernels, 2, 1, kContext);
    const std::vector<float> got = fill(device, tokens_);
    ASSERT_EQ(got.size(), want.size());
    const std::size_t n_long = got.size() - (kSpan + kDecoded) * vocab_;
    const auto error = [&](std::size_t begin, std::size_t end) {
      return test::relative_rms<float>(std::span<const float>(got).subspan(begin, end - begin),
                                       std::span<const float>(want).subspan(begin, end - begin));
    };
    const double limit = kernels->activations == ActivationType::kBF16 ? 1e-2 + kDeltaRoundings : 1e-3;
    EXPECT_LT(error(0, n_long), limit) << kernels->name;
    EXPECT_LT(error(n_long, got.size()), limit) << kernels->name;
    RecordProperty(kernels->name,
                   fmt::format("{:.1e} prefill, {:.1e} decode", error(0, n_long), error(n_long, got.size())));
  }
}

TEST_F(CpuContext, EndsWhereTheCheckpointSays) {
  const auto backend = make_backend(model_, 1, kContext, {});
  fill(*backend, tokens_);
  const program::Step one_more{{tokens_[0]}, {{0, kContext, 0, 1}}, {}};
  EXPECT_THAT(test::error_of([&] { backend->run(one_more); }), testing::HasSubstr("leaves the context"));
  backend->reset(0);
  const std::vector<float> again = feed(*backend, 0, tokens_, {1, 20, 1});
  EXPECT_EQ(feed(*make_backend(model_, 1, 22, {}), 0, tokens_, {1, 20, 1}), again) << "after a reset";
}

}  // namespace
}  // namespace sluice::cpu
