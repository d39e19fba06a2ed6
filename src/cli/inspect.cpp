// sluice inspect: what a checkpoint holds and what a step of it costs.
#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/common_options.h"
#include "cli/decode_cost.h"
#include "cli/exit.h"
#include "cli/inspect_gpu.h"
#include "cli/inspect_program.h"
#include "cli/inspect_tensor.h"
#include "cli/load.h"
#include "cli/memory.h"
#include "cli/model_path.h"
#include "cli/output.h"
#include "cli/typed_options.h"
#include "cpu/backend.h"
#include "cuda/gpu_constants.h"
#include "model/weights.h"
#include "program/screening.h"

namespace sluice::cli {
namespace {

struct Options {
  CommonOptions common;
  bool json = false;
  ProgramOptions program;
  std::optional<std::string> gpu;
  std::optional<std::string> tensor;
  std::optional<std::string> output;
};

struct TypeTotals {
  std::size_t tensors = 0;
  std::size_t elements = 0;
  std::size_t bytes = 0;
};

struct Report {
  std::string path;
  const model::Model* model = nullptr;
  std::map<std::string, TypeTotals> by_type;
  std::size_t parameters = 0;
  std::size_t mtp_parameters = 0;
  std::size_t context = 0;
  SequenceBytes sequence;
  DecodeCost cost;
  std::optional<std::size_t>
      screened_bytes;  // that a screened head reads in the place of its weights, if it is screened
};

Report make_report(const model::Model& model, const std::string& path, std::size_t context) {
  Report report{.path = path,
                .model = &model,
                .by_type = {},
                .parameters = parameter_count(model),
                .mtp_parameters = 0,
                .context = context,
                .sequence = sequence_bytes(model.config),
                .cost = decode_cost(model, context),
                .screened_bytes = {}};
  for (const model::ModelTensor& tensor : model.tensors) {
    TypeTotals& totals = report.by_type[std::string(model::name_of(tensor.dtype))];
    ++totals.tensors;
    totals.elements += tensor.size();
    totals.bytes += tensor.data.size();
    if (tensor.mtp) report.mtp_parameters += tensor.size();
  }
  return report;
}

std::string_view name_of(model::LayerKind kind) {
  return kind == model::LayerKind::kDeltaNet ? "deltanet" : "attention";
}

Json config_json(const model::ModelConfig& config) {
  std::vector<std::string_view> layers;
  for (const model::LayerKind kind : config.layers) layers.push_back(name_of(kind));
  return {{"model_type", config.model_type},
          {"dtype", config.dtype},
          {"vocab_size", config.vocab_size},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"n_layers", config.n_layers()},
          {"layers", layers},
          {"n_heads", config.n_heads},
          {"n_kv_heads", config.n_kv_heads},
          {"head_dim", config.head_dim},
          {"rotary_dim", config.rotary_dim},
          {"rope_theta", config.rope_theta},
          {"n_key_heads", config.n_key_heads},
          {"n_value_heads", config.n_value_heads},
          {"key_head_dim", config.key_head_dim},
          {"value_head_dim", config.value_head_dim},
          {"conv_kernel", config.conv_kernel},
          {"rms_norm_eps", config.rms_norm_eps},
          {"tie_word_embeddings", config.tie_word_embeddings},
          {"max_positions", config.max_positions},
          {"n_mtp_layers", config.n_mtp_layers},
          {"eos_token_ids", config.eos_token_ids}};
}

Json report_json(const Report& report) {
  Json types = Json::object();
  for (const auto& [name, totals] : report.by_type)
    types[name] = {{"tensors", totals.tensors}, {"elements", totals.elements}, {"bytes", totals.bytes}};
  return {{"model", report.path},
          {"config", config_json(report.model->config)},
          {"parameters", report.parameters},
          {"mtp_parameters", report.mtp_parameters},
          {"tensors", types},
          {"skipped_tensors", report.model->skipped.size()},
          {"sequence",
           {{"delta_state_bytes", report.sequence.delta_state},
            {"conv_state_bytes", report.sequence.conv_state},
            {"kv_bytes_per_token", report.sequence.kv_per_token}}},
          {"decode_step",
           {{"context", report.context},
            {"weight_bytes", report.cost.weight_bytes},
            {"state_bytes", report.cost.state_bytes},
            {"kv_bytes", report.cost.kv_bytes},
            {"bytes", report.cost.bytes()},
            {"flops", report.cost.flops},
            {"head_bytes", report.model->weights.head.data.size()},
            {"screened_head_bytes", report.screened_bytes ? Json(*report.screened_bytes) : Json()}}}};
}

// "6 × DDDA": the shortest pattern that repeats, D = DeltaNet, A = attention.
std::string pattern_text(const std::vector<model::LayerKind>& layers) {
  std::string letters;
  for (const model::LayerKind kind : layers) letters += kind == model::LayerKind::kDeltaNet ? 'D' : 'A';
  for (std::size_t period = 1; period < letters.size(); ++period) {
    // A text repeats with a period exactly if it equals itself shifted by it.
    if (letters.size() % period != 0 || letters.substr(period) != letters.substr(0, letters.size() - period))
      continue;
    return fmt::format("{} × {}", letters.size() / period, letters.substr(0, period));
  }
  return letters;
}

std::string count_text(std::size_t count, std::string_view unit) {
  constexpr std::array<std::string_view, 5> kPrefixes = {"", " k", " M", " G", " T"};
  double value = static_cast<double>(count);
  std::size_t prefix = 0;
  for (; value >= 999.5 && prefix + 1 < kPrefixes.size(); ++prefix) value /= 1000;
  const int digits = prefix == 0 || value >= 100 ? 0 : (value < 10 ? 2 : 1);
  return fmt::format("{:.{}f}{}{}", value, digits, kPrefixes[prefix], unit);
}

std::string config_text(const model::ModelConfig& config) {
  std::string text;
  const auto line = [&text](std::string_view name, const std::string& value) {
    text += fmt::format("{:<18}{}\n", name, value);
  };
  line("type", fmt::format("{}{}{}", config.model_type, config.dtype.empty() ? "" : ", ",
                           printable(config.dtype, 60)));
  line("layers",
       fmt::format("{}: {}   (D DeltaNet, A attention)", config.n_layers(), pattern_text(config.layers)));
  line("hidden", fmt::format("{}, MLP {}", config.hidden_size, config.intermediate_size));
  line("attention",
       fmt::format("{} heads of {}, {} KV heads, RoPE on {} dimensions, theta {:g}", config.n_heads,
                   config.head_dim, config.n_kv_heads, config.rotary_dim, config.rope_theta));
  line("DeltaNet",
       fmt::format("{} key heads of {}, {} value heads of {}, convolution over {}", config.n_key_heads,
                   config.key_head_dim, config.n_value_heads, config.value_head_dim, config.conv_kernel));
  line("vocabulary",
       fmt::format("{}, head {}", config.vocab_size, config.tie_word_embeddings ? "tied" : "untied"));
  line("positions", fmt::format("{}", config.max_positions));
  line("end tokens", fmt::format("{}", fmt::join(config.eos_token_ids, " ")));
  line("MTP layers", fmt::format("{}", config.n_mtp_layers));
  return text;
}

std::string report_text(const Report& report) {
  std::string text =
      fmt::format("{:<18}{}\n", "model", printable(report.path)) + config_text(report.model->config);
  const auto line = [&text](std::string_view name, const std::string& value) {
    text += fmt::format("{:<18}{}\n", name, value);
  };
  line("parameters", fmt::format("{} ({}), and {} for MTP", report.parameters,
                                 count_text(report.parameters, ""), report.mtp_parameters));
  text += "\ntensors\n";
  for (const auto& [name, totals] : report.by_type)
    line("  " + name,
         fmt::format("{} tensors, {} B ({})", totals.tensors, totals.bytes, bytes_text(totals.bytes)));
  line("  skipped",
       fmt::format("{} tensors that are not the language model's", report.model->skipped.size()));
  text += "\na sequence keeps\n";
  line("  DeltaNet state", fmt::format("{} B (fp32)", report.sequence.delta_state));
  line("  convolution", fmt::format("{} B (fp32)", report.sequence.conv_state));
  line("  KV", fmt::format("{} B a token (bf16; the oracle keeps fp32)", report.sequence.kv_per_token));
  text += fmt::format("\na decode step at context {}\n", report.context);
  line("  weights", fmt::format("{} B read", report.cost.weight_bytes));
  line("  state", fmt::format("{} B read and written", report.cost.state_bytes));
  line("  KV", fmt::format("{} B read", report.cost.kv_bytes));
  line("  together", fmt::format("{} B ({})", report.cost.bytes(), bytes_text(report.cost.bytes())));
  if (report.screened_bytes) {
    const std::size_t head = report.model->weights.head.data.size();
    const std::size_t bytes = report.cost.bytes() - head + *report.screened_bytes;
    line(
        "  screened head",
        fmt::format("{} B ({}): {} B in the place of {} B of weights, and the rows that it recomputes (bench "
                    "counts them)",
                    bytes, bytes_text(bytes), *report.screened_bytes, head));
  }
  line("  FLOPs", fmt::format("{} ({})", report.cost.flops, count_text(report.cost.flops, "FLOP")));
  return text;
}

std::string tensor_list(const model::Model& model) {
  std::string text = "\nall tensors\n";
  for (const model::TensorView& tensor : model.tensors)
    text += fmt::format("  {} {} {}\n", printable(tensor.name), model::name_of(tensor.dtype),
                        model::shape_text(tensor.shape));
  for (const std::string& name : model.skipped) text += fmt::format("  {} (skipped)\n", printable(name));
  return text;
}

int run(const Options& options) {
  check_device(options.common);
  if (options.program.program) {
    const ProgramReport report = program_report(options.program, options.common, options.json);
    to_stdout(report.text);
    return report.is_safe ? kGood : kFailed;
  }
  if (options.gpu) {
    cuda::gpu_constants_of(*options.gpu);  // before a model is looked for
    const Subject subject = open_subject(options.program, options.common);
    const std::size_t context = choose_context(options.common, subject.model().config, kDefaultContext);
    to_stdout(gpu_report(*options.gpu, subject.name, subject.model(), context, options.json));
    return kGood;
  }
  if (options.program.shape)
    throw UsageError("--shape alone shows nothing", "--shape", "add --program or --model-gpu");
  const auto path = find_model(options.common.model);
  if (options.tensor && options.output) {
    if (options.output->empty()) throw UsageError("no file to write", "-o", "give its name");
    write_tensor(path, *options.tensor, *options.output);
    return kGood;
  }
  if (options.tensor) {
    to_stdout(tensor_report(path, *options.tensor, options.json));
    return kGood;
  }
  check_loading(model::read_config(path));
  const model::Model model = load(path);
  const std::size_t context = choose_context(options.common, model.config, kDefaultContext);
  Report report = make_report(model, path.string(), context);
  if (options.common.device == "cpu" && cpu::has_screened_head(model.config, cpu_options(options.common))) {
    const model::Matrix& head = model.weights.head;
    report.screened_bytes = program::screen_panels(head.rows) * program::screen_panel_bytes(head.cols);
  }
  if (options.json) {
    // A folder's name need not be UTF-8, JSON must be.
    to_stdout(report_json(report).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    return kGood;
  }
  to_stdout(report_text(report));
  if (options.common.verbose) to_stdout(tensor_list(model));
  return kGood;
}

std::string gpu_names() {
  std::string names;
  for (const cuda::GpuConstants& gpu : cuda::gpu_constants())
    names += fmt::format("{}{}", names.empty() ? "" : "|", gpu.name);
  return names;
}

}  // namespace

Command add_inspect(CLI::App& program) {
  CLI::App& command = *program.add_subcommand(
      "inspect", "show config, tensors, and the cost of a decode step at -c positions");
  const auto options = std::make_shared<Options>();
  command.add_flag("--json", options->json, "print JSON");
  add_program_options(command, options->program);
  auto* gpu = add_text(command, "--model-gpu", options->gpu,
                       "model how long a step takes on a GPU that isn't here: never a measurement")
                  ->type_name(gpu_names())
                  ->excludes("--program");
  auto* tensor = add_text(command, "--tensor", options->tensor,
                          "tell about one tensor: type, shape, smallest, largest, mean")
                     ->type_name("NAME")
                     ->excludes("--program")
                     ->excludes(gpu);
  add_text(command, "-o,--output", options->output,
           "with --tensor: write it to this .npy file, as float32 in its stored order")
      ->type_name("FILE")
      ->needs(tensor);
  add_common_options(command, options->common);
  add_head_option(command, options->common);
  return {&command, [options] { return run(*options); }};
}

}  // namespace sluice::cli
