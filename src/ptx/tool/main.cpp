// sluice-ptx: runs CUDA kernels, as PTX text, on the CPU, and says what is wrong with them.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <exception>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "base/error.h"
#include "base/mapped_file.h"
#include "ptx/machine.h"
#include "ptx/tool/arguments.h"

namespace sluice::ptx {
namespace {

enum ExitCode : int { kGood = 0, kFaults = 1, kFailed = 2 };

constexpr std::size_t kMaxModule = std::size_t{256} << 20U;  // bytes

struct Options {
  std::string file;
  std::string kernel;
  std::vector<std::uint32_t> grid = {1};
  std::vector<std::uint32_t> block = {32};
  std::vector<std::string> arguments;
  std::string gpu = "rtx3090";
  bool vary_inexact = false;
  std::size_t lines = 20;
  LaunchOptions launch;
};

// Whether one is floating point and the other isn't; bits (.b32) may be either.
bool differ_in_kind(Type a, Type b) {
  const auto is_bits = [](Type type) { return type <= Type::kB128; };
  const auto is_real = [](Type type) { return type >= Type::kF16; };
  return !is_bits(a) && !is_bits(b) && is_real(a) != is_real(b);
}

std::array<std::uint32_t, 3> triple(std::vector<std::uint32_t> values) {
  values.resize(3, 1);
  return {values[0], values[1], values[2]};
}

struct Run {
  explicit Run(const Options& options)
      : gpu(gpu_named(options.gpu)),
        memory(gpu.memory_bytes),
        module(parse(read_text_file(options.file, kMaxModule), options.file), memory, gpu) {
    kernel = module.find_kernel(options.kernel);
    if (kernel == nullptr) {
      std::string names;
      for (const Kernel& other : module.kernels()) names += (names.empty() ? "" : ", ") + other.name;
      throw Error(fmt::format("no kernel is called '{}'", options.kernel), options.file,
                  names.empty() ? "it has none" : "it has " + names);
    }
    if (options.arguments.size() != kernel->parameters.size()) {
      throw Error(fmt::format("{} takes {}, but --arg is given {}", kernel->name,
                              counted(kernel->parameters.size(), "parameter"),
                              counted(options.arguments.size(), "time")));
    }
    std::vector<std::byte> parameters(kernel->parameter_bytes);
    for (std::size_t i = 0; i < kernel->parameters.size(); ++i) {
      arguments.emplace_back(options.arguments[i], memory, options.launch.seed + i);
      const std::span<const std::byte> value = arguments.back().value();
      const KernelParameter& parameter = kernel->parameters[i];
      if (value.size() != parameter.size) {
        throw Error(fmt::format("--arg {} has {}, parameter {} takes {}", options.arguments[i],
                                counted(value.size(), "byte"), i + 1, parameter.size));
      }
      if (differ_in_kind(arguments.back().type(), parameter.type)) {
        throw Error(fmt::format("--arg {}: parameter {} is a {}", options.arguments[i], i + 1,
                                parameter.type >= Type::kF16 ? "floating-point number" : "whole number"));
      }
      std::ranges::copy(value, parameters.begin() + parameter.offset);
    }
    LaunchOptions launch_options = options.launch;
    launch_options.grid = triple(options.grid);
    launch_options.block = triple(options.block);
    launch_options.max_dynamic_shared = gpu.shared_per_block_optin;
    if (options.vary_inexact) launch_options.vary_inexact = options.launch.seed;
    result = launch(*kernel, memory, gpu, parameters, launch_options);
    for (const Finding& finding : result.findings) {
      const std::string_view name = name_of(finding.kind);
      const std::string kind = finding.message.starts_with(name) ? "" : fmt::format("{}: ", name);
      const std::string times = finding.count > 1 ? fmt::format(" ({} times)", finding.count) : "";
      fmt::print("{}{}{}\n", kind, finding.message, times);
    }
    if (!result.completed) fmt::print("the launch stopped there: what follows was counted until then\n");
  }

