// sluice bench: how fast steps are, and how fast this machine would let them be.
//
// Runs and probes take turns: a round of every probe before every timed run, the cases one after the other in each
// repetition. What the machine does meanwhile meets all of them alike.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/free_memory.h"
#include "cli/bench_cases.h"
#include "cli/bench_energy.h"
#include "cli/bench_floor.h"
#include "cli/bench_gpu.h"
#include "cli/bench_load.h"
#include "cli/bench_report.h"
#include "cli/bench_subject.h"
#include "cli/commands.h"
#include "cli/common_options.h"
#include "cli/cpu_info.h"
#include "cli/decode_cost.h"
#include "cli/device_names.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/load.h"
#include "cli/memory.h"
#include "cli/model_folder.h"
#include "cli/model_path.h"
#include "cli/output.h"
#include "cli/power_guard.h"
#include "cli/step_trace.h"
#include "cli/terminal.h"
#include "cli/typed_options.h"
#include "cpu/backend.h"
#include "cpu/probe.h"
#include "model/random_model.h"
#include "program/screening.h"

namespace sluice::cli {
namespace {

// What is wrong with the command line whatever the model is.
void check(const BenchOptions& options) {
  check_device(options.common);
  const bool on_gpu = is_gpu(options.common.device);
  if (options.common.device != "cpu" && !on_gpu)
    throw Error(fmt::format("device {} isn't made for speed", options.common.device), "--device",
                "use --device cpu");
  if (on_gpu && options.trace.any())
    throw UsageError("steps of a GPU can't be traced", "--trace, --timeline", "use --device cpu");
  if (options.power_limits && !(on_gpu && options.common.device != "emulated"))
    throw UsageError("only a GPU's power can be limited", "--power-limits", "use --device cuda");
  if (options.shape && options.common.model)
    throw UsageError("a model and --shape exclude each other", "--shape", "give one of them");
  if (options.prefill == 0 && options.decode == 0)
    throw UsageError("nothing to measure", "-p, -n", "one of them must not be 0");
}

// Throws Error if the weights, packed, the sequences and a probe's buffer don't fit. A screened head that nobody asked for is
// left out, and that is said, where its copy alone is too much.
void fit(const BenchSubject& subject, std::size_t n_slots, std::size_t context, std::size_t probe_bytes,
         cpu::CpuOptions& how) {
  constexpr std::size_t kProgram = std::size_t{128} << 20U;
  const SequenceBytes sequence = sequence_bytes(subject.model().config);
  std::size_t needed = kProgram + probe_bytes;
  if (subject.random) needed += subject.random->bytes();
  needed += n_slots * (sequence.delta_state + sequence.conv_state + sequence.kv_per_token * context);
  const auto with_weights = [&] {
    return needed + packed_bytes(subject.model(), cpu::has_screened_head(subject.model().config, how));
  };
  if (how.head == cpu::HeadMode::kBest && cpu::has_screened_head(subject.model().config, how) &&
      !bytes_fit(with_weights())) {
    how.head = cpu::HeadMode::kFull;
    if (bytes_fit(with_weights())) warn("no memory for a screened head's copy: measured with the full head");
  }
  check_bytes(with_weights(), "use a smaller model, or fewer rows (--rows)");
}

// A quarter of what this process may still take, whatever limits it, is more than enough for a probe.
std::size_t probe_limit() {
  constexpr std::size_t kShareOfFree = 4;
  const FreeMemory free = free_memory();
  std::size_t least = free.memory.value_or(std::size_t{4} << 30U);
  for (const auto& limit : {free.data, free.address_space}) least = std::min(least, limit.value_or(least));
  return least / kShareOfFree;
}

// A case while it is measured.
struct Measured {
  BenchSteps steps;
  BenchResult result;
  cpu::Trace* trace = nullptr;            // of the first repetition, if wished for
  std::optional<StepCost> screened_cost;  // without what is recomputed; nothing: its steps are never screened
  std::size_t dispatches = 0;
  std::size_t tasks = 0;
  std::size_t screenable_steps = 0;  // of a repetition
  std::size_t screened_steps = 0;
  std::size_t rows_recomputed = 0;
  std::size_t bytes_recomputed = 0;
  std::size_t bytes_left = 0;
  double joules = 0;
  bool has_joules = false;
};

class Bench {
 public:
  Bench(cpu::Backend& backend, const model::Model& model, std::size_t probe_bytes)
      : backend_(backend),
        model_(model),
        weight_bytes_(weight_bytes(model)),
        memory_(backend.workers(), probe_bytes),
        peaks_(backend.workers(), backend.isa()) {
    if (weight_bytes_ <= cpu::last_level_cache()) cache_.emplace(backend.workers(), weight_bytes_);
  }

