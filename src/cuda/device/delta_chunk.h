// The gated delta rule of a long span by chunks of rows (docs/models.md §2), in fp32: a V head's value columns [first, first +
// kDeltaColumns) by one block, since columns of the state never meet. For a chunk with K, Q, V its rows, S the state before
// it, e_i = decay[0] ... decay[i], E_ij = decay[j + 1] ... decay[i] for j <= i, else 0:
//
//   (I + A) V' = diag(β) (V − diag(e) K S)      A_ij = β_i E_ij k_i·k_j for j < i, else 0; row by row
//   O = diag(e) Q S + (E ⊙ Q Kᵀ) V'
//   S ← e_last S + Kᵀ diag(E_last) V'
//
// E is made row by row from products of decays: nothing overflows above the diagonal or cancels below it. Rows that a last chunk
// doesn't have are k = q = v = β = 0 and decay = 1, which leave the state as it is.
#pragma once

#include "cuda/device/matrix.h"
#include "cuda/launch.h"

namespace sluice::cuda::device {

inline constexpr std::uint32_t kDeltaChunk = 32;
inline constexpr std::uint32_t kDeltaColumns = 32;
// Rows of keys and of the state lie 132 words apart: 16-byte reads of 8 rows meet all banks.
inline constexpr std::uint32_t kDeltaStride = kMostKeyHeadDim + 4;

struct DeltaShared {
  alignas(16) float left[2 * kDeltaChunk][kDeltaStride];              // keys, queries
  alignas(16) float right[kDeltaChunk + kDeltaColumns][kDeltaStride];  // keys again are left's; [columns] the state, transposed
};

}  // namespace sluice::cuda::device
