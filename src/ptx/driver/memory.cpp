// Memory: NVIDIA, "CUDA Driver API", sections Memory Management, Stream Ordered Memory Allocator, Unified Addressing. A device
// address is also the host's address, so pinned host memory is mapped from the start, and pointers mean the same everywhere.
#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <sys/mman.h>

#include "base/error.h"
#include "ptx/driver/state.h"

namespace sluice::ptx::api {
namespace {

constexpr size_t kPitchAlignment = 512;

template <typename Allocate>
void allocated(Driver& state, Context& context, CUdeviceptr* address, size_t bytes, Allocate&& allocate) {
  require(address != nullptr && bytes > 0);
  try {
    *address = allocate();
  } catch (const Error& error) {
    throw Failure{CUDA_ERROR_OUT_OF_MEMORY, error.what()};
  }
  state.owned.insert_or_assign(*address, Owned{&context, Owned::Kind::kDevice, bytes, state.next_id++, 0});
}

void allocate_device(Driver& state, Context& context, CUdeviceptr* address, size_t bytes) {
  allocated(state, context, address, bytes, [&] { return state.memory.allocate(bytes); });
}

void allocate_host(Driver& state, Context& context, void** data, size_t bytes, unsigned flags) {
  require(data != nullptr && bytes > 0);
  void* pages = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(pages != MAP_FAILED, CUDA_ERROR_OUT_OF_MEMORY);
  state.memory.add_host(pages, bytes);
  const auto address = reinterpret_cast<std::uint64_t>(pages);
  state.owned.insert_or_assign(address, Owned{&context, Owned::Kind::kHost, bytes, state.next_id++, flags});
  *data = pages;
}

// The host allocation that begins there.
const Owned& host_allocation(const Driver& state, const void* data, Owned::Kind kind, CUresult otherwise) {
  const auto found = state.owned.find(reinterpret_cast<std::uint64_t>(data));
  require(found != state.owned.end() && found->second.kind == kind, otherwise);
  return found->second;
}

// The allocation that holds an address, with its owner; null if nobody owns it. A module's variables have none.
std::pair<std::uint64_t, const Owned*> holder(const Driver& state, std::uint64_t address) {
  auto after = state.owned.upper_bound(address);
  if (after == state.owned.begin()) return {0, nullptr};
  const auto& [base, owned] = *--after;
  return address - base < owned.bytes ? std::pair{base, &owned}
                                      : std::pair<std::uint64_t, const Owned*>{0, nullptr};
}

// Frees memory once nothing that was told before may still use it, as the driver does.
CUresult free_memory(std::uint64_t address, bool host, Owned::Kind kind) {
  if (address == 0) return CUDA_SUCCESS;
  const CUresult waited = in_context_waiting([&](Driver& state, Context&) {
    const auto found = state.owned.find(address);
    require(
        found != state.owned.end() && found->second.kind == kind,
        kind == Owned::Kind::kRegistered ? CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED : CUDA_ERROR_INVALID_VALUE,
        fmt::format("{:#x} is no {} that can be freed", address, host ? "host memory" : "device memory"));
    return everything(*found->second.context);
  });
  if (waited != CUDA_SUCCESS) return waited;
  return in_context([&](Driver& state, Context&) {
    const auto found = state.owned.find(address);
    require(found != state.owned.end());  // another thread was faster
    release(state, address, found->second);
    state.owned.erase(found);
  });
}

template <typename T>
void store(void* to, T value) {
  *static_cast<T*>(to) = value;
}

// What cuPointerGetAttribute stores; false: such an address has no such attribute.
bool pointer_attribute(const Driver& state, void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  const std::optional<Allocation> allocation = state.memory.find(address);
  if (!allocation) return false;
  const auto [base, owned] = holder(state, address);
  const bool host = allocation->kind == AllocationKind::kHost;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      if (owned == nullptr) return false;
      store<CUcontext>(value, owned->context);
      return true;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      store<unsigned>(value, host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
      return true;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      store<CUdeviceptr>(value, address);
      return true;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (!host) return false;
      store<void*>(value, reinterpret_cast<void*>(address));
      return true;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      store<unsigned>(value, 0);
      return true;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      if (owned == nullptr) return false;
      store<unsigned long long>(value, owned->id);
      return true;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      store<int>(value, 0);
      return true;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      store<CUdeviceptr>(value, allocation->address);
      return true;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      store<size_t>(value, allocation->size);
      return true;
    case CU_POINTER_ATTRIBUTE_MAPPED:
      store<bool>(value, true);
      return true;
    default:
      return false;
  }
}

// Zeros of the size that cuPointerGetAttributes stores for what an address lacks.
void clear_attribute(void* value, CUpointer_attribute attribute) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      store<unsigned>(value, 0);
      return;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      store<int>(value, -2);  // as the driver has it
      return;
    case CU_POINTER_ATTRIBUTE_MAPPED:
      store<bool>(value, false);
      return;
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      store<std::uint64_t>(value, 0);
      return;
    default:
      throw Failure{CUDA_ERROR_INVALID_VALUE, fmt::format("pointer attribute {} isn't supported", attribute)};
  }
}

