// Risk: a tensor that changes results is left out, because this program doesn't know it, and nobody notices.
#include <algorithm>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/weights.h"
#include "tests/support/checkpoints.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_model_file.h"
#include "tests/support/temp_folder.h"

namespace sluice::model {
namespace {

using test::StoredTensor;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

constexpr std::string_view kWeight = ".weight";
const std::vector<std::string>& parts() {
  static const std::vector<std::string> kParts = {".bias", ".scale", ".input_scale"};
  return kParts;
}

TEST(KnownModules, OfGgufHaveAWeightAndNothingElse) {
  test::Random random(test::seed_of_test());
  const test::GgufModelFile whole = test::small_gguf(random);
  for (const test::GgufWriter::Tensor& tensor : whole.writer.tensors) {
    if (!tensor.name.ends_with(kWeight)) continue;
    for (const std::string& part : parts()) {
      const std::string name = tensor.name.substr(0, tensor.name.size() - kWeight.size()) + part;
      test::GgufModelFile file = whole;
      file.writer.tensor(name, test::ggml::kF32, {1}, "abcd");
      EXPECT_THAT(file.failure(), AllOf(HasSubstr("tensor " + name), HasSubstr("not supported")));
    }
  }
}

// llama.cpp takes the biases of both forms with the fused weight.
TEST(KnownModules, OfGgufAreTheSameFused) {
  test::Random random(test::seed_of_test());
  test::GgufModelFile whole = test::small_gguf(random);
  const auto expect_refused = [](test::GgufModelFile file, const std::string& name) {
    file.writer.tensor(name, test::ggml::kF32, {1}, "abcd");
    EXPECT_THAT(file.failure(), AllOf(HasSubstr("tensor " + name), HasSubstr("not supported")));
  };
  expect_refused(whole, "blk.2.attn_qkv.bias");
  for (const char* layer : {"blk.2.", "blk.3."}) {
    for (const char* module : {"attn_q", "attn_k", "attn_v"}) {
      auto& tensor = whole.tensor(std::string(layer) + module + ".weight");
      tensor.type = test::ggml::kF32;
      tensor.data = test::random_stored(random, "F32", tensor.dimensions[0] * tensor.dimensions[1]);
    }
  }
  whole.fuse_qkv();
  EXPECT_NO_THROW(whole.load());
  for (const char* name : {"blk.2.attn_q.bias", "blk.2.attn_k.bias", "blk.3.attn_v.bias",
                           "blk.2.attn_qkv.bias", "blk.3.attn_qkv.scale", "blk.2.attn_q.scale"})
    expect_refused(whole, name);
}

TEST(KnownModules, OfSafetensorsHaveAWeightAndNothingElse) {
  test::Random random(test::seed_of_test());
  const test::Shapes shapes;
  const std::vector<StoredTensor> whole = test::CheckpointTensors(random, shapes, "model.").draw();
  for (const StoredTensor& tensor : whole) {
    if (!tensor.name.ends_with(kWeight)) continue;
    for (const std::string& part : parts()) {
      const std::string name = tensor.name.substr(0, tensor.name.size() - kWeight.size()) + part;
      std::vector<StoredTensor> tensors = whole;
      tensors.push_back({name, "F32", {1}, "abcd"});
      const test::TempFolder folder;
      test::write_checkpoint(folder, test::text_config(shapes), tensors);
      EXPECT_THAT(test::error_of([&] { load_model(folder.path()); }),
                  AllOf(HasSubstr("tensor " + name), HasSubstr("not supported")));
    }
  }
}

// Whatever else a file holds is the caller's to speak of.
TEST(KnownModules, OthersAreSkipped) {
  test::Random random(test::seed_of_test());
  test::GgufModelFile file = test::small_gguf(random);
  const std::vector<std::string> others = {
      "blk.9.attn_q.bias", "blk.2.attn_sinks.weight", "v.blk.0.attn_q.bias", "extra", ".bias", "bias"};
  for (const std::string& name : others) file.writer.tensor(name, test::ggml::kF32, {1}, "abcd");
  const Model model = file.load();
  for (const std::string& name : others) EXPECT_THAT(model.skipped, Contains(name));
}

}  // namespace
}  // namespace sluice::model
