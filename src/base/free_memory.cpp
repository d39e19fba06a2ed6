#include "base/free_memory.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <sys/resource.h>

#include "base/control_groups.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kKibibyte = 1024;

// The value of "KEY NUMBER" in a file of such lines.
std::optional<std::size_t> field_in(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  std::string name;
  for (std::string rest; file >> name; std::getline(file, rest)) {
    std::size_t value = 0;
    if (name == key && file >> value) return value;
  }
  return std::nullopt;
}

std::optional<std::size_t> smaller(std::optional<std::size_t> a, std::optional<std::size_t> b) {
  if (!a) return b;
  return b ? std::min(*a, *b) : *a;
}

// What a limit leaves, of which `field` of /proc/self/status is used.
std::optional<std::size_t> left_of_limit(int resource, std::string_view field) {
  struct rlimit limit{};
  if (::getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  const std::size_t used = field_in("/proc/self/status", field).value_or(0) * kKibibyte;
  const auto most = static_cast<std::size_t>(limit.rlim_cur);
  return most - std::min(most, used);
}

}  // namespace

FreeMemory free_memory() {
  std::optional<std::size_t> available = field_in("/proc/meminfo", "MemAvailable:");
  if (available) available = *available * kKibibyte;
  return {.memory = smaller(available, left_in_control_groups()),
          .data = left_of_limit(RLIMIT_DATA, "VmData:"),
          .address_space = left_of_limit(RLIMIT_AS, "VmSize:")};
}

}  // namespace sluice
