// Risk: the same checkpoint means one thing as safetensors and another as GGUF; a GGUF that is wrong loads.
#include "model/gguf_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/safetensors.h"
#include "oracle/oracle.h"
#include "tests/support/checkpoints.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_checkpoints.h"
#include "tests/support/golden.h"
#include "tests/support/temp_folder.h"

namespace sluice::model {
namespace {

using test::GgufWriter;
using test::Shapes;
using test::StoredTensor;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
namespace ggml = test::ggml;

constexpr LayerKind D = LayerKind::kDeltaNet;
constexpr LayerKind A = LayerKind::kAttention;

void expect_bits(const std::vector<float>& got, const std::vector<float>& want, const std::string& name) {
  ASSERT_EQ(got.size(), want.size()) << name;
  for (std::size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(want[i]))
        << name << " " << i;
}

std::vector<float> row_of(const Matrix& matrix, std::size_t row) {
  std::vector<float> values(matrix.cols, -777.0F);
  matrix.read_row(row, values);
  return values;
}

void expect_same(const Matrix& got, const Matrix& want) {
  ASSERT_EQ(got.rows, want.rows) << got.name;
  ASSERT_EQ(got.cols, want.cols) << got.name;
  ASSERT_EQ(got.dtype, want.dtype) << got.name;
  for (std::size_t r = 0; r < got.rows; ++r) expect_bits(row_of(got, r), row_of(want, r), got.name);
}

void expect_same(const DeltaNetWeights& got, const DeltaNetWeights& want) {
  expect_same(got.qkv, want.qkv);
  expect_same(got.z, want.z);
  expect_same(got.b, want.b);
  expect_same(got.a, want.a);
  expect_same(got.out, want.out);
  expect_bits(got.conv, want.conv, "conv");
  expect_bits(got.dt_bias, want.dt_bias, "dt_bias");
  expect_bits(got.norm, want.norm, "norm");
  EXPECT_EQ(got.key_head, want.key_head);
  // The file's writer took exp in fp32: within an ulp of the right value, as ours is.
  ASSERT_EQ(got.decay.size(), want.decay.size());
  for (std::size_t i = 0; i < got.decay.size(); ++i)
    ASSERT_NEAR(got.decay[i], want.decay[i], std::abs(want.decay[i]) * std::numeric_limits<float>::epsilon());
}

void expect_same(const AttentionWeights& got, const AttentionWeights& want) {
  expect_same(got.q_gate, want.q_gate);
  expect_same(got.k, want.k);
  expect_same(got.v, want.v);
  expect_same(got.out, want.out);
  expect_bits(got.q_norm, want.q_norm, "q_norm");
  expect_bits(got.k_norm, want.k_norm, "k_norm");
}

void expect_same(const LayerWeights& got, const LayerWeights& want) {
  expect_bits(got.mix_norm, want.mix_norm, "mix_norm");
  expect_bits(got.mlp_norm, want.mlp_norm, "mlp_norm");
  expect_same(got.mlp.gate, want.mlp.gate);
  expect_same(got.mlp.up, want.mlp.up);
  expect_same(got.mlp.down, want.mlp.down);
  ASSERT_EQ(got.mixer.index(), want.mixer.index());
  std::visit(
      [&](const auto& mixer) { expect_same(mixer, std::get<std::decay_t<decltype(mixer)>>(want.mixer)); },
      got.mixer);
}

void expect_same(const Weights& got, const Weights& want) {
  expect_same(got.embedding, want.embedding);
  expect_same(got.head, want.head);
  EXPECT_EQ(got.head.data.data() == got.embedding.data.data(),
            want.head.data.data() == want.embedding.data.data());
  expect_bits(got.norm, want.norm, "norm");
  ASSERT_EQ(got.layers.size(), want.layers.size());
  for (std::size_t i = 0; i < got.layers.size(); ++i) expect_same(got.layers[i], want.layers[i]);
  ASSERT_EQ(got.mtp.has_value(), want.mtp.has_value());
  if (!got.mtp) return;
  expect_same(got.mtp->fc, want.mtp->fc);
  expect_bits(got.mtp->embedding_norm, want.mtp->embedding_norm, "embedding_norm");
  expect_bits(got.mtp->hidden_norm, want.mtp->hidden_norm, "hidden_norm");
  expect_bits(got.mtp->norm, want.mtp->norm, "mtp norm");
  ASSERT_EQ(got.mtp->layers.size(), want.mtp->layers.size());
  for (std::size_t i = 0; i < got.mtp->layers.size(); ++i)
    expect_same(got.mtp->layers[i], want.mtp->layers[i]);
}

void expect_same(const ModelConfig& got, const ModelConfig& want) {
  EXPECT_EQ(got.vocab_size, want.vocab_size);
  EXPECT_EQ(got.hidden_size, want.hidden_size);
  EXPECT_EQ(got.intermediate_size, want.intermediate_size);
  EXPECT_EQ(got.layers, want.layers);
  EXPECT_EQ(got.n_heads, want.n_heads);
  EXPECT_EQ(got.n_kv_heads, want.n_kv_heads);
  EXPECT_EQ(got.head_dim, want.head_dim);
  EXPECT_EQ(got.rotary_dim, want.rotary_dim);
  EXPECT_EQ(got.rope_theta, want.rope_theta);
  EXPECT_EQ(got.n_key_heads, want.n_key_heads);
  EXPECT_EQ(got.n_value_heads, want.n_value_heads);
  EXPECT_EQ(got.key_head_dim, want.key_head_dim);
  EXPECT_EQ(got.value_head_dim, want.value_head_dim);
  EXPECT_EQ(got.conv_kernel, want.conv_kernel);
  EXPECT_EQ(got.rms_norm_eps, want.rms_norm_eps);
  EXPECT_EQ(got.tie_word_embeddings, want.tie_word_embeddings);
  EXPECT_EQ(got.max_positions, want.max_positions);
  EXPECT_EQ(got.n_mtp_layers, want.n_mtp_layers);
}

// Head counts and ratios, sizes, types, tying, MTP and layer pattern at random.
TEST(GgufModel, IsTheSameAsItsSafetensors) {
  test::Random random(test::fresh_seed());
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

struct File {
  ModelConfig config;
  std::vector<StoredTensor> hf;
  GgufWriter writer;

  GgufWriter::Tensor& tensor(const std::string& name) {
    return *std::find_if(writer.tensors.begin(), writer.tensors.end(),
                         [&](const auto& t) { return t.name == name; });
  }
  void erase_key(const std::string& key) {
    std::erase_if(writer.keys, [&](const auto& pair) { return pair.first == key; });
  }
  template <typename T>
  void set(const std::string& key, const T& value) {
    erase_key(key);
    writer.key(key, value);
  }
  template <typename T>
  void set_list(const std::string& key, const std::vector<T>& values) {
    erase_key(key);
    writer.array(key, values);
  }
  void set_size(const std::string& key, std::size_t value) {
    set("qwen35." + key, static_cast<std::uint32_t>(value));
  }

  Model load() const {
    const test::TempFolder folder;
    return load_model(folder.write("some.gguf", writer.file()));
  }
  ModelConfig read() const {
    const test::TempFolder folder;
    return read_config(folder.write("some.gguf", writer.file()));
  }
  std::string failure() const {
    const std::string message = test::error_of([&] { load(); });
    EXPECT_THAT(message, HasSubstr("some.gguf"));
    return message;
  }
};

File small_file(test::Random& random, const Shapes& shapes = {}) {
  File file;
  file.config = parse_config(test::text_config(shapes), "config.json");
  file.hf = test::CheckpointTensors(random, shapes, "model.").draw();
  file.writer = test::GgufConverter(file.config, file.hf, "model.").convert();
  return file;
}

class GgufFile : public testing::Test {
 protected:
  test::Random random_{test::fresh_seed()};
  File file_ = small_file(random_);
};

TEST_F(GgufFile, SaysWhatItIs) {
  file_.set("tokenizer.ggml.eos_token_id", std::uint32_t{3});
  file_.set("tokenizer.ggml.eot_token_id", std::uint32_t{3});
  file_.set("tokenizer.ggml.eom_token_id", std::uint32_t{5});
  const ModelConfig config = file_.read();
  EXPECT_EQ(config.model_type, "qwen35");
  EXPECT_THAT(config.eos_token_ids, ElementsAre(3, 5));
  for (GgufWriter::Tensor& tensor : file_.writer.tensors) {
    std::size_t n = 1;
    for (const std::uint64_t extent : tensor.dimensions) n *= extent;
    tensor.type = ggml::kBF16;
    tensor.data = test::random_stored(random_, "BF16", n);
    if (!tensor.name.ends_with("ssm_a")) continue;
    for (std::size_t i = 0; i < n; ++i)
      tensor.data[2 * i + 1] = static_cast<char>(tensor.data[2 * i + 1] | 0x80);
  }
  EXPECT_EQ(file_.read().dtype, "BF16");
  EXPECT_NO_THROW(file_.load());  // vectors of 16 bits too
}

TEST_F(GgufFile, OutlivesItsNameAndReportsProgress) {
  const test::TempFolder folder;
  const std::filesystem::path path = folder.write("some.gguf", file_.writer.file());
  std::vector<std::pair<std::size_t, std::size_t>> calls;
  const Model model =
      load_model(path, [&](std::size_t done, std::size_t total) { calls.emplace_back(done, total); });
  std::filesystem::remove(path);
  EXPECT_NO_THROW(check_finite(model));
  ASSERT_FALSE(calls.empty());
  EXPECT_TRUE(std::is_sorted(calls.begin(), calls.end()));
  EXPECT_EQ(calls.back().first, calls.back().second);
  EXPECT_EQ(model.tensors.front().file, path);
}

TEST_F(GgufFile, OtherArchitecturesAreNamed) {
  for (const char* name : {"llama", "qwen35moe", "qwen3next", ""}) {
    file_.set("general.architecture", std::string(name));
    EXPECT_THAT(file_.failure(), AllOf(HasSubstr("general.architecture"),
                                       HasSubstr('"' + std::string(name) + '"'), HasSubstr("\"qwen35\"")));
  }
  file_.set("general.architecture", std::uint32_t{7});
  EXPECT_THAT(file_.failure(), HasSubstr("general.architecture"));
  file_.erase_key("general.architecture");
  EXPECT_THAT(file_.failure(), AllOf(HasSubstr("general.architecture"), HasSubstr("missing")));
}

// Every number of the config comes from a key of its own: without it, or with nonsense in it, there is no model.
TEST_F(GgufFile, EveryKeyMustBeThereAndInRange) {
  const std::vector<std::string> sizes = {
      "block_count",          "context_length",          "embedding_length",     "feed_forward_length",
      "attention.head_count", "attention.head_count_kv", "attention.key_length", "rope.dimension_count",
      "ssm.conv_kernel",      "ssm.state_size",          "ssm.group_count",      "ssm.time_step_rank",
      "ssm.inner_size"};
  const std::vector<std::string> numbers = {"rope.freq_base", "attention.layer_norm_rms_epsilon"};
  const auto expect_named = [](const File& file, const std::string& key) {
    EXPECT_THAT(file.failure(), HasSubstr("qwen35." + key));
  };
  for (const std::string& key : sizes) {
    File file = file_;
    file.erase_key("qwen35." + key);
    EXPECT_THAT(file.failure(),
                AllOf(HasSubstr("qwen35." + key), HasSubstr("missing"), HasSubstr("an integer from 1")));
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1} << 40U, ~std::uint64_t{0}}) {
      file.set("qwen35." + key, value);
      expect_named(file, key);
    }
    file.set("qwen35." + key, std::int32_t{-4});
    expect_named(file, key);
    file.set("qwen35." + key, 4.0F);
    expect_named(file, key);
    file.set("qwen35." + key, std::string("4"));
    expect_named(file, key);
  }
  for (const std::string& key : numbers) {
    File file = file_;
    file.erase_key("qwen35." + key);
    EXPECT_THAT(file.failure(), AllOf(HasSubstr("qwen35." + key), HasSubstr("missing")));
    for (const float value : {0.0F, -1.0F, 3e38F, std::numeric_limits<float>::infinity(), std::nanf("")}) {
      file.set("qwen35." + key, value);
      expect_named(file, key);
    }
    file.set("qwen35." + key, 1e300);
    expect_named(file, key);
    file.set("qwen35." + key, true);
    expect_named(file, key);
  }
}

