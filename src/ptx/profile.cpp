#include "ptx/profile.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "ptx/lanes.h"

namespace sluice::ptx {
namespace {

constexpr std::uint32_t kSectorBytes = 32;
constexpr std::uint32_t kWavefrontBytes = 128;

// std::popcount is a call where the processor's own way can't be assumed.
std::uint32_t lane_count(std::uint32_t mask) {
  if (mask == ~0U) return kLanes;
  mask -= (mask >> 1U) & 0x55555555U;
  mask = (mask & 0x33333333U) + ((mask >> 2U) & 0x33333333U);
  return (((mask + (mask >> 4U)) & 0x0f0f0f0fU) * 0x01010101U) >> 24U;
}

// Whether the lanes' accesses lie side by side, without gaps.
bool side_by_side(std::uint32_t mask, std::uint32_t size, const std::uint64_t* addresses, Pattern pattern) {
  if (pattern != Pattern::kUnknown) return pattern == Pattern::kContiguous || is_one_lane(mask);
  const auto first = first_lane(mask);
  const std::uint32_t count = lane_count(mask);
  if (mask >> first != (count == kLanes ? ~0U : (1U << count) - 1U)) return false;
  bool result = true;
  for (std::uint32_t i = 0; i < count; ++i)
    result &= addresses[first + i] == addresses[first] + std::uint64_t{i} * size;
  return result;
}

bool one_address(std::uint32_t mask, const std::uint64_t* addresses, Pattern pattern) {
  if (pattern != Pattern::kUnknown) return pattern == Pattern::kOneAddress;
  const std::uint64_t address = addresses[first_lane(mask)];
  bool result = true;
  each_lane(mask, [&](std::uint32_t lane) { result &= addresses[lane] == address; });
  return result;
}

// Counts distinct values; changes their order.
std::uint32_t distinct(std::span<std::uint64_t> values) {
  std::sort(values.begin(), values.end());
  return static_cast<std::uint32_t>(std::unique(values.begin(), values.end()) - values.begin());
}

}  // namespace

std::uint32_t count_sectors(std::uint32_t mask, std::uint32_t size, const std::uint64_t* addresses,
                            Pattern pattern) {
  if (mask == 0) return 0;
  const std::uint64_t first = addresses[first_lane(mask)];
  if (side_by_side(mask, size, addresses, pattern)) {
    const std::uint64_t last = first + std::uint64_t{lane_count(mask)} * size - 1;
    return static_cast<std::uint32_t>(last / kSectorBytes - first / kSectorBytes + 1);
  }
  std::array<std::uint64_t, kLanes> sectors{};
  std::size_t used = 0;
  each_lane(mask, [&](std::uint32_t lane) { sectors[used++] = addresses[lane] / kSectorBytes; });
  return distinct({sectors.data(), used});
}

std::uint32_t count_wavefronts(std::uint32_t mask, std::uint32_t size, const std::uint64_t* addresses,
                               Pattern pattern) {
  if (mask == 0) return 0;
  if (one_address(mask, addresses, pattern)) return 1;
  // Accesses are aligned: one of 16 bytes has four banks to itself, or shares them all with another.
  const std::uint32_t unit = std::max(size, 4U);
  const std::uint32_t at_once = kWavefrontBytes / unit;  // lanes, and groups of banks
  if (side_by_side(mask, size, addresses,
                   pattern)) {  // lanes that are served at once have banks of their own
    const std::uint32_t last = kLanes - 1 - static_cast<std::uint32_t>(std::countl_zero(mask));
    return last / at_once - first_lane(mask) / at_once + 1;
  }
  std::uint32_t wavefronts = 0;
  for (std::uint32_t part = 0; part < kLanes; part += at_once) {
    std::array<std::uint32_t, 32> of_bank{};
    std::uint64_t touched[32][32];  // by group of banks: what of it; as many as of_bank says
    for (std::uint32_t lane = part; lane < part + at_once; ++lane) {
      if (!has_lane(mask, lane)) continue;
      const std::uint64_t place = addresses[lane] / unit;
      const std::size_t bank = place % at_once;
      std::uint64_t* end = touched[bank] + of_bank[bank];
      if (std::find(touched[bank], end, place) != end) continue;
      *end = place;
      ++of_bank[bank];
    }
    wavefronts += *std::max_element(of_bank.begin(), of_bank.end());
  }
  return wavefronts;
}

Profile::Profile(const LaunchShape& shape) : shape_(shape), last_strong_load_(shape.blocks * shape.warps) {
  counters_.traffic.resize(shape.allocations.size());
}

void Profile::access(const Group& group, const Access& access) {
  if (access.mask == 0 || (access.space != Space::kGlobal && access.space != Space::kShared)) return;
  if (access.space == Space::kGlobal) {
    global(access.mask, access.size, access.addresses, access.pattern, access.kind != AccessKind::kStore,
           !access.is_load());
  } else {
    shared(access.mask, access.size, access.addresses, access.pattern);
  }
  if (access.is_atomic()) counters_.atomics += lane_count(access.mask);
  if (access.kind == AccessKind::kLoad && access.order != Order::kWeak) {
    const std::pair poll{access.addresses[first_lane(access.mask)], group.pc};
    if (std::exchange(last_strong_load_[group.warp_in_grid], poll) == poll) ++counters_.waits;
  }
}

void Profile::copy(const AsyncCopy& copy) {
  std::uint32_t reading = 0;
  each_lane(copy.mask, [&](std::uint32_t lane) {
    if (copy.source_size[lane] != 0) reading |= 1U << lane;
  });
  if (reading != 0) global(reading, copy.size, copy.source, copy.source_pattern, true, false);
  shared(copy.mask, copy.size, copy.destination, copy.destination_pattern);
}

void Profile::global(std::uint32_t mask, std::uint32_t size, const std::uint64_t* addresses, Pattern pattern,
                     bool reads, bool writes) {
  const std::uint32_t sectors = count_sectors(mask, size, addresses, pattern);
  ++counters_.global_requests;
  counters_.global_sectors += sectors;
  counters_.global_sectors_ideal +=
      std::min(sectors, (lane_count(mask) * size + kSectorBytes - 1) / kSectorBytes);
  const std::uint64_t bytes = one_address(mask, addresses, pattern) ? size : lane_count(mask) * size;
  if (Counters::Traffic* traffic = traffic_of(addresses[first_lane(mask)])) {
    if (reads) traffic->read += bytes;
    if (writes) traffic->written += bytes;
  }
}

void Profile::shared(std::uint32_t mask, std::uint32_t size, const std::uint64_t* addresses,
                     Pattern pattern) {
  const std::uint32_t wavefronts = count_wavefronts(mask, size, addresses, pattern);
  counters_.shared_wavefronts += wavefronts;
  counters_.shared_wavefronts_ideal +=
      std::min(wavefronts, (lane_count(mask) * size + kWavefrontBytes - 1) / kWavefrontBytes);
}

Counters::Traffic* Profile::traffic_of(std::uint64_t address) {
  const auto holds = [&] { return last_ != nullptr && address >= last_->address && address < last_->end(); };
  if (!holds()) last_ = shape_.allocation_before(address);
  return holds() ? &counters_.traffic[static_cast<std::size_t>(last_ - shape_.allocations.data())] : nullptr;
}

void Profile::add_to(Counters& counters) const {
  Counters sum = counters_;
  sum.warp_instructions = counters.warp_instructions;
  sum.thread_instructions = counters.thread_instructions;
  sum.barriers = counters.barriers;
  for (std::size_t i = 0; i < sum.traffic.size(); ++i) sum.traffic[i].name = shape_.allocations[i].name;
  std::erase_if(sum.traffic, [](const auto& of_one) { return of_one.read == 0 && of_one.written == 0; });
  counters = std::move(sum);
}

}  // namespace sluice::ptx
