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
constexpr const char* kMixed = "sluice_mixed";
constexpr std::size_t kLineBytes = kCounterWords * sizeof(std::uint32_t);
constexpr std::size_t kWords = 3;  // abort, two decisions: a line each

std::size_t candidates_of(std::size_t n_blocks) {
  return n_blocks * kMostDecodeRows * kMostTopK;
}

// Pinned memory that the kernel and the host share while it runs. Each has lines of its own.
struct Shared {
  alignas(128) TokenRing ring;
  alignas(128) AbortRecord record;
  alignas(128) std::uint32_t stop;
};

// The same, of a part of a mixed launch.
struct SharedPart {
  alignas(128) TokenRing ring;
  alignas(128) AbortRecord record;
};

std::uint32_t acquire(std::uint32_t& word) {
  return std::atomic_ref(word).load(std::memory_order_acquire);
}

// Where the kernel has something that lies in `memory`.
template <typename T>
T* on_device(const MappedMemory& memory, T& it) {
  const auto offset = reinterpret_cast<std::byte*>(&it) - memory.data();
  return device_pointer<T>(memory.address() + static_cast<DevicePointer>(offset));
}

std::string describe(std::uint32_t op, std::span<const Op> ops) {
  if (op >= ops.size()) return fmt::format("{} (the outputs)", op);
  return fmt::format("{} ({}, layer {})", op, name_of(ops[op].code), ops[op].layer);
}

// A counter of the prefill (mixed_counters).
std::string describe_prefill_counter(std::uint32_t counter, std::span<const Op> ops, std::uint32_t n_blocks) {
  const std::uint32_t stage = counter / n_blocks;
  const std::uint32_t op = stage / kOpStages;
  if (op >= ops.size()) return fmt::format("{} (the outputs' residuals)", counter);
  return fmt::format("{} ({}, layer {}, row block {} {})", counter, name_of(ops[op].code), ops[op].layer,
                     counter % n_blocks, stage % kOpStages == 0 ? "prepared" : "done");
}

