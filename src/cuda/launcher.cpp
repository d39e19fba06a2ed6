#include "cuda/launcher.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::cuda {
namespace {

constexpr const char* kDecode = "sluice_decode";
constexpr std::size_t kLineBytes = kCounterWords * sizeof(std::uint32_t);

// Pinned memory that the kernel and the host share while it runs. Each has lines of its own.
struct Shared {
  alignas(128) TokenRing ring;
  alignas(128) AbortRecord record;
  alignas(128) std::uint32_t stop;
};

std::uint32_t acquire(std::uint32_t& word) {
  return std::atomic_ref(word).load(std::memory_order_acquire);
}

template <typename T>
DevicePointer member(const MappedMemory& memory, T Shared::* which) {
  auto* shared = reinterpret_cast<Shared*>(memory.data());
  return memory.address() +
         static_cast<DevicePointer>(reinterpret_cast<std::byte*>(&(shared->*which)) - memory.data());
}

}  // namespace

std::string_view name_of(OpCode code) {
  switch (code) {
    case OpCode::kEmbed:
      return "embed";
    case OpCode::kMixIn:
      return "mix_in";
    case OpCode::kDeltaRule:
      return "delta_rule";
    case OpCode::kAttention:
      return "attention";
    case OpCode::kMerge:
      return "merge";
    case OpCode::kMixOut:
      return "mix_out";
    case OpCode::kMlpIn:
      return "mlp_in";
    case OpCode::kMlpOut:
      return "mlp_out";
    case OpCode::kHead:
      return "head";
    case OpCode::kSample:
      return "sample";
  }
  return "unknown";
}

Launcher::Launcher(std::shared_ptr<const Context> context, const Stream& stream, const Module& module,
                   const ModelShape& shape, const LauncherOptions& options)
    : context_(std::move(context)),
      stream_(stream),
      kernel_(module.kernel(kDecode)),
      shape_(shape),
      options_(options),
      mapped_(context_, sizeof(Shared)),
      begin_(context_),
      end_(context_) {
  const std::size_t most = kernel_.shared_at_most();
  const auto available = static_cast<std::uint32_t>(most);
  const SharedLayout layout = shared_layout(shape_, kMostDecodeRows, available);
  if (layout.ring_slots == 0) {
    throw Error(fmt::format("the model needs more than the {} KB of shared memory that a block may have",
                            most >> 10U),
                context_->where(), "this GPU is too small for it: use --device cpu");
  }
  kernel_.set_shared(most);
  shared_bytes_ = most;
  std::size_t blocks = kernel_.resident_blocks(kDecodeThreads);
  if (blocks == 0) {
    throw Error(fmt::format("no block of kernel {} fits", kernel_.name()), context_->where(),
                "this GPU is too small: use --device cpu");
  }
  if (options_.most_blocks != 0) blocks = std::min(blocks, options_.most_blocks);
  n_blocks_ = static_cast<std::uint32_t>(blocks);
}

std::size_t Launcher::device_bytes(std::size_t n_blocks, std::size_t n_ops) {
  return 2 * (n_ops + 1) * kLineBytes + n_blocks * kMostDecodeRows * kMostTopK * sizeof(Candidate);
}

void Launcher::allocate(std::size_t n_ops) {
  n_lines_ = n_ops;
  counters_ = DeviceMemory(context_, 2 * (n_lines_ + 1) * kLineBytes);
  candidates_ = DeviceMemory(context_, sizeof(Candidate) * n_blocks_ * kMostDecodeRows * kMostTopK);
  clear();
}

void Launcher::clear() {
  counters_.clear(0, counters_.bytes(), stream_);
}

