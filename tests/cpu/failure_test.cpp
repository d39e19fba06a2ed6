// Memory that runs out inside a task, on any worker, or a step that is interrupted: it ends with one error, nobody hangs, and what
// is reset goes on.
#include <atomic>
#include <cstdint>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/cpu/devices.h"
#include "tests/oracle/random_model.h"
#include "tests/support/errors.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

constexpr std::size_t kContext = 64;
constexpr std::int64_t kNever = 1'000'000'000;

std::atomic<std::int64_t> calls_left = kNever;

void call() {
  if (calls_left.fetch_sub(1) <= 0) throw std::bad_alloc();
}

// The portable kernels, where mixers and ops with weights throw once no call is left.
const Kernels& failing_kernels() {
  static const Kernels kernels = [] {
    Kernels table = kPortableKernels;
    table.silu_mul = [](const float* gate, const float* up, std::size_t n, float* out) {
      call();
      kPortableKernels.silu_mul(gate, up, n, out);
    };
    table.add = [](const float* y, std::size_t n, float* x) {
      call();
      kPortableKernels.add(y, n, x);
    };
    return table;
  }();
  return kernels;
}

TEST(CpuFailure, InATaskIsOneErrorAndWhatIsResetGoesOn) {
  test::Random random(test::seed_of_test());
  const test::RandomModel model(test::small_config(), random);
  const std::vector<std::int32_t> tokens = random_tokens(random, kContext, model.model().config.vocab_size);
  const std::vector<std::size_t> pieces = {20, 1, 3, 40};
  for (const std::size_t n_workers : {1U, 2U, 3U, 5U}) {
    TableDevice device(model.model(), failing_kernels(), n_workers, 1, kContext);
    calls_left = kNever;
    const std::vector<float> want = feed(device, 0, tokens, pieces);
    const std::int64_t calls = kNever - calls_left;
    for (int i = 0; i < (kIsSanitized ? 4 : 20); ++i) {
      device.reset(0);
      calls_left = static_cast<std::int64_t>(test::pick(random, 0, static_cast<std::size_t>(calls) - 1));
      EXPECT_THAT(test::error_of([&] { feed(device, 0, tokens, pieces); }),
                  testing::StartsWith("out of memory in the middle of a step: "));
      device.reset(0);
      calls_left = kNever;
      ASSERT_TRUE(feed(device, 0, tokens, pieces) == want) << n_workers << " workers";
    }
  }
}

std::atomic<bool> interrupted = false;

// The portable kernels, where the call that is the last one left sets the flag.
const Kernels& interrupting_kernels() {
  static const Kernels kernels = [] {
    Kernels table = kPortableKernels;
    table.add = [](const float* y, std::size_t n, float* x) {
      if (calls_left.fetch_sub(1) == 1) interrupted = true;
      kPortableKernels.add(y, n, x);
    };
    return table;
  }();
  return kernels;
}

TEST(CpuFailure, AnInterruptedStepEndsSoonAndWhatIsResetGoesOn) {
  constexpr std::size_t kRows = 20;  // each task of mix_out and mlp_out adds a row of its own for each
  test::Random random(test::seed_of_test());
  const test::RandomModel model(test::small_config(), random);
  program::Step step{random_tokens(random, kRows, model.model().config.vocab_size), {{0, 0, 0, kRows}}, {}};
  step.outputs.push_back({kRows - 1, true, std::nullopt});
  for (const std::size_t n_workers : {1U, 2U, 3U, 5U}) {
    TableDevice device(model.model(), interrupting_kernels(), n_workers, 1, kContext);
    interrupted = false;
    calls_left = kNever;
    step.interrupted = nullptr;
    const std::vector<float> want = device.run(step).logits;
    const auto calls = static_cast<std::size_t>(kNever - calls_left);
    for (int i = 0; i < (kIsSanitized ? 4 : 20); ++i) {
      device.reset(0);
      step.interrupted = &interrupted;
      // So early that the tasks under way, of each worker, are not all that is left.
      const std::size_t at = test::pick(random, 0, calls - (n_workers + 1) * kRows);
      interrupted = at == 0;
      calls_left = at == 0 ? kNever : static_cast<std::int64_t>(at);
      EXPECT_THROW(device.run(step), program::StepInterrupted);
      if (at == 0) {
        EXPECT_EQ(calls_left, kNever);
      } else {
        EXPECT_GE(calls_left, -static_cast<std::int64_t>(n_workers * kRows));
      }
      device.reset(0);
      interrupted = false;
      calls_left = kNever;
      ASSERT_TRUE(device.run(step).logits == want) << n_workers << " workers";
    }
  }
}

// Errors of the model's files, say, keep their text.
TEST(CpuFailure, ThatSaysWhatItIsIsPassedOn) {
  test::Random random(test::seed_of_test());
  const test::RandomModel model(test::small_config(), random);
  static Kernels kernels = kPortableKernels;
  kernels.add = [](const float*, std::size_t, float*) { throw Error("no good", "a file"); };
  TableDevice device(model.model(), kernels, 2, 1, kContext);
  EXPECT_EQ(test::error_of([&] { feed(device, 0, {1, 2, 3}, {3}); }), "no good (a file)");
}

}  // namespace
}  // namespace sluice::cpu
