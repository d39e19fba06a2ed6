// Options whose values are taken as they are written. CLI11 by itself makes an empty text the same as no text, reads
// 010 as eight, lets NaN through range checks, and takes "[a,b]" apart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

namespace sluice::cli {

CLI::Option* add_text(CLI::App& command, const std::string& names, std::optional<std::string>& value,
                      const std::string& description);

// A whole decimal number from `low` to `high`.
CLI::Option* add_whole(CLI::App& command, const std::string& names, std::optional<std::uint64_t>& value,
                       std::uint64_t low, std::uint64_t high, const std::string& description);

// A finite decimal number from `low` to `high`.
CLI::Option* add_number(CLI::App& command, const std::string& names, std::optional<float>& value, double low,
                        double high, const std::string& description);

}  // namespace sluice::cli