TEST_F(GgufFile, KeysMustFitTogether) {
  const auto failure = [&](const std::string& key, std::size_t value) {
    File file = file_;
    file.set_size(key, value);
    return file.failure();
  };
  EXPECT_THAT(failure("attention.head_count", 5), HasSubstr("qwen35.attention.head_count is 5"));
  EXPECT_THAT(failure("attention.value_length", 9), HasSubstr("qwen35.attention.value_length is 9"));
  EXPECT_THAT(failure("rope.dimension_count", 3), HasSubstr("qwen35.rope.dimension_count is 3"));
  EXPECT_THAT(failure("rope.dimension_count", 10), HasSubstr("qwen35.rope.dimension_count is 10"));
  EXPECT_THAT(failure("ssm.group_count", 4), HasSubstr("qwen35.ssm.time_step_rank is 6"));
  EXPECT_THAT(failure("ssm.inner_size", 31), HasSubstr("qwen35.ssm.inner_size is 31"));
  EXPECT_THAT(failure("attention.key_length", 1U << 23U), HasSubstr("qwen35.attention"));
  EXPECT_THAT(failure("nextn_predict_layers", 4), HasSubstr("qwen35.nextn_predict_layers is 4"));
  EXPECT_THAT(failure("nextn_predict_layers", 65), HasSubstr("qwen35.nextn_predict_layers is 65"));
  EXPECT_THAT(failure("block_count", 5000), HasSubstr("qwen35.block_count"));
  EXPECT_THAT(failure("embedding_length", 7), AllOf(HasSubstr("token_embd.weight"), HasSubstr("[7, 6]")));
  EXPECT_THAT(failure("expert_count", 8), HasSubstr("qwen35.expert_count"));
  EXPECT_THAT(failure("full_attention_interval", 0), HasSubstr("qwen35.full_attention_interval is 0"));

  File file = file_;
  file.set("qwen35.rope.scaling.type", std::string("yarn"));
  EXPECT_THAT(file.failure(), AllOf(HasSubstr("qwen35.rope.scaling.type"), HasSubstr("yarn")));
  file = file_;
  file.set("qwen35.ssm.v_head_reordered", false);
  EXPECT_THAT(file.failure(), HasSubstr("qwen35.ssm.v_head_reordered"));
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    file = file_;
    file.set(key, std::uint32_t{7});  // the vocabulary has 7
    EXPECT_THAT(file.failure(), AllOf(HasSubstr(key), HasSubstr("0 to 6")));
  }
}

