// Every logit lies between its bounds: what each table of kernels makes of a row, on its own bits, whatever the weights and
// activations; and the bounds are as tight as the maths says.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/aligned_allocator.h"
#include "base/bf16.h"
#include "cpu/panels.h"
#include "cpu/screen.h"
#include "tests/cpu/devices.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using test::pick;
using test::Random;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

using Bytes = std::vector<std::byte, AlignedAllocator<std::byte>>;

std::vector<float> gaussian(Random& random, std::size_t n, float size) {
  std::normal_distribution<float> normal(0, size);
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

// Sixteen rows, packed as the full head and as its narrower copy.
struct Panel {
  bool is_bf16 = false;
  std::size_t depth = 0;  // even
  Bytes full, screen;

  Panel(const std::vector<std::vector<float>>& rows, bool bf16) : is_bf16(bf16) {
    const std::size_t cols = rows.front().size();
    depth = (cols + 1) / 2 * 2;
    std::vector<float> floats;
    std::vector<std::uint16_t> halves;
    for (const std::vector<float>& row : rows) {
      for (const float weight : row) {
        floats.push_back(weight);
        halves.push_back(float_to_bf16(weight));
      }
    }
    model::Matrix matrix;
    matrix.dtype = bf16 ? model::DType::kBF16 : model::DType::kF32;
    matrix.rows = rows.size();
    matrix.cols = cols;
    matrix.data = bf16 ? std::as_bytes(std::span<const std::uint16_t>(halves))
                       : std::as_bytes(std::span<const float>(floats));
    std::array<SourceRow, kLanes> sources{};
    for (std::size_t lane = 0; lane < rows.size(); ++lane) sources[lane] = {&matrix, lane};
    full.resize(kLanes * depth * (bf16 ? 2 : 4));
    screen.resize(program::screen_panel_bytes(cols));
    PanelMaker maker;
    maker.make(sources, depth, bf16, full.data());
    maker.make_screen(sources, screen_depth(cols), screen.data());
  }
};

struct Logits {
  std::array<float, kLanes> lower{}, upper{}, decode{}, prefill{};
};

Logits logits_of(const Panel& panel, const Kernels& kernels, std::vector<float> x) {
  const std::size_t cols = x.size();
  x.resize(panel.depth, 0.0F);
  Logits logits;
  if (panel.is_bf16) {
    const bool is_rounded = kernels.activations == ActivationType::kBF16;
    std::vector<std::uint16_t> rounded(panel.depth);
    kernels.to_bf16(x.data(), panel.depth, rounded.data());
    const auto* const weights = reinterpret_cast<const std::uint16_t*>(panel.full.data());
    const void* const operand = is_rounded ? static_cast<const void*>(rounded.data()) : x.data();
    kernels.matmul_bf16(weights, panel.depth, 1, operand, panel.depth, 1, logits.decode.data(), kLanes, {});
    kernels.matmul_bf16_long(weights, panel.depth, 1, operand, panel.depth, 1, logits.prefill.data(), kLanes,
                             {});
    if (is_rounded) std::transform(rounded.begin(), rounded.end(), x.begin(), bf16_to_float);
  } else {
    kernels.matmul_f32(reinterpret_cast<const float*>(panel.full.data()), panel.depth, 1, x.data(),
                       panel.depth, 1, logits.decode.data(), kLanes, {});
    logits.prefill = logits.decode;
  }
  ScreenOperand operand;
  operand.set(std::span(x).first(cols));
  const ScreenRow row = operand.row();
  kernels.screen(reinterpret_cast<const std::uint8_t*>(panel.screen.data()), screen_depth(cols), 1, &row, 1,
                 logits.lower.data(), logits.upper.data(), kLanes, {});
  return logits;
}

// A pattern of signs that rows and activations share: where errors of all terms add up, as Cauchy and Schwarz allow.
float sign_of(std::size_t k) {
  return (k * 2654435761U >> 7U & 1U) != 0 ? 1.0F : -1.0F;
}

constexpr const char* kRows[] = {"gaussian",
                                 "gaussian with outlier columns",
                                 "low rank with noise",
                                 "huge",
                                 "tiny",
                                 "zero",
                                 "constant",
                                 "all residuals against x",
                                 "subnormal",
                                 "overflows",
                                 "near to its neighbour",
                                 "whole numbers",
                                 "whole numbers, tiny"};

std::vector<float> make_row(Random& random, std::size_t kind, std::size_t n,
                            const std::vector<float>& basis) {
  std::vector<float> row = gaussian(random, n, 1.0F);
  for (std::size_t k = 0; k < n; ++k) {
    float& w = row[k];
    switch (kind) {
      case 1:
        if (k % 61 == 7) w *= 80;
        break;
      case 2:
        w = 2 * basis[k] + 0.05F * w;
        break;
      case 3:
        w *= 1e30F;
        break;
      case 4:
        w *= 1e-30F;
        break;
      case 5:
        w = 0;
        break;
      case 6:
        w = row[0];
        break;
      case 7:  // c = ±64 for scale 1, but for the one that sets the scale
        w = k == 0 ? 127.0F : 32 * sign_of(k) + (k % 2 == 0 ? 0.5F : 0.46875F) * sign_of(k);
        break;
      case 8:
        w *= 1e-40F;
        break;
      case 9:
        w *= 2e37F;
        break;
      case 10:
        w = basis[k] * (k == n / 2 ? 1.01F : 1.0F);
        break;
      case 11:
        w = std::round(w * 30);
        break;
      case 12:  // as they are in 8 bits; their sums with the activations of this name are subnormal, which some tables flush
        w = 0x1p-118F * (k == 0 ? 127.0F : k == 1 ? 0.0F : std::clamp(std::round(w * 30), -127.0F, 127.0F));
        break;
      default:
        break;
    }
  }
  return row;
}

constexpr const char* kActivations[] = {
    "gaussian",     "signs",         "constant",           "one outlier", "huge",
    "tiny",         "zero",          "between levels",     "subnormal",   "infinite",
    "not a number", "whole numbers", "whole numbers, tiny"};

std::vector<float> make_activations(Random& random, std::size_t kind, std::size_t n) {
  std::vector<float> x = gaussian(random, n, 1.0F);
  const double levels =
      std::min(32639.0, std::floor(2147483647.0 / (127.0 * static_cast<double>((n + 3) / 4 * 4))));
  for (std::size_t k = 0; k < n; ++k) {
    switch (kind) {
      case 1:
        x[k] = sign_of(k);
        break;
      case 2:
        x[k] = x[0];
        break;
      case 3:
        if (k == n / 3) x[k] = 3000;
        break;
      case 4:
        x[k] *= 1e8F;
        break;
      case 5:
        x[k] *= 1e-20F;
        break;
      case 6:
        x[k] = 0;
        break;
      case 7:
        x[k] = k == 0 ? static_cast<float>(levels) : 100.5F * sign_of(k);
        break;
      case 8:
        x[k] *= 1e-39F;
        break;
      case 9:
        if (k == n / 2) x[k] = -kInfinity;
        break;
      case 10:
        if (k == n / 2) x[k] = std::numeric_limits<float>::quiet_NaN();
        break;
      case 11:
        x[k] = std::round(x[k] * 40);
        break;
      case 12:
        x[k] = 0x1p-22F * (k == 0 ? 0.0F : k == 1 ? static_cast<float>(levels) : std::round(x[k] * 40));
        break;
      default:
        break;
    }
  }
  return x;
}

TEST(Screen, EveryLogitIsWithinItsBounds) {
  Random random(test::seed_of_test());
  std::size_t n_known = 0;
  for (int round = 0; round < (kIsSanitized ? 2 : 12); ++round) {
    const std::size_t depths[] = {pick(random, 1, 9), pick(random, 10, 300), 1024};
    for (const std::size_t depth : depths) {
      const std::vector<float> basis = gaussian(random, depth, 1.0F);
      std::vector<std::vector<float>> rows;
      for (std::size_t lane = 0; lane < std::size(kRows); ++lane)
        rows.push_back(make_row(random, lane, depth, basis));
      for (const bool is_bf16 : {true, false}) {
        const Panel panel(rows, is_bf16);
        for (std::size_t kind = 0; kind < std::size(kActivations); ++kind) {
          const std::vector<float> x = make_activations(random, kind, depth);
          for (const Kernels* kernels : all_tables()) {
            const Logits logits = logits_of(panel, *kernels, x);
            for (std::size_t lane = 0; lane < rows.size(); ++lane) {
              const bool is_known = logits.upper[lane] < kInfinity;
              n_known += is_known ? 1 : 0;
              for (const float logit : {logits.decode[lane], logits.prefill[lane]})
                ASSERT_TRUE(is_known ? logits.lower[lane] <= logit && logit <= logits.upper[lane]
                                     : logits.lower[lane] == -kInfinity && logits.upper[lane] == kInfinity)
                    << kernels->name << (is_bf16 ? ", bf16, K " : ", fp32, K ") << depth << ", row "
                    << kRows[lane] << ", activations " << kActivations[kind] << ": " << logits.lower[lane]
                    << " to " << logits.upper[lane] << ", logit " << logit;
            }
          }
        }
      }
    }
  }
  EXPECT_GT(n_known, 1000U);
}

// Sums whose roundings all go the same way: products of the same two numbers, as many as make the sum's last bit larger
// than the product's.
TEST(Screen, RoundingOfTheSumsIsWithinTheBounds) {
  Random random(test::seed_of_test());
  constexpr std::size_t kDepth = 1024;
  for (int round = 0; round < (kIsSanitized ? 4 : 40); ++round) {
    std::vector<std::vector<float>> rows;
    for (std::size_t lane = 0; lane < kLanes; ++lane)
      rows.emplace_back(kDepth, bf16_to_float(static_cast<std::uint16_t>(0x3F80 + pick(random, 0, 127))));
    const std::vector<float> x(kDepth,
                               bf16_to_float(static_cast<std::uint16_t>(0x3F80 + pick(random, 0, 127))));
    const Panel panel(rows, true);
    for (const Kernels* kernels : all_tables()) {
      if (is_emulated(*kernels) && round > 2) continue;
      const Logits logits = logits_of(panel, *kernels, x);
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        for (const float logit : {logits.decode[lane], logits.prefill[lane]}) {
          ASSERT_LE(logits.lower[lane], logit) << kernels->name << ' ' << rows[lane][0] << ' ' << x[0];
          ASSERT_GE(logits.upper[lane], logit) << kernels->name << ' ' << rows[lane][0] << ' ' << x[0];
        }
      }
    }
  }
}

