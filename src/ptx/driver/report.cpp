#include "ptx/driver/report.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace sluice::ptx::api {
namespace {

using Json = nlohmann::ordered_json;

Json findings_of(const LaunchResult& result) {
  Json findings = Json::array();
  for (const Finding& finding : result.findings)
    findings.push_back({{"kind", name_of(finding.kind)},
                        {"message", finding.message},
                        {"file", finding.file},
                        {"line", finding.line},
                        {"ptx_line", finding.ptx_line},
                        {"block", finding.block},
                        {"warp", finding.warp},
                        {"lane", finding.lane},
                        {"count", finding.count}});
  return findings;
}

Json counters_of(const Counters& counters) {
  Json traffic = Json::array();
  for (const Counters::Traffic& each : counters.traffic)
    traffic.push_back({{"name", each.name}, {"read", each.read}, {"written", each.written}});
  return {{"warp_instructions", counters.warp_instructions},
          {"thread_instructions", counters.thread_instructions},
          {"barriers", counters.barriers},
          {"global_requests", counters.global_requests},
          {"global_sectors", counters.global_sectors},
          {"global_sectors_ideal", counters.global_sectors_ideal},
          {"shared_wavefronts", counters.shared_wavefronts},
          {"shared_wavefronts_ideal", counters.shared_wavefronts_ideal},
          {"atomics", counters.atomics},
          {"waits", counters.waits},
          {"traffic", std::move(traffic)}};
}

Json path_of(const LaunchReport& report) {
  Json path = Json::array();
  for (const PathStep& step : report.critical_path)
    path.push_back({{"begin", step.begin},
                    {"end", step.end},
                    {"block", step.block},
                    {"warp", step.warp},
                    {"what", step.what}});
  return path;
}

}  // namespace

void report_launch(const Kernel& kernel, const LaunchOptions& options, std::uint64_t number,
                   const LaunchResult& result) {
  const char* path = std::getenv("SLUICE_PTX_REPORT");
  if (path == nullptr || *path == '\0') return;
  const Json line = {{"launch", number},
                     {"kernel", kernel.name},
                     {"grid", options.grid},
                     {"block", options.block},
                     {"dynamic_shared", options.dynamic_shared},
                     {"cooperative", options.cooperative},
                     {"seed", options.seed},
                     {"checks", options.checks},
                     {"completed", result.completed},
                     {"findings", findings_of(result)},
                     {"counters", counters_of(result.report.counters)},
                     {"cycles", result.report.cycles},
                     {"critical_path", path_of(result.report)}};
  std::ofstream file(path, std::ios::app);
  file << line.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  file.flush();
  if (!file) throw Error("SLUICE_PTX_REPORT: the file can't be written", path);
}

}  // namespace sluice::ptx::api
