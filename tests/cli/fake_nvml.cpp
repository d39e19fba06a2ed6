// A libnvidia-ml.so.1 with one GPU, at the PTX machine's address, that always draws as much as its limit allows. FAKE_NVML: a folder
// where the file `limits` has every limit that was set, in milliwatts, one a line; in FAKE_NVML_MODE "no_energy" isn't counted, and
// "no_root" sets no limit.
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

namespace {

constexpr unsigned kLeast = 100'000;
constexpr unsigned kMost = 350'000;
constexpr unsigned kDefault = 300'000;
int gpu = 0;  // its address is the handle

std::string limits_file() {
  const char* folder = std::getenv("FAKE_NVML");
  return folder == nullptr ? std::string() : std::string(folder) + "/limits";
}

unsigned limit() {
  std::ifstream file(limits_file());
  unsigned last = kDefault;
  for (unsigned value = 0; file >> value;) last = value;
  return last;
}

std::string_view mode() {
  const char* value = std::getenv("FAKE_NVML_MODE");
  return value == nullptr ? "" : value;
}

}  // namespace

extern "C" {
int nvmlInit_v2() {
  return 0;
}
int nvmlShutdown() {
  return 0;
}
const char* nvmlErrorString(int result) {
  return result == 4 ? "Insufficient Permissions" : result == 3 ? "Not Supported" : "Not Found";
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* id, void** device) {
  *device = &gpu;
  return std::string_view(id) == "00000000:01:00.0" ? 0 : 6;
}
int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* millijoules) {
  if (device != &gpu || mode() == "no_energy") return 3;
  const std::chrono::duration<double> now = std::chrono::steady_clock::now().time_since_epoch();
  static const double start = now.count();
  *millijoules = static_cast<unsigned long long>((now.count() - start) * limit());
  return 0;
}
int nvmlDeviceGetPowerManagementLimit(void* device, unsigned* milliwatts) {
  *milliwatts = limit();
  return device == &gpu ? 0 : 6;
}
int nvmlDeviceGetPowerManagementLimitConstraints(void* device, unsigned* least, unsigned* most) {
  *least = kLeast;
  *most = kMost;
  return device == &gpu ? 0 : 6;
}
int nvmlDeviceSetPowerManagementLimit(void* device, unsigned milliwatts) {
  if (mode() == "no_root") return 4;
  std::ofstream(limits_file(), std::ios::app) << milliwatts << '\n';
  return device == &gpu ? 0 : 6;
}
}
