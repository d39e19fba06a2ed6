// What the processor packages have used, by their own counter (RAPL, /sys/class/powercap): everything that runs on them,
// not this program alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

namespace sluice::cli {

class EnergyMeter {
 public:
  // Finds the packages' counters that may be read; usually that takes root's rights.
  EnergyMeter();

  // Joules since the last call, or since the meter was made; nothing if there is no counter. A counter that has wrapped
  // more than once meanwhile (after minutes) is not noticed.
  std::optional<double> joules();

 private:
  struct Counter {
    std::filesystem::path file;
    std::uint64_t range = 0;  // it wraps there; microjoules
    std::uint64_t last = 0;
  };
  std::vector<Counter> counters_;
};

}  // namespace sluice::cli
