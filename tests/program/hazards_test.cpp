// `verify` is right about the waits: it finds each kind of hazard, in a step and from step to step, and says yes and no
// exactly where a brute-force judge does.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "program/regions.h"
#include "program/verify.h"
#include "tests/program/shapes.h"
#include "tests/support/sanitized.h"

namespace sluice::program {
namespace {

using test::kIsSanitized;
using test::pick;
using test::Random;
using testing::AllOf;
using testing::HasSubstr;

constexpr std::uint32_t kSteps = 3;

// Ops of layer 0, one task each, which wait for what they are told: `waits[i]` are tasks of this step, `across[i]` of the one
// before.
Program by_hand(const std::vector<OpKind>& kinds, const std::vector<std::vector<std::uint32_t>>& waits,
                const std::vector<std::vector<std::uint32_t>>& across, const std::string& layers = "DD") {
  Tiling tiling;
  tiling.bytes_per_tile = 1U << 20U;
  const Program built = build(make_config(layers, 16, 1, 1, 16, 1, 1, 16), make_shape({{1, 1}}, {0}), tiling);
  Program program = built;
  program.ops.clear();
  program.tasks.clear();
  program.waits.clear();
  program.counters.assign(kinds.size(), 1);
  for (std::uint32_t i = 0; i < kinds.size(); ++i) {
    Op op = *std::find_if(built.ops.begin(), built.ops.end(),
                          [&](const Op& it) { return it.kind == kinds[i] && it.layer == 0; });
    program.tilings[op.tiling] = {{0, built.tilings[op.tiling].back().end}};  // one tile
    Task task = built.tasks[op.first_task];
    op.first_task = task.op = task.signal = i;
    op.n_tasks = 1;
    task.first_wait = static_cast<std::uint32_t>(program.waits.size());
    for (const std::uint32_t other : waits[i]) program.waits.push_back({other, 1, false});
    for (const std::uint32_t other : across[i]) program.waits.push_back({other, 1, true});
    task.n_waits = static_cast<std::uint32_t>(program.waits.size()) - task.first_wait;
    program.ops.push_back(op);
    program.tasks.push_back(task);
  }
  return program;
}

constexpr OpKind kEmbed = OpKind::kEmbed;
constexpr OpKind kMixIn = OpKind::kMixIn;
constexpr OpKind kMix = OpKind::kMix;
constexpr OpKind kKvAppend = OpKind::kKvAppend;

auto hazard(const std::string& first, const std::string& how, const std::string& second,
            const std::string& then) {
  return AllOf(HasSubstr("nothing orders " + first), HasSubstr(", which " + how),
               HasSubstr("before " + second), HasSubstr(", which " + then + " it"));
}

TEST(Hazards, OfEachKindAreNoticedInAStep) {
  // mix_in a second time: it writes what mix has read.
  const std::vector<OpKind> ops = {kEmbed, kMixIn, kMix, kMixIn};
  const std::vector<std::vector<std::uint32_t>> across = {{2, 3}, {}, {}, {}};
  EXPECT_EQ(verify(by_hand(ops, {{}, {0}, {1}, {2}}, across)), "");
  EXPECT_THAT(verify(by_hand(ops, {{}, {}, {1}, {2}}, across)),
              hazard("embed", "writes residual", "mix_in", "reads"));
  EXPECT_THAT(verify(by_hand(ops, {{}, {0}, {0}, {1, 2}}, across)),
              hazard("mix_in", "writes projection", "mix of", "reads"));
  EXPECT_THAT(verify(by_hand(ops, {{}, {0}, {1}, {1}}, across)),
              hazard("mix of", "reads projection", "mix_in", "writes"));
  EXPECT_THAT(verify(by_hand({kEmbed, kMixIn, kMixIn}, {{}, {0}, {0}}, {{1, 2}, {}, {}})),
              hazard("mix_in", "writes projection", "mix_in", "writes"));
  EXPECT_EQ(verify(by_hand({kEmbed, kMixIn, kMixIn}, {{}, {0}, {1}}, {{1, 2}, {}, {}})), "");
}

TEST(Hazards, OfEachKindAreNoticedFromStepToStep) {
  const std::vector<OpKind> ops = {kEmbed, kMixIn, kMix};
  const std::vector<std::vector<std::uint32_t>> waits = {{}, {0}, {1}};
  EXPECT_EQ(verify(by_hand(ops, waits, {{2}, {}, {}})), "");
  EXPECT_EQ(verify(by_hand(ops, waits, {{1}, {2}, {}})), "");  // as late as the data allow
  EXPECT_THAT(verify(by_hand(ops, waits, {{}, {2}, {}})),
              hazard("embed", "writes residual", "embed", "writes"));
  EXPECT_THAT(verify(by_hand(ops, waits, {{0}, {2}, {}})),
              hazard("mix_in", "reads residual", "embed", "writes"));
  EXPECT_THAT(verify(by_hand(ops, waits, {{1}, {}, {}})),
              hazard("mix of", "reads projection", "mix_in", "writes"));
}

// The rotation that embed leaves for attention is overwritten a step later.
TEST(Hazards, OfTheRotationAreNoticed) {
  const std::vector<OpKind> ops = {kEmbed, kMixIn, kKvAppend};
  const std::vector<std::vector<std::uint32_t>> waits = {{}, {0}, {1}};
  EXPECT_EQ(verify(by_hand(ops, waits, {{2}, {}, {}}, "AD")), "");
  EXPECT_THAT(verify(by_hand(ops, waits, {{1}, {2}, {}}, "AD")),
              hazard("kv_append", "reads rotary", "embed", "writes"));
}

// Every element that a task touches, by brute force: one by one.
using Element = std::tuple<Buffer, std::uint32_t, std::uint32_t, std::uint32_t>;
struct Touch {
  std::uint32_t instance = 0;  // step * tasks + task
  bool writes = false;
};

// Pairs of task instances, in the order of the list, that touch the same element, one of them writing.
std::set<std::pair<std::uint32_t, std::uint32_t>> conflicts_of(const Program& program) {
  const auto n_tasks = static_cast<std::uint32_t>(program.tasks.size());
  const std::uint32_t n_rows = program.shape.n_rows();
  std::map<Element, std::vector<Touch>> touches;
  Access access;
  const auto touch = [&](Region region, std::uint32_t instance, bool writes, std::uint32_t shift) {
    for (std::uint32_t row = region.row_begin; row < region.row_end; ++row)
      for (std::uint32_t col = region.col_begin; col < region.col_end; ++col)
        touches[{region.buffer, region.layer, row + shift, col}].push_back({instance, writes});
  };
  for (std::uint32_t instance = 0; instance < kSteps * n_tasks; ++instance) {
    const std::uint32_t step = instance / n_tasks;
    regions_of(program, program.tasks[instance % n_tasks], access);
    for (const Region& read : access.reads) {
      const bool is_cache = read.buffer == Buffer::kKeyValue;
      touch(read, instance, false, is_cache ? step * n_rows : 0);
      if (!is_cache) continue;
      const std::uint32_t span = program.span_of_row(read.row_begin);  // whose past it reads, too
      for (std::uint32_t past = 0; past < step; ++past) {
        Region whole = read;
        whole.row_begin = program.first_row[span];
        whole.row_end = program.first_row[span + 1];
        touch(whole, instance, false, past * n_rows);
      }
    }
    for (const Region& written : access.writes)
      touch(written, instance, true, written.buffer == Buffer::kKeyValue ? step * n_rows : 0);
  }
  std::set<std::pair<std::uint32_t, std::uint32_t>> pairs;
  for (const auto& [element, all] : touches)
    for (std::size_t later = 1; later < all.size(); ++later)
      for (std::size_t earlier = 0; earlier < later; ++earlier)
        if (all[earlier].instance != all[later].instance && (all[earlier].writes || all[later].writes))
          pairs.insert({all[earlier].instance, all[later].instance});
  return pairs;
}

// Whether the waits order all `conflicts`, and the list in order satisfies them: what certainly happens before each task.
bool is_safe(const Program& program, const std::set<std::pair<std::uint32_t, std::uint32_t>>& conflicts) {
  const std::size_t n_tasks = program.tasks.size();
  std::vector<std::vector<bool>> before(kSteps * n_tasks, std::vector<bool>(kSteps * n_tasks));
  for (std::size_t instance = 0; instance < kSteps * n_tasks; ++instance) {
    const std::size_t step = instance / n_tasks;
    const Task& task = program.tasks[instance % n_tasks];
    for (std::uint32_t i = task.first_wait; i < task.first_wait + task.n_waits; ++i) {
      const Wait& wait = program.waits[i];
      if (wait.previous_step && step == 0) continue;
      const std::size_t first = (wait.previous_step ? step - 1 : step) * n_tasks;
      std::vector<std::size_t> signalers;
      for (std::size_t other = first; other < first + n_tasks && other < instance; ++other)
        if (program.tasks[other % n_tasks].signal == wait.counter) signalers.push_back(other);
      if (signalers.size() < wait.target) return false;
      if (program.counters[wait.counter] != wait.target) continue;  // any of them may be the ones that came
      for (const std::size_t other : signalers) {
        before[instance][other] = true;
        for (std::size_t far = 0; far < other; ++far)
          if (before[other][far]) before[instance][far] = true;
      }
    }
  }
  return std::all_of(conflicts.begin(), conflicts.end(),
                     [&](const auto& pair) { return before[pair.second][pair.first]; });
}

Wait& any_wait(Program& program, Random& random) {
  return program.waits[pick(random, 0, program.waits.size() - 1)];
}

// One change to waits that leaves the Program's tasks, signals and counters as they are.
void mutate(Program& program, Random& random) {
  const auto n_counters = program.counters.size();
  const auto any_counter = [&] { return static_cast<std::uint32_t>(pick(random, 0, n_counters - 1)); };
  Wait& wait = any_wait(program, random);
  switch (pick(random, 0, 4)) {
    case 0:  // drop
      wait.target = 0;
      break;
    case 1:  // weaken
      wait.target -= wait.target > 0 ? 1 : 0;
      break;
    case 2:  // another counter
      wait.counter = any_counter();
      wait.target = program.counters[wait.counter];
      break;
    case 3:
      wait.previous_step = !wait.previous_step;
      break;
    default: {  // one task waits for something else, too
      Task& task = program.tasks[pick(random, 0, program.tasks.size() - 1)];
      const std::uint32_t counter = any_counter();
      const auto at = static_cast<std::ptrdiff_t>(task.first_wait + task.n_waits);
      program.waits.insert(program.waits.begin() + at,
                           {counter, program.counters[counter], pick(random, 0, 1) == 0});
      for (Task& other : program.tasks)
        if (other.first_wait >= static_cast<std::uint32_t>(at) && &other != &task) ++other.first_wait;
      ++task.n_waits;
    }
  }
}

TEST(Hazards, AreJudgedAsByBruteForce) {
  Random random(test::seed_of_test());
  const int n_programs = kIsSanitized ? 2 : 20;
  const int n_mutants = kIsSanitized ? 20 : 50;
  int n_safe = 0;
  int n_unsafe = 0;
  for (int i = 0; i < n_programs; ++i) {
    model::ModelConfig config = make_config(i % 2 == 0 ? "DA" : "AD", 32, 2, 1, 8, 2, 1, 4);
    config.vocab_size = 40;
    config.intermediate_size = 40;
    StepShape shape;
    for (std::size_t n = pick(random, 1, 2); n > 0; --n)
      shape.spans.push_back({static_cast<std::uint32_t>(pick(random, 1, 10)), 1});
    for (StepShape::SpanShape& span : shape.spans)
      if (span.n_rows <= kMaxShortSpan) span.kv_splits = static_cast<std::uint32_t>(pick(random, 1, 2));
    for (std::uint32_t row = 0; row < shape.n_rows(); ++row)
      if (pick(random, 0, 1) == 0) shape.output_rows.push_back(row);
    Tiling tiling;
    tiling.n_workers = 2;
    const Program good = build(config, shape, tiling);
    const auto conflicts = conflicts_of(good);
    ASSERT_TRUE(is_safe(good, conflicts));
    ASSERT_EQ(verify(good), "");
    for (int m = 0; m < n_mutants; ++m) {
      Program mutant = good;
      for (std::size_t n = pick(random, 1, 3); n > 0; --n) mutate(mutant, random);
      const bool safe = is_safe(mutant, conflicts);
      const std::string verdict = verify(mutant);
      ASSERT_EQ(verdict.empty(), safe) << "program " << i << ", mutant " << m << ": " << verdict;
      ++(safe ? n_safe : n_unsafe);
    }
  }
  EXPECT_GT(n_safe, 0);
  EXPECT_GT(n_unsafe, 0);
  std::printf("%d safe, %d unsafe\n", n_safe, n_unsafe);
}

}  // namespace
}  // namespace sluice::program
