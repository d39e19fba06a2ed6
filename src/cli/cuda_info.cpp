// The few functions of the CUDA driver API that tell what is there (NVIDIA, "CUDA Driver API", Initialization, Version
// Management, Device Management). CUresult, CUdevice and CUdevice_attribute are ints there.
#include "cli/cuda_info.h"

#include <array>
#include <string_view>

#include <dlfcn.h>
#include <fmt/format.h>

namespace sluice::cli {
namespace {

constexpr const char* kLibrary = "libcuda.so.1";
constexpr int kSuccess = 0;
constexpr int kComputeCapabilityMajor = 75;
constexpr int kComputeCapabilityMinor = 76;

// The driver's functions; null where it lacks one. The library stays loaded: drivers don't like to be unloaded.
class Driver {
 public:
  explicit Driver(void* library) : library_(library) {}

  // Calls `name`; nothing but an error if there is no such function.
  template <typename... Arguments>
  int call(const char* name, Arguments... arguments) const {
    constexpr int kNotFound = 500;  // CUDA_ERROR_NOT_FOUND
    using Function = int (*)(Arguments...);
    const auto function = reinterpret_cast<Function>(::dlsym(library_, name));
    return function == nullptr ? kNotFound : function(arguments...);
  }

  std::string error_text(int error) const {
    const char* text = nullptr;
    if (call("cuGetErrorString", error, &text) != kSuccess || text == nullptr)
      return fmt::format("error {}", error);
    return fmt::format("error {}, {}", error, text);
  }

 private:
  void* library_;
};

std::string why_not_loaded() {
  const char* reason = ::dlerror();
  const std::string_view text = reason == nullptr ? "" : reason;
  if (text.find("No such file or directory") != std::string_view::npos)
    return fmt::format("{} was not found: there is no NVIDIA driver", kLibrary);
  return fmt::format("{} can't be loaded: {}", kLibrary, text);
}

CudaDevice describe(const Driver& driver, int ordinal) {
  CudaDevice device;
  int handle = 0;
  if (driver.call("cuDeviceGet", &handle, ordinal) != kSuccess) return device;
  std::array<char, 256> name{};
  if (driver.call("cuDeviceGetName", name.data(), static_cast<int>(name.size()) - 1, handle) == kSuccess)
    device.name = name.data();
  static_cast<void>(driver.call("cuDeviceTotalMem_v2", &device.bytes, handle));
  static_cast<void>(driver.call("cuDeviceGetAttribute", &device.major, kComputeCapabilityMajor, handle));
  static_cast<void>(driver.call("cuDeviceGetAttribute", &device.minor, kComputeCapabilityMinor, handle));
  return device;
}

}  // namespace

CudaInfo cuda_info() {
  CudaInfo info;
  void* library = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    info.problem = why_not_loaded();
    return info;
  }
  const Driver driver(library);
  int version = 0;
  if (driver.call("cuDriverGetVersion", &version) == kSuccess)
    info.driver = fmt::format("{}.{}", version / 1000, version % 1000 / 10);  // 12040 is 12.4
  if (const int error = driver.call("cuInit", 0U); error != kSuccess) {
    info.problem = "the driver doesn't start: " + driver.error_text(error);
    return info;
  }
  int count = 0;
  if (const int error = driver.call("cuDeviceGetCount", &count); error != kSuccess) {
    info.problem = "the driver doesn't tell its devices: " + driver.error_text(error);
    return info;
  }
  for (int i = 0; i < count; ++i) info.devices.push_back(describe(driver, i));
  if (info.devices.empty()) info.problem = "the driver sees no device";
  return info;
}

}  // namespace sluice::cli