  void run(const std::vector<BenchCase>& cases, std::size_t reps, std::uint64_t seed, StepTrace& trace) {
    ProgressBar progress("measuring");
    std::size_t done = 0;
    const auto advance = [&] { progress.update(++done, cases.size() * (reps + 1)); };
    for (const BenchCase& what : cases) {
      Measured measured;
      measured.steps = make_steps(what, model_.config, seed);
      measured.result.what = what;
      const std::vector<const program::Step*> to_cost = steps_to_cost(measured.steps, what);
      measured.result.full_cost = mean_cost(model_, to_cost);
      const auto may_screen = [this](const program::Step& step) { return backend_.may_screen(step); };
      measured.screenable_steps =
          static_cast<std::size_t>(std::ranges::count_if(measured.steps.timed, may_screen));
      if (measured.screenable_steps > 0) measured.screened_cost = mean_cost(model_, to_cost, may_screen);
      // Not counted: the first one makes Programs and buffers, so it may as well be the one whose ops are timed.
      measured.result.op_share = time_ops(measured);
      measured.trace =
          trace.add(fmt::format("{}, {} row{}", name_of(what.kind), what.rows(), what.rows() == 1 ? "" : "s"),
                    cases.size());
      measured_.push_back(std::move(measured));
      model_.storage->check_intact();
      advance();
    }
    for (std::size_t rep = 0; rep < reps; ++rep) {
      for (Measured& measured : measured_) {
        probe();
        time_run(measured);
        model_.storage->check_intact();  // figures of a file that shrank are worth nothing
        advance();
      }
    }
  }

  BenchReport report() const {
    BenchReport report;
    report.isa = backend_.isa();
    report.threads = backend_.workers().size();
    report.parameters = parameter_count(model_);
    report.weight_bytes = weight_bytes_;
    report.memory = figure_of(memory_);
    if (cache_) report.cache = figure_of(*cache_);
    for (std::size_t unit = 0; unit < cpu::kUnits; ++unit) {
      report.flops_per_second[unit] = peaks_.flops_per_second(static_cast<cpu::Unit>(unit));
      report.instructions[unit] =
          cpu::arithmetic_loop(backend_.isa(), static_cast<cpu::Unit>(unit)).instruction;
    }
    for (const Measured& measured : measured_) report.results.push_back(result_of(measured));
    return report;
  }

 private:
  static std::vector<const program::Step*> steps_to_cost(const BenchSteps& steps, const BenchCase& what) {
    if (what.kind == BenchKind::kDecode) return {&steps.timed.front(), &steps.timed.back()};
    std::vector<const program::Step*> all;
    for (const program::Step& step : steps.timed) all.push_back(&step);
    return all;
  }

  static ReadFigure figure_of(const cpu::ReadProbe& probe) {
    const cpu::Bandwidth best = probe.best();
    return {.bytes_per_second = best.bytes_per_second,
            .variant = cpu::name_of(*best.loop),
            .buffer_bytes = probe.bytes()};
  }

  void probe() {
    throw_if_interrupted();
    memory_.measure();
    if (cache_) cache_->measure();
    peaks_.measure();
  }

