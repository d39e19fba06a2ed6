#include "base/control_groups.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>

namespace sluice {
namespace {

namespace fs = std::filesystem;

// A group's files.
struct Names {
  const char* limit;
  const char* usage;
  const char* droppable;  // in memory.stat: of this group and those below, as the usage is
};
constexpr Names kVersion1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"};
constexpr Names kVersion2 = {"memory.max", "memory.current", "inactive_file"};

std::optional<std::size_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  std::string text;
  if (!(file >> text)) return std::nullopt;
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;  // "max"
  return value;
}

std::size_t droppable_in(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  std::string name;
  for (std::size_t value = 0; file >> name >> value;)
    if (name == key) return value;
  return 0;
}

std::optional<std::size_t> left_in_group(const fs::path& folder, const Names& names) {
  const auto most = number_in(folder / names.limit);
  const auto used = number_in(folder / names.usage);
  if (!most || !used) return std::nullopt;
  const std::size_t held = *used - std::min(*used, droppable_in(folder / "memory.stat", names.droppable));
  return *most - std::min(*most, held);
}

// Of `group`, a path such as "/a/b", and of those above it. In a container the path may be one that only the host sees:
// folders that aren't there limit nothing, and the mount itself is then the container's group.
std::optional<std::size_t> left_up_from(const fs::path& mount, std::string_view path, const Names& names) {
  std::optional<std::size_t> left;
  for (fs::path group = fs::path(path).relative_path();; group = group.parent_path()) {
    const auto here = left_in_group(mount / group, names);
    if (here) left = std::min(left.value_or(*here), *here);
    if (group.empty()) return left;
  }
}

}  // namespace

std::optional<std::size_t> left_in_control_groups(const fs::path& mount, const fs::path& membership) {
  std::optional<std::size_t> left;
  std::ifstream file(membership);
  // "4:cpu,memory:/path"; version 2's has neither a number nor names, "0::/path".
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    std::optional<std::size_t> here;
    if (names.empty()) {
      here = left_up_from(mount, path, kVersion2);
    } else if (("," + names + ",").find(",memory,") != std::string::npos) {
      here = left_up_from(mount / "memory", path, kVersion1);
      if (!here) here = left_up_from(mount / names, path, kVersion1);
    }
    if (here) left = std::min(left.value_or(*here), *here);
  }
  return left;
}

}  // namespace sluice
