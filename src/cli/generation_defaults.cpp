#include "cli/generation_defaults.h"

#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "model/gguf_model.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kLargeModel = 3'000'000'000;
constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20U;
constexpr double kMost = 1e9;

// One generation_config.json.
class File {
 public:
  File(Json json, std::string where) : json_(std::move(json)), where_(std::move(where)) {
    if (!json_.is_object()) throw Error("not a JSON object", where_);
  }

  // Null counts as absent: that is how Hugging Face writes what isn't set.
  bool has(const char* field) const { return json_.contains(field) && !json_[field].is_null(); }

  std::optional<float> number(const char* field, double low, double high) const {
    if (!has(field)) return std::nullopt;
    const Json& value = json_[field];
    const double number = value.is_number() ? value.get<double>() : std::nan("");
    if (!(number >= low && number <= high)) fail(field, fmt::format("a number from {} to {}", low, high));
    return static_cast<float>(number);
  }

  std::optional<std::size_t> count(const char* field) const {
    if (!has(field)) return std::nullopt;
    const Json& value = json_[field];
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max())
      fail(field, "an integer from 0 up");
    return value.get<std::size_t>();
  }

  std::optional<bool> flag(const char* field) const {
    if (!has(field)) return std::nullopt;
    if (!json_[field].is_boolean()) fail(field, "true or false");
    return json_[field].get<bool>();
  }

  // One id or a list of them.
  std::vector<std::int32_t> tokens(const char* field) const {
    std::vector<std::int32_t> ids;
    if (!has(field)) return ids;
    const Json& value = json_[field];
    const Json list = value.is_array() ? value : Json::array({value});
    for (const Json& id : list) {
      constexpr auto kLimit = static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max());
      if (!id.is_number_unsigned() || id.get<std::uint64_t>() > kLimit)
        fail(field, "a token id or a list of them");
      ids.push_back(id.get<std::int32_t>());
    }
    return ids;
  }

 private:
  [[noreturn]] void fail(const char* field, const std::string& expected) const {
    throw Error(
        fmt::format("{} is {}", field, json_[field].dump(-1, ' ', true, Json::error_handler_t::replace)),
        where_, "it should be " + expected);
  }

  Json json_;
  std::string where_;
};

std::optional<File> read_file(const std::filesystem::path& model) {
  if (model::is_gguf_file(model)) return std::nullopt;
  const std::filesystem::path path = model / "generation_config.json";
  if (!is_there(path)) return std::nullopt;
  return File(parse_json(read_text_file(path, kMaxFileBytes), path.string()), path.string());
}

std::optional<engine::SamplingOptions> sampling_of(const File& file) {
  const auto temperature = file.number("temperature", 0, kMost);
  const auto top_k = file.count("top_k");
  const auto top_p = file.number("top_p", 0, 1);
  const auto min_p = file.number("min_p", 0, 1);
  const auto repeat = file.number("repetition_penalty", 1e-3, kMost);
  const auto do_sample = file.flag("do_sample");
  if (!temperature && !top_k && !top_p && !min_p && !repeat && !do_sample) return std::nullopt;
  engine::SamplingOptions options;
  options.sampling.temperature = do_sample.value_or(true) ? temperature.value_or(1.0F) : 0.0F;
  options.sampling.top_k = top_k.value_or(0);
  options.sampling.top_p = top_p.value_or(1.0F);
  options.sampling.min_p = min_p.value_or(0.0F);
  options.repeat_penalty = repeat.value_or(1.0F);
  return options;
}

// The advice of the Qwen3.5 model cards for text.
engine::SamplingOptions sampling_by_size(std::size_t parameters, model::Thinking thinking) {
  engine::SamplingOptions options;
  options.sampling = {.temperature = 1.0F, .top_k = 20, .top_p = 1.0F, .min_p = 0.0F, .seed = 0};
  options.presence_penalty = 2.0F;
  if (thinking == model::Thinking::kOn) {
    options.sampling.top_p = 0.95F;
    options.presence_penalty = 1.5F;
  } else if (parameters >= kLargeModel) {
    options.sampling.temperature = 0.7F;
    options.sampling.top_p = 0.8F;
    options.presence_penalty = 1.5F;
  }
  return options;
}

}  // namespace

model::Thinking default_thinking(std::size_t parameters) {
  return parameters >= kLargeModel ? model::Thinking::kOn : model::Thinking::kOff;
}

GenerationDefaults generation_defaults(const std::filesystem::path& model, std::size_t parameters,
                                       model::Thinking thinking) {
  GenerationDefaults defaults;
  const std::optional<File> file = read_file(model);
  std::optional<engine::SamplingOptions> sampling;
  if (file) {
    sampling = sampling_of(*file);
    defaults.end_tokens = file->tokens("eos_token_id");
  }
  defaults.sampling = sampling.value_or(sampling_by_size(parameters, thinking));
  return defaults;
}

}  // namespace sluice::cli
