// sluice logits: the model's output for given tokens, every position, as a .npy file.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "base/checked.h"
#include "cli/commands.h"
#include "cli/common_options.h"
#include "cli/exit.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/load.h"
#include "cli/memory.h"
#include "cli/model_folder.h"
#include "cli/model_path.h"
#include "cli/npy.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "cli/typed_options.h"

namespace sluice::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string tokens;
  std::optional<std::string> split;
  std::string output;
};

// How many tokens each step takes.
std::vector<std::size_t> choose_pieces(const std::optional<std::string>& split, std::size_t n_tokens,
                                       std::size_t rows_per_step) {
  std::vector<std::size_t> pieces;
  if (!split) {
    for (std::size_t fed = 0; fed < n_tokens; fed += pieces.back())
      pieces.push_back(std::min(rows_per_step, n_tokens - fed));
    return pieces;
  }
  const auto numbers = parse_integers(*split);
  if (!numbers) throw UsageError("not a list of lengths", "--split", "give integers such as 5,1,9");
  std::size_t sum = 0;
  for (const std::int64_t length : *numbers) {
    if (length < 1) throw UsageError("a piece needs at least one token", "--split", "give lengths from 1 up");
    pieces.push_back(static_cast<std::size_t>(length));
    sum = checked_add(sum, pieces.back()).value_or(0);
    if (sum == 0 || sum > n_tokens) break;
  }
  if (sum != n_tokens) {
    throw UsageError(fmt::format("the pieces don't sum to the {} tokens given", n_tokens), "--split",
                     "give lengths that do");
  }
  return pieces;
}

// The step that feeds tokens[position .. position + n_rows) and asks for every row's logits.
program::Step make_step(const std::vector<std::int32_t>& tokens, std::size_t position, std::size_t n_rows) {
  program::Step step;
  const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(position);
  step.tokens.assign(begin, begin + static_cast<std::ptrdiff_t>(n_rows));
  step.spans = {{.slot = 0, .position = position, .first_row = 0, .n_rows = n_rows}};
  for (std::size_t row = 0; row < n_rows; ++row)
    step.outputs.push_back({.row = row, .return_logits = true, .choice = std::nullopt});
  return step;
}

std::vector<float> run(program::Backend& backend, const program::Step& step) {
  const EndOnInterrupt at_once;  // a step may be as long as --split says
  return backend.run(step).logits;
}

void check_finite(const std::vector<float>& logits, std::size_t position, std::size_t vocab_size) {
  const auto bad = std::ranges::find_if_not(logits, [](float logit) { return std::isfinite(logit); });
  if (bad == logits.end()) return;
  const auto index = static_cast<std::size_t>(bad - logits.begin());
  throw Error(fmt::format("the logit of token id {} at position {} is {}", index % vocab_size,
                          position + index / vocab_size, *bad),
              "logits", "check the checkpoint's weights");
}

// The files that the logits come from.
std::vector<std::filesystem::path> inputs_of(const Options& options, const std::filesystem::path& model) {
  std::vector<std::filesystem::path> files = files_of_model(model);
  if (options.tokens.starts_with('@'))
    files.emplace_back(options.tokens == "@-" ? "/dev/stdin" : options.tokens.substr(1));
  return files;
}

int run(const Options& options) {
  check_device(options.common);
  if (options.output.empty()) throw UsageError("no file to write", "-o", "give its name");
  const auto path = find_model(options.common.model);
  refuse_to_replace(options.output, inputs_of(options, path));
  const model::ModelConfig config = model::read_config(path);
  const std::vector<std::int32_t> tokens = read_token_list(options.tokens, config);
  const std::vector<std::size_t> pieces =
      choose_pieces(options.split, tokens.size(), rows_per_step_of_logits(options.common, config));
  const std::size_t context = choose_context(options.common, config, tokens.size());
  if (tokens.size() > context) {
    throw Error(fmt::format("{} tokens don't fit into a context of {}", tokens.size(), context), "--tokens",
                "give fewer, or a larger -c up to what the model was made for");
  }
  const std::size_t most_rows = *std::max_element(pieces.begin(), pieces.end());
  check_memory(config, {.context = tokens.size(),
                        .rows = most_rows,
                        .mapped_bytes = weight_file_bytes(path),
                        .other_bytes = 0,
                        .what_helps = "give at most {} tokens",
                        .cpu = cpu_memory(options.common, config)});

  const std::array<std::size_t, 2> shape = {tokens.size(), config.vocab_size};
  NpyWriter file(options.output, shape);  // before the work, in case it can't be
  const model::Model model = load(path);
  const auto backend = make_backend(options.common, model, context);
  if (options.common.verbose) {
    to_stderr(fmt::format("model {}, device {}, context {}, {} tokens in {} steps\n",
                          printable(path.string()), backend->name(), context, tokens.size(), pieces.size()));
  }
  ProgressBar progress("computing");
  std::size_t position = 0;
  for (const std::size_t n_rows : pieces) {
    const std::vector<float> logits = run(*backend, make_step(tokens, position, n_rows));
    check_finite(logits, position, config.vocab_size);
    file.write(logits);
    position += n_rows;
    progress.update(position, tokens.size());
  }
  throw_if_interrupted();
  file.commit();
  return kGood;
}

}  // namespace

Command add_logits(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("logits", "write the logits of every position of given tokens");
  const auto options = std::make_shared<Options>();
  command.add_option("--tokens", options->tokens, "token ids, such as 1,2,3, or @FILE with such a list")
      ->type_name("IDS")
      ->required();
  add_text(command, "--split", options->split,
           "feed them in pieces of these lengths, such as 5,1,9 (default: what suits the device)")
      ->type_name("LENGTHS");
  command.add_option("-o,--output", options->output, "the .npy file to write: float32, [tokens, vocabulary]")
      ->type_name("FILE")
      ->required();
  add_common_options(command, options->common);
  return {&command, [&command, options] {
            choose_device(command, options->common);
            return run(*options);
          }};
}

}  // namespace sluice::cli
