// The CPU as a device: packed weights, persistent workers, one dispatch a step.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cpu/load_events.h"
#include "cpu/statistics.h"
#include "cpu/workers.h"
#include "model/weights.h"
#include "program/backend.h"
#include "program/builder.h"

namespace sluice::cpu {

struct CpuOptions {
  std::size_t n_workers =
      0;  // 0: as many as the process has usable processors (placement.h); not more either
  bool oversubscribe = false;      // all of n_workers, whatever there is: slower, for tests
  std::optional<std::string> isa;  // nothing: the best there is
  bool pin = true;  // each worker but the calling thread to a processor of its own, if enough are free
  bool verify_programs = false;                // every Program is proven before it runs
  std::optional<std::filesystem::path> cache;  // folder of packed files (packed_cache.h)
};

// What can be asked of this device beyond the contract: for measurements.
class Backend : public program::Backend {
 public:
  virtual std::string_view isa() const = 0;  // of the kernels in use
  virtual Workers& workers() = 0;            // to be used between steps
  virtual std::size_t packed_bytes() const = 0;
  virtual bool from_cache() const = 0;  // the packed weights were read, not made
  virtual const Statistics& statistics() const = 0;
  virtual void time_ops(bool on) = 0;  // off at first; costs nothing then
};

// The workers that a backend with these options has.
std::size_t worker_count(const CpuOptions& options);

// How this device cuts the ops of its Programs.
program::Tiling tiling_for(std::size_t n_workers);

// Packs the weights, or reads them packed. If memory runs out in a step, `run` throws Error when all workers have stopped; the
// slots of that step must be reset before they are used again.
// `model` must outlive the backend. Throws Error if `isa` names none of this machine's
// instruction sets, or as PackedWeights does.
std::unique_ptr<Backend> make_backend(const model::Model& model, std::size_t n_slots, std::size_t context,
                                      const CpuOptions& options, const LoadEvents& events = {});

}  // namespace sluice::cpu
