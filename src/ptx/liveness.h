// Which virtual registers are alive at once, and rows for them: those that are not alive together share one, so that a warp's
// registers stay in the cache.
#pragma once

#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "ptx/operation.h"

namespace sluice::ptx {

// Rows of constants (bit 0 set) and kTrue stay as they are; a virtual register i is written as 2 (i + 1).
constexpr Row virtual_row(std::uint32_t index) {
  return 2 * (index + 1);
}

// An operation of a function that is being decoded.
struct DecodedOperation {
  Operation op;
  std::vector<Row> more;             // of op.more
  std::uint32_t defines = 0;         // which of its rows, by bit
  std::uint32_t n_more_defined = 0;  // the first of `more`
  const Instruction* instruction = nullptr;
  std::vector<std::string> labels;     // that it may branch to
  std::vector<std::uint32_t> targets;  // the operations behind them
  bool falls_through = true;

  // visit(row, whether it is defined) for every virtual register that it names.
  template <class Visit>
  void each_register(Visit visit) {
    const auto one = [&](Row& row, bool defined) {
      if (row != 0 && (row & 1U) == 0) visit(row, defined);
    };
    for (std::uint32_t r = 0; r < std::size(op.rows); ++r) one(op.rows[r], ((defines >> r) & 1U) != 0);
    for (std::uint32_t r = 0; r < more.size(); ++r) one(more[r], r < n_more_defined);
    one(op.guard, false);
  }
};

struct RowPlan {
  std::uint32_t begin = 0;       // byte offset where the frame begins, a multiple of 64
  std::uint32_t end = 0;         // where it ends
  std::uint32_t live_words = 0;  // most 32-bit registers alive at once
};

// Replaces the virtual rows that the operations name. What one under a guard defines may stay as it was. `widths[i]` is the size of
// virtual register i: 0 for a predicate, else 2, 4 or 8 bytes per lane.
RowPlan assign_rows(std::vector<DecodedOperation>& code, const std::vector<std::uint8_t>& widths,
                    std::uint32_t begin);

}  // namespace sluice::ptx
