// Zeroed memory for what is large and read again and again: in pages of 2 MB where the system gives them when asked (transparent
// huge pages set to "madvise" or "always"), else in ordinary ones. Large pages are faulted in faster and spare the processor
// most translations of addresses.
#pragma once

#include <cstddef>
#include <span>

#include "base/reserved_memory.h"

namespace sluice {

class HugeMemory {
 public:
  // Throws Error if the address space can't be had. `n` may be 0. Takes memory as it is touched.
  explicit HugeMemory(std::size_t n);
  HugeMemory(HugeMemory&&) = default;
  HugeMemory(const HugeMemory&) = delete;
  HugeMemory& operator=(const HugeMemory&) = delete;

  std::span<std::byte> bytes() { return bytes_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  // Gives the memory back to the system; it reads as zero again.
  void clear() { memory_.clear(); }

 private:
  ReservedMemory memory_;
  std::span<std::byte> bytes_;  // begins at a huge page
};

// Gives the whole pages of `bytes`, of a vector say, back to the system. They stay where they are and read as zero.
void give_back_pages(std::span<std::byte> bytes);

}  // namespace sluice
