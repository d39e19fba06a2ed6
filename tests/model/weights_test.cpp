// A checkpoint's way to canonical weights, against the stored numbers and docs/models.md's own formulas.
#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/checkpoints.h"
#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace sluice::model {
namespace {

using test::Shapes;
using test::StoredTensor;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kNested = "model.language_model.";
constexpr const char* kPlain = "model.";

// What the model must hold, from the stored tensors alone.
class Expected {
 public:
  Expected(const Shapes& shapes, const std::vector<StoredTensor>& tensors) : shapes_(shapes) {
    for (const StoredTensor& tensor : tensors)
      values_[tensor.name] = test::stored_values(tensor.dtype, tensor.bytes);
    // docs/models.md §3: gguf_head[r*LKH+kh] = hf_head[kh*R+r]
    heads_.resize(shapes.value_heads());
    for (std::size_t kh = 0; kh < shapes.key_heads; ++kh)
      for (std::size_t r = 0; r < shapes.ratio; ++r)
        heads_[r * shapes.key_heads + kh] = kh * shapes.ratio + r;
  }

  const std::vector<double>& stored(const std::string& name) const { return values_.at(name); }
  std::size_t stored_head(std::size_t hv) const { return heads_[hv]; }

  // Rows or columns of V heads of `size`, the first `begin` left alone.
  std::vector<std::size_t> order(std::size_t begin, std::size_t size) const {
    std::vector<std::size_t> order(begin);
    for (std::size_t i = 0; i < begin; ++i) order[i] = i;
    for (const std::size_t head : heads_)
      for (std::size_t j = 0; j < size; ++j) order.push_back(begin + head * size + j);
    return order;
  }

  static std::vector<std::size_t> identity(std::size_t n) {
    std::vector<std::size_t> order(n);
    for (std::size_t i = 0; i < n; ++i) order[i] = i;
    return order;
  }

  const Shapes& shapes() const { return shapes_; }

 private:
  Shapes shapes_;
  std::map<std::string, std::vector<double>> values_;
  std::vector<std::size_t> heads_;
};

void expect_matrix(const Matrix& matrix, const std::vector<double>& stored,
                   const std::vector<std::size_t>& rows, const std::vector<std::size_t>& cols) {
  ASSERT_EQ(matrix.rows, rows.size()) << matrix.name;
  ASSERT_EQ(matrix.cols, cols.size()) << matrix.name;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::vector<float> row(cols.size(), -777.0F);
    matrix.read_row(r, row);
    for (std::size_t c = 0; c < cols.size(); ++c)
      ASSERT_EQ(row[c], stored[rows[r] * cols.size() + cols[c]]) << matrix.name << " " << r << "," << c;
  }
}

void expect_matrix(const Matrix& matrix, const std::vector<double>& stored, std::size_t rows,
                   std::size_t cols) {
  expect_matrix(matrix, stored, Expected::identity(rows), Expected::identity(cols));
}

// Stored as w - 1. A double holds 1 + w exactly for the numbers drawn (exponents from -12, fp16's and fp32's
// subnormals aside, which vanish beside 1 in either type), so rounding it once is what fp32's sum is.
void expect_norm(const std::vector<float>& norm, const std::vector<double>& stored) {
  ASSERT_EQ(norm.size(), stored.size());
  for (std::size_t i = 0; i < norm.size(); ++i) ASSERT_EQ(norm[i], static_cast<float>(1.0 + stored[i]));
}

