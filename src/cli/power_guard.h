// Puts a GPU's power limit back however the program ends: a process of its own waits for that.
//
// A limit stays until the next one is set, and no handler of ours runs after a second Ctrl-C, an abort or SIGKILL. So the process
// that restores it is another one. It does nothing until the pipe between the two closes, which happens in every case.
#pragma once

#include <string>

#include <sys/types.h>

namespace sluice::cli {

class PowerGuard {
 public:
  // Starts the process: before this program has other threads. Throws Error if it can't be started.
  PowerGuard();
  ~PowerGuard();  // restores, and only warns if that fails
  PowerGuard(const PowerGuard&) = delete;
  PowerGuard& operator=(const PowerGuard&) = delete;

  // Before the GPU's limit is changed: this is what it gets back. The last call counts.
  void remember(const std::string& pci_bus_id, double watts);
  // Now. Throws Error if it fails.
  void restore();

 private:
  pid_t process_ = 0;  // 0: it has ended
  int pipe_ = -1;
  double watts_ = 0;
};

}  // namespace sluice::cli
