// Programs are few, and cost little beside the steps that use them.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cpu/backend.h"
#include "model/random_model.h"
#include "program/builder.h"
#include "tests/oracle/random_model.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using program::Step;
using test::pick;
using test::Random;

constexpr std::size_t kContext = 2200;

model::ModelConfig tiny_config() {
  model::ModelConfig config = test::small_config();
  config.vocab_size = 16;
  config.hidden_size = 16;
  config.intermediate_size = 16;
  config.layers = {model::LayerKind::kDeltaNet, model::LayerKind::kAttention};
  config.n_heads = 1;
  config.n_kv_heads = 1;
  config.head_dim = 8;
  config.rotary_dim = 4;
  config.n_key_heads = 1;
  config.n_value_heads = 1;
  config.key_head_dim = 8;
  config.value_head_dim = 8;
  config.max_positions = kContext;
  return config;
}

class CpuPrograms : public testing::Test {
 protected:
  CpuPrograms() { make(false); }

  void make(bool verify) {
    CpuOptions options;
    options.n_workers = 1;
    options.verify_programs = verify;
    backend_ = make_backend(model_.model(), kSlots, kContext, options);
    lengths_.assign(kSlots, 0);
  }

  // One step: `rows[slot]` of each slot, an output for the last of each.
  void step(const std::vector<std::size_t>& rows) {
    Step step;
    for (std::size_t slot = 0; slot < rows.size(); ++slot) {
      if (rows[slot] == 0) continue;
      step.spans.push_back({slot, lengths_[slot], step.tokens.size(), rows[slot]});
      step.tokens.resize(step.tokens.size() + rows[slot], 1);
      step.outputs.push_back({step.tokens.size() - 1, true, std::nullopt});
      lengths_[slot] += rows[slot];
    }
    backend_->run(step);
  }

  std::size_t built() const { return backend_->statistics().programs_built; }

  static constexpr std::size_t kSlots = 8;
  Random random_{test::seed_of_test()};
  test::RandomModel model_{tiny_config(), random_};
  std::unique_ptr<Backend> backend_;
  std::vector<std::size_t> lengths_;
};

TEST_F(CpuPrograms, OneForEachPowerOfTwoOfTheContext) {
  for (std::size_t length = 1; length <= 1000; ++length) {
    step({1});
    std::size_t powers = 1;
    while (std::size_t{1} << (powers - 1) < length) ++powers;  // 1, 2, 4, ... up to what holds `length`
    ASSERT_LE(built(), powers) << length;
  }
  EXPECT_EQ(built(), 2U);  // up to 512, up to 1024
}

// Each sequence that passes 512, 1024, ... changes the shape, whatever the others do. In between nothing is built.
TEST_F(CpuPrograms, OneForEachPowerOfTwoOfEachSequence) {
  for (const std::size_t n : {std::size_t{3}, kSlots}) {
    make(false);
    std::vector<std::size_t> rows(n);
    for (std::size_t& length : rows) length = pick(random_, 9, 1000);
    step(rows);
    const std::size_t before = built();
    std::size_t crossings = 0;
    std::fill(rows.begin(), rows.end(), 1);
    for (int i = 0; i < 1000; ++i) {
      step(rows);
      for (const std::size_t length : lengths_) crossings += length == 513 || length == 1025 ? 1 : 0;
    }
    EXPECT_LE(built() - before, 1 + crossings);
    EXPECT_LE(crossings, 2 * n);
  }
}

// Batches of different sizes in turn, and a prompt now and then: what came before is still there.
TEST_F(CpuPrograms, OfShapesThatTakeTurnsAreKept) {
  for (int round = 0; round < 20; ++round) {
    for (std::size_t n = 1; n <= kSlots; ++n) step(std::vector<std::size_t>(n, 1));
    step({1, 1, 1, 20});
  }
  EXPECT_EQ(built(), kSlots + 1);
}

TEST_F(CpuPrograms, AreVerifiedOnDemand) {
  step({5});
  EXPECT_EQ(backend_->statistics().programs_verified, 0U);
  make(true);
  step({5});
  step({5});
  step({1});
  EXPECT_EQ(backend_->statistics().programs_verified, 2U);
}

double cpu_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <typename Work>
double least_cpu_seconds(int times, const Work& work) {
  double least = 1e9;
  for (int i = 0; i < times; ++i) {
    const double start = cpu_seconds();
    work();
    least = std::min(least, cpu_seconds() - start);
  }
  return least;
}

program::StepShape decode_shape(std::uint32_t rows) {
  program::StepShape shape;
  for (std::uint32_t row = 0; row < rows; ++row) {
    shape.spans.push_back({1, 1});
    shape.output_rows.push_back(row);
  }
  return shape;
}

// Building against the steps of one Program, both in CPU time and side by side; the steps are those from an empty context
// to the first power of two that asks for another Program.
constexpr double kShare = 0.01;

TEST(CpuProgramCost, IsBelowAHundredthOfTheBundledModelsSteps) {
  if (test::kIsSanitized) return;  // times of sanitized code say nothing
  const model::Model model = model::load_model(std::string(SLUICE_SOURCE_DIR) + "/models/demo");
  CpuOptions options;
  options.n_workers = 1;
  const auto backend = make_backend(model, 1, program::kKvSplit, options);
  const double building = least_cpu_seconds(
      5, [&] { program::build(model.config, decode_shape(1), tiling_for(options.n_workers)); });
  const double steps = least_cpu_seconds(3, [&] {
    backend->reset(0);
    for (std::size_t position = 0; position < program::kKvSplit; ++position)
      backend->run({{1}, {{0, position, 0, 1}}, {{0, true, std::nullopt}}});
  });
  std::printf("building %.3f ms, %u steps %.1f ms: %.2f %%\n", 1e3 * building, program::kKvSplit, 1e3 * steps,
              100 * building / steps);
  EXPECT_EQ(backend->statistics().programs_built, 1U);
  EXPECT_LT(building, kShare * steps);
}

// A step of a large model reads its weights, at least: here as fast as a core reads 32 MB.
TEST(CpuProgramCost, IsBelowAHundredthOfALargeModelsSteps) {
  if (test::kIsSanitized) return;  // times of sanitized code say nothing
  const model::ModelConfig config = *model::known_shape("qwen3.5-0.8b");
  const double weight_bytes = static_cast<double>(model::RandomModel(config, 0).bytes());
  std::vector<std::uint64_t> words(std::size_t{4} << 20U, 1);
  std::uint64_t sum = 0;
  const double reading =
      least_cpu_seconds(5, [&] { sum += std::accumulate(words.begin(), words.end(), std::uint64_t{0}); });
  EXPECT_GT(sum, 0U);
  const double step = reading * weight_bytes / static_cast<double>(words.size() * sizeof words[0]);
  for (const std::uint32_t rows : {1U, 8U}) {
    const double building =
        least_cpu_seconds(3, [&] { program::build(config, decode_shape(rows), tiling_for(2)); });
    std::printf("%u rows: building %.2f ms, a step at least %.1f ms\n", rows, 1e3 * building, 1e3 * step);
    EXPECT_LT(building, kShare * program::kKvSplit * step) << rows;
  }
}

}  // namespace
}  // namespace sluice::cpu
