#include "model/config.h"

#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "model/config_checks.h"
#include "model/gguf_model.h"

namespace sluice::model {
namespace {

constexpr double kMinRotaryFactor = 1e-6;
constexpr std::size_t kMaxConfigBytes = std::size_t{16} << 20U;

// transformers 5.12.1: Qwen3_5TextConfig, and RotaryEmbeddingConfigMixin for theta.
namespace defaults {
constexpr std::size_t kVocabulary = 248320;
constexpr std::size_t kHidden = 4096;
constexpr std::size_t kIntermediate = 12288;
constexpr std::size_t kLayers = 32;
constexpr std::size_t kHeads = 16;
constexpr std::size_t kKvHeads = 4;
constexpr std::size_t kHeadDim = 256;
constexpr std::size_t kKeyHeads = 16;
constexpr std::size_t kValueHeads = 32;
constexpr std::size_t kKeyHeadDim = 128;
constexpr std::size_t kValueHeadDim = 128;
constexpr std::size_t kConvKernel = 4;
}  // namespace defaults
constexpr std::size_t kDefaultInterval = 4;
constexpr std::size_t kDefaultPositions = 32768;
constexpr double kDefaultEps = 1e-6;
constexpr double kDefaultTheta = 10000.0;
constexpr double kDefaultRotaryFactor = 0.25;

// A JSON object in a file, read field by field; `path` ("text_config.") names it in errors.
class Fields {
 public:
  Fields(const Json& json, std::string_view where, std::string path)
      : json_(&json), checks_(where), path_(std::move(path)) {
    if (!json.is_object()) {
      const std::string name = path_.empty() ? "the document" : path_.substr(0, path_.size() - 1);
      checks_.fail(name, json.type_name(), "an object");
    }
  }

  [[noreturn]] void fail(std::string_view field, const std::string& is, const std::string& expected) const {
    checks_.fail(path_ + std::string(field), is, expected);
  }

  // The field's value; nullptr if it is absent or null, which transformers treats alike.
  const Json* find(const char* field) const {
    const auto found = json_->find(field);
    return found == json_->end() || found->is_null() ? nullptr : &*found;
  }

  const Json& require(const char* field, const std::string& expected) const {
    const Json* value = find(field);
    if (value == nullptr) fail(field, "missing", expected);
    return *value;
  }

  std::size_t integer(const char* field, const Json& value, std::size_t low, std::size_t high) const {
    const std::string expected = ConfigChecks::range_text(low, high);
    // JSON made by a program may hold a positive number as a signed one.
    const bool negative =
        !value.is_number_unsigned() && value.is_number_integer() && value.get<std::int64_t>() < 0;
    if (!value.is_number_integer() || negative) fail(field, shown(value), expected);
    const auto number = value.get<std::uint64_t>();
    if (number < low || number > high) fail(field, shown(value), expected);
    return number;
  }

  // A dimension. transformers doesn't take null for one.
  std::size_t size(const char* field, std::size_t otherwise, std::size_t high = kMaxSize) const {
    const auto found = json_->find(field);
    return found == json_->end() ? otherwise : integer(field, *found, 1, high);
  }

  std::size_t size_or(const char* field, std::size_t low, std::size_t high, std::size_t otherwise) const {
    const Json* value = find(field);
    return value == nullptr ? otherwise : integer(field, *value, low, high);
  }

  std::optional<double> number(const char* field) const {
    const Json* value = find(field);
    if (value == nullptr) return std::nullopt;
    if (!value->is_number()) fail(field, shown(*value), "a number");
    return value->get<double>();
  }

  std::optional<bool> flag(const char* field) const {
    const Json* value = find(field);
    if (value == nullptr) return std::nullopt;
    if (!value->is_boolean()) fail(field, shown(*value), "true or false");
    return value->get<bool>();
  }

  std::optional<std::string> text(const char* field) const {
    const Json* value = find(field);
    if (value == nullptr) return std::nullopt;
    if (!value->is_string()) fail(field, shown(*value), "a string");
    return value->get<std::string>();
  }

  Fields object(const char* field) const {
    return {require(field, "an object"), checks_.where(), path_ + field + "."};
  }

  const ConfigChecks& checks() const { return checks_; }
  std::string full(const char* field) const { return path_ + field; }

  // A value as a short text for messages.
  static std::string shown(const Json& value) {
    if (value.is_structured()) return std::string(value.is_array() ? "a list" : "an object");
    return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60);
  }

