#include "cli/bench_report.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/median.h"
#include "cli/memory.h"
#include "cli/version.h"

namespace sluice::cli {
namespace {

constexpr double kMega = 1e6;
constexpr double kGiga = 1e9;
constexpr double kTera = 1e12;
constexpr std::array<const char*, cpu::kUnits> kUnitNames = {"bf16", "fp32", "int8"};

double tokens_per_step(const BenchCase& what) {
  return static_cast<double>(what.tokens()) / static_cast<double>(what.steps);
}

double floor_tok_s(const BenchReport& report, const ReadFigure& reading, const BenchResult& result,
                   const StepCost& cost) {
  if (result.peaks) return tokens_per_step(result.what) / floor_seconds(cost, *result.peaks);
  const MachinePeaks peaks{.bytes_per_second = reading.bytes_per_second,
                           .flops_per_second = report.flops_per_second};
  return tokens_per_step(result.what) / floor_seconds(cost, peaks);
}

double floor_tok_s(const BenchReport& report, const ReadFigure& reading, const BenchResult& result) {
  return floor_tok_s(report, reading, result, result.cost);
}

struct Spread {
  double median, least, most;
};

Spread spread_of(const std::vector<double>& values) {
  const auto [least, most] = std::ranges::minmax_element(values);
  return {.median = median(values), .least = *least, .most = *most};
}

void add_of_gpu(const BenchResult& result, Json& json) {
  json["launch_share"] = result.launch_share;
  if (!result.tokens_per_joule) json["tokens_per_joule"] = nullptr;
  if (!result.power_limit_w) return;
  json["power_limit_w"] = *result.power_limit_w;
  json["read_gb_s"] = result.peaks->bytes_per_second / kGiga;
}

Json result_json(const BenchReport& report, const BenchResult& result) {
  const Spread tok_s = spread_of(result.tok_s);
  const double floor = floor_tok_s(report, report.memory, result);
  Json shares = Json::object();
  for (const auto& [op, share] : result.op_share) shares[op] = share;
  Json json = {{"kind", name_of(result.what.kind)},
               {"rows", result.what.rows()},
               {"context", result.what.context()},
               {"head", result.screened_share ? "screened" : "full"},
               {"reps", result.tok_s},
               {"tok_s", {{"median", tok_s.median}, {"min", tok_s.least}, {"max", tok_s.most}}},
               {"ms_per_step", 1000 * tokens_per_step(result.what) / tok_s.median},
               {"bytes_per_step", result.cost.bytes},
               {"flops_per_step", result.cost.all_flops()},
               {"floor_tok_s", floor},
               {"floor_fraction", tok_s.median / floor},
               {"dispatches_per_step", result.dispatches_per_step},
               {"tasks_per_step", result.tasks_per_step},
               {"head_rows_recomputed", result.head_rows_recomputed},
               {"op_share", shares}};
  if (result.screened_share) {
    json["screened_share"] = *result.screened_share;
    json["full_head_floor_tok_s"] = floor_tok_s(report, report.memory, result, result.full_cost);
    if (report.cache)
      json["cache_full_head_floor_tok_s"] = floor_tok_s(report, *report.cache, result, result.full_cost);
  }
  if (report.cache) {
    const double cache_floor = floor_tok_s(report, *report.cache, result);
    json["cache_floor_tok_s"] = cache_floor;
    json["cache_floor_fraction"] = tok_s.median / cache_floor;
  }
  if (result.tokens_per_joule) json["tokens_per_joule"] = *result.tokens_per_joule;
  if (report.gpu) add_of_gpu(result, json);
  return json;
}

std::string flops_text(double flops_per_second) {
  return flops_per_second < kTera ? fmt::format("{:.1f} GFLOP/s", flops_per_second / kGiga)
                                  : fmt::format("{:.2f} TFLOP/s", flops_per_second / kTera);
}

std::string reading_text(const ReadFigure& reading) {
  return fmt::format("{:.1f} GB/s from {}: {}", reading.bytes_per_second / kGiga,
                     bytes_text(reading.buffer_bytes), reading.variant);
}

std::string rows_text(const BenchCase& what) {
  const std::size_t fed = std::min(what.prefill, kPrefillRows);
  if (fed == 0 || what.sequences == 0) return fmt::format("{}", what.rows());
  return fmt::format("{}+{}", fed, what.sequences);
}

std::string head_text(const BenchResult& result) {
  if (!result.screened_share) return {};
  return fmt::format("  {:<8}{:>7}  {:.0f}% of steps, {:.0f} rows recomputed, {} a step\n",
                     name_of(result.what.kind), rows_text(result.what), 100 * *result.screened_share,
                     result.head_rows_recomputed, bytes_text(static_cast<std::size_t>(result.cost.bytes)));
}

std::string shares_text(const BenchResult& result) {
  std::vector<std::string> parts;
  for (const auto& [op, share] : result.op_share) {
    constexpr double kWorthSaying = 0.005;
    if (share >= kWorthSaying) parts.push_back(fmt::format("{} {:.0f}%", op, 100 * share));
  }
  return fmt::format("  {:<8}{:>7}  {}\n", name_of(result.what.kind), rows_text(result.what),
                     fmt::join(parts, ", "));
}

Json spread_json(const std::vector<double>& values) {
  const Spread spread = spread_of(values);
  return {{"median", spread.median}, {"min", spread.least}, {"max", spread.most}};
}

Json load_json(const LoadFigure& load) {
  return {{"file_bytes", load.file_bytes},
          {"packed_bytes", load.packed_bytes},
          {"from_cache", load.from_cache},
          {"seconds", spread_json(load.seconds)},
          {"read_seconds", spread_json(load.read_seconds)},
          {"ratio", load.ratio()}};
}

std::string load_text(const LoadFigure& load) {
  return fmt::format("load     {:.3f} s{}, {:.2f} times reading {} into fresh memory ({:.3f} s)\n",
                     median(load.seconds), load.from_cache ? " from the packed file" : "", load.ratio(),
                     bytes_text(load.file_bytes), median(load.read_seconds));
}

constexpr const char* kEmulated =
    "of the PTX machine's run on this CPU: nothing here is a speed of a GPU, or says how fast one is";

Json gpu_json(const GpuFacts& gpu) {
  return {{"device", gpu.device},
          {"gpu", gpu.name},
          {"blocks", gpu.blocks},
          {"emulated", gpu.is_emulated},
          {"clock", gpu.is_emulated ? kEmulated : "CUDA events"}};
}

std::string cpu_text(const BenchReport& report) {
  std::string text = fmt::format("cpu      {}, {}, {} thread{}\n", report.cpu, report.isa, report.threads,
                                 report.threads == 1 ? "" : "s");
  text += fmt::format("memory   {}\n", reading_text(report.memory));
  if (report.cache) text += fmt::format("cache    {}\n", reading_text(*report.cache));
  if (report.load) text += load_text(*report.load);
  text += "peaks    ";
  for (std::size_t unit = 0; unit < cpu::kUnits; ++unit)
    text += fmt::format("{}{} {} ({})", unit == 0 ? "" : ", ", kUnitNames[unit],
                        flops_text(report.flops_per_second[unit]), report.instructions[unit]);
  return text + "\n";
}

std::string gpu_text(const BenchReport& report) {
  const GpuFacts& gpu = *report.gpu;
  std::string text = fmt::format("gpu      {}, {}, {} blocks ({})\n", printable(gpu.name), report.isa,
                                 gpu.blocks, gpu.device);
  text += fmt::format("clock    {}\n", gpu.is_emulated ? kEmulated : "CUDA events");
  if (!gpu.no_energy.empty()) text += fmt::format("tok/J    not measured: {}\n", printable(gpu.no_energy));
  text += fmt::format("memory   {}\n", reading_text(report.memory));
  text += fmt::format("peak     bf16 {} (mma.sync)\n", flops_text(report.flops_per_second[0]));
  return text;
}

// Numbers of four digits, so that columns stay in line.
std::string number_text(double value) {
  const int digits = value < 10 ? 3 : value < 100 ? 2 : value < 1000 ? 1 : 0;
  return fmt::format("{:.{}f}", value, digits);
}

}  // namespace

Json json_of(const BenchReport& report) {
  Json peaks = Json::object();
  for (std::size_t unit = 0; unit < cpu::kUnits; ++unit)
    peaks[kUnitNames[unit]] = report.gpu && unit != 0 ? Json() : Json(report.flops_per_second[unit] / kTera);
  Json probe = {{"read_gb_s", report.memory.bytes_per_second / kGiga},
                {"variant", report.memory.variant},
                {"buffer_bytes", report.memory.buffer_bytes},
                {"matrix_tflops", peaks}};
  if (report.cache) {
    probe["cache_read_gb_s"] = report.cache->bytes_per_second / kGiga;
    probe["cache_variant"] = report.cache->variant;
    probe["cache_buffer_bytes"] = report.cache->buffer_bytes;
  }
  Json results = Json::array();
  for (const BenchResult& result : report.results) results.push_back(result_json(report, result));
  Json json = {
      {"schema", 1},
      {"version", version()},
      {"commit", commit()},
      {"machine", {{"cpu", report.cpu}, {"isa", report.isa}, {"threads", report.threads}}},
      {"model",
       {{"name", report.model}, {"params", report.parameters}, {"weight_bytes", report.weight_bytes}}},
      {"probe", probe},
      {"results", results}};
  if (report.load) json["load"] = load_json(*report.load);
  if (report.gpu) json["machine"].update(gpu_json(*report.gpu));
  return json;
}

std::string text_of(const BenchReport& report) {
  std::string text =
      fmt::format("model    {}, {:.1f} M parameters, {} of weights\n", printable(report.model),
                  static_cast<double>(report.parameters) / 1e6, bytes_text(report.weight_bytes));
  text += report.gpu ? gpu_text(report) : cpu_text(report);
  text += fmt::format("\n{:<8}{:>9}{:>9}{:>10}{:>19}{:>10}{:>10}{:>9}{:>8}{:>9}\n", "", "rows", "context",
                      "tok/s", "min to max", "ms/step", "floor", "reached", "tasks", "tok/J");
  std::optional<double> watts;
  for (const BenchResult& result : report.results) {
    if (result.power_limit_w != watts) {
      watts = result.power_limit_w;
      text +=
          fmt::format("power limited to {} W, {:.1f} GB/s\n", *watts, result.peaks->bytes_per_second / kGiga);
    }
    const Spread tok_s = spread_of(result.tok_s);
    const double floor = floor_tok_s(report, report.cache ? *report.cache : report.memory, result);
    text += fmt::format("{:<8}{:>9}{:>9}{:>10}{:>19}{:>10}{:>10}{:>8.1f}%{:>8.0f}{:>9}\n",
                        name_of(result.what.kind), rows_text(result.what), result.what.context(),
                        number_text(tok_s.median),
                        fmt::format("{} to {}", number_text(tok_s.least), number_text(tok_s.most)),
                        number_text(1000 * tokens_per_step(result.what) / tok_s.median), number_text(floor),
                        100 * tok_s.median / floor, result.tasks_per_step,
                        result.tokens_per_joule ? number_text(*result.tokens_per_joule) : "-");
  }
  text += report.cache
              ? "\nfloor: tok/s that the cache and the arithmetic peaks allow (the weights fit into the "
                "last-level cache)\n"
              : "\nfloor: tok/s that the memory and the arithmetic peaks allow\n";
  std::string heads;
  for (const BenchResult& result : report.results) heads += head_text(result);
  if (!heads.empty()) text += "\nscreened head\n" + heads;
  if (report.gpu) return text;
  text += "\nwhere the time of worker 0 goes\n";
  for (const BenchResult& result : report.results) text += shares_text(result);
  return text;
}

TimelineFacts timeline_facts(const BenchReport& report, const BenchResult& result) {
  const ReadFigure& reading = report.cache ? *report.cache : report.memory;
  const MachinePeaks peaks = {.bytes_per_second = reading.bytes_per_second,
                              .flops_per_second = report.flops_per_second};
  const double moving = result.cost.bytes / reading.bytes_per_second;
  const double floor = floor_seconds(result.cost, peaks);
  const double flops = result.cost.all_flops();
  const std::string why =
      moving >= floor
          ? fmt::format("{} at {:.1f} GB/s", bytes_text(static_cast<std::size_t>(result.cost.bytes)),
                        reading.bytes_per_second / kGiga)
      : flops < kGiga ? fmt::format("{:.1f} MFLOP at the arithmetic peaks", flops / kMega)
                      : fmt::format("{:.1f} GFLOP at the arithmetic peaks", flops / kGiga);
  const bool is_token = result.what.kind == BenchKind::kDecode && result.what.rows() == 1;
  return {.title = fmt::format(
              "{} of {}",
              is_token ? "One token"
                       : fmt::format("A {} step of {} rows", name_of(result.what.kind), result.what.rows()),
              printable(std::filesystem::path(report.model).filename().string())),
          .subtitle = fmt::format("{}, {}, {} thread{}; sluice {}", report.cpu, report.isa, report.threads,
                                  report.threads == 1 ? "" : "s", version()),
          .n_workers = report.threads,
          .floor_seconds = floor,
          .floor = why};
}

}  // namespace sluice::cli
