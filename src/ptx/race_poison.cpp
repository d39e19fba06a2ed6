// Reads of memory that nothing has written: global memory is poisoned when it is allocated, shared memory when a block starts.
#include <algorithm>
#include <bit>
#include <string>

#include "ptx/race_detector.h"

namespace sluice::ptx {
namespace {

constexpr std::uint64_t kSectorBytes = 32;

bool all_poison(const std::byte* bytes, std::size_t count) {
  return std::all_of(bytes, bytes + count, [](std::byte byte) { return byte == kPoison; });
}

// A device address is the host's, see memory.h.
const std::byte* at(std::uint64_t address) {
  return reinterpret_cast<const std::byte*>(address);
}

}  // namespace

// Data may hold a poisoned byte or word by chance, but hardly a sector of them.
void RaceDetector::check_poison(const Group& group, std::uint32_t mask, std::uint32_t size,
                                const std::uint64_t* addresses) {
  std::uint64_t last_sector = ~std::uint64_t{0};
  each_lane(mask, [&](std::uint32_t lane) {
    const std::uint64_t address = addresses[lane];
    const std::uint64_t sector = address / kSectorBytes;
    if (sector == last_sector) return;
    last_sector = sector;
    if (*at(address) != kPoison || !all_poison(at(address), size)) return;
    const auto after =
        std::upper_bound(shape_.allocations.begin(), shape_.allocations.end(), address,
                         [](std::uint64_t place, const Allocation& other) { return place < other.address; });
    if (after == shape_.allocations.begin()) return;
    const Allocation& allocation = *(after - 1);
    const std::uint64_t begin = std::max(sector * kSectorBytes, allocation.address);
    const std::uint64_t end = std::min((sector + 1) * kSectorBytes, allocation.end());
    if (begin >= end || !all_poison(at(begin), end - begin)) return;
    const Page& page = global_.page(address);
    if (page.cells) {
      const Cell& cell = page.cells->cells[address % kPageBytes >> page.cells->shift];
      if (cell.write.time != 0 || (cell.strong != 0 && global_.strong(cell).last_write != 0)) return;
    }
    report(FindingKind::kUninitialised, group.pc, group.warp_in_grid * kLanes + lane, 0,
           "load of global memory that nothing has written");
  });
}

void RaceDetector::uninitialised(const Actor& actor, std::uint32_t lanes) {
  report(FindingKind::kUninitialised, actor.pc, actor.warp.warp_in_grid * kLanes + first_lane(lanes), 0,
         std::string(actor.verb) + " of shared memory that nothing has written");
}

}  // namespace sluice::ptx
