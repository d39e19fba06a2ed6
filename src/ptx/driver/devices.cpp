// Initialization, errors, entry points and the one device: NVIDIA, "CUDA Driver API", sections Error Handling, Initialization,
// Version Management, Driver Entry Point Access, Device Management. Which GPU it is, SLUICE_PTX_GPU says.
#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <string_view>

#include <fmt/format.h>

#include "ptx/driver/state.h"

namespace sluice::ptx::api {
namespace {

constexpr int kVersion = 13000;   // CUDA 13.0
constexpr int kAttributes = 148;  // it has the numbers below

struct ResultText {
  const char *name, *text;
};

const std::map<CUresult, ResultText> kResults = {
#define SLUICE_CUDA_RESULT(name, value, text) {name, {#name, text}},
#include "ptx/driver/results.inc"
#undef SLUICE_CUDA_RESULT
};

struct EntryPoint {
  std::string_view name;
  int since;
  void* function;
};

const EntryPoint kEntryPoints[] = {
#define SLUICE_CUDA_FUNCTION(name, suffix, since, parameters) \
  {#name, since, reinterpret_cast<void*>(&name##suffix)},
#include "ptx/driver/functions.inc"
#undef SLUICE_CUDA_FUNCTION
};

CUresult text_of(CUresult error, const char** text, const char* ResultText::* field) {
  if (text == nullptr) return CUDA_ERROR_INVALID_VALUE;
  const auto found = kResults.find(error);
  *text = found == kResults.end() ? nullptr : found->second.*field;
  return *text == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

std::uint64_t attribute_of(const Gpu& gpu, CUdevice_attribute attribute) {
  switch (attribute) {
#define SLUICE_CUDA_CONSTANT(name, value)
#define SLUICE_DEVICE_ATTRIBUTE(name, value, of_gpu) \
  case (value):                                      \
    return (of_gpu);
#include "ptx/driver/constants.inc"
#undef SLUICE_CUDA_CONSTANT
#undef SLUICE_DEVICE_ATTRIBUTE
    default:
      return 0;
  }
}

void copy_text(std::string_view text, char* to, int length) {
  require(to != nullptr && length > 0);
  to[text.copy(to, static_cast<std::size_t>(length) - 1)] = '\0';
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned flags) {
  return guarded([&] {
    require(flags == 0);
    or_fail(CUDA_ERROR_INVALID_VALUE, make_driver);
    return CUDA_SUCCESS;
  });
}

CUresult cuDriverGetVersion(int* version) {
  if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *version = kVersion;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  return text_of(error, text, &ResultText::text);
}

CUresult cuGetErrorName(CUresult error, const char** text) {
  return text_of(error, text, &ResultText::name);
}

// The newest form that a program of CUDA `version` knows.
CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, cuuint64_t flags,
                             CUdriverProcAddressQueryResult* result) {
  if (symbol == nullptr || function == nullptr) return CUDA_ERROR_INVALID_VALUE;
  *function = nullptr;
  const auto answer = [&](CUdriverProcAddressQueryResult what, CUresult returned) {
    if (result != nullptr) *result = what;
    return returned;
  };
  if ((flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0) {
    say("a default stream for each thread isn't supported: use streams of your own");
    return answer(CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, CUDA_ERROR_NOT_SUPPORTED);
  }
  bool known = false;
  int newest = 0;
  for (const EntryPoint& entry : kEntryPoints) {
    if (entry.name != symbol) continue;
    known = true;
    if (entry.since > version || entry.since < newest) continue;
    newest = entry.since;
    *function = entry.function;
  }
  if (!known) return answer(CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
  if (*function == nullptr) return answer(CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT, CUDA_ERROR_NOT_FOUND);
  return answer(CU_GET_PROC_ADDRESS_SUCCESS, CUDA_SUCCESS);
}

CUresult cuGetProcAddress(const char* symbol, void** function, int version, cuuint64_t flags) {
  return cuGetProcAddress_v2(symbol, function, version, flags, nullptr);
}

CUresult cuGetExportTable(const void** table, const CUuuid* /*id*/) {
  if (table != nullptr) *table = nullptr;
  say("cuGetExportTable: the driver's private tables, which the CUDA runtime (libcudart) needs, aren't "
      "there: use the driver API alone");
  return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return call([&](Driver&) {
    require_device(ordinal);
    out(device) = ordinal;
  });
}

CUresult cuDeviceGetCount(int* count) {
  return call([&](Driver&) { out(count) = 1; });
}

// Says that no such GPU is there.
CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  return call([&](Driver& driver) {
    require_device(device);
    copy_text(fmt::format("{} (PTX machine)", driver.gpu.name), name, length);
  });
}

// The same for every process that has the same GPU.
CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  return call([&](Driver& driver) {
    require_device(device);
    out(uuid) = {};
    fmt::format("ptx {}", driver.gpu.preset).copy(uuid->bytes, sizeof(uuid->bytes));
  });
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) {
  return cuDeviceGetUuid_v2(uuid, device);
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return call([&](Driver& driver) {
    require_device(device);
    out(bytes) = driver.memory.capacity();
  });
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  return call([&](Driver& driver) {
    require(attribute > 0 && attribute < kAttributes);
    require_device(device);
    constexpr std::uint64_t kMost = std::numeric_limits<int>::max();
    out(value) = static_cast<int>(std::min(attribute_of(driver.gpu, attribute), kMost));
  });
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
  return call([&](Driver& driver) {
    require_device(device);
    require(major != nullptr && minor != nullptr);
    *major = static_cast<int>(driver.gpu.compute_capability / 10);
    *minor = static_cast<int>(driver.gpu.compute_capability % 10);
  });
}

// Domain 0, the bus that CU_DEVICE_ATTRIBUTE_PCI_BUS_ID tells.
CUresult cuDeviceGetPCIBusId(char* id, int length, CUdevice device) {
  return call([&](Driver&) {
    require_device(device);
    copy_text("0000:01:00.0", id, length);
  });
}

// There is no other device.
CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  return call([&](Driver&) {
    require_device(device);
    require_device(peer);
    out(can) = 0;
  });
}

}  // extern "C"
}  // namespace sluice::ptx::api