void expect_delta_net(const DeltaNetWeights& net, const Expected& expected, const std::string& at) {
  const Shapes& s = expected.shapes();
  const auto stored = [&](const char* name) { return expected.stored(at + name); };
  const std::vector<std::size_t> all = Expected::identity(s.hidden);
  const std::vector<std::size_t> channels = expected.order(2 * s.key_heads * s.key_dim, s.value_dim);
  const std::vector<std::size_t> values = expected.order(0, s.value_dim);
  const std::vector<std::size_t> heads = expected.order(0, 1);
  expect_matrix(net.qkv, stored("in_proj_qkv.weight"), channels, all);
  expect_matrix(net.z, stored("in_proj_z.weight"), values, all);
  expect_matrix(net.b, stored("in_proj_b.weight"), heads, all);
  expect_matrix(net.a, stored("in_proj_a.weight"), heads, all);
  expect_matrix(net.out, stored("out_proj.weight"), all, values);

  ASSERT_EQ(net.conv.size(), channels.size() * s.kernel);
  for (std::size_t c = 0; c < channels.size(); ++c)
    for (std::size_t k = 0; k < s.kernel; ++k)
      ASSERT_EQ(net.conv[c * s.kernel + k], stored("conv1d.weight")[channels[c] * s.kernel + k]);
  ASSERT_EQ(net.norm.size(), s.value_dim);
  for (std::size_t i = 0; i < s.value_dim; ++i)
    ASSERT_EQ(net.norm[i], stored("norm.weight")[i]);  // plain, no + 1

  ASSERT_EQ(net.decay.size(), heads.size());
  ASSERT_EQ(net.dt_bias.size(), heads.size());
  ASSERT_EQ(net.key_head.size(), heads.size());
  for (std::size_t hv = 0; hv < heads.size(); ++hv) {
    ASSERT_EQ(net.dt_bias[hv], stored("dt_bias")[heads[hv]]);
    ASSERT_EQ(net.key_head[hv], heads[hv] / s.ratio);  // the K head that the stored V head belongs to
    // Within one ulp of fp32: one rounding of a value that is good to a few ulp of fp64.
    const auto exact = static_cast<double>(-std::exp(static_cast<long double>(stored("A_log")[heads[hv]])));
    ASSERT_NEAR(net.decay[hv], exact, std::abs(exact) * std::numeric_limits<float>::epsilon());
  }
}

void expect_attention(const AttentionWeights& attention, const Expected& expected, const std::string& at) {
  const Shapes& s = expected.shapes();
  const auto stored = [&](const char* name) { return expected.stored(at + name); };
  expect_matrix(attention.q_gate, stored("q_proj.weight"), s.heads * 2 * s.head_dim, s.hidden);
  expect_matrix(attention.k, stored("k_proj.weight"), s.kv_heads * s.head_dim, s.hidden);
  expect_matrix(attention.v, stored("v_proj.weight"), s.kv_heads * s.head_dim, s.hidden);
  expect_matrix(attention.out, stored("o_proj.weight"), s.hidden, s.heads * s.head_dim);
  expect_norm(attention.q_norm, stored("q_norm.weight"));
  expect_norm(attention.k_norm, stored("k_norm.weight"));
}

void expect_layer(const LayerWeights& layer, const Expected& expected, const std::string& at,
                  bool is_attention) {
  const Shapes& s = expected.shapes();
  expect_norm(layer.mix_norm, expected.stored(at + "input_layernorm.weight"));
  expect_norm(layer.mlp_norm, expected.stored(at + "post_attention_layernorm.weight"));
  expect_matrix(layer.mlp.gate, expected.stored(at + "mlp.gate_proj.weight"), s.intermediate, s.hidden);
  expect_matrix(layer.mlp.up, expected.stored(at + "mlp.up_proj.weight"), s.intermediate, s.hidden);
  expect_matrix(layer.mlp.down, expected.stored(at + "mlp.down_proj.weight"), s.hidden, s.intermediate);
  ASSERT_EQ(std::holds_alternative<AttentionWeights>(layer.mixer), is_attention);
  if (is_attention) {
    expect_attention(std::get<AttentionWeights>(layer.mixer), expected, at + "self_attn.");
  } else {
    expect_delta_net(std::get<DeltaNetWeights>(layer.mixer), expected, at + "linear_attn.");
  }
}

void expect_mtp(const MtpWeights& mtp, const Expected& expected) {
  const Shapes& s = expected.shapes();
  expect_matrix(mtp.fc, expected.stored("mtp.fc.weight"), s.hidden, 2 * s.hidden);
  expect_norm(mtp.embedding_norm, expected.stored("mtp.pre_fc_norm_embedding.weight"));
  expect_norm(mtp.hidden_norm, expected.stored("mtp.pre_fc_norm_hidden.weight"));
  expect_norm(mtp.norm, expected.stored("mtp.norm.weight"));
  ASSERT_EQ(mtp.layers.size(), s.mtp_layers);
  for (std::size_t i = 0; i < s.mtp_layers; ++i)
    expect_layer(mtp.layers[i], expected, "mtp.layers." + std::to_string(i) + ".", true);
}

