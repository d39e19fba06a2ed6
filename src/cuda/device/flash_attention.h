// Attention of kFlashQueries query vectors of a long span over the KV cache, with an online softmax (Milakov, Gimelshein 2018): keys
// and values pass by in blocks of kFlashPositions from position 0 on, a score lives as long as its block. Queries of
// one KV head, whatever rows and heads they are of, go together.
//
// Queries, weights of the softmax, keys and values are 16-bit numbers as the cache has them (numbers.h), sums are fp32. Warps
// stand 2 x 4: 16 queries each; a quarter of a block's positions for the scores, a quarter of the head's dimensions for the
// weighted values.
#pragma once

#include "cuda/device/matrix.h"

namespace sluice::cuda::device {

inline constexpr std::uint32_t kFlashQueries = 32;
inline constexpr std::uint32_t kFlashPositions = 32;
// 8 more than the dimensions: rows lie an odd number of 16 bytes apart, so that matrix loads meet all banks.
inline constexpr std::uint32_t kFlashStride = kMostHeadDim + 8;
inline constexpr std::uint32_t kFlashWeightStride = kFlashPositions + 8;  // of scores as well

struct FlashShared {
  alignas(16) std::uint16_t queries[kFlashQueries][kFlashStride];
  alignas(16) std::uint16_t keys[kFlashPositions][kFlashStride];
  alignas(16) std::uint16_t values[kFlashPositions][kFlashStride];
  alignas(16) std::uint16_t weights[kFlashQueries][kFlashWeightStride];
  alignas(8) float scores[kFlashQueries][kFlashWeightStride];
  float factor[kFlashQueries];         // of what was there before this block
  float sum[kFlashQueries];            // of weights, in the end
  std::uint32_t limit[kFlashQueries];  // positions that a query sees: [0, limit)
};

// Where keys and values of a head lie: position p at page pages[p / kKvPage].
struct FlashCache {
  const std::uint16_t* kv;  // of layer and head: K of page 0
  const std::uint32_t* pages;
  std::size_t page_stride;  // elements from page to page
  std::size_t v_offset;     // from K to V
  std::uint32_t kv_stride;

  __device__ const std::uint16_t* key(std::uint32_t position) const {
    const std::uint32_t page = load_shared_result(pages + position / kKvPage);
    return kv + page * page_stride + std::size_t{position % kKvPage} * kv_stride;
  }
};

// Weighted values of a warp: dimensions 8 (warp % 4 + 4 j) ..., as fragments.
struct FlashSums {
  float c[kMostHeadDim / 32][4];
};

// Positions [first, first + kFlashPositions) below `end`, keys or values; zeros for those behind: what isn't there is not read.
__device__ inline void fetch_positions(std::uint16_t (&to)[kFlashPositions][kFlashStride],
                                       const FlashCache& cache, std::size_t offset, std::uint32_t first,
                                       std::uint32_t end) {
  const std::uint32_t pieces = cache.kv_stride / 8;
  for (std::uint32_t i = threadIdx.x; i < kFlashPositions * pieces; i += kComputeThreads) {
    const std::uint32_t position = i / pieces;
    std::uint16_t* const at = &to[position][i % pieces * 8];
    if (first + position < end) {
      copy_16(at, cache.key(first + position) + offset + i % pieces * 8);
    } else {
      *reinterpret_cast<uint4*>(at) = make_uint4(0, 0, 0, 0);
    }
  }
}

__device__ inline void flash_scores(FlashShared& s, std::uint32_t first, std::uint32_t depth) {
  const std::uint32_t warp = threadIdx.x / kWarp;
  const std::uint32_t lane = threadIdx.x % kWarp;
  const std::uint32_t query = warp / 4 * 16;
  const std::uint32_t position = warp % 4 * 8;
  float c[4] = {};
  for (std::uint32_t d = 0; d < depth; d += 32) {
    std::uint32_t keys[4];
    load_blocks(&s.keys[position + lane % 8][d + lane / 8 * 8], keys);
#pragma unroll
    for (std::uint32_t half = 0; half < 2; ++half) {
      std::uint32_t queries[4];
      load_blocks(&s.queries[query + lane % 16][d + 16 * half + lane / 16 * 8], queries);
      multiply_add_cached(c, queries, keys[2 * half], keys[2 * half + 1]);
    }
  }
#pragma unroll
  for (std::uint32_t half = 0; half < 2; ++half) {
    const std::uint32_t row = query + lane / 4 + half * 8;
    const std::uint32_t column = position + lane % 4 * 2;
    const std::uint32_t limit = s.limit[row];
    *reinterpret_cast<float2*>(&s.scores[row][column]) =
        make_float2(first + column < limit ? c[2 * half] : -INFINITY,
                    first + column + 1 < limit ? c[2 * half + 1] : -INFINITY);
  }
}

// Eight lanes a query, four positions each. The first block has a position for every query, so `maximum` is finite from then on.
__device__ inline void flash_soften(FlashShared& s, float& maximum, float& sum) {
  const std::uint32_t row = threadIdx.x / 8;
  const std::uint32_t part = threadIdx.x % 8;
  float x[4];
  float most = maximum;
#pragma unroll
  for (std::uint32_t i = 0; i < 4; ++i) {
    x[i] = s.scores[row][part + 8 * i];
    most = fmaxf(most, x[i]);
  }
#pragma unroll
  for (std::uint32_t distance = 4; distance > 0; distance /= 2)
    most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, distance));
  const float factor = expf(maximum - most);
  float total = 0;
