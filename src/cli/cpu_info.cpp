#include "cli/cpu_info.h"

#include <array>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>

#include "cpu/placement.h"

namespace sluice::cli {
namespace {

// In the order in which they are shown.
constexpr std::array<std::string_view, 19> kUseful = {
    "sse4_2",   "avx",      "f16c",        "fma",         "avx2",        "avx_vnni", "avx512f",
    "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8",
    "amx_bf16",                                      // x86-64
    "asimd",    "asimddp",  "i8mm",        "bf16"};  // AArch64

std::string after_colon(const std::string& line) {
  const std::size_t colon = line.find(':');
  const std::size_t begin = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
  return begin == std::string::npos ? std::string() : line.substr(begin);
}

}  // namespace

CpuInfo cpu_info() {
  CpuInfo info;
  info.threads = cpu::usable_processors();
  std::set<std::string, std::less<>> flags;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line) && !line.empty();) {  // of the first processor
    if (line.starts_with("model name")) info.name = after_colon(line);
    if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
    std::istringstream words(after_colon(line));
    for (std::string word; words >> word;) flags.insert(word);
  }
  for (const std::string_view name : kUseful)
    if (flags.contains(name)) info.isa.emplace_back(name);
  return info;
}

}  // namespace sluice::cli
