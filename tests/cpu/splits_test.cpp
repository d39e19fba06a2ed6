// Prefill in any split against decode, on every table of kernels: logits of every row, and of tokens decoded afterwards, which
// show the state that was left.
//
// Rows of spans of up to kMaxShortSpan rows are computed one by one as in decode: the same bits. Those of longer spans have
// kernels of their own, the delta rule in chunks and attention in blocks. In fp32 these differ in the order of sums (1e-6 of the
// logits) and in what that tips over when keys and values are rounded to bf16. On bf16 instructions activations are rounded, on
// both sides of the comparison and at other places: each side is as far from fp32 as decode is, sqrt 2 of that apart, twice is
// allowed, and the roundings of the delta rule's operands, which decode doesn't have. How far decode is from fp32 depends on the
// random model by a factor of five, so it is computed.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "model/random_model.h"
#include "tests/cpu/devices.h"
#include "tests/support/golden.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using model::LayerKind;
using test::pick;
using test::Random;
using Pieces = std::vector<std::size_t>;

constexpr std::size_t kAfter = 3;  // tokens decoded behind a prompt
constexpr std::size_t kLongest = 521;

model::ModelConfig split_config() {
  model::ModelConfig config;
  config.vocab_size = 61;
  config.hidden_size = 44;
  config.intermediate_size = 70;
  config.layers = {LayerKind::kDeltaNet, LayerKind::kAttention, LayerKind::kDeltaNet};
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 20;
  config.rotary_dim = 8;
  config.rope_theta = 1e4;
  config.n_key_heads = 2;
  config.n_value_heads = 4;
  config.key_head_dim = 24;
  config.value_head_dim = 36;
  config.conv_kernel = 4;
  config.rms_norm_eps = 1e-6;
  config.max_positions = 1024;
  return config;
}

// Emulated instructions take a hundred times as long.
std::vector<std::size_t> lengths(bool is_slow) {
  if (is_slow) return {2, program::kMaxShortSpan + 1, 17, 65};
  std::vector<std::size_t> lengths;
  for (std::size_t n = 1; n <= 17; ++n) lengths.push_back(n);
  lengths.insert(lengths.end(), {63, 64, 65, 511, 513, kLongest});
  return lengths;
}

class CpuSplits : public testing::TestWithParam<const Kernels*> {
 protected:
  CpuSplits() {
    model_.fill(1);
    device_.emplace(model_.model(), kernels_, 1, 1, 1024);
    if (rounds_) exact_.emplace(model_.model(), portable(), 1, 1, 1024);
  }

  static const Kernels& portable() {
    const std::vector<const Kernels*> tables = all_tables();
    return **std::ranges::find(tables, std::string_view("portable"), &Kernels::name);
  }

  // Logits of a prompt of n tokens in `pieces`, and of the kAfter tokens behind it.
  std::vector<float> run(TableDevice& device, std::size_t n, Pieces pieces) {
    pieces.insert(pieces.end(), kAfter, 1);
    device.reset(0);
    std::vector<std::int32_t> tokens(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(n));
    tokens.insert(tokens.end(), tokens_.end() - static_cast<std::ptrdiff_t>(kAfter), tokens_.end());
    return feed(device, 0, tokens, pieces);
  }
  std::vector<float> run(std::size_t n, const Pieces& pieces) { return run(*device_, n, pieces); }

  // Of a split's distance to decode, as relative rms of all logits.
  double limit(std::size_t n, const std::vector<float>& decoded) {
    if (!rounds_) return 1e-3;
    return 2 * test::relative_rms<float>(decoded, run(*exact_, n, Pieces(n, 1))) + kDeltaRoundings;
  }

  Random random_{test::seed_of_test()};
  model::RandomModel model_{split_config(), random_()};
  std::size_t vocab_ = model_.model().config.vocab_size;
  std::vector<std::int32_t> tokens_ = random_tokens(random_, kLongest + kAfter, vocab_);
  const Kernels& kernels_ = *GetParam();
  bool is_slow_ = is_emulated(kernels_) || kIsSanitized;
  bool rounds_ = kernels_.activations == ActivationType::kBF16;
  std::optional<TableDevice> device_;
  std::optional<TableDevice> exact_;  // in fp32
};

TEST_P(CpuSplits, AgreeWithDecode) {
  double worst = 0;
  for (const std::size_t n : lengths(is_slow_)) {
    const std::vector<float> decoded = run(n, Pieces(n, 1));
    const double limit = this->limit(n, decoded);
    const Pieces short_pieces = random_pieces(random_, n, program::kMaxShortSpan);
    ASSERT_TRUE(run(n, short_pieces) == decoded) << testing::PrintToString(short_pieces);

    std::vector<Pieces> splits{{n}, random_pieces(random_, n, n), random_pieces(random_, n, 30)};
    if (n > 1) splits.push_back({n - 1, 1});
    if (n > 64) splits.push_back({64, n - 64});
    if (n > 511) splits.push_back({511, n - 511});
    for (const Pieces& pieces : splits) {
      const std::vector<float> got = run(n, pieces);
      worst = std::max(worst, test::relative_rms<float>(got, decoded) / limit);
      ASSERT_LT(test::relative_rms<float>(got, decoded), limit) << testing::PrintToString(pieces);
      const std::size_t after = n * vocab_;
      ASSERT_LT(test::relative_rms<float>(std::span<const float>(got).subspan(after),
                                          std::span<const float>(decoded).subspan(after)),
                2 * limit)
          << "behind " << testing::PrintToString(pieces);
    }
  }
  RecordProperty("worst", fmt::format("{:.2f} of the limit", worst));
}

INSTANTIATE_TEST_SUITE_P(Tables, CpuSplits, testing::ValuesIn(all_tables()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace sluice::cpu