void expect_model(const Model& model, const Expected& expected, const std::string& prefix) {
  const Shapes& s = expected.shapes();
  const Weights& weights = model.weights;
  const std::string head = s.tied ? prefix + "embed_tokens.weight" : "lm_head.weight";
  expect_matrix(weights.embedding, expected.stored(prefix + "embed_tokens.weight"), s.vocab, s.hidden);
  expect_matrix(weights.head, expected.stored(head), s.vocab, s.hidden);
  EXPECT_EQ(weights.head.data.data() == weights.embedding.data.data(), s.tied);
  expect_norm(weights.norm, expected.stored(prefix + "norm.weight"));
  ASSERT_EQ(weights.layers.size(), s.layers);
  for (std::size_t i = 0; i < s.layers; ++i)
    expect_layer(weights.layers[i], expected, prefix + "layers." + std::to_string(i) + ".",
                 s.is_attention(i));
  ASSERT_EQ(weights.mtp.has_value(), s.mtp_layers > 0);
  if (weights.mtp) expect_mtp(*weights.mtp, expected);
}

// Head counts, ratios, sizes, storage types, prefix, tying and layer pattern at random.
TEST(Weights, AreTheStoredNumbersInCanonicalForm) {
  test::Random random(test::seed_of_test());
  for (int round = 0; round < 150; ++round) {
    SCOPED_TRACE(round);
    const Shapes shapes = test::random_shapes(random);
    const bool nested = random() % 2 == 0;
    const std::string prefix = nested ? kNested : kPlain;
    std::vector<StoredTensor> tensors = test::CheckpointTensors(random, shapes, prefix).draw();
    std::shuffle(tensors.begin(), tensors.end(), random);
    const test::TempFolder folder;
    const Json config = test::text_config(shapes);
    test::write_checkpoint(folder, nested ? test::nested_config(config) : config, tensors);
    const Model model = load_model(folder.path());
    expect_model(model, Expected(shapes, tensors), prefix);
    EXPECT_NO_THROW(check_finite(model));
    EXPECT_EQ(model.tensors.size(), tensors.size());
    EXPECT_TRUE(std::all_of(model.tensors.begin(), model.tensors.end(),
                            [](const auto& t) { return t.mtp == t.name.starts_with("mtp."); }));
    EXPECT_TRUE(std::is_sorted(model.tensors.begin(), model.tensors.end(),
                               [](const auto& a, const auto& b) { return a.name < b.name; }));
    EXPECT_TRUE(model.skipped.empty());
    if (testing::Test::HasFailure()) break;
  }
}

struct Checkpoint {
  Shapes shapes;
  Json config;
  std::vector<StoredTensor> tensors;

  StoredTensor& named(const std::string& name) {
    return *std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.name == name; });
  }
  Model load() const {
    const test::TempFolder folder;
    test::write_checkpoint(folder, config, tensors);
    return load_model(folder.path());
  }
  std::string failure() const {
    const std::string message = test::error_of([&] { load(); });
    EXPECT_THAT(message, HasSubstr("model.safetensors"));
    return message;
  }
};

Checkpoint small_checkpoint(test::Random& random, Shapes shapes = {}, const std::string& prefix = kPlain) {
  return {.shapes = shapes,
          .config = test::text_config(shapes),
          .tensors = test::CheckpointTensors(random, shapes, prefix).draw()};
}

TEST(Weights, TheModelOwnsWhatItMapsAndReportsProgress) {
  test::Random random(test::seed_of_test());
  const Checkpoint checkpoint = small_checkpoint(random);
  const test::TempFolder folder;
  test::write_checkpoint(folder, checkpoint.config, checkpoint.tensors);
  std::vector<std::pair<std::size_t, std::size_t>> calls;
  Model loaded = load_model(folder.path(),
                            [&](std::size_t done, std::size_t total) { calls.emplace_back(done, total); });
  const Model model = std::move(loaded);
  std::filesystem::remove_all(folder.path());
  expect_model(model, Expected(checkpoint.shapes, checkpoint.tensors), kPlain);
  std::size_t bytes = 0;
  for (const StoredTensor& tensor : checkpoint.tensors) bytes += tensor.bytes.size();
  ASSERT_FALSE(calls.empty());
  EXPECT_TRUE(std::is_sorted(calls.begin(), calls.end()));
  EXPECT_EQ(calls.back(), std::pair(bytes, bytes));
}

