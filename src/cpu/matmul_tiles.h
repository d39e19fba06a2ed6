// y = x W on bf16 with matrix tiles: W packed (kernels.h), x in bf16. `Tiles` are the instructions or their twin
// (matrix_instructions.h).
//
// Sixteen vectors of a panel, one after the other in memory, are a tile B: 32 deep, 16 columns. x as it lies in memory has
// tiles A: 16 rows, 32 deep. Two of each make four tiles of sums: all eight tiles. A product takes 16 cycles, loading a
// tile 8 from the first-level cache, so that 4 products take twice as long as the loads of their 4 operands. From the
// second level both would take the same time, so K is cut into pieces whose weights (2 panels × 256 × 32 B = 16 kB) stay in the
// first level while all rows pass by; sums go to y and back between pieces, exactly.
//
// The order of sums of an element depends on K alone, not on rows or columns beside it.
//
// Included by kernels_*.cpp and the tests; all of it is static (kernels_common.h).
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu/kernels.h"
#include "cpu/matrix_instructions.h"

namespace sluice::cpu {
namespace {

constexpr size_t kTileDepth = kTileRowBytes / sizeof(uint16_t);
constexpr size_t kPieceDepth = 8 * kTileDepth;
constexpr size_t kLineElements = 64 / sizeof(uint16_t);

struct TileMatrix {
  const uint16_t* w;
  size_t depth;
  size_t n_panels;
  const uint16_t* x;
  size_t ldx;
  size_t rows;
  float* y;
  size_t ldy;
};

// The last weights of two panels, where K isn't a multiple of a tile's depth: zeros behind.
struct TileTails {
  uint16_t panels[2][kTileDepth * kLanes];
};

// The weights that come next, fetched a few lines at a time while others are in use.
struct Prefetcher {
  const uint16_t* at[2];  // of either panel
  size_t left;            // elements of each
  size_t per_step;        // elements of each, a step

  template <size_t Panels>
  void step() {
    for (size_t i = 0; i < per_step && left > 0; i += kLineElements) {
      for (size_t panel = 0; panel < Panels; ++panel) {
        __builtin_prefetch(at[panel], 0, 2);  // second level
        at[panel] += kLineElements;
      }
      left -= kLineElements;
    }
  }
};

// Tiles 0 to 3: sums [row tile][panel]; 4, 5: rows; 6, 7: panels.
template <typename Tiles, size_t RowTiles, size_t Panels>
struct TileBlock {
  Tiles& tiles;