TEST_F(GgufFile, SectionsOfRopeMayBeAbsentOrThree) {
  file_.erase_key("qwen35.rope.dimension_sections");
  EXPECT_NO_THROW(file_.load());
  file_.set_list<std::int32_t>("qwen35.rope.dimension_sections", {11, 11, 10});
  EXPECT_NO_THROW(file_.load());
  file_.set_list<std::int32_t>("qwen35.rope.dimension_sections", {11, 11});
  EXPECT_THAT(file_.failure(), HasSubstr("qwen35.rope.dimension_sections"));
}

TEST_F(GgufFile, TheLayerPatternIsAListOrARule) {
  EXPECT_THAT(file_.read().layers, ElementsAre(D, D, A));
  file_.set_size("full_attention_interval", 2);
  EXPECT_THAT(file_.read().layers, ElementsAre(D, A, D));
  file_.set_list<std::int32_t>("qwen35.attention.recurrent_layers", {0, 1, 0, 0});  // wins; the last is MTP's
  EXPECT_THAT(file_.read().layers, ElementsAre(A, D, A));
  file_.set_list<std::int32_t>("qwen35.attention.recurrent_layers", {0, 0, 1});
  EXPECT_THAT(file_.read().layers, ElementsAre(A, A, D));
  for (const std::vector<std::int32_t>& wrong :
       std::vector<std::vector<std::int32_t>>{{0, 1}, {0, 1, 2, 0}, {}}) {
    file_.set_list("qwen35.attention.recurrent_layers", wrong);
    EXPECT_THAT(test::error_of([&] { file_.read(); }), HasSubstr("qwen35.attention.recurrent_layers"));
  }
  file_.erase_key("qwen35.attention.recurrent_layers");
  file_.erase_key("qwen35.full_attention_interval");
  EXPECT_THAT(file_.read().layers, ElementsAre(D, D, D));  // every fourth, of three
}

