// The attention mixer of decode (docs/models.md §2): a unit is a row, a KV head and a page of kKvPage positions.
//
//   q, k = rope(rms_norm(q)), rope(rms_norm(k)) of the row;  k, v join the cache
//   of the page's positions x:  s_x = q·k_x / sqrt(head_dim);  m = max s;  l = Σ exp(s_x - m);  o = Σ exp(s_x - m) v_x
//
// and the merge, a warp for a row and head: o = Σ_p exp(m_p - m) o_p / Σ_p exp(m_p - m) l_p · σ(gate), pages in order.
//
// Keys and values of the step itself come from the projections, rounded as the cache has them: whoever needs one makes it, since
// the block that appends it may be another.
#pragma once

#include <cstdint>

#include "cuda/device/block.h"
#include "cuda/device/numbers.h"

namespace sluice::cuda::device {

// Dimensions d of a head in shared memory, so that a lane's eight are two conflict-free reads of 16 bytes.
__device__ inline std::uint32_t head_index(std::uint32_t d) {
  return d % 8 / 4 * (kHeadStride / 2 + 8) + d / 8 * 4 + d % 4;
}

struct Attention {
  const Block& block;
  const Op& op;
  const ModelShape& model;
  const LayerVectors& vectors;
  std::uint32_t group;  // query heads of a KV head

  __device__ Attention(const Block& of, const Op& op_)
      : block(of),
        op(op_),
        model(of.launch.model),
        vectors(of.launch.layers[op_.layer]),
        group(of.launch.model.n_heads / of.launch.model.n_kv_heads) {}

  __device__ std::uint32_t pages(std::uint32_t row) const { return block.position(row) / kKvPage + 1; }

  // Shared memory of a unit.
  __device__ float* query(std::uint32_t head) const { return block.scratch() + head * kHeadStride; }
  __device__ float* weighted(std::uint32_t head) const { return query(group + head); }
  __device__ float* scores(std::uint32_t head) const { return query(2 * group) + head * kKvPage; }
  // Key and value of a row of the span, as the cache has them: [kMostHeadDim] each.
  __device__ std::uint16_t* fresh(std::uint32_t row, bool is_value) const {
    return reinterpret_cast<std::uint16_t*>(scores(group)) + (2 * row + (is_value ? 1 : 0)) * kMostHeadDim;
  }

  __device__ std::uint16_t* page_of(std::uint32_t slot, std::uint32_t page, std::uint32_t kv_head,
                                    bool is_value) const {
    const States& states = block.launch.states;
    const std::size_t index =
        ((std::size_t{states.pages[slot * block.launch.buffers.max_pages + page]} * model.n_attention_layers +
          op.kind_layer) *
             2 +
         (is_value ? 1 : 0)) *
            model.n_kv_heads +
        kv_head;
    return states.kv + index * kKvPage * model.kv_stride();
  }

  // A warp: rms_norm and RoPE of `in` [head_dim], times `scale`, to `put(d, value)`; zero up to kMostHeadDim.
  template <typename Put>
  __device__ void make_head(const float* in, const float* norm, std::uint32_t position, float scale,
                            const Put& put) const {
    const std::uint32_t half = model.rotary_dim / 2;
    float squares = 0;
#pragma unroll 1
    for (std::uint32_t d = block.lane; d < model.head_dim; d += 32) {
      const float value = load_shared_result(in + d);
      squares = fmaf(value, value, squares);
    }
    const float inverse = 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(model.head_dim) + model.eps);
    const float* cosines = block.launch.rotary + std::size_t{position} * model.rotary_dim;
#pragma unroll 1
    for (std::uint32_t d = block.lane; d < kMostHeadDim; d += 32) {
      if (d >= model.head_dim) {
        put(d, 0.0F);
        continue;
      }
      float value = load_shared_result(in + d) * inverse * norm[d];
      if (d < 2 * half) {
        const bool is_first = d < half;
        const std::uint32_t other = is_first ? d + half : d - half;
        const std::uint32_t pair = is_first ? d : other;
        const float partner = load_shared_result(in + other) * inverse * norm[other];
        const float turned = partner * cosines[half + pair];
        value = value * cosines[pair] + (is_first ? -turned : turned);
      }
      put(d, value * scale);
    }
  }

