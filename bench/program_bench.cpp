// What building a Program costs, and which part of the step that uses it that is, on the bundled model. For a published
// model's shape only the building is timed: `bench --shape` times its steps.
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <benchmark/benchmark.h>

#include "cpu/backend.h"
#include "model/random_model.h"
#include "model/weights.h"
#include "program/builder.h"
#include "program/programs.h"

namespace sluice {
namespace {

constexpr std::size_t kWorkers = 2;

const model::Model& demo_model() {
  static const model::Model model = model::load_model(SLUICE_SOURCE_DIR "/models/demo");
  return model;
}

// `sequences` that decode, or one that is fed `rows` rows; logits of each one's last.
program::StepShape shape_of(std::uint32_t sequences, std::uint32_t rows) {
  program::StepShape shape;
  for (std::uint32_t span = 0; span < sequences; ++span) {
    shape.spans.push_back({rows, 1});
    shape.output_rows.push_back((span + 1) * rows - 1);
  }
  return shape;
}

void build(benchmark::State& state, const model::ModelConfig& config) {
  const program::StepShape shape =
      shape_of(static_cast<std::uint32_t>(state.range(0)), static_cast<std::uint32_t>(state.range(1)));
  std::size_t tasks = 0;
  for (auto _ : state) {
    const program::Program program = program::build(config, shape, cpu::tiling_for(kWorkers));
    tasks = program.tasks.size();
    benchmark::DoNotOptimize(program.waits.data());
  }
  state.counters["tasks"] = static_cast<double>(tasks);
}

void build_large(benchmark::State& state) {
  static const model::ModelConfig config = *model::known_shape("qwen3.5-0.8b");
  build(state, config);
}
BENCHMARK(build_large)
    ->ArgNames({"sequences", "rows"})
    ->ArgsProduct({{1}, {1, 20, 512, 4096, 8192}})
    ->Args({8, 1})
    ->Unit(benchmark::kMillisecond);

void build_demo(benchmark::State& state) {
  build(state, demo_model().config);
}
BENCHMARK(build_demo)
    ->ArgNames({"sequences", "rows"})
    ->ArgsProduct({{1}, {1, 20, 512}})
    ->Unit(benchmark::kMicrosecond);

// Prompts of other lengths that are cut alike: never the shape of the one before.
void make_like_another_demo(benchmark::State& state) {
  program::Programs programs(demo_model().config, cpu::tiling_for(kWorkers), false);
  const auto most = static_cast<std::uint32_t>(state.range(0));
  constexpr std::uint32_t kShapes = 20;  // more than are kept
  std::uint32_t turn = 0;
  for (auto _ : state)
    benchmark::DoNotOptimize(programs.of(shape_of(1, most - turn++ % kShapes)).tasks.data());
  state.counters["derived"] = static_cast<double>(programs.n_derived());
}
BENCHMARK(make_like_another_demo)->ArgName("rows")->Arg(60)->Arg(512)->Unit(benchmark::kMicrosecond);

// Steps from an empty context, whose Program is there already.
void step_demo(benchmark::State& state) {
  cpu::CpuOptions options;
  options.n_workers = kWorkers;
  static const auto backend = cpu::make_backend(demo_model(), 1, 4096, options);
  const auto rows = static_cast<std::size_t>(state.range(0));
  program::Step step;
  step.tokens.assign(rows, 1);
  step.spans = {{.slot = 0, .position = 0, .first_row = 0, .n_rows = rows}};
  step.outputs = {{.row = rows - 1, .return_logits = true, .choice = std::nullopt}};
  for (auto _ : state) {
    backend->reset(0);
    const auto start = std::chrono::steady_clock::now();
    backend->run(step);
    state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
}
BENCHMARK(step_demo)->ArgName("rows")->Arg(1)->Arg(20)->Arg(512)->UseManualTime()->Unit(
    benchmark::kMicrosecond);

}  // namespace
}  // namespace sluice
