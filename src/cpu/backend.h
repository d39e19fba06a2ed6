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
#include "cpu/trace.h"
#include "cpu/workers.h"
#include "model/weights.h"
#include "program/backend.h"
#include "program/builder.h"

namespace sluice::cpu {

// How the head's logits are computed. A screened head (docs/screened-head.md) chooses the same tokens from fewer bytes, and
// keeps a narrower copy of the head's weights for that: half of what they take in bf16.
enum class HeadMode : std::uint8_t {
  kBest,  // screened where that is faster
  kFull,
  kScreened,
};

struct CpuOptions {
  std::size_t n_workers =
      0;  // 0: as many as the process has usable processors (placement.h); not more either
  bool oversubscribe = false;      // all of n_workers, whatever there is: slower, for tests
  std::optional<std::string> isa;  // nothing: the best there is
  bool pin = true;  // each worker but the calling thread to a processor of its own, if enough are free
  bool verify_programs = false;  // every Program is proven before it runs
  HeadMode head = HeadMode::kFull;
  std::optional<std::filesystem::path> cache;  // folder of packed files (packed_cache.h)
};

// What can be asked of this device beyond the contract: for measurements.
class Backend : public program::Backend {
 public:
  virtual std::string_view isa() const = 0;  // of the kernels in use
  virtual Workers& workers() = 0;            // to be used between steps
  virtual std::size_t packed_bytes() const = 0;
  virtual bool is_screened() const = 0;  // it has a screened head
  virtual bool may_screen(const program::Step& step) const = 0;
  virtual bool from_cache() const = 0;  // the packed weights were read, not made
  virtual const Statistics& statistics() const = 0;
  virtual void time_ops(bool on) = 0;  // off at first; costs nothing then
  virtual void trace(
      Trace* trace) = 0;  // writes down what workers do from now on; nothing: it doesn't, and costs nothing
};

// Whether a model of this config gets a screened head on the kernels that `options` ask for.
bool has_screened_head(const model::ModelConfig& config, const CpuOptions& options);

// Rows of a step that screening pays for. More of them share the full head's bytes, and its arithmetic counts: screening has two
// products of bytes for each of the full head's, which the tables with products of bf16 do as fast (measured, K = 1024:
// screening takes 0.63 of the full head's time for 1 row, 0.75 for 4, 0.85 for 5, 1.35 for 8); without those it pays
// longer (0.68 for 8 rows with AVX-512 and with AVX2).
std::size_t most_screened_outputs(const CpuOptions& options);

// Whether a step's head can be screened, and is worth it: no output wants its logits, every choice can be made from few of
// them, and they are of at most so many rows.
bool can_screen(const program::Step& step, std::size_t vocab_size, std::size_t most_outputs);

// The workers that a backend with these options has.
std::size_t worker_count(const CpuOptions& options);

// How this device cuts the ops of its Programs.
program::Tiling tiling_for(std::size_t n_workers);

// Packs the weights, or reads them packed. If memory runs out in a step, `run` throws Error when all workers have stopped; the
// slots of that step must be reset before they are used again. A step's `interrupted` is looked at before every task.
// `model` must outlive the backend. Throws Error if `isa` names none of this machine's
// instruction sets, or as PackedWeights does.
std::unique_ptr<Backend> make_backend(const model::Model& model, std::size_t n_slots, std::size_t context,
                                      const CpuOptions& options, const LoadEvents& events = {});

}  // namespace sluice::cpu