  void zero() {
    tiles.template zero<0>();
    if constexpr (Panels == 2) tiles.template zero<1>();
    if constexpr (RowTiles == 2) tiles.template zero<2>();
    if constexpr (RowTiles == 2 && Panels == 2) tiles.template zero<3>();
  }
  void load(const float* y, size_t ldy) {
    const size_t stride = ldy * sizeof(float);
    tiles.template load<0>(y, stride);
    if constexpr (Panels == 2) tiles.template load<1>(y + kLanes, stride);
    if constexpr (RowTiles == 2) tiles.template load<2>(y + kTileRows * ldy, stride);
    if constexpr (RowTiles == 2 && Panels == 2) tiles.template load<3>(y + kTileRows * ldy + kLanes, stride);
  }
  void store(float* y, size_t ldy) const {
    const size_t stride = ldy * sizeof(float);
    tiles.template store<0>(y, stride);
    if constexpr (Panels == 2) tiles.template store<1>(y + kLanes, stride);
    if constexpr (RowTiles == 2) tiles.template store<2>(y + kTileRows * ldy, stride);
    if constexpr (RowTiles == 2 && Panels == 2) tiles.template store<3>(y + kTileRows * ldy + kLanes, stride);
  }
  void add_products(const uint16_t* x, size_t ldx, const uint16_t* w, size_t panel_size) {
    const size_t stride = ldx * sizeof(uint16_t);
    tiles.template load<6>(w, kTileRowBytes);
    tiles.template load<4>(x, stride);
    tiles.template add_products<0, 4, 6>();
    if constexpr (Panels == 2) {
      tiles.template load<7>(w + panel_size, kTileRowBytes);
      tiles.template add_products<1, 4, 7>();
    }
    if constexpr (RowTiles == 2) {
      tiles.template load<5>(x + kTileRows * ldx, stride);
      tiles.template add_products<2, 5, 6>();
      if constexpr (Panels == 2) tiles.template add_products<3, 5, 7>();
    }
  }
};

// Elements [begin, end) of K for RowTiles * `height` rows from `row` on.
template <typename Tiles, size_t RowTiles, size_t Panels>
inline void piece_of_rows(Tiles& tiles, const TileMatrix& m, size_t row, size_t height, size_t begin,
                          size_t end, const TileTails& tails, Prefetcher& next) {
  TileBlock<Tiles, RowTiles, Panels> block{tiles};
  const uint16_t* x = m.x + row * m.ldx;
  float* y = m.y + row * m.ldy;
  if (begin == 0) {
    block.zero();
  } else {
    block.load(y, m.ldy);
  }
  size_t k = begin;
  for (; k + kTileDepth <= end; k += kTileDepth) {
    next.step<Panels>();
    block.add_products(x + k, m.ldx, m.w + k * kLanes, m.depth * kLanes);
  }
  if (k < end) {
    uint16_t rest[RowTiles * kTileRows * kTileDepth] = {};
    for (size_t i = 0; i < RowTiles * height; ++i)
      memcpy(rest + i * kTileDepth, x + i * m.ldx + k, (end - k) * sizeof(uint16_t));
    block.add_products(rest, kTileDepth, tails.panels[0], kTileDepth * kLanes);
  }
  block.store(y, m.ldy);
}

// Full panels' worth of columns, all rows, which are row tiles of `height`.
template <typename Tiles, size_t Panels>
inline void panels_of_tiles(Tiles& tiles, TileMatrix& m, size_t height) {
  const size_t panel_size = m.depth * kLanes;
  const size_t tail = m.depth % kTileDepth;
  const size_t n_blocks = (m.rows + 2 * kTileRows - 1) / (2 * kTileRows);
  TileTails tails = {};
  for (; m.n_panels >= Panels; m.n_panels -= Panels) {
    for (size_t panel = 0; panel < Panels && tail != 0; ++panel)
      memcpy(tails.panels[panel], m.w + (panel + 1) * panel_size - tail * kLanes,
             tail * kLanes * sizeof(uint16_t));
    for (size_t begin = 0; begin < m.depth; begin += kPieceDepth) {
      const size_t end = m.depth - begin < kPieceDepth ? m.depth : begin + kPieceDepth;
      // The next piece of these panels, or the first of the next.
      Prefetcher next = {{m.w, m.w}, 0, (kTileDepth * kLanes + n_blocks - 1) / n_blocks};
      if (end < m.depth) {
        next.at[0] = m.w + end * kLanes;
        next.left = (m.depth - end < kPieceDepth ? m.depth - end : kPieceDepth) * kLanes;
      } else if (m.n_panels >= 2 * Panels) {
        next.at[0] = m.w + Panels * panel_size;
        next.left = (m.depth < kPieceDepth ? m.depth : kPieceDepth) * kLanes;
      }
      next.at[1] = next.at[0] + (Panels - 1) * panel_size;
      size_t row = 0;
      for (; row + kTileRows < m.rows; row += 2 * kTileRows)
        piece_of_rows<Tiles, 2, Panels>(tiles, m, row, height, begin, end, tails, next);
      if (row < m.rows) piece_of_rows<Tiles, 1, Panels>(tiles, m, row, height, begin, end, tails, next);
    }
    m.w += Panels * panel_size;
    m.y += Panels * kLanes;
  }
}

// `rows` is a multiple of 16, or below.
template <typename Tiles>
inline void matmul_row_tiles(TileMatrix m) {
  const size_t height = m.rows < kTileRows ? m.rows : kTileRows;
  TileConfig config;
  for (size_t tile = 0; tile < kTiles; ++tile) {
    config.row_bytes[tile] = kTileRowBytes;
    config.rows[tile] = static_cast<uint8_t>(tile < 6 ? height : kTileRows);
  }
  Tiles tiles(config);
  panels_of_tiles<Tiles, 2>(tiles, m, height);
  panels_of_tiles<Tiles, 1>(tiles, m, height);
}

// The rows that don't fill a tile have tiles of their own height, hence another configuration: once for all panels.
template <typename Tiles>
inline void matmul_tiles(TileMatrix m) {
  const size_t rest = m.rows % kTileRows;
  const size_t full = m.rows - rest;
  if (full != 0) {
    m.rows = full;
    matmul_row_tiles<Tiles>(m);
  }
  if (rest != 0) {
    m.x += full * m.ldx;
    m.y += full * m.ldy;
    m.rows = rest;
    matmul_row_tiles<Tiles>(m);
  }
}

}  // namespace
}  // namespace sluice::cpu
