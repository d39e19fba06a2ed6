// Canonical weights: one form, whatever file they came from. The differences between formats end here
// (docs/models.md §3: norm weights as plain multipliers, decay as -exp(A_log), V heads in GGUF's tiled order, the V→K head
// map as data).
//
// V-head order. Hugging Face groups V heads by their K head: stored head kh * R + r uses K head kh, with
// R = n_value_heads / n_key_heads. Ours is tiled: head r * n_key_heads + kh, so head hv uses K head
// hv % n_key_heads. A Matrix maps its rows or columns to the stored ones; nothing is copied or moved.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "model/config.h"
#include "model/storage.h"
#include "model/tensor.h"

namespace sluice::model {

// A permutation of heads within rows or columns: index i < begin stays; from there on, canonical head h is
// stored head `stored[h]`, `head_size` indices each. Empty `stored`: identity.
struct HeadOrder {
  std::size_t begin = 0;
  std::size_t head_size = 0;
  std::vector<std::size_t> stored;

  std::size_t stored_index(std::size_t canonical) const {
    if (stored.empty() || canonical < begin) return canonical;
    const std::size_t offset = canonical - begin;
    return begin + stored[offset / head_size] * head_size + offset % head_size;
  }
};

// A weight matrix [rows, cols] in the checkpoint's own type, y = W x. Rows and columns are canonical.
struct Matrix {
  std::string name;  // of the stored tensor, for messages
  DType dtype = DType::kF32;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::span<const std::byte> data;  // [rows, cols] in stored order
  HeadOrder row_order;
  HeadOrder col_order;

  // Row `row` in fp32; out.size() == cols.
  void read_row(std::size_t row, std::span<float> out) const;
};

struct DeltaNetWeights {
  Matrix qkv;                         // [2 * key_dim + value_dim, hidden]  rows Q | K | V
  Matrix z;                           // [value_dim, hidden]
  Matrix b;                           // [n_value_heads, hidden]
  Matrix a;                           // [n_value_heads, hidden]
  std::vector<float> conv;            // [conv_dim, conv_kernel]  the last tap meets the current token
  std::vector<float> decay;           // [n_value_heads]  -exp(A_log)
  std::vector<float> dt_bias;         // [n_value_heads]
  std::vector<float> norm;            // [value_head_dim]
  Matrix out;                         // [hidden, value_dim]
  std::vector<std::size_t> key_head;  // [n_value_heads]  the K head that V head hv uses
};

struct AttentionWeights {
  Matrix q_gate;              // [n_heads * 2 * head_dim, hidden]  per head: query, then output gate
  Matrix k;                   // [n_kv_heads * head_dim, hidden]
  Matrix v;                   // [n_kv_heads * head_dim, hidden]
  Matrix out;                 // [hidden, n_heads * head_dim]
  std::vector<float> q_norm;  // [head_dim]
  std::vector<float> k_norm;  // [head_dim]
};

struct MlpWeights {
  Matrix gate;  // [intermediate, hidden]
  Matrix up;    // [intermediate, hidden]
  Matrix down;  // [hidden, intermediate]
};

struct LayerWeights {
  std::vector<float> mix_norm;  // [hidden]  input_layernorm
  std::variant<DeltaNetWeights, AttentionWeights> mixer;
  std::vector<float> mlp_norm;  // [hidden]  post_attention_layernorm
  MlpWeights mlp;
};

// Multi-token prediction (docs/models.md §5). Addressable; nothing runs it yet.
struct MtpWeights {
  Matrix fc;                          // [hidden, 2 * hidden]  embedding first, then hidden
  std::vector<float> embedding_norm;  // [hidden]
  std::vector<float> hidden_norm;     // [hidden]
  std::vector<float> norm;            // [hidden]
  std::vector<LayerWeights> layers;   // attention layers
};

struct Weights {
  Matrix embedding;  // [vocab, hidden]
  std::vector<LayerWeights> layers;
  std::vector<float> norm;  // [hidden]
  Matrix head;              // [vocab, hidden]; the embedding's bytes when tied
  std::optional<MtpWeights> mtp;
};

// Told how many of `total` bytes have been checked and mapped, so that a caller may show progress.
using LoadProgress = std::function<void(std::size_t done, std::size_t total)>;

struct ModelTensor : TensorView {
  std::filesystem::path file;
  bool mtp = false;  // of multi-token prediction alone
};

struct Model {
  ModelConfig config;  // tie_word_embeddings: whether weights.head is the embedding
  Weights weights;
  std::vector<ModelTensor> tensors;        // every language and mtp tensor, by name
  std::vector<std::string> skipped;        // names of tensors that are not the language model's
  std::shared_ptr<const Storage> storage;  // the mapped files
};

// Loads a folder with config.json and safetensors, or a GGUF file. Weights stay mapped; only vectors are copied. Throws
// Error that names file, tensor and expectation (shape, type, NaN or infinite values in vectors, which are what has been
// looked at so far).
Model load_model(const std::filesystem::path& path, const LoadProgress& progress = {});

// Throws Error that names file, tensor and index if a weight of `model` is infinite or not a number. Reads every byte, at
// about the speed of memory, so whoever only looks at a model's shapes can do without.
void check_finite(const Model& model, const LoadProgress& progress = {});

// Whether no number among `data`, whole blocks of `type`, is infinite or not a number.
bool all_finite(DType type, std::span<const std::byte> data);

// The error of check_finite.
Error not_finite_error(std::string_view tensor, std::size_t index, const std::filesystem::path& file);

}  // namespace sluice::model
