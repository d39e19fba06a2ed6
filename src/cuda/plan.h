// What a model and a Program become on the device: packed weights, vectors, and the ops of a launch (launch.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "model/weights.h"
#include "program/program.h"

namespace sluice::cuda {

// The sizes of a model. Throws Error, naming the field, if the kernels don't take one.
ModelShape model_shape(const model::ModelConfig& config);

// Cosines, then sines, of the angles of positions 0, 1, ...: [context, rotary_dim]. Angles are fp32 (docs/models.md §2).
std::vector<float> rotary_table(const model::ModelConfig& config, std::size_t context);

// All weights of a model as they lie in device memory, one behind the other at aligned offsets. They are made piece by piece,
// so that no second copy of the model has to fit into the host's memory. Addresses that methods return or put into structs are
// `base` + offset, where `base` is where the device has them.
class DeviceWeights {
 public:
  // `model` must outlive it. Throws Error as model_shape does.
  explicit DeviceWeights(const model::Model& model);

  const ModelShape& shape() const { return shape_; }
  std::size_t bytes() const { return bytes_; }

  struct Piece {
    std::size_t offset = 0;
    std::size_t bytes = 0;
  };
  std::size_t n_pieces() const { return items_.size(); }
  Piece piece(std::size_t index) const { return items_[index].place; }
  // Writes piece `index`; out.size() is its bytes. Any thread may, several at once. Throws Error, naming the tensor, if a weight
  // isn't exactly a bf16 number: only those can be run now.
  void fill(std::size_t index, std::span<std::byte> out) const;

  // [layers]
  std::vector<LayerVectors> layers(std::uint64_t base) const;
  const std::uint16_t* embedding(std::uint64_t base) const { return address(base, embedding_); }

  // A packed matrix.
  struct PackedMatrix {
    std::size_t item = 0;
    std::uint32_t n_rows = 0;
    std::uint32_t width = 0;   // columns before padding
    std::uint32_t chunks = 0;  // and behind it, in chunks of 32
  };
  struct LayerMatrices {
    PackedMatrix mix_in, mix_out, mlp_in, mlp_out;
  };
  const LayerMatrices& matrices(std::size_t layer) const { return layers_[layer]; }
  const PackedMatrix& head() const { return head_; }
  const std::uint16_t* address(std::uint64_t base, const PackedMatrix& matrix) const;
  const float* final_norm(std::uint64_t base) const;

 private:
  // Where row `row` of a packed matrix comes from.
  struct Source {
    const model::Matrix* matrix = nullptr;
    std::size_t row = 0;
  };
  using Rows = std::function<Source(std::size_t row)>;
  struct Item {
    Piece place;
    PackedMatrix shape;  // of a matrix
    Rows rows;           // the same
    std::vector<std::byte> vector;
  };
  struct VectorItems {
    std::size_t mix_norm = 0, mlp_norm = 0, conv = 0, decay = 0, dt_bias = 0, delta_norm = 0, key_head = 0;
    std::size_t q_norm = 0, k_norm = 0;
  };

  std::size_t add(Item item, std::size_t bytes);
  PackedMatrix add_matrix(std::size_t n_rows, std::size_t width, Rows rows);
  template <typename T>
  std::size_t add_vector(const std::vector<T>& values);
  void add_layer(const model::LayerWeights& layer);
  void add_delta_net(const model::DeltaNetWeights& weights, LayerMatrices& matrices, VectorItems& vectors);
  void add_attention(const model::AttentionWeights& weights, LayerMatrices& matrices, VectorItems& vectors);
  template <typename T>
  const T* vector_address(std::uint64_t base, std::size_t item) const;

  const model::Model& model_;
  ModelShape shape_;
  std::size_t bytes_ = 0;
  std::vector<Item> items_;
  std::vector<LayerMatrices> layers_;
  std::vector<VectorItems> vectors_;
  PackedMatrix embedding_;
  PackedMatrix head_;
  std::size_t norm_ = 0;
};

// The ops of a decode launch, from the Program of its step: at most kMostDecodeRows rows in spans of at most
// program::kMaxShortSpan. Which op waits for which follows from the Program's waits, taken op by op.
std::vector<Op> decode_ops(const program::Program& program, const DeviceWeights& weights, std::uint64_t base);

// Their head and sampling alone, which wait for nothing before.
std::vector<Op> head_ops(std::vector<Op> ops);

}  // namespace sluice::cuda
