// NVIDIA's driver, reached through dlopen: nothing links to CUDA, and every program starts without a driver. The same calls reach
// the PTX machine (docs/ptx.md), whose library has the driver's ABI.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::cuda {

// The ABI's types, declared by us: we are built where no CUDA toolkit is.
using Result = int;        // CUresult
using DeviceHandle = int;  // CUdevice
using DevicePointer = std::uint64_t;
using ContextHandle = struct ContextObject*;
using ModuleHandle = struct ModuleObject*;
using FunctionHandle = struct FunctionObject*;
using StreamHandle = struct StreamObject*;
using EventHandle = struct EventObject*;

// `address` as a kernel's parameters have it. Only the device may follow it.
template <typename T>
T* device_pointer(DevicePointer address) {
  return std::bit_cast<T*>(address);
}

inline constexpr Result kSuccess = 0;
inline constexpr Result kOutOfMemory = 2;
inline constexpr Result kNotReady = 600;

// The library's functions; all null before they are looked up.
struct DriverFunctions {
// NOLINTNEXTLINE(bugprone-macro-parentheses): a name and its parameters, no expressions
#define SLUICE_DRIVER_FUNCTION(member, symbol, parameters) Result(*member) parameters = nullptr;
#include "cuda/driver_functions.inc"
#undef SLUICE_DRIVER_FUNCTION
};

// What the driver says of a device; 0 for what it doesn't.
struct DeviceInfo {
  std::size_t ordinal = 0;
  std::string name;
  std::size_t bytes = 0;
  int major = 0;  // compute capability
  int minor = 0;
  int n_sms = 0;
  int shared_per_block = 0;  // bytes, after opt-in
  int clock_khz = 0;
  int memory_clock_khz = 0;
  int memory_bus_bits = 0;
  int l2_bytes = 0;
  bool cooperative = false;  // can launch cooperatively
  bool limits_time = false;  // kills long kernels: it drives a display
  std::string pci_bus_id;    // "00000000:01:00.0"

  int capability() const { return 10 * major + minor; }
  // The PTX machine (docs/ptx.md), whichever library was opened as the driver: its time is no GPU's.
  bool is_emulated() const { return name.ends_with("(PTX machine)"); }
};

class Driver {
 public:
  // Loads libcuda.so.1, found as the system finds libraries, or the file `library`, and starts it. Throws Error if there is none,
  // or it doesn't start, or sees no device. The library stays loaded: drivers don't like to be unloaded.
  static std::shared_ptr<const Driver> open(const std::optional<std::filesystem::path>& library = {});

  const DriverFunctions& functions() const { return functions_; }
  int version() const { return version_; }  // of CUDA that it speaks: 12040 is 12.4
  std::string version_text() const;         // "12.4"
  std::size_t n_devices() const { return n_devices_; }
  const std::string& missing() const {
    return missing_;
  }  // a function that our kernels need and an old driver lacks

  // Throws Error if there is no such device.
  DeviceInfo device(std::size_t ordinal) const;

  // Throws Error, `doing` in its words ("can't allocate memory"), unless `result` is success.
  void check(Result result, std::string_view doing) const;

  std::string text_of(Result result) const;  // "out of memory (CUDA_ERROR_OUT_OF_MEMORY)"

 private:
  Driver() = default;

  DriverFunctions functions_;
  int version_ = 0;
  std::size_t n_devices_ = 0;
  std::string missing_;
};

// What is there, for who only looks: never throws.
struct Survey {
  std::string problem;  // why no device can be asked; empty if there are devices
  std::string driver;   // "12.4"; empty without driver
  std::vector<DeviceInfo> devices;
  std::vector<std::string> reasons;  // [devices]  why it isn't usable; empty if it is
};
Survey survey(const std::optional<std::filesystem::path>& library = {});

// Why our kernels can't run there: driver or device too old, or too little shared memory. Empty if they can.
std::string why_unusable(const Driver& driver, const DeviceInfo& device);

}  // namespace sluice::cuda
