// The one device: NVIDIA, "CUDA Driver API", section Device Management. Which GPU it is, SLUICE_PTX_GPU says.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "ptx/driver/state.h"

namespace sluice::ptx::api {
namespace {

constexpr int kMaxGridX = 2147483647;
constexpr int kMaxGridYZ = 65535;
constexpr int kMaxBlockZ = 64;
constexpr int kConstantBytes = 65536;
constexpr int kAttributes = 148;  // CUDA 13.0 has the numbers below
constexpr const char* kBusId = "0000:01:00.0";

int as_int(std::uint64_t value) {
  return static_cast<int>(std::min<std::uint64_t>(value, std::numeric_limits<int>::max()));
}

// Attributes that aren't named are 0: what they ask for isn't there.
int attribute_of(const Gpu& gpu, CUdevice_attribute attribute) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y:
      return as_int(gpu.max_threads_per_block);
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z:
      return kMaxBlockZ;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
      return kMaxGridX;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z:
      return kMaxGridYZ;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
      return as_int(gpu.shared_per_block);
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      return as_int(gpu.shared_per_block_optin);
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
      return as_int(gpu.shared_per_sm);
    case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK:
      return as_int(gpu.reserved_shared_per_block);
    case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY:
      return kConstantBytes;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE:
      return static_cast<int>(kLanes);
    case CU_DEVICE_ATTRIBUTE_MAX_PITCH:
      return std::numeric_limits<int>::max();
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR:
      return as_int(gpu.registers_per_sm);
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
      return as_int(gpu.clock_mhz * 1000ULL);
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE:
      return as_int(gpu.memory_clock_mhz * 1000ULL);
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH:
      return as_int(gpu.memory_bus_bits);
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      return as_int(gpu.sms);
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE:
      return as_int(gpu.l2_bytes);
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR:
      return as_int(gpu.max_threads_per_sm);
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR:
      return as_int(gpu.max_blocks_per_sm);
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      return as_int(gpu.compute_capability / 10);
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      return as_int(gpu.compute_capability % 10);
    case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT:
    case CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT:
      return 512;
    case CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT:
      return 32;
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
      return 2;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
    case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP:
    case CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY:
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM:
    case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH:
    case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
      return 1;
    default:
      return 0;
  }
}

void copy_text(std::string_view text, char* to, int length) {
  require(to != nullptr && length > 0);
  const std::size_t count = std::min(text.size(), static_cast<std::size_t>(length) - 1);
  std::memcpy(to, text.data(), count);
  to[count] = '\0';
}

}  // namespace

extern "C" {

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return call([&](Driver&) {
    require(device != nullptr);
    require_device(ordinal);
    *device = ordinal;
  });
}

CUresult cuDeviceGetCount(int* count) {
  return call([&](Driver&) {
    require(count != nullptr);
    *count = 1;
  });
}

// Says that no such GPU is there.
CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  return call([&](Driver& state) {
    require_device(device);
    copy_text(fmt::format("{} (PTX machine)", state.gpu.name), name, length);
  });
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  return call([&](Driver& state) {
    require(uuid != nullptr);
    require_device(device);
    *uuid = {};
    const std::string text = fmt::format("ptx {}", state.gpu.preset);
    std::memcpy(uuid->bytes, text.data(), std::min(text.size(), sizeof(uuid->bytes)));
  });
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
  return cuDeviceGetUuid_v2(uuid, device);
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return call([&](Driver& state) {
    require(bytes != nullptr);
    require_device(device);
    *bytes = state.memory.capacity();
  });
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  return call([&](Driver& state) {
    require(value != nullptr && attribute > 0 && attribute < kAttributes);
    require_device(device);
    *value = attribute_of(state.gpu, attribute);
  });
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
  return call([&](Driver& state) {
    require(major != nullptr && minor != nullptr);
    require_device(device);
    *major = attribute_of(state.gpu, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    *minor = attribute_of(state.gpu, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  });
}

CUresult cuDeviceGetProperties(CUdevprop* properties, CUdevice device) {
  return call([&](Driver& state) {
    require(properties != nullptr);
    require_device(device);
    const auto of = [&](CUdevice_attribute attribute) { return attribute_of(state.gpu, attribute); };
    *properties = {
        of(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK),
        {of(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X), of(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y), kMaxBlockZ},
        {kMaxGridX, kMaxGridYZ, kMaxGridYZ},
        of(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK),
        kConstantBytes,
        of(CU_DEVICE_ATTRIBUTE_WARP_SIZE),
        of(CU_DEVICE_ATTRIBUTE_MAX_PITCH),
        of(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK),
        of(CU_DEVICE_ATTRIBUTE_CLOCK_RATE),
        of(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT)};
  });
}

CUresult cuDeviceGetPCIBusId(char* id, int length, CUdevice device) {
  return call([&](Driver&) {
    require_device(device);
    copy_text(kBusId, id, length);
  });
}

CUresult cuDeviceGetByPCIBusId(CUdevice* device, const char* id) {
  return call([&](Driver&) {
    require(device != nullptr && id != nullptr);
    require(std::string_view(id) == kBusId, CUDA_ERROR_INVALID_DEVICE);
    *device = 0;
  });
}

// There is no other device.
CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  return call([&](Driver&) {
    require(can != nullptr);
    require_device(device);
    require_device(peer);
    *can = 0;
  });
}

// NOLINTNEXTLINE(readability-non-const-parameter): as cuda.h declares it
CUresult cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute /*attribute*/, CUdevice source,
                                 CUdevice destination) {
  return call([&](Driver&) {
    require(value != nullptr);
    require(source != destination, CUDA_ERROR_INVALID_DEVICE);
    require_device(source);
    require_device(destination);
  });
}

}  // extern "C"
}  // namespace sluice::ptx::api
