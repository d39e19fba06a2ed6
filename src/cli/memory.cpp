#include "cli/memory.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "cli/decode_cost.h"

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

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

std::optional<std::size_t> free_memory() {
  std::optional<std::size_t> available = field_in("/proc/meminfo", "MemAvailable:");
  constexpr std::size_t kKibibyte = 1024;
  if (available) available = *available * kKibibyte;
  return smaller(available, left_in_groups());
}

void check_memory(const model::ModelConfig& config, std::size_t context, std::size_t extra_bytes) {
  const SequenceBytes sequence = sequence_bytes(config);
  constexpr std::size_t kFp32PerBf16 = 2;  // the oracle keeps keys and values in fp32
  constexpr std::size_t kProgram = std::size_t{32} << 20U;
  constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
  const std::size_t kv_row = checked_multiply(kFp32PerBf16, sequence.kv_per_token).value_or(kMost);
  const std::size_t kv = checked_multiply(kv_row, context).value_or(kMost);
  std::size_t needed = kProgram;
  for (const std::size_t part : {sequence.delta_state, sequence.conv_state, kv, extra_bytes})
    needed = checked_add(needed, part).value_or(kMost);
  const auto available = free_memory();
  if (available && needed > *available) {
    throw Error(fmt::format("needs {}, {} free", bytes_text(needed), bytes_text(*available)), "memory",
                fmt::format("a context smaller than {} needs less (-c)", context));
  }
}

std::string bytes_text(std::size_t bytes) {
  constexpr std::array<std::string_view, 6> kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : (value < 100 ? 1 : 0), kUnits[unit]);
}

}  // namespace sluice::cli
