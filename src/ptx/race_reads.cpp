#include "ptx/race_reads.h"

#include <algorithm>

namespace sluice::ptx {

bool ScatteredReads::Record::add(std::uint32_t cell, std::uint32_t mask) {
  if (cells.has(cell)) mask |= lanes_of(cell);
  if (std::has_single_bit(mask)) {
    lanes[cell] = static_cast<std::uint8_t>(std::countr_zero(mask));
  } else {
    const auto place = std::find_if(masks.begin(), masks.end(),
                                    [&](std::uint32_t other) { return other == mask || other == 0; });
    if (place == masks.end()) return false;
    *place = mask;
    lanes[cell] = static_cast<std::uint8_t>(32 + (place - masks.begin()));
  }
  cells.add(cell);
  return true;
}

ScatteredReads::Record& ScatteredReads::record(std::uint32_t warp, std::uint32_t time, std::uint32_t pc,
                                               bool non_coherent) {
  std::uint32_t& newest = *newest_.find_or_add(warp << 1U | static_cast<std::uint32_t>(non_coherent)).first;
  // An empty one serves again, wherever it is in the warp's chain.
  Record* reused = nullptr;
  for (std::uint32_t number = newest; number != 0; number = records_[number - 1].older) {
    Record& record = records_[number - 1];
    if (record.time == time) {
      record.pc = pc;
      return record;
    }
    if (record.cells.empty()) reused = &record;
  }
  if (reused == nullptr) {
    records_.emplace_back();
    reused = &records_.back();
    reused->older = newest;
    newest = static_cast<std::uint32_t>(records_.size());
  }
  reused->warp = warp;
  reused->time = time;
  reused->pc = pc;
  reused->non_coherent = non_coherent;
  reused->masks.fill(0);
  return *reused;
}

void ScatteredReads::supersede(const Record& record, const CellBits& cells, std::uint32_t synced) {
  const std::uint32_t* newest =
      newest_.find(record.warp << 1U | static_cast<std::uint32_t>(record.non_coherent));
  for (std::uint32_t number = newest != nullptr ? *newest : 0; number != 0;
       number = records_[number - 1].older) {
    Record& other = records_[number - 1];
    const CellBits both = other.cells & cells;
    if (other.time == record.time || both.empty()) continue;
    if (other.time <= synced) {
      other.cells.remove(both);
      continue;
    }
    both.for_each([&](std::uint32_t cell) {
      if (other.lanes_of(cell) == record.lanes_of(cell)) other.cells.remove(cell);
    });
  }
}

const ScatteredReads::Record* ScatteredReads::find(std::uint32_t warp, std::uint32_t time,
                                                   bool non_coherent) {
  const std::uint32_t* newest = newest_.find(warp << 1U | static_cast<std::uint32_t>(non_coherent));
  for (std::uint32_t number = newest != nullptr ? *newest : 0; number != 0;
       number = records_[number - 1].older) {
    if (records_[number - 1].time == time) return &records_[number - 1];
  }
  return nullptr;
}

}  // namespace sluice::ptx
