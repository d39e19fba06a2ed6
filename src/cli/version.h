// Which program this is.
#pragma once

#include <string>
#include <string_view>

namespace sluice::cli {

std::string_view version();  // "0.1.0"
std::string_view commit();   // "1a2b3c4d5e6f", "-dirty" behind it if the sources were changed; "unknown"

// What --version prints: version, commit, instruction sets and devices built in.
std::string version_text();

}  // namespace sluice::cli
