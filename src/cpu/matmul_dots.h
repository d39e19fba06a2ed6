// y = x W on bf16 with dot products of pairs: W packed (kernels.h), x in bf16. `Dots` are the instructions or their twin
// (matrix_instructions.h).
//
// What bounds a product of few rows is how fast its weights arrive, what bounds one of many is the dot products: one per
// cycle of 16 lanes on Zen 4, with results after 6, so at least 6 sums at once. Sums stay in registers: up to 24 of the 32,
// rows × panels, one chain for each element in order of K whatever the shape of the block. One vector of weights serves all
// rows, one broadcast pair all panels.
//
// Included by kernels_*.cpp and the tests; all of it is static (kernels_common.h).
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "cpu/fetch.h"
#include "cpu/kernels.h"

namespace sluice::cpu {
namespace {

// How far before their use weights are fetched into the second-level cache, in elements of a panel. The hardware's own
// prefetching ends with each page of 4 kB, and a panel of K = 1024 has eight. On Zen 4 this took 3% (1 row) to 20% (12
// rows) off the time without, at twice the distance; fetching into the first level instead cost 10% for 2 to 6 rows.
//
// Side by side are panels as far apart as a task's allow, so that each stream goes on in the next block where it ended: of K = 1024
// that takes 0.94 to 0.99 of the time of neighbours at twice the distance, in the slower of that memory's two moods
// (docs/performance.md).
constexpr size_t kAhead = kFetchAhead / sizeof(uint16_t);

// The operands of a block: rows of x by panels of w.
struct DotBlock {
  const uint16_t* w;
  size_t stride;  // elements from panel to panel
  size_t depth;
  const uint16_t* x;
  size_t ldx;
  float* y;
  size_t y_stride;  // from panel to panel
  size_t ldy;
  // What to fetch while it computes: panel by panel as w from `ahead` on at first; `then_stride` from panel to panel from `then` on
  // after `switch_at` elements.
  const uint16_t* ahead;
  const uint16_t* then;
  size_t then_stride;
  size_t switch_at;
};

// By itself, so that compilers give all registers to its loop.
template <typename Dots, size_t Panels, size_t Rows>
__attribute__((noinline)) void block_bf16(const DotBlock& block) {
  typename Dots::Sums sums[Rows][Panels];
  for (size_t row = 0; row < Rows; ++row)
    for (size_t panel = 0; panel < Panels; ++panel) sums[row][panel] = Dots::zero();
  const uint16_t* w = block.w;
  const uint16_t* x = block.x;
  const auto add_products = [&](size_t depth, const uint16_t* ahead, size_t ahead_stride) {
    for (const uint16_t* const end = x + depth; x < end; x += 2) {
      typename Dots::Pairs weights[Panels];
      for (size_t panel = 0; panel < Panels; ++panel) {
        weights[panel] = Dots::load(w + panel * block.stride);
        __builtin_prefetch(ahead + panel * ahead_stride, 0, 2);  // second level
      }
      w += 2 * kLanes;
      ahead += 2 * kLanes;
      for (size_t row = 0; row < Rows; ++row) {
        const typename Dots::Pairs pair = Dots::everywhere(x + row * block.ldx);
        for (size_t panel = 0; panel < Panels; ++panel)
          sums[row][panel] = Dots::add_products(sums[row][panel], weights[panel], pair);
      }
    }
  };
  add_products(block.switch_at / kLanes, block.ahead, block.stride);
  add_products(block.depth - block.switch_at / kLanes, block.then, block.then_stride);
  for (size_t row = 0; row < Rows; ++row)
    for (size_t panel = 0; panel < Panels; ++panel)
      Dots::store(sums[row][panel], block.y + row * block.ldy + panel * block.y_stride);
}

template <typename Dots, size_t Panels, size_t MaxRows>
inline void block_of_rows(size_t rows, const DotBlock& block) {
  if (rows == MaxRows) {
    block_bf16<Dots, Panels, MaxRows>(block);
  } else if constexpr (MaxRows > 1) {
    block_of_rows<Dots, Panels, MaxRows - 1>(rows, block);
  }
}

struct DotMatrix {
  const uint16_t* w;
  size_t depth;
  size_t n_panels;
  const uint16_t* x;
  size_t ldx;
  size_t rows;
  float* y;
  size_t ldy;
  NextWeights next;
};

// `Panels` at once, as many as there are up to the last that don't fill them; leaves those in `m`. Rows are cut evenly: a block of
// one or two rows would wait for its own sums.
template <typename Dots, size_t Panels, size_t MaxRows>
inline void panels_bf16(DotMatrix& m) {
  const size_t n_groups = m.n_panels / Panels;
  const size_t panel_size = m.depth * kLanes;
  const size_t stride = n_groups * panel_size;
  const size_t n_blocks = (m.rows + MaxRows - 1) / MaxRows;
  const size_t distance = panel_size < 2 * kAhead ? panel_size : kAhead;
  // What is read after all of them: the rest, or what follows; if nothing does, their beginning once more, which does no harm.
  const uint16_t* after = m.w;
  size_t after_stride = stride;
  if (m.n_panels > n_groups * Panels) {
    after = m.w + Panels * stride;
    after_stride = panel_size;
  } else if (m.next.first != nullptr) {
    after = static_cast<const uint16_t*>(m.next.first);
    after_stride = m.next.stride / sizeof(uint16_t);
  }
  for (size_t group = 0; group < n_groups; ++group) {
    const uint16_t* const w = m.w + group * panel_size;
    float* const y = m.y + group * kLanes;
    const bool is_last_group = group + 1 == n_groups;
    size_t row = 0;
    for (size_t i = 0; i < n_blocks; ++i) {
      const size_t rows = m.rows / n_blocks + (i < m.rows % n_blocks ? 1 : 0);
      DotBlock block{.w = w,
                     .stride = stride,
                     .depth = m.depth,
                     .x = m.x + row * m.ldx,
                     .ldx = m.ldx,
                     .y = y + row * m.ldy,
                     .y_stride = n_groups * kLanes,
                     .ldy = m.ldy,
                     .ahead = w,
                     .then = w,
                     .then_stride = stride,
                     .switch_at = 0};
      if (i == 0) {  // the block for which weights come from memory
        block.ahead = w + distance % panel_size;
        block.switch_at = panel_size - distance;
      } else if (is_last_group) {
        block.switch_at = panel_size - distance;  // of what follows the first bytes only
      }
      if (i + 1 == n_blocks) {
        block.then = is_last_group ? after : w + panel_size;
        block.then_stride = is_last_group ? after_stride : stride;
      }
      block_of_rows<Dots, Panels, MaxRows>(rows, block);
      row += rows;
    }
  }
  m.w += Panels * stride;
  m.y += Panels * n_groups * kLanes;
  m.n_panels -= Panels * n_groups;
}

template <typename Dots>
inline void matmul_dots(DotMatrix m) {
  if (m.rows == 0 || m.depth == 0) return;
  if (streams_of_product(m.rows) == 4) panels_bf16<Dots, 4, kRowsOfFourStreams>(m);
  panels_bf16<Dots, 2, 12>(m);
  panels_bf16<Dots, 1, 12>(m);
}

}  // namespace
}  // namespace sluice::cpu
