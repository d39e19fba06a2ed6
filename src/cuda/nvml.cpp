#include "cuda/nvml.h"

#include <cmath>
#include <type_traits>

#include <dlfcn.h>
#include <fmt/format.h>

#include "base/error.h"

namespace sluice::cuda {

// NVIDIA, "NVML API Reference Guide". Units there: milliwatts, millijoules.
struct NvmlFunctions {
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*error_string)(int result) = nullptr;
  int (*device)(const char* pci_bus_id, void** device) = nullptr;
  int (*energy)(void* device, unsigned long long* millijoules) = nullptr;
  int (*limit)(void* device, unsigned* milliwatts) = nullptr;
  int (*range)(void* device, unsigned* least, unsigned* most) = nullptr;
  int (*set_limit)(void* device, unsigned milliwatts) = nullptr;
};

namespace {

constexpr const char* kLibrary = "libnvidia-ml.so.1";
constexpr int kNoPermission = 4;  // nvmlReturn_t
constexpr double kMilli = 1e-3;

// The library stays loaded, as the driver's does.
NvmlFunctions load() {
  void* handle = ::dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) throw Error(fmt::format("{} was not found", kLibrary));
  NvmlFunctions functions;
  const auto look_up = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(handle, symbol));
    if (function == nullptr) throw Error(fmt::format("{} lacks {}", kLibrary, symbol));
  };
  look_up(functions.init, "nvmlInit_v2");
  look_up(functions.shutdown, "nvmlShutdown");
  look_up(functions.error_string, "nvmlErrorString");
  look_up(functions.device, "nvmlDeviceGetHandleByPciBusId_v2");
  look_up(functions.energy, "nvmlDeviceGetTotalEnergyConsumption");
  look_up(functions.limit, "nvmlDeviceGetPowerManagementLimit");
  look_up(functions.range, "nvmlDeviceGetPowerManagementLimitConstraints");
  look_up(functions.set_limit, "nvmlDeviceSetPowerManagementLimit");
  return functions;
}

}  // namespace

PowerMeter::PowerMeter(const std::string& pci_bus_id)
    : where_(fmt::format("GPU {}", pci_bus_id)), functions_(std::make_unique<NvmlFunctions>(load())) {
  check(functions_->init(), "doesn't start");
  try {
    check(functions_->device(pci_bus_id.c_str(), &device_), "doesn't know the GPU");
  } catch (...) {
    static_cast<void>(functions_->shutdown());
    throw;
  }
}

PowerMeter::~PowerMeter() {
  static_cast<void>(functions_->shutdown());
}

void PowerMeter::check(int result, const char* doing) const {
  if (result == 0) return;
  const char* text = functions_->error_string(result);
  throw Error(fmt::format("{} {}: {}", kLibrary, doing, text == nullptr ? "unknown error" : text), where_,
              result == kNoPermission ? "run as root" : "");
}

double PowerMeter::joules() const {
  unsigned long long millijoules = 0;
  check(functions_->energy(device_, &millijoules), "doesn't count energy");
  return static_cast<double>(millijoules) * kMilli;
}

PowerMeter::Watts PowerMeter::range() const {
  unsigned least = 0;
  unsigned most = 0;
  check(functions_->range(device_, &least, &most), "knows no limits of power");
  return {.least = least * kMilli, .most = most * kMilli};
}

double PowerMeter::limit() const {
  unsigned milliwatts = 0;
  check(functions_->limit(device_, &milliwatts), "doesn't tell the power limit");
  return milliwatts * kMilli;
}

void PowerMeter::set_limit(double watts) const {
  check(functions_->set_limit(device_, static_cast<unsigned>(std::lround(watts / kMilli))),
        "can't set the power limit");
}

}  // namespace sluice::cuda