void Launcher::prepare(Launch& launch) {
  auto* shared = reinterpret_cast<Shared*>(mapped_.data());
  *shared = {};
  const std::size_t set = n_lines_ * kLineBytes;
  const auto word = [&](std::size_t bytes) {
    return device_pointer<std::uint32_t>(counters_.address() + bytes);
  };
  Control& control = launch.control;
  control.counters = word(is_odd_ ? set : 0);
  control.next_counters = word(is_odd_ ? 0 : set);
  control.n_counters = static_cast<std::uint32_t>(n_lines_);
  control.abort = word(2 * set);
  control.decision = word(2 * set + kLineBytes);
  control.candidates = device_pointer<Candidate>(candidates_.address());
  control.stop = device_pointer<const std::uint32_t>(member(mapped_, &Shared::stop));
  control.ring = device_pointer<TokenRing>(member(mapped_, &Shared::ring));
  control.record = device_pointer<AbortRecord>(member(mapped_, &Shared::record));
  control.wait_ns = options_.wait_ns;
  control.launch_ns = options_.launch_ns;
  launch.shared = shared_layout(shape_, launch.n_rows, static_cast<std::uint32_t>(shared_bytes_));
  is_odd_ = !is_odd_;
}

void Launcher::run(Launch launch, std::span<const Op> ops, const OnStep& on_step,
                   const std::atomic<bool>* interrupted, LaunchResult& result) {
  SLUICE_CHECK(launch.n_ops <= n_lines_ && launch.n_steps <= kMostLaunchTokens);
  prepare(launch);
  if (is_timed_) begin_.record(stream_);
  kernel_.launch(n_blocks_, kDecodeThreads, stream_, launch);
  ++n_launches_;
  if (is_timed_) end_.record(stream_);
  auto* shared = reinterpret_cast<Shared*>(mapped_.data());
  std::exception_ptr thrown;
  try {
    watch(launch.n_rows, on_step, interrupted);
  } catch (...) {
    thrown = std::current_exception();
    std::atomic_ref(shared->stop).store(1, std::memory_order_release);
  }
  stream_.synchronize();
  result = {.n_steps = acquire(shared->ring.n_steps), .ending = shared->ring.ending};
  if (is_timed_) seconds_ += end_.seconds_since(begin_);
  if (acquire(shared->record.is_set) != 0) give_up(ops);
  if (thrown) std::rethrow_exception(thrown);
}

void Launcher::watch(std::uint32_t n_rows, const OnStep& on_step, const std::atomic<bool>* interrupted) {
  // Short beside a token's time on any GPU, long beside what a look costs.
  constexpr std::chrono::microseconds kPause{20};
  auto* shared = reinterpret_cast<Shared*>(mapped_.data());
  std::uint32_t told = 0;
  bool more = true;
  const auto stop = [&] { std::atomic_ref(shared->stop).store(1, std::memory_order_release); };
  for (bool done = false;;) {
    if (interrupted != nullptr && interrupted->load()) stop();
    const std::uint32_t ready = acquire(shared->ring.n_steps);
    for (; told < ready; ++told) {
      if (more && !on_step(std::span(shared->ring.tokens[told]).first(n_rows))) {
        more = false;
        stop();
      }
    }
    if (done) return;
    done = stream_.is_done();  // then once more: the last tokens came before that
    if (!done) std::this_thread::sleep_for(kPause);
  }
}

void Launcher::give_up(std::span<const Op> ops) {
  const AbortRecord record = reinterpret_cast<Shared*>(mapped_.data())->record;
  clear();
  const auto name = [&](std::uint32_t op) {
    if (op >= ops.size()) return fmt::format("{}", op);
    return fmt::format("{} ({}, layer {})", op, name_of(ops[op].code), ops[op].layer);
  };
  throw Error(
      fmt::format("a launch was given up: in step {}, block {} at task {} waited too long for counter {}, "
                  "which stood at {} of {}",
                  record.step, record.block, name(record.task), name(record.counter), record.seen,
                  record.target),
      context_->where(), "another program may hold the GPU; if it stays so, please report it");
}

}  // namespace sluice::cuda