// Sets or gets. There is one pool, the whole memory: what is freed is free at once.
CUresult pool_attribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value, bool set) {
  return call([&](Driver& state) {
    require(pool == &state.pool, CUDA_ERROR_INVALID_HANDLE);
    require(value != nullptr);
    const auto transfer = [&]<typename T>(T& own) {
      T& given = *static_cast<T*>(value);
      (set ? own : given) = set ? given : own;
    };
    switch (attribute) {
      case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
      case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
      case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
        transfer(state.pool.reuse[attribute - CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES]);
        return;
      case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        transfer(state.pool.release_threshold);
        return;
      case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
      case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        require(!set);
        store<cuuint64_t>(value, state.memory.used());
        return;
      default:
        require(false);
    }
  });
}

}  // namespace

void release(Driver& driver, std::uint64_t address, const Owned& owned) {
  driver.memory.free(address);
  if (owned.kind == Owned::Kind::kHost) ::munmap(reinterpret_cast<void*>(address), owned.bytes);
}

extern "C" {

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return in_context([&](Driver& state, Context&) {
    if (free != nullptr) *free = state.memory.capacity() - state.memory.used();
    if (total != nullptr) *total = state.memory.capacity();
  });
}

CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  return in_context(
      [&](Driver& state, Context& context) { allocate_device(state, context, address, bytes); });
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* address, size_t* pitch, size_t width, size_t height,
                            unsigned element) {
  return in_context([&](Driver& state, Context& context) {
    require(pitch != nullptr && width > 0 && height > 0 && (element == 4 || element == 8 || element == 16));
    require(width <= state.memory.capacity() && height <= state.memory.capacity() / (width + kPitchAlignment),
            CUDA_ERROR_OUT_OF_MEMORY);
    *pitch = (width + kPitchAlignment - 1) / kPitchAlignment * kPitchAlignment;
    allocate_device(state, context, address, *pitch * height);
  });
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  return free_memory(address, false, Owned::Kind::kDevice);
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  return in_context([&](Driver& state, Context&) {
    const std::optional<Allocation> allocation = state.memory.find(address);
    require(allocation.has_value(), CUDA_ERROR_NOT_FOUND);
    if (base != nullptr) *base = allocation->address;
    if (bytes != nullptr) *bytes = allocation->size;
  });
}

CUresult cuMemHostAlloc(void** data, size_t bytes, unsigned flags) {
  constexpr unsigned kPortable = 1;
  constexpr unsigned kMapped = 2;
  constexpr unsigned kWriteCombined = 4;
  return in_context([&](Driver& state, Context& context) {
    require((flags & ~(kPortable | kMapped | kWriteCombined)) == 0);
    allocate_host(state, context, data, bytes, flags | kMapped);  // as always with unified addressing
  });
}

CUresult cuMemAllocHost_v2(void** data, size_t bytes) {
  return cuMemHostAlloc(data, bytes, 0);
}

