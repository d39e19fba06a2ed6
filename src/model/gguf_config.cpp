// The keys are llama.cpp's (gguf-py/gguf/constants.py; which of them a qwen35 file must have: src/models/qwen35.cpp).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <system_error>

#include <fmt/format.h>

#include "base/error.h"
#include "model/config_checks.h"
#include "model/gguf_model.h"

namespace sluice::model {
namespace {

constexpr const char* kArchitecture = "qwen35";
constexpr std::size_t kDefaultInterval = 4;  // llama.cpp's

// The architecture's own keys, "qwen35.NAME".
class Keys {
 public:
  explicit Keys(const Gguf& file) : file_(file), checks_(file.path().string()) {}

  static std::string full(std::string_view name) {
    return std::string(kArchitecture) + "." + std::string(name);
  }
  const ConfigChecks& checks() const { return checks_; }
  bool is_list(std::string_view name) const {
    const auto found = file_.metadata().values().find(full(name));
    return found != file_.metadata().values().end() && found->second.is_array;
  }

  std::size_t size(std::string_view name, std::size_t high = kMaxSize) const {
    const auto value = file_.whole(full(name));
    if (!value) checks_.fail(full(name), "missing", ConfigChecks::range_text(1, high));
    return checks_.within(full(name), *value, 1, high);
  }

  std::size_t size_or(std::string_view name, std::size_t low, std::size_t high, std::size_t otherwise) const {
    return checks_.within(full(name), file_.whole(full(name)).value_or(otherwise), low, high);
  }

  double number(std::string_view name, double low, double high) const {
    const auto value = file_.number(full(name));
    if (!value) checks_.fail(full(name), "missing", fmt::format("a number from {} to {}", low, high));
    return checks_.within(full(name), as_meant(*value), low, high);
  }

  // As size(), or a list that says the same of every layer.
  std::size_t size_of_all(std::string_view name, std::size_t n_layers, std::size_t n_blocks) const {
    if (!is_list(name)) return size(name);
    const auto values = list(name, n_layers, n_blocks).value_or(std::vector<std::int64_t>());
    std::size_t size = 0;
    for (const std::int64_t value : values) {
      if (value < 0 || value != values.front())
        checks_.fail(full(name), "a list with " + std::to_string(value),
                     "one and the same number for all layers: they are alike");
      size = static_cast<std::size_t>(value);
    }
    return checks_.within(full(name), size, 1, kMaxSize);
  }

  // One number a layer.
  std::optional<std::vector<std::int64_t>> list(std::string_view name, std::size_t n_layers,
                                                std::size_t n_blocks) const {
    auto values = file_.wholes(full(name));
    if (values && values->size() != n_layers && values->size() != n_blocks)
      checks_.fail(full(name), fmt::format("a list of {}", values->size()),
                   fmt::format("one of {}: an entry a layer", n_blocks));
    return values;
  }

 private:
  // What config.json said before it became an fp32: 1e-6, not 9.9999999747524271e-07.
  static double as_meant(double value) {
    if (!(std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()))) return value;
    const auto single = static_cast<float>(value);
    if (static_cast<double>(single) != value) return value;
    const std::string shortest = fmt::format("{}", single);
    double meant = value;
    std::from_chars(shortest.data(), shortest.data() + shortest.size(), meant);
    return meant;
  }

