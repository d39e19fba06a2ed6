#include "model/tensor_reader.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

#include "base/error.h"

namespace sluice::model {
namespace {

constexpr std::string_view kWeight = ".weight";

}  // namespace

bool TensorReader::fits(const Shape& stored, const Shape& wanted) const {
  if (ones_ == Ones::kCount) return stored == wanted;
  const auto without_ones = [](const Shape& shape) {
    const auto begin =
        std::find_if(shape.begin(), shape.end(), [](std::size_t extent) { return extent != 1; });
    return std::span<const std::size_t>(begin, shape.end());
  };
  return std::ranges::equal(without_ones(stored), without_ones(wanted));
}

const TensorView& TensorReader::tensor(const std::string& name, const Shape& shape) {
  const TensorView& view = source_.tensor(name);
  if (!fits(view.shape, shape))
    throw Error("tensor " + name + " is " + shape_text(view.shape), source_.path_of(name).string(),
                wanted_by_ + " wants " + shape_text(shape));
  if (used_.insert(name).second) {
    done_ += view.data.size();
    if (in_mtp_) mtp_.insert(name);
    if (name.ends_with(kWeight)) know(name.substr(0, name.size() - kWeight.size()));
  }
  if (progress_) progress_(done_, total_);
  return view;
}

Matrix TensorReader::matrix(const std::string& name, std::size_t rows, std::size_t cols) {
  const TensorView& view = tensor(name, {rows, cols});
  return {.name = name,
          .dtype = view.dtype,
          .rows = rows,
          .cols = cols,
          .data = view.data,
          .row_order = {},
          .col_order = {}};
}

std::vector<Matrix> TensorReader::stacked(const std::string& name, const std::vector<std::size_t>& rows,
                                          std::size_t cols) {
  const Matrix whole = matrix(name, std::accumulate(rows.begin(), rows.end(), std::size_t{0}), cols);
  const std::size_t row_bytes = bytes_of(whole.dtype, cols);  // a row is whole blocks
  std::vector<Matrix> parts;
  std::size_t begin = 0;
  for (const std::size_t n : rows) {
    Matrix& part = parts.emplace_back(whole);
    part.rows = n;
    part.data = whole.data.subspan(begin * row_bytes, n * row_bytes);
    begin += n;
  }
  return parts;
}

std::vector<float> TensorReader::vector(const std::string& name, const Shape& shape) {
  const TensorView& view = tensor(name, shape);
  if (block_size(view.dtype) != 1)
    throw Error("tensor " + name + " is " + std::string(name_of(view.dtype)), source_.path_of(name).string(),
                "expected F32, F16 or BF16: only matrices are quantized");
  std::vector<float> values(view.size());
  to_float(view.dtype, view.data, 0, values);
  check_finite(name, values);
  return values;
}

void TensorReader::check_finite(const std::string& name, const std::vector<float>& values) const {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i])) throw not_finite_error(name, i, source_.path_of(name));
}

void TensorReader::refuse_part_of_known_module(const std::string& name) const {
  const std::size_t dot = name.rfind('.');
  if (dot == std::string::npos || !modules_.contains(std::string_view(name).substr(0, dot)) ||
      name.ends_with(kWeight))
    return;
  throw Error("tensor " + printable(name, 200) + " is there", source_.path_of(name).string(),
              "expected a weight alone: biases and scales of this model's matrices are not supported");
}

void TensorReader::finish(Model& model) const {
  for (const std::string& name : source_.names()) {
    if (used_.contains(name)) {
      model.tensors.push_back({source_.tensor(name), source_.path_of(name), mtp_.contains(name)});
    } else {
      refuse_part_of_known_module(name);
      model.skipped.push_back(name);
    }
  }
  if (progress_) progress_(total_, total_);
}

}  // namespace sluice::model
