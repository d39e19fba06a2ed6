#include "cli/cache_folder.h"

#include <cstdlib>

namespace sluice::cli {
namespace {

std::filesystem::path variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::optional<std::filesystem::path> cache_folder() {
  if (auto own = variable("SLUICE_CACHE_DIR"); !own.empty()) return own;
  // The XDG base directory specification: relative paths are to be ignored.
  if (const auto base = variable("XDG_CACHE_HOME"); base.is_absolute()) return base / "sluice";
  if (const auto home = variable("HOME"); home.is_absolute()) return home / ".cache" / "sluice";
  return std::nullopt;
}

}  // namespace sluice::cli
