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
#include "cli/device_names.h"
#include "cli/exit.h"
#include "cli/memory.h"
#include "cli/output.h"
#include "cuda/build.h"
#include "cuda/driver.h"

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

Json cuda_json(const cuda::Survey& found) {
  Json devices = Json::array();
  for (std::size_t i = 0; i < found.devices.size(); ++i) {
    const cuda::DeviceInfo& device = found.devices[i];
    devices.push_back({{"name", device.name},
                       {"bytes", device.bytes},
                       {"compute_capability", fmt::format("{}.{}", device.major, device.minor)},
                       {"sms", device.n_sms},
                       {"usable", found.reasons[i].empty()},
                       {"reason", found.reasons[i]}});
  }
  return {{"driver", found.driver}, {"devices", devices}};
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

// Usable if one GPU is; else the first one's reason stands for all.
std::string reason_of(const cuda::Survey& found) {
  if (!found.problem.empty()) return found.problem;
  const bool any =
      std::ranges::any_of(found.reasons, [](const std::string& reason) { return reason.empty(); });
  return any ? std::string() : found.reasons.front();
}

Device cuda_device(const cuda::Survey& found) {
  Device device = {.name = "cuda",
                   .reason = reason_of(found),
                   .description = "NVIDIA GPUs, through the driver's libcuda.so.1",
                   .details = {},
                   .json = cuda_json(found)};
  if (!found.driver.empty()) device.details.push_back("driver for CUDA " + found.driver);
  for (std::size_t i = 0; i < found.devices.size(); ++i) {
    const cuda::DeviceInfo& gpu = found.devices[i];
    const std::string problem =
        found.reasons[i].empty() ? "" : ", not usable: " + printable(found.reasons[i]);
    device.details.push_back(fmt::format("cuda:{}  {}, {}, compute capability {}.{}, {} SMs{}", i,
                                         printable(gpu.name), bytes_text(gpu.bytes), gpu.major, gpu.minor,
                                         gpu.n_sms, problem));
  }
  return device;
}

Device emulated_device() {
  const auto library = emulated_library();
  Device device = {.name = "emulated",
                   .reason = library ? "" : "the PTX machine's library is not beside the program",
                   .description = "the GPU's code, executed and checked on the CPU: for tests",
                   .details = {},
                   .json = Json::object()};
  if (library) device.details.emplace_back("which GPU: SLUICE_PTX_GPU (docs/ptx.md)");
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
  devices.push_back(emulated_device());
  devices.push_back(cuda_device(cuda::survey()));
  const auto built_in = built_in_devices();
  for (Device& device : devices) {
    if (std::ranges::find(built_in, std::string_view(device.name)) != built_in.end()) continue;
    device.reason = fmt::format("not built into this version: {}{}", cuda::why_not_built_in(),
                                device.reason.empty() ? "" : "; " + device.reason);
  }
  return devices;
}

// As default_device says, from what is known already.
std::string_view default_of(const std::vector<Device>& devices) {
  const auto cuda = std::ranges::find(devices, std::string_view("cuda"), &Device::name);
  const Json& gpus = cuda->json["devices"];
  const bool usable = cuda->reason.empty() && !gpus.empty() && gpus.front()["usable"].get<bool>();
  return usable ? "cuda" : "cpu";
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
  const Json json = {{"default", default_of(devices)}, {"devices", list}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string as_text(const std::vector<Device>& devices) {
  std::string text;
  for (const Device& device : devices) {
    const bool is_default = device.name == default_of(devices);
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
