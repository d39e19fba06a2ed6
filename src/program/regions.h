// Which data a task reads and writes: rectangles of the step's buffers. The builder derives waits from them, `verify`
// judges every Program by them, and a backend's kernels touch nothing else.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "program/program.h"

namespace sluice::program {

// Two-dimensional, [rows, columns]. States stand per layer, the rest is used by all layers in turn: not in step, since one
// group of rows may be a layer ahead of the next. So a row must stand at the same place in every layer, whatever its width
// there: what doesn't overlap here must not overlap in memory.
enum class Buffer : std::uint8_t {
  kTokens,      // [rows, 1]
  kResidual,    // [rows, hidden]
  kRotary,      // [rows, rotary_dim]  cosines and sines of the row's position
  kProjection,  // [rows, ProjectionLayout::width]
  kMixed,       // [rows, value_dim or query_dim]
  kGated,       // [rows, intermediate]  SiLU(gate)·up
  kPartial,  // [rows, KV splits * KV heads]  a split's softmax sum and maximum and weighted V, for all its query heads
  kLogits,      // [outputs, vocab]  and each tile's maximum
  kScreened,    // [outputs, vocab]  bounds of the logits, summed up by panels
  kSelected,    // [outputs, 1]  the panels to recompute
  kSampled,     // [outputs, 1]
  kConvState,   // per layer [spans, conv_dim]
  kDeltaState,  // per layer [spans, n_value_heads]
  kKeyValue,    // per layer [rows, KV heads]  append-only: the step's rows become the next step's past
};

std::string_view name_of(Buffer buffer);
bool is_per_layer(Buffer buffer);

// Half-open ranges.
struct Region {
  Buffer buffer = Buffer::kTokens;
  std::uint32_t layer = 0;  // of a per-layer buffer; else 0
  std::uint32_t row_begin = 0;
  std::uint32_t row_end = 0;
  std::uint32_t col_begin = 0;
  std::uint32_t col_end = 0;
};

inline bool overlap(const Region& a, const Region& b) {
  return a.buffer == b.buffer && a.layer == b.layer && a.row_begin < b.row_end && b.row_begin < a.row_end &&
         a.col_begin < b.col_end && b.col_begin < a.col_end;
}

struct Access {
  std::vector<Region> reads;
  std::vector<Region> writes;
};

// Fills `access` (cleared first; given so that its memory is used again). Regions of one task don't overlap within
// reads, nor within writes. A mix of attention reads keys and values of its span's rows up to its own last one; which of
// them lie in its split only the positions tell.
void regions_of(const Program& program, const Task& task, Access& access);

}  // namespace sluice::program
