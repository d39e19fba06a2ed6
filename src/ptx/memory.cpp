#include "ptx/memory.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "base/free_memory.h"
#include "ptx/checks.h"

namespace sluice::ptx {
namespace {

constexpr std::uint64_t kAlign = 256;
constexpr std::uint64_t kMuch = std::uint64_t{1}
                                << 26U;  // bytes from which the host is asked whether it has them

// What an allocation takes of the arena: itself, rounded up, and the gap after it.
std::uint64_t room_for(std::uint64_t size) {
  return (size + kAlign - 1) / kAlign * kAlign + kAlign;
}

}  // namespace

Memory::Memory(std::uint64_t capacity)
    : capacity_(capacity),
      arena_(capacity + capacity / 4 + 2 * kAlign, "choose a GPU with less memory: tiny has 1 GiB") {}

// In the first gap between allocations that is large enough.
std::uint64_t Memory::allocate(std::uint64_t size, AllocationKind kind, std::string name) {
  const std::scoped_lock lock(mutex_);
  const auto begin = reinterpret_cast<std::uint64_t>(arena_.data());
  std::uint64_t address = (begin + kAlign - 1) / kAlign * kAlign + kAlign;
  for (auto next = allocations_.lower_bound(begin); next != allocations_.end() && is_device(next->first);
       ++next) {
    if (next->first - address >= room_for(size)) break;
    address = next->first + room_for(next->second.size);
  }
  if (size > capacity_ - used_ || begin + arena_.size() - address < room_for(size)) {
    throw Error(
        fmt::format("no room for {}: {} of the GPU's {} are in use", counted(size, "byte"), used_, capacity_),
        "", "free memory, or choose a GPU with more");
  }
  const std::optional<std::size_t> of_host = size >= kMuch ? free_memory().memory : std::nullopt;
  if (of_host && *of_host < size) {
    throw Error(fmt::format("no room for {}: the host has {} left", counted(size, "byte"), *of_host), "",
                "take less: device memory lies in the host's");
  }
  used_ += size;
  allocations_[address] = {address, size, kind, std::move(name)};
  std::memset(reinterpret_cast<void*>(address), static_cast<int>(kPoison), size);
  return address;
}

void Memory::free(std::uint64_t address) {
  const std::scoped_lock lock(mutex_);
  const auto found = allocations_.find(address);
  if (found == allocations_.end()) throw Error(fmt::format("no allocation begins at {:#x}", address));
  if (is_device(address)) used_ -= found->second.size;  // else it is the caller's own
  allocations_.erase(found);
}

void Memory::add_host(void* data, std::uint64_t size, std::string name) {
  const std::scoped_lock lock(mutex_);
  const auto address = reinterpret_cast<std::uint64_t>(data);
  const auto after = allocations_.lower_bound(address);
  const bool overlaps = (after != allocations_.end() && after->first < address + size) ||
                        (after != allocations_.begin() && std::prev(after)->second.end() > address);
  if (overlaps) throw Error(fmt::format("host memory at {:#x} is registered already", address));
  allocations_[address] = {address, size, AllocationKind::kHost, std::move(name)};
}

bool Memory::is_device(std::uint64_t address) const {
  const auto arena = reinterpret_cast<std::uint64_t>(arena_.data());
  return address >= arena && address - arena < arena_.size();
}

std::optional<Allocation> Memory::find(std::uint64_t address) const {
  const std::scoped_lock lock(mutex_);
  auto found = allocations_.upper_bound(address);
  if (found == allocations_.begin()) return std::nullopt;
  --found;
  if (address != found->first && address >= found->second.end()) return std::nullopt;
  return found->second;
}

std::span<std::byte> Memory::bytes(std::uint64_t address, std::uint64_t size) const {
  const std::optional<Allocation> allocation = find(address);
  if (!allocation || size > allocation->end() - address) {
    throw Error(fmt::format("{} at {:#x}: not within one allocation", counted(size, "byte"), address));
  }
  return {reinterpret_cast<std::byte*>(address), size};
}

std::vector<Allocation> Memory::allocations() const {
  const std::scoped_lock lock(mutex_);
  std::vector<Allocation> all;
  all.reserve(allocations_.size());
  for (const auto& [address, allocation] : allocations_) all.push_back(allocation);
  return all;
}

std::uint64_t Memory::used() const {
  const std::scoped_lock lock(mutex_);
  return used_;
}

}  // namespace sluice::ptx