CUresult cuMemFreeHost(void* data) {
  return free_memory(reinterpret_cast<std::uint64_t>(data), true, Owned::Kind::kHost);
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* address, void* data, unsigned flags) {
  return in_context([&](Driver& state, Context&) {
    require(address != nullptr && flags == 0);
    const auto wanted = reinterpret_cast<std::uint64_t>(data);
    const std::optional<Allocation> allocation = state.memory.find(wanted);
    require(allocation && allocation->kind == AllocationKind::kHost);
    *address = wanted;
  });
}

CUresult cuMemHostGetFlags(unsigned* flags, void* data) {
  return in_context([&](Driver& state, Context&) {
    require(flags != nullptr);
    *flags = host_allocation(state, data, Owned::Kind::kHost, CUDA_ERROR_INVALID_VALUE).flags;
  });
}

CUresult cuMemHostRegister_v2(void* data, size_t bytes, unsigned flags) {
  return in_context([&](Driver& state, Context& context) {
    require(data != nullptr && bytes > 0);
    const auto address = reinterpret_cast<std::uint64_t>(data);
    try {
      state.memory.add_host(data, bytes);
    } catch (const Error& error) {
      throw Failure{CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, error.what()};
    }
    state.owned.insert_or_assign(address,
                                 Owned{&context, Owned::Kind::kRegistered, bytes, state.next_id++, flags});
  });
}

CUresult cuMemHostUnregister(void* data) {
  return free_memory(reinterpret_cast<std::uint64_t>(data), true, Owned::Kind::kRegistered);
}

CUresult cuMemAllocManaged(CUdeviceptr* /*address*/, size_t /*bytes*/, unsigned /*flags*/) {
  return in_context([&](Driver&, Context&) {
    throw Failure{
        CUDA_ERROR_NOT_SUPPORTED,
        "cuMemAllocManaged: there is no managed memory: use cuMemAlloc and copies, or cuMemHostAlloc"};
  });
}

CUresult cuPointerGetAttribute(void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  return call([&](Driver& state) {
    require(value != nullptr);
    require(pointer_attribute(state, value, attribute, address));
  });
}

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute* attributes, void** values,
                                CUdeviceptr address) {
  return call([&](Driver& state) {
    require(count == 0 || (attributes != nullptr && values != nullptr));
    for (unsigned i = 0; i < count; ++i)
      if (!pointer_attribute(state, values[i], attributes[i], address))
        clear_attribute(values[i], attributes[i]);
  });
}

// All copies are ordered with all launches by their streams: there is nothing to switch.
CUresult cuPointerSetAttribute(const void* value, CUpointer_attribute attribute, CUdeviceptr address) {
  return call([&](Driver& state) {
    require(value != nullptr && attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS);
    require(state.memory.find(address).has_value());
  });
}

CUresult cuMemAllocAsync(CUdeviceptr* address, size_t bytes, CUstream stream) {
  return in_context([&](Driver& state, Context& context) {
    checked_stream(state, context, stream);
    allocate_device(state, context, address, bytes);
  });
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* address, size_t bytes, CUmemoryPool pool, CUstream stream) {
  return in_context([&](Driver& state, Context& context) {
    require(pool == &state.pool, CUDA_ERROR_INVALID_HANDLE);
    checked_stream(state, context, stream);
    allocate_device(state, context, address, bytes);
  });
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  return in_context([&](Driver& state, Context& context) {
    const auto found = state.owned.find(address);
    require(found != state.owned.end() && found->second.kind == Owned::Kind::kDevice);
    Stream& checked = checked_stream(state, context, stream);
    const Owned owned = found->second;
    state.owned.erase(found);  // it is gone for the caller at once
    enqueue_always(context, checked, [&state, address, owned] { release(state, address, owned); });
  });
}

CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice device) {
  return call([&](Driver& state) {
    require(pool != nullptr);
    require_device(device);
    *pool = &state.pool;
  });
}

CUresult cuDeviceGetMemPool(CUmemoryPool* pool, CUdevice device) {
  return cuDeviceGetDefaultMemPool(pool, device);
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value) {
  return pool_attribute(pool, attribute, value, true);
}

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value) {
  return pool_attribute(pool, attribute, value, false);
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t /*bytes*/) {
  return call([&](Driver& state) { require(pool == &state.pool, CUDA_ERROR_INVALID_HANDLE); });
}

}  // extern "C"
}  // namespace sluice::ptx::api