  // All compute warps: the row's queries, and keys and values of `n_fresh` rows from `from` on.
  __device__ void prepare(std::uint32_t row, std::uint32_t from, std::uint32_t n_fresh,
                          std::uint32_t kv_head) const {
    const Buffers& buffers = block.launch.buffers;
    const float scale = 1.0F / sqrtf(static_cast<float>(model.head_dim));
#pragma unroll 1
    for (std::uint32_t unit = block.warp; unit < group + 2 * n_fresh; unit += kComputeWarps) {
      if (unit < group) {
        float* to = query(unit);
        make_head(buffers.projection + std::size_t{row} * buffers.projection_stride +
                      (kv_head * group + unit) * model.head_dim,
                  vectors.q_norm, block.position(row), scale,
                  [to](std::uint32_t d, float x) { to[head_index(d)] = x; });
        continue;
      }
      const std::uint32_t fresh_row = from + (unit - group) / 2;
      const bool is_value = (unit - group) % 2 != 0;
      std::uint16_t* to = fresh(fresh_row - from, is_value);
      const float* in = buffers.projection + std::size_t{fresh_row} * buffers.projection_stride +
                        (is_value ? model.value_begin() : model.key_begin()) + kv_head * model.head_dim;
      if (is_value) {
#pragma unroll 1
        for (std::uint32_t d = block.lane; d < kMostHeadDim; d += 32)
          to[d] = to_cached(d < model.head_dim ? load_shared_result(in + d) : 0.0F);
      } else {
        make_head(in, vectors.k_norm, block.position(fresh_row), 1.0F,
                  [to](std::uint32_t d, float x) { to[d] = to_cached(x); });
      }
    }
  }

  // Scores of `n` positions: a warp takes every eighth, a lane eight dimensions. All its keys are loaded before the first is used.
  __device__ void score(const std::uint16_t* keys, std::uint32_t n, std::uint32_t n_cached) const {
    constexpr std::uint32_t kOfWarp = kKvPage / kComputeWarps;
    const bool has_part = block.lane * 8 < model.kv_stride();
    uint4 packed[kOfWarp];
#pragma unroll
    for (std::uint32_t i = 0; i < kOfWarp; ++i) {
      const std::uint32_t x = i * kComputeWarps + block.warp;
      packed[i] = make_uint4(0, 0, 0, 0);
      if (has_part && x < n_cached)
        packed[i] = load_shared_result(
            reinterpret_cast<const uint4*>(keys + std::size_t{x} * model.kv_stride()) + block.lane);
    }
#pragma unroll
    for (std::uint32_t i = 0; i < kOfWarp; ++i) {
      const std::uint32_t x = i * kComputeWarps + block.warp;
      if (x >= n) break;
      if (has_part && x >= n_cached)
        packed[i] = load_shared(shared_address(fresh(x - n_cached, false)) + block.lane * 16);
      score_key(packed[i], x);
    }
  }

  __device__ void score_key(const uint4& packed, std::uint32_t x) const {
    const float2 key[4] = {from_cached(packed.x), from_cached(packed.y), from_cached(packed.z),
                           from_cached(packed.w)};
#pragma unroll 1
    for (std::uint32_t head = 0; head < group; ++head) {
      const float4 low = reinterpret_cast<const float4*>(query(head))[block.lane];
      const float4 high = reinterpret_cast<const float4*>(query(head) + head_index(4))[block.lane];
      float sum = low.x * key[0].x;
      sum = fmaf(low.y, key[0].y, sum);
      sum = fmaf(low.z, key[1].x, sum);
      sum = fmaf(low.w, key[1].y, sum);
      sum = fmaf(high.x, key[2].x, sum);
      sum = fmaf(high.y, key[2].y, sum);
      sum = fmaf(high.z, key[3].x, sum);
      sum = fmaf(high.w, key[3].y, sum);
      sum = warp_sum(sum);
      if (block.lane == 0) scores(head)[x] = sum;
    }
  }

  __device__ std::size_t partial_index(std::uint32_t row, std::uint32_t head, std::uint32_t page) const {
    return (std::size_t{row} * model.n_heads + head) * block.launch.buffers.max_pages + page;
  }

