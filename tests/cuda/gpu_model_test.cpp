// The model of GPUs that aren't here: held to what others published of their kernels, from these kernels' bytes and barriers alone.
#include "cuda/gpu_model.h"

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/random_model.h"
#include "program/builder.h"
#include "program/report.h"

namespace sluice::cuda {
namespace {

const model::Model& qwen35() {
  static const model::RandomModel random(*model::known_shape("qwen3.5-0.8b"), 0);
  return random.model();
}

struct Published {
  std::string name;
  GpuConstants gpu;
  double tok_s;
  PublishedKernel kernel;

  double above() const { return 1e6 / tok_s - kernel.bytes / gpu.bytes_per_us(); }
  double ratio() const { return time_above_stream(gpu, kernel) / above(); }
};

// BF16 weights of Qwen3-0.6B without its embedding's other rows: 28 layers, hidden 1024, 16 query and 8 KV heads of 128, MLP 3072,
// a tied head of 151936 rows.
double bytes_of_qwen3() {
  const double attention = 1024.0 * (2048 + 2 * 1024) + 2048.0 * 1024;
  const double mlp = 3.0 * 1024 * 3072;
  return 2 * (28 * (attention + mlp) + 151936.0 * 1024);
}

// A token of Qwen3.5-0.8B at a short context, state read and written.
Published luce() {
  program::StepShape shape;
  shape.spans.push_back({1, 1});
  shape.output_rows = {0};
  const std::size_t lengths[] = {64};
  const program::OpCost cost =
      program::cost_of(program::build(qwen35().config, shape, {}), qwen35().weights, lengths);
  PublishedKernel kernel;
  kernel.bytes = static_cast<double>(cost.bytes());
  kernel.barriers = 126;
  kernel.launches = 3 + 2 + 1;  // memsets, kernels, a copy back
  // The recurrence of 18 layers runs on 16 of 82 blocks.
  kernel.partial = {18, static_cast<double>(cost.state_bytes) / 18, 16.0 / 82};
  return {"Luce", gpu_constants_of("rtx3090"), 433, kernel};
}

// Its text says about 225 grid barriers; the head is two kernels of its own.
Published mega_qwen() {
  return {"MegaQwen", gpu_constants_of("rtx3090"), 531, {bytes_of_qwen3(), 225, 3, {}}};
}

// Six phases a layer end with a barrier or a flag; the head is two kernels of its own.
Published alpin_dale() {
  return {"AlpinDale", gpu_constants_of("rtx5090"), 1000, {bytes_of_qwen3(), 6 * 28, 3, {}}};
}

TEST(GpuModel, OneSetOfConstantsExplainsThreePublishedKernels) {
  for (const Published& kernel : {luce(), mega_qwen(), alpin_dale()}) {
    EXPECT_NEAR(kernel.ratio(), 1, 0.25) << kernel.name << ": " << kernel.above() << " us published, "
                                         << time_above_stream(kernel.gpu, kernel.kernel) << " modelled";
  }
  // It doesn't hang on which of the measured bandwidths is taken.
  for (const double gb_s : {854.0, 894.0}) {
    for (Published kernel : {luce(), mega_qwen()}) {
      kernel.gpu.read_bandwidth.value = gb_s;
      EXPECT_NEAR(kernel.ratio(), 1, 0.25) << kernel.name << " at " << gb_s;
    }
  }
}

// Neither half nor twice the dependency would do, nor leaving out that few blocks work.
TEST(GpuModel, OtherConstantsDoNot) {
  for (const double factor : {0.5, 2.0}) {
    for (Published kernel : {luce(), mega_qwen(), alpin_dale()}) {
      kernel.kernel.barriers = static_cast<std::size_t>(static_cast<double>(kernel.kernel.barriers) * factor);
      EXPECT_GT(std::abs(kernel.ratio() - 1), 0.25) << kernel.name << " " << factor;
    }
  }
  Published kernel = luce();
  kernel.kernel.partial = {};
  EXPECT_LT(kernel.ratio(), 0.75);
}

TEST(GpuModel, TheDependencyIsWithinTheEstimatedRange) {
  const double us = dependency_us(gpu_constants_of("rtx3090"));
  EXPECT_GE(us, 1.6);
  EXPECT_LE(us, 2.4);
  EXPECT_NEAR(dependency_us(gpu_constants_of("rtx5090")), us * 1695 / 2407, 1e-9);
}

// tools/count_instructions.py counts the kernel's again. What a GPU can issue while a byte of weights comes from its memory: four slots
// a clock and SM.
TEST(GpuModel, WeightsTakeLessThanAQuarterOfTheIssueSlots) {
  for (const GpuConstants& gpu : gpu_constants()) {
    const double slots = gpu.sms.value * 4 * gpu.clock_mhz.value * 1e6;
    const double bytes = gpu.bandwidth.value * 1e9;
    EXPECT_LT(kInstructionsPerByte.value, slots / bytes / 4) << gpu.name;
  }
}

// What is wanted of decode with the full head and of a prompt of 512 rows (docs/gpu-model.md).
TEST(GpuModel, WhatIsWantedIsReached) {
  const GpuConstants& rtx3090 = gpu_constants_of("rtx3090");
  EXPECT_GE(decode_time(rtx3090, qwen35(), 1024, false).tok_s(), 530);
  EXPECT_GE(prefill_time(rtx3090, qwen35(), 512).tok_s(), 28000);
}

// A block that has a page to attend to holds up all others, however many pages there are beside it.
TEST(GpuModel, AttentionTakesItsPages) {
  const GpuConstants& h100 = gpu_constants_of("h100");
  const auto exposed = [&](std::size_t context) {
    return decode_time(h100, qwen35(), context, false).exposed_us();
  };
  EXPECT_GT(exposed(64), 1.1 * exposed(0));
  EXPECT_NEAR(exposed(1024), exposed(64), 1e-6 * exposed(64));  // 32 units on 132 blocks
  EXPECT_GT(exposed(8192), 1.1 * exposed(1024));                // 256
}

TEST(GpuModel, AStepIsTheSumOfItsOps) {
  for (const GpuConstants& gpu : gpu_constants()) {
    for (const bool is_screened : {false, true}) {
      const StepTime step = decode_time(gpu, qwen35(), 1024, is_screened);
      double bytes = 0;
      double us = 0;
      for (const OpTime& op : step.ops) {
        EXPECT_NEAR(op.stream_us, op.bytes / gpu.bytes_per_us(), 1e-6 * op.stream_us + 1e-9) << op.op;
        EXPECT_GE(op.exposed_us, 0) << op.op;
        bytes += op.bytes;
        us += op.us();
      }
      EXPECT_NEAR(step.us(), us, 1e-6);
      EXPECT_GE(step.us(), (1 - 1e-9) * bytes / gpu.bytes_per_us());
      // No more than if memory stood still through every dependency, each followed by an access to memory.
      const double each = constants::kMemoryLatency.value * static_cast<double>(step.dependencies);
      const double slots = 4 * gpu.clock_mhz.value * constants::kIssueShare.value;
      const double n_ops = static_cast<double>(step.dependencies) + 24;  // mix_in is two
      const double issue = step.bytes() * kInstructionsPerByte.value / (gpu.sms.value * slots);
      const double others = n_ops * kInstructionsPerOp.value / slots;
      EXPECT_LT(step.us(), std::max(step.stream_us(), issue) + others + step.raw_us + 2 * each) << gpu.name;
    }
  }
}

TEST(GpuModel, BytesAreTheProgramsOwn) {
  program::StepShape shape;
  shape.spans.push_back({1, program::kv_splits_of(1, 1024)});
  shape.output_rows = {0};
  const std::size_t lengths[] = {1024};
  const program::OpCost cost =
      program::cost_of(program::build(qwen35().config, shape, {}), qwen35().weights, lengths);
  const StepTime step = decode_time(gpu_constants_of("rtx3090"), qwen35(), 1024, false);
  EXPECT_NEAR(step.bytes(), static_cast<double>(cost.bytes()), 1);
}

// What the ring is there for: with a larger one memory stands still for less; without bandwidth to wait for, never faster.
TEST(GpuModel, TheRingHidesDependencies) {
  GpuConstants gpu = gpu_constants_of("rtx3090");
  gpu.shared_bytes.value = 64 * 1024;
  const double small = decode_time(gpu, qwen35(), 64, false).exposed_us();
  gpu.shared_bytes.value = 227 * 1024;
  const StepTime large = decode_time(gpu, qwen35(), 64, false);
  EXPECT_LT(large.exposed_us(), small);
  EXPECT_LT(large.exposed_us(), large.raw_us);
  gpu.clock_mhz.value /= 2;  // slower SMs: longer dependencies, fewer instructions
  EXPECT_GT(decode_time(gpu, qwen35(), 64, false).us(), large.us());
}

TEST(GpuModel, PrefillIsNoFasterThanItsArithmeticAndBytes) {
  for (const GpuConstants& gpu : gpu_constants()) {
    const StepTime step = prefill_time(gpu, qwen35(), 512);
    // Layers' matrices alone.
    const double weights = (decode_time(gpu, qwen35(), 512, false).bytes() - 2.0 * 248320 * 1024 - 4e7) / 2;
    EXPECT_GT(step.us(), 2 * weights * 512 / (gpu.matrix_tflops.value * 1e6)) << gpu.name;
    EXPECT_GE(step.us(), step.bytes() / gpu.bytes_per_us());
    EXPECT_NEAR(step.tok_s(), 512e6 / step.us(), 1e-6);
  }
}

TEST(GpuModel, AnUnknownNameIsOneLineWithTheNames) {
  try {
    gpu_constants_of("rtx9999");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("rtx9999"));
    for (const GpuConstants& gpu : gpu_constants())
      EXPECT_THAT(error.what(), testing::HasSubstr(std::string(gpu.name)));
  }
}

}  // namespace
}  // namespace sluice::cuda