// Gaussian rows of 1,024: the largest of a row is 3.3 (2.8 to 4.6) standard deviations, a level that / 127, its error that
// / √12 on average; so the bound is √1024 · 3.3 / 127 / √12 = 0.24 (0.2 to 0.34) standard deviations of the logit.
TEST(Screen, BoundsAreAsTightAsEightBitsAllow) {
  Random random(test::seed_of_test());
  constexpr std::size_t kDepth = 1024;
  std::vector<std::vector<float>> rows;
  for (std::size_t lane = 0; lane < kLanes; ++lane) rows.push_back(gaussian(random, kDepth, 0.02F));
  const std::vector<float> x = gaussian(random, kDepth, 3.0F);
  const double deviation = 0.02 * 3.0 * std::sqrt(static_cast<double>(kDepth));
  const Logits logits = logits_of(Panel(rows, true), *all_tables().front(), x);
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const double bound = static_cast<double>(logits.upper[lane] - logits.lower[lane]) / 2 / deviation;
    EXPECT_GT(bound, 0.15);
    EXPECT_LT(bound, 0.40);
  }
}

// So many roundings that γ is no bound. Models may be that wide (model/config_checks.h).
TEST(Screen, NothingIsKnownOfTheWidestRows) {
  constexpr std::size_t kWidest = std::size_t{1} << 24U;
  ScreenOperand operand;
  operand.set(std::vector<float>(kWidest, 1.0F));
  EXPECT_TRUE(std::isnan(operand.row().reach));
  operand.set(std::vector<float>(kWidest - 13, 1.0F));
  EXPECT_GT(operand.row().reach, 4095.0F);
  EXPECT_GT(operand.row().blur, operand.row().reach);
}

