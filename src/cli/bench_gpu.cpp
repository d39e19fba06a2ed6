#include "cli/bench_gpu.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "cli/decode_cost.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/load.h"
#include "cli/memory.h"
#include "cli/terminal.h"
#include "cpu/placement.h"
#include "cuda/backend.h"
#include "cuda/nvml.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kBf16 = static_cast<std::size_t>(cpu::Unit::kBf16);

// All of it counts as products of bf16, the fastest unit.
StepCost cost_on_gpu(const model::Model& model, const std::vector<program::Step>& steps, BenchKind kind) {
  std::vector<const program::Step*> all;
  for (const program::Step& step : steps) all.push_back(&step);
  if (kind == BenchKind::kDecode) all = {&steps.front(), &steps.back()};
  StepCost cost = mean_cost(model, all);
  const double flops = cost.all_flops();
  cost.flops = {};
  cost.flops[kBf16] = flops;
  return cost;
}

struct Measured {
  BenchSteps steps;
  BenchResult result;
  std::size_t launches = 0;
  std::size_t tasks = 0;
  double launch_seconds = 0;
  double seconds = 0;
  double joules = 0;
};

class GpuBench {
 public:
  GpuBench(cuda::Backend& backend, const model::Model& model, const cuda::PowerMeter* meter)
      : backend_(backend), model_(model), meter_(meter), probe_(backend.make_probe()) {
    backend_.time_launches(true);
  }

  void run(const BenchPlan& plan) {
    ProgressBar progress("measuring");
    std::size_t done = 0;
    const auto advance = [&] { progress.update(++done, plan.cases.size() * (plan.reps + 1)); };
    for (const BenchCase& what : plan.cases) {
      Measured measured;
      measured.steps = make_steps(what, model_.config, plan.seed);
      measured.result.what = what;
      measured.result.cost = cost_on_gpu(model_, measured.steps.timed, what.kind);
      // Not counted: clocks rise, and lists of ops are made.
      warm_up(measured);
      run_steps(measured);
      measured_.push_back(std::move(measured));
      advance();
    }
    for (std::size_t rep = 0; rep < plan.reps; ++rep) {
      for (Measured& measured : measured_) {
        throw_if_interrupted();
        probe_->measure();
        time_run(measured);
        model_.storage->check_intact();
        advance();
      }
    }
  }

  ReadFigure memory() const {
    const cuda::Probe::Reading best = probe_->best();
    return {
        .bytes_per_second = best.bytes_per_second, .variant = best.variant, .buffer_bytes = probe_->bytes()};
  }
  double flops_per_second() const { return probe_->flops_per_second(); }

  std::vector<BenchResult> results() const {
    std::vector<BenchResult> results;
    for (const Measured& measured : measured_) {
      BenchResult result = measured.result;
      const std::size_t reps = result.tok_s.size();
      const auto steps = static_cast<double>(reps * result.what.steps);
      result.dispatches_per_step = static_cast<double>(measured.launches) / steps;
      result.tasks_per_step = static_cast<double>(measured.tasks) / steps;
      result.launch_share = measured.launch_seconds / measured.seconds;
      if (measured.joules > 0)
        result.tokens_per_joule = static_cast<double>(reps * result.what.tokens()) / measured.joules;
      results.push_back(std::move(result));
    }
    return results;
  }

 private:
  void run(const program::Step& step) {
    throw_if_interrupted();
    backend_.run(step);
  }

  void warm_up(const Measured& measured) {
    for (std::size_t slot = 0; slot < backend_.n_slots(); ++slot) backend_.reset(slot);
    for (const program::Step& step : measured.steps.warm_up) run(step);
  }

  void run_steps(const Measured& measured) {
    const BenchCase& what = measured.result.what;
    if (what.kind == BenchKind::kDecode && what.sequences == 1) {
      decode(measured.steps.timed);
    } else {
      for (const program::Step& step : measured.steps.timed) run(step);
    }
  }

  // As `run` does: each token is fed to the next step on the device.
  void decode(const std::vector<program::Step>& steps) {
    program::Continuation next;
    next.position = steps.front().spans.front().position;
    next.token = steps.front().tokens.front();
    next.choice = *steps.front().outputs.front().choice;
    next.interrupted = &interrupt_flag();
    for (std::size_t left = steps.size(); left > 0;) {
      throw_if_interrupted();
      next.most_tokens = left;
      const std::size_t length = backend_.run(next, [&](std::int32_t token) {
        next.token = std::max(token, 0);  // random weights may leave none to choose
        return true;
      });
      left -= length - next.position;
      next.position = length;
    }
  }

