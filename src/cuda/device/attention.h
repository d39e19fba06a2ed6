// The attention mixer of decode (docs/models.md §2): a unit is a row, a KV head and a page of kKvPage positions.
//
//   q, k = rope(rms_norm(q)), rope(rms_norm(k)) of the row;  k, v join the cache
//   of the page's positions x:  s_x = q·k_x / sqrt(head_dim);  m = max s;  l = Σ exp(s_x - m);  o = Σ exp(s_x - m) v_x
//
// and the merge: o = Σ_p exp(m_p - m) o_p / Σ_p exp(m_p - m) l_p · σ(gate), pages in order.
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
        group(quotient(of.launch.model.n_heads, of.launch.model.n_kv_heads)) {}

  // Shared memory of a unit.
  __device__ float* query(std::uint32_t head) const { return block.scratch() + head * kHeadStride; }
  __device__ float* weighted(std::uint32_t head) const { return query(group + head); }
  __device__ float* scores(std::uint32_t head) const { return query(2 * group) + head * kKvPage; }
  // Key and value of a row of the span, as the cache has them: [kMostHeadDim] each.
  __device__ std::uint16_t* fresh(std::uint32_t row, bool is_value) const {
    return reinterpret_cast<std::uint16_t*>(scores(group)) + (2 * row + (is_value ? 1 : 0)) * kMostHeadDim;
  }

  // Keys of a page; its values stand `to_values` further.
  __device__ std::uint16_t* page_of(std::uint32_t slot, std::uint32_t page, std::uint32_t kv_head) const {
    const States& states = block.launch.states;
    const std::size_t index =
        (std::size_t{states.pages[slot * block.launch.buffers.max_pages + page]} * model.n_attention_layers +
         op.kind_layer) *
            2 * model.n_kv_heads +
        kv_head;
    return states.kv + index * (kKvPage * model.kv_stride());
  }
  __device__ std::uint32_t to_values() const { return model.n_kv_heads * kKvPage * model.kv_stride(); }

  // A query in fp32, or a key or value as the cache has it.
  struct Place {
    float* query;          // or null
    std::uint16_t* fresh;  // [kMostHeadDim]
    __device__ void put(std::uint32_t d, std::uint32_t in_query, float value) const {
      if (query != nullptr)
        query[in_query] = value;
      else
        fresh[d] = to_cached(value);
    }
    __device__ void put(std::uint32_t d, float value) const { put(d, head_index(d), value); }
  };
  // A warp: rms_norm and RoPE of `in` [head_dim], times `scale`; zero up to kMostHeadDim. A value stays as it is.
  __device__ void make_head(const float* in, bool is_value, const float* norm, std::uint32_t position,
                            float scale, const Place& to) const {
    constexpr std::uint32_t kAtOnce = kLoadsAtOnce;
    const std::uint32_t head_dim = model.head_dim;
    std::uint32_t half = 0;
    if (!is_value) {
      float squares = 0;
#pragma unroll 1
      for (std::uint32_t first = block.lane; first < head_dim; first += kAtOnce * 32) {
        float values[kAtOnce];
#pragma unroll
        for (std::uint32_t i = 0; i < kAtOnce; ++i) {
          values[i] = 0;
          if (first + i * 32 < head_dim) values[i] = load_shared_result(in + first + i * 32);
        }
#pragma unroll
        for (std::uint32_t i = 0; i < kAtOnce; ++i) squares = fmaf(values[i], values[i], squares);
      }
      scale *= inverse_root_mean(warp_sum(squares), head_dim, model.eps);
      half = model.rotary_dim / 2;
      const float* cosines = block.launch.rotary + std::size_t{position} * model.rotary_dim;
#pragma unroll 1
      for (std::uint32_t pair = block.lane; pair < half; pair += 32) {
        const float first = load_shared_result(in + pair) * norm[pair];
        const float second = load_shared_result(in + half + pair) * norm[half + pair];
        const float cosine = cosines[pair];
        const float sine = cosines[half + pair];
        to.put(pair, (first * cosine - second * sine) * scale);
        to.put(half + pair, (second * cosine + first * sine) * scale);
      }
    }
    const std::uint32_t begin = 2 * half;
#pragma unroll 1
    for (std::uint32_t first = begin / 32 * 32 + block.lane; first < kMostHeadDim; first += kAtOnce * 32) {
      const std::uint32_t in_query = head_index(first);
      float values[kAtOnce];
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i) {
        values[i] = 0;
        const std::uint32_t d = first + i * 32;
        if (d < head_dim) values[i] = load_shared_result(in + d);
      }
      if (!is_value) {
#pragma unroll
        for (std::uint32_t i = 0; i < kAtOnce; ++i)
          if (first + i * 32 < head_dim) values[i] *= norm[first + i * 32];
      }
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i)
        if (first + i * 32 >= begin && first + i * 32 < kMostHeadDim)
          to.put(first + i * 32, in_query + head_index(i * 32), values[i] * scale);
    }
  }

  // All compute warps: the row's queries, and keys and values of `n_fresh` rows from `from` on.
  __device__ void prepare(std::uint32_t row, std::uint32_t position, std::uint32_t from,
                          std::uint32_t n_fresh, std::uint32_t kv_head) const {
    const Buffers& buffers = block.launch.buffers;
    const float scale = reciprocal_root(static_cast<float>(model.head_dim));
#pragma unroll 1
    for (std::uint32_t unit = block.warp; unit < group + 2 * n_fresh; unit += kComputeWarps) {
      const bool is_query = unit < group;
      const bool is_value = !is_query && (unit - group) % 2 != 0;
      const std::uint32_t of = is_query ? row : from + (unit - group) / 2;
      const std::uint32_t first =
          is_query ? (kv_head * group + unit) * model.head_dim
                   : (is_value ? model.value_begin() : model.key_begin()) + kv_head * model.head_dim;
      make_head(buffers.projection + std::size_t{of} * buffers.projection_stride + first, is_value,
                is_query ? vectors.q_norm : vectors.k_norm, position + of - row, is_query ? scale : 1.0F,
                {is_query ? query(unit) : nullptr, fresh(of - from, is_value)});
    }
  }

  // Scores of `n` positions, of which `n_cached` are in the cache: a warp takes four at a time, whose keys are loaded before the first is
  // used, a lane eight dimensions. Some positions behind the last get scores that mean nothing.
  __device__ void score(const std::uint16_t* keys, std::uint32_t n, std::uint32_t n_cached) const {
    constexpr std::uint32_t kAtOnce = 4;
    const bool has_part = block.lane * 8 < model.kv_stride();
    const std::uint32_t n_here = has_part ? n : 0;
    const std::uint32_t n_cached_here = has_part ? n_cached : 0;
    const std::uint32_t own = shared_address(fresh(0, false)) + block.lane * 16;
#pragma unroll 1
    for (std::uint32_t begin = block.warp * kAtOnce; begin < n; begin += kComputeWarps * kAtOnce) {
      const auto* at =
          reinterpret_cast<const uint4*>(keys + std::size_t{begin} * model.kv_stride()) + block.lane;
      uint4 packed[kAtOnce];
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i) {
        packed[i] = make_uint4(0, 0, 0, 0);
        if (begin + i < n_cached_here) packed[i] = load_shared_result(at + i * (model.kv_stride() / 8));
      }
      if (begin + kAtOnce > n_cached) {
#pragma unroll
        for (std::uint32_t i = 0; i < kAtOnce; ++i)
          if (begin + i >= n_cached && begin + i < n_here)
            packed[i] = load_shared(own + (begin + i - n_cached) * (2 * kMostHeadDim * 2));
      }
#pragma unroll 1
      for (std::uint32_t head = 0; head < group; ++head) {
        const float4 low = reinterpret_cast<const float4*>(query(head))[block.lane];
        const float4 high = reinterpret_cast<const float4*>(query(head) + head_index(4))[block.lane];
        float sums[kAtOnce];
#pragma unroll
        for (std::uint32_t i = 0; i < kAtOnce; ++i) {
          const float2 key[4] = {from_cached(packed[i].x), from_cached(packed[i].y), from_cached(packed[i].z),
                                 from_cached(packed[i].w)};
          float sum = low.x * key[0].x;
          sum = fmaf(low.y, key[0].y, sum);
          sum = fmaf(low.z, key[1].x, sum);
          sum = fmaf(low.w, key[1].y, sum);
          sum = fmaf(high.x, key[2].x, sum);
          sum = fmaf(high.y, key[2].y, sum);
          sum = fmaf(high.z, key[3].x, sum);
          sums[i] = fmaf(high.w, key[3].y, sum);
        }
        const float sum = sums_of_warp(sums);
        if (block.lane % 8 == 0) scores(head)[begin + block.lane / 8] = sum;
        __syncwarp();  // so that lanes read the next query side by side
      }
    }
  }

  // Of a KV head's first query head; the next one's is max_pages further.
  __device__ std::size_t partial_index(std::uint32_t row, std::uint32_t kv_head, std::uint32_t page) const {
    return std::size_t{row * model.n_heads + kv_head * group} * block.launch.buffers.max_pages + page;
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
      const float a = block.lane < n ? exponential(first - most) : 0.0F;
      const float b = block.lane + 32 < n ? exponential(second - most) : 0.0F;
      s[block.lane] = a;
      s[block.lane + 32] = b;
      const float sum = warp_sum(a + b);
      if (block.lane != 0) continue;
      float* out = block.launch.buffers.partial_sums +
                   (partial_index(row, kv_head, page) + head * block.launch.buffers.max_pages) * 2;
      out[0] = most;
      out[1] = sum;
    }
  }

  // Weighted values: a thread has two dimensions and every second position, and adds them up for all heads in shared memory: even
  // positions where the queries were, odd ones in `weighted`.
  __device__ void weigh(const std::uint16_t* values, std::uint32_t row, std::uint32_t kv_head,
                        std::uint32_t page, std::uint32_t n, std::uint32_t n_cached) const {
    constexpr std::uint32_t kLoads = 2 * kLoadsAtOnce;  // under way
    const std::uint32_t d = threadIdx.x % (kMostHeadDim / 2) * 2;
    const std::uint32_t half = threadIdx.x / (kMostHeadDim / 2);
    const bool has_part = d < model.kv_stride();
    float* const even = query(0) + d;
    float* const odd = weighted(0) + d;
    float* const own = half == 0 ? even : odd;
    const float* const weights = scores(0);  // zero from n on
    if (has_part) {
#pragma unroll 1
      for (std::uint32_t head = 0; head < group; ++head)
        *reinterpret_cast<float2*>(own + head * kHeadStride) = make_float2(0, 0);
#pragma unroll 1
      for (std::uint32_t begin = half; begin < n; begin += 2 * kLoads) {
        std::uint32_t pairs[kLoads];
        const std::uint16_t* at = values + begin * model.kv_stride() + d;
#pragma unroll
        for (std::uint32_t i = 0; i < kLoads; ++i) {
          pairs[i] = 0;
          if (begin + 2 * i < n_cached)
            pairs[i] =
                load_shared_result(reinterpret_cast<const std::uint32_t*>(at + 2 * i * model.kv_stride()));
        }
        if (begin + 2 * kLoads > n_cached) {
#pragma unroll
          for (std::uint32_t i = 0; i < kLoads; ++i)
            if (begin + 2 * i >= n_cached && begin + 2 * i < n)
              pairs[i] = *reinterpret_cast<const std::uint32_t*>(fresh(begin + 2 * i - n_cached, true) + d);
        }
#pragma unroll 1
        for (std::uint32_t head = 0; head < group; ++head) {
          auto* const place = reinterpret_cast<float2*>(own + head * kHeadStride);
          float2 sums = *place;
#pragma unroll
          for (std::uint32_t i = 0; i < kLoads; ++i) {
            const float2 value = from_cached(pairs[i]);
            const float weight = weights[head * kKvPage + begin + 2 * i];
            sums.x = fmaf(weight, value.x, sums.x);
            sums.y = fmaf(weight, value.y, sums.y);
          }
          *place = sums;
        }
      }
    }
    block.computing_warps();
    if (half != 0 || !has_part) return;
    float* out = block.launch.buffers.partial + partial_index(row, kv_head, page) * model.head_dim + d;
#pragma unroll 1
    for (std::uint32_t head = 0; head < group; ++head) {
      const float2 first = *reinterpret_cast<const float2*>(even + head * kHeadStride);
      const float2 second = *reinterpret_cast<const float2*>(odd + head * kHeadStride);
      if (d < model.head_dim) out[0] = first.x + second.x;
      if (d + 1 < model.head_dim) out[1] = first.y + second.y;
      out += std::size_t{block.launch.buffers.max_pages} * model.head_dim;
    }
  }

  // The row's key and value to the cache.
  __device__ void append(std::uint16_t* keys, std::uint32_t position, const std::uint16_t* own) const {
    std::uint16_t* to = keys + position % kKvPage * model.kv_stride();
#pragma unroll 1
    for (std::uint32_t i = threadIdx.x; i < 2 * model.kv_stride(); i += kComputeThreads) {
      const bool is_value = i >= model.kv_stride();
      const std::uint32_t d = is_value ? i - model.kv_stride() : i;
      to[(is_value ? to_values() : 0) + d] = own[(is_value ? kMostHeadDim : 0) + d];
    }
  }

  __device__ void run_unit(std::uint32_t row, std::uint32_t position, std::uint32_t kv_head,
                           std::uint32_t page) const {
    const Span& span = block.launch.spans[block.launch.rows[row].span];
    const std::uint32_t first = page * kKvPage;
    const std::uint32_t n = min(position + 1 - first, kKvPage);
    const std::uint32_t step_begin = span.position + block.step;  // of the span's first row
    const std::uint32_t n_cached = min(step_begin > first ? step_begin - first : 0, n);
    // The first of the span's rows that is in this page, if any is.
    const std::uint32_t from = span.first_row + (step_begin > first ? 0 : first - step_begin);
    prepare(row, position, from, n - n_cached, kv_head);
    block.computing_warps();
    std::uint16_t* keys = page_of(span.slot, page, kv_head);
    score(keys, n, n_cached);
    if (page == position / kKvPage) append(keys, position, fresh(row - from, false));
    block.computing_warps();
    exponentiate(row, kv_head, page, n);
    block.computing_warps();
    weigh(keys + to_values(), row, kv_head, page, n, n_cached);
    block.computing_warps();
  }

  __device__ void run(Range share) const {
    std::uint32_t before = 0;
#pragma unroll 1
    for (std::uint32_t row = 0; row < block.launch.n_rows; ++row) {
      const std::uint32_t position = block.position(row);
      const std::uint32_t n_pages = position / kKvPage + 1;
      const std::uint32_t end = before + model.n_kv_heads * n_pages;
#pragma unroll 1
      for (std::uint32_t unit = max(share.begin, before); unit < min(share.end, end); ++unit) {
        const std::uint32_t kv_head = quotient(unit - before, n_pages);
        run_unit(row, position, kv_head, unit - before - kv_head * n_pages);
      }
      before = end;
    }
  }
};