// What Ollama's converter writes in its own way.
TEST_F(GgufFile, OllamasSpellingIsUnderstood) {
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
  EXPECT_THAT(got.config.eos_token_ids, ElementsAre(6, 4));
  for (const std::vector<std::uint32_t>& wrong :
       std::vector<std::vector<std::uint32_t>>{{0, 0}, {0, 0, 0}, {0, 1, 2}, {0, 0, 1U << 30U}}) {
    file_.set_list("qwen35.attention.head_count_kv", wrong);
    EXPECT_THAT(file_.failure(), HasSubstr("qwen35.attention.head_count_kv"));
  }
}

// ggml_n_dims leaves out trailing extents of one: a matrix of one row comes as a vector.
TEST(GgufModel, AMatrixOfOneRowMayBeAVector) {
  test::Random random(test::fresh_seed());
  Shapes shapes;
  shapes.key_heads = shapes.ratio = 1;
  File file = small_file(random, shapes);
  auto& dimensions = file.tensor("blk.0.ssm_beta.weight").dimensions;
  ASSERT_EQ(dimensions, (std::vector<std::uint64_t>{6, 1}));
  const Model want = file.load();
  dimensions.pop_back();
  expect_same(file.load().weights, want.weights);
}

TEST_F(GgufFile, EveryMissingTensorIsNamed) {
  const File whole = file_;
  for (const GgufWriter::Tensor& tensor : whole.writer.tensors) {
    File file = whole;
    std::erase_if(file.writer.tensors, [&](const auto& t) { return t.name == tensor.name; });
    if (tensor.name == "output.weight") {
      EXPECT_TRUE(file.load().config.tie_word_embeddings);
    } else {
      EXPECT_THAT(file.failure(), AllOf(HasSubstr("no tensor "), HasSubstr(tensor.name)));
    }
  }
}

