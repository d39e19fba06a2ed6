// Counts what a profiler of a GPU would count of memory: requests and sectors, bank conflicts, bytes by allocation, atomics,
// polls.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "ptx/checks.h"

namespace sluice::ptx {

class Profile {
 public:
  explicit Profile(const LaunchShape& shape);

  void access(const Group& group, const Access& access);
  void copy(const AsyncCopy& copy);
  // Adds what was counted, and the traffic of every allocation that was touched.
  void add_to(Counters& counters) const;

 private:
  void global(std::uint32_t mask, std::uint32_t size, const std::uint64_t* addresses, Pattern pattern,
              bool reads, bool writes);
  void shared(std::uint32_t mask, std::uint32_t size, const std::uint64_t* addresses, Pattern pattern);
  Counters::Traffic* traffic_of(std::uint64_t address);

  const LaunchShape& shape_;
  const Allocation* last_ = nullptr;                                       // that was accessed
  Counters counters_;                                                      // traffic: one for each allocation
  std::vector<std::pair<std::uint64_t, std::uint32_t>> last_strong_load_;  // by warp_in_grid: address, pc
};

// 32-byte sectors that lanes touch with accesses of `size` bytes.
std::uint32_t count_sectors(std::uint32_t mask, std::uint32_t size, const std::uint64_t* addresses,
                            Pattern pattern = Pattern::kUnknown);
// Shared memory serves 32 banks of four bytes at once, each one word: how often it has to. Accesses of 8 and 16 bytes are served
// by half and quarter warps.
std::uint32_t count_wavefronts(std::uint32_t mask, std::uint32_t size, const std::uint64_t* addresses,
                               Pattern pattern = Pattern::kUnknown);

}  // namespace sluice::ptx
