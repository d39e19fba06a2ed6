#include <fmt/format.h>

#include "base/error.h"
#include "ptx/checks.h"

namespace sluice::ptx {

std::string_view name_of(FindingKind kind) {
  switch (kind) {
    case FindingKind::kRace:
      return "race";
    case FindingKind::kNonCoherentRead:
      return "non-coherent read";
    case FindingKind::kUninitialised:
      return "uninitialised read";
    case FindingKind::kOutOfBounds:
      return "out of bounds";
    case FindingKind::kMisaligned:
      return "misaligned";
    case FindingKind::kPartialBarrier:
      return "partial barrier";
    case FindingKind::kAbsentLane:
      return "absent lane";
    case FindingKind::kCopyInFlight:
      return "copy in flight";
    case FindingKind::kDeadlock:
      return "deadlock";
    case FindingKind::kLivelock:
      return "livelock";
    case FindingKind::kTrap:
      return "trap";
    case FindingKind::kUnsupported:
      return "unsupported";
    case FindingKind::kLimit:
      return "limit";
    case FindingKind::kOther:
      break;
  }
  return "fault";
}

namespace {

std::string file_of(const LaunchShape& shape, const CodeLine& line) {
  const auto found = shape.code->module->files.find(line.source.file);
  return line.source.file == 0 || found == shape.code->module->files.end() ? std::string()
                                                                           : printable(found->second);
}

}  // namespace

std::string place_text(const LaunchShape& shape, std::uint32_t pc, std::uint32_t block, std::uint32_t warp,
                       std::uint32_t lane) {
  const CodeLine& line = shape.code->lines[pc];
  const std::string file = file_of(shape, line);
  const std::string where = file.empty()
                                ? fmt::format("PTX line {}", line.ptx_line)
                                : fmt::format("{}:{} (PTX line {})", file, line.source.line, line.ptx_line);
  return fmt::format("kernel {}, {}, block {}, warp {}, lane {}", printable(shape.kernel), where, block, warp,
                     lane);
}

Finding finding_at(const LaunchShape& shape, FindingKind kind, std::string_view what, std::uint32_t pc,
                   std::uint32_t block, std::uint32_t warp, std::uint32_t lane) {
  const CodeLine& line = shape.code->lines[pc];
  Finding finding;
  finding.kind = kind;
  finding.message = fmt::format("{}: {}", what, place_text(shape, pc, block, warp, lane));
  finding.pc = pc;
  finding.file = file_of(shape, line);
  finding.line = line.source.line;
  finding.ptx_line = line.ptx_line;
  finding.block = block;
  finding.warp = warp;
  finding.lane = lane;
  return finding;
}

}  // namespace sluice::ptx