TEST_F(GgufFile, EveryWrongShapeIsNamedWithBothShapes) {
  const File whole = file_;
  for (const GgufWriter::Tensor& right : whole.writer.tensors) {
    std::vector<std::vector<std::uint64_t>> wrong = {right.dimensions, right.dimensions};
    wrong[0].back() += 1;
    wrong[1].insert(wrong[1].begin(), 2);
    if (right.dimensions.size() == 2 && right.dimensions[0] != right.dimensions[1])
      wrong.push_back({right.dimensions[1], right.dimensions[0]});
    for (const std::vector<std::uint64_t>& dimensions : wrong) {
      if (right.name == "token_embd.weight" && &dimensions == wrong.data()) continue;  // a larger vocabulary
      File file = whole;
      std::size_t n = 1;
      for (const std::uint64_t extent : dimensions) n *= extent;
      GgufWriter::Tensor& tensor = file.tensor(right.name);
      tensor.dimensions = dimensions;
      tensor.type = ggml::kF32;
      tensor.data = test::random_stored(random_, "F32", n);
      const std::vector<std::size_t> shape(dimensions.rbegin(), dimensions.rend());
      EXPECT_THAT(file.failure(), HasSubstr("tensor " + right.name + " is " + shape_text(shape)));
    }
  }
}

