// The look of --help.
#pragma once

#include <memory>

#include <CLI/CLI.hpp>

namespace sluice::cli {

std::shared_ptr<CLI::FormatterBase> make_help_format();

}  // namespace sluice::cli
