// The commands and options as the help shows them, for what is generated from them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace sluice::cli {

struct OptionHelp {
  std::vector<std::string> names;  // "-p", "--prompt"; empty for the positional MODEL
  std::string value;               // "TEXT", "FILE", "on|off"; empty for a flag
  std::string description;

  bool takes_file() const { return value == "FILE"; }
  std::vector<std::string> choices() const;  // "on", "off"; empty if the value is free
};

struct CommandHelp {
  std::string name;
  std::string description;
  std::vector<OptionHelp> options;
};

std::vector<OptionHelp> options_of(const CLI::App& app);
std::vector<CommandHelp> commands_of(const CLI::App& program);

// `text` with every `from` replaced by `to`.
std::string replaced(std::string text, std::string_view from, std::string_view to);

}  // namespace sluice::cli