TEST_F(GgufFile, ATypeThatIsNotReadIsNamed) {
  const File whole = file_;
  for (const GgufWriter::Tensor& right : whole.writer.tensors) {
    File file = whole;
    GgufWriter::Tensor& tensor = file.tensor(right.name);
    std::size_t n = 1;
    for (const std::uint64_t extent : tensor.dimensions) n *= extent;
    tensor.type = ggml::kI32;
    tensor.data = std::string(4 * n, '\1');
    EXPECT_THAT(file.failure(), AllOf(HasSubstr(right.name), HasSubstr("I32")));
  }
  file_.writer.tensor("v.patch_embed.weight", ggml::kI32, {1}, "abcd")
      .tensor("extra", ggml::kF32, {1}, "abcd");
  EXPECT_THAT(file_.load().skipped, ElementsAre("extra", "v.patch_embed.weight"));
}

TEST_F(GgufFile, NanAndInfinityInAVectorAreErrorsThatNameIt) {
  const File whole = file_;
  for (const GgufWriter::Tensor& right : whole.writer.tensors) {
    if (right.dimensions.size() != 1 && !right.name.ends_with("ssm_conv1d.weight")) continue;
    File file = whole;
    std::string& data = file.tensor(right.name).data;  // fp32
    const std::size_t at = test::pick(random_, 0, data.size() / 4 - 1);
    for (const float value : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      data.replace(4 * at, 4, test::gguf_bytes(value));
      EXPECT_THAT(file.failure(), AllOf(HasSubstr(right.name), HasSubstr("index " + std::to_string(at))));
    }
  }
}

TEST_F(GgufFile, ADecayThatGrowsIsAnError) {
  std::string& data = file_.tensor("blk.1.ssm_a").data;
  data.replace(8, 4, test::gguf_bytes(0.0F));
  EXPECT_NO_THROW(file_.load());
  data.replace(8, 4, test::gguf_bytes(0.25F));
  EXPECT_THAT(file_.failure(),
              AllOf(HasSubstr("blk.1.ssm_a"), HasSubstr("index 2"), HasSubstr("-exp(A_log)")));
}

TEST_F(GgufFile, MtpIsCompleteOrAbsentOrNotConfigured) {
  const auto is_mtp = [](const GgufWriter::Tensor& t) { return t.name.starts_with("blk.3."); };
  File absent = file_;
  std::erase_if(absent.writer.tensors, is_mtp);
  const Model without = absent.load();
  EXPECT_FALSE(without.weights.mtp.has_value());
  EXPECT_EQ(without.config.n_mtp_layers, 1U);

  File unknown = file_;
  unknown.erase_key("qwen35.nextn_predict_layers");
  unknown.set_size("block_count", 3);
  const Model skipping = unknown.load();
  EXPECT_FALSE(skipping.weights.mtp.has_value());
  EXPECT_THAT(skipping.skipped, Contains("blk.3.nextn.eh_proj.weight"));
}

TEST_F(GgufFile, IsAFileNotAFolder) {
  const test::TempFolder folder;
  const auto at = [&](const char* name) { return folder.path() / name; };
  EXPECT_THAT(test::error_of([&] { load_model(at("none.gguf")); }), HasSubstr("none.gguf"));
  EXPECT_THAT(test::error_of([&] { read_config(at("none.gguf")); }), HasSubstr("none.gguf"));
  std::filesystem::create_directory(at("folder.gguf"));
  EXPECT_THAT(test::error_of([&] { load_model(at("folder.gguf")); }), HasSubstr("config.json"));
  folder.write("a.gguf", "");
  EXPECT_THAT(test::error_of([&] { load_model(at("a.gguf")); }), HasSubstr("a.gguf"));
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
  File file = small_file(random, wide_shapes());
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

// The rows are those of the stored blocks, in the stored order, and the oracle computes with them what it computes with the
// same numbers in fp32.
TEST(GgufModel, QuantizedMatricesAreReadRowByRow) {
  test::Random random(test::fresh_seed());
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
  test::Random random(test::fresh_seed());
  const File whole = small_file(random, wide_shapes());
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