  void warm_up(const Measured& measured) {
    for (std::size_t slot = 0; slot < backend_.n_slots(); ++slot) backend_.reset(slot);
    for (const program::Step& step : measured.steps.warm_up) run(step);
  }

  void run(const program::Step& step) {
    throw_if_interrupted();
    backend_.run(step);
  }

  std::vector<std::pair<std::string, double>> time_ops(const Measured& measured) {
    warm_up(measured);
    const cpu::Statistics before = backend_.statistics();
    backend_.time_ops(true);
    for (const program::Step& step : measured.steps.timed) run(step);
    backend_.time_ops(false);
    const cpu::Statistics& after = backend_.statistics();
    const double all = after.step_seconds - before.step_seconds;
    std::vector<std::pair<std::string, double>> shares;
    double waiting = 1;
    for (std::size_t kind = 0; kind < cpu::kOpKinds; ++kind) {
      const double share = (after.op_seconds[kind] - before.op_seconds[kind]) / all;
      shares.emplace_back(program::name_of(static_cast<program::OpKind>(kind)), share);
      waiting -= share;
    }
    shares.emplace_back("wait", waiting);
    return shares;
  }

  void time_run(Measured& measured) {
    warm_up(measured);
    const cpu::Statistics before = backend_.statistics();
    backend_.trace(std::exchange(measured.trace, nullptr));
    energy_.joules();
    const auto start = std::chrono::steady_clock::now();
    for (const program::Step& step : measured.steps.timed) run(step);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    backend_.trace(nullptr);
    if (const auto joules = energy_.joules()) {
      measured.joules += *joules;
      measured.has_joules = true;
    }
    const cpu::Statistics& after = backend_.statistics();
    measured.dispatches += after.dispatches - before.dispatches;
    measured.tasks += after.tasks - before.tasks;
    measured.screened_steps += after.screened_steps - before.screened_steps;
    measured.rows_recomputed += after.rows_recomputed - before.rows_recomputed;
    measured.bytes_recomputed += after.bytes_recomputed - before.bytes_recomputed;
    measured.bytes_left += after.bytes_left - before.bytes_left;
    measured.result.tok_s.push_back(static_cast<double>(measured.result.what.tokens()) / seconds.count());
  }

  static BenchResult result_of(const Measured& measured) {
    BenchResult result = measured.result;
    const std::size_t reps = result.tok_s.size();
    const auto steps = static_cast<double>(reps * result.what.steps);
    result.dispatches_per_step = static_cast<double>(measured.dispatches) / steps;
    result.tasks_per_step = static_cast<double>(measured.tasks) / steps;
    result.cost = result.full_cost;
    if (measured.screened_cost) {
      const auto could_be = static_cast<double>(reps * measured.screenable_steps);
      result.screened_share = static_cast<double>(measured.screened_steps) / could_be;
      result.cost = between(result.full_cost, *measured.screened_cost, *result.screened_share);
      result.head_rows_recomputed = static_cast<double>(measured.rows_recomputed) / steps;
      result.cost.bytes += static_cast<double>(measured.bytes_recomputed) / steps;
      result.cost.bytes -= static_cast<double>(measured.bytes_left) / steps;
    }
    if (measured.has_joules && measured.joules > 0)
      result.tokens_per_joule = static_cast<double>(reps * result.what.tokens()) / measured.joules;
    return result;
  }