 private:
  const Json* json_;
  ConfigChecks checks_;
  std::string path_;
};

// "qwen3_5" or "qwen3_5_text"; a file without model_type is judged by its architecture.
std::string read_model_type(const Fields& top) {
  static constexpr const char* kExpected = "\"qwen3_5\" or \"qwen3_5_text\"";
  if (const std::optional<std::string> type = top.text("model_type")) {
    if (*type != "qwen3_5" && *type != "qwen3_5_text") top.fail("model_type", '"' + *type + '"', kExpected);
    return *type;
  }
  const Json* names = top.find("architectures");
  if (names != nullptr && names->is_array() && names->size() == 1) {
    if (names->front() == "Qwen3_5ForConditionalGeneration") return "qwen3_5";
    if (names->front() == "Qwen3_5ForCausalLM") return "qwen3_5_text";
  }
  top.fail("model_type", "missing", kExpected);
}

// Fields that change the maths in ways that this program doesn't know. transformers has no biases in the MLP and no window
// in this model whatever mlp_bias and use_sliding_window say; a checkpoint that asks for them was made by something else.
void refuse_unknown(const Fields& fields) {
  const auto refuse_unless = [&](const char* field, bool wanted) {
    if (fields.flag(field).value_or(wanted) != wanted)
      fields.fail(field, wanted ? "false" : "true",
                  std::string(wanted ? "true" : "false") + ": the other form is not supported");
  };
  refuse_unless("attention_bias", false);
  refuse_unless("mlp_bias", false);
  refuse_unless("use_sliding_window", false);
  refuse_unless("attn_output_gate", true);
  refuse_unless("mtp_use_dedicated_embeddings", false);
  const std::string activation = fields.text("hidden_act").value_or("silu");
  if (activation != "silu") fields.fail("hidden_act", '"' + activation + '"', "\"silu\"");
  for (const char* field :
       {"num_experts", "num_local_experts", "mlp_only_layers", "quantization_config", "compression_config"}) {
    const Json* value = fields.find(field);
    if (value != nullptr && !value->empty() && *value != Json(0))
      fields.fail(field, Fields::shown(*value),
                  "none: mixtures of experts and quantized safetensors are not read");
  }
}

// The layer list, or the rule that stands for it; the list wins, as in transformers.
std::vector<LayerKind> read_layers(const Fields& fields) {
  const std::size_t n_layers = fields.size("num_hidden_layers", defaults::kLayers, kMaxLayers);
  const Json* types = fields.find("layer_types");
  std::vector<LayerKind> layers(n_layers, LayerKind::kDeltaNet);
  if (types == nullptr) {
    const std::size_t interval = fields.size_or("full_attention_interval", 1, kMaxSize, kDefaultInterval);
    for (std::size_t i = 0; i < n_layers; ++i)
      if ((i + 1) % interval == 0) layers[i] = LayerKind::kAttention;
    return layers;
  }
  if (!types->is_array() || types->size() != n_layers)
    fields.fail("layer_types",
                types->is_array() ? "a list of " + std::to_string(types->size()) : Fields::shown(*types),
                "a list of num_hidden_layers = " + std::to_string(n_layers) + " names");
  for (std::size_t i = 0; i < n_layers; ++i) {
    const Json& type = (*types)[i];
    if (type == "full_attention") {
      layers[i] = LayerKind::kAttention;
    } else if (type != "linear_attention") {
      fields.fail("layer_types[" + std::to_string(i) + "]", Fields::shown(type),
                  "\"linear_attention\" or \"full_attention\"");
    }
  }
  return layers;
}

double number_within(const Fields& fields, const char* field, double otherwise, double low, double high) {
  return fields.checks().within(fields.full(field), fields.number(field).value_or(otherwise), low, high);
}

// Where RoPE's numbers stand: `rope_parameters`, or before transformers 5 `rope_scaling`, which wins if both
// are there; what it leaves out is looked for one level up.
void read_rope(const Fields& fields, ModelConfig& config) {
  const Json* scaling = fields.find("rope_scaling");
  const char* name = scaling != nullptr && !scaling->empty() ? "rope_scaling" : "rope_parameters";
  std::optional<Fields> rope;
  if (fields.find(name) != nullptr) rope = fields.object(name);
  if (rope) {
    for (const char* kind : {"full_attention", "linear_attention"})
      if (rope->find(kind) != nullptr) rope->fail(kind, "there", "one flat object for all layers");
    const char* type_field = rope->find("rope_type") != nullptr ? "rope_type" : "type";
    const std::string type = rope->text(type_field).value_or("default");
    if (type != "default") rope->fail(type_field, '"' + type + '"', "\"default\": no other is implemented");
  }
  const auto holder = [&](const char* field) -> const Fields& {
    return rope && rope->find(field) != nullptr ? *rope : fields;
  };
  config.rope_theta = number_within(holder("rope_theta"), "rope_theta", kDefaultTheta, kMinTheta, kMaxTheta);

  static constexpr const char* kFactor = "partial_rotary_factor";
  const Fields& factored = holder(kFactor);
  const double factor = number_within(factored, kFactor, kDefaultRotaryFactor, kMinRotaryFactor, 1);
  config.rotary_dim = static_cast<std::size_t>(static_cast<double>(config.head_dim) * factor);
  if (config.rotary_dim == 0 || config.rotary_dim % 2 != 0)
    factored.fail(kFactor, fmt::format("{}", factor),
                  fmt::format("head_dim × factor, which is {} × {}, to make an even number of at least 2",
                              config.head_dim, factor));
}

void read_sizes(const Fields& fields, ModelConfig& config) {
  config.vocab_size = fields.size("vocab_size", defaults::kVocabulary);
  config.hidden_size = fields.size("hidden_size", defaults::kHidden);
  config.intermediate_size = fields.size("intermediate_size", defaults::kIntermediate);
  config.layers = read_layers(fields);

  config.n_heads = fields.size("num_attention_heads", defaults::kHeads);
  config.n_kv_heads = fields.size("num_key_value_heads", defaults::kKvHeads);
  config.head_dim = fields.size("head_dim", defaults::kHeadDim);

  config.n_key_heads = fields.size("linear_num_key_heads", defaults::kKeyHeads);
  config.n_value_heads = fields.size("linear_num_value_heads", defaults::kValueHeads);
  config.key_head_dim = fields.size("linear_key_head_dim", defaults::kKeyHeadDim);
  config.value_head_dim = fields.size("linear_value_head_dim", defaults::kValueHeadDim);
  config.conv_kernel = fields.size("linear_conv_kernel_dim", defaults::kConvKernel, kMaxConvKernel);
  fields.checks().heads(config, {.n_heads = fields.full("num_attention_heads"),
                                 .n_kv_heads = fields.full("num_key_value_heads"),
                                 .head_dim = fields.full("head_dim"),
                                 .n_key_heads = fields.full("linear_num_key_heads"),
                                 .n_value_heads = fields.full("linear_num_value_heads"),
                                 .key_head_dim = fields.full("linear_key_head_dim"),
                                 .value_head_dim = fields.full("linear_value_head_dim")});

  config.max_positions = fields.size_or("max_position_embeddings", 1, kMaxPositions, kDefaultPositions);
  config.n_mtp_layers = fields.size_or("mtp_num_hidden_layers", 0, kMaxMtpLayers, 0);
  config.rms_norm_eps = number_within(fields, "rms_norm_eps", kDefaultEps, kMinEps, kMaxEps);
}

// Adds the end tokens that `fields` name, as a number or a list.
void add_eos(const Fields& fields, ModelConfig& config) {
  static constexpr const char* kField = "eos_token_id";
  const Json* value = fields.find(kField);
  if (value == nullptr) return;
  const auto add = [&](const Json& id) {
    fields.checks().add_eos(fields.full(kField), fields.integer(kField, id, 0, config.vocab_size - 1),
                            config);
  };
  if (value->is_array()) {
    for (const Json& id : *value) add(id);
  } else {
    add(*value);
  }
}

std::string read_dtype(const Fields& fields) {
  const std::optional<std::string> dtype = fields.text("dtype");
  return dtype ? *dtype : fields.text("torch_dtype").value_or("");
}

}  // namespace

