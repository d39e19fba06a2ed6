#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include "base/error.h"
#include "ptx/checks.h"

namespace sluice::ptx {

std::string_view name_of(FindingKind kind) {
  static constexpr std::string_view kNames[] = {"race",
                                                "non-coherent read",
                                                "uninitialised read",
                                                "out of bounds",
                                                "misaligned",
                                                "partial barrier",
                                                "absent lane",
                                                "copy in flight",
                                                "deadlock",
                                                "livelock",
                                                "trap",
                                                "unsupported",
                                                "limit",
                                                "fault"};
  static_assert(std::size(kNames) == static_cast<std::size_t>(FindingKind::kOther) + 1);
  return kNames[static_cast<std::size_t>(kind)];
}

namespace {

constexpr std::size_t kMaxInlined = 16;  // calls that a message names

std::string file_of(const Module& module, const SourceLine& source) {
  const auto found = module.files.find(source.file);
  return source.file == 0 || found == module.files.end() ? std::string() : printable(found->second);
}

}  // namespace

const Allocation* LaunchShape::allocation_before(std::uint64_t address) const {
  const auto after = std::ranges::upper_bound(allocations, address, {}, &Allocation::address);
  return after == allocations.begin() ? nullptr : &*std::prev(after);
}

std::string counted(std::uint64_t n, std::string_view thing) {
  return fmt::format("{} {}{}", n, thing, n == 1 ? "" : "s");
}

std::string source_text(const Code& code, std::uint32_t pc) {
  const CodeLine& line = code.lines[pc];
  const std::string file = file_of(*code.module, line.source);
  if (file.empty()) return fmt::format("PTX line {}", line.ptx_line);
  std::string text = fmt::format("{}:{}", file, line.source.line);
  std::uint32_t call = line.source.call;
  for (std::size_t i = 0; i < kMaxInlined && call != 0; ++i) {
    const SourceLine& caller = code.module->calls[call - 1];
    text += fmt::format(", inlined at {}:{}", file_of(*code.module, caller), caller.line);
    call = caller.call;
  }
  return text;
}

std::string place_text(const LaunchShape& shape, std::uint32_t pc, std::uint32_t block, std::uint32_t warp,
                       std::uint32_t lane) {
  const CodeLine& line = shape.code->lines[pc];
  const bool known = !file_of(*shape.code->module, line.source).empty();
  return fmt::format("kernel {}, {}{}, block {}, warp {}, lane {}", printable(shape.kernel),
                     source_text(*shape.code, pc), known ? fmt::format(" (PTX line {})", line.ptx_line) : "",
                     block, warp, lane);
}

Finding finding_at(const LaunchShape& shape, FindingKind kind, std::string_view what, std::uint32_t pc,
                   std::uint32_t block, std::uint32_t warp, std::uint32_t lane) {
  const CodeLine& line = shape.code->lines[pc];
  Finding finding;
  finding.kind = kind;
  finding.message = fmt::format("{}: {}", what, place_text(shape, pc, block, warp, lane));
  finding.pc = pc;
  finding.file = file_of(*shape.code->module, line.source);
  finding.line = line.source.line;
  finding.ptx_line = line.ptx_line;
  finding.block = block;
  finding.warp = warp;
  finding.lane = lane;
  return finding;
}

}  // namespace sluice::ptx
