// A libcuda.so.1 that sees two devices, or as FAKE_CUDA says: "none", "broken".
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {
std::string_view mode() {
  const char* value = std::getenv("FAKE_CUDA");
  return value == nullptr ? "" : value;
}
}  // namespace

extern "C" {
int cuInit(unsigned /*flags*/) {
  return mode() == "broken" ? 999 : 0;
}
int cuDriverGetVersion(int* version) {
  *version = 12040;
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
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  *value = attribute == 75 ? device : 5;
  return 0;
}
}
