// A libcuda.so.1 that sees two devices and can do nothing with them. FAKE_CUDA: "none" of them, "broken" driver, or a new driver with
// GPUs that won't do: "old_gpu", "small_gpu", "no_grid".
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {
std::string_view mode() {
  const char* value = std::getenv("FAKE_CUDA");
  return value == nullptr ? "" : value;
}
bool new_driver() {
  return mode().ends_with("_gpu") || mode() == "no_grid";
}
}  // namespace

extern "C" {
int cuInit(unsigned /*flags*/) {
  return mode() == "broken" ? 999 : 0;
}
int cuDriverGetVersion(int* version) {
  *version = new_driver() ? 13000 : 12040;
  return 0;
}
int cuGetErrorString(int error, const char** text) {
  *text = error == 999 ? "unknown error" : nullptr;
  return *text == nullptr ? 1 : 0;
}
int cuDeviceGetCount(int* count) {
  *count = mode() == "none" ? 0 : 2;
  return 0;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = 7 + ordinal;
  return 0;
}
int cuDeviceGetName(char* name, int size, int device) {
  std::strncpy(name, device == 7 ? "First" : "Second\x1b[31m", static_cast<std::size_t>(size));
  return 0;
}
int cuDeviceTotalMem_v2(std::size_t* bytes, int device) {
  *bytes = static_cast<std::size_t>(device) * 1'000'000'000;
  return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int /*device*/) {
  switch (attribute) {
    case 75:  // compute capability, major and minor
      *value = 7;
      break;
    case 76:
      *value = mode() == "old_gpu" ? 0 : 5;
      break;
    case 95:  // cooperative launch
      *value = mode() == "no_grid" ? 0 : 1;
      break;
    case 97:  // shared memory after opt-in
      *value = (mode() == "small_gpu" ? 48 : 64) << 10;
      break;
    default:
      return 1;
  }
  return 0;
}
#define SLUICE_DRIVER_FUNCTION(name) \
  int name() {                       \
    return 999;                      \
  }
SLUICE_DRIVER_FUNCTION(cuGetErrorName)
SLUICE_DRIVER_FUNCTION(symbol)
SLUICE_DRIVER_FUNCTION(cuCtxCreate_v2)
SLUICE_DRIVER_FUNCTION(cuCtxDestroy_v2)
SLUICE_DRIVER_FUNCTION(cuCtxPushCurrent_v2)
SLUICE_DRIVER_FUNCTION(cuCtxPopCurrent_v2)
SLUICE_DRIVER_FUNCTION(cuModuleLoadDataEx)
SLUICE_DRIVER_FUNCTION(cuModuleUnload)
SLUICE_DRIVER_FUNCTION(cuModuleGetFunction)
SLUICE_DRIVER_FUNCTION(cuFuncGetAttribute)
SLUICE_DRIVER_FUNCTION(cuFuncSetAttribute)
SLUICE_DRIVER_FUNCTION(cuOccupancyMaxActiveBlocksPerMultiprocessor)
SLUICE_DRIVER_FUNCTION(cuLaunchCooperativeKernel)
SLUICE_DRIVER_FUNCTION(cuMemGetInfo_v2)
SLUICE_DRIVER_FUNCTION(cuMemAlloc_v2)
SLUICE_DRIVER_FUNCTION(cuMemFree_v2)
SLUICE_DRIVER_FUNCTION(cuMemHostAlloc)
SLUICE_DRIVER_FUNCTION(cuMemFreeHost)
SLUICE_DRIVER_FUNCTION(cuMemHostGetDevicePointer_v2)
SLUICE_DRIVER_FUNCTION(cuMemcpyHtoD_v2)
SLUICE_DRIVER_FUNCTION(cuMemcpyHtoDAsync_v2)
SLUICE_DRIVER_FUNCTION(cuMemcpyDtoH_v2)
SLUICE_DRIVER_FUNCTION(cuMemcpyDtoHAsync_v2)
SLUICE_DRIVER_FUNCTION(cuMemsetD8Async)
SLUICE_DRIVER_FUNCTION(cuStreamCreate)
SLUICE_DRIVER_FUNCTION(cuStreamDestroy_v2)
SLUICE_DRIVER_FUNCTION(cuStreamSynchronize)
SLUICE_DRIVER_FUNCTION(cuStreamQuery)
SLUICE_DRIVER_FUNCTION(cuEventCreate)
SLUICE_DRIVER_FUNCTION(cuEventDestroy_v2)
SLUICE_DRIVER_FUNCTION(cuEventRecord)
SLUICE_DRIVER_FUNCTION(cuEventSynchronize)
SLUICE_DRIVER_FUNCTION(cuEventQuery)
SLUICE_DRIVER_FUNCTION(cuEventElapsedTime)
#undef SLUICE_DRIVER_FUNCTION
}