  // A warp for each head: scores become exponentials.
  __device__ void exponentiate(std::uint32_t row, std::uint32_t kv_head, std::uint32_t page,
                               std::uint32_t n) const {
#pragma unroll 1
    for (std::uint32_t head = block.warp; head < group; head += kComputeWarps) {
      float* s = scores(head);
      const float first = block.lane < n ? s[block.lane] : -__builtin_inff();
      const float second = block.lane + 32 < n ? s[block.lane + 32] : -__builtin_inff();
      const float most = warp_max(fmaxf(first, second));
      const float a = block.lane < n ? expf(first - most) : 0.0F;
      const float b = block.lane + 32 < n ? expf(second - most) : 0.0F;
      s[block.lane] = a;
      s[block.lane + 32] = b;
      const float sum = warp_sum(a + b);
      if (block.lane != 0) continue;
      float* out = block.launch.buffers.partial_sums + partial_index(row, kv_head * group + head, page) * 2;
      out[0] = most;
      out[1] = sum;
    }
  }

  // Weighted values: a thread has two dimensions and every second position; kAtOnce heads share a value's way here.
  __device__ void weigh(const std::uint16_t* values, std::uint32_t row, std::uint32_t kv_head,
                        std::uint32_t page, std::uint32_t n, std::uint32_t n_cached) const {
    constexpr std::uint32_t kAtOnce = 4;
    constexpr std::uint32_t kLoads = 8;  // under way
    const std::uint32_t d = threadIdx.x % (kMostHeadDim / 2) * 2;
    const std::uint32_t half = threadIdx.x / (kMostHeadDim / 2);
    const bool has_part = d < model.kv_stride();
#pragma unroll 1
    for (std::uint32_t first = 0; first < group; first += kAtOnce) {
      float2 sums[kAtOnce] = {};
#pragma unroll 1
      for (std::uint32_t begin = half; begin < n && has_part; begin += 2 * kLoads) {
        std::uint32_t pairs[kLoads];
#pragma unroll
        for (std::uint32_t i = 0; i < kLoads; ++i) {
          const std::uint32_t x = begin + 2 * i;
          pairs[i] = 0;
          if (x < n_cached)
            pairs[i] = load_shared_result(
                reinterpret_cast<const std::uint32_t*>(values + std::size_t{x} * model.kv_stride() + d));
        }
#pragma unroll
        for (std::uint32_t i = 0; i < kLoads; ++i) {
          const std::uint32_t x = begin + 2 * i;
          if (x >= n) break;
          if (x >= n_cached)
            pairs[i] = *reinterpret_cast<const std::uint32_t*>(fresh(x - n_cached, true) + d);
          const float2 value = from_cached(pairs[i]);
#pragma unroll
          for (std::uint32_t j = 0; j < kAtOnce; ++j) {
            if (first + j >= group) break;
            const float weight = scores(first + j)[x];
            sums[j].x = fmaf(weight, value.x, sums[j].x);
            sums[j].y = fmaf(weight, value.y, sums[j].y);
          }
        }
      }
      if (half == 1 && has_part) {
#pragma unroll
        for (std::uint32_t i = 0; i < kAtOnce; ++i)
          if (first + i < group) *reinterpret_cast<float2*>(weighted(first + i) + d) = sums[i];
      }
      block.computing_warps();
      if (half == 0 && has_part) {
#pragma unroll
        for (std::uint32_t i = 0; i < kAtOnce; ++i) {
          if (first + i >= group) break;
          const float2 other = *reinterpret_cast<const float2*>(weighted(first + i) + d);
          float* out = block.launch.buffers.partial +
                       partial_index(row, kv_head * group + first + i, page) * model.head_dim + d;
          if (d < model.head_dim) out[0] = sums[i].x + other.x;
          if (d + 1 < model.head_dim) out[1] = sums[i].y + other.y;
        }
      }
    }
  }

  // The row's key and value to the cache.
  __device__ void append(const Span& span, std::uint32_t row, std::uint32_t from, std::uint32_t kv_head,
                         std::uint32_t page) const {
    const std::uint32_t at = block.position(row) % kKvPage * model.kv_stride();
#pragma unroll 1
    for (std::uint32_t i = threadIdx.x; i < 2 * model.kv_stride(); i += kComputeThreads) {
      const bool is_value = i >= model.kv_stride();
      const std::uint32_t d = is_value ? i - model.kv_stride() : i;
      page_of(span.slot, page, kv_head, is_value)[at + d] = fresh(row - from, is_value)[d];
    }
  }

