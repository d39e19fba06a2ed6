#include "cuda/driver.h"

#include <array>
#include <exception>
#include <type_traits>

#include <dlfcn.h>
#include <fmt/format.h>

#include "base/error.h"
#include "cuda/build.h"

namespace sluice::cuda {
namespace {

constexpr const char* kLibrary = "libcuda.so.1";

// CUdevice_attribute.
constexpr int kClockRate = 13;
constexpr int kMultiprocessorCount = 16;
constexpr int kKernelExecTimeout = 17;
constexpr int kPciBus = 33;
constexpr int kPciDevice = 34;
constexpr int kMemoryClockRate = 36;
constexpr int kMemoryBusWidth = 37;
constexpr int kL2CacheSize = 38;
constexpr int kPciDomain = 50;
constexpr int kComputeCapabilityMajor = 75;
constexpr int kComputeCapabilityMinor = 76;
constexpr int kCooperativeLaunch = 95;
constexpr int kSharedPerBlockOptin = 97;

constexpr Result kNoDevice = 100;
constexpr Result kSystemDriverMismatch = 803;

std::string without_null(const char* text) {
  return text == nullptr ? std::string() : std::string(text);
}

Error not_loaded(const std::string& name) {
  const std::string reason = without_null(::dlerror());
  if (reason.find("No such file or directory") != std::string::npos) {
    if (name == kLibrary) {
      return Error(fmt::format("{} was not found: there is no NVIDIA driver", kLibrary), "",
                   "install one, or use --device cpu");
    }
    return Error("the PTX machine's library was not found", name, "build or install it");
  }
  return Error(fmt::format("{} can't be loaded: {}", name, reason));
}

// Without a line for each attribute that a driver doesn't know.
int attribute(const DriverFunctions& functions, DeviceHandle of, int which) {
  int value = 0;
  return functions.device_attribute(&value, which, of) == kSuccess ? value : 0;
}

std::string version_string(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// NVIDIA, "CUDA Toolkit Release Notes", minimum driver of each major version on Linux.
int least_driver(int cuda_major) {
  return cuda_major >= 13 ? 580 : 525;
}

}  // namespace

std::shared_ptr<const Driver> Driver::open(const std::optional<std::filesystem::path>& library) {
  const std::string name = library ? library->string() : kLibrary;
  void* handle = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) throw not_loaded(name);
  const std::shared_ptr<Driver> driver(new Driver);
  std::string missing;
  const auto look_up = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(handle, symbol));
    if (function == nullptr && missing.empty()) missing = symbol;
  };
  DriverFunctions& functions = driver->functions_;
#define SLUICE_DRIVER_FUNCTION(member, symbol, parameters) look_up(functions.member, #symbol);
#include "cuda/driver_functions.inc"
#undef SLUICE_DRIVER_FUNCTION
  if (functions.driver_version == nullptr || functions.init == nullptr || functions.error_string == nullptr)
    throw Error(fmt::format("{} is no CUDA driver: it lacks {}", name, missing));
  static_cast<void>(functions.driver_version(&driver->version_));
  if (const Result result = functions.init(0); result != kSuccess) {
    if (result == kNoDevice) throw Error("the driver sees no device", name, "use --device cpu");
    if (result == kSystemDriverMismatch)
      throw Error("the driver's library and its kernel module are of different versions", name,
                  "restart the machine");
    throw Error(fmt::format("the driver doesn't start: {}", driver->text_of(result)), name);
  }
  int count = 0;
  const Result counted = functions.device_count == nullptr ? kNoDevice : functions.device_count(&count);
  if (counted != kSuccess && counted != kNoDevice)
    throw Error(fmt::format("the driver doesn't tell its devices: {}", driver->text_of(counted)), name);
  if (count <= 0) throw Error("the driver sees no device", name, "use --device cpu");
  driver->n_devices_ = static_cast<std::size_t>(count);
  if (functions.device_get == nullptr || functions.device_name == nullptr ||
      functions.device_bytes == nullptr || functions.device_attribute == nullptr)
    throw Error(fmt::format("{} is no CUDA driver: it lacks {}", name, missing));
  driver->missing_ = missing;
  return driver;
}

