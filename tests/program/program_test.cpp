// A Program is safe: every shape passes `verify`, no wait can be spared, none asks for too much, and `verify` notices
// every kind of mistake.
#include "program/program.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "program/builder.h"
#include "program/order.h"
#include "program/verify.h"
#include "tests/program/shapes.h"
#include "tests/support/errors.h"
#include "tests/support/sanitized.h"
#include "tests/support/seed.h"

namespace sluice::program {
namespace {

using model::ModelConfig;
using test::kIsSanitized;
using test::pick;
using test::Random;

TEST(Program, EveryShapeIsSafe) {
  Random random(test::seed_of_test());
  for (int i = 0; i < (kIsSanitized ? 6 : 60); ++i) {
    const ModelConfig config = random_config(random);
    const Program program = build(config, random_shape(random), random_tiling(random));
    ASSERT_EQ(verify(program), "") << i;
    ASSERT_TRUE(coarse_waits(program).empty()) << i;
  }
}

TEST(Program, TheModelsOfTheFamilyAreSafe) {
  std::vector<ModelConfig> configs;
  configs.push_back(make_config("DDDADDDA", 1024, 8, 2, 256, 16, 1, 128));  // of 0.8B
  configs.push_back(make_config("DDDA", 2560, 16, 4, 256, 16, 2, 128));     // of 4B
  configs.push_back(make_config("DDDA", 5120, 24, 4, 256, 16, 3, 128));     // of 27B
  const std::vector<StepShape> shapes = {make_shape({{1, 1}}, {0}), make_shape({{1, 5000}, {1, 4}}, {0, 1}),
                                         make_shape({{512, 512}}, {511}),
                                         make_shape({{1, 100}, {1, 2000}, {300, 300}}, {0, 1, 301})};
  Random random(test::seed_of_test());
  for (const ModelConfig& config : configs) {
    const std::size_t only = pick(random, 0, shapes.size() - 1);
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      if (kIsSanitized && i != only) continue;
      Tiling tiling;
      tiling.n_workers = pick(random, 0, 1) == 0 ? 1 : 64;
      const Program program = build(config, shapes[i], tiling);
      EXPECT_EQ(verify(program), "") << "shape " << i << ", " << tiling.n_workers << " workers";
    }
  }
}

TEST(Program, DroppingOrWeakeningAnyWaitIsNoticed) {
  Random random(test::seed_of_test());
  const std::size_t step = kIsSanitized ? 16 : 1;  // of the tasks whose waits are tried
  for (const Program& good : small_programs()) {
    ASSERT_EQ(verify(good), "");
    for (std::size_t task = pick(random, 0, step - 1); task < good.tasks.size(); task += step) {
      const Task& it = good.tasks[task];
      for (std::uint32_t i = it.first_wait; i < it.first_wait + it.n_waits; ++i) {
        Program weak = good;
        --weak.waits[i].target;
        EXPECT_NE(verify(weak), "") << describe(good, it) << ", wait " << i - it.first_wait;

        Program dropped = good;  // the last wait takes its place
        dropped.waits[i] = good.waits[it.first_wait + it.n_waits - 1];
        --dropped.tasks[task].n_waits;
        EXPECT_NE(verify(dropped), "") << describe(good, it) << ", wait " << i - it.first_wait;

        Program later = good;  // the same counter, a step ago
        later.waits[i].previous_step = !good.waits[i].previous_step;
        EXPECT_NE(verify(later), "") << describe(good, it) << ", wait " << i - it.first_wait;
      }
    }
  }
}

TEST(Program, OtherMistakesAreNoticed) {
  Random random(test::seed_of_test());
  const std::size_t step = kIsSanitized ? 16 : 1;
  for (const Program& good : small_programs()) {
    for (std::size_t task = pick(random, 0, step - 1); task < good.tasks.size(); task += step) {
      if (good.counters.size() > 1) {
        Program wrong = good;
        wrong.tasks[task].signal =
            (good.tasks[task].signal + 1) % static_cast<std::uint32_t>(good.counters.size());
        EXPECT_NE(verify(wrong), "") << "signals another counter: " << describe(good, good.tasks[task]);
      }
      Program missing = good;
      const Task gone = good.tasks[task];
      missing.tasks.erase(missing.tasks.begin() + static_cast<std::ptrdiff_t>(task));
      --missing.ops[gone.op].n_tasks;
      for (std::size_t op = gone.op + 1; op < missing.ops.size(); ++op) --missing.ops[op].first_task;
      --missing.counters[gone.signal];
      for (Wait& wait : missing.waits)
        if (wait.counter == gone.signal) --wait.target;
      EXPECT_NE(verify(missing), "") << "left out: " << describe(good, gone);

      if (task == 0 || good.tasks[task - 1].op != gone.op) continue;
      Program twice = good;
      twice.tasks[task].rows = good.tasks[task - 1].rows;
      twice.tasks[task].part = good.tasks[task - 1].part;
      twice.tasks[task].split = good.tasks[task - 1].split;
      EXPECT_NE(verify(twice), "") << "done twice: " << describe(good, gone);
    }
    for (std::size_t op = 0; op + 1 < good.ops.size(); ++op) {  // one op before the one it depends on
      Program swapped = good;
      std::swap(swapped.ops[op].kind, swapped.ops[op + 1].kind);
      EXPECT_NE(verify(swapped), "");
    }
  }
}

bool is_weight_op(OpKind kind) {
  return kind == OpKind::kMixIn || kind == OpKind::kMixOut || kind == OpKind::kMlpIn ||
         kind == OpKind::kMlpOut || kind == OpKind::kHead || kind == OpKind::kScreen ||
         kind == OpKind::kRecompute;
}

TEST(Program, TilesThatOverlapOrLeaveHolesAreNoticed) {
  for (const Program& good : small_programs()) {
    for (std::size_t tiling = 0; tiling < good.tilings.size(); ++tiling) {
      const auto uses_it = [&](const Task& task) {
        return good.ops[task.op].tiling == tiling && is_weight_op(good.ops[task.op].kind) && task.part == 1;
      };
      if (std::none_of(good.tasks.begin(), good.tasks.end(), uses_it)) continue;
      Program overlapping = good;
      --overlapping.tilings[tiling][1].begin;
      EXPECT_NE(verify(overlapping), "");
      Program hole = good;
      ++hole.tilings[tiling][1].begin;
      EXPECT_NE(verify(hole), "");
    }
  }
}

// Where the two parts of a screened head meet.
TEST(Program, SkimThatOverlapsOrLeavesHolesIsNoticed) {
  std::size_t n_skimmed = 0;
  for (const Program& good : small_programs()) {
    const auto skim = std::ranges::find(good.ops, OpKind::kSkim, &Op::kind);
    if (skim == good.ops.end()) continue;
    ++n_skimmed;
    const std::uint32_t last = good.tasks[skim->first_task + skim->n_tasks - 1].part;
    Program overlapping = good;
    ++overlapping.tilings[skim->tiling][last].end;
    EXPECT_NE(verify(overlapping), "");
    Program hole = good;
    --hole.tilings[skim->tiling][last].end;
    EXPECT_NE(verify(hole), "");
  }
  EXPECT_GT(n_skimmed, 0U);
}

// A simulation with nothing but the waits: every order that it draws runs each task once, and a task only when all
// tasks that it depends on by its data (found by brute force) have run.
TEST(Program, AdversarialOrdersKeepTheWaits) {
  Random random(test::seed_of_test());
  for (int i = 0; i < 10; ++i) {
    const Program program = build(random_config(random), random_shape(random, 3), random_tiling(random));
    std::set<std::vector<std::uint32_t>> orders;
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      const std::vector<std::uint32_t> order = adversarial_order(program, seed);
      ASSERT_EQ(std::set<std::uint32_t>(order.begin(), order.end()).size(), program.tasks.size());
      std::vector<std::uint32_t> reached(program.counters.size());
      for (const std::uint32_t task : order) {
        const Task& it = program.tasks[task];
        for (std::uint32_t w = it.first_wait; w < it.first_wait + it.n_waits; ++w) {
          if (program.waits[w].previous_step) continue;
          ASSERT_GE(reached[program.waits[w].counter], program.waits[w].target);
        }
        ++reached[it.signal];
      }
      ASSERT_EQ(reached, program.counters);
      orders.insert(order);
    }
    if (program.tasks.size() > 20) {
      EXPECT_GT(orders.size(), 4U);
    }
  }
}

