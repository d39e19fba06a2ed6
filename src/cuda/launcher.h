// One launch at a time: the kernels, what it and the host tell each other while it runs, and how it ended.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cuda/context.h"
#include "cuda/launch.h"

namespace sluice::cuda {

struct LauncherOptions {
  std::size_t most_blocks = 0;  // 0: as many as are resident at once
  std::uint64_t wait_ns = 2'000'000'000;
  std::uint64_t launch_ns = 100'000'000;
};

// How a launch went. Steps that were begun are finished, so the slots stand after `n_steps` steps.
struct LaunchResult {
  std::uint32_t n_steps = 0;
  Ending ending = Ending::kRunning;
};

// What one launch may need.
struct LaunchLimits {
  std::size_t lines = 0;  // of counters
  std::size_t parts = 0;  // of a mixed launch: groups and heads
};

// Names for what a mixed launch waited for: its parts' ops.
struct MixedOps {
  std::span<const Op> prefill;
  std::vector<std::span<const Op>> parts;  // groups, then heads
};

class Launcher {
 public:
  // Throws Error if the GPU is too small for the kernels with `shape`.
  Launcher(std::shared_ptr<const Context> context, const Stream& stream, const Module& module,
           const ModelShape& shape, const LauncherOptions& options);

  std::uint32_t n_blocks() const { return decode_.n_blocks; }

  // Bytes of device memory that `allocate` takes.
  std::size_t device_bytes(const LaunchLimits& limits) const;
  // Once, before the first launch.
  void allocate(const LaunchLimits& limits);

  // Told of each step's tokens, [rows], as soon as they are there; says whether more are wanted.
  using OnStep = std::function<bool(std::span<const std::int32_t> tokens)>;

  // Runs `launch`, whose `control` and `shared` are filled in here, to its end; `ops` name what a launch that was given up
  // waited for. `interrupted`, and an OnStep that wants no more, end it with the step under way. Throws Error if it was given
  // up or the driver reports a fault, and what `on_step` throws, in each case after its end; `result` is valid then, too.
  void run(Launch launch, std::span<const Op> ops, const OnStep& on_step,
           const std::atomic<bool>* interrupted, LaunchResult& result);

  // A mixed launch is of one step, in two calls. The first fills in `control` and `shared` of the prefill and of `parts`, groups and
  // then heads, which the caller then copies to the device; the second runs it to its end, and throws as above.
  void prepare(MixedLaunch& mixed, std::span<Launch> parts);
  void run(const MixedLaunch& mixed, const MixedOps& ops, LaunchResult& result);
  // What a part of the last mixed launch chose, [its rows].
  std::span<const std::int32_t> tokens(std::size_t part) const;

  // Measures launches: the time of each by the device's own clock.
  void time(bool on) { is_timed_ = on; }
  double seconds() const { return seconds_; }  // of all that were measured
  std::size_t n_launches() const { return n_launches_; }
  // Shares of ops that blocks have done in all launches: every block has one in every op.
  std::size_t n_tasks() const { return n_tasks_; }

 private:
  struct EntryPoint {
    Kernel kernel;
    std::size_t shared_bytes = 0;
    std::uint32_t n_blocks = 0;
  };

  EntryPoint entry_point(const Module& module, const char* name, std::size_t least_shared) const;
  Control control(std::size_t n_lines);
  template <typename Parameters>
  void start(const EntryPoint& entry, const Parameters& parameters);
  void watch(std::uint32_t n_rows, const OnStep& on_step, const std::atomic<bool>* interrupted);
  void finish();
  void clear();
  void check_record(std::span<const Op> ops);
  void check_records(const MixedLaunch& mixed, const MixedOps& ops);

  std::shared_ptr<const Context> context_;
  const Stream& stream_;
  ModelShape shape_;
  LauncherOptions options_;
  EntryPoint decode_;
  EntryPoint mixed_;
  LaunchLimits limits_;
  DeviceMemory counters_;    // two sets, then the words: abort, two decisions
  DeviceMemory candidates_;  // two sets, which parts of a mixed launch take in turns
  MappedMemory mapped_;      // Shared
  MappedMemory parts_;       // [limits_.parts] SharedPart
  Event begin_;
  Event end_;
  std::size_t set_ = 0;             // of counters: the next one
  std::size_t n_used_[2] = {0, 0};  // lines of each that a launch has counted in
  bool is_timed_ = false;
  double seconds_ = 0;
  std::size_t n_launches_ = 0;
  std::size_t n_tasks_ = 0;
};

std::string_view name_of(OpCode code);

}  // namespace sluice::cuda
