// Device memory: an arena in which a device address is also the host's address, so that mapped host memory, device memory and
// pointers inside structures need no translation. What a kernel touches is checked against the allocations.
//
// Other spaces are windows of generic addresses that no host address falls into; the offset within the window is the address
// within the space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/reserved_memory.h"

namespace sluice::ptx {

inline constexpr std::uint64_t kSharedWindow = std::uint64_t{1} << 56U;
inline constexpr std::uint64_t kLocalWindow = std::uint64_t{2} << 56U;
inline constexpr std::uint64_t kParamWindow = std::uint64_t{3} << 56U;
inline constexpr std::uint64_t kCodeWindow = std::uint64_t{4} << 56U;  // addresses of functions
inline constexpr std::uint64_t kWindowMask = std::uint64_t{0xff} << 56U;

enum class AllocationKind : std::uint8_t { kDevice, kHost, kGlobalVariable, kConstant };

struct Allocation {
  std::uint64_t address = 0;
  std::uint64_t size = 0;
  AllocationKind kind = AllocationKind::kDevice;
  std::string name;  // of a variable; else what the owner called it, for messages
  std::uint64_t end() const { return address + size; }
};

// All members may be called from several threads.
class Memory {
 public:
  explicit Memory(std::uint64_t capacity);

  // Poisoned memory, aligned to 256 bytes, with a gap of at least 256 bytes to its neighbours. Throws Error when the capacity
  // is used up. `size` may be 0.
  std::uint64_t allocate(std::uint64_t size, AllocationKind kind = AllocationKind::kDevice,
                         std::string name = {});
  // Throws Error if no allocation begins there.
  void free(std::uint64_t address);
  // Host memory of the caller's that kernels may use (cuMemHostRegister). `free` forgets it.
  void add_host(void* data, std::uint64_t size, std::string name = {});

  // The allocation that holds this address.
  std::optional<Allocation> find(std::uint64_t address) const;
  // The bytes of one allocation from there; throws Error if they leave it.
  std::span<std::byte> bytes(std::uint64_t address, std::uint64_t size) const;
  // Sorted by address: what a launch sees.
  std::vector<Allocation> allocations() const;

  // Whether an address is the device's own, allocated or not.
  bool is_device(std::uint64_t address) const;

  std::uint64_t capacity() const { return capacity_; }
  std::uint64_t used() const;

 private:
  mutable std::mutex mutex_;
  std::uint64_t capacity_;
  std::uint64_t used_ = 0;
  ReservedMemory arena_;
  std::map<std::uint64_t, Allocation> allocations_;
};

// What uninitialised memory and registers read as: a NaN in every floating-point format, an unlikely index, a bad address.
inline constexpr std::byte kPoison{0xfb};

}  // namespace sluice::ptx
