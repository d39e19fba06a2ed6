// Risk: the same checkpoint means one thing as safetensors and another as GGUF, or as GGUF written another way.
#include "model/gguf_model.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oracle/oracle.h"
#include "tests/support/checkpoints.h"
#include "tests/support/gguf_checkpoints.h"
#include "tests/support/gguf_model_file.h"
#include "tests/support/golden.h"
#include "tests/support/same_model.h"
#include "tests/support/temp_folder.h"

namespace sluice::model {
namespace {

using test::expect_bits;
using test::expect_same;
using test::GgufWriter;
using test::row_of;
using test::Shapes;
using test::StoredTensor;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using File = test::GgufModelFile;
namespace ggml = test::ggml;

// Head counts and ratios, sizes, types, tying, MTP and layer pattern at random.
TEST(GgufModel, IsTheSameAsItsSafetensors) {
  test::Random random(test::seed_of_test());
  for (int round = 0; round < 100; ++round) {
    SCOPED_TRACE(round);
    const Shapes shapes = test::random_shapes(random);
    Json json = test::text_config(shapes);
    json["rms_norm_eps"] = random() % 2 == 0 ? 1e-6 : 1e-5;
    const std::vector<StoredTensor> tensors = test::CheckpointTensors(random, shapes, "model.").draw();
    const test::TempFolder folder;
    test::write_checkpoint(folder, json, tensors);
    const Model want = load_model(folder.path());
    const GgufWriter writer = test::GgufConverter(want.config, tensors, "model.").convert();
    const Model got = load_model(folder.write("model.gguf", writer.file()));
    expect_same(got.config, want.config);
    expect_same(got.weights, want.weights);
    // Each MTP block of a GGUF repeats what all of them share: four tensors that nothing asks for again.
    const std::size_t repeated = shapes.mtp_layers > 1 ? 4 * (shapes.mtp_layers - 1) : 0;
    EXPECT_EQ(got.skipped.size(), repeated);
    EXPECT_EQ(got.tensors.size(), want.tensors.size());
    const auto count_mtp = [](const Model& model) {
      return std::count_if(model.tensors.begin(), model.tensors.end(), [](const auto& t) { return t.mtp; });
    };
    EXPECT_EQ(count_mtp(got), count_mtp(want));
    if (testing::Test::HasFailure()) break;
  }
}

// Through the whole chain to what transformers computes: the golden checkpoints, converted.
TEST(GgufModel, GivesTheLogitsOfTransformers) {
  for (const std::string& name : test::golden_cases()) {
    SCOPED_TRACE(name);
    const std::filesystem::path source = test::golden_folder(name);
    const Model want = load_model(source);
    std::vector<StoredTensor> tensors;
    std::string prefix = "model.";
    for (const ModelTensor& tensor : want.tensors) {
      if (tensor.name.starts_with("model.language_model.")) prefix = "model.language_model.";
      tensors.push_back({tensor.name,
                         std::string(name_of(tensor.dtype)),
                         tensor.shape,
                         {reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()}});
    }
    const test::TempFolder folder;
    const std::filesystem::path path =
        folder.write("model.gguf", test::GgufConverter(want.config, tensors, prefix).convert().file());
    const Model model = load_model(path);
    expect_same(model.config, want.config);
    check_finite(model);
    const test::GoldenPrompt prompt = test::golden_prompts(name).front();
    // A prompt of each is enough: how the oracle treats prompts is tests/oracle's.
    const std::size_t n = std::min<std::size_t>(prompt.tokens.size(), 24);
    auto state = oracle::empty_state<float>(model.config);
    std::vector<float> logits;
    for (std::size_t i = 0; i < n; ++i) {
      const std::vector<float> hidden = oracle::feed<float>(model, state, prompt.tokens[i]);
      const std::vector<float> row = oracle::logits<float>(model, hidden);
      logits.insert(logits.end(), row.begin(), row.end());
    }
    const std::span<const float> reference(prompt.logits.values.data(), logits.size());
    EXPECT_LE(test::relative_rms<float>(logits, reference), 1e-5);  // docs/testing.md
  }
}

class GgufSpelling : public testing::Test {
 protected:
  test::Random random_{test::seed_of_test()};
  File file_ = test::small_gguf(random_);
};

// What Ollama's converter writes in its own way.
TEST_F(GgufSpelling, OllamasSpellingIsUnderstood) {
  const Model want = file_.load();
  file_.erase_key("qwen35.full_attention_interval");
  file_.set_list<std::uint32_t>("qwen35.attention.head_count_kv", {0, 0, 2});
  file_.set_list<std::int32_t>("qwen35.rope.dimension_sections", {11, 11, 10});
  file_.set_list<std::int32_t>("tokenizer.ggml.eos_token_ids", {6, 4});
  file_.set("qwen35.ssm.v_head_reordered", true);
  for (const char* block : {"blk.0.", "blk.1."}) {
    file_.tensor(std::string(block) + "ssm_dt.bias").name = std::string(block) + "ssm_dt";
    auto& dimensions = file_.tensor(std::string(block) + "ssm_conv1d.weight").dimensions;
    dimensions = {dimensions[0], 1, dimensions[1]};
  }
  const Model got = file_.load();
  expect_same(got.config, want.config);
  expect_same(got.weights, want.weights);
  EXPECT_THAT(got.config.eos_token_ids, ElementsAre(4, 6));
  for (const std::vector<std::uint32_t>& wrong :
       std::vector<std::vector<std::uint32_t>>{{0, 0}, {0, 0, 0}, {0, 1, 2}, {0, 0, 1U << 30U}}) {
    file_.set_list("qwen35.attention.head_count_kv", wrong);
    EXPECT_THAT(file_.failure(), HasSubstr("qwen35.attention.head_count_kv"));
  }
}

// ggml_n_dims leaves out trailing extents of one: a matrix of one row comes as a vector.
TEST(GgufModel, AMatrixOfOneRowMayBeAVector) {
  test::Random random(test::seed_of_test());
  Shapes shapes;
  shapes.key_heads = shapes.ratio = 1;
  File file = test::small_gguf(random, shapes);
  auto& dimensions = file.tensor("blk.0.ssm_beta.weight").dimensions;
  ASSERT_EQ(dimensions, (std::vector<std::uint64_t>{6, 1}));
  const Model want = file.load();
  dimensions.pop_back();
  expect_same(file.load().weights, want.weights);
}

// ---- quantized matrices

struct BlockType {
  std::uint32_t number;
  DType type;
  std::size_t elements;
  std::size_t bytes;
  std::vector<std::size_t> scales;  // where fp16 numbers stand
};

// ggml-common.h
const std::vector<BlockType>& block_types() {
  static const std::vector<BlockType> kTypes = {
      {ggml::kQ8_0, DType::kQ8_0, 32, 34, {0}},      {ggml::kQ4_0, DType::kQ4_0, 32, 18, {0}},
      {ggml::kQ4_1, DType::kQ4_1, 32, 20, {0, 2}},   {ggml::kQ5_0, DType::kQ5_0, 32, 22, {0}},
      {ggml::kQ5_1, DType::kQ5_1, 32, 24, {0, 2}},   {ggml::kQ4_K, DType::kQ4_K, 256, 144, {0, 2}},
      {ggml::kQ5_K, DType::kQ5_K, 256, 176, {0, 2}}, {ggml::kQ6_K, DType::kQ6_K, 256, 210, {208}},
      {ggml::kIQ4_NL, DType::kIQ4_NL, 32, 18, {0}},  {ggml::kIQ4_XS, DType::kIQ4_XS, 256, 136, {0}}};
  return kTypes;
}

// Blocks of random numbers, with scales around 2^-12.
std::string random_blocks(test::Random& random, const BlockType& type, std::size_t n_elements) {
  std::string data(n_elements / type.elements * type.bytes, '\0');
  for (char& byte : data) byte = static_cast<char>(random());
  for (std::size_t block = 0; block < data.size(); block += type.bytes)
    for (const std::size_t at : type.scales)
      data.replace(block + at, 2,
                   test::gguf_bytes(static_cast<std::uint16_t>(0x0C00U + (random() & 0x83FFU))));
  return data;
}

// Rows of 256 throughout, so that every type fits every matrix.
Shapes wide_shapes() {
  Shapes shapes;
  shapes.hidden = shapes.intermediate = 256;
  shapes.heads = 4;
  shapes.head_dim = 64;
  shapes.key_heads = 2;
  shapes.ratio = 2;
  shapes.key_dim = 8;
  shapes.value_dim = 64;
  return shapes;
}

File quantized_file(test::Random& random, std::size_t first_type) {
  File file = test::small_gguf(random, wide_shapes());
  std::size_t next = first_type;
  for (GgufWriter::Tensor& tensor : file.writer.tensors) {
    if (tensor.dimensions.size() != 2 || tensor.name.ends_with("ssm_conv1d.weight")) continue;
    const BlockType& type = block_types()[next++ % block_types().size()];
    tensor.type = type.number;
    tensor.data = random_blocks(random, type, tensor.dimensions[0] * tensor.dimensions[1]);
  }
  return file;
}

// Each matrix of a model.
void for_each_matrix(Weights& weights, const std::function<void(Matrix&)>& action) {
  action(weights.embedding);
  action(weights.head);
  const auto of_layer = [&](LayerWeights& layer) {
    for (Matrix* matrix : {&layer.mlp.gate, &layer.mlp.up, &layer.mlp.down}) action(*matrix);
    if (auto* net = std::get_if<DeltaNetWeights>(&layer.mixer)) {
      for (Matrix* matrix : {&net->qkv, &net->z, &net->b, &net->a, &net->out}) action(*matrix);
    } else {
      auto& attention = std::get<AttentionWeights>(layer.mixer);
      for (Matrix* matrix : {&attention.q_gate, &attention.k, &attention.v, &attention.out}) action(*matrix);
    }
  };
  for (LayerWeights& layer : weights.layers) of_layer(layer);
  if (!weights.mtp) return;
  action(weights.mtp->fc);
  for (LayerWeights& layer : weights.mtp->layers) of_layer(layer);
}

// llama.cpp's converter does so by --fuse-qkv. Views into the one tensor, of a plain type and of blocks.
TEST(GgufModel, FusedProjectionsAreSplitByRows) {
  test::Random random(test::seed_of_test());
  for (std::size_t round = 0; round <= block_types().size(); ++round) {
    Shapes shapes = wide_shapes();
    shapes.mtp_layers = 2;
    File file = test::small_gguf(random, shapes);
    for (GgufWriter::Tensor& tensor : file.writer.tensors) {
      if (!tensor.name.ends_with(".attn_q.weight") && !tensor.name.ends_with(".attn_k.weight") &&
          !tensor.name.ends_with(".attn_v.weight"))
        continue;
      const std::size_t n = tensor.dimensions[0] * tensor.dimensions[1];
      tensor.type = round == 0 ? std::uint32_t{ggml::kBF16} : block_types()[round - 1].number;
      tensor.data = round == 0 ? test::random_stored(random, "BF16", n)
                               : random_blocks(random, block_types()[round - 1], n);
    }
    const Model want = file.load();
    file.fuse_qkv();
    ASSERT_EQ(file.writer.tensors.size() + 6, want.tensors.size() + want.skipped.size());  // three layers
    const Model got = file.load();
    expect_same(got.config, want.config);
    expect_same(got.weights, want.weights);
    const auto& fused = std::get<AttentionWeights>(got.weights.layers[2].mixer);
    EXPECT_EQ(fused.k.data.data(), fused.q_gate.data.data() + fused.q_gate.data.size());
    EXPECT_EQ(fused.v.data.data(), fused.k.data.data() + fused.k.data.size());
    EXPECT_EQ(got.tensors.size() + 6, want.tensors.size());

    file.tensor("blk.2.attn_qkv.weight").dimensions[1] -= 1;
    auto& data = file.tensor("blk.2.attn_qkv.weight").data;
    data.resize(data.size() / (2 * 256 + 2 * 128) * (2 * 256 + 2 * 128 - 1));
    EXPECT_THAT(file.failure(), HasSubstr("tensor blk.2.attn_qkv.weight is [767, 256]"));
  }
}

// The rows are those of the stored blocks, in the stored order, and the oracle computes with them what it computes with the
// same numbers in fp32.
TEST(GgufModel, QuantizedMatricesAreReadRowByRow) {
  test::Random random(test::seed_of_test());
  for (std::size_t first = 0; first < block_types().size(); first += 3) {
    const File file = quantized_file(random, first);
    const Model quantized = file.load();
    ASSERT_NO_THROW(check_finite(quantized));
    Model plain = quantized;
    std::vector<std::unique_ptr<std::vector<float>>> storage;
    for_each_matrix(plain.weights, [&](Matrix& matrix) {
      EXPECT_NE(block_size(matrix.dtype), 1U) << matrix.name;
      auto values = std::make_unique<std::vector<float>>(matrix.rows * matrix.cols, -777.0F);
      to_float(matrix.dtype, matrix.data, 0, *values);
      for (std::size_t row = 0; row < matrix.rows; ++row)
        expect_bits(row_of(matrix, row),
                    {values->begin() + static_cast<std::ptrdiff_t>(row * matrix.cols),
                     values->begin() + static_cast<std::ptrdiff_t>((row + 1) * matrix.cols)},
                    matrix.name);
      matrix.dtype = DType::kF32;
      matrix.data = std::as_bytes(std::span<const float>(*values));
      storage.push_back(std::move(values));
    });
    auto state = oracle::empty_state<float>(quantized.config);
    auto plain_state = state;
    for (const std::int32_t token : {3, 0, 6}) {
      const std::vector<float> got =
          oracle::logits<float>(quantized, oracle::feed<float>(quantized, state, token));
      const std::vector<float> want =
          oracle::logits<float>(plain, oracle::feed<float>(plain, plain_state, token));
      expect_bits(got, want, "logits");
      EXPECT_TRUE(std::all_of(got.begin(), got.end(), [](float value) { return std::isfinite(value); }));
    }
  }
}

TEST(GgufModel, QuantizedVectorsAreRefused) {
  test::Random random(test::seed_of_test());
  const File whole = test::small_gguf(random, wide_shapes());
  for (const GgufWriter::Tensor& right : whole.writer.tensors) {
    if (right.dimensions.size() != 1 || right.dimensions[0] % 32 != 0) continue;
    File file = whole;
    GgufWriter::Tensor& tensor = file.tensor(right.name);
    tensor.type = ggml::kQ8_0;
    tensor.data = random_blocks(random, block_types().front(), tensor.dimensions[0]);
    EXPECT_THAT(file.failure(),
                AllOf(HasSubstr(right.name), HasSubstr("Q8_0"), HasSubstr("F32, F16 or BF16")));
  }
}

}  // namespace
}  // namespace sluice::model
