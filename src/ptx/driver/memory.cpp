// Memory: NVIDIA, "CUDA Driver API", section Memory Management. A device address is also the host's address, so pinned host memory
// is mapped from the start, and pointers mean the same everywhere. Copies and fills are operations of a stream.
#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <sys/mman.h>

#include "ptx/driver/state.h"

namespace sluice::ptx::api {
namespace {

// Frees memory once nothing that was told before may still use it, as the driver does.
CUresult free_memory(std::uint64_t address, Allocated::Kind kind, CUresult otherwise, std::string_view what) {
  if (address == 0) return CUDA_SUCCESS;
  const CUresult waited = in_context_waiting([&](Driver& driver, Context&) {
    const auto found = driver.allocated.find(address);
    require(found != driver.allocated.end() && found->second.kind == kind, otherwise,
            fmt::format("{:#x} is no {}", address, what));
    return ends_of(driver, *found->second.by);
  });
  if (waited != CUDA_SUCCESS) return waited;
  return call([&](Driver& driver) {
    require(driver.allocated.contains(address));  // another thread was faster
    release(driver, address);
  });
}

template <typename T>
void store(void* to, T value) {
  *static_cast<T*>(to) = value;
}

// Whose memory holds an address. A module's variables are nobody's.
Context* owner_of(const Driver& driver, std::uint64_t address) {
  const auto after = driver.allocated.upper_bound(address);
  require(after != driver.allocated.begin());
  const auto& [base, allocated] = *std::prev(after);
  require(address - base < allocated.bytes);
  return allocated.by;
}

// One side of a copy. Host memory that the device doesn't know is taken as it is.
struct Side {
  std::uint64_t address = 0;
  bool device = false;  // then the device must know it
};

Side device(CUdeviceptr address) {
  return {address, true};
}
Side host(const void* data) {
  return {reinterpret_cast<std::uint64_t>(data), false};
}
Side either(CUdeviceptr address) {
  return {address, false};
}

bool is_known(const Driver& driver, const Side& side) {
  return driver.memory.find(side.address).has_value();
}

// Throws if it leaves its allocation.
void check(const Driver& driver, const Side& side, size_t bytes) {
  if (!is_known(driver, side)) {
    require(!driver.memory.is_device(side.address), CUDA_ERROR_INVALID_VALUE,
            fmt::format("{} at {:#x}: device memory that isn't allocated, or was freed",
                        counted(bytes, "byte"), side.address));
    require(side.address != 0);
    if (!side.device) return;
  }
  or_fail(CUDA_ERROR_INVALID_VALUE, [&] { return driver.memory.bytes(side.address, bytes); });
}

using Streams = std::optional<CUstream>;  // none: the default stream, which the host then waits for
constexpr Streams kNow;

// Host memory that the device doesn't know is the caller's again when the call returns: what is read from it is read now, and
// the caller waits for what is written to it.
CUresult copy(Side to, Side from, size_t bytes, Streams on) {
  return in_context_waiting([&](Driver& driver, Context& context) {
    Stream& stream = driver.stream_of(context, on.value_or(nullptr));
    if (bytes == 0) return std::vector<Completion>();
    check(driver, to, bytes);
    check(driver, from, bytes);
    std::shared_ptr<std::byte[]> snapshot;
    const auto* source = reinterpret_cast<const std::byte*>(from.address);
    if (on && !is_known(driver, from)) {
      snapshot = std::make_shared_for_overwrite<std::byte[]>(bytes);
      std::memcpy(snapshot.get(), source, bytes);
      source = snapshot.get();
    }
    Completion done = enqueue(driver, stream, [to, source, bytes, snapshot] {
      std::memmove(reinterpret_cast<std::byte*>(to.address), source, bytes);
    });
    return !on || !is_known(driver, to) ? std::vector{std::move(done)} : std::vector<Completion>();
  });
}

template <typename T>
CUresult fill(CUdeviceptr to, T value, size_t count, Streams on) {
  return in_context_waiting([&](Driver& driver, Context& context) {
    Stream& stream = driver.stream_of(context, on.value_or(nullptr));
    if (count == 0) return std::vector<Completion>();
    require(count <= driver.memory.capacity() && to % sizeof(T) == 0);
    check(driver, device(to), count * sizeof(T));
    Completion done =
        enqueue(driver, stream, [to, value, count] { std::fill_n(reinterpret_cast<T*>(to), count, value); });
    return on ? std::vector<Completion>() : std::vector{std::move(done)};
  });
}

}  // namespace

void release(Driver& driver, std::uint64_t address) {
  const auto found = driver.allocated.find(address);
  driver.memory.free(address);
  if (found->second.kind == Allocated::Kind::kHost)
    ::munmap(reinterpret_cast<void*>(address), found->second.bytes);
  driver.allocated.erase(found);
}

extern "C" {

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return in_context([&](Driver& driver, Context&) {
    if (free != nullptr) *free = driver.memory.capacity() - driver.memory.used();
    if (total != nullptr) *total = driver.memory.capacity();
  });
}

CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  return in_context([&](Driver& driver, Context& context) {
    require(address != nullptr && bytes > 0);
    *address = or_fail(CUDA_ERROR_OUT_OF_MEMORY, [&] { return driver.memory.allocate(bytes); });
    driver.allocated[*address] = {&context, Allocated::Kind::kDevice, bytes};
  });
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  return free_memory(address, Allocated::Kind::kDevice, CUDA_ERROR_INVALID_VALUE,
                     "device memory that can be freed");
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  return in_context([&](Driver& driver, Context&) {
    const auto allocation = driver.memory.find(address);
    require(allocation.has_value(), CUDA_ERROR_NOT_FOUND);
    if (base != nullptr) *base = allocation->address;
    if (bytes != nullptr) *bytes = allocation->size;
  });
}

