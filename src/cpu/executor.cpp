#include "cpu/executor.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>
#include <utility>
#include <variant>

#include "base/error.h"
#include "base/huge_memory.h"
#include "cpu/fetch.h"

namespace sluice::cpu {

using model::LayerKind;
using program::Columns;
using program::Op;
using program::OpKind;
using program::Program;
using program::Task;

namespace {

using Clock = std::chrono::steady_clock;

std::uint32_t narrow(std::size_t value) {
  return static_cast<std::uint32_t>(value);
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

Executor::Executor(const model::Model& model, const PackedWeights& weights, const Kernels& kernels,
                   Workers& workers, Sequences& sequences)
    : workers_(workers), scratch_(workers.size()) {
  data_.model = &model;
  data_.weights = &weights;
  data_.kernels = &kernels;
  data_.sequences = &sequences;
  const model::ModelConfig& config = model.config;
  Activations& activations = data_.activations;
  activations.mixed_width = std::max(config.value_dim(), config.query_dim());
  for (const LayerKind kind : {LayerKind::kDeltaNet, LayerKind::kAttention})
    activations.projection_width =
        std::max<std::size_t>(activations.projection_width, program::projection_layout(config, kind).width);
  for (std::size_t i = 0; i < config.rotary_dim / 2; ++i) {
    // As the model was trained: in fp32, whose roundings a position of 2^18 makes visible.
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.rotary_dim);
    const double inverse = std::pow(config.rope_theta, static_cast<double>(exponent));
    data_.rotary_frequencies.push_back(1.0F / static_cast<float>(inverse));
  }
  for (const model::LayerWeights& layer : model.weights.layers) {
    const auto* net = std::get_if<model::DeltaNetWeights>(&layer.mixer);
    if (net == nullptr) {
      data_.conv_taps.emplace_back();
      continue;
    }
    // [channel, kernel] → head by head [kernel, channels of the head].
    std::vector<float> taps(net->conv.size());
    const auto transpose = [&](std::size_t begin, std::size_t end, std::size_t size) {
      for (std::size_t channel = begin; channel < end; ++channel) {
        const std::size_t first = begin + (channel - begin) / size * size;
        for (std::size_t tap = 0; tap < config.conv_kernel; ++tap)
          taps[first * config.conv_kernel + tap * size + (channel - first)] =
              net->conv[channel * config.conv_kernel + tap];
      }
    };
    transpose(0, 2 * config.key_dim(), config.key_head_dim);
    transpose(2 * config.key_dim(), config.conv_dim(), config.value_head_dim);
    data_.conv_taps.push_back(std::move(taps));
  }
  const auto measure = [this](const PackedOp& op) {
    widest_depth_ = std::max(widest_depth_, op.depth);
    for (const PackedTile& tile : op.tiles) widest_tile_ = std::max(widest_tile_, tile.n_panels * kLanes);
  };
  for (std::size_t layer = 0; layer < config.n_layers(); ++layer)
    for (const OpKind kind : {OpKind::kMixIn, OpKind::kMixOut, OpKind::kMlpIn, OpKind::kMlpOut})
      measure(weights.of(kind, layer));
  measure(weights.of(OpKind::kHead, 0));
}

// A long prompt's activations would stay beside the weights while its answer is made, a row a step.
void Executor::give_back(std::size_t rows) {
  constexpr std::size_t kMuch = std::size_t{8} << 20U;  // less isn't worth the next prompt's page faults
  constexpr std::size_t kShare = 8;
  most_rows_ = std::max(most_rows_, rows);
  const model::ModelConfig& config = data_.model->config;
  Activations& old = data_.activations;  // nothing in them outlives its step
  const std::size_t width =
      config.hidden_size + old.projection_width + old.mixed_width + config.intermediate_size;
  if (rows * kShare > most_rows_ || most_rows_ * width * sizeof(float) < kMuch) return;
  const auto give = [](auto&... vectors) {
    (give_back_pages(std::as_writable_bytes(std::span(vectors))), ...);
  };
  give(old.residual, old.projection, old.mixed, old.gated, old.rotary);
  for (Scratch& scratch : scratch_) give(scratch.staged, scratch.staged_bf16, scratch.tile, scratch.head);
  most_rows_ = rows;
}

// What tasks of weight ops work in, so that they hardly ever ask for memory themselves.
void Executor::reserve_scratch(const Program& program) {
  std::size_t rows = 0;
  for (const program::RowGroup& group : program.groups) rows = std::max<std::size_t>(rows, group.size());
  const bool is_rounded = data_.kernels->activations == ActivationType::kBF16;
  for (Scratch& scratch : scratch_) {
    at_least(scratch.staged, (is_rounded ? 1 : rows) * widest_depth_);
    if (is_rounded) at_least(scratch.staged_bf16, rows * widest_depth_);
    at_least(scratch.tile, rows * widest_tile_);
  }
}

void Executor::prepare(const Program& program, const program::Step& step, program::StepResult& result) {
  data_.program = &program;
  data_.step = &step;
  data_.result = &result;
  ++data_.number;
  const model::ModelConfig& config = data_.model->config;
  Activations& activations = data_.activations;
  const std::size_t rows = step.tokens.size();
  const std::size_t outputs = step.outputs.size();
  give_back(rows);
  at_least(activations.residual, rows * config.hidden_size);
  at_least(activations.projection, rows * activations.projection_width);
  at_least(activations.mixed, rows * activations.mixed_width);
  at_least(activations.gated, rows * config.intermediate_size);
  at_least(activations.rotary, rows * config.rotary_dim);
  // Only spans that are split have partial sums: a long prompt beside a row of a long context would come to gigabytes.
  std::size_t n_partial = 0;
  data_.partial_at.clear();
  for (const auto& span : program.shape.spans) {
    data_.partial_at.push_back(n_partial);
    if (span.kv_splits > 1) n_partial += std::size_t{span.n_rows} * span.kv_splits;
  }
  at_least(activations.partial, n_partial * config.n_heads * (config.head_dim + 2));
  const bool chooses = std::any_of(step.outputs.begin(), step.outputs.end(),
                                   [](const program::Output& output) { return output.choice.has_value(); });
  if (chooses) at_least(activations.logits, outputs * config.vocab_size);
  if (program.shape.is_screened) {
    const std::size_t panels = outputs * program::screen_panels(config.vocab_size);
    at_least(activations.floors, panels);
    at_least(activations.ceilings, panels);
    at_least(activations.selected, panels);
    for (Scratch& scratch : scratch_) scratch.panels_recomputed = scratch.panels_left = 0;
  }
  at_least(activations.tile_best, outputs * data_.weights->of(OpKind::kHead, 0).tiles.size());
  reserve_scratch(program);

  for (const Op& op : program.ops) {
    if (op.kind != OpKind::kHead && op.kind != OpKind::kRecompute) continue;
    data_.head_tile_ends.clear();
    for (const Columns tile : program.tilings[op.tiling]) data_.head_tile_ends.push_back(tile.end);
  }
  data_.logits_at.assign(outputs, StepData::kNowhere);
  std::size_t n_returned = 0;
  for (std::size_t i = 0; i < outputs; ++i)
    if (step.outputs[i].return_logits) data_.logits_at[i] = n_returned++ * config.vocab_size;
}

std::size_t Executor::panels_recomputed() const {
  std::size_t panels = 0;
  for (const Scratch& scratch : scratch_) panels += scratch.panels_recomputed;
  return panels;
}

std::size_t Executor::panels_left() const {
  std::size_t panels = 0;
  for (const Scratch& scratch : scratch_) panels += scratch.panels_left;
  return panels;
}

void Executor::run(const Program& program, const program::Step& step, program::StepResult& result) {
  prepare(program, step, result);
  counters_.reset(program.counters);
  next_task_.store(0, std::memory_order_relaxed);
  is_traced_ = trace_ != nullptr && trace_->begin_step(workers_.size(), program, step);
  const auto start = Clock::now();
  workers_.run([this](std::size_t worker) { work(worker); });
  if (is_traced_) trace_->end_step();
  throw_failure();
  if (times_ != nullptr) times_->step_seconds += seconds_since(start);
}

void Executor::trace(Trace* trace) {
  trace_ = trace;
  if (trace_ != nullptr && trace_->n_seen() == 0) trace_->reserve(workers_.size());
}

// Tasks of a few microseconds: there a ticket for each, a line that all workers fight for, is too dear, and each takes every
// n-th. Larger ones are taken as workers get free.
bool Executor::is_shared_out(const Program& program) const {
  constexpr std::size_t kSmall = std::size_t{64} << 10U;  // bytes of weights
  return program.shape.n_rows() <= program::kMaxShortSpan &&
         data_.weights->bytes() / program.tasks.size() < kSmall && !workers_.are_too_many();
}

// A worker knows its next task while it computes one, so that the next one's weights are on their way when it begins. The
// smallest task that isn't done is never behind another in its worker's hands, so everything goes on. Where workers are more
// than processors, a worker that lost its core would keep two tasks from the others: there it takes one at a time.
void Executor::work(std::size_t worker) {
  Tasks tasks(data_, scratch_[worker]);
  const Program& program = *data_.program;
  const bool looks_ahead = !workers_.are_too_many();
  const Scratch& scratch = scratch_[worker];
  WorkerTrace* const trace = is_traced_ ? &trace_->of(worker) : nullptr;
  auto take = [this, is_shared_out = is_shared_out(program), stride = narrow(workers_.size()),
               next = narrow(worker)]() mutable {
    if (!is_shared_out) return next_task_.fetch_add(1, std::memory_order_relaxed);
    return std::exchange(next, next + stride);
  };
  std::uint32_t done = 0;  // tasks that signal the same counter, not yet told
  bool is_first = true;
  for (std::uint32_t index = take(); index < program.tasks.size();) {
    const Task& task = program.tasks[index];
    NextWeights next;
    if (looks_ahead) {
      index = take();
      if (index < program.tasks.size()) next = fetch(tasks, task, program.tasks[index]);
    }
    wait_for_inputs(task, tasks.fetchable(task).bytes, trace);
    const std::size_t panels_before = scratch.panels_recomputed + scratch.panels_left;
    if (trace != nullptr)
      trace->begins(static_cast<std::size_t>(&task - program.tasks.data()), std::exchange(is_first, false));
    if (worker != 0 || times_ == nullptr) {
      run_task(tasks, task, next);
    } else {
      const auto start = Clock::now();
      run_task(tasks, task, next);
      times_->op_seconds[static_cast<std::size_t>(program.ops[task.op].kind)] += seconds_since(start);
    }
    if (trace != nullptr) trace->ends(scratch.panels_recomputed + scratch.panels_left - panels_before);
    ++done;
    if (!looks_ahead) index = take();
    // The counter can't be full before the next task, either, if that signals it, too: one word for both.
    if (index < program.tasks.size() && program.tasks[index].signal == task.signal && looks_ahead) continue;
    counters_[task.signal].bump(std::exchange(done, 0));
  }
}

// After a failure tasks are only counted, so that nobody waits in vain and the dispatch ends soon. Whoever waits for a task that
// was left out sees the flag: it was set before the task's bump.
void Executor::run_task(Tasks& tasks, const Task& task, NextWeights next) {
  if (has_failed_.load(std::memory_order_relaxed)) return;
  const std::atomic<bool>* const interrupted = data_.step->interrupted;
  if (interrupted != nullptr && interrupted->load(std::memory_order_relaxed)) {
    fail(std::make_exception_ptr(program::StepInterrupted()));
    return;
  }
  try {
    tasks.run(task, next);
  } catch (...) {
    fail(std::current_exception());
  }
}

void Executor::fail(const std::exception_ptr& why) {
  const std::lock_guard lock(failing_);
  if (!failure_) failure_ = why;
  has_failed_.store(true, std::memory_order_relaxed);
}

void Executor::throw_failure() {
  if (!failure_) return;
  has_failed_.store(false, std::memory_order_relaxed);
  try {
    std::rethrow_exception(std::exchange(failure_, nullptr));
  } catch (const std::bad_alloc&) {
    throw Error("out of memory in the middle of a step", {},
                "close other programs, raise the limit, or use a smaller model or -c");
  }
}

// What of the next task is there before its inputs are. Its weights are for this task's kernel to fetch, if it has one; a state is
// fetched whole, now.
NextWeights Executor::fetch(const Tasks& tasks, const Task& task, const Task& next) {
  const Fetchable what = tasks.fetchable(next);
  if (what.weights && tasks.has_weights(task)) return *what.weights;
  if (what.weights) {
    fetch_start(*what.weights);
  } else {
    for (std::size_t at = 0; at < what.bytes.size(); at += kLineBytes)
      __builtin_prefetch(what.bytes.data() + at, 0, 2);
  }
  return {};
}

// Weights don't depend on other tasks, so memory goes on streaming while this one waits for them.
void Executor::wait_for_inputs(const Task& task, std::span<const std::byte> bytes, WorkerTrace* trace) {
  constexpr std::size_t kLinesAtOnce = 16;
  constexpr std::size_t kMost = std::size_t{256}
                                << 10U;  // what a second-level cache keeps beside activations
  const std::size_t end = std::min(bytes.size(), kMost);
  std::size_t fetched = 0;
  const Program& program = *data_.program;
  for (std::uint32_t i = task.first_wait; i < task.first_wait + task.n_waits; ++i) {
    const program::Wait& wait = program.waits[i];
    if (wait.previous_step) continue;                             // a dispatch is one step
    SLUICE_CHECK(wait.target == program.counters[wait.counter]);  // less would order nothing
    Counter& counter = counters_[wait.counter];
    if (trace != nullptr && !counter.is_full()) trace->waits();
    while (fetched < end && !counter.is_full()) {
      for (std::size_t line = 0; line < kLinesAtOnce && fetched < end; ++line, fetched += kLineBytes)
        __builtin_prefetch(bytes.data() + fetched, 0, 2);
    }
    counter.wait(workers_.patience());
  }
}

void Executor::run_in_order(const Program& program, const program::Step& step,
                            std::span<const std::uint32_t> order, program::StepResult& result) {
  prepare(program, step, result);
  for (const std::uint32_t task : order)
    Tasks(data_, scratch_[task % scratch_.size()]).run(program.tasks[task], {});
}

}  // namespace sluice::cpu
