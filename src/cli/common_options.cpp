#include "cli/common_options.h"

#include <limits>
#include <random>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/device_names.h"
#include "cli/exit.h"
#include "cli/terminal.h"
#include "cli/typed_options.h"
#include "cli/version.h"

namespace sluice::cli {
void add_common_options(CLI::App& command, CommonOptions& options) {
  add_text(command, "MODEL", options.model,
           "folder with config.json and safetensors, a .gguf file, or an id such as Qwen/Qwen3.5-0.8B in the "
           "local "
           "Hugging Face cache (default: the bundled model)")
      ->type_name("MODEL");
  add_options_without_model(command, options);
}

void add_options_without_model(CLI::App& command, CommonOptions& options) {
  constexpr std::uint64_t kMaxThreads = 4096;
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  const std::string group = "Common options";
  options.device = "cpu";
  command.set_help_flag("-h,--help", "print this help and exit")->group(group);
  command.set_version_flag("--version", version_text(), "print version, commit, isa and devices, and exit")
      ->group(group);
  command
      .add_option("--device", options.device,
                  "what computes the model (default: cuda if it can be used, else cpu; cuda:N is the GPU "
                  "with number N)")
      ->type_name(fmt::format("{}", fmt::join(built_in_devices(), "|")))
      ->group(group);
  add_whole(command, "-t,--threads", options.threads, 1, kMaxThreads,
            "threads to compute with, at most one for each usable processor (default: that many; the oracle "
            "uses one)")
      ->group(group);
  command.add_flag("--no-pin", options.no_pin, "let the system move the threads from core to core")
      ->group(group);
  command
      .add_flag("--cache", options.cache,
                "keep the packed weights in a file for the next start (in $SLUICE_CACHE_DIR, or "
                "~/.cache/sluice); cpu only")
      ->group(group);
  add_whole(command, "-c,--ctx", options.context, 1, kMost, "positions that a sequence may have")
      ->group(group);
  add_whole(command, "--seed", options.seed, 0, kMost,
            "seed of the random numbers (default: random, told on stderr)")
      ->group(group);
  command.add_flag("-v,--verbose", options.verbose, "say more")->group(group);
}

void add_head_option(CLI::App& command, CommonOptions& options) {
  options.chooses_head = true;
  add_text(
      command, "--head", options.head,
      "how logits are computed: all of them, or those that bounds from a narrower copy of the head's weights "
      "leave in question; the tokens are the same (default: what is faster; cpu only)")
      ->type_name("full|screened")
      ->group("Common options");
}

void choose_device(const CLI::App& command, CommonOptions& options) {
  if (command.get_option("--device")->empty()) options.device = default_device();
}

void check_device(const CommonOptions& options) {
  check_device_name(options.device);
  if (options.head && *options.head != "full" && *options.head != "screened")
    throw UsageError(fmt::format("\"{}\" is not a way to compute the head", *options.head), "--head",
                     "use full or screened");
  if (options.head && *options.head == "screened" && options.device != "cpu")
    throw UsageError(fmt::format("device {} computes all logits", options.device), "--head",
                     "use --head full, or --device cpu");
}

std::uint64_t choose_seed(const CommonOptions& options) {
  if (options.seed) return *options.seed;
  std::random_device random;
  // 53 bits: JSON readers that keep numbers as doubles give the same seed back.
  const std::uint64_t seed = ((std::uint64_t{random()} << 32U) | random()) >> 11U;
  to_stderr(fmt::format("seed: {}\n", seed));
  return seed;
}

}  // namespace sluice::cli
