// Which virtual registers are alive at once, and rows for them: those that are not alive together share one, so that a warp's
// registers stay in the cache.
#pragma once

#include <cstdint>
#include <vector>

#include "ptx/operation.h"

namespace sluice::ptx {

// Where an operation names a virtual register. Rows of constants (bit 0 set) and kTrue stay as they are; a virtual register i
// is written as 2 (i + 1).
struct RowUse {
  Row* row = nullptr;
  bool defines = false;
};
constexpr Row virtual_row(std::uint32_t index) {
  return 2 * (index + 1);
}

struct FlowOperation {
  std::vector<RowUse> uses;
  std::vector<std::uint32_t> targets;  // operations that it may branch to
  bool falls_through = true;
  bool partial = false;  // a guard: what it defines may stay as it was
};

struct RowPlan {
  std::uint32_t begin = 0;       // byte offset where the frame begins, a multiple of 64
  std::uint32_t end = 0;         // where it ends
  std::uint32_t live_words = 0;  // most 32-bit registers alive at once
};

// Replaces the virtual rows that the operations name. `widths[i]` is the size of virtual register i: 0 for a predicate, else
// 2, 4 or 8 bytes per lane.
RowPlan assign_rows(std::vector<FlowOperation>& flow, const std::vector<std::uint8_t>& widths,
                    std::uint32_t begin);

}  // namespace sluice::ptx