#pragma unroll
  for (std::uint32_t i = 0; i < 4; ++i) {
    const float weight = expf(x[i] - most);
    s.weights[row][part + 8 * i] = to_cached(weight);
    total += weight;
  }
#pragma unroll
  for (std::uint32_t distance = 4; distance > 0; distance /= 2)
    total += __shfl_xor_sync(kAllLanes, total, distance);
  sum = sum * factor + total;
  maximum = most;
  if (part == 0) s.factor[row] = factor;
}

__device__ inline void flash_add_values(const FlashShared& s, std::uint32_t depth, FlashSums& sums) {
  const std::uint32_t warp = threadIdx.x / kWarp;
  const std::uint32_t lane = threadIdx.x % kWarp;
  const std::uint32_t query = warp / 4 * 16;
  const float upper = s.factor[query + lane / 4];
  const float lower = s.factor[query + lane / 4 + 8];
  std::uint32_t weights[2][4];
  load_blocks(&s.weights[query + lane % 16][lane / 16 * 8], weights[0]);
  load_blocks(&s.weights[query + lane % 16][16 + lane / 16 * 8], weights[1]);
#pragma unroll
  for (std::uint32_t j = 0; j < kMostHeadDim / 32; ++j) {
    const std::uint32_t d = 8 * (warp % 4 + 4 * j);
    if (d >= depth) break;
    sums.c[j][0] *= upper;
    sums.c[j][1] *= upper;
    sums.c[j][2] *= lower;
    sums.c[j][3] *= lower;
    std::uint32_t values[4];
    load_blocks_transposed(&s.values[lane][d], values);
    multiply_add_cached(sums.c[j], weights[0], values[0], values[1]);
    multiply_add_cached(sums.c[j], weights[1], values[2], values[3]);
  }
}

// Queries and limits stand in shared memory, queries zero behind head_dim; no barrier since is needed. `end` is the largest limit.
// Calls use(query, dimension, output) for what this lane holds. All kComputeThreads threads; shared memory is free when it returns.
template <typename Use>
__device__ inline void flash_attention(FlashShared& s, const FlashCache& cache, std::uint32_t head_dim,
                                       std::uint32_t end, const Use& use) {
  const std::uint32_t depth = round_up(head_dim, 32);
  const std::uint32_t padding = depth - cache.kv_stride;
  for (std::uint32_t i = threadIdx.x; i < kFlashPositions * padding; i += kComputeThreads) {
    s.keys[i / padding][cache.kv_stride + i % padding] = 0;
    s.values[i / padding][cache.kv_stride + i % padding] = 0;
  }
  FlashSums sums = {};
  float maximum = -INFINITY;
  float sum = 0;
  fetch_positions(s.keys, cache, 0, 0, end);
  commit_copies();
  fetch_positions(s.values, cache, cache.v_offset, 0, end);
  commit_copies();
  for (std::uint32_t first = 0; first < end; first += kFlashPositions) {
    const std::uint32_t next = first + kFlashPositions;
    wait_for_copies<1>();
    tile_sync();
    flash_scores(s, first, depth);
    tile_sync();
    if (next < end) fetch_positions(s.keys, cache, 0, next, end);
    commit_copies();
    flash_soften(s, maximum, sum);
    wait_for_copies<1>();
    tile_sync();
    flash_add_values(s, depth, sums);
    tile_sync();
    if (next < end) fetch_positions(s.values, cache, cache.v_offset, next, end);
    commit_copies();
  }
  wait_for_copies<0>();
  if (threadIdx.x % 8 == 0) s.sum[threadIdx.x / 8] = sum;
  tile_sync();
  const std::uint32_t warp = threadIdx.x / kWarp;
  const std::uint32_t lane = threadIdx.x % kWarp;
#pragma unroll
  for (std::uint32_t j = 0; j < kMostHeadDim / 32; ++j) {
#pragma unroll
    for (std::uint32_t i = 0; i < 4; ++i) {
      const std::uint32_t d = 8 * (warp % 4 + 4 * j) + lane % 4 * 2 + i % 2;
      const std::uint32_t query = warp / 4 * 16 + lane / 4 + i / 2 * 8;
      if (d < head_dim) use(query, d, sums.c[j][i] / s.sum[query]);
    }
  }
  tile_sync();
}

}  // namespace sluice::cuda::device
