#include "ptx/race_reads.h"

#include <algorithm>

namespace sluice::ptx {

bool ScatteredReads::Record::set_many(std::uint32_t cell, std::uint32_t mask) {
  auto* const place = std::find_if(masks.begin(), masks.end(),
                                   [&](std::uint32_t other) { return other == mask || other == 0; });
  if (place == masks.end()) return false;
  *place = mask;
  lanes[cell] = static_cast<std::uint8_t>(32 + (place - masks.begin()));
  return true;
}

void ScatteredReads::Record::remove(const CellBits& gone) {
  cells.remove(gone);
  if (!cells.empty()) return;
  latest = 0;
  masks.fill(0);
}

ScatteredReads::Record& ScatteredReads::record(std::uint32_t warp, bool non_coherent) {
  const auto [number, added] = numbers_.find_or_add(key_of(warp, non_coherent));
  if (added) {
    *number = static_cast<std::uint32_t>(records_.size());
    records_.emplace_back();
    records_.back().warp = warp;
    records_.back().non_coherent = non_coherent;
  }
  return records_[*number];
}

const ScatteredReads::Record* ScatteredReads::find(std::uint32_t warp, bool non_coherent) {
  const std::uint32_t* number = numbers_.find(key_of(warp, non_coherent));
  return number != nullptr ? &records_[*number] : nullptr;
}

}  // namespace sluice::ptx