TEST(Weights, WhatIsNotTheLanguageModelsIsSkippedByName) {
  test::Random random(test::seed_of_test());
  Shapes shapes;
  shapes.tied = true;
  Checkpoint checkpoint = small_checkpoint(random, shapes, kNested);
  checkpoint.config = test::nested_config(checkpoint.config);
  const std::size_t n = checkpoint.tensors.size();
  checkpoint.tensors.push_back({"model.visual.patch_embed.weight", "BF16", {2}, "abcd"});
  checkpoint.tensors.push_back({"model.visual.index", "I64", {1}, "abcdefgh"});  // a type that isn't read
  StoredTensor head = checkpoint.named("model.language_model.embed_tokens.weight");
  head.name = "lm_head.weight";  // tied, and the file says it twice
  checkpoint.tensors.push_back(head);
  checkpoint.tensors.push_back({"model.language_model.layers.0.unknown", "F32", {1}, "abcd"});
  const Model model = checkpoint.load();
  EXPECT_EQ(model.tensors.size(), n);
  EXPECT_THAT(model.skipped, ElementsAre("lm_head.weight", "model.language_model.layers.0.unknown",
                                         "model.visual.index", "model.visual.patch_embed.weight"));
  EXPECT_EQ(model.weights.head.name, "model.language_model.embed_tokens.weight");
  EXPECT_TRUE(model.config.tie_word_embeddings);
}

// transformers 5.12.1 warns and doesn't tie them (PreTrainedModel.tie_weights).
TEST(Weights, AHeadThatIsNotTheEmbeddingCountsEvenIfTheConfigTiesThem) {
  test::Random random(test::seed_of_test());
  Shapes shapes;
  shapes.tied = true;
  Checkpoint checkpoint = small_checkpoint(random, shapes);
  StoredTensor head = checkpoint.named("model.embed_tokens.weight");
  head.name = "lm_head.weight";
  head.bytes.back() = static_cast<char>(head.bytes.back() ^ 1);
  checkpoint.tensors.push_back(head);
  const Model model = checkpoint.load();
  EXPECT_EQ(model.weights.head.name, "lm_head.weight");
  EXPECT_FALSE(model.config.tie_word_embeddings);
  EXPECT_THAT(model.skipped, testing::IsEmpty());
  expect_matrix(model.weights.head, test::stored_values(head.dtype, head.bytes), shapes.vocab, shapes.hidden);

  checkpoint.tensors.back().shape = {head.bytes.size() / (head.dtype == "F32" ? 4 : 2)};
  EXPECT_THAT(checkpoint.failure(), HasSubstr("tensor lm_head.weight is ["));
}

TEST(Weights, TheHeadMayStandUnderThePrefix) {
  test::Random random(test::seed_of_test());
  Checkpoint checkpoint = small_checkpoint(random, {}, kNested);
  checkpoint.config = test::nested_config(checkpoint.config);
  checkpoint.named("lm_head.weight").name = "model.language_model.lm_head.weight";
  EXPECT_EQ(checkpoint.load().weights.head.name, "model.language_model.lm_head.weight");
}

TEST(Weights, EveryMissingTensorIsNamed) {
  test::Random random(test::seed_of_test());
  const Checkpoint whole = small_checkpoint(random);
  for (std::size_t i = 0; i < whole.tensors.size(); ++i) {
    Checkpoint checkpoint = whole;
    checkpoint.tensors.erase(checkpoint.tensors.begin() + static_cast<std::ptrdiff_t>(i));
    EXPECT_THAT(checkpoint.failure(), HasSubstr("no tensor " + whole.tensors[i].name));
  }
}

TEST(Weights, EveryWrongShapeIsNamedWithBothShapes) {
  test::Random random(test::seed_of_test());
  const Checkpoint whole = small_checkpoint(random);
  for (std::size_t i = 0; i < whole.tensors.size(); ++i) {
    Checkpoint checkpoint = whole;
    StoredTensor& tensor = checkpoint.tensors[i];
    const std::vector<std::size_t> right = tensor.shape;
    std::vector<std::vector<std::size_t>> wrong = {right, right, {}};
    wrong[0].front() += 1;
    wrong[1].push_back(1);
    if (right.size() == 2 && right[0] != right[1]) wrong.push_back({right[1], right[0]});
    for (const std::vector<std::size_t>& shape : wrong) {
      std::size_t n = 1;
      for (const std::size_t extent : shape) n *= extent;
      tensor.shape = shape;
      tensor.bytes = test::random_stored(random, tensor.dtype, n);
      EXPECT_THAT(checkpoint.failure(), AllOf(HasSubstr("tensor " + tensor.name + " is " + shape_text(shape)),
                                              HasSubstr("config.json wants " + shape_text(right))));
    }
  }
}