// All compute warps for each row and head: 32 dimensions each.
__device__ inline void merge_pages(const Block& block, Range units) {
  const ModelShape& model = block.launch.model;
  const Buffers& buffers = block.launch.buffers;
  static_assert(kMostHeadDim == kComputeThreads);
  const bool has_dimension = threadIdx.x < model.head_dim;
  const std::uint32_t d = has_dimension ? threadIdx.x : 0;
  std::uint32_t row = 0;
  std::uint32_t before = 0;  // units of the rows before
#pragma unroll 1
  for (std::uint32_t unit = units.begin; unit < units.end; ++unit) {
    for (; unit - before >= model.n_heads; before += model.n_heads) ++row;
    const std::uint32_t at = (unit - before) * model.head_dim + d;
    const std::uint32_t n_pages = block.pages(row);
    const std::size_t first = std::size_t{unit} * buffers.max_pages;
    const auto* sums = reinterpret_cast<const float2*>(buffers.partial_sums) + first;
    const float* weighted = buffers.partial + first * model.head_dim + d;
    float most = -__builtin_inff();
#pragma unroll 1
    for (std::uint32_t page = block.lane; page < n_pages; page += 32)
      most = fmaxf(most, load_shared_result(sums + page).x);
    most = warp_max(most);
    float total = 0;
    float out = 0;
    constexpr std::uint32_t kAtOnce = kLoadsAtOnce;  // pages
#pragma unroll 1
    for (std::uint32_t page = 0; page < n_pages; page += kAtOnce) {
      float2 of_pages[kAtOnce];
      float parts[kAtOnce];
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i) {
        const std::uint32_t at_most =
            min(page + i, n_pages - 1);  // the last one again behind it, for nothing
        of_pages[i] = load_shared_result(sums + at_most);
        parts[i] = load_shared_result(weighted + at_most * model.head_dim);
      }
#pragma unroll
      for (std::uint32_t i = 0; i < kAtOnce; ++i) {
        const float factor = page + i < n_pages ? exponential(of_pages[i].x - most) : 0.0F;
        total = fmaf(factor, of_pages[i].y, total);
        out = fmaf(factor, parts[i], out);
      }
    }
    if (!has_dimension) continue;
    const float* gate =
        buffers.projection + std::size_t{row} * buffers.projection_stride + model.gate_begin() + at;
    buffers.attended[std::size_t{row} * buffers.attended_stride + at] =
        to_bf16(out * reciprocal(total) * sigmoid(load_shared_result(gate)));
  }
}

}  // namespace sluice::cuda::device