  const Gguf& file_;
  ConfigChecks checks_;
};

void check_architecture(const Gguf& file) {
  static constexpr const char* kKey = "general.architecture";
  const auto name = file.text(kKey);
  const ConfigChecks checks(file.path().string());
  const std::string expected = fmt::format("\"{}\": the dense Qwen3.5 models", kArchitecture);
  if (!name) checks.fail(kKey, "missing", expected);
  if (*name != kArchitecture) checks.fail(kKey, '"' + printable(*name, 60) + '"', expected);
}

// A RoPE whose frequencies are scaled is not supported. As in llama.cpp (llama-model.cpp, llama-context.cpp), no type
// means "linear", a factor of 0 is none, the older key counts where the newer one is absent, and the attention factor
// whatever the type.
void refuse_scaled_rope(const Gguf& file, const Keys& keys) {
  const auto type = file.text(Keys::full("rope.scaling.type"));
  if (type && *type != "none" && *type != "linear")
    keys.checks().fail(Keys::full("rope.scaling.type"), '"' + printable(*type, 60) + '"',
                       "\"none\", or \"linear\" with a factor of 1: no other is implemented");
  const auto refuse_factor = [&](const char* name) {
    const double factor = file.number(Keys::full(name)).value_or(1);
    if (factor != 0 && factor != 1)
      keys.checks().fail(Keys::full(name), fmt::format("{}", factor), "1: scaled RoPE is not supported");
  };
  if (type != "none")
    refuse_factor(file.has(Keys::full("rope.scaling.factor")) ? "rope.scaling.factor" : "rope.scale_linear");
  refuse_factor("rope.scaling.attn_factor");
  static constexpr const char* kFrequencies = "rope_freqs.weight";
  if (file.contains(kFrequencies) || file.unreadable().contains(kFrequencies))
    throw Error(std::string("tensor ") + kFrequencies + " is there", file.path_of(kFrequencies).string(),
                "expected none: scaled RoPE is not supported");
}

// Keys that change the maths in ways that this program doesn't know.
void refuse_unknown(const Gguf& file, const Keys& keys) {
  refuse_scaled_rope(file, keys);
  if (file.whole(Keys::full("expert_count")).value_or(0) != 0)
    keys.checks().fail(Keys::full("expert_count"), "not 0", "0: mixtures of experts are not read");
  // Ollama's key; without it the order is the architecture's.
  if (!file.flag(Keys::full("ssm.v_head_reordered")).value_or(true))
    keys.checks().fail(Keys::full("ssm.v_head_reordered"), "false",
                       "true: value heads in tiled order, as llama.cpp's converter writes them");
  const auto sections = file.wholes(Keys::full("rope.dimension_sections"));
  // They divide dimensions among positions in time, height and width, which are one and the same for text.
  if (sections && sections->size() != 3 && sections->size() != 4)
    keys.checks().fail(Keys::full("rope.dimension_sections"), fmt::format("a list of {}", sections->size()),
                       "one of 3 or 4");
}

void read_vocabulary(const Gguf& file, const Keys& keys, ModelConfig& config) {
  static constexpr const char* kEmbedding = "token_embd.weight";
  const TensorView& embedding = file.tensor(kEmbedding);
  config.hidden_size = keys.size("embedding_length");
  if (embedding.shape.size() != 2 || embedding.shape[1] != config.hidden_size || embedding.shape[0] == 0 ||
      embedding.shape[0] > kMaxSize)
    throw Error(std::string("tensor ") + kEmbedding + " is " + shape_text(embedding.shape),
                file.path_of(kEmbedding).string(),
                fmt::format("expected [vocabulary, {}] by {}, with a vocabulary of at most {}",
                            config.hidden_size, Keys::full("embedding_length"), kMaxSize));
  config.vocab_size = embedding.shape[0];
  config.tie_word_embeddings = !file.contains("output.weight");
}

// The number of KV heads, and by a list with zeros (Ollama's) which layers have attention.
std::optional<std::vector<LayerKind>> read_kv_heads(const Keys& keys, std::size_t n_layers,
                                                    std::size_t n_blocks, ModelConfig& config) {
  static constexpr const char* kKey = "attention.head_count_kv";
  if (!keys.is_list(kKey)) {
    config.n_kv_heads = keys.size(kKey);
    return std::nullopt;
  }
  std::vector<LayerKind> layers;
  const std::vector<std::int64_t> counts =
      keys.list(kKey, n_layers, n_blocks).value_or(std::vector<std::int64_t>());
  for (const std::int64_t n : counts) {
    layers.push_back(n == 0 ? LayerKind::kDeltaNet : LayerKind::kAttention);
    if (n == 0) continue;
    if (n < 0 || (config.n_kv_heads != 0 && static_cast<std::size_t>(n) != config.n_kv_heads))
      keys.checks().fail(Keys::full(kKey), "a list with " + std::to_string(n),
                         "0 and one other number: all attention layers alike");
    config.n_kv_heads = keys.checks().within(Keys::full(kKey), static_cast<std::size_t>(n), 1, kMaxSize);
  }
  if (config.n_kv_heads == 0) keys.checks().fail(Keys::full(kKey), "a list of zeros", "a number of heads");
  if (std::ranges::find(layers, LayerKind::kDeltaNet) == layers.end()) return std::nullopt;
  layers.resize(n_layers);
  return layers;
}

// Which layers are recurrent: a list of flags, or the rule that stands for it.
void read_layers(const Keys& keys, ModelConfig& config) {
  const std::size_t n_blocks = keys.size("block_count", kMaxLayers + kMaxMtpLayers);
  config.n_mtp_layers = keys.size_or("nextn_predict_layers", 0, kMaxMtpLayers, 0);
  if (config.n_mtp_layers >= n_blocks)
    keys.checks().fail(Keys::full("nextn_predict_layers"), std::to_string(config.n_mtp_layers),
                       fmt::format("less than {} = {}", Keys::full("block_count"), n_blocks));
  const std::size_t n_layers =
      keys.checks().within(Keys::full("block_count"), n_blocks - config.n_mtp_layers, 1, kMaxLayers);
  const auto by_kv_heads = read_kv_heads(keys, n_layers, n_blocks, config);

  config.layers.assign(n_layers, LayerKind::kDeltaNet);
  static constexpr const char* kRecurrent = "attention.recurrent_layers";
  if (const auto recurrent = keys.list(kRecurrent, n_layers, n_blocks)) {
    for (std::size_t i = 0; i < n_layers; ++i) {
      if ((*recurrent)[i] != 0 && (*recurrent)[i] != 1)
        keys.checks().fail(Keys::full(kRecurrent), "a list with " + std::to_string((*recurrent)[i]),
                           "true or false for each layer");
      if ((*recurrent)[i] == 0) config.layers[i] = LayerKind::kAttention;
    }
    return;
  }
  const std::size_t interval =
      keys.size_or("full_attention_interval", 0, kMaxSize, by_kv_heads ? 0 : kDefaultInterval);
  if (interval == 0) {
    if (!by_kv_heads)
      keys.checks().fail(Keys::full("full_attention_interval"), "0", ConfigChecks::range_text(1, kMaxSize));
    config.layers = *by_kv_heads;
    return;
  }
  for (std::size_t i = interval - 1; i < n_layers; i += interval) config.layers[i] = LayerKind::kAttention;
}

std::size_t n_blocks(const ModelConfig& config) {
  return config.n_layers() + config.n_mtp_layers;
}

void read_attention(const Keys& keys, ModelConfig& config) {
  config.n_heads = keys.size_of_all("attention.head_count", config.n_layers(), n_blocks(config));
  config.head_dim = keys.size("attention.key_length");
  const std::size_t value_length = keys.size_or("attention.value_length", 1, kMaxSize, config.head_dim);
  if (value_length != config.head_dim)
    keys.checks().fail(Keys::full("attention.value_length"), std::to_string(value_length),
                       fmt::format("{} = {}", Keys::full("attention.key_length"), config.head_dim));
  config.rope_theta = keys.number("rope.freq_base", kMinTheta, kMaxTheta);
  config.rotary_dim = keys.size("rope.dimension_count", config.head_dim);
  if (config.rotary_dim % 2 != 0)
    keys.checks().fail(Keys::full("rope.dimension_count"), std::to_string(config.rotary_dim),
                       "an even number");
}

void read_delta_net(const Keys& keys, ModelConfig& config) {
  config.conv_kernel = keys.size("ssm.conv_kernel", kMaxConvKernel);
  config.key_head_dim = keys.size("ssm.state_size");
  config.n_key_heads = keys.size("ssm.group_count");
  config.n_value_heads = keys.size("ssm.time_step_rank");
  const std::size_t value_dim = keys.size("ssm.inner_size");
  if (value_dim % config.n_value_heads != 0)
    keys.checks().fail(
        Keys::full("ssm.inner_size"), std::to_string(value_dim),
        fmt::format("a multiple of {} = {}", Keys::full("ssm.time_step_rank"), config.n_value_heads));
  config.value_head_dim = value_dim / config.n_value_heads;
}

void read_end_tokens(const Gguf& file, const ConfigChecks& checks, ModelConfig& config) {
  for (const char* key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
    if (const auto id = file.whole(key)) checks.add_eos(key, *id, config);
  static constexpr const char* kList = "tokenizer.ggml.eos_token_ids";
  for (const std::int64_t id : file.wholes(kList).value_or(std::vector<std::int64_t>())) {
    if (id < 0) checks.fail(kList, "a list with " + std::to_string(id), "ids");
    checks.add_eos(kList, static_cast<std::size_t>(id), config);
  }
  // A GGUF names one end token as a rule, where generation_config.json names both of these.
  static constexpr const char* kTokens = "tokenizer.ggml.tokens";
  const auto tokens = file.texts(kTokens).value_or(std::vector<std::string_view>());
  for (std::size_t id = 0; id < tokens.size(); ++id)
    if (tokens[id] == "<|im_end|>" || tokens[id] == "<|endoftext|>") checks.add_eos(kTokens, id, config);
}

std::string most_common_type(const Gguf& file) {
  std::map<std::string_view, std::size_t> bytes;
  for (const auto& [name, view] : file.tensors()) bytes[name_of(view.dtype)] += view.data.size();
  const auto most = std::max_element(bytes.begin(), bytes.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? std::string() : std::string(most->first);
}

}  // namespace

bool is_gguf_file(const std::filesystem::path& path) {
  std::error_code ignored;  // what can't be looked at fails when it is opened
  return is_gguf(path) && !std::filesystem::is_directory(path, ignored);
}

ModelConfig read_gguf_config(const Gguf& file) {
  check_architecture(file);
  const Keys keys(file);
  refuse_unknown(file, keys);
  ModelConfig config;
  config.model_type = kArchitecture;
  config.dtype = most_common_type(file);
  read_vocabulary(file, keys, config);
  read_layers(keys, config);
  config.intermediate_size = keys.size_of_all("feed_forward_length", config.n_layers(), n_blocks(config));
  read_attention(keys, config);
  read_delta_net(keys, config);
  keys.checks().heads(config, {.n_heads = Keys::full("attention.head_count"),
                               .n_kv_heads = Keys::full("attention.head_count_kv"),
                               .head_dim = Keys::full("attention.key_length"),
                               .n_key_heads = Keys::full("ssm.group_count"),
                               .n_value_heads = Keys::full("ssm.time_step_rank"),
                               .key_head_dim = Keys::full("ssm.state_size"),
                               .value_head_dim = "the size of a value head"});
  config.rms_norm_eps = keys.number("attention.layer_norm_rms_epsilon", kMinEps, kMaxEps);
  config.max_positions = keys.size("context_length", kMaxPositions);
  read_end_tokens(file, keys.checks(), config);
  return config;
}

}  // namespace sluice::model
