// Risk: a GGUF of a model that is wrong, or that says what isn't implemented, loads all the same.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/gguf_model.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_model_file.h"
#include "tests/support/same_model.h"
#include "tests/support/temp_folder.h"

namespace sluice::model {
namespace {

using test::GgufWriter;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using File = test::GgufModelFile;
namespace ggml = test::ggml;

constexpr LayerKind D = LayerKind::kDeltaNet;
constexpr LayerKind A = LayerKind::kAttention;

class GgufFile : public testing::Test {
 protected:
  test::Random random_{test::seed_of_test()};
  File file_ = test::small_gguf(random_);
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
  file.set("qwen35.ssm.v_head_reordered", false);
  EXPECT_THAT(file.failure(), HasSubstr("qwen35.ssm.v_head_reordered"));
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    file = file_;
    file.set(key, std::uint32_t{7});  // the vocabulary has 7
    EXPECT_THAT(file.failure(), AllOf(HasSubstr(key), HasSubstr("0 to 6")));
  }
}

// What counts is what llama.cpp counts: no type means linear, 0 is no factor, the newer key wins.
TEST_F(GgufFile, ScaledRopeIsNotImplemented) {
  const std::string at = "qwen35.rope.";
  for (const char* type : {"yarn", "longrope", "", "Linear"}) {
    File file = file_;
    file.set(at + "scaling.type", std::string(type));
    EXPECT_THAT(file.failure(),
                AllOf(HasSubstr(at + "scaling.type"), HasSubstr('"' + std::string(type) + '"')));
  }
  for (const char* key : {"scaling.factor", "scale_linear"}) {
    for (const char* type : {"linear", "none", static_cast<const char*>(nullptr)}) {
      File file = file_;
      if (type != nullptr) file.set(at + "scaling.type", std::string(type));
      for (const float factor : {0.0F, 1.0F}) {
        file.set(at + key, factor);
        EXPECT_NO_THROW(file.load());
      }
      for (const float factor : {4.0F, 0.5F, -1.0F, std::nanf("")}) {
        file.set(at + key, factor);
        if (type != nullptr && std::string(type) == "none") {
          EXPECT_NO_THROW(file.load());
        } else {
          EXPECT_THAT(file.failure(), HasSubstr(at + key + " is "));
        }
      }
    }
  }
  File file = file_;
  file.set(at + "scale_linear", 4.0F);
  file.set(at + "scaling.factor", 1.0F);
  EXPECT_NO_THROW(file.load());
  file.set(at + "scaling.type", std::string("none"));
  file.set(at + "scaling.attn_factor", 1.0F);
  EXPECT_NO_THROW(file.load());
  file.set(at + "scaling.attn_factor", 0.5F);
  EXPECT_THAT(file.failure(), HasSubstr(at + "scaling.attn_factor is 0.5"));
  for (const std::uint32_t type : {std::uint32_t{ggml::kF32}, std::uint32_t{ggml::kI32}}) {
    file = file_;
    file.writer.tensor("rope_freqs.weight", type, {2}, "abcdefgh");
    EXPECT_THAT(file.failure(), HasSubstr("rope_freqs.weight"));
  }
}

TEST_F(GgufFile, AListWithOneNumberForAllLayersIsThatNumber) {
  const ModelConfig want = file_.read();
  const auto all = [](std::uint32_t value, std::size_t n) { return std::vector<std::uint32_t>(n, value); };
  for (const std::size_t n : {3U, 4U}) {
    file_.set_list("qwen35.attention.head_count", all(4, n));
    file_.set_list("qwen35.attention.head_count_kv", all(2, n));
    file_.set_list("qwen35.feed_forward_length", all(10, n));
    test::expect_same(file_.read(), want);
  }
  for (const char* key : {"attention.head_count", "feed_forward_length"}) {
    for (const std::vector<std::int32_t>& wrong : std::vector<std::vector<std::int32_t>>{
             {4, 4, 8}, {0, 0, 4}, {4, 4}, {4, 4, 4, 4, 4}, {0, 0, 0}, {-4, -4, -4}, {}}) {
      File file = file_;
      file.set_list(std::string("qwen35.") + key, wrong);
      EXPECT_THAT(file.failure(), HasSubstr(std::string("qwen35.") + key));
    }
  }
}

// A file of llama.cpp's names one of them; run stops at both.
TEST_F(GgufFile, EndTokensAreAlsoFoundByName) {
  file_.set_list<std::string>("tokenizer.ggml.tokens",
                              {"a", "<|im_end|>", "<|im_end|> ", "b", "<|endoftext|>", "<|im_start|>"});
  file_.set("tokenizer.ggml.eos_token_id", std::uint32_t{4});
  EXPECT_THAT(file_.read().eos_token_ids, ElementsAre(1, 4));
  file_.set("tokenizer.ggml.eos_token_id", std::uint32_t{0});
  EXPECT_THAT(file_.read().eos_token_ids, ElementsAre(0, 1, 4));
  std::vector<std::string> tokens(8, "a");
  tokens.back() = "<|im_end|>";  // the model has 7
  file_.set_list("tokenizer.ggml.tokens", tokens);
  EXPECT_THAT(file_.failure(), HasSubstr("tokenizer.ggml.tokens"));
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

TEST_F(GgufFile, EveryMissingTensorIsNamed) {
  const File whole = file_;
  for (const GgufWriter::Tensor& tensor : whole.writer.tensors) {
    File file = whole;
    std::erase_if(file.writer.tensors, [&](const auto& t) { return t.name == tensor.name; });
    if (tensor.name == "output.weight") {
      EXPECT_TRUE(file.load().config.tie_word_embeddings);
    } else if (tensor.name == "blk.3.nextn.shared_head_norm.weight") {
      const Model model = file.load();  // llama.cpp's stand-in
      test::expect_bits(model.weights.mtp->norm, model.weights.norm, tensor.name);
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

  File among_layers = file_;
  among_layers.erase_key("qwen35.nextn_predict_layers");
  EXPECT_THAT(among_layers.failure(),
              AllOf(HasSubstr("blk.3.nextn.eh_proj.weight"), HasSubstr("qwen35.nextn_predict_layers")));

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
}  // namespace
}  // namespace sluice::model
