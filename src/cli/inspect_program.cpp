#include "cli/inspect_program.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.h"
#include "cli/exit.h"
#include "cli/interrupt.h"
#include "cli/load.h"
#include "cli/model_path.h"
#include "cli/typed_options.h"
#include "cpu/backend.h"
#include "cpu/placement.h"
#include "model/random_model.h"
#include "program/builder.h"
#include "program/report.h"

namespace sluice::cli {
namespace {

// Beyond that, proof and report would take seconds.
constexpr std::uint64_t kMostDecodeRows = 64;
constexpr std::uint64_t kMostPromptRows = 4096;

struct Step {
  program::StepShape shape;
  std::vector<std::size_t> lengths;  // [spans]  when the step is done
  std::size_t decode_rows = 0;
  std::size_t prompt_rows = 0;
  std::size_t context = 0;        // of sequences that decode
  std::size_t prompt_length = 0;  // of the one that is fed

  void add(std::size_t rows, std::size_t length) {
    const auto n = static_cast<std::uint32_t>(rows);
    shape.spans.push_back({n, program::kv_splits_of(n, length)});
    lengths.push_back(length);
    shape.output_rows.push_back(shape.n_rows() - 1);
  }
};

// -c is where every sequence is after the step. Without it a prompt is fed from its beginning.
Step make_step(const ProgramOptions& options, const CommonOptions& common, const model::ModelConfig& config) {
  Step step;
  step.prompt_rows = options.prompt.value_or(0);
  step.decode_rows = options.rows.value_or(step.prompt_rows > 0 ? 0 : 1);
  if (step.decode_rows + step.prompt_rows == 0)
    throw UsageError("a step without rows", "--rows, --prompt", "one of them must not be 0");
  step.context = choose_context(common, config, kDefaultContext);
  step.prompt_length = common.context ? step.context : step.prompt_rows;
  if (step.prompt_rows > step.prompt_length || step.prompt_length > config.max_positions)
    throw UsageError(fmt::format("{} rows don't fit into a context of {}", step.prompt_rows,
                                 std::min(step.context, config.max_positions)),
                     "--prompt", "give fewer, or a larger -c up to what the model was made for");
  for (std::size_t i = 0; i < step.decode_rows; ++i) step.add(1, step.context);
  if (step.prompt_rows > 0) step.add(step.prompt_rows, step.prompt_length);
  return step;
}

std::string rows_text(std::size_t rows) {
  return fmt::format("{} row{}", rows, rows == 1 ? "" : "s");
}

std::string step_text(const Step& step, std::size_t n_workers) {
  std::string text = "a step";
  if (step.decode_rows > 0)
    text += fmt::format(" that decodes {} at context {}", rows_text(step.decode_rows), step.context);
  if (step.prompt_rows > 0)
    text += fmt::format("{} feeds {} of a prompt, up to position {}", step.decode_rows > 0 ? " and" : " that",
                        rows_text(step.prompt_rows), step.prompt_length);
  return fmt::format("{}, on {} worker{}\n\n", text, n_workers, n_workers == 1 ? "" : "s");
}

Json cost_json(const program::OpCost& cost) {
  return {{"weight_bytes", cost.weight_bytes},
          {"state_bytes", cost.state_bytes},
          {"kv_bytes", cost.kv_bytes},
          {"bytes", cost.bytes()},
          {"flops", cost.flops}};
}

Json op_json(const program::OpReport& report) {
  const program::Op& op = report.op;
  Json json = {{"op", program::name_of(op.kind)},
               {"tasks", op.n_tasks},
               {"counters", report.n_counters},
               {"waits", report.n_waits}};
  if (program::is_of_layer(op.kind)) {
    json["layer"] = op.layer;
    json["layer_kind"] = op.layer_kind == model::LayerKind::kDeltaNet ? "deltanet" : "attention";
  }
  json.update(cost_json(report.cost));
  return json;
}

Json report_json(const Subject& subject, const Step& step, std::size_t n_workers,
                 const program::Report& report) {
  Json ops = Json::array();
  for (const program::OpReport& op : report.ops) ops.push_back(op_json(op));
  Json json = {{"model", subject.name},
               {"step",
                {{"decode_rows", step.decode_rows},
                 {"prompt_rows", step.prompt_rows},
                 {"lengths", step.lengths},
                 {"workers", n_workers}}},
               {"ops", ops},
               {"tasks", report.n_tasks},
               {"counters", report.n_counters},
               {"waits", report.n_waits},
               {"longest_chain", report.longest_chain},
               {"verified", report.unsafe.empty()},
               {"coarse_waits", report.coarse}};
  json.update(cost_json(report.cost));
  return json;
}

}  // namespace

Subject open_subject(const ProgramOptions& options, const CommonOptions& common) {
  Subject subject;
  if (!options.shape) {
    const auto path = find_model(common.model);
    subject.name = path.string();
    check_loading(model::read_config(path));
    subject.loaded = load(path);
    return subject;
  }
  if (common.model) throw UsageError("a model and --shape exclude each other", "--shape", "give one of them");
  const auto config = model::known_shape(*options.shape);
  if (!config)
    throw UsageError(fmt::format("there is no shape \"{}\"", *options.shape), "--shape",
                     fmt::format("use {}", fmt::join(model::known_shapes(), ", ")));
  subject.name = *options.shape;
  subject.random = std::make_unique<model::RandomModel>(*config, 0);
  return subject;
}

void add_program_options(CLI::App& command, ProgramOptions& options) {
  auto* program = command.add_flag("--program", options.program,
                                   "show the Program of a step: its ops, tasks, waits and what they cost");
  command.add_flag("--dot", options.dot, "with --program: draw it, in Graphviz's language")->needs(program);
  add_whole(command, "--rows", options.rows, 0, kMostDecodeRows,
            "with --program: sequences that decode a row at -c positions (default: 1; with --prompt: 0)")
      ->needs(program);
  add_whole(command, "--prompt", options.prompt, 0, kMostPromptRows,
            "with --program: rows of a prompt that the step feeds (default: 0)")
      ->needs(program);
  add_text(command, "--shape", options.shape,
           "with --program or --model-gpu: a published model's shape, without a file")
      ->type_name(fmt::format("{}", fmt::join(model::known_shapes(), "|")));
}

ProgramReport program_report(const ProgramOptions& options, const CommonOptions& common, bool json) {
  if (common.device != "cpu")
    throw Error(fmt::format("device {} runs no Program to show", common.device), "--device",
                "use --device cpu");
  if (json && options.dot)
    throw UsageError("a graph can't be printed as JSON", "--dot", "leave out --json or --dot");
  const Subject subject = open_subject(options, common);
  const model::Model& model = subject.model();
  Step step = make_step(options, common, model.config);
  const std::size_t n_workers = common.threads.value_or(cpu::usable_processors());
  const cpu::CpuOptions how = cpu_options(common);
  step.shape.is_screened = cpu::has_screened_head(model.config, how) &&
                           step.shape.output_rows.size() <= cpu::most_screened_outputs(how);
  const EndOnInterrupt at_once;  // a proof may take seconds
  const program::Program program = program::build(model.config, step.shape, cpu::tiling_for(n_workers));
  if (options.dot) return {program::dot_of(program)};
  const program::Report report = program::report_of(program, model.weights, step.lengths);
  const bool is_safe = report.unsafe.empty();
  if (!json) return {step_text(step, n_workers) + program::text_of(report), is_safe};
  // A folder's name need not be UTF-8, JSON must be.
  const Json found = report_json(subject, step, n_workers, report);
  return {found.dump(2, ' ', false, Json::error_handler_t::replace) + "\n", is_safe};
}

}  // namespace sluice::cli
