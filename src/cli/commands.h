// The subcommands. Each adds itself and its options to the program; the action runs it once they are parsed.
#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace sluice::cli {

struct Command {
  CLI::App* app = nullptr;
  std::function<int()> action;  // returns the exit code; throws what app.cpp turns into one
};

Command add_run(CLI::App& program);
Command add_logits(CLI::App& program);
Command add_tokenize(CLI::App& program);
Command add_perplexity(CLI::App& program);
Command add_inspect(CLI::App& program);
Command add_bench(CLI::App& program);
Command add_devices(CLI::App& program);

// Not shown in the help; the build calls them to make what is installed.
Command add_completion(CLI::App& program);
Command add_man(CLI::App& program);

}  // namespace sluice::cli
