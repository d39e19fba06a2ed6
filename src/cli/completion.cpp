// sluice completion: what a shell needs to complete command lines, made from the program's own options.
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/exit.h"
#include "cli/help_tree.h"
#include "cli/output.h"

namespace sluice::cli {
namespace {

std::string quoted(const std::string& text) {
  return "'" + replaced(text, "'", "'\\''") + "'";
}

std::string all_names(const std::vector<OptionHelp>& options) {
  std::vector<std::string> names;
  for (const OptionHelp& option : options)
    names.insert(names.end(), option.names.begin(), option.names.end());
  return fmt::format("{}", fmt::join(names, " "));
}

// What bash offers after `option`: files, the choices, or nothing since any text may follow.
std::string bash_value(const std::string& command, const OptionHelp& option) {
  std::vector<std::string> patterns;
  for (const std::string& name : option.names) patterns.push_back(fmt::format("{}:{}", command, name));
  std::string action;
  if (option.takes_file()) {
    action = "mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); ";
  } else if (!option.choices().empty()) {
    action = fmt::format("mapfile -t COMPREPLY < <(compgen -W \"{}\" -- \"$word\"); ",
                         fmt::join(option.choices(), " "));
  }
  return fmt::format("    {}) {}return ;;\n", fmt::join(patterns, "|"), action);
}

std::string bash_script(const CLI::App& program) {
  std::string names;
  std::string values;
  std::string options;
  for (const CommandHelp& command : commands_of(program)) {
    names += command.name + " ";
    options += fmt::format("    {}) options=\"{}\" ;;\n", command.name, all_names(command.options));
    for (const OptionHelp& option : command.options)
      if (!option.names.empty() && !option.value.empty()) values += bash_value(command.name, option);
  }
  return fmt::format(R"(# bash completion for sluice
_sluice() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}} options=
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "{}{}" -- "$word")
    return
  fi
  case $command:$previous in
{}  esac
  case $command in
{}  esac
  if [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
  else
    mapfile -t COMPREPLY < <(compgen -d -- "$word"; compgen -f -X '!*.gguf' -- "$word")
  fi
}}
complete -o filenames -F _sluice sluice
)",
                     names, all_names(options_of(program)), values, options);
}

// One argument of zsh's _arguments, "(-p --prompt)"{-p,--prompt}"[the prompt]:TEXT:".
std::string zsh_option(const OptionHelp& option) {
  std::string action;
  if (!option.value.empty()) {
    action = ":" + option.value + ":";
    if (option.takes_file()) action += "_files";
    if (!option.choices().empty()) action += fmt::format("({})", fmt::join(option.choices(), " "));
    if (action.back() == ':') action += ' ';
  }
  std::string description = option.description;
  for (const char* special : {"\\", "[", "]", ":"})
    description = replaced(description, special, std::string("\\") + special);
  const std::string rest = quoted(fmt::format("[{}]{}", description, action));
  if (option.names.size() == 1) return option.names.front() + rest;
  return fmt::format("'({})'{{{}}}{}", fmt::join(option.names, " "), fmt::join(option.names, ","), rest);
}

std::string zsh_script(const CLI::App& program) {
  std::string names;
  std::string cases;
  for (const CommandHelp& command : commands_of(program)) {
    names += fmt::format("    {}\n", quoted(command.name + ":" + replaced(command.description, ":", "\\:")));
    cases += fmt::format("    {})\n      _arguments -S", command.name);
    for (const OptionHelp& option : command.options)
      cases +=
          " \\\n        " + (option.names.empty() ? "'1:MODEL:_files -g \"*.gguf\"'" : zsh_option(option));
    cases += " ;;\n";
  }
  std::string own;
  for (const OptionHelp& option : options_of(program)) own += " \\\n      " + zsh_option(option);
  return fmt::format(R"(#compdef sluice
_sluice() {{
  local -a commands=(
{}  )
  if ((CURRENT == 2)); then
    _describe -t commands command commands
    _arguments -S{}
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
{}  esac
}}
_sluice "$@"
)",
                     names, own, cases);
}

std::string fish_option(const std::string& condition, const OptionHelp& option) {
  std::string line = fmt::format("complete -c sluice -n {}", quoted(condition));
  for (const std::string& name : option.names)
    line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  if (option.takes_file()) line += " -r -F";
  if (!option.value.empty() && !option.takes_file()) line += " -x";
  if (!option.choices().empty()) line += " -a " + quoted(fmt::format("{}", fmt::join(option.choices(), " ")));
  const std::string escaped = replaced(replaced(option.description, "\\", "\\\\"), "'", "\\'");
  return line + " -d '" + escaped + "'\n";
}

std::string fish_script(const CLI::App& program) {
  std::string script = "# fish completion for sluice\ncomplete -c sluice -f\n";
  for (const OptionHelp& option : options_of(program)) script += fish_option("__fish_use_subcommand", option);
  for (const CommandHelp& command : commands_of(program)) {
    script += fmt::format("complete -c sluice -n __fish_use_subcommand -a {} -d {}\n", command.name,
                          quoted(command.description));
    const std::string condition = "__fish_seen_subcommand_from " + command.name;
    for (const OptionHelp& option : command.options) {
      script +=
          option.names.empty()
              ? fmt::format("complete -c sluice -n '{}' -a '(__fish_complete_suffix .gguf)'\n", condition)
              : fish_option(condition, option);
    }
  }
  return script;
}

int run(const CLI::App& program, const std::string& shell) {
  if (shell == "bash") {
    to_stdout(bash_script(program));
  } else if (shell == "zsh") {
    to_stdout(zsh_script(program));
  } else if (shell == "fish") {
    to_stdout(fish_script(program));
  } else {
    throw UsageError(fmt::format("no completion for \"{}\"", shell), {}, "use bash, zsh or fish");
  }
  return kGood;
}

}  // namespace

Command add_completion(CLI::App& program) {
  CLI::App& command =
      *program.add_subcommand("completion", "print the completion script of a shell")->group("");
  const auto shell = std::make_shared<std::string>();
  command.add_option("shell", *shell, "bash, zsh or fish")->required();
  return {&command, [&program, shell] { return run(program, *shell); }};
}

}  // namespace sluice::cli
