#include "cli/inspect_gpu.h"

#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "cuda/gpu_model.h"
#include "model/random_model.h"

namespace sluice::cli {
namespace {

using cuda::constants::kMemoryLatency;

constexpr std::size_t kPromptRows = 512;
constexpr std::string_view kNotInTheKernel = "not in the CUDA kernel yet";

struct Times {
  const cuda::GpuConstants& gpu;
  cuda::StepTime full, screened, prefill;

  // Of the bandwidth as specified.
  double share(const cuda::StepTime& step) const {
    return step.bytes() / step.us() / (gpu.bandwidth.value * 1e3);
  }
};

struct Target {
  std::string what;
  double wanted = 0;
  double modelled = 0;
  bool is_share = false;

  bool is_reached() const { return modelled >= wanted; }
  std::string text(double value) const {
    return is_share ? fmt::format("{:.1f} %", 100 * value) : fmt::format("{:.0f} tok/s", value);
  }
};

// What the design asks for, of one model.
std::vector<Target> targets_of(const Times& times, const model::ModelConfig& config) {
  const auto small = model::known_shape("qwen3.5-0.8b");
  if (!small || config.hidden_size != small->hidden_size || config.layers != small->layers ||
      config.intermediate_size != small->intermediate_size || config.vocab_size != small->vocab_size)
    return {};
  if (times.gpu.name == "rtx3090")
    return {{"decode, full head", 530, times.full.tok_s()},
            {fmt::format("decode, screened head ({})", kNotInTheKernel), 600, times.screened.tok_s()},
            {"prefill 512", 28000, times.prefill.tok_s()}};
  if (times.gpu.name == "h100") return {{"share of the bandwidth", 0.8, times.share(times.full), true}};
  return {};
}

std::vector<std::pair<std::string_view, cuda::Constant>> constants_of(const cuda::GpuConstants& gpu) {
  namespace constants = cuda::constants;
  return {{"SMs", gpu.sms},
          {"clock, MHz", gpu.clock_mhz},
          {"bandwidth, GB/s", gpu.bandwidth},
          {"reads, GB/s", gpu.read_bandwidth},
          {"bf16 TFLOPS", gpu.matrix_tflops},
          {"of it mma.sync", gpu.mma_share},
          {"shared memory of a block, B", gpu.shared_bytes},
          {"memory latency, us", kMemoryLatency},
          {"warp instructions a weight byte", cuda::kInstructionsPerByte},
          {"warp instructions an op and block", cuda::kInstructionsPerOp},
          {"warp instructions a page of a KV head", cuda::kInstructionsPerUnit},
          {"issue slots used", constants::kIssueShare},
          {"GEMM efficiency", constants::kMmaEfficiency},
          {"attention efficiency", constants::kAttentionEfficiency},
          {"fp32 efficiency", constants::kFp32Efficiency},
          {"L2 bytes a clock and SM", constants::kL2BytesPerClock},
          {"rows recomputed", constants::kRecomputedRows}};
}

std::string step_text(const Times& times, const cuda::StepTime& step, std::string_view title) {
  std::string text = fmt::format("\n{}, modelled\n  {:<18}{:>4}{:>16}{:>13}{:>13}{:>12}\n", title, "op", "n",
                                 "bytes", "stream us", "exposed us", "total us");
  const auto line = [&](std::string_view name, std::size_t n, double bytes, double stream, double exposed) {
    text += fmt::format("  {:<18}{:>4}{:>16.0f}{:>13.1f}{:>13.1f}{:>12.1f}\n", name, n, bytes, stream,
                        exposed, stream + exposed);
  };
  for (const cuda::OpTime& op : step.ops) line(op.op, op.n, op.bytes, op.stream_us, op.exposed_us);
  std::size_t n = 0;
  for (const cuda::OpTime& op : step.ops) n += op.n;
  line("together", n, step.bytes(), step.stream_us(), step.exposed_us());
  text += fmt::format(
      "  {:.0f} tok/s; {:.1f} % of {:.0f} GB/s; {} dependencies, {:.0f} us if nothing were hidden\n",
      step.tok_s(), 100 * times.share(step), times.gpu.bandwidth.value, step.dependencies, step.raw_us);
  return text;
}

std::string report_text(const Times& times, const std::string& subject, const model::ModelConfig& config,
                        std::size_t context) {
  const cuda::GpuConstants& gpu = times.gpu;
  std::string text = fmt::format(
      "modelled, not measured: {} on {}\nops of one kind together; stream: at the bandwidth of reads, or "
      "prefill's "
      "arithmetic; exposed: memory waits\n",
      printable(subject), gpu.title);
  text += step_text(times, times.full, fmt::format("a decode step at context {}, full head", context));
  text += step_text(times, times.screened, fmt::format("the same, screened head ({})", kNotInTheKernel));
  text += step_text(times, times.prefill, fmt::format("prefill of {} rows", kPromptRows));
  text += "\ndesign targets, beside what is modelled\n";
  const std::vector<Target> targets = targets_of(times, config);
  if (targets.empty()) text += "  none for this GPU and model: they are Qwen3.5-0.8B's on rtx3090 and h100\n";
  for (const Target& target : targets)
    text += fmt::format("  {}: at least {}, modelled {}: {}\n", target.what, target.text(target.wanted),
                        target.text(target.modelled), target.is_reached() ? "reached" : "NOT reached");
  if (!targets.empty())
    text +=
        "  what memory waits for is calibrated to 25 %; efficiencies of arithmetic are assumed, so less than "
        "that is no "
        "difference\n";
  text += fmt::format("\na dependency: {:.2f} us, its parts at {:.0f} MHz, longer on slower SMs\n",
                      cuda::dependency_us(gpu), cuda::kDependencyClock);
  for (const cuda::DependencyPart& part : cuda::dependency_parts())
    text += fmt::format("  {:<34}{:>9.2f}   {}\n", part.name, part.us.value, part.us.source);
  text += fmt::format("  ring of {:.0f} B an SM: hides up to {:.2f} us\n\nconstants\n", times.full.ring_bytes,
                      times.full.ring_bytes * gpu.sms.value / gpu.bytes_per_us());
  for (const auto& [name, constant] : constants_of(gpu))
    text += fmt::format("  {:<34}{:>9.6g}   {}\n", name, constant.value, constant.source);
  return text;
}

Json constant_json(const cuda::Constant& constant) {
  return {{"value", constant.value}, {"source", constant.source}};
}

Json step_json(const Times& times, const cuda::StepTime& step) {
  Json ops = Json::array();
  for (const cuda::OpTime& op : step.ops)
    ops.push_back({{"op", op.op},
                   {"n", op.n},
                   {"bytes", op.bytes},
                   {"stream_us", op.stream_us},
                   {"exposed_us", op.exposed_us},
                   {"total_us", op.us()}});
  return {{"modelled", true},
          {"ops", ops},
          {"bytes", step.bytes()},
          {"stream_us", step.stream_us()},
          {"exposed_us", step.exposed_us()},
          {"total_us", step.us()},
          {"tok_s", step.tok_s()},
          {"bandwidth_share", times.share(step)},
          {"dependencies", step.dependencies},
          {"dependencies_raw_us", step.raw_us}};
}

Json report_json(const Times& times, const std::string& subject, const model::ModelConfig& config,
                 std::size_t context) {
  Json constants = Json::object();
  for (const auto& [name, constant] : constants_of(times.gpu))
    constants[std::string(name)] = constant_json(constant);
  Json parts = Json::object();
  for (const cuda::DependencyPart& part : cuda::dependency_parts())
    parts[std::string(part.name)] = constant_json(part.us);
  Json targets = Json::array();
  for (const Target& target : targets_of(times, config))
    targets.push_back({{"target", target.what},
                       {"at_least", target.wanted},
                       {"modelled", target.modelled},
                       {"reached", target.is_reached()}});
  Json screened = step_json(times, times.screened);
  screened["note"] = kNotInTheKernel;
  return {{"modelled", true},
          {"gpu", times.gpu.name},
          {"model", subject},
          {"context", context},
          {"decode", {{"full", step_json(times, times.full)}, {"screened", screened}}},
          {"prefill_512", step_json(times, times.prefill)},
          {"targets", targets},
          {"dependency", {{"us", cuda::dependency_us(times.gpu)}, {"parts_at_1695_mhz", parts}}},
          {"ring_bytes_per_sm", times.full.ring_bytes},
          {"constants", constants}};
}

}  // namespace

std::string gpu_report(const std::string& name, const std::string& subject, const model::Model& model,
                       std::size_t context, bool json) {
  const cuda::GpuConstants& gpu = cuda::gpu_constants_of(name);
  const Times times{gpu, cuda::decode_time(gpu, model, context, false),
                    cuda::decode_time(gpu, model, context, true),
                    cuda::prefill_time(gpu, model, kPromptRows)};
  // A folder's name need not be UTF-8, JSON must be.
  if (json)
    return report_json(times, subject, model.config, context)
               .dump(2, ' ', false, Json::error_handler_t::replace) +
           "\n";
  return report_text(times, subject, model.config, context);
}

}  // namespace sluice::cli
