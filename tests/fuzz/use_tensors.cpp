#include "tests/fuzz/use_tensors.h"

#include <algorithm>
#include <variant>
#include <vector>

namespace sluice::fuzz {
namespace {

// Rows of a hostile shape may be long.
constexpr std::size_t kMostElements = std::size_t{1} << 16U;

void use_matrix(const model::Matrix& matrix) {
  if (matrix.rows == 0 || matrix.cols > kMostElements) return;
  std::vector<float> row(matrix.cols);
  for (const std::size_t index : {std::size_t{0}, matrix.rows / 2, matrix.rows - 1})
    matrix.read_row(index, row);
}

void use_layer(const model::LayerWeights& layer) {
  if (const auto* net = std::get_if<model::DeltaNetWeights>(&layer.mixer)) {
    for (const auto* matrix : {&net->qkv, &net->z, &net->b, &net->a, &net->out}) use_matrix(*matrix);
  } else {
    const auto& attention = std::get<model::AttentionWeights>(layer.mixer);
    for (const auto* matrix : {&attention.q_gate, &attention.k, &attention.v, &attention.out})
      use_matrix(*matrix);
  }
  for (const auto* matrix : {&layer.mlp.gate, &layer.mlp.up, &layer.mlp.down}) use_matrix(*matrix);
}

}  // namespace

void use_tensor(const model::TensorView& tensor) {
  const std::size_t block = model::block_size(tensor.dtype);
  const std::size_t size = tensor.size();
  if (size == 0) return;
  std::vector<float> values(std::min(size, kMostElements) / block * block);
  model::to_float(tensor.dtype, tensor.data, 0, values);
  model::to_float(tensor.dtype, tensor.data, size - values.size(), values);
}

void use_model(const model::Model& model) {
  for (const model::TensorView& tensor : model.tensors) use_tensor(tensor);
  use_matrix(model.weights.embedding);
  use_matrix(model.weights.head);
  for (const model::LayerWeights& layer : model.weights.layers) use_layer(layer);
  if (!model.weights.mtp) return;
  use_matrix(model.weights.mtp->fc);
  for (const model::LayerWeights& layer : model.weights.mtp->layers) use_layer(layer);
}

}  // namespace sluice::fuzz
