// sluice perplexity: how well a model foresees a text, scored as llama-perplexity does.
#include "engine/perplexity.h"

#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/common_options.h"
#include "cli/exit.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/load.h"
#include "cli/memory.h"
#include "cli/model_folder.h"
#include "cli/model_path.h"
#include "cli/output.h"
#include "cli/terminal.h"
#include "cli/typed_options.h"
#include "model/tokenizer.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kDefaultWindow = 512;  // llama-perplexity's

struct Options {
  CommonOptions common;
  TextSource source;
  std::optional<std::uint64_t> chunks;
  bool json = false;
};

// As llama-perplexity reads it: without one line feed at the end, and with marks such as <|im_end|> as plain text.
std::vector<std::int32_t> read_tokens(const Options& options, const model::Tokenizer& tokenizer) {
  const EndOnInterrupt at_once;
  std::string text = read_text(options.source);
  if (text.ends_with('\n')) text.pop_back();
  check_encoding(text);
  return tokenizer.encode(text, /*parse_special=*/false);
}

std::string result_json(const Options& options, const std::string& model, std::size_t text_tokens,
                        std::size_t window, const engine::Perplexity& result) {
  const Json json = {{"model", model},
                     {"device", options.common.device},
                     {"context", window},
                     {"text_tokens", text_tokens},
                     {"windows", result.windows},
                     {"scored_tokens", result.scored_tokens},
                     {"mean_nll", result.mean_nll},
                     {"perplexity", result.value},
                     {"standard_error", result.standard_error}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

int run(const Options& options) {
  check_device(options.common);
  const auto path = find_model(options.common.model);
  const model::ModelConfig config = model::read_config(path);
  const std::size_t window = choose_context(options.common, config, kDefaultWindow);
  if (window < engine::kSmallestWindow) {
    throw UsageError(fmt::format("a context of {} has no token to score", window), "-c",
                     fmt::format("use at least {}", engine::kSmallestWindow));
  }
  const std::size_t ids =
      input_bytes(options.source.file) * sizeof(std::int32_t);  // one for each byte at most
  check_memory(config, {.context = window,
                        .rows = rows_per_step_of_logits(options.common, config),
                        .mapped_bytes = weight_file_bytes(path),
                        .other_bytes = tokenizer_bytes(path) + ids,
                        .text_bytes = ids,
                        .what_helps = "use -c {} or less",
                        .cpu = cpu_memory(options.common, config)});

  const auto tokenizer = model::Tokenizer::from_path(path);
  tokenizer.check_ids_below(config.vocab_size);
  const std::vector<std::int32_t> tokens = read_tokens(options, tokenizer);
  const engine::PerplexityOptions how = {.window = window,
                                         .max_windows = options.chunks.value_or(0),
                                         .rows_per_step = rows_per_step_of_logits(options.common, config),
                                         .interrupted = &interrupt_flag()};
  engine::count_windows(tokens.size(), how);  // before the work, in case there are too few
  const model::Model model = load(path);
  const auto backend = make_backend(options.common, model, window);
  if (options.common.verbose) {
    to_stderr(fmt::format("model {}, device {}, {} tokens, windows of {}\n", printable(path.string()),
                          backend->name(), tokens.size(), window));
  }
  ProgressBar progress("scoring");
  const auto result =
      engine::measure_perplexity(*backend, 0, tokens, how, [&](std::size_t done, std::size_t total) {
        throw_if_interrupted();
        progress.update(done, total);
      });
  to_stdout(options.json ? result_json(options, path.string(), tokens.size(), window, result)
                         : fmt::format("perplexity {:.4f} +/- {:.5f}, {} tokens scored in {} windows of {}\n",
                                       result.value, result.standard_error, result.scored_tokens,
                                       result.windows, window));
  return kGood;
}

}  // namespace

Command add_perplexity(CLI::App& program) {
  CLI::App& command = *program.add_subcommand(
      "perplexity",
      "score a text in windows of -c tokens (default: 512); marks such as <|im_end|> count as plain text");
  const auto options = std::make_shared<Options>();
  add_file_option(command, options->source, "the text");
  add_whole(command, "-n,--chunks", options->chunks, 1, std::numeric_limits<std::uint32_t>::max(),
            "score the first N windows only");
  command.add_flag("--json", options->json, "print JSON");
  add_common_options(command, options->common);
  return {&command, [&command, options] {
            choose_device(command, options->common);
            return run(*options);
          }};
}

}  // namespace sluice::cli
