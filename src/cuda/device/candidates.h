// The best of a row's tokens, in shared memory: ranked by key, equal keys by token, the lower first (program/sampling.h).
#pragma once

#include <cstdint>

#include "cuda/device/block.h"

namespace sluice::cuda::device {

__device__ inline bool ranks_before(const Candidate& a, const Candidate& b) {
  // Not || and &&: they would be branches.
  return static_cast<bool>(static_cast<int>(a.key > b.key) |
                           (static_cast<int>(a.key == b.key) & static_cast<int>(a.token < b.token)));
}
__device__ inline Candidate no_candidate() {
  return {-__builtin_inff(), kNone};
}

// The block's lists, [rows, kMostTopK], and how long each is.
struct Lists {
  Candidate* candidates;
  std::uint32_t* n;

  __device__ explicit Lists(const Block& block) : candidates(block.list(0)), n(block.state().n_listed) {}
  __device__ Candidate* of(std::uint32_t row) const { return candidates + row * kMostTopK; }

  // Whether the row's list of at most `k` wants it.
  __device__ bool want(std::uint32_t row, std::uint32_t k, const Candidate& it) const {
    return n[row] < k || ranks_before(it, of(row)[k - 1]);
  }

  // A warp: puts it into its place in the list. What its lanes have read of lists before, they have read before it changes one.
  __device__ void insert(std::uint32_t row, std::uint32_t k, const Candidate& it) const {
    Candidate* list = of(row);
    const std::uint32_t size = n[row];
    const std::uint32_t low = threadIdx.x % 32;
    const std::uint32_t high = low + 32;
    const Candidate at_low = low < size ? list[low] : no_candidate();
    const Candidate at_high = high < size ? list[high] : no_candidate();
    const std::uint32_t place = static_cast<std::uint32_t>(
        __popc(__ballot_sync(0xFFFFFFFFU, low < size && ranks_before(at_low, it))) +
        __popc(__ballot_sync(0xFFFFFFFFU, high < size && ranks_before(at_high, it))));
    __syncwarp();
    if (place >= k) return;
    if (low < size && low >= place && low + 1 < k) list[low + 1] = at_low;
    if (high < size && high >= place && high + 1 < k) list[high + 1] = at_high;
    if (low == 0) {
      list[place] = it;
      n[row] = min(size + 1, k);
    }
    __syncwarp();
  }
};

// A warp: offers each lane's candidate (kNone: none) to the list of the lane's row. Once in the code: it is long.
static __device__ __noinline__ void offer(Lists lists, std::uint32_t row, std::uint32_t k, Candidate it) {
  std::uint32_t wanting = __ballot_sync(0xFFFFFFFFU, it.token != kNone && lists.want(row, k, it));
  while (wanting != 0) {
    const int lane = __ffs(static_cast<int>(wanting)) - 1;
    wanting &= wanting - 1;
    const Candidate one{__shfl_sync(0xFFFFFFFFU, it.key, lane), __shfl_sync(0xFFFFFFFFU, it.token, lane)};
    lists.insert(__shfl_sync(0xFFFFFFFFU, row, lane), __shfl_sync(0xFFFFFFFFU, k, lane), one);
  }
}

// The better one of two, over lanes that differ in the bits below `width`. Once in the code, too.
static __device__ __noinline__ Candidate best_of_lanes(Candidate best, int width) {
#pragma unroll 1
  for (int distance = width / 2; distance > 0; distance /= 2) {
    const Candidate other{__shfl_xor_sync(0xFFFFFFFFU, best.key, distance),
                          __shfl_xor_sync(0xFFFFFFFFU, best.token, distance)};
    if (ranks_before(other, best)) best = other;
  }
  return best;
}

}  // namespace sluice::cuda::device
