#include "model/random_model.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/oracle/random_model.h"

namespace sluice::model {
namespace {

ModelConfig config_of(bool tied) {
  ModelConfig config = test::small_config();
  config.vocab_size = 5003;  // several pieces, the last one not full
  config.hidden_size = 251;
  config.tie_word_embeddings = tied;
  return config;
}

const TensorView& tensor(const Model& model, const std::string& name) {
  const auto found = std::ranges::find(model.tensors, name, &TensorView::name);
  EXPECT_NE(found, model.tensors.end()) << name;
  return *found;
}

TEST(RandomModel, IsTheSameWhateverTheThreads) {
  RandomModel one(config_of(true), 7);
  RandomModel three(config_of(true), 7);
  RandomModel other(config_of(true), 8);
  one.fill(1);
  three.fill(3);
  other.fill(1);
  ASSERT_EQ(one.model().tensors.size(), three.model().tensors.size());
  for (std::size_t i = 0; i < one.model().tensors.size(); ++i) {
    const TensorView& tensor = one.model().tensors[i];
    EXPECT_TRUE(std::ranges::equal(tensor.data, three.model().tensors[i].data)) << tensor.name;
    EXPECT_FALSE(std::ranges::equal(tensor.data, other.model().tensors[i].data)) << tensor.name;
  }
}

// Uniform in ± limit with limit² = 2.25 / columns: mean 0 and variance limit² / 3, the sample's own spread being
// limit² / sqrt(n) or less; five of these, and the cut to bf16 makes numbers smaller by up to 2^-7.
TEST(RandomModel, MatricesAreUniform) {
  RandomModel random(config_of(false), 3);
  random.fill(2);
  for (const Matrix* matrix : {&random.model().weights.embedding, &random.model().weights.head}) {
    std::vector<float> values(matrix->rows * matrix->cols);
    to_float(matrix->dtype, matrix->data, 0, values);
    const double limit = 1.5 / std::sqrt(static_cast<double>(matrix->cols));
    const auto n = static_cast<double>(values.size());
    double sum = 0;
    double squares = 0;
    for (const float value : values) {
      ASSERT_LE(std::abs(value), limit);
      sum += value;
      squares += static_cast<double>(value) * value;
    }
    EXPECT_NEAR(sum / n, 0, 5 * limit / std::sqrt(n));
    EXPECT_NEAR(squares / n, limit * limit / 3, limit * limit / 3 / 64 + 5 * limit * limit / std::sqrt(n));
  }
}

TEST(RandomModel, TheEmbeddingIsTheHeadOnlyIfTheyAreTied) {
  RandomModel tied(config_of(true), 1);
  RandomModel untied(config_of(false), 1);
  EXPECT_EQ(tied.model().weights.head.data.data(), tied.model().weights.embedding.data.data());
  EXPECT_NE(untied.model().weights.head.data.data(), untied.model().weights.embedding.data.data());
  EXPECT_EQ(untied.bytes() - tied.bytes(), 2U * 5003 * 251);
}

TEST(RandomModel, VectorsAreWhatTheTensorsSay) {
  const RandomModel random(config_of(true), 5);
  const Model& model = random.model();
  std::vector<float> stored(model.config.hidden_size);
  const TensorView& norm = tensor(model, "model.layers.1.input_layernorm.weight");
  to_float(norm.dtype, norm.data, 0, stored);
  for (float& value : stored) value += 1.0F;
  EXPECT_EQ(stored, model.weights.layers[1].mix_norm);
  for (const TensorView& view : model.tensors) {
    std::vector<float> values(view.size());
    to_float(view.dtype, view.data, 0, values);
    EXPECT_TRUE(std::ranges::all_of(values, [](float value) { return std::isfinite(value); })) << view.name;
  }
}

// docs/models.md §1: total_size of the published files, less the parts that are not the language model.
TEST(KnownShape, HasThePublishedSizes) {
  const auto config = known_shape("qwen3.5-0.8b");
  ASSERT_TRUE(config);
  const RandomModel random(*config, 1);  // address space only
  EXPECT_NEAR(static_cast<double>(random.bytes()), 1.505e9, 0.001e9);
  EXPECT_EQ(config->n_layers(), 24U);
  EXPECT_EQ(std::ranges::count(config->layers, LayerKind::kAttention), 6);
  // Recurrent state in fp32 per sequence: 18, 18 and 48 MiB; KV in bf16: 12288, 12288 and 32768 bytes a token.
  const std::vector<std::size_t> state = {18, 18, 48};
  const std::vector<std::size_t> kv = {12288, 12288, 32768};
  for (std::size_t i = 0; i < known_shapes().size(); ++i) {
    const auto shape = known_shape(known_shapes()[i]);
    ASSERT_TRUE(shape);
    const auto delta = static_cast<std::size_t>(std::ranges::count(shape->layers, LayerKind::kDeltaNet));
    EXPECT_EQ(4 * delta * shape->n_value_heads * shape->key_head_dim * shape->value_head_dim,
              state[i] << 20U);
    EXPECT_EQ((shape->n_layers() - delta) * 2 * 2 * shape->kv_dim(), kv[i]);
  }
  EXPECT_FALSE(known_shape("qwen3.5-80b"));
}

}  // namespace
}  // namespace sluice::model
