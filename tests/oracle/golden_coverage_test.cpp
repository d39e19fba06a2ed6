// What the golden checkpoints must cover together, read from their files: no case can vanish unnoticed, and none can
// lose the point that it was made for.
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/golden.h"

namespace sluice {
namespace {

using ::testing::IsSubsetOf;
using Numbers = std::set<std::size_t>;

struct Coverage {
  Numbers v_per_k, queries_per_kv, kv_heads, head_dims, intervals, conv_kernels, prompt_lengths;
  std::set<double> rotary_shares, thetas, epsilons;
  std::set<std::string> model_types, rope_keys, dtype_keys, layer_keys, dtypes, heads;
  std::set<std::string> stored;       // "A_log F32", "embed_tokens BF16", ...
  std::set<std::string> other_names;  // "mtp", "model.visual"
  bool key_size_differs = false;
  bool reordered = false;  // more than one K head, each with several V heads
  bool irregular_layers = false;
  bool odd_sizes = false;  // hidden, intermediate and vocabulary all no multiple of 8, in one case
};

Json header_of(const std::string& name) {
  const MappedFile file(test::golden_folder(name) / "model.safetensors");
  std::uint64_t size = 0;
  std::memcpy(&size, file.text().substr(0, sizeof size).data(), sizeof size);
  return parse_json(file.text().substr(sizeof size, size), name);
}

void add_stored(Coverage& all, const std::string& name) {
  const Json header = header_of(name);
  for (const auto& [tensor, entry] : header.items()) {
    for (const std::string key : {"A_log", "linear_attn.norm", "embed_tokens"})
      if (tensor.find(key) != std::string::npos)
        all.stored.insert(key + " " + entry.at("dtype").get<std::string>());
    for (const std::string prefix : {"mtp.", "model.visual.", "model.language_model.", "model.layers."})
      if (tensor.starts_with(prefix)) all.other_names.insert(prefix);
    if (tensor == "lm_head.weight") all.other_names.insert(tensor);
  }
}

// The interval of the layers as they are: n if exactly every nth attends, else 0.
std::size_t interval_of(const Json& text) {
  if (!text.contains("layer_types")) return text.at("full_attention_interval").get<std::size_t>();
  const auto layers = text.at("layer_types").get<std::vector<std::string>>();
  const auto first = std::find(layers.begin(), layers.end(), "full_attention") - layers.begin() + 1;
  for (std::ptrdiff_t i = 1; i <= std::ssize(layers); ++i)
    if ((layers[static_cast<std::size_t>(i - 1)] == "full_attention") != (i % first == 0)) return 0;
  return static_cast<std::size_t>(first);
}

void add_config(Coverage& all, const Json& config) {
  const bool nested = config.contains("text_config");
  const Json& text = nested ? config.at("text_config") : config;
  const auto number = [&](const char* key) { return text.at(key).get<std::size_t>(); };
  all.model_types.insert(config.at("model_type").get<std::string>());
  all.v_per_k.insert(number("linear_num_value_heads") / number("linear_num_key_heads"));
  all.queries_per_kv.insert(number("num_attention_heads") / number("num_key_value_heads"));
  all.kv_heads.insert(number("num_key_value_heads"));
  all.head_dims.insert(number("head_dim"));
  all.conv_kernels.insert(number("linear_conv_kernel_dim"));
  all.key_size_differs |= number("linear_key_head_dim") != number("linear_value_head_dim");
  all.reordered |=
      number("linear_num_key_heads") > 1 && number("linear_num_value_heads") > number("linear_num_key_heads");
  all.odd_sizes |=
      number("hidden_size") % 8 != 0 && number("intermediate_size") % 8 != 0 && number("vocab_size") % 8 != 0;
  all.heads.insert(config.at("tie_word_embeddings").get<bool>() ? "tied" : "untied");

  const std::size_t interval = interval_of(text);
  all.intervals.insert(interval);
  all.irregular_layers |= interval == 0;
  for (const std::string key : {"layer_types", "full_attention_interval"})
    if (text.contains(key)) all.layer_keys.insert(key);
  for (const std::string key : {"dtype", "torch_dtype"})
    if (text.contains(key)) all.dtype_keys.insert(key);

  const bool rope_dict = text.contains("rope_parameters");
  all.rope_keys.insert(rope_dict ? "rope_parameters" : "top level");
  const Json& rope = rope_dict ? text.at("rope_parameters") : text;
  all.rotary_shares.insert(rope.at("partial_rotary_factor").get<double>());
  all.thetas.insert(rope.at("rope_theta").get<double>());
  all.epsilons.insert(text.at("rms_norm_eps").get<double>());
}

Coverage coverage() {
  Coverage all;
  for (const std::string& name : test::golden_cases()) {
    add_config(all, test::golden_json(name, "config.json"));
    add_stored(all, name);
    for (const auto& prompt : test::golden_prompts(name)) all.prompt_lengths.insert(prompt.tokens.size());
  }
  return all;
}

template <typename T>
void expect_all(const std::set<T>& wanted, const std::set<T>& found) {
  EXPECT_THAT(wanted, IsSubsetOf(found));
}

TEST(GoldenCoverage, ShapesThatTheOracleMustGetRight) {
  EXPECT_GE(test::golden_cases().size(), 12U);
  const Coverage all = coverage();
  expect_all<std::size_t>({1, 2, 3}, all.v_per_k);
  expect_all<std::size_t>({1, 3, 4, 6, 8}, all.queries_per_kv);
  expect_all<std::size_t>({1, 2, 3}, all.kv_heads);
  expect_all<std::size_t>({32, 64, 72, 256}, all.head_dims);
  expect_all<std::size_t>({2, 3, 4}, all.intervals);
  expect_all<std::size_t>({2, 3, 4}, all.conv_kernels);
  expect_all<std::string>({"tied", "untied"}, all.heads);
  EXPECT_TRUE(all.key_size_differs);
  EXPECT_TRUE(all.reordered);
  EXPECT_TRUE(all.irregular_layers);
  EXPECT_TRUE(all.odd_sizes);
  expect_all<double>({0.25, 0.5, 1.0}, all.rotary_shares);
  EXPECT_GE(all.thetas.size(), 4U);
  EXPECT_GE(all.epsilons.size(), 3U);
}

TEST(GoldenCoverage, SpellingsAndTypesOfCheckpoints) {
  const Coverage all = coverage();
  expect_all<std::string>({"qwen3_5", "qwen3_5_text"}, all.model_types);
  expect_all<std::string>({"rope_parameters", "top level"}, all.rope_keys);
  expect_all<std::string>({"dtype", "torch_dtype"}, all.dtype_keys);
  expect_all<std::string>({"layer_types", "full_attention_interval"}, all.layer_keys);
  expect_all<std::string>({"embed_tokens BF16", "embed_tokens F16", "embed_tokens F32", "A_log F32",
                           "A_log BF16", "linear_attn.norm F32", "linear_attn.norm BF16"},
                          all.stored);
  expect_all<std::string>(
      {"mtp.", "model.visual.", "model.language_model.", "model.layers.", "lm_head.weight"}, all.other_names);
}

TEST(GoldenCoverage, PromptLengths) {
  expect_all<std::size_t>({1, 2, 3, 4, 5, 63, 64, 65, 127, 150}, coverage().prompt_lengths);
}

TEST(GoldenCoverage, EveryRowHasFiniteLogits) {
  for (const std::string& name : test::golden_cases()) {
    SCOPED_TRACE(name);
    const Json config = test::golden_json(name, "config.json");
    const Json& text = config.contains("text_config") ? config.at("text_config") : config;
    const auto prompts = test::golden_prompts(name);
    EXPECT_GE(prompts.size(), 3U);
    for (const auto& prompt : prompts) {
      const std::vector<std::size_t> shape{prompt.tokens.size(), text.at("vocab_size").get<std::size_t>()};
      EXPECT_EQ(prompt.logits.shape, shape);
      EXPECT_TRUE(std::all_of(prompt.logits.values.begin(), prompt.logits.values.end(),
                              [](float logit) { return std::isfinite(logit); }));
    }
  }
}

}  // namespace
}  // namespace sluice
