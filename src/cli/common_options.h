// The options that every command has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace CLI {
class App;
}

namespace sluice::cli {

struct CommonOptions {
  std::optional<std::string> model;  // as given; see model_path.h
  std::string device;                // without --device the cpu, until `choose_device`
  std::optional<std::uint64_t> threads;
  bool no_pin = false;
  bool cache = false;
  std::optional<std::uint64_t> context;  // positions
  std::optional<std::uint64_t> seed;
  bool verbose = false;
  bool chooses_head = false;  // has --head; other commands take the full head
  std::optional<std::string> head;
};

// Adds the options and MODEL to `command`.
void add_common_options(CLI::App& command, CommonOptions& options);

// Adds the options only.
void add_options_without_model(CLI::App& command, CommonOptions& options);

// Adds --head: for commands that choose tokens. Without it the device takes what is faster.
void add_head_option(CLI::App& command, CommonOptions& options);

// For commands that compute: without --device, the default one (device_names.h).
void choose_device(const CLI::App& command, CommonOptions& options);

// Throws UsageError for a device or a --head that doesn't exist, Error for a device that is not built into this program.
void check_device(const CommonOptions& options);

// The seed given, or a random one, which is then printed on standard error.
std::uint64_t choose_seed(const CommonOptions& options);

}  // namespace sluice::cli
