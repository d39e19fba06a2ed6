#include "cpu/backend.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "cpu/executor.h"
#include "cpu/head_policy.h"
#include "cpu/kernels.h"
#include "cpu/packed.h"
#include "cpu/placement.h"
#include "cpu/sequences.h"
#include "cpu/workers.h"
#include "program/builder.h"
#include "program/programs.h"
#include "program/screening.h"

namespace sluice::cpu {
namespace {

using program::OpKind;

const Kernels& choose_kernels(const std::optional<std::string>& isa) {
  std::size_t n = 0;
  const Kernels* const* all = available_kernels(&n);
  if (!isa) return *all[0];
  std::string names;
  for (std::size_t i = 0; i < n; ++i) {
    if (*isa == all[i]->name) return *all[i];
    names += (i == 0 ? "" : ", ") + std::string(all[i]->name);
  }
  throw Error(fmt::format("instruction set \"{}\" is not there", *isa), "SLUICE_ISA",
              fmt::format("this machine has {}", names));
}

// More workers than processors only take these from each other: to wait for one that has lost its processor costs a time slice.
std::size_t cut(const CpuOptions& options, const Processors& processors) {
  if (options.n_workers == 0) return processors.n_usable;
  return options.oversubscribe ? options.n_workers : std::min(options.n_workers, processors.n_usable);
}

Workers make_workers(const CpuOptions& options) {
  const Processors processors = find_processors();
  const std::size_t n = cut(options, processors);
  return {n, place(processors, n, options.pin)};
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(const model::Model& model, std::size_t n_slots, std::size_t context, const CpuOptions& options,
             const PackedCache* cache, const LoadEvents& events)
      : model_(model),
        context_(context),
        most_screened_(most_screened_outputs(options)),
        kernels_(choose_kernels(options.isa)),
        workers_(make_workers(options)),
        programs_(model.config, tiling_for(workers_.size()), options.verify_programs),
        weights_(model, tiling_for(workers_.size()), workers_, cache, events,
                 has_screened_head(model.config, options)),
        sequences_(model.config, n_slots, context),
        executor_(model, weights_, kernels_, workers_, sequences_),
        name_(fmt::format("cpu ({}, {} workers{})", kernels_.name, workers_.size(),
                          options.verify_programs ? ", Programs verified" : "")) {}

  std::string_view name() const override { return name_; }
  const model::ModelConfig& config() const override { return model_.config; }
  std::size_t n_slots() const override { return sequences_.n_slots(); }
  std::size_t context() const override { return context_; }

  void reset(std::size_t slot) override {
    SLUICE_CHECK(slot < n_slots());
    sequences_.reset(slot);
  }

  std::string_view isa() const override { return kernels_.name; }
  Workers& workers() override { return workers_; }
  std::size_t packed_bytes() const override { return weights_.bytes(); }
  bool is_screened() const override { return weights_.is_screened(); }
  bool may_screen(const program::Step& step) const override {
    return weights_.is_screened() && can_screen(step, model_.config.vocab_size, most_screened_);
  }
  bool from_cache() const override { return weights_.from_file(); }
  const Statistics& statistics() const override { return statistics_; }
  void time_ops(bool on) override { executor_.time_ops(on ? &statistics_ : nullptr); }
  void trace(Trace* trace) override { executor_.trace(trace); }

  using Backend::run;
  program::StepResult run(const program::Step& step) override {
    program::validate(step, model_.config, context_, sequences_.lengths());
    program::StepResult result;
    result.tokens.assign(step.outputs.size(), -1);
    const auto returned = std::count_if(step.outputs.begin(), step.outputs.end(),
                                        [](const program::Output& output) { return output.return_logits; });
    result.logits.resize(static_cast<std::size_t>(returned) * model_.config.vocab_size);
    if (step.spans.empty()) return result;
    const bool screens = may_screen(step) && head_policy_.screens();
    const program::Program& program = program_of(step, screens);
    const std::size_t runs_before = workers_.n_runs();
    executor_.run(program, step, result);
    if (screens) learn_of_screening(program);
    statistics_.dispatches += workers_.n_runs() - runs_before;
    statistics_.tasks += program.tasks.size();
    for (const program::Span& span : step.spans) sequences_.advance(span.slot, span.n_rows);
    return result;
  }

 private:
  // Each group of outputs goes through the head on its own: its time is all groups'. Of the bytes, which are to be told from the
  // floor, each counts once.
  void learn_of_screening(const program::Program& program) {
    const std::size_t vocab = model_.config.vocab_size;
    const auto recompute = std::ranges::find(program.ops, OpKind::kRecompute, &program::Op::kind);
    const std::size_t n_groups = recompute->n_tasks / program.tilings[recompute->tiling].size();
    const std::size_t all = program::screen_panels(vocab);
    const std::size_t not_skimmed = all - program::skimmed_columns(vocab) / kLanes;
    const std::size_t recomputed = executor_.panels_recomputed();
    const std::size_t left = executor_.panels_left();
    const std::size_t left_by_all = left == n_groups * not_skimmed ? not_skimmed : 0;
    const std::size_t screen_bytes = bytes_of(OpKind::kScreen);
    ++statistics_.screened_steps;
    statistics_.rows_recomputed += std::min(recomputed * kLanes, vocab);
    statistics_.bytes_recomputed += std::min(recomputed, all) * head_bytes() / all;
    statistics_.bytes_left += left_by_all * screen_bytes / all;
    const std::size_t n_rows = (program.shape.output_rows.size() + n_groups - 1) / n_groups;
    head_policy_.learn((n_groups * all - left) * screen_bytes / all, recomputed * head_bytes() / all,
                       n_groups * head_bytes(), n_rows);
  }

  std::size_t head_bytes() const { return bytes_of(OpKind::kHead); }
  std::size_t bytes_of(OpKind kind) const {
    const PackedOp& op = weights_.of(kind, 0);
    std::size_t bytes = 0;
    for (const PackedTile& tile : op.tiles)
      bytes += tile.n_panels * panel_bytes(kind, op.depth, tile.is_bf16);
    return bytes;
  }

  const program::Program& program_of(const program::Step& step, bool screens) {
    program::StepShape shape;
    shape.is_screened = screens;
    for (const program::Span& span : step.spans) {
      const auto rows = static_cast<std::uint32_t>(span.n_rows);
      shape.spans.push_back({rows, program::kv_splits_of(rows, span.position + span.n_rows)});
    }
    for (const program::Output& output : step.outputs)
      shape.output_rows.push_back(static_cast<std::uint32_t>(output.row));
    const program::Program& program = programs_.of(shape);
    statistics_.programs_built = programs_.n_made();
    statistics_.programs_verified = programs_.n_verified();
    return program;
  }

  const model::Model& model_;
  std::size_t context_;
  std::size_t most_screened_;
  const Kernels& kernels_;
  Workers workers_;
  program::Programs programs_;
  PackedWeights weights_;
  Sequences sequences_;
  Executor executor_;
  std::string name_;
  Statistics statistics_;
  HeadPolicy head_policy_;
};

}  // namespace

bool has_screened_head(const model::ModelConfig& config, const CpuOptions& options) {
  if (options.head != HeadMode::kBest) return options.head == HeadMode::kScreened;
  // A head that stays in a cache is bound by arithmetic, of which screening has as much. The portable kernels have no products
  // of bytes.
  constexpr std::size_t kLeast = std::size_t{32} << 20U;  // weights
  return config.vocab_size * config.hidden_size >= kLeast &&
         &choose_kernels(options.isa) != &kPortableKernels;
}

std::size_t most_screened_outputs(const CpuOptions& options) {
  return choose_kernels(options.isa).activations == ActivationType::kBF16 ? 5 : 8;
}

bool can_screen(const program::Step& step, std::size_t vocab_size, std::size_t most_outputs) {
  if (step.outputs.empty() || step.outputs.size() > most_outputs) return false;
  return std::ranges::all_of(step.outputs, [&](const program::Output& output) {
    return !output.return_logits && output.choice && program::screen_rule(*output.choice, vocab_size);
  });
}

std::size_t worker_count(const CpuOptions& options) {
  return cut(options, find_processors());
}

program::Tiling tiling_for(std::size_t n_workers) {
  program::Tiling tiling;
  tiling.n_workers = n_workers;
  return tiling;
}

std::unique_ptr<Backend> make_backend(const model::Model& model, std::size_t n_slots, std::size_t context,
                                      const CpuOptions& options, const LoadEvents& events) {
  std::optional<PackedCache> cache;
  if (options.cache) cache.emplace(*options.cache);
  return std::make_unique<CpuBackend>(model, n_slots, context, options, cache ? &*cache : nullptr, events);
}

}  // namespace sluice::cpu