TEST(Screen, AllTablesGiveTheSameBits) {
  Random random(test::seed_of_test());
  for (int round = 0; round < (kIsSanitized ? 5 : 30); ++round) {
    const std::size_t depth = screen_depth(pick(random, 1, 200));
    const std::size_t n_panels = pick(random, 1, 11);
    const std::size_t n_rows = pick(random, 1, 16);
    Bytes panels;
    for (std::size_t panel = 0; panel < n_panels; ++panel) {
      std::vector<std::vector<float>> rows;
      for (std::size_t lane = 0; lane < kLanes; ++lane)
        rows.push_back(make_row(random, pick(random, 0, 9), depth, gaussian(random, depth, 1)));
      const Panel made(rows, false);
      panels.insert(panels.end(), made.screen.begin(), made.screen.end());
    }
    std::vector<ScreenOperand> operands(n_rows);
    std::vector<ScreenRow> rows;
    for (ScreenOperand& operand : operands) {
      operand.set(make_activations(random, pick(random, 0, std::size(kActivations) - 1), depth));
      rows.push_back(operand.row());
    }
    const std::size_t width = n_panels * kLanes;
    std::vector<float> want;
    for (const Kernels* kernels : all_tables()) {
      std::vector<float> got(2 * n_rows * width, -77.0F);
      kernels->screen(reinterpret_cast<const std::uint8_t*>(panels.data()), depth, n_panels, rows.data(),
                      n_rows, got.data(), got.data() + n_rows * width, width, {});
      if (want.empty()) want = got;
      ASSERT_EQ(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)), 0)
          << kernels->name << ": " << n_rows << " rows, " << n_panels << " panels, K " << depth;
    }
  }
}