  cpu::Backend& backend_;
  const model::Model& model_;
  std::size_t weight_bytes_;
  cpu::ReadProbe memory_;
  std::optional<cpu::ReadProbe> cache_;
  cpu::PeakProbe peaks_;
  EnergyMeter energy_;
  std::vector<Measured> measured_;
};

BenchReport bench_on_cpu(const BenchOptions& options, const BenchPlan& plan, BenchSubject& subject,
                         StepTrace& trace) {
  const model::Model& model = subject.model();
  const std::size_t context = choose_bench_context(options.common, model.config, plan.cases);
  const std::size_t probe_bytes = cpu::memory_buffer_bytes(probe_limit());
  cpu::CpuOptions how = cpu_options(options.common);
  fit(subject, plan.n_slots, context, probe_bytes, how);

  const std::size_t n_threads = cpu::worker_count(how);
  if (subject.random) subject.random->fill(n_threads);
  std::unique_ptr<cpu::Backend> backend;
  const auto pack = [&] { backend = cpu::make_backend(model, plan.n_slots, context, how, show_loading()); };
  std::optional<LoadFigure> loading;
  if (subject.random) {
    pack();
  } else {
    loading = measure_load(model.storage->files(), n_threads, [&] {
      backend.reset();
      model::load_model(subject.path);  // what it takes belongs to it
      pack();
    });
    loading->packed_bytes = backend->packed_bytes();
    loading->from_cache = backend->from_cache();
  }
  Bench bench(*backend, model, probe_bytes);
  bench.run(plan.cases, plan.reps, plan.seed, trace);
  BenchReport report = bench.report();
  report.load = loading;
  return report;
}

int run(const CLI::App& command, BenchOptions& options) {
  std::optional<PowerGuard> guard;  // before anything that may start threads
  if (options.power_limits) guard.emplace();
  choose_device(command, options.common);
  check(options);
  const BenchPlan plan = choose_plan(options);
  StepTrace trace(options.trace, options.trace.any() && !options.shape
                                     ? files_of_model(find_model(options.common.model))
                                     : std::vector<std::filesystem::path>());
  BenchSubject subject = open_subject(options);
  BenchReport report = is_gpu(options.common.device)
                           ? bench_on_gpu(options, plan, subject, guard ? &*guard : nullptr)
                           : bench_on_cpu(options, plan, subject, trace);
  if (guard) guard->restore();
  report.cpu = cpu_info().name;
  if (report.cpu.empty()) report.cpu = "unknown";
  report.model = subject.name;
  to_stdout(options.json ? json_of(report).dump(2, ' ', false, Json::error_handler_t::replace) + "\n"
                         : text_of(report));
  trace.write(subject.model().weights, [&] { return timeline_facts(report, report.results.front()); });
  return kGood;
}

}  // namespace

Command add_bench(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("bench", "measure speed, and what the machine would allow");
  const auto options = std::make_shared<BenchOptions>();
  constexpr std::uint64_t kMost = std::uint64_t{1} << 24U;
  constexpr std::uint64_t kMaxReps = 1000;
  add_whole(command, "-p,--n-prompt", options->prefill, 0, kMost,
            "rows of the prompt in prefill and mixed steps (default: 512; 0: neither)");
  add_whole(command, "-n,--n-predict", options->decode, 0, kMost,
            "decode steps (default: 128; 0: no decode and no mixed steps)");
  add_text(command, "--rows", options->rows, "sequences that decode side by side (default: 1,2,4,8)")
      ->type_name("N,...");
  add_whole(command, "--reps", options->reps, 1, kMaxReps, "repetitions of everything (default: 5)");
  add_text(command, "--shape", options->shape, "random weights in a published model's shape")
      ->type_name(fmt::format("{}", fmt::join(model::known_shapes(), "|")));
  command.add_flag("--json", options->json, "print JSON");
  add_text(command, "--trace", options->trace.trace,
           "write what each worker did in the first steps of each case, for ui.perfetto.dev")
      ->type_name("FILE");
  add_text(command, "--timeline", options->trace.timeline, "draw a step of the first case, beside its floor")
      ->type_name("FILE.svg");
  add_text(command, "--power-limits", options->power_limits,
           "measure everything with the GPU's power limited to each of these; as root (cuda only)")
      ->type_name("WATTS,...");
  add_common_options(command, options->common);
  add_head_option(command, options->common);
  return {&command, [options, &command] { return run(command, *options); }};
}

}  // namespace sluice::cli
