// One launch at a time: the kernel, what it and the host tell each other while it runs, and how it ended.
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

class Launcher {
 public:
  // Throws Error if the GPU is too small for the kernel with `shape`.
  Launcher(std::shared_ptr<const Context> context, const Stream& stream, const Module& module,
           const ModelShape& shape, const LauncherOptions& options);

  std::uint32_t n_blocks() const { return n_blocks_; }
  std::size_t shared_bytes() const { return shared_bytes_; }
  int registers() const { return kernel_.registers(); }

  // Bytes of device memory that `n_blocks` blocks and `n_ops` ops need.
  static std::size_t device_bytes(std::size_t n_blocks, std::size_t n_ops);
  // Once, before the first launch: room for programs of up to so many ops.
  void allocate(std::size_t n_ops);

  // Told of each step's tokens, [rows], as soon as they are there; says whether more are wanted.
  using OnStep = std::function<bool(std::span<const std::int32_t> tokens)>;

  // Runs `launch`, whose `control` and `shared` are filled in here, to its end; `ops` name what a launch that was given up
  // waited for. `interrupted`, and an OnStep that wants no more, end it with the step under way. Throws Error if it was given
  // up or the driver reports a fault, and what `on_step` throws, in each case after its end; `result` is valid then, too.
  void run(Launch launch, std::span<const Op> ops, const OnStep& on_step,
           const std::atomic<bool>* interrupted, LaunchResult& result);

  // Measures launches: the time of each by the device's own clock.
  void time(bool on) { is_timed_ = on; }
  double seconds() const { return seconds_; }  // of all that were measured
  std::size_t n_launches() const { return n_launches_; }

 private:
  void prepare(Launch& launch);
  void watch(std::uint32_t n_rows, const OnStep& on_step, const std::atomic<bool>* interrupted);
  void clear();
  [[noreturn]] void give_up(std::span<const Op> ops);

  std::shared_ptr<const Context> context_;
  const Stream& stream_;
  Kernel kernel_;
  ModelShape shape_;
  LauncherOptions options_;
  std::size_t shared_bytes_ = 0;
  std::uint32_t n_blocks_ = 0;
  std::size_t n_lines_ = 0;
  DeviceMemory counters_;  // two sets, then the words: abort, decision
  DeviceMemory candidates_;
  MappedMemory mapped_;  // Shared
  Event begin_;
  Event end_;
  bool is_odd_ = false;  // which set of counters is next
  bool is_timed_ = false;
  double seconds_ = 0;
  std::size_t n_launches_ = 0;
};

std::string_view name_of(OpCode code);

}  // namespace sluice::cuda