  void time_run(Measured& measured) {
    warm_up(measured);
    const cuda::Launcher& launcher = backend_.launcher();
    const std::size_t launches = launcher.n_launches();
    const std::size_t tasks = launcher.n_tasks();
    const double launch_seconds = launcher.seconds();
    const double before = meter_ == nullptr ? 0 : meter_->joules();
    backend_.start_clock();
    run_steps(measured);
    const double seconds = backend_.stop_clock();
    if (meter_ != nullptr) measured.joules += meter_->joules() - before;
    measured.launches += launcher.n_launches() - launches;
    measured.tasks += launcher.n_tasks() - tasks;
    measured.launch_seconds += launcher.seconds() - launch_seconds;
    measured.seconds += seconds;
    measured.result.tok_s.push_back(static_cast<double>(measured.result.what.tokens()) / seconds);
  }

  cuda::Backend& backend_;
  const model::Model& model_;
  const cuda::PowerMeter* meter_;
  std::unique_ptr<cuda::Probe> probe_;
  std::vector<Measured> measured_;
};

std::vector<double> parse_watts(const std::string& text, const cuda::PowerMeter::Watts& range) {
  std::vector<double> limits;
  const std::string advice = fmt::format("give watts from {:.0f} to {:.0f}, such as {:.0f},{:.0f}",
                                         range.least, range.most, range.least, range.most);
  for (std::string_view left = text;;) {
    const std::string_view part = left.substr(0, left.find(','));
    double watts = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), watts);
    if (error != std::errc() || end != part.data() + part.size() || !std::isfinite(watts))
      throw UsageError("not a list of watts", "--power-limits", advice);
    if (watts < range.least || watts > range.most)
      throw UsageError(fmt::format("the GPU's power can't be limited to {} W", watts), "--power-limits",
                       advice);
    limits.push_back(watts);
    if (part.size() == left.size()) return limits;
    left.remove_prefix(part.size() + 1);
  }
}

// What the host has to have beside what lies on the device; on the PTX machine that is the host's, too.
void check_fit(const BenchSubject& subject, const CommonOptions& common, const BenchPlan& plan,
               std::size_t context) {
  constexpr std::size_t kProgram = std::size_t{128} << 20U;
  std::size_t needed = kProgram;
  if (subject.random) needed += subject.random->bytes();
  if (common.device == "emulated") {
    const SequenceBytes sequence = sequence_bytes(subject.model().config);
    constexpr std::size_t kShadow = 8;  // what the machine keeps of each byte that was touched, at most
    needed += (1 + kShadow) *
              (packed_bytes(subject.model(), false) +
               plan.n_slots * (sequence.delta_state + sequence.conv_state + sequence.kv_per_token * context));
  }
  check_bytes(needed, "use a smaller model, or fewer rows (--rows)");
}

// The meter, or why there is none.
std::unique_ptr<cuda::PowerMeter> open_meter(const cuda::DeviceInfo& device, std::string& problem) {
  try {
    auto meter = std::make_unique<cuda::PowerMeter>(device.pci_bus_id);
    meter->joules();
    return meter;
  } catch (const Error& error) {
    problem = error.what();
    return nullptr;
  }
}

}  // namespace

BenchReport bench_on_gpu(const BenchOptions& options, const BenchPlan& plan, BenchSubject& subject,
                         PowerGuard* guard) {
  const model::Model& model = subject.model();
  const std::size_t context = choose_bench_context(options.common, model.config, plan.cases);
  check_fit(subject, options.common, plan, context);
  if (subject.random) subject.random->fill(cpu::usable_processors());
  const auto backend = make_gpu_backend(options.common, model, plan.n_slots, context);
  const cuda::DeviceInfo& device = backend->device();

  BenchReport report;
  report.isa = fmt::format("sm_{}", device.capability());
  report.threads = 1;
  report.parameters = parameter_count(model);
  report.weight_bytes = weight_bytes(model);
  GpuFacts& gpu = report.gpu.emplace();
  gpu.device = options.common.device;
  gpu.name = device.name;
  gpu.blocks = backend->launcher().n_blocks();
  gpu.is_emulated = device.is_emulated();
  std::unique_ptr<cuda::PowerMeter> meter;
  if (options.common.device == "emulated")
    gpu.no_energy = "the PTX machine is no GPU";
  else
    meter = open_meter(device, gpu.no_energy);

  const auto measure = [&](std::optional<double> watts) {
    GpuBench bench(*backend, model, meter.get());
    bench.run(plan);
    report.memory = bench.memory();
    report.flops_per_second.fill(bench.flops_per_second());
    for (BenchResult& result : bench.results()) {
      result.power_limit_w = watts;
      result.peaks = {.bytes_per_second = report.memory.bytes_per_second,
                      .flops_per_second = report.flops_per_second};
      report.results.push_back(std::move(result));
    }
  };
  if (guard == nullptr) {
    measure(std::nullopt);
    return report;
  }
  if (meter == nullptr) throw Error(gpu.no_energy, "--power-limits", "leave it out");
  const std::vector<double> limits = parse_watts(*options.power_limits, meter->range());
  guard->remember(device.pci_bus_id, meter->limit());
  for (const double watts : limits) {
    throw_if_interrupted();
    meter->set_limit(watts);
    measure(watts);
  }
  return report;
}

}  // namespace sluice::cli