ModelConfig parse_config(const Json& json, std::string_view where) {
  const Fields top(json, where, "");
  ModelConfig config;
  config.model_type = read_model_type(top);
  const bool nested = config.model_type == "qwen3_5";
  const Fields text = nested ? top.object("text_config") : top;
  const std::string text_type = text.text("model_type").value_or("qwen3_5_text");
  if (nested && text_type != "qwen3_5_text")
    text.fail("model_type", '"' + text_type + '"', "\"qwen3_5_text\"");

  refuse_unknown(top);
  if (nested) refuse_unknown(text);
  read_sizes(text, config);
  read_rope(text, config);
  const std::optional<bool> tied = top.flag("tie_word_embeddings");
  config.tie_word_embeddings = tied ? *tied : text.flag("tie_word_embeddings").value_or(false);
  config.dtype = read_dtype(text);
  if (config.dtype.empty()) config.dtype = read_dtype(top);
  add_eos(text, config);
  if (nested) add_eos(top, config);
  return config;
}

ModelConfig read_config(const std::filesystem::path& path) {
  if (is_gguf_file(path)) {
    const Gguf file(path);
    ModelConfig config = read_gguf_config(file);
    file.check_intact();
    return config;
  }
  const auto read = [](const std::filesystem::path& file) {
    return parse_json(read_text_file(file, kMaxConfigBytes), file.string());
  };
  const std::filesystem::path main = path / "config.json";
  ModelConfig config = parse_config(read(main), main.string());
  const std::filesystem::path generation = path / "generation_config.json";
  if (is_there(generation)) add_eos(Fields(read(generation), generation.string(), ""), config);
  return config;
}

}  // namespace sluice::model
