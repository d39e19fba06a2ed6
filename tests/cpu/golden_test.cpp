// Whole models on every table of kernels against transformers in fp32. The device rounds activations (where the instructions
// take bf16) and keys and values to bf16, where transformers' own run in bf16 rounds everything: its error, which
// tools/golden.py measures, is the limit.
#include "tests/support/golden.h"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "model/weights.h"
#include "tests/cpu/devices.h"

namespace sluice::cpu {
namespace {

// Of transformers' error in bf16. Where activations stay fp32, only keys and values are rounded.
double share_of(const Kernels& kernels) {
  return kernels.activations == ActivationType::kBF16 ? 0.9 : 0.3;
}

class CpuGolden : public testing::TestWithParam<std::string> {};

TEST_P(CpuGolden, IsCloserThanTransformersInBf16) {
  const model::Model model = model::load_model(test::golden_folder(GetParam()));
  const std::vector<test::GoldenPrompt> prompts = test::golden_prompts(GetParam());
  const double bf16_error = test::golden_json({}, "bf16_errors.json").at(GetParam()).get<double>();
  std::vector<float> want;
  for (const test::GoldenPrompt& prompt : prompts)
    want.insert(want.end(), prompt.logits.values.begin(), prompt.logits.values.end());
  for (const Kernels* kernels : all_tables()) {
    const double limit = share_of(*kernels) * bf16_error;
    TableDevice device(model, *kernels, 1, 1, 160);
    for (const bool is_whole : {true, false}) {
      if (!is_whole && (kIsSanitized || is_emulated(*kernels))) continue;  // slow, and the same functions
      std::vector<float> got;
      for (const test::GoldenPrompt& prompt : prompts) {
        const std::size_t n = prompt.tokens.size();
        device.reset(0);
        const std::vector<float> logits =
            feed(device, 0, prompt.tokens,
                 is_whole ? std::vector<std::size_t>{n} : std::vector<std::size_t>(n, 1));
        got.insert(got.end(), logits.begin(), logits.end());
      }
      const double error = test::relative_rms<float>(got, want);
      EXPECT_LT(error, limit) << kernels->name << (is_whole ? ", whole" : ", one by one");
      RecordProperty(kernels->name + std::string(is_whole ? "_whole" : "_single"),
                     fmt::format("{:.2e}, limit {:.2e}", error, limit));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, CpuGolden, testing::ValuesIn(test::golden_cases()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace sluice::cpu