[[noreturn]] void give_up(const AbortRecord& record, std::string_view where_in, std::string_view task,
                          std::string_view counter, const std::string& where) {
  throw Error(fmt::format("a launch was given up: in {}, block {} at task {} waited too long for counter {}, "
                          "which stood at {} of {}",
                          where_in, record.block, task, counter, record.seen, record.target),
              where, "another program may hold the GPU; if it stays so, please report it");
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
      shape_(shape),
      options_(options),
      decode_(entry_point(module, kDecode, 0)),
      mixed_(entry_point(module, kMixed, kMixedShared)),
      mapped_(context_, sizeof(Shared)),
      begin_(context_),
      end_(context_) {}

Launcher::EntryPoint Launcher::entry_point(const Module& module, const char* name,
                                           std::size_t least_shared) const {
  EntryPoint entry{.kernel = module.kernel(name)};
  const std::size_t most = entry.kernel.shared_at_most();
  const SharedLayout layout = shared_layout(shape_, kMostDecodeRows, static_cast<std::uint32_t>(most));
  if (layout.ring_slots == 0 || most < least_shared) {
    throw Error(fmt::format("the model needs more than the {} KB of shared memory that a block may have",
                            most >> 10U),
                context_->where(), "this GPU is too small for it: use --device cpu");
  }
  entry.kernel.set_shared(most);
  entry.shared_bytes = most;
  std::size_t blocks = entry.kernel.resident_blocks(kDecodeThreads);
  if (blocks == 0) {
    throw Error(fmt::format("no block of kernel {} fits", name), context_->where(),
                "this GPU is too small: use --device cpu");
  }
  if (options_.most_blocks != 0) blocks = std::min(blocks, options_.most_blocks);
  entry.n_blocks = static_cast<std::uint32_t>(blocks);
  return entry;
}

std::size_t Launcher::device_bytes(const LaunchLimits& limits) const {
  const std::size_t blocks = std::max(decode_.n_blocks, mixed_.n_blocks);
  return (2 * limits.lines + kWords) * kLineBytes + 2 * candidates_of(blocks) * sizeof(Candidate);
}

void Launcher::allocate(const LaunchLimits& limits) {
  limits_ = limits;
  counters_ = DeviceMemory(context_, (2 * limits.lines + kWords) * kLineBytes);
  candidates_ = DeviceMemory(
      context_, 2 * candidates_of(std::max(decode_.n_blocks, mixed_.n_blocks)) * sizeof(Candidate));
  parts_ = MappedMemory(context_, std::max<std::size_t>(1, limits.parts) * sizeof(SharedPart));
  clear();
}

void Launcher::clear() {
  counters_.clear(0, counters_.bytes(), stream_);
  n_used_[0] = n_used_[1] = 0;
}

// Of a launch that counts in `n_lines` lines.
Control Launcher::control(std::size_t n_lines) {
  SLUICE_CHECK(n_lines <= limits_.lines);
  auto* shared = reinterpret_cast<Shared*>(mapped_.data());
  *shared = {};
  const auto word = [&](std::size_t line) {
    return device_pointer<std::uint32_t>(counters_.address() + line * kLineBytes);
  };
  Control control{};
  control.counters = word(set_ * limits_.lines);
  control.next_counters = word((1 - set_) * limits_.lines);
  control.n_counters = static_cast<std::uint32_t>(n_used_[1 - set_]);
  control.abort = word(2 * limits_.lines);
  control.decision = word(2 * limits_.lines + 1);
  control.candidates = device_pointer<Candidate>(candidates_.address());
  control.stop = on_device(mapped_, shared->stop);
  control.ring = on_device(mapped_, shared->ring);
  control.record = on_device(mapped_, shared->record);
  control.wait_ns = options_.wait_ns;
  control.launch_ns = options_.launch_ns;
  n_used_[set_] = n_lines;
  return control;
}

template <typename Parameters>
void Launcher::start(const EntryPoint& entry, const Parameters& parameters) {
  if (is_timed_) begin_.record(stream_);
  entry.kernel.launch(entry.n_blocks, kDecodeThreads, stream_, parameters);
  n_used_[1 - set_] = 0;  // it clears them
  set_ = 1 - set_;
  ++n_launches_;
  if (is_timed_) end_.record(stream_);
}

void Launcher::finish() {
  stream_.synchronize();
  if (is_timed_) seconds_ += end_.seconds_since(begin_);
}

void Launcher::run(Launch launch, std::span<const Op> ops, const OnStep& on_step,
                   const std::atomic<bool>* interrupted, LaunchResult& result) {
  SLUICE_CHECK(launch.n_steps <= kMostLaunchTokens && launch.n_ops <= most_decode_ops(shape_));
  launch.control = control(launch.n_ops);
  launch.shared = shared_layout(shape_, launch.n_rows, static_cast<std::uint32_t>(decode_.shared_bytes));
  start(decode_, launch);
  auto* shared = reinterpret_cast<Shared*>(mapped_.data());
  std::exception_ptr thrown;
  try {
    watch(launch.n_rows, on_step, interrupted);
  } catch (...) {
    thrown = std::current_exception();
    std::atomic_ref(shared->stop).store(1, std::memory_order_release);
  }
  finish();
  result = {.n_steps = acquire(shared->ring.n_steps), .ending = shared->ring.ending};
  n_tasks_ += std::size_t{result.n_steps} * launch.n_ops * decode_.n_blocks;
  check_record(ops);
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

void Launcher::check_record(std::span<const Op> ops) {
  AbortRecord& record = reinterpret_cast<Shared*>(mapped_.data())->record;
  if (acquire(record.is_set) == 0) return;
  clear();
  give_up(record, fmt::format("step {}", record.step), describe(record.task, ops),
          describe(record.counter, ops), context_->where());
}

void Launcher::prepare(MixedLaunch& mixed, std::span<Launch> parts) {
  SLUICE_CHECK(parts.size() == std::size_t{mixed.n_groups} + mixed.n_heads && parts.size() <= limits_.parts);
  // Counters: the prefill's, then each part's.
  std::size_t n_lines = mixed_counters(mixed.prefill.n_ops, mixed.n_blocks);
  const std::size_t of_prefill = n_lines;
  for (const Launch& part : parts) n_lines += part.n_ops;
  const Control whole = control(n_lines);
  mixed.prefill.control = whole;
  const auto available = static_cast<std::uint32_t>(mixed_.shared_bytes);
  mixed.prefill.shared = shared_layout(shape_, kMostDecodeRows, available);
  auto* shared = reinterpret_cast<SharedPart*>(parts_.data());
  const std::size_t candidates = candidates_of(mixed_.n_blocks);
  std::size_t line = of_prefill;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    shared[i] = {};
    Control& control = parts[i].control;
    control = whole;
    control.counters += line * kCounterWords;
    control.n_counters = 0;  // the prefill's clears all
    // A block that begins a part has waited for all of them at the end of the one before, so they are done with the one before that.
    control.decision += i % 2 * kCounterWords;
    control.candidates += i % 2 * candidates;
    control.ring = on_device(parts_, shared[i].ring);
    control.record = on_device(parts_, shared[i].record);
    parts[i].shared = shared_layout(shape_, parts[i].n_rows, available);
    line += parts[i].n_ops;
  }
}

void Launcher::run(const MixedLaunch& mixed, const MixedOps& ops, LaunchResult& result) {
  start(mixed_, mixed);
  finish();
  check_records(mixed, ops);
  std::size_t n_ops = ops.prefill.size();
  for (const std::span<const Op> part : ops.parts) n_ops += part.size();
  n_tasks_ += n_ops * mixed_.n_blocks;
  result = {.n_steps = 1, .ending = Ending::kAllSteps};
}

void Launcher::check_records(const MixedLaunch& mixed, const MixedOps& ops) {
  AbortRecord& record = reinterpret_cast<Shared*>(mapped_.data())->record;
  if (acquire(record.is_set) != 0) {
    clear();
    give_up(record, "the long spans", describe(record.task, ops.prefill),
            describe_prefill_counter(record.counter, ops.prefill, mixed.n_blocks), context_->where());
  }
  auto* shared = reinterpret_cast<SharedPart*>(parts_.data());
  for (std::size_t i = 0; i < ops.parts.size(); ++i) {
    AbortRecord& of_part = shared[i].record;
    if (acquire(of_part.is_set) == 0) continue;
    clear();
    give_up(of_part,
            i < mixed.n_groups ? fmt::format("group {} of short spans", i)
                               : fmt::format("head {} of the long spans", i - mixed.n_groups),
            describe(of_part.task, ops.parts[i]), describe(of_part.counter, ops.parts[i]), context_->where());
  }
}

std::span<const std::int32_t> Launcher::tokens(std::size_t part) const {
  const TokenRing& ring = reinterpret_cast<const SharedPart*>(parts_.data())[part].ring;
  return ring.tokens[0];
}

}  // namespace sluice::cuda