TEST(Weights, ATypeThatIsNotReadIsNamed) {
  test::Random random(test::seed_of_test());
  const Checkpoint whole = small_checkpoint(random);
  for (std::size_t i = 0; i < whole.tensors.size(); ++i) {
    Checkpoint checkpoint = whole;
    StoredTensor& tensor = checkpoint.tensors[i];
    std::size_t n = 1;
    for (const std::size_t extent : tensor.shape) n *= extent;
    tensor.dtype = "F8_E4M3";
    tensor.bytes = std::string(n, '\x38');
    EXPECT_THAT(checkpoint.failure(), AllOf(HasSubstr(tensor.name), HasSubstr("F8_E4M3")));
  }
}

// Vectors are looked at when the model is loaded, matrices when somebody asks: they stay on disk until they are needed.
TEST(Weights, NanAndInfinityAreErrorsThatNameTheTensor) {
  test::Random random(test::seed_of_test());
  const Checkpoint whole = small_checkpoint(random);
  for (std::size_t i = 0; i < whole.tensors.size(); ++i) {
    Checkpoint checkpoint = whole;
    StoredTensor& tensor = checkpoint.tensors[i];
    tensor.dtype = "BF16";
    std::size_t n = 1;
    for (const std::size_t extent : tensor.shape) n *= extent;
    const bool is_vector = tensor.shape.size() != 2;
    for (const char* bits : {"\xc0\x7f", "\x80\x7f", "\x80\xff"}) {
      tensor.bytes = test::random_stored(random, "BF16", n);
      const std::size_t at = test::pick(random, 0, n - 1);
      tensor.bytes.replace(2 * at, 2, bits, 2);
      const std::string message =
          is_vector ? checkpoint.failure()
                    : test::error_of([&, model = checkpoint.load()] { check_finite(model); });
      EXPECT_THAT(message, AllOf(HasSubstr("model.safetensors"), HasSubstr("tensor " + tensor.name + " "),
                                 HasSubstr("at index " + std::to_string(at) + " ")));
    }
  }
}

TEST(Weights, ADecayThatOverflowsIsAnError) {
  test::Random random(test::seed_of_test());
  Checkpoint checkpoint = small_checkpoint(random);
  StoredTensor& tensor = checkpoint.named("model.layers.1.linear_attn.A_log");
  tensor.dtype = "BF16";
  tensor.bytes = test::random_stored(random, "BF16", tensor.shape[0]);
  tensor.bytes.replace(4, 2, "\xb4\x42", 2);  // 90: exp(90) > 3.4e38
  EXPECT_THAT(checkpoint.failure(),
              AllOf(HasSubstr("model.layers.1.linear_attn.A_log"), HasSubstr("index 2")));
}

TEST(Weights, MtpIsCompleteOrAbsentOrNotConfigured) {
  test::Random random(test::seed_of_test());
  const Checkpoint whole = small_checkpoint(random);
  Checkpoint absent = whole;
  std::erase_if(absent.tensors, [](const StoredTensor& t) { return t.name.starts_with("mtp."); });
  const Model without = absent.load();
  EXPECT_FALSE(without.weights.mtp.has_value());
  EXPECT_EQ(without.config.n_mtp_layers, 1U);

  Checkpoint unknown = whole;
  unknown.config["mtp_num_hidden_layers"] = 0;
  const Model skipping = unknown.load();
  EXPECT_FALSE(skipping.weights.mtp.has_value());
  EXPECT_THAT(skipping.skipped, Contains("mtp.fc.weight"));
}

TEST(Weights, AFolderThatIsNoModelIsOneClearError) {
  test::Random random(test::seed_of_test());
  const Checkpoint checkpoint = small_checkpoint(random);
  const test::TempFolder folder;
  EXPECT_THAT(test::error_of([&] { load_model(folder.path() / "nowhere"); }),
              AllOf(HasSubstr("nowhere"), HasSubstr("folder")));
  EXPECT_THAT(test::error_of([&] { load_model(folder.path()); }), HasSubstr("config.json"));
  folder.write("config.json", checkpoint.config.dump());
  EXPECT_THAT(test::error_of([&] { load_model(folder.path()); }), HasSubstr("model.safetensors"));
  EXPECT_THAT(test::error_of([&] { load_model(folder.path() / "config.json"); }), HasSubstr("folder"));
  std::filesystem::create_directory(folder.path() / "model.safetensors");
  EXPECT_THAT(test::error_of([&] { load_model(folder.path()); }), HasSubstr("not a regular file"));
}

