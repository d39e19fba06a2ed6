// The gated delta rule (Yang, Kautz, Hatamizadeh 2024) of a long span, by chunks of rows: matrix products instead of a pass
// through the state for every row (docs/models.md §2). For a chunk and a V head, with K, Q, V its rows, S [key_dim, value_dim]
// the state before it, e_i = decay[0] ... decay[i], E_ij = decay[j + 1] ... decay[i] for j <= i, else 0:
//
//   (I + A) V' = diag(β) (V − diag(e) K S)      A_ij = β_i E_ij k_i·k_j for j < i, else 0; row by row
//   O = diag(e) Q S + (E ⊙ Q Kᵀ) V'
//   S ← e_last S + Kᵀ diag(E_last) V'
//
// V' are the recurrence's δ, those of U − W S in docs/models.md; K S takes fewer products than W. All factors are products of
// decays and at most 1.
//
// Tables that take activations in bf16 round the operands of the products (K, Q, S, E ⊙ Q Kᵀ, V', diag(E_last) V') to it; sums,
// state, decays and the solution are fp32.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/aligned_allocator.h"
#include "cpu/kernels.h"

namespace sluice::cpu {

// A worker's memory for it: c rows, all dimensions up to multiples of 16.
struct DeltaScratch {
  template <typename T>
  using Block = std::vector<T, AlignedAllocator<T>>;

  Block<float> products;    // [2, c, c]  keys with keys, queries with keys
  Block<float> factors;     // [2, c, c]  of earlier rows in V', of V' in O
  Block<float> sums;        // [2, c, value_dim]  keys with the state, then V'; queries with the state
  Block<float> scaled;      // [2, c, key_dim]  keys and queries (fp32)
  Block<float> transposed;  // [key_dim, c]  keys (fp32)
  Block<float> change;      // [key_dim, value_dim]  of the state; [c, value_dim]  what V' adds to O (bf16)

  // In bf16.
  Block<std::uint16_t> rows;             // [2, c, key_dim]  keys and queries
  Block<std::uint16_t> packed_keys;      // as columns
  Block<std::uint16_t> transposed_keys;  // [key_dim, c]
  Block<std::uint16_t> packed_state;
  Block<std::uint16_t> packed_values;  // V'
  Block<std::uint16_t> weights;        // [c, c]  of V' in O
};

class DeltaChunk {
 public:
  DeltaChunk(const Kernels& kernels, std::size_t key_dim, std::size_t value_dim, DeltaScratch& scratch);

  // Rows that are taken at once, at most. More of them spare passes through the state, but each takes more from the others.
  static std::size_t max_rows(const Kernels& kernels);

  // The rows' queries (normalised and scaled) and keys (normalised) [rows, key_dim], which must stay where they are.
  void set_keys(const float* query, const float* key, std::size_t rows);

  // Of one of the V heads that share them: value [rows, value_dim], decay and beta [rows], out [rows, value_dim]; state
  // [key_dim, value_dim], before and after.
  void run(const float* value, const float* decay, const float* beta, float* state, float* out);

 private:
  using Bf16Block = DeltaScratch::Block<std::uint16_t>;

  void set_keys_f32();
  void set_keys_bf16();
  void make_gates(const float* decay, const float* beta);
  void run_f32(const float* value, const float* beta, float* state, float* out);
  void run_bf16(const float* value, const float* beta, float* state, float* out);
  void multiply(const Bf16Block& packed, std::size_t depth, const Bf16Block& x, std::size_t rows,
                float* y) const;
  void round_rows(const float* x, std::uint16_t* to) const;

  const Kernels& k_;
  std::size_t key_dim_;
  std::size_t value_dim_;
  std::size_t depth_;  // key_dim up to a multiple of 16
  std::size_t width_;  // value_dim, the same
  bool is_bf16_;
  DeltaScratch& s_;
  const float* query_ = nullptr;
  const float* key_ = nullptr;
  std::size_t rows_ = 0;
  std::size_t ld_ = 0;                              // rows up to a multiple of 16
  std::array<float, kMaxDeltaChunk> from_start_{};  // e
  std::array<float, kMaxDeltaChunk> to_end_{};      // E_last
  std::array<float, kMaxDeltaChunk> key_scale_{};   // -β e
};

}  // namespace sluice::cpu