// As many rows as Qwen3.5's head has, of its width, one panel after the other.
TEST(Screen, AFewOfAllRowsOfALargeHeadReachTheAnswer) {
  Random random(test::seed_of_test());
  constexpr std::size_t kDepth = 1024;
  const std::size_t n_panels = kIsSanitized ? 100 : 248320 / kLanes;
  const Kernels& kernels = *all_tables().front();
  const std::vector<float> x = gaussian(random, kDepth, 1.0F);
  std::vector<float> upper;
  float threshold = -kInfinity;
  float best = -kInfinity;
  std::size_t best_at = 0;
  std::uint64_t state = random() | 1U;
  std::vector<std::vector<float>> rows(kLanes, std::vector<float>(kDepth));
  for (std::size_t panel = 0; panel < n_panels; ++panel) {
    for (std::vector<float>& row : rows) {
      for (std::size_t k = 0; k < kDepth; ++k) {  // the sum of four bytes: nearly Gaussian
        state ^= state << 13U;
        state ^= state >> 7U;
        state ^= state << 17U;
        const std::uint64_t sum =
            (state & 0xFFU) + (state >> 8U & 0xFFU) + (state >> 16U & 0xFFU) + (state >> 24U & 0xFFU);
        row[k] = static_cast<float>(static_cast<std::int64_t>(sum) - 510) * 1e-4F;
      }
    }
    const Logits logits = logits_of(Panel(rows, true), kernels, x);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      ASSERT_LE(logits.lower[lane], logits.decode[lane]);
      ASSERT_GE(logits.upper[lane], logits.decode[lane]);
      upper.push_back(logits.upper[lane]);
      threshold = std::max(threshold, logits.lower[lane]);
      if (logits.decode[lane] > best) {
        best = logits.decode[lane];
        best_at = panel * kLanes + lane;
      }
    }
  }
  const auto reach = std::ranges::count_if(upper, [&](float bound) { return bound >= threshold; });
  EXPECT_GE(upper[best_at], threshold);
  EXPECT_LE(reach, 200);  // 9 on average, if the bound is 0.25 standard deviations
}

}  // namespace
}  // namespace sluice::cpu