std::string Driver::version_text() const {
  return version_string(version_);
}

DeviceInfo Driver::device(std::size_t ordinal) const {
  if (ordinal >= n_devices_) {
    throw Error(
        fmt::format("there is no device {}", ordinal), fmt::format("cuda:{}", ordinal),
        n_devices_ == 1 ? "there is cuda:0 alone" : fmt::format("use cuda:0 to cuda:{}", n_devices_ - 1));
  }
  DeviceInfo info;
  info.ordinal = ordinal;
  DeviceHandle handle = 0;
  check(functions_.device_get(&handle, static_cast<int>(ordinal)), "can't open the device");
  std::array<char, 256> name{};
  if (functions_.device_name(name.data(), static_cast<int>(name.size()) - 1, handle) == kSuccess)
    info.name = name.data();
  static_cast<void>(functions_.device_bytes(&info.bytes, handle));
  info.major = attribute(functions_, handle, kComputeCapabilityMajor);
  info.minor = attribute(functions_, handle, kComputeCapabilityMinor);
  info.n_sms = attribute(functions_, handle, kMultiprocessorCount);
  info.shared_per_block = attribute(functions_, handle, kSharedPerBlockOptin);
  info.clock_khz = attribute(functions_, handle, kClockRate);
  info.memory_clock_khz = attribute(functions_, handle, kMemoryClockRate);
  info.memory_bus_bits = attribute(functions_, handle, kMemoryBusWidth);
  info.l2_bytes = attribute(functions_, handle, kL2CacheSize);
  info.cooperative = attribute(functions_, handle, kCooperativeLaunch) != 0;
  info.limits_time = attribute(functions_, handle, kKernelExecTimeout) != 0;
  info.pci_bus_id =
      fmt::format("{:08x}:{:02x}:{:02x}.0", attribute(functions_, handle, kPciDomain),
                  attribute(functions_, handle, kPciBus), attribute(functions_, handle, kPciDevice));
  return info;
}

std::string Driver::text_of(Result result) const {
  const char* text = nullptr;
  const char* name = nullptr;
  if (functions_.error_string(result, &text) != kSuccess || text == nullptr)
    return fmt::format("error {}", result);
  if (functions_.error_name == nullptr || functions_.error_name(result, &name) != kSuccess || name == nullptr)
    return fmt::format("error {}, {}", result, text);
  return fmt::format("{} ({})", text, name);
}

void Driver::check(Result result, std::string_view doing) const {
  if (result == kSuccess) return;
  throw Error(fmt::format("the CUDA driver {}: {}", doing, text_of(result)));
}

std::string why_unusable(const Driver& driver, const DeviceInfo& device) {
  const int built_with = toolkit_version();
  const int major = built_with / 10;
  if (driver.version() / 1000 < major) {
    return fmt::format("the driver speaks CUDA {}, this program needs {}.0: install driver {} or newer",
                       driver.version_text(), major, least_driver(major));
  }
  if (!driver.missing().empty())
    return fmt::format("the driver lacks {}: install driver {} or newer", driver.missing(),
                       least_driver(major));
  if (device.capability() < kLeastCapability) {
    return fmt::format("its compute capability is {}.{}, the kernels need {}.{} or newer", device.major,
                       device.minor, kLeastCapability / 10, kLeastCapability % 10);
  }
  if (!device.cooperative) return "it can't run all blocks of a kernel at once (cooperative launch)";
  if (device.shared_per_block < kLeastSharedBytes) {
    return fmt::format("a block has {} KB of shared memory, the kernels need {} KB",
                       device.shared_per_block / 1024, kLeastSharedBytes / 1024);
  }
  return {};
}

Survey survey(const std::optional<std::filesystem::path>& library) {
  Survey found;
  try {
    const auto driver = Driver::open(library);
    found.driver = driver->version_text();
    for (std::size_t i = 0; i < driver->n_devices(); ++i) {
      found.devices.push_back(driver->device(i));
      found.reasons.push_back(why_unusable(*driver, found.devices.back()));
    }
  } catch (const std::exception& error) {
    found.problem = error.what();
  }
  return found;
}

}  // namespace sluice::cuda