  __device__ void run_unit(std::uint32_t row, std::uint32_t kv_head, std::uint32_t page) const {
    const Span& span = block.launch.spans[block.launch.rows[row].span];
    const std::uint32_t position = block.position(row);
    const std::uint32_t first = page * kKvPage;
    const std::uint32_t n = min(position + 1 - first, kKvPage);
    const std::uint32_t step_begin = span.position + block.step;  // of the span's first row
    const std::uint32_t n_cached = min(step_begin > first ? step_begin - first : 0, n);
    // The first of the span's rows that is in this page, if any is.
    const std::uint32_t from = span.first_row + (step_begin > first ? 0 : first - step_begin);
    prepare(row, from, n - n_cached, kv_head);
    block.computing_warps();
    score(page_of(span.slot, page, kv_head, false), n, n_cached);
    if (page == position / kKvPage) append(span, row, from, kv_head, page);
    block.computing_warps();
    exponentiate(row, kv_head, page, n);
    block.computing_warps();
    weigh(page_of(span.slot, page, kv_head, true), row, kv_head, page, n, n_cached);
    block.computing_warps();
  }

  __device__ void run() const {
    std::uint32_t units = 0;
#pragma unroll 1
    for (std::uint32_t row = 0; row < block.launch.n_rows; ++row) units += model.n_kv_heads * pages(row);
    const Range share = block.share(units);
    std::uint32_t before = 0;
#pragma unroll 1
    for (std::uint32_t row = 0; row < block.launch.n_rows; ++row) {
      const std::uint32_t n_pages = pages(row);
      const std::uint32_t end = before + model.n_kv_heads * n_pages;
#pragma unroll 1
      for (std::uint32_t unit = max(share.begin, before); unit < min(share.end, end); ++unit)
        run_unit(row, (unit - before) / n_pages, (unit - before) % n_pages);
      before = end;
    }
  }
};

// A warp for each row and head.
__device__ inline void merge_pages(const Block& block) {
  const ModelShape& model = block.launch.model;
  const Buffers& buffers = block.launch.buffers;
  constexpr std::uint32_t kParts = kMostHeadDim / 32;
  const Range units = block.share(block.launch.n_rows * model.n_heads);
#pragma unroll 1
  for (std::uint32_t unit = units.begin + block.warp; unit < units.end; unit += kComputeWarps) {
    const std::uint32_t row = unit / model.n_heads;
    const std::uint32_t head = unit % model.n_heads;
    const std::uint32_t n_pages = block.position(row) / kKvPage + 1;
    const std::size_t first = std::size_t{unit} * buffers.max_pages;
    const auto* sums = reinterpret_cast<const float2*>(buffers.partial_sums) + first;
    float most = -__builtin_inff();
#pragma unroll 1
    for (std::uint32_t page = block.lane; page < n_pages; page += 32)
      most = fmaxf(most, load_shared_result(sums + page).x);
    most = warp_max(most);
    float total = 0;
    float out[kParts] = {};
#pragma unroll 1
    for (std::uint32_t page = 0; page < n_pages; ++page) {
      const float2 of_page = load_shared_result(sums + page);
      const float factor = expf(of_page.x - most);
      total = fmaf(factor, of_page.y, total);
      const float* weighted = buffers.partial + (first + page) * model.head_dim;
#pragma unroll
      for (std::uint32_t i = 0; i < kParts; ++i) {
        const std::uint32_t d = i * 32 + block.lane;
        if (d < model.head_dim) out[i] = fmaf(factor, load_shared_result(weighted + d), out[i]);
      }
    }
    const float* gate = buffers.projection + std::size_t{row} * buffers.projection_stride +
                        model.gate_begin() + head * model.head_dim;
    float* to = buffers.mixed + std::size_t{row} * buffers.mixed_stride + head * model.head_dim;
#pragma unroll
    for (std::uint32_t i = 0; i < kParts; ++i) {
      const std::uint32_t d = i * 32 + block.lane;
      if (d < model.head_dim) to[d] = out[i] / total * sigmoid(load_shared_result(gate + d));
    }
  }
}

}  // namespace sluice::cuda::device