TEST(Program, AContextGrowsThroughFewPrograms) {
  std::set<std::uint32_t> splits;
  for (std::size_t length = 1; length <= 1000; ++length) splits.insert(kv_splits_of(1, length));
  EXPECT_LE(splits.size(), 11U);  // one per power of two
  EXPECT_EQ(kv_splits_of(1, kKvSplit), 1U);
  EXPECT_EQ(kv_splits_of(1, kKvSplit + 1), 2U);
  EXPECT_EQ(kv_splits_of(kMaxShortSpan + 1, 100000), 1U);
  for (std::size_t length = 1; length <= 100000; length += 777)
    EXPECT_GE(std::size_t{kv_splits_of(1, length)} * kKvSplit, length);
}

TEST(Program, BadShapesAreErrors) {
  const ModelConfig config = make_config("DA", 32, 2, 1, 16, 2, 2, 16);
  EXPECT_THAT(test::error_of([&] { build(config, StepShape{}, Tiling{}); }), testing::HasSubstr("spans"));
  EXPECT_THAT(test::error_of([&] { build(config, make_shape({{0, 1}}, {}), Tiling{}); }),
              testing::HasSubstr("spans[0]"));
  EXPECT_THAT(test::error_of([&] { build(config, make_shape({{2, 2}}, {2}), Tiling{}); }),
              testing::HasSubstr("output_rows[0]"));
  EXPECT_THAT(test::error_of([&] { build(config, make_shape({{2, 2}}, {1, 1}), Tiling{}); }),
              testing::HasSubstr("output_rows[1]"));
  StepShape split = make_shape({{100, 100}}, {});
  split.spans[0].kv_splits = 2;
  EXPECT_THAT(test::error_of([&] { build(config, split, Tiling{}); }), testing::HasSubstr("spans[0]"));
}

}  // namespace
}  // namespace sluice::program
