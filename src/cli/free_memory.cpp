#include "cli/free_memory.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

#include <sys/resource.h>

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kKibibyte = 1024;

std::optional<std::size_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  std::string text;
  if (!(file >> text)) return std::nullopt;
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;  // "max"
  return value;
}

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

// What a control group with this limit leaves. File pages that can be dropped are not really used.
std::optional<std::size_t> left_in_group(const fs::path& limit, const fs::path& usage,
                                         const fs::path& statistics) {
  const auto most = number_in(limit);
  const auto used = number_in(usage);
  if (!most || !used) return std::nullopt;
  const std::size_t droppable = field_in(statistics, "inactive_file").value_or(0);
  const std::size_t held = *used - std::min(*used, droppable);
  return *most - std::min(*most, held);
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

std::optional<std::size_t> left_in_groups() {
  const fs::path root = "/sys/fs/cgroup";
  std::optional<std::size_t> left =
      left_in_group(root / "memory/memory.limit_in_bytes", root / "memory/memory.usage_in_bytes",
                    root / "memory/memory.stat");
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("0::/")) continue;  // version 2
    for (fs::path group = fs::path(line.substr(4)).relative_path();; group = group.parent_path()) {
      const fs::path folder = root / group;
      left = smaller(left,
                     left_in_group(folder / "memory.max", folder / "memory.current", folder / "memory.stat"));
      if (group.empty()) break;
    }
  }
  return left;
}

}  // namespace

FreeMemory free_memory() {
  std::optional<std::size_t> available = field_in("/proc/meminfo", "MemAvailable:");
  if (available) available = *available * kKibibyte;
  return {.memory = smaller(available, left_in_groups()),
          .data = left_of_limit(RLIMIT_DATA, "VmData:"),
          .address_space = left_of_limit(RLIMIT_AS, "VmSize:")};
}

}  // namespace sluice::cli
