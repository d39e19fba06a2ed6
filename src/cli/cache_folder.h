// Where what can be made again is kept.
#pragma once

#include <filesystem>
#include <optional>

namespace sluice::cli {

// $SLUICE_CACHE_DIR, $XDG_CACHE_HOME/sluice or ~/.cache/sluice; nothing without any of these. It need not be there.
std::optional<std::filesystem::path> cache_folder();

}  // namespace sluice::cli
