// What a decode step moves and computes, and what a sequence keeps.
//
// Bytes of a decode step of one row: weights read + recurrent state read and written + KV read.
//   weights  every tensor of the language model once, as stored; of the embedding only the token's row, plus
//            all of it again when it is also the head (tied)
//   state    2 × (DeltaNet state + convolution state), fp32
//   KV       context × bytes per token, bf16
// FLOPs = 2 × multiply-accumulates:
//   weight matrices, the head included     Σ rows × cols
//   convolution, per DeltaNet layer        conv_dim × conv_kernel
//   delta rule, per DeltaNet layer         3 × n_value_heads × key_head_dim × value_head_dim  (Sᵀk, S += kδᵀ, Sᵀq)
//   attention, per attention layer         2 × n_heads × head_dim × context                   (qK, then weights × V)
// Norms, activations, RoPE, softmax and decay are element by element and are not counted.
#pragma once

#include <cstddef>

#include "model/weights.h"

namespace sluice::cli {

struct SequenceBytes {
  std::size_t delta_state = 0;   // fp32
  std::size_t conv_state = 0;    // fp32
  std::size_t kv_per_token = 0;  // bf16
};

SequenceBytes sequence_bytes(const model::ModelConfig& config);

struct DecodeCost {
  std::size_t weight_bytes = 0;
  std::size_t state_bytes = 0;  // read and written
  std::size_t kv_bytes = 0;
  std::size_t flops = 0;

  std::size_t bytes() const { return weight_bytes + state_bytes + kv_bytes; }
};

// `context`: positions that the row attends to, its own included.
DecodeCost decode_cost(const model::Model& model, std::size_t context);

// Parameters of the language model; a tied head counts once, multi-token prediction doesn't.
std::size_t parameter_count(const model::Model& model);
// The same from the shapes that the config asks for.
std::size_t parameter_count(const model::ModelConfig& config);

}  // namespace sluice::cli
