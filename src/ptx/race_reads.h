// Reads of one page by warps whose lanes touch it in no simple pattern: fragments for mma, strides, parts of a row. One record
// for each warp says which four-byte cells were read last by which lanes, when and where.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "ptx/flat_table.h"

namespace sluice::ptx {

// Of lanes that aren't none; std::has_single_bit counts bits by a call where the processor's own way can't be assumed.
inline bool is_one_lane(std::uint32_t lanes) {
  return (lanes & (lanes - 1)) == 0;
}

// Cells of a page, one bit each.
struct CellBits {
  std::array<std::uint64_t, 2> words{};

  static CellBits range(std::uint32_t first, std::uint32_t end) {
    const auto below = [](std::uint32_t n) {
      return n >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1;
    };
    CellBits bits;
    bits.words[0] = below(end) & ~below(first);
    bits.words[1] = below(end > 64 ? end - 64 : 0) & ~below(first > 64 ? first - 64 : 0);
    return bits;
  }
  bool empty() const { return (words[0] | words[1]) == 0; }
  bool has(std::uint32_t cell) const { return (words[cell / 64] >> cell % 64 & 1U) != 0; }
  void add(std::uint32_t cell) { words[cell / 64] |= std::uint64_t{1} << cell % 64; }
  CellBits operator&(const CellBits& other) const {
    return {{words[0] & other.words[0], words[1] & other.words[1]}};
  }
  void remove(const CellBits& other) {
    words[0] &= ~other.words[0];
    words[1] &= ~other.words[1];
  }
  template <typename Visit>
  void for_each(Visit visit) const {
    for (std::uint32_t word = 0; word < 2; ++word) {
      for (std::uint64_t rest = words[word]; rest != 0; rest &= rest - 1) {
        visit(word * 64 + static_cast<std::uint32_t>(std::countr_zero(rest)));
      }
    }
  }
};

class ScatteredReads {
 public:
  static constexpr std::uint32_t kMaxPc = 0xffff;
  struct Record {
    std::uint32_t warp = 0;
    bool non_coherent = false;
    CellBits cells;
    CellBits checked;          // of them, those that nothing has been written to since
    std::uint32_t latest = 0;  // of the times
    // By cell.
    std::array<std::uint32_t, 128> times{};
    std::array<std::uint16_t, 128> pcs{};
    std::array<std::uint8_t, 128> lanes{};  // a lane, or 32 + number of a mask
    std::array<std::uint32_t, 8> masks{};

    std::uint32_t lanes_of(std::uint32_t cell) const {
      return lanes[cell] < 32 ? 1U << lanes[cell] : masks[lanes[cell] - 32U];
    }
    // False if there is no room for one more set of lanes.
    bool set(std::uint32_t cell, std::uint32_t mask, std::uint32_t time, std::uint32_t pc) {
      if (is_one_lane(mask)) {
        lanes[cell] = static_cast<std::uint8_t>(std::countr_zero(mask));
      } else if (!set_many(cell, mask)) {
        return false;
      }
      cells.add(cell);
      checked.add(cell);
      times[cell] = time;
      pcs[cell] = static_cast<std::uint16_t>(pc);
      latest = std::max(latest, time);
      return true;
    }
    bool set_many(std::uint32_t cell, std::uint32_t mask);
    void remove(const CellBits& gone);
  };

  // The warp's record, a new one if it has none. Valid until the next call.
  Record& record(std::uint32_t warp, bool non_coherent);
  // Null if there is none.
  const Record* find(std::uint32_t warp, bool non_coherent);
  template <typename Visit>
  void for_each(Visit visit) {
    for (Record& record : records_) {
      if (!record.cells.empty()) visit(record);
    }
  }

 private:
  static std::uint32_t key_of(std::uint32_t warp, bool non_coherent) {
    return warp << 1U | static_cast<std::uint32_t>(non_coherent);
  }
  FlatTable<std::uint32_t> numbers_;
  std::vector<Record> records_;
};

}  // namespace sluice::ptx
