#include "cli/inspect_tensor.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/interrupt.h"
#include "cli/model_folder.h"
#include "cli/npy.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "model/checkpoint_files.h"
#include "model/gguf.h"
#include "model/gguf_model.h"

namespace sluice::cli {
namespace {

// How much the ends of two names have in common. Names of tensors differ in a part of the middle, or in a prefix.
std::size_t likeness(std::string_view a, std::string_view b) {
  const std::size_t most = std::min(a.size(), b.size());
  std::size_t front = 0;
  while (front < most && a[front] == b[front]) ++front;
  std::size_t back = 0;
  while (back < most - front && a[a.size() - 1 - back] == b[b.size() - 1 - back]) ++back;
  return front + back;
}

[[noreturn]] void fail_unknown(const std::string& name, std::vector<std::string> names,
                               const std::string& where) {
  constexpr std::size_t kMostShown = 3;
  constexpr std::size_t kMostNameBytes = 100;
  std::ranges::sort(names, [&name](const std::string& a, const std::string& b) {
    return std::make_pair(likeness(name, b), a) < std::make_pair(likeness(name, a), b);  // the likest first
  });
  names.resize(std::min(names.size(), kMostShown));
  for (std::string& other : names) other = printable(other, kMostNameBytes);
  throw Error(fmt::format("no tensor {}", printable(name, 2 * kMostNameBytes)), where,
              names.empty() ? "it has none" : fmt::format("similar: {}", fmt::join(names, ", ")));
}

// Calls `use` with the tensor while its file is open.
void with_tensor(const std::filesystem::path& model, const std::string& name,
                 const std::function<void(const model::TensorView&)>& use) {
  if (model::is_gguf_file(model)) {
    const model::Gguf file(model);
    if (!file.contains(name)) {
      std::vector<std::string> names;
      for (const auto& [other, tensor] : file.tensors()) names.push_back(other);
      fail_unknown(name, names, model.string());
    }
    use(file.tensor(name));
    file.check_intact();
    return;
  }
  const model::CheckpointFiles files(model);
  if (!files.contains(name)) fail_unknown(name, files.names(), model.string());
  use(files.tensor(name));
  files.check_intact();
}

// Gives the values of `tensor` to `use`, piece by piece, in fp32.
void for_values(const model::TensorView& tensor, const std::function<void(std::span<const float>)>& use) {
  constexpr std::size_t kPiece = std::size_t{1} << 16U;  // a multiple of every block size
  std::vector<float> values(std::min(kPiece, tensor.size()));
  ProgressBar progress("reading");
  for (std::size_t first = 0; first < tensor.size(); first += values.size()) {
    throw_if_interrupted();
    values.resize(std::min(kPiece, tensor.size() - first));
    model::to_float(tensor.dtype, tensor.data, first, values);
    use(values);
    progress.update(first + values.size(), tensor.size());
  }
}

// Of the values that are numbers.
struct Statistics {
  std::size_t finite = 0;
  std::size_t not_finite = 0;
  float min = 0;
  float max = 0;
  double sum = 0;
  double squares = 0;

  void add(float value) {
    if (!std::isfinite(value)) {
      ++not_finite;
      return;
    }
    min = finite == 0 ? value : std::min(min, value);
    max = finite == 0 ? value : std::max(max, value);
    sum += double{value};
    squares += double{value} * double{value};
    ++finite;
  }
  double mean() const { return sum / static_cast<double>(finite); }
  double rms() const { return std::sqrt(squares / static_cast<double>(finite)); }
};

std::string as_text(const model::TensorView& tensor, const Statistics& statistics) {
  std::string text;
  const auto line = [&text](std::string_view name, const std::string& value) {
    text += fmt::format("{:<14}{}\n", name, value);
  };
  line("tensor", printable(tensor.name));
  line("type", fmt::format("{}, {} B", model::name_of(tensor.dtype), tensor.data.size()));
  line("shape", fmt::format("{}, {} elements", model::shape_text(tensor.shape), tensor.size()));
  if (statistics.finite > 0) {
    line("min", fmt::format("{:.9g}", statistics.min));
    line("max", fmt::format("{:.9g}", statistics.max));
    line("mean", fmt::format("{:.9g}", statistics.mean()));
    line("rms", fmt::format("{:.9g}", statistics.rms()));
  }
  if (statistics.not_finite > 0)
    line("not finite", fmt::format("{} elements, left out above", statistics.not_finite));
  return text;
}

std::string as_json(const model::TensorView& tensor, const Statistics& statistics) {
  Json json = {{"name", tensor.name},
               {"type", model::name_of(tensor.dtype)},
               {"shape", tensor.shape},
               {"elements", tensor.size()},
               {"bytes", tensor.data.size()},
               {"not_finite", statistics.not_finite},
               {"min", nullptr},
               {"max", nullptr},
               {"mean", nullptr},
               {"rms", nullptr}};
  if (statistics.finite > 0) {
    json["min"] = double{statistics.min};
    json["max"] = double{statistics.max};
    json["mean"] = statistics.mean();
    json["rms"] = statistics.rms();
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string tensor_report(const std::filesystem::path& model, const std::string& name, bool json) {
  std::string report;
  with_tensor(model, name, [&](const model::TensorView& tensor) {
    Statistics statistics;
    for_values(tensor, [&statistics](std::span<const float> values) {
      for (const float value : values) statistics.add(value);
    });
    report = json ? as_json(tensor, statistics) : as_text(tensor, statistics);
  });
  return report;
}

void write_tensor(const std::filesystem::path& model, const std::string& name,
                  const std::filesystem::path& output) {
  refuse_to_replace(output, files_of_model(model));
  std::optional<NpyWriter> file;  // committed after the model's file was found intact
  with_tensor(model, name, [&](const model::TensorView& tensor) {
    file.emplace(output, tensor.shape);
    for_values(tensor, [&file](std::span<const float> values) { file->write(values); });
  });
  throw_if_interrupted();
  file->commit();
}

}  // namespace sluice::cli
