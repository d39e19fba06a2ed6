// Executes a Program: takes tasks in order, waits for their counters, computes them with the kernels, bumps.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <vector>

#include "cpu/counters.h"
#include "cpu/statistics.h"
#include "cpu/tasks.h"
#include "cpu/trace.h"
#include "cpu/workers.h"
#include "model/weights.h"
#include "program/backend.h"
#include "program/program.h"

namespace sluice::cpu {

class Executor {
 public:
  // All of them must outlive the executor.
  Executor(const model::Model& model, const PackedWeights& weights, const Kernels& kernels, Workers& workers,
           Sequences& sequences);

  // Runs `step`, which is valid and has `program`'s shape, in one dispatch. Fills tokens and logits of `result`, which are
  // sized already. If a task throws, the others are left out, and Error is thrown when all workers have stopped: results and
  // the sequences of the step are then worth nothing. The same with StepInterrupted once the step's flag is set.
  void run(const program::Program& program, const program::Step& step, program::StepResult& result);

  // The same on the calling thread, task by task in `order`: for tests.
  void run_in_order(const program::Program& program, const program::Step& step,
                    std::span<const std::uint32_t> order, program::StepResult& result);

  // In the last step, whose head was screened: panels that it recomputed, and those of its copy that it didn't read, since what it
  // had skimmed said that screening didn't pay.
  std::size_t panels_recomputed() const;
  std::size_t panels_left() const;

  // From now on `run` adds the times of worker 0 to `times`; nothing: it takes none.
  void time_ops(Statistics* times) { times_ = times; }

  // From now on `run` writes down in `trace` what workers do, as long as there is room; nothing: it doesn't.
  void trace(Trace* trace);

 private:
  void give_back(std::size_t rows);
  void reserve_scratch(const program::Program& program);
  void prepare(const program::Program& program, const program::Step& step, program::StepResult& result);
  void work(std::size_t worker);
  void run_task(Tasks& tasks, const program::Task& task, NextWeights next);
  void fail(const std::exception_ptr& why);
  void throw_failure();
  bool is_shared_out(const program::Program& program) const;
  static NextWeights fetch(const Tasks& tasks, const program::Task& task, const program::Task& next);
  void wait_for_inputs(const program::Task& task, std::span<const std::byte> bytes, WorkerTrace* trace);

  StepData data_;
  Workers& workers_;
  std::vector<Scratch> scratch_;  // [workers]
  Counters counters_;
  std::atomic<std::uint32_t> next_task_ = 0;
  std::atomic<bool> has_failed_ = false;  // tasks are left out, and only bump
  std::mutex failing_;
  std::exception_ptr failure_;    // the first
  std::size_t most_rows_ = 0;     // of a step since memory was given back
  std::size_t widest_depth_ = 0;  // of the weight ops
  std::size_t widest_tile_ = 0;   // of the weight ops, columns as packed
  Statistics* times_ = nullptr;
  Trace* trace_ = nullptr;
  bool is_traced_ = false;  // the step that runs
};

}  // namespace sluice::cpu