  const Gpu& gpu;
  Memory memory;
  LoadedModule module;
  const Kernel* kernel = nullptr;
  std::vector<Argument> arguments;
  LaunchResult result;
};

std::string percent(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? ""
                    : fmt::format(" ({:.1f}% of the ideal)",
                                  100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

int run_kernel(const Options& options) {
  Run run(options);
  for (const Argument& argument : run.arguments) fmt::print("{}", argument.save(run.memory));
  const Counters& counters = run.result.report.counters;
  fmt::print("{}, {}, {}\n", counted(counters.warp_instructions, "warp instruction"),
             counted(counters.thread_instructions, "thread instruction"),
             counted(counters.barriers, "block barrier"));
  if (options.launch.checks) {
    fmt::print("global memory: {}, {} of 32 bytes{}\n", counted(counters.global_requests, "request"),
               counted(counters.global_sectors, "sector"),
               percent(counters.global_sectors, counters.global_sectors_ideal));
    fmt::print("shared memory: {}{}\n", counted(counters.shared_wavefronts, "wavefront"),
               percent(counters.shared_wavefronts, counters.shared_wavefronts_ideal));
    fmt::print("{}, {}\n", counted(counters.atomics, "atomic"), counted(counters.waits, "poll"));
    for (const Counters::Traffic& traffic : counters.traffic)
      fmt::print("{}: {} read, {} written\n", printable(traffic.name), counted(traffic.read, "byte"),
                 traffic.written);
    if (!run.result.completed) return kFaults;
    fmt::print("critical path, modelled: {:.0f} cycles, {:.2f} µs\n", run.result.report.cycles,
               run.result.report.cycles / run.gpu.clock_mhz);
    for (const PathStep& step : run.result.report.critical_path) {
      fmt::print("  {:10.0f} … {:10.0f}  block {}, warp {}, {}: {}\n", step.begin, step.end, step.block,
                 step.warp, source_text(run.module.code(), step.pc), step.what);
    }
  }
  return run.result.findings.empty() ? kGood : kFaults;
}

// The source lines by the virtual time that groups of lanes spent on them.
int explain_kernel(const Options& options) {
  if (!options.launch.checks) throw Error("explain counts with the checks", "--no-checks", "leave it out");
  Run run(options);
  std::map<std::string, LineCost> by_place;
  double total = 0;
  for (std::size_t pc = 0; pc < run.result.report.lines.size(); ++pc) {
    const LineCost& cost = run.result.report.lines[pc];
    if (cost.executed == 0) continue;
    LineCost& sum = by_place[source_text(run.module.code(), static_cast<std::uint32_t>(pc))];
    sum.executed += cost.executed;
    sum.lanes += cost.lanes;
    sum.cycles += cost.cycles;
    total += cost.cycles;
  }
  std::vector<std::pair<std::string, LineCost>> lines(by_place.begin(), by_place.end());
  std::ranges::sort(lines, std::greater(), [](const auto& line) { return line.second.cycles; });
  lines.resize(std::min(lines.size(), options.lines));
  fmt::print("{:>6} {:>14} {:>14} {:>6}  source line\n", "time", "cycles", "warp instr.", "lanes");
  for (const auto& [place, cost] : lines) {
    fmt::print("{:5.1f}% {:14.0f} {:14} {:6.1f}  {}\n", total == 0 ? 0.0 : 100 * cost.cycles / total,
               cost.cycles, cost.executed,
               static_cast<double>(cost.lanes) / static_cast<double>(cost.executed), place);
  }
  return run.result.findings.empty() ? kGood : kFaults;
}

// The library takes what doesn't fit, and signs, without a word.
template <typename T>
CLI::Validator whole_number() {
  return {[](const std::string& text) {
            T value{};
            const char* end = text.data() + text.size();
            const auto [last, error] = std::from_chars(text.data(), end, value);
            return error == std::errc{} && last == end ? ""
                                                       : fmt::format("'{}' is no whole number from 0 to {}",
                                                                     text, std::numeric_limits<T>::max());
          },
          ""};
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("file", options.file, "PTX text, as nvcc -ptx -lineinfo writes it")->required();
  app.add_option("--kernel", options.kernel, "its name in the PTX (extern \"C\", or mangled)")->required();
  for (CLI::Option* shape : {app.add_option("--grid", options.grid, "blocks: X[,Y,Z]"),
                             app.add_option("--block", options.block, "threads of a block: X[,Y,Z]")})
    shape->delimiter(',')->expected(1, 3)->check(whole_number<std::uint32_t>());
  app.add_option(
         "--arg", options.arguments,
         "one for each parameter: u32:5, bf16:0.5, struct:x.npy, x.npy, zeros:f32[64x64], random:bf16[1024], "
         "poison:s32[8]; a buffer's ,out=y.npy is written afterwards")
      ->delimiter('\0');
  app.add_option("--shared", options.launch.dynamic_shared, "bytes of dynamic shared memory")
      ->check(whole_number<std::uint32_t>());
  app.add_flag("--cooperative", options.launch.cooperative,
               "a cooperative launch: all blocks must fit at once");
  app.add_option("--seed", options.launch.seed, "of the order in which warps run")
      ->check(whole_number<std::uint64_t>());
  app.add_flag("--vary-inexact", options.vary_inexact,
               "results that PTX only bounds (mma, .approx) vary by the seed");
  app.add_flag("--checks,!--no-checks", options.launch.checks, "races, counters, virtual time");
  app.add_option("--gpu", options.gpu, "rtx3090, a6000, rtx4090, rtx5090, a100, h100, h200, t4 or tiny");
  app.add_option("--max-instructions", options.launch.max_warp_instructions,
                 "warp instructions after which to stop; 0: never")
      ->check(whole_number<std::uint64_t>());
}

int run_program(int argc, char** argv) {
  CLI::App app(
      "Runs CUDA kernels, as PTX text, on the CPU: harsher than a GPU, with a race detector and a profiler's "
      "counters.",
      "sluice-ptx");
  app.require_subcommand(1);
  Options options;
  CLI::App* run = app.add_subcommand("run", "run a kernel; print results, faults, counters, critical path");
  CLI::App* explain =
      app.add_subcommand("explain", "run a kernel; print its hottest source lines by virtual time");
  add_options(*run, options);
  add_options(*explain, options);
  explain->add_option("--lines", options.lines, "how many to print")->check(whole_number<std::uint64_t>());
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    const std::string command = run->parsed() ? " run" : explain->parsed() ? " explain" : "";
    throw Error(error.what(), {}, fmt::format("see sluice-ptx{} --help", command));
  }
  return run->parsed() ? run_kernel(options) : explain_kernel(options);
}

}  // namespace
}  // namespace sluice::ptx

int main(int argc, char** argv) {
  try {
    return sluice::ptx::run_program(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sluice-ptx: %s\n", error.what());
    return sluice::ptx::kFailed;
  }
}
