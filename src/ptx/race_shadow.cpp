#include "ptx/race_shadow.h"

#include <algorithm>
#include <bit>

#include "ptx/lanes.h"

namespace sluice::ptx {
namespace {

constexpr std::uint32_t kLargestCell = 16;  // bytes: what a lane accesses at the most

}  // namespace

void RaceShadow::find_chunk(std::uint64_t number) {
  std::unique_ptr<Page[]>& chunk = chunks_[number];
  if (!chunk) chunk = std::make_unique<Page[]>(kChunkPages);
  last_number_ = number;
  last_ = chunk.get();
}

// Lanes of a mask without holes, each `stride` bytes after the one before it.
std::span<const Touched> RaceShadow::cut_neighbours(std::uint32_t mask, std::uint32_t size,
                                                    std::uint64_t begin, std::uint64_t stride) {
  std::size_t used = 0;
  const auto first = first_lane(mask);
  const std::uint32_t count = kLanes - first - static_cast<std::uint32_t>(std::countl_zero(mask));
  const auto shift = static_cast<std::uint32_t>(std::countr_zero(size));
  const auto gap = static_cast<std::uint32_t>(std::countr_zero(stride));
  for (std::uint32_t i = 0; i < count;) {
    const std::uint64_t at = begin + i * stride;
    const auto lo = static_cast<std::uint32_t>(at % kPageBytes);
    const std::uint32_t lanes = std::min(count - i, (kPageBytes - lo + (1U << gap) - 1U) >> gap);
    Touched& touched = touched_[used++];
    touched.page = &page(at);
    touched.segment = {.lo = lo, .hi = lo + ((lanes - 1) << gap) + size, .mask = mask};
    touched.segment.deal(shift, gap, first + i);
    i += lanes;
  }
  return {touched_.data(), used};
}

std::span<const Touched> RaceShadow::cut(std::uint32_t mask, std::uint32_t size,
                                         const std::uint64_t* addresses, Pattern pattern, bool gaps) {
  if (mask == 0) return {};
  const auto first = first_lane(mask);
  const std::uint64_t begin = addresses[first];
  const auto shift = static_cast<std::uint32_t>(std::countr_zero(size));
  if (pattern == Pattern::kContiguous) return cut_neighbours(mask, size, begin, size);
  if (pattern == Pattern::kOneAddress && !is_one_lane(mask)) {
    const auto lo = static_cast<std::uint32_t>(begin % kPageBytes);
    touched_[0] = {&page(begin), {.lo = lo, .hi = lo + size, .mask = mask}};
    return {touched_.data(), 1};
  }
  const std::uint32_t count = kLanes - first - static_cast<std::uint32_t>(std::countl_zero(mask));
  const bool run = count > 1 && mask >> first == ~0U >> (kLanes - count);
  const std::uint64_t stride = run ? addresses[first + 1] - begin : 0;
  const bool wide = gaps && stride > size && stride <= kPageBytes / 2 && (stride & (stride - 1)) == 0;
  bool neighbours = run && (stride == size || wide);
  for (std::uint32_t i = 1; neighbours && i < count; ++i)
    neighbours = addresses[first + i] == begin + i * stride;
  if (neighbours) return cut_neighbours(mask, size, begin, stride);
  std::size_t used = 0;
  // Neighbours in part, as rows of a tile are, and lanes at one address stay together.
  std::uint32_t last_lane = 0;
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const auto lane = first_lane(rest);
    const std::uint64_t address = addresses[lane];
    const auto lo = static_cast<std::uint32_t>(address % kPageBytes);
    if (used != 0) {
      Segment& before = touched_[used - 1].segment;
      const bool one = before.shift == Segment::kEveryLane;
      const bool same_address = one && address == addresses[last_lane];
      const bool next = lo != 0 && lane == last_lane + 1 && address == addresses[last_lane] + size &&
                        (!one || is_one_lane(before.mask));
      if (same_address || next) {
        if (next && one) before.deal(shift, shift, last_lane);
        before.mask |= 1U << lane;
        before.hi = lo + size;
        last_lane = lane;
        continue;
      }
    }
    Touched& touched = touched_[used++];
    touched.page = &page(address);
    touched.segment = {.lo = lo, .hi = lo + size, .mask = 1U << lane};
    last_lane = lane;
  }
  if (is_one_lane(mask))
    touched_[0].segment.deal(shift, shift, last_lane);  // as of what a whole warp would touch
  return {touched_.data(), used};
}

Cells& Page::cells_for(const Segment& segment) {
  const auto aligned = static_cast<std::uint32_t>(std::countr_zero(segment.lo | segment.hi | kLargestCell));
  const std::uint32_t shift = std::min<std::uint32_t>(aligned, segment.shift);
  if (!cells) cells = std::make_unique<Cells>(shift);
  if (shift < cells->shift) cells->refine(shift);
  return *cells;
}

void Cells::refine(std::uint32_t log2_bytes) {
  std::vector<Cell> finer;
  finer.reserve(kPageBytes >> log2_bytes);
  for (Cell& cell : cells) {
    const std::size_t first = finer.size();  // which keeps the sets: others point to them
    finer.push_back(std::move(cell));
    for (std::uint32_t part = 1; part < 1U << (shift - log2_bytes); ++part) {
      const Cell& whole = finer[first];
      Cell copy{whole.write, whole.read, whole.non_coherent, whole.many, nullptr, nullptr};
      if (whole.reads) copy.reads = std::make_unique<AccessSet<LaneAccess>>(*whole.reads);
      if (whole.strong) copy.strong = std::make_unique<StrongSet>(*whole.strong);
      finer.push_back(std::move(copy));
    }
  }
  cells = std::move(finer);
  shift = log2_bytes;
}

void Cell::make_reads() {
  if (!reads) reads = std::make_unique<AccessSet<LaneAccess>>();
  if (read.time != 0) reads->add(read.thread / kLanes, {1U << (read.thread % kLanes), read.time, read.pc}, 0);
  read = {};
  many = true;
}

}  // namespace sluice::ptx
