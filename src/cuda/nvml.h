// A GPU's energy and power limit, from NVIDIA's management library, which comes with the driver. It is loaded at run time; nothing
// links to it. Who has none measures time alone.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace sluice::cuda {

struct NvmlFunctions;

class PowerMeter {
 public:
  // Of the GPU at this PCI address (DeviceInfo::pci_bus_id). Throws Error if there is no library or it doesn't know the GPU.
  explicit PowerMeter(const std::string& pci_bus_id);
  ~PowerMeter();
  PowerMeter(const PowerMeter&) = delete;
  PowerMeter& operator=(const PowerMeter&) = delete;

  // That the whole board has used since the driver was loaded. Throws Error if it doesn't count (before Volta).
  double joules() const;

  struct Watts {
    double least = 0, most = 0;
  };
  Watts range() const;  // that the limit may have
  double limit() const;
  // Needs root's rights. It stays when the program ends.
  void set_limit(double watts) const;

 private:
  void check(int result, const char* doing) const;

  std::string where_;
  std::unique_ptr<NvmlFunctions> functions_;
  void* device_ = nullptr;
};

}  // namespace sluice::cuda
