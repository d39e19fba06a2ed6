// A model of any shape with random weights, in memory: what speed is measured on where there is no checkpoint. It says
// nothing sensible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/reserved_memory.h"
#include "model/config.h"
#include "model/weights.h"

namespace sluice::model {

// Names that known_shape takes: "qwen3.5-0.8b", ...
std::span<const std::string_view> known_shapes();

// The config of a published model (docs/models.md §1), without multi-token prediction. Nothing if the name is unknown.
std::optional<ModelConfig> known_shape(std::string_view name);

// Weights as Hugging Face stores them: bf16, but A_log and DeltaNet's norm in fp32; a tied head is the embedding. Matrices
// are uniform, of a size that lets activations keep theirs from layer to layer; everything is finite.
class RandomModel {
 public:
  // Address space for all matrices; they are zero, and take no memory, until `fill`.
  RandomModel(const ModelConfig& config, std::uint64_t seed);

  std::size_t bytes() const { return bytes_; }  // of all tensors

  // Same seed, same weights, whatever n_threads is. Throws Error if a thread can't be made.
  void fill(std::size_t n_threads);

  const Model& model() const { return model_; }

 private:
  // Room for a tensor, which becomes one of the model's.
  std::span<std::byte> add(const std::string& name, DType dtype, std::vector<std::size_t> shape);
  Matrix matrix(const std::string& name, std::size_t rows, std::size_t cols);
  // Uniform from `low` to `high`, rounded to `dtype`.
  std::vector<float> vector(const std::string& name, DType dtype, std::vector<std::size_t> shape, float low,
                            float high);
  std::vector<float> norm(const std::string& name, std::size_t n);
  LayerWeights layer(const std::string& prefix, LayerKind kind);
  DeltaNetWeights delta_net(const std::string& prefix);
  AttentionWeights attention(const std::string& prefix);

  struct Pending {
    std::span<std::byte> data;  // bf16
    float limit = 0;            // of their size
    std::uint64_t seed = 0;
  };
  std::uint64_t seed_;
  std::size_t bytes_ = 0;
  // Memory can't shrink as a file can.
  struct Blocks final : Storage {
    std::vector<ReservedMemory> blocks;
    void check_intact() const override {}
  };
  std::shared_ptr<Blocks> storage_;
  std::vector<Pending> pending_;  // matrices
  Model model_;
};

}  // namespace sluice::model