class Shards : public testing::Test {
 protected:
  Shards() : random_(test::seed_of_test()), checkpoint_(small_checkpoint(random_)) {
    folder_.write("config.json", checkpoint_.config.dump());
  }

  // Deals the tensors out over `n` files and lists them in an index.
  void write(std::size_t n) {
    std::vector<std::vector<StoredTensor>> shards(n);
    index_ = {{"metadata", {{"total_size", 1}}}, {"weight_map", Json::object()}};
    for (const StoredTensor& tensor : checkpoint_.tensors) {
      const std::size_t shard = test::pick(random_, 0, n - 1);
      shards[shard].push_back(tensor);
      index_["weight_map"][tensor.name] = shard_name(shard);
    }
    for (std::size_t i = 0; i < n; ++i) folder_.write(shard_name(i), test::safetensors_file(shards[i]));
  }
  static std::string shard_name(std::size_t i) { return "part-" + std::to_string(i) + ".safetensors"; }

  Model load() {
    folder_.write("model.safetensors.index.json", index_.dump());
    return load_model(folder_.path());
  }
  std::string failure() {
    return test::error_of([&] { load(); });
  }

  test::Random random_;
  Checkpoint checkpoint_;
  test::TempFolder folder_;
  Json index_;
};

TEST_F(Shards, AreOneModel) {
  for (const std::size_t n : {1U, 2U, 5U}) {
    write(n);
    expect_model(load(), Expected(checkpoint_.shapes, checkpoint_.tensors), kPlain);
  }
}

TEST_F(Shards, ASingleShardNeedsNoIndex) {
  for (const char* name :
       {"model.safetensors-00001-of-00001.safetensors", "model-00001-of-00001.safetensors"}) {
    folder_.write(name, test::safetensors_file(checkpoint_.tensors));
    expect_model(load_model(folder_.path()), Expected(checkpoint_.shapes, checkpoint_.tensors), kPlain);
    std::filesystem::remove(folder_.path() / name);
  }
}

TEST_F(Shards, AnIndexThatIsWrongIsAnErrorThatNamesIt) {
  write(2);
  const Json good = index_;
  const auto of_index = [&](Json index) {
    index_ = std::move(index);
    const std::string message = failure();
    EXPECT_THAT(message, HasSubstr("model.safetensors.index.json"));
    return message;
  };
  for (const Json& map : {Json(nullptr), Json::array(), Json::object(), Json("x"), Json(1)})
    of_index({{"weight_map", map}});
  of_index(Json::object());
  of_index(Json::array());
  for (const Json& name :
       {Json("../part-0.safetensors"), Json("/etc/passwd"), Json(""), Json("a/b.safetensors"),
        Json("part-0.bin"), Json(7), Json(std::string("part-0.safetensors\0.safetensors", 31))}) {
    Json index = good;
    index["weight_map"]["model.norm.weight"] = name;
    EXPECT_THAT(of_index(index), HasSubstr("weight_map.model.norm.weight"));
  }
  Json other = good;
  const bool in_first = other["weight_map"]["model.norm.weight"] == shard_name(0);
  other["weight_map"]["model.norm.weight"] = shard_name(in_first ? 1 : 0);
  EXPECT_THAT(of_index(other), HasSubstr("model.norm.weight"));
  Json extra = good;
  extra["weight_map"]["model.extra"] = shard_name(0);
  EXPECT_THAT(of_index(extra), HasSubstr("model.extra"));
}

TEST_F(Shards, AMissingFileAndATensorInTwoAreErrors) {
  write(2);
  folder_.write(shard_name(1), test::safetensors_file(checkpoint_.tensors));
  EXPECT_THAT(failure(), HasSubstr("part-1.safetensors"));
  std::filesystem::remove(folder_.path() / shard_name(1));
  EXPECT_THAT(failure(), HasSubstr("part-1.safetensors"));
}

}  // namespace
}  // namespace sluice::model
