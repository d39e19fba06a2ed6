#include "cuda/plan.h"

#include <cmath>
#include <cstring>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "base/bf16.h"
#include "base/error.h"
#include "cuda/driver.h"

namespace sluice::cuda {
namespace {

constexpr std::size_t kAlignment = 256;  // as the driver's own allocations have

std::uint32_t narrow(std::size_t value) {
  SLUICE_CHECK(value < kNone);
  return static_cast<std::uint32_t>(value);
}

void require_at_most(std::size_t value, std::size_t most, std::string_view field) {
  if (value > most)
    throw Error(fmt::format("{} is {}", field, value), "config",
                fmt::format("the CUDA kernels take up to {}; run it with --device cpu", most));
}

// A norm as long as the rows that it multiplies.
std::vector<float> padded(std::vector<float> norm) {
  norm.resize(round_up(narrow(norm.size()), kChunk));
  return norm;
}

}  // namespace

ModelShape model_shape(const model::ModelConfig& config) {
  require_at_most(config.head_dim, kMostHeadDim, "head_dim");
  require_at_most(config.key_head_dim, kMostKeyHeadDim, "linear_key_head_dim");
  require_at_most(config.value_head_dim, kMostValueHeadDim, "linear_value_head_dim");
  require_at_most(config.conv_kernel, kMostConvKernel, "linear_conv_kernel_dim");
  ModelShape shape{};
  shape.vocab = narrow(config.vocab_size);
  shape.hidden = narrow(config.hidden_size);
  shape.intermediate = narrow(config.intermediate_size);
  shape.n_heads = narrow(config.n_heads);
  shape.n_kv_heads = narrow(config.n_kv_heads);
  shape.head_dim = narrow(config.head_dim);
  shape.rotary_dim = narrow(config.rotary_dim);
  shape.n_key_heads = narrow(config.n_key_heads);
  shape.n_value_heads = narrow(config.n_value_heads);
  shape.key_head_dim = narrow(config.key_head_dim);
  shape.value_head_dim = narrow(config.value_head_dim);
  shape.conv_kernel = narrow(config.conv_kernel);
  for (const model::LayerKind kind : config.layers)
    ++(kind == model::LayerKind::kDeltaNet ? shape.n_delta_layers : shape.n_attention_layers);
  shape.eps = static_cast<float>(config.rms_norm_eps);
  return shape;
}

std::vector<float> rotary_table(const model::ModelConfig& config, std::size_t context) {
  const std::size_t half = config.rotary_dim / 2;
  std::vector<float> table(context * config.rotary_dim);
  for (std::size_t j = 0; j < half; ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(config.rotary_dim);
    const float frequency =
        1.0F / static_cast<float>(std::pow(config.rope_theta, static_cast<double>(exponent)));
    for (std::size_t position = 0; position < context; ++position) {
      const float angle = static_cast<float>(position) * frequency;
      table[position * config.rotary_dim + j] = std::cos(angle);
      table[position * config.rotary_dim + half + j] = std::sin(angle);
    }
  }
  return table;
}

DeviceWeights::DeviceWeights(const model::Model& model) : model_(model), shape_(model_shape(model.config)) {
  const model::Weights& weights = model.weights;
  const auto add_rows_of = [this](const model::Matrix& matrix) {
    return add_matrix(matrix.rows, matrix.cols, [&matrix](std::size_t row) { return Source{&matrix, row}; });
  };
  head_ = add_rows_of(weights.head);
  const bool is_tied = weights.embedding.data.data() == weights.head.data.data() &&
                       weights.embedding.rows == weights.head.rows;
  embedding_ = is_tied ? head_ : add_rows_of(weights.embedding);
  norm_ = add_vector(padded(weights.norm));
  for (const model::LayerWeights& layer : weights.layers) add_layer(layer);
}

std::size_t DeviceWeights::add(Item item, std::size_t bytes) {
  item.place = {bytes_, bytes};
  bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  items_.push_back(std::move(item));
  return items_.size() - 1;
}

DeviceWeights::PackedMatrix DeviceWeights::add_matrix(std::size_t n_rows, std::size_t width, Rows rows) {
  PackedMatrix packed;
  packed.n_rows = narrow(n_rows);
  packed.width = narrow(width);
  packed.chunks = round_up(packed.width, kChunk) / kChunk;
  packed.item = items_.size();
  Item item;
  item.shape = packed;
  item.rows = std::move(rows);
  const std::size_t panels = round_up(packed.n_rows, kPanel) / kPanel;
  add(std::move(item), panels * packed.chunks * kChunkBytes);
  return packed;
}

template <typename T>
std::size_t DeviceWeights::add_vector(const std::vector<T>& values) {
  Item item;
  item.vector.resize(values.size() * sizeof(T));
  std::memcpy(item.vector.data(), values.data(), item.vector.size());
  const std::size_t bytes = item.vector.size();
  return add(std::move(item), bytes);
}

void DeviceWeights::add_layer(const model::LayerWeights& layer) {
  LayerMatrices matrices;
  VectorItems vectors;
  vectors.mix_norm = add_vector(padded(layer.mix_norm));
  vectors.mlp_norm = add_vector(padded(layer.mlp_norm));
  if (const auto* delta = std::get_if<model::DeltaNetWeights>(&layer.mixer))
    add_delta_net(*delta, matrices, vectors);
  else
    add_attention(std::get<model::AttentionWeights>(layer.mixer), matrices, vectors);
  const model::MlpWeights& mlp = layer.mlp;
  matrices.mlp_in = add_matrix(2 * mlp.gate.rows, mlp.gate.cols, [&mlp](std::size_t row) {
    return Source{row % 2 == 0 ? &mlp.gate : &mlp.up, row / 2};
  });
  matrices.mlp_out =
      add_matrix(mlp.down.rows, mlp.down.cols, [&mlp](std::size_t row) { return Source{&mlp.down, row}; });
  layers_.push_back(matrices);
  vectors_.push_back(vectors);
}

void DeviceWeights::add_delta_net(const model::DeltaNetWeights& weights, LayerMatrices& matrices,
                                  VectorItems& vectors) {
  const model::ModelConfig& config = model_.config;
  const auto projections = [&weights](std::size_t row) {
    for (const model::Matrix* part : {&weights.qkv, &weights.b, &weights.a}) {
      if (row < part->rows) return Source{part, row};
      row -= part->rows;
    }
    return Source{&weights.z, row};
  };
  matrices.mix_in = add_matrix(shape_.delta_width(), config.hidden_size, projections);
  matrices.mix_out = add_matrix(weights.out.rows, weights.out.cols,
                                [&weights](std::size_t row) { return Source{&weights.out, row}; });
  std::vector<float> taps(kMostConvKernel * config.conv_dim());
  for (std::size_t channel = 0; channel < config.conv_dim(); ++channel)
    for (std::size_t tap = 0; tap < config.conv_kernel; ++tap)
      taps[channel * kMostConvKernel + tap] = weights.conv[channel * config.conv_kernel + tap];
  vectors.conv = add_vector(taps);
  vectors.decay = add_vector(weights.decay);
  vectors.dt_bias = add_vector(weights.dt_bias);
  vectors.delta_norm = add_vector(weights.norm);
  vectors.key_head = add_vector(std::vector<std::uint32_t>(weights.key_head.begin(), weights.key_head.end()));
}

void DeviceWeights::add_attention(const model::AttentionWeights& weights, LayerMatrices& matrices,
                                  VectorItems& vectors) {
  const std::size_t head_dim = model_.config.head_dim;
  const std::size_t query_dim = model_.config.query_dim();
  // Stored head by head as query, then gate.
  const auto projections = [&weights, head_dim, query_dim](std::size_t row) {
    const auto of_head = [head_dim](std::size_t at, std::size_t half) {
      return at / head_dim * 2 * head_dim + half * head_dim + at % head_dim;
    };
    if (row < query_dim) return Source{&weights.q_gate, of_head(row, 0)};
    row -= query_dim;
    for (const model::Matrix* part : {&weights.k, &weights.v}) {
      if (row < part->rows) return Source{part, row};
      row -= part->rows;
    }
    return Source{&weights.q_gate, of_head(row, 1)};
  };
  matrices.mix_in = add_matrix(shape_.attention_width(), model_.config.hidden_size, projections);
  matrices.mix_out = add_matrix(weights.out.rows, weights.out.cols,
                                [&weights](std::size_t row) { return Source{&weights.out, row}; });
  vectors.q_norm = add_vector(weights.q_norm);
  vectors.k_norm = add_vector(weights.k_norm);
}

void DeviceWeights::fill(std::size_t index, std::span<std::byte> out) const {
  const Item& item = items_[index];
  SLUICE_CHECK(out.size() == item.place.bytes);
  if (!item.rows) {
    std::memcpy(out.data(), item.vector.data(), out.size());
    return;
  }
  const PackedMatrix& shape = item.shape;
  std::vector<float> values(shape.width);
  std::memset(out.data(), 0, out.size());
  std::uint16_t bits[kChunk];
  for (std::uint32_t row = 0; row < shape.n_rows; ++row) {
    const Source source = item.rows(row);
    source.matrix->read_row(source.row, values);
    for (std::uint32_t first = 0; first < shape.width; first += kChunk) {
      const std::uint32_t n = std::min(kChunk, shape.width - first);
      for (std::uint32_t i = 0; i < n; ++i) {
        const float value = values[first + i];
        bits[i] = float_to_bf16(value);
        if (!(bf16_to_float(bits[i]) == value))
          throw Error(fmt::format("tensor {} has {} at [{}, {}], which is no BF16 number",
                                  source.matrix->name, value, source.row, first + i),
                      "--device cuda", "take a BF16 checkpoint, or run it with --device cpu");
      }
      std::memcpy(out.data() + packed_index(row, first, shape.chunks) * sizeof *bits, bits, n * sizeof *bits);
    }
  }
}

const std::uint16_t* DeviceWeights::address(std::uint64_t base, const PackedMatrix& matrix) const {
  return vector_address<std::uint16_t>(base, matrix.item);
}

const float* DeviceWeights::final_norm(std::uint64_t base) const {
  return vector_address<float>(base, norm_);
}

template <typename T>
const T* DeviceWeights::vector_address(std::uint64_t base, std::size_t item) const {
  return device_pointer<const T>(base + items_[item].place.offset);
}

std::vector<LayerVectors> DeviceWeights::layers(std::uint64_t base) const {
  std::vector<LayerVectors> layers;
  for (std::size_t i = 0; i < vectors_.size(); ++i) {
    const VectorItems& items = vectors_[i];
    LayerVectors layer{};
    layer.mix_norm = vector_address<float>(base, items.mix_norm);
    layer.mlp_norm = vector_address<float>(base, items.mlp_norm);
    if (model_.config.layers[i] == model::LayerKind::kDeltaNet) {
      layer.conv = vector_address<float>(base, items.conv);
      layer.decay = vector_address<float>(base, items.decay);
      layer.dt_bias = vector_address<float>(base, items.dt_bias);
      layer.delta_norm = vector_address<float>(base, items.delta_norm);
      layer.key_head = vector_address<std::uint32_t>(base, items.key_head);
    } else {
      layer.q_norm = vector_address<float>(base, items.q_norm);
      layer.k_norm = vector_address<float>(base, items.k_norm);
    }
    layers.push_back(layer);
  }
  return layers;
}

}  // namespace sluice::cuda
