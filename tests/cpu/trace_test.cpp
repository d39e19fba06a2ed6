// What workers note of their steps, held against what the Program says that they must have done.
#include "cpu/trace.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "cpu/backend.h"
#include "model/random_model.h"
#include "program/report.h"
#include "program/task_bytes.h"
#include "tests/cpu/devices.h"
#include "tests/oracle/random_model.h"
#include "tests/program/shapes.h"
#include "tests/support/seed.h"

namespace sluice::cpu {
namespace {

using program::Program;
using program::Task;
using test::pick;
using test::Random;

class CpuTrace : public testing::Test {
 protected:
  CpuTrace() { model_.fill(2); }

  std::unique_ptr<Backend> backend(std::size_t n_workers) {
    CpuOptions options;
    options.n_workers = n_workers;
    options.oversubscribe = true;
    return make_backend(model_.model(), 1, 600, options);
  }

  std::vector<std::int32_t> tokens(std::size_t n) {
    return random_tokens(random_, n, model_.model().config.vocab_size);
  }

  Random random_{test::seed_of_test()};
  model::RandomModel model_{test::small_config(), random_()};
};

// When the last task that bumps each counter ended.
std::vector<double> counters_full(const StepTimes& step) {
  std::vector<double> full(step.program->counters.size(), 0);
  for (const TaskTimes& it : step.tasks) {
    double& time = full[step.program->tasks[it.task].signal];
    time = std::max(time, it.end);
  }
  return full;
}

void check(const StepTimes& step, std::size_t n_workers) {
  const Program& program = *step.program;
  std::vector<std::size_t> seen(program.tasks.size(), 0);
  for (const TaskTimes& it : step.tasks) ++seen.at(it.task);
  EXPECT_EQ(seen, std::vector<std::size_t>(program.tasks.size(), 1));
  std::vector<double> busy_until(n_workers, step.begin);
  for (const TaskTimes& it : step.tasks) {
    EXPECT_GE(it.waited_from, busy_until.at(it.worker));
    EXPECT_GE(it.begin, it.waited_from);
    EXPECT_GE(it.end, it.begin);
    EXPECT_LE(it.end, step.end);
    busy_until[it.worker] = it.end;
  }
  const std::vector<double> full = counters_full(step);
  for (const TaskTimes& it : step.tasks) {
    const Task& task = program.tasks[it.task];
    for (std::uint32_t i = task.first_wait; i < task.first_wait + task.n_waits; ++i)
      if (!program.waits[i].previous_step) {
        EXPECT_GE(it.begin, full[program.waits[i].counter]);
      }
  }
}

TEST_F(CpuTrace, EveryTaskOnceInOrderAndAfterWhatItWaitsFor) {
  for (std::size_t n_workers = 1; n_workers <= 5; ++n_workers) {
    const auto device = backend(n_workers);
    Trace trace(1U << 20U);
    device->trace(&trace);
    const std::vector<std::int32_t> fed = tokens(60);
    const std::vector<std::size_t> pieces = random_pieces(random_, fed.size(), 20);
    const std::vector<float> logits = feed(*device, 0, fed, pieces);
    device->trace(nullptr);
    ASSERT_EQ(trace.n_workers(), n_workers);
    ASSERT_EQ(trace.n_kept(), pieces.size());
    double before = 0;
    std::size_t length = 0;
    std::size_t n_waited = 0;  // whose beginning was read, not worked out
    for (std::size_t i = 0; i < trace.n_kept(); ++i) {
      const StepTimes step = trace.step(i);
      EXPECT_GE(step.begin, before);
      before = step.end;
      length += pieces[i];
      EXPECT_EQ(step.lengths, std::vector<std::size_t>{length});
      EXPECT_EQ(step.program->shape.n_rows(), pieces[i]);
      check(step, n_workers);
      n_waited += static_cast<std::size_t>(
          std::ranges::count_if(step.tasks, [](const TaskTimes& it) { return it.waited_from < it.begin; }));
    }
    if (n_workers == 1) {
      EXPECT_EQ(n_waited, 0U);  // its inputs are always there
    }
    // It changes no result, and notes nothing any more.
    device->reset(0);
    EXPECT_EQ(feed(*device, 0, fed, pieces), logits);
    EXPECT_EQ(trace.n_seen(), pieces.size());
  }
}

TEST_F(CpuTrace, KeepsTheFirstStepsThatFit) {
  const auto device = backend(2);
  const std::vector<std::int32_t> fed = tokens(10);
  const std::vector<std::size_t> ones(fed.size(), 1);
  Trace all(1U << 20U);
  device->trace(&all);
  feed(*device, 0, fed, ones);
  ASSERT_EQ(all.n_kept(), fed.size());
  const std::size_t n_tasks = all.step(0).program->tasks.size();
  for (const std::size_t room : {std::size_t{0}, n_tasks, 3 * n_tasks, 4 * n_tasks - 1}) {
    device->reset(0);
    Trace some(room);
    device->trace(&some);
    feed(*device, 0, fed, ones);
    EXPECT_EQ(some.n_kept(), std::max<std::size_t>(1, room / n_tasks));
    EXPECT_EQ(some.n_seen(), fed.size());
    check(some.step(some.n_kept() - 1), 2);
  }
}

TEST(CpuTraceClock, IsThatOfTheMachine) {
  Random random(test::seed_of_test());
  model::RandomModel model(test::small_config(), random());
  model.fill(1);
  CpuOptions options;
  options.n_workers = 2;
  const auto device = make_backend(model.model(), 1, 600, options);
  Trace trace(1U << 20U);
  device->trace(&trace);
  const std::int64_t before = nanoseconds_now();
  feed(*device, 0, random_tokens(random, 40, model.model().config.vocab_size),
       std::vector<std::size_t>(40, 1));
  const auto outside = static_cast<double>(nanoseconds_now() - before);
  EXPECT_LE(trace.step(39).end, outside);
  EXPECT_EQ(trace.step(0).begin, 0);
}

TEST(TaskBytes, SumToThoseOfEachOp) {
  Random random(test::seed_of_test());
  for (int i = 0; i < 40; ++i) {
    const model::ModelConfig config = program::random_config(random);
    const model::RandomModel model(config, random());
    const Program program =
        program::build(config, program::random_shape(random), program::random_tiling(random));
    std::vector<std::size_t> lengths;
    for (const auto& span : program.shape.spans) {
      const std::size_t longest =
          span.kv_splits == 1 ? program::kKvSplit : std::size_t{span.kv_splits} * program::kKvSplit;
      lengths.push_back(std::max<std::size_t>(span.n_rows, pick(random, 1, longest)));
    }
    const auto bytes = program::bytes_of_tasks(program, model.model().weights, lengths);
    ASSERT_EQ(bytes.size(), program.tasks.size());
    for (const program::Op& op : program.ops) {
      const auto first = bytes.begin() + op.first_task;
      const std::size_t sum = std::accumulate(first, first + op.n_tasks, std::size_t{0});
      EXPECT_EQ(sum, program::cost_of(program, op, model.model().weights, lengths).bytes());
    }
  }
}

TEST(TaskBytes, FollowColumnsAndPositions) {
  const model::ModelConfig config = program::make_config("DA", 64, 2, 1, 16, 2, 2, 16);
  const model::RandomModel model(config, 1);
  program::Tiling tiling;
  tiling.bytes_per_tile = 2048;
  const std::size_t length = 1200;  // of 2048 that its 4 KV splits cover
  const Program program = program::build(config, program::make_shape({{1, length}}, {0}), tiling);
  const auto bytes =
      program::bytes_of_tasks(program, model.model().weights, std::vector<std::size_t>{length});
  const std::size_t kv_row = 2 * 2 * config.kv_dim();
  for (std::uint32_t i = 0; i < program.tasks.size(); ++i) {
    const Task& task = program.tasks[i];
    const program::Op& op = program.ops[task.op];
    if (op.kind == program::OpKind::kHead) {
      EXPECT_EQ(bytes[i], program.tilings[op.tiling][task.part].size() * config.hidden_size * 2);
    } else if (op.kind == program::OpKind::kMix && op.layer_kind == model::LayerKind::kAttention) {
      constexpr std::size_t kPositions[] = {512, 512, 176, 0};
      EXPECT_EQ(bytes[i], kPositions[task.split] * kv_row) << task.split;
    }
  }
}

}  // namespace
}  // namespace sluice::cpu
