#include "cli/help_tree.h"

#include <CLI/CLI.hpp>

#include "cli/device_names.h"

namespace sluice::cli {

std::vector<std::string> OptionHelp::choices() const {
  if (value.find('|') != std::string::npos) return CLI::detail::split(value, '|');
  if (built_in_devices().size() == 1 && value == built_in_devices().front()) return {value};
  return {};
}

std::vector<OptionHelp> options_of(const CLI::App& app) {
  std::vector<OptionHelp> options;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;  // hidden
    OptionHelp help;
    for (const std::string& name : option->get_snames()) help.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) help.names.push_back("--" + name);
    if (option->get_type_size() != 0) help.value = option->get_type_name();
    help.description = option->get_description();
    options.push_back(help);
  }
  return options;
}

std::vector<CommandHelp> commands_of(const CLI::App& program) {
  std::vector<CommandHelp> commands;
  for (const CLI::App* command : program.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_group().empty()) continue;  // hidden
    commands.push_back({command->get_name(), command->get_description(), options_of(*command)});
  }
  return commands;
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

}  // namespace sluice::cli
