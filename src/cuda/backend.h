// An NVIDIA GPU as a device: one cooperative launch for a step, or for several tokens of a sequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "cuda/launcher.h"
#include "cuda/probe.h"
#include "model/weights.h"
#include "program/backend.h"

namespace sluice::cuda {

struct CudaOptions {
  std::optional<std::filesystem::path> library;  // the driver; nothing: libcuda.so.1, as the system finds it
  std::size_t ordinal = 0;                       // of the device
  std::size_t most_tokens = kMostLaunchTokens;   // of a launch
  std::size_t most_rows = 512;                   // of a launch; buffers are made for so many
  LauncherOptions launcher;
  std::span<const std::byte> image;  // the kernels; empty: those built in
  std::function<void(std::size_t done, std::size_t total)>
      progress;  // of weights on their way to the device, in bytes
};

// What can be asked of this device beyond the contract: for measurements.
class Backend : public program::Backend {
 public:
  virtual const DeviceInfo& device() const = 0;
  virtual std::size_t device_bytes() const = 0;  // that the model, its slots and buffers take
  virtual const Launcher& launcher() const = 0;
  virtual void time_launches(bool on) = 0;  // by the device's clock: Launcher::seconds
  // The device's clock around whatever is run between these two, the host's part of it included.
  virtual void start_clock() = 0;
  virtual double stop_clock() = 0;  // seconds; not before everything has ended
  // Of this device. The backend must outlive it.
  virtual std::unique_ptr<Probe> make_probe() const = 0;
};

// Checks driver, device and memory, then copies the weights there. `model` must outlive the backend. A launch that was given up,
// or a fault, makes `run` throw Error; after the first the slots of that step must be reset before they are used again, after the
// second a new backend must be made. Throws Error if the kernels aren't built in, the GPU can't be used, "needs 3.1 GB, 2.0 GB
// free", or a weight is no BF16 number.
std::unique_ptr<Backend> make_backend(const model::Model& model, std::size_t n_slots, std::size_t context,
                                      const CudaOptions& options);

// How a choice is made: in the launch where that is possible.
ChoiceKind choice_kind(const program::Choice& choice);

}  // namespace sluice::cuda
