// The best of a row's tokens, in shared memory: ranked by key, equal keys by token, the lower first (program/sampling.h).
#pragma once

#include <cstdint>

#include "cuda/device/block.h"

namespace sluice::cuda::device {

__device__ inline bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.key > b.key || (a.key == b.key && a.token < b.token);
}
__device__ inline Candidate no_candidate() {
  return {-__builtin_inff(), kNone};
}

// Whether the row's list of at most `k` wants it.
__device__ inline bool is_wanted(const Block& block, std::uint32_t row, std::uint32_t k,
                                 const Candidate& it) {
  const std::uint32_t n = block.state().n_listed[row];
  return n < k || ranks_before(it, block.list(row)[k - 1]);
}

// A warp: puts it into its place in the list.
__device__ inline void insert(const Block& block, std::uint32_t row, std::uint32_t k, const Candidate& it) {
  Candidate* list = block.list(row);
  const std::uint32_t n = block.state().n_listed[row];
  const std::uint32_t low = block.lane;
  const std::uint32_t high = block.lane + 32;
  const Candidate at_low = low < n ? list[low] : no_candidate();
  const Candidate at_high = high < n ? list[high] : no_candidate();
  const std::uint32_t place =
      static_cast<std::uint32_t>(__popc(__ballot_sync(0xFFFFFFFFU, low < n && ranks_before(at_low, it))) +
                                 __popc(__ballot_sync(0xFFFFFFFFU, high < n && ranks_before(at_high, it))));
  __syncwarp();
  if (place >= k) return;
  if (low < n && low >= place && low + 1 < k) list[low + 1] = at_low;
  if (high < n && high >= place && high + 1 < k) list[high + 1] = at_high;
  if (block.lane == 0) {
    list[place] = it;
    block.state().n_listed[row] = min(n + 1, k);
  }
  __syncwarp();
}

// A warp: offers each lane's candidate (kNone: none) to the list of the lane's row.
__device__ inline void offer(const Block& block, std::uint32_t row, std::uint32_t k, const Candidate& it) {
  std::uint32_t wanting = __ballot_sync(0xFFFFFFFFU, it.token != kNone && is_wanted(block, row, k, it));
  __syncwarp();
  while (wanting != 0) {
    const int lane = __ffs(static_cast<int>(wanting)) - 1;
    wanting &= wanting - 1;
    const Candidate one{__shfl_sync(0xFFFFFFFFU, it.key, lane), __shfl_sync(0xFFFFFFFFU, it.token, lane)};
    insert(block, __shfl_sync(0xFFFFFFFFU, row, lane), __shfl_sync(0xFFFFFFFFU, k, lane), one);
  }
}

// The better one of two, over lanes that differ in the bits below `width`.
__device__ inline Candidate best_of_lanes(Candidate best, int width) {
#pragma unroll 1
  for (int distance = width / 2; distance > 0; distance /= 2) {
    const Candidate other{__shfl_xor_sync(0xFFFFFFFFU, best.key, distance),
                          __shfl_xor_sync(0xFFFFFFFFU, best.token, distance)};
    if (ranks_before(other, best)) best = other;
  }
  return best;
}

}  // namespace sluice::cuda::device
