#include "cli/device_names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <system_error>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "cli/exit.h"
#include "cuda/build.h"
#include "cuda/driver.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> kDevices = {"cpu", "oracle", "cuda", "emulated"};
constexpr std::size_t kWithoutKernels = 2;
constexpr std::string_view kNumbered = "cuda:";

bool contains(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

}  // namespace

std::span<const std::string_view> built_in_devices() {
  return std::span(kDevices).first(cuda::is_built_in() ? kDevices.size() : kWithoutKernels);
}

std::string_view default_device() {
  if (!cuda::is_built_in()) return "cpu";
  const cuda::Survey found = cuda::survey();
  const bool usable = !found.reasons.empty() && found.reasons.front().empty();
  return usable ? "cuda" : "cpu";
}

bool is_gpu(std::string_view device) {
  return device == "cuda" || device == "emulated" || device.starts_with(kNumbered);
}

std::optional<std::size_t> device_number(std::string_view device) {
  if (!device.starts_with(kNumbered)) return 0;
  const std::string_view digits = device.substr(kNumbered.size());
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

void check_device_name(std::string_view device) {
  const std::string use = fmt::format("use --device {}", fmt::join(built_in_devices(), " or --device "));
  const bool numbered = device.starts_with(kNumbered) && device_number(device);
  const std::string_view name = numbered ? std::string_view("cuda") : device;
  if (!contains(kDevices, name))
    throw UsageError(fmt::format("there is no device \"{}\"", device), "--device", use);
  if (!contains(built_in_devices(), name)) {
    throw Error(fmt::format("device {} is not built into this version: {}", name, cuda::why_not_built_in()),
                "--device", use + "; see sluice devices");
  }
}

std::optional<fs::path> emulated_library() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return std::nullopt;
  const fs::path beside = program.parent_path();
  for (const fs::path& folder : {beside / "ptx", beside / SLUICE_BIN_TO_LIBRARIES}) {
    fs::path library = (folder / "libcuda.so.1").lexically_normal();
    if (fs::exists(library, error)) return library;
  }
  return std::nullopt;
}

}  // namespace sluice::cli
