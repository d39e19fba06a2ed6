#include "cli/app.h"

#include <csignal>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/exit.h"
#include "cli/help_format.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "cli/version.h"
#include "program/backend.h"

namespace sluice::cli {
namespace {

// A file opened later must never get the number of a standard stream that the caller closed: results would go
// into it. Opened the wrong way round, so that using it stays an error.
void occupy_standard_streams() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor)
    if (::fcntl(descriptor, F_GETFD) < 0)
      static_cast<void>(::open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY));
}

void print_error(std::string_view line) {
  to_stderr(fmt::format("{} {}\n", styled("sluice: error:", Style::kError), line));
}

std::string name_of(const CLI::App& program) {
  const auto chosen = program.get_subcommands();
  return chosen.empty() ? "sluice" : "sluice " + chosen.front()->get_name();
}

// Of options, only flags can't convert what they are given: all others take text (typed_options.h).
void refuse_value_of_flag(const CLI::App& command, const std::vector<std::string>& words,
                          const std::string& help) {
  for (const std::string& word : words) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) continue;
    const CLI::Option* option = command.get_option_no_throw(word.substr(0, equals));
    if (option != nullptr && option->get_expected_max() == 0)
      throw UsageError(fmt::format("takes no value, but is given \"{}\"", word.substr(equals + 1)),
                       word.substr(0, equals), help);
  }
}

// Help and version are asked for by exceptions, too.
int on_parse_end(const CLI::App& program, const CLI::ParseError& end, const std::vector<std::string>& words) {
  if (dynamic_cast<const CLI::CallForHelp*>(&end) != nullptr) {
    to_stdout(program.help());
    return kGood;
  }
  if (dynamic_cast<const CLI::CallForVersion*>(&end) != nullptr) {
    to_stdout(fmt::format("{}\n", end.what()));
    return kGood;
  }
  const std::string help = fmt::format("see {} --help", name_of(program));
  const std::vector<std::string> unused = program.remaining(true);
  if (program.get_subcommands().empty() && dynamic_cast<const CLI::RequiredError*>(&end) != nullptr) {
    const auto is_command = [](const std::string& text) { return !text.empty() && text.front() != '-'; };
    if (unused.empty() || !is_command(unused.front())) throw UsageError("no command given", {}, help);
    throw UsageError("there is no such command", unused.front(), help);
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&end) != nullptr && !unused.empty())
    throw UsageError("not expected here", fmt::format("{}", fmt::join(unused, " ")), help);
  if (!program.get_subcommands().empty())
    refuse_value_of_flag(*program.get_subcommands().front(), words, help);
  throw UsageError(end.what(), {}, help);
}

int parse_and_run(int argc, const char* const* argv) {
  CLI::App program("Runs hybrid Gated DeltaNet and attention language models (Qwen3.5).", "sluice");
  program.set_help_flag("-h,--help", "print this help and exit");
  program.set_version_flag("--version", version_text(), "print version, commit, isa and devices, and exit");
  program.require_subcommand(1);
  program.footer("sluice COMMAND --help tells a command's options.");
  program.formatter(make_help_format());
  std::vector<Command> commands;
  for (const auto add : {add_run, add_perplexity, add_logits, add_tokenize, add_inspect, add_bench,
                         add_devices, add_completion, add_man})
    commands.push_back(add(program));
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& end) {
    return on_parse_end(program, end, {argv + 1, argv + argc});
  }
  for (const Command& command : commands)
    if (command.app->parsed()) return command.action();
  return kWrongUsage;  // can't be: require_subcommand
}

}  // namespace

int run_program(int argc, const char* const* argv) {
  occupy_standard_streams();
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of write
  std::signal(SIGXFSZ, SIG_IGN);  // and so is a file that may not grow any more
  handle_interrupts();
  try {
    return parse_and_run(argc, argv);
  } catch (const ClosedPipe&) {
    return kGood;
  } catch (const Interrupted&) {
    return kInterrupted;
  } catch (const program::StepInterrupted&) {
    return kInterrupted;
  } catch (const UsageError& error) {
    print_error(error.what());
    return kWrongUsage;
  } catch (const Error& error) {
    print_error(error.what());
  } catch (const std::bad_alloc&) {
    print_error(
        "out of memory: close other programs, raise the limit, or give a shorter text or a smaller model");
  } catch (const std::exception& error) {
    print_error(printable(error.what()));
  }
  return kFailed;
}

}  // namespace sluice::cli