CUresult cuMemHostAlloc(void** data, size_t bytes, unsigned flags) {
  constexpr unsigned kKnown = 7;  // portable, mapped (as all is), write-combined
  return in_context([&](Driver& driver, Context& context) {
    require(data != nullptr && bytes > 0 && flags <= kKnown);
    void* pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(pages != MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY);
    driver.memory.add_host(pages, bytes);
    driver.allocated[reinterpret_cast<std::uint64_t>(pages)] = {&context, Allocated::Kind::kHost, bytes};
    *data = pages;
  });
}

CUresult cuMemAllocHost_v2(void** data, size_t bytes) {
  return cuMemHostAlloc(data, bytes, 0);
}

CUresult cuMemFreeHost(void* data) {
  return free_memory(reinterpret_cast<std::uint64_t>(data), Allocated::Kind::kHost, CUDA_ERROR_INVALID_VALUE,
                     "host memory that can be freed");
}

// The caller's own memory, mapped as pinned memory is.
CUresult cuMemHostRegister_v2(void* data, size_t bytes, unsigned flags) {
  constexpr unsigned kKnown = 11;  // portable, mapped, read-only; not: of a device
  return in_context([&](Driver& driver, Context& context) {
    const auto address = reinterpret_cast<std::uint64_t>(data);
    require(data != nullptr && bytes > 0 && bytes < std::uint64_t{0} - address && (flags & ~kKnown) == 0);
    require(!driver.memory.is_device(address) && !driver.memory.is_device(address + bytes - 1));
    or_fail(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, [&] { driver.memory.add_host(data, bytes); });
    driver.allocated[address] = {&context, Allocated::Kind::kRegistered, bytes};
  });
}

CUresult cuMemHostUnregister(void* data) {
  if (data == nullptr) return CUDA_ERROR_INVALID_VALUE;
  return free_memory(reinterpret_cast<std::uint64_t>(data), Allocated::Kind::kRegistered,
                     CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "registered host memory");
}

CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  return call([&](Driver& driver) {
    require(value != nullptr);
    const auto allocation = driver.memory.find(address);
    require(allocation.has_value());
    switch (attribute) {
      case CU_POINTER_ATTRIBUTE_CONTEXT:
        store<CUcontext>(value, owner_of(driver, address));
        break;
      case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        store<unsigned>(
            value, allocation->kind == AllocationKind::kHost ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
        break;
      case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        store<CUdeviceptr>(value, address);
        break;
      default:
        throw Failure{CUDA_ERROR_NOT_SUPPORTED,
                      fmt::format("pointer attribute {} isn't supported", attribute)};
    }
  });
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* address, void* data, unsigned flags) {
  return in_context([&](Driver& driver, Context&) {
    require(flags == 0);
    const auto allocation = driver.memory.find(reinterpret_cast<std::uint64_t>(data));
    require(allocation && allocation->kind == AllocationKind::kHost);
    out(address) = reinterpret_cast<std::uint64_t>(data);
  });
}

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy(either(to), either(from), bytes, kNow);
}
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy(either(to), either(from), bytes, stream);
}
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
  return copy(device(to), host(from), bytes, kNow);
}
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  return copy(device(to), host(from), bytes, stream);
}
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
  return copy(host(to), device(from), bytes, kNow);
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy(host(to), device(from), bytes, stream);
}
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  return copy(device(to), device(from), bytes, kNow);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  return copy(device(to), device(from), bytes, stream);
}

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
  return fill(to, value, count, kNow);
}
CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count) {
  return fill(to, value, count, kNow);
}
CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned value, size_t count) {
  return fill(to, value, count, kNow);
}
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
  return fill(to, value, count, stream);
}
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
  return fill(to, value, count, stream);
}
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
  return fill(to, value, count, stream);
}

}  // extern "C"
}  // namespace sluice::ptx::api
