// sluice devices: what is there to compute with, and why something is not usable.
#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/common_options.h"
#include "cli/cpu_info.h"
#include "cli/cuda_info.h"
#include "cli/exit.h"
#include "cli/memory.h"
#include "cli/output.h"

namespace sluice::cli {
namespace {

struct Options {
  CommonOptions common;
  bool json = false;
};

struct Device {
  std::string name;
  std::string reason;                // why it is not usable; empty if it is
  std::string description;           // what it is
  std::vector<std::string> details;  // what this machine has for it
  Json json;                         // the same, for scripts
};

Json cuda_json(const CudaInfo& cuda) {
  Json devices = Json::array();
  for (const CudaDevice& device : cuda.devices) {
    devices.push_back({{"name", device.name},
                       {"bytes", device.bytes},
                       {"compute_capability", fmt::format("{}.{}", device.major, device.minor)}});
  }
  return {{"driver", cuda.driver}, {"devices", devices}};
}

Device cpu_device(const CpuInfo& cpu) {
  const std::string name = cpu.name.empty() ? "a processor without name" : printable(cpu.name);
  return {.name = "cpu",
          .reason = "",
          .description = "all cores, with the instruction sets that they have",
          .details = {fmt::format("{}, {} threads", name, cpu.threads),
                      fmt::format("isa: {}",
                                  cpu.isa.empty() ? "portable" : fmt::format("{}", fmt::join(cpu.isa, " ")))},
          .json = {{"cpu", cpu.name}, {"threads", cpu.threads}, {"isa", cpu.isa}}};
}

Device cuda_device(const CudaInfo& cuda) {
  Device device = {.name = "cuda",
                   .reason = cuda.problem,
                   .description = "NVIDIA GPUs, through the driver's libcuda.so.1",
                   .details = {},
                   .json = cuda_json(cuda)};
  if (!cuda.driver.empty()) device.details.push_back("driver for CUDA " + cuda.driver);
  for (std::size_t i = 0; i < cuda.devices.size(); ++i) {
    const CudaDevice& gpu = cuda.devices[i];
    device.details.push_back(fmt::format("cuda:{}  {}, {}, compute capability {}.{}", i, printable(gpu.name),
                                         bytes_text(gpu.bytes), gpu.major, gpu.minor));
  }
  return device;
}

std::vector<Device> all_devices() {
  std::vector<Device> devices;
  devices.push_back({.name = "oracle",
                     .reason = "",
                     .description = "plain loops in fp32 on one thread: slow, the measure of the others",
                     .details = {},
                     .json = Json::object()});
  devices.push_back(cpu_device(cpu_info()));
  devices.push_back({.name = "emulated",
                     .reason = "",
                     .description = "the GPU's code, executed on the CPU: for tests",
                     .details = {},
                     .json = Json::object()});
  devices.push_back(cuda_device(cuda_info()));
  const auto built_in = built_in_devices();
  for (Device& device : devices) {
    if (std::ranges::find(built_in, std::string_view(device.name)) != built_in.end()) continue;
    device.reason = "not built into this version" + (device.reason.empty() ? "" : "; " + device.reason);
  }
  return devices;
}

std::string as_json(const std::vector<Device>& devices) {
  Json list = Json::array();
  for (const Device& device : devices) {
    Json entry = device.json;
    entry["name"] = device.name;
    entry["usable"] = device.reason.empty();
    entry["reason"] = device.reason;
    list.push_back(entry);
  }
  const Json json = {{"default", built_in_devices().front()}, {"devices", list}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string as_text(const std::vector<Device>& devices) {
  std::string text;
  for (const Device& device : devices) {
    const bool is_default = device.name == built_in_devices().front();
    const std::string state = device.reason.empty() ? (is_default ? "usable, the default" : "usable")
                                                    : "not usable: " + printable(device.reason);
    text += fmt::format("{:<10}{}\n{:<10}{}\n", device.name, state, "", device.description);
    for (const std::string& detail : device.details) text += fmt::format("{:<10}{}\n", "", detail);
  }
  return text;
}

int run(const Options& options) {
  check_device(options.common);
  const std::vector<Device> devices = all_devices();
  to_stdout(options.json ? as_json(devices) : as_text(devices));
  return kGood;
}

}  // namespace

Command add_devices(CLI::App& program) {
  CLI::App& command = *program.add_subcommand(
      "devices", "tell what there is to compute with, and why something is not usable");
  const auto options = std::make_shared<Options>();
  command.add_flag("--json", options->json, "print JSON");
  add_options_without_model(command, options->common);
  return {&command, [options] { return run(*options); }};
}

}  // namespace sluice::cli
