#include "cli/bench_energy.h"

#include <fstream>
#include <string>
#include <system_error>

namespace sluice::cli {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  std::uint64_t value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

}  // namespace

EnergyMeter::EnergyMeter() {
  std::error_code error;
  for (const fs::directory_entry& zone : fs::directory_iterator("/sys/class/powercap", error)) {
    std::string name;
    if (!(std::ifstream(zone.path() / "name") >> name) || !name.starts_with("package")) continue;
    const auto now = number_in(zone.path() / "energy_uj");
    const auto range = number_in(zone.path() / "max_energy_range_uj");
    if (now && range) counters_.push_back({.file = zone.path() / "energy_uj", .range = *range, .last = *now});
  }
}

std::optional<double> EnergyMeter::joules() {
  if (counters_.empty()) return std::nullopt;
  std::uint64_t used = 0;
  for (Counter& counter : counters_) {
    const std::uint64_t now = number_in(counter.file).value_or(counter.last);
    used += now >= counter.last ? now - counter.last : now + counter.range - counter.last;
    counter.last = now;
  }
  constexpr double kMicro = 1e-6;
  return static_cast<double>(used) * kMicro;
}

}  // namespace sluice::cli
