#include "model/config.h"

#include <cmath>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "tests/support/checkpoints.h"
#include "tests/support/errors.h"
#include "tests/support/temp_folder.h"

namespace sluice::model {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr LayerKind D = LayerKind::kDeltaNet;
constexpr LayerKind A = LayerKind::kAttention;

Json good() {
  return test::text_config(test::Shapes{});
}

Json with(const char* field, Json value, Json config = good()) {
  config[field] = std::move(value);
  return config;
}

Json without(const char* field, Json config = good()) {
  config.erase(field);
  return config;
}

ModelConfig parse(const Json& json) {
  return parse_config(json, "some/config.json");
}

std::string failure(const Json& json) {
  const std::string message = test::error_of([&] { parse(json); });
  EXPECT_THAT(message, HasSubstr("some/config.json"));
  return message;
}

TEST(Config, EveryNumberComesFromTheFile) {
  test::Random random(test::seed_of_test());
  for (int round = 0; round < 300; ++round) {
    const test::Shapes shapes = test::random_shapes(random);
    const bool nested = random() % 2 == 0;
    const Json text = test::text_config(shapes);
    const ModelConfig config = parse(nested ? test::nested_config(text) : text);
    ASSERT_EQ(config.model_type, nested ? "qwen3_5" : "qwen3_5_text");
    ASSERT_EQ(config.dtype, "bfloat16");
    ASSERT_EQ(config.vocab_size, shapes.vocab);
    ASSERT_EQ(config.hidden_size, shapes.hidden);
    ASSERT_EQ(config.intermediate_size, shapes.intermediate);
    ASSERT_EQ(config.n_layers(), shapes.layers);
    for (std::size_t i = 0; i < shapes.layers; ++i) ASSERT_EQ(config.layers[i] == A, shapes.is_attention(i));
    ASSERT_EQ(config.n_heads, shapes.heads);
    ASSERT_EQ(config.n_kv_heads, shapes.kv_heads);
    ASSERT_EQ(config.head_dim, shapes.head_dim);
    ASSERT_EQ(config.rotary_dim, shapes.head_dim / 2);
    ASSERT_EQ(config.n_key_heads, shapes.key_heads);
    ASSERT_EQ(config.n_value_heads, shapes.value_heads());
    ASSERT_EQ(config.key_head_dim, shapes.key_dim);
    ASSERT_EQ(config.value_head_dim, shapes.value_dim);
    ASSERT_EQ(config.conv_kernel, shapes.kernel);
    ASSERT_EQ(config.conv_dim(), shapes.conv_dim());
    ASSERT_EQ(config.n_mtp_layers, shapes.mtp_layers);
    ASSERT_EQ(config.tie_word_embeddings, shapes.tied);
  }
}

// transformers 5.12.1, Qwen3_5TextConfig: what may be absent, and what it is then. null counts as absent.
TEST(Config, DefaultsAreThoseOfTransformers) {
  for (const bool null : {false, true}) {
    Json json = good();
    for (const char* field : {"dtype", "mtp_num_hidden_layers", "tie_word_embeddings", "rope_parameters",
                              "full_attention_interval", "layer_types", "rms_norm_eps", "hidden_act"}) {
      if (null) {
        json[field] = nullptr;
      } else {
        json.erase(field);
      }
    }
    json["num_hidden_layers"] = 5;
    const ModelConfig config = parse(json);
    EXPECT_EQ(config.dtype, "");
    EXPECT_EQ(config.n_mtp_layers, 0U);
    EXPECT_FALSE(config.tie_word_embeddings);
    EXPECT_EQ(config.rope_theta, 10000.0);
    EXPECT_EQ(config.rotary_dim, 2U);  // a quarter of 8
    EXPECT_THAT(config.layers, ElementsAre(D, D, D, A, D));
    EXPECT_EQ(config.rms_norm_eps, 1e-6);
    EXPECT_EQ(config.max_positions, 32768U);
    EXPECT_TRUE(config.eos_token_ids.empty());
  }
}

TEST(Config, TheLayerListWinsOverTheInterval) {
  const Json list = {"full_attention", "linear_attention", "full_attention"};
  EXPECT_THAT(parse(with("layer_types", list)).layers, ElementsAre(A, D, A));
  EXPECT_THAT(parse(with("full_attention_interval", 0, with("layer_types", list))).layers,
              ElementsAre(A, D, A));
  EXPECT_THAT(failure(with("full_attention_interval", 0)), HasSubstr("full_attention_interval is 0"));
  EXPECT_THAT(failure(with("layer_types", {"full_attention"})),
              AllOf(HasSubstr("layer_types"), HasSubstr("3")));
  EXPECT_THAT(failure(with("layer_types", "full_attention")), HasSubstr("layer_types"));
  EXPECT_THAT(failure(with("layer_types", {"full_attention", "sliding_attention", "full_attention"})),
              AllOf(HasSubstr("layer_types[1]"), HasSubstr("sliding_attention")));
  EXPECT_THAT(failure(with("layer_types", {"full_attention", 7, "full_attention"})),
              HasSubstr("layer_types[1]"));
}

// The cases and the winners were seen in transformers 5.12.1's AutoConfig.
TEST(Config, RopeIsReadWhereverTransformersReadsIt) {
  struct Case {
    Json fields;
    double theta;
    std::size_t rotary_dim;
  };
  for (const Case& one : std::vector<Case>{
           {{{"rope_parameters", {{"rope_theta", 3e5}, {"partial_rotary_factor", 0.75}}}}, 3e5, 6},
           {{{"rope_parameters", {{"rope_theta", 3e5}}}}, 3e5, 2},
           {{{"rope_parameters", {{"rope_theta", 3e5}}}, {"rope_theta", 7}, {"partial_rotary_factor", 1}},
            3e5,
            8},
           {{{"rope_parameters", {{"rope_theta", 3e5}, {"partial_rotary_factor", 0.5}}},
             {"partial_rotary_factor", 1}},
            3e5,
            4},
           {{{"rope_theta", 5e5}, {"partial_rotary_factor", 0.75}, {"rope_scaling", nullptr}}, 5e5, 6},
           {{{"rope_parameters", Json::object()}, {"rope_theta", 9}}, 9, 2},
           {{{"rope_parameters", {{"rope_theta", 3e5}}},
             {"rope_scaling", {{"rope_type", "default"}}},
             {"rope_theta", 8}},
            8,
            2},
           {{{"rope_parameters", {{"rope_theta", 3e5}}}, {"rope_scaling", Json::object()}}, 3e5, 2},
           {{{"rope_parameters",
              {{"type", "default"}, {"mrope_section", {1, 1, 0}}, {"mrope_interleaved", true}}}},
            1e4,
            2},
           // int() of Python truncates: 8 · 0.6 = 4.8
           {{{"partial_rotary_factor", 0.6}}, 1e4, 4},
       }) {
    SCOPED_TRACE(one.fields.dump());
    Json json = without("rope_parameters");
    json.update(one.fields);
    for (const Json& config : {json, test::nested_config(json)}) {
      EXPECT_EQ(parse(config).rope_theta, one.theta);
      EXPECT_EQ(parse(config).rotary_dim, one.rotary_dim);
    }
  }
}

TEST(Config, RopeThatIsNotKnownOrNotPossibleIsAnError) {
  const auto of_rope = [](Json rope) { return failure(with("rope_parameters", std::move(rope))); };
  EXPECT_THAT(of_rope({{"rope_type", "yarn"}, {"factor", 4.0}}),
              AllOf(HasSubstr("rope_parameters.rope_type"), HasSubstr("yarn")));
  EXPECT_THAT(of_rope({{"type", "linear"}}), AllOf(HasSubstr("rope_parameters.type"), HasSubstr("linear")));
  EXPECT_THAT(failure(with("rope_scaling", {{"type", "dynamic"}})), HasSubstr("rope_scaling.type"));
  EXPECT_THAT(of_rope({{"full_attention", {{"rope_theta", 1e4}}}}),
              HasSubstr("rope_parameters.full_attention"));
  for (const Json& theta :
       {Json(0), Json(-1.0), Json(0.5), Json(1e-300), Json(1e300), Json("10000"), Json(true)})
    EXPECT_THAT(of_rope({{"rope_theta", theta}}), HasSubstr("rope_parameters.rope_theta")) << theta;
  for (const Json& factor :
       {Json(0), Json(-0.5), Json(1.5), Json("1"), Json(0.1), Json(0.375), Json(Json::array())})
    EXPECT_THAT(of_rope({{"partial_rotary_factor", factor}}),
                HasSubstr("rope_parameters.partial_rotary_factor"))
        << factor;
  EXPECT_THAT(of_rope(Json::array()), AllOf(HasSubstr("rope_parameters"), HasSubstr("object")));
}

// The figures were seen in Qwen3_5TextConfig of transformers 5.12.1.
TEST(Config, MissingSizesAreThoseOfTransformers) {
  for (const Json& json : {Json{{"model_type", "qwen3_5_text"}},
                           Json{{"model_type", "qwen3_5"}, {"text_config", Json::object()}}}) {
    const ModelConfig config = parse(json);
    EXPECT_EQ(config.vocab_size, 248320U);
    EXPECT_EQ(config.hidden_size, 4096U);
    EXPECT_EQ(config.intermediate_size, 12288U);
    EXPECT_EQ(config.n_layers(), 32U);
    EXPECT_EQ(config.n_heads, 16U);
    EXPECT_EQ(config.n_kv_heads, 4U);
    EXPECT_EQ(config.head_dim, 256U);
    EXPECT_EQ(config.rotary_dim, 64U);
    EXPECT_EQ(config.n_key_heads, 16U);
    EXPECT_EQ(config.n_value_heads, 32U);
    EXPECT_EQ(config.key_head_dim, 128U);
    EXPECT_EQ(config.value_head_dim, 128U);
    EXPECT_EQ(config.conv_kernel, 4U);
  }
}

class Dimension : public testing::TestWithParam<const char*> {};

TEST_P(Dimension, MustBeInRangeIfItIsThere) {
  const char* field = GetParam();
  EXPECT_THAT(failure(test::nested_config(with(field, 0))), HasSubstr(std::string("text_config.") + field));
  for (const Json& value :
       {Json(nullptr), Json(0), Json(-1), Json(4.0), Json("4"), Json(true), Json::array({4}), Json::object(),
        Json((1U << 24U) + 1), Json(~std::uint64_t{0}), Json(std::int64_t{-9223372036854775807})})
    EXPECT_THAT(failure(with(field, value)), AllOf(HasSubstr(field), HasSubstr("integer from 1 to")))
        << value;
}

INSTANTIATE_TEST_SUITE_P(Config, Dimension,
                         testing::Values("vocab_size", "hidden_size", "intermediate_size",
                                         "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                                         "head_dim", "linear_num_key_heads", "linear_num_value_heads",
                                         "linear_key_head_dim", "linear_value_head_dim",
                                         "linear_conv_kernel_dim"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST(Config, DimensionsMustDivideAndTheirProductsStayInRange) {
  EXPECT_THAT(failure(with("num_attention_heads", 5)),
              AllOf(HasSubstr("num_attention_heads is 5"), HasSubstr("num_key_value_heads = 2")));
  EXPECT_THAT(failure(with("linear_num_value_heads", 3)),
              AllOf(HasSubstr("linear_num_value_heads is 3"), HasSubstr("linear_num_key_heads = 2")));
  const Json wide = with("num_attention_heads", 1U << 20U, with("head_dim", 1U << 20U));
  EXPECT_THAT(failure(wide), HasSubstr("num_attention_heads × head_dim"));
  EXPECT_THAT(failure(with("linear_num_key_heads", 1U << 20U,
                           with("linear_num_value_heads", 1U << 20U, with("linear_key_head_dim", 32)))),
              HasSubstr("linear_num_key_heads × linear_key_head_dim"));
  EXPECT_THAT(failure(with("linear_num_value_heads", 1U << 20U, with("linear_value_head_dim", 32))),
              HasSubstr("linear_num_value_heads × linear_value_head_dim"));
  EXPECT_THAT(failure(with("num_hidden_layers", 4097)), HasSubstr("num_hidden_layers is 4097"));
}

TEST(Config, OtherModelsAreErrorsThatNameTheField) {
  EXPECT_THAT(failure(with("model_type", "qwen3_5_moe")),
              AllOf(HasSubstr("model_type"), HasSubstr("qwen3_5_moe")));
  EXPECT_THAT(failure(with("model_type", 3)), HasSubstr("model_type"));
  EXPECT_THAT(failure(without("model_type")), HasSubstr("model_type"));
  Json moe = test::nested_config(good());
  moe["text_config"]["model_type"] = "qwen3_5_moe_text";
  EXPECT_THAT(failure(moe), HasSubstr("text_config.model_type"));
  EXPECT_THAT(failure(without("text_config", test::nested_config(good()))), HasSubstr("text_config"));
  EXPECT_THAT(failure(with("text_config", 1, test::nested_config(good()))), HasSubstr("text_config"));
  EXPECT_THAT(failure(with("attention_bias", true)), HasSubstr("attention_bias is true"));
  EXPECT_THAT(failure(with("mlp_bias", true)), HasSubstr("mlp_bias is true"));
  EXPECT_THAT(failure(with("use_sliding_window", true)), HasSubstr("use_sliding_window is true"));
  EXPECT_THAT(failure(with("attn_output_gate", false)), HasSubstr("attn_output_gate is false"));
  EXPECT_THAT(failure(with("mtp_use_dedicated_embeddings", true)), HasSubstr("mtp_use_dedicated_embeddings"));
  EXPECT_THAT(failure(with("hidden_act", "gelu")), AllOf(HasSubstr("hidden_act"), HasSubstr("gelu")));
  EXPECT_THAT(failure(with("mlp_only_layers", {1, 2})), HasSubstr("mlp_only_layers"));
  EXPECT_THAT(failure(with("num_experts", 256)), HasSubstr("num_experts is 256"));
  for (const char* field : {"quantization_config", "compression_config"}) {
    const Json quantized = {{"quant_method", "fp8"}};
    EXPECT_THAT(failure(with(field, quantized)), HasSubstr(field));
    EXPECT_THAT(failure(with(field, quantized, test::nested_config(good()))), HasSubstr(field));
    EXPECT_THAT(failure(test::nested_config(with(field, quantized))),
                HasSubstr(std::string("text_config.") + field));
  }
  // The same fields, saying that there is nothing of the kind.
  Json plain = good();
  plain.update({{"attention_bias", false},
                {"mlp_bias", false},
                {"use_sliding_window", false},
                {"sliding_window", 4096},
                {"compression_config", nullptr},
                {"attn_output_gate", true},
                {"hidden_act", "silu"},
                {"mlp_only_layers", Json::array()},
                {"num_experts", 0}});
  EXPECT_NO_THROW(parse(plain));
}

TEST(Config, TheArchitectureStandsInForAMissingModelType) {
  Json json = without("model_type");
  json["architectures"] = {"Qwen3_5ForCausalLM"};
  EXPECT_EQ(parse(json).model_type, "qwen3_5_text");
  EXPECT_EQ(parse(without("model_type", test::nested_config(good()))).model_type, "qwen3_5");
  json["architectures"] = {"LlamaForCausalLM"};
  EXPECT_THAT(failure(json), HasSubstr("model_type"));
}

TEST(Config, FieldsThatStandInEitherPlace) {
  EXPECT_EQ(parse(with("torch_dtype", "float16", without("dtype"))).dtype, "float16");
  EXPECT_EQ(parse(with("torch_dtype", "float16")).dtype, "bfloat16");
  EXPECT_EQ(parse(with("dtype", "float32", test::nested_config(without("dtype")))).dtype, "float32");

  const auto tied = [](const Json& outer, const Json& inner) {
    Json json = test::nested_config(with("tie_word_embeddings", inner));
    json["tie_word_embeddings"] = outer;
    return parse(json).tie_word_embeddings;
  };
  EXPECT_TRUE(tied(true, nullptr));
  EXPECT_TRUE(tied(nullptr, true));
  EXPECT_TRUE(tied(true, false));  // the outer config is the one of the model that was saved
  EXPECT_FALSE(tied(false, true));
  EXPECT_FALSE(tied(nullptr, nullptr));
}

TEST(Config, EpsilonPositionsAndFlagsAreChecked) {
  EXPECT_EQ(parse(with("rms_norm_eps", 1)).rms_norm_eps, 1.0);
  for (const Json& eps : {Json(0), Json(-1e-6), Json(1e-300), Json(1e300), Json("1e-6"), Json(false)})
    EXPECT_THAT(failure(with("rms_norm_eps", eps)), HasSubstr("rms_norm_eps")) << eps;
  EXPECT_THAT(failure(with("max_position_embeddings", 0)), HasSubstr("max_position_embeddings"));
  EXPECT_THAT(failure(with("max_position_embeddings", std::uint64_t{1} << 40U)),
              HasSubstr("max_position_embeddings"));
  EXPECT_THAT(failure(with("tie_word_embeddings", 1)), HasSubstr("tie_word_embeddings"));
  EXPECT_THAT(failure(with("dtype", 1)), HasSubstr("dtype"));
  EXPECT_THAT(failure(with("mtp_num_hidden_layers", 65)), HasSubstr("mtp_num_hidden_layers"));
  EXPECT_THAT(failure(Json::array()), HasSubstr("object"));
  EXPECT_THAT(failure(Json(3)), HasSubstr("object"));
}

TEST(Config, EndTokensAreCollectedFromEverywhereOnce) {
  EXPECT_THAT(parse(with("eos_token_id", 3)).eos_token_ids, ElementsAre(3));
  EXPECT_THAT(parse(with("eos_token_id", {6, 0, 6})).eos_token_ids, ElementsAre(0, 6));
  Json nested = test::nested_config(with("eos_token_id", 3));
  nested["eos_token_id"] = {4, 3};
  EXPECT_THAT(parse(nested).eos_token_ids, ElementsAre(3, 4));
  for (const Json& id : {Json(7), Json(-1), Json("3"), Json(1.0), Json::array({1, 7}), Json::array({nullptr}),
                         Json::object({{"a", 1}})})
    EXPECT_THAT(failure(with("eos_token_id", id)), HasSubstr("eos_token_id")) << id;

  Json many = Json::array();
  for (int id = 0; id <= 1000; ++id) many.push_back(id);
  EXPECT_THAT(failure(with("eos_token_id", many, with("vocab_size", 5000))), HasSubstr("at most 1000"));

  const test::TempFolder folder;
  folder.write("config.json", with("eos_token_id", 3).dump());
  EXPECT_THAT(read_config(folder.path()).eos_token_ids, ElementsAre(3));
  folder.write("generation_config.json", R"({"eos_token_id": [5, 3], "temperature": 0.5})");
  EXPECT_THAT(read_config(folder.path()).eos_token_ids, ElementsAre(3, 5));
  folder.write("generation_config.json", R"({"eos_token_id": 700})");
  EXPECT_THAT(test::error_of([&] { read_config(folder.path()); }), HasSubstr("generation_config.json"));
  folder.write("generation_config.json", R"({"eos_token_id": )");
  EXPECT_THAT(test::error_of([&] { read_config(folder.path()); }), HasSubstr("generation_config.json"));
}

TEST(Config, AFolderWithoutAUsableConfigIsAnErrorThatNamesTheFile) {
  const test::TempFolder folder;
  const auto failure_of = [&] { return test::error_of([&] { read_config(folder.path()); }); };
  EXPECT_THAT(failure_of(), HasSubstr("config.json"));
  for (const char* text : {"", "{", "[]", "null", "{\"model_type\": \"a\", \"model_type\": \"b\"}", "{}"}) {
    folder.write("config.json", text);
    EXPECT_THAT(failure_of(), HasSubstr("config.json")) << text;
  }
}

// One field replaced by one of many odd values: a config or an Error, and a config only inside the limits.
TEST(Config, NoValueOfAnyFieldDoesWorseThanAnError) {
  const std::vector<Json> odd = {nullptr,
                                 true,
                                 0,
                                 1,
                                 2,
                                 3,
                                 -1,
                                 1e300,
                                 -1e-300,
                                 0.5,
                                 "",
                                 "x",
                                 1U << 24U,
                                 ~std::uint64_t{0},
                                 Json::array(),
                                 Json::array({1}),
                                 Json::object(),
                                 Json::object({{"rope_theta", {}}}),
                                 "\xff"};
  std::size_t accepted = 0;
  for (const Json& base : {good(), test::nested_config(good())}) {
    const Json& fields = base.contains("text_config") ? base["text_config"] : base;
    for (const auto& item : fields.items()) {
      for (const Json& value : odd) {
        Json json = base;
        (base.contains("text_config") ? json["text_config"] : json)[item.key()] = value;
        try {
          const ModelConfig config = parse(json);
          ++accepted;
          ASSERT_LE(config.rotary_dim, config.head_dim);
          ASSERT_EQ(config.rotary_dim % 2, 0U);
          ASSERT_EQ(config.n_heads % config.n_kv_heads, 0U);
          ASSERT_EQ(config.n_value_heads % config.n_key_heads, 0U);
          ASSERT_LE(config.value_dim(), 1U << 24U);
          ASSERT_TRUE(std::isfinite(config.rope_theta) && config.rope_theta > 0);
        } catch (const Error& error) {
          ASSERT_THAT(error.what(), AllOf(HasSubstr("some/config.json"), testing::Not(HasSubstr("\n"))));
        }
      }
    }
  }
  EXPECT_GT(accepted, 0U);
}

}  // namespace
}  // namespace sluice::model
