// sluice run: one prompt, one answer, streamed.
#include <algorithm>
#include <future>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "base/json.h"
#include "base/utf8.h"
#include "cli/chat.h"
#include "cli/commands.h"
#include "cli/common_options.h"
#include "cli/decode_cost.h"
#include "cli/exit.h"
#include "cli/generation_defaults.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/load.h"
#include "cli/memory.h"
#include "cli/model_folder.h"
#include "cli/model_path.h"
#include "cli/output.h"
#include "cli/step_trace.h"
#include "cli/terminal.h"
#include "cli/typed_options.h"
#include "engine/generate.h"
#include "model/chat_template.h"
#include "model/tokenizer.h"

namespace sluice::cli {
namespace {

struct SamplingFlags {
  std::optional<float> temperature;
  std::optional<std::uint64_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::optional<float> repeat_penalty;
};

struct Options {
  CommonOptions common;
  TextSource source;
  std::optional<std::uint64_t> max_tokens;
  bool raw = false;
  std::optional<std::string> system;
  ChatOptions chat;
  SamplingFlags sampling;
  std::vector<std::string> stop_texts;
  std::optional<std::string> trace;
  bool json = false;
};

void add_sampling_options(CLI::App& command, SamplingFlags& flags) {
  const std::string group = "Sampling (default: generation_config.json, else by the model's size)";
  constexpr double kMost = 1e6;
  constexpr double kMaxPenalty = 100;
  const auto number = [&](const char* name, auto& value, double low, double high, const char* description) {
    add_number(command, name, value, low, high, description)->group(group);
  };
  number("--temp", flags.temperature, 0, kMost, "temperature; 0 takes the likeliest token");
  add_whole(command, "--top-k", flags.top_k, 0, std::numeric_limits<std::uint32_t>::max(),
            "keep the N likeliest tokens; 0 keeps all")
      ->group(group);
  number("--top-p", flags.top_p, 0, 1, "keep the likeliest tokens that sum to this probability");
  number("--min-p", flags.min_p, 0, 1, "drop tokens below this share of the likeliest one's probability");
  number("--presence-penalty", flags.presence_penalty, -kMaxPenalty, kMaxPenalty,
         "subtracted from the logits of tokens that the answer has");
  number("--frequency-penalty", flags.frequency_penalty, -kMaxPenalty, kMaxPenalty,
         "subtracted for every time that the answer has the token");
  number("--repeat-penalty", flags.repeat_penalty, 1e-3, 1e3,
         "divides positive, multiplies negative logits of tokens in prompt or answer");
}

engine::SamplingOptions apply(const SamplingFlags& flags, engine::SamplingOptions options) {
  program::Sampling& sampling = options.sampling;
  sampling.temperature = flags.temperature.value_or(sampling.temperature);
  if (flags.top_k) sampling.top_k = *flags.top_k;
  sampling.top_p = flags.top_p.value_or(sampling.top_p);
  sampling.min_p = flags.min_p.value_or(sampling.min_p);
  options.presence_penalty = flags.presence_penalty.value_or(options.presence_penalty);
  options.frequency_penalty = flags.frequency_penalty.value_or(options.frequency_penalty);
  options.repeat_penalty = flags.repeat_penalty.value_or(options.repeat_penalty);
  return options;
}

// Every token that a model of this family ends a turn or a text with.
std::vector<std::int32_t> stop_tokens(const model::Tokenizer& tokenizer, const model::ModelConfig& config,
                                      const std::vector<std::int32_t>& configured) {
  std::vector<std::int32_t> tokens = configured;
  tokens.insert(tokens.end(), config.eos_token_ids.begin(), config.eos_token_ids.end());
  for (const std::string_view name : {"<|im_end|>", "<|endoftext|>"})
    if (const auto id = tokenizer.id_of(name)) tokens.push_back(*id);
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

std::string_view name_of(engine::StopReason reason) {
  switch (reason) {
    case engine::StopReason::kEndToken:
      return "end_token";
    case engine::StopReason::kStopText:
      return "stop_text";
    case engine::StopReason::kMaxTokens:
      return "max_tokens";
    case engine::StopReason::kContext:
      return "context";
    case engine::StopReason::kInterrupted:
      return "interrupted";
  }
  return "unknown";
}

double tokens_per_second(const engine::GenerateResult& result) {
  // The first token belongs to the prompt's time.
  if (result.generated_tokens < 2 || result.seconds_decoding <= 0) return 0;
  return static_cast<double>(result.generated_tokens - 1) / result.seconds_decoding;
}

std::string statistics(const engine::GenerateResult& result) {
  if (result.generated_tokens == 0)
    return fmt::format("prompt {} tokens, no token generated", result.prompt_tokens);
  return fmt::format("prompt {} tokens, first token after {:.3f} s, generated {} tokens, {:.2f} tokens/s",
                     result.prompt_tokens, result.seconds_to_first_token, result.generated_tokens,
                     tokens_per_second(result));
}

struct Context {
  std::string model;  // its folder or file
  std::size_t positions = 0;
  std::uint64_t seed = 0;
};

std::string settings(const engine::GenerateOptions& generate, const Context& context,
                     const program::Backend& backend, model::Thinking thinking) {
  const engine::SamplingOptions& options = generate.sampling;
  const program::Sampling& sampling = options.sampling;
  return fmt::format(
      "model {}, device {}, context {}, thinking {}\n"
      "temperature {:g}, top-k {}, top-p {:g}, min-p {:g}, penalties: presence {:g}, frequency {:g}, repeat "
      "{:g}\n",
      printable(context.model), backend.name(), context.positions,
      thinking == model::Thinking::kOn ? "on" : "off", sampling.temperature, sampling.top_k, sampling.top_p,
      sampling.min_p, options.presence_penalty, options.frequency_penalty, options.repeat_penalty);
}

std::string json_text(const Options& options, const Context& context, const std::string& text,
                      const engine::GenerateResult& result) {
  const Json json = {{"model", context.model},
                     {"device", options.common.device},
                     {"context", context.positions},
                     {"seed", context.seed},
                     {"text", text},
                     {"stop_reason", name_of(result.reason)},
                     {"prompt_tokens", result.prompt_tokens},
                     {"generated_tokens", result.generated_tokens},
                     {"seconds_to_first_token", result.seconds_to_first_token},
                     {"seconds_decoding", result.seconds_decoding},
                     {"tokens_per_second", tokens_per_second(result)}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

int report(const Options& options, const Context& context, const std::string& text,
           const engine::GenerateResult& result) {
  to_stdout(options.json ? json_text(options, context, text, result) : "\n");
  if (result.reason == engine::StopReason::kContext) {
    to_stderr(fmt::format("sluice: the context of {} tokens is full, generation stopped (-c)\n",
                          context.positions));
  }
  to_stderr(styled(statistics(result), Style::kFaint) + "\n");
  return result.reason == engine::StopReason::kInterrupted ? kInterrupted : kGood;
}

std::string read_prompt(const Options& options) {
  if (!options.source.text) check_reading(options.source.file);
  std::string text = read_text(options.source);
  if (text.empty())
    throw UsageError("the prompt is empty", {}, "use -p TEXT or -f FILE, or pipe the text in");
  return text;
}

// With --raw, one user message that is the text itself.
model::Conversation read_question(const Options& options) {
  if (options.chat.messages) return read_conversation(*options.chat.messages);
  model::Conversation conversation;
  if (options.system)
    conversation.messages.push_back({.role = model::Role::kSystem, .content = *options.system});
  conversation.messages.push_back({.role = model::Role::kUser, .content = read_prompt(options)});
  return conversation;
}

std::vector<std::int32_t> encode(const Options& options, const model::Tokenizer& tokenizer,
                                 const model::Conversation& conversation, model::Thinking thinking) {
  const EndOnInterrupt at_once;
  const auto encode_checked = [&tokenizer](std::string_view text) {
    check_encoding(text);
    return tokenizer.encode(text);
  };
  if (options.raw) return encode_checked(conversation.messages.back().content);
  std::size_t bytes = 0;
  for (const model::ChatMessage& message : conversation.messages) bytes += message.content.size();
  check_bytes(4 * bytes, kShorterText);  // trimmed, and then in a text that doubles
  return encode_checked(model::render_chat(conversation, thinking));
}

// A prompt that fills the context still leaves room for one answer token, which is never fed.
void check_fits(std::size_t prompt_tokens, std::size_t positions, const model::ModelConfig& config) {
  if (prompt_tokens <= positions) return;
  const bool can_grow = positions < config.max_positions;
  throw Error(
      fmt::format("the prompt has {} tokens, the context holds {}", prompt_tokens, positions), "prompt",
      can_grow ? fmt::format("shorten it, or give a larger context (-c, up to {})", config.max_positions)
               : "shorten it: the model was made for no larger context");
}

engine::GenerateOptions make_generate_options(const Options& options, const model::Model& model,
                                              const model::Tokenizer& tokenizer,
                                              const GenerationDefaults& defaults, std::uint64_t seed) {
  engine::GenerateOptions generate;
  generate.sampling = apply(options.sampling, defaults.sampling);
  generate.sampling.sampling.seed = seed;
  generate.max_tokens = options.max_tokens.value_or(0);
  generate.stop_tokens = stop_tokens(tokenizer, model.config, defaults.end_tokens);
  generate.stop_texts = options.stop_texts;
  generate.prefill_chunk = rows_per_step(options.common, model.config);
  return generate;
}

void check_stop_text(const std::string& text) {
  if (text.empty()) throw UsageError("an empty text stands everywhere", "--stop", "give one to stop at");
  if (utf8::replace_invalid(text) != text)
    throw UsageError("a text that is not valid UTF-8 stands nowhere", "--stop", "give one that is");
}

// Files that a trace must not replace.
std::vector<std::filesystem::path> inputs_of(const Options& options, const std::filesystem::path& model) {
  std::vector<std::filesystem::path> files = files_of_model(model);
  if (options.source.file) files.emplace_back(*options.source.file);
  if (options.chat.messages) files.emplace_back(*options.chat.messages);
  return files;
}

int run(const Options& options) {
  check_device(options.common);
  if (options.trace && options.common.device != "cpu")
    throw Error(fmt::format("device {} has no workers to trace", options.common.device), "--trace",
                "use --device cpu");
  const auto path = find_model(options.common.model);
  StepTrace trace({.trace = options.trace, .timeline = {}}, inputs_of(options, path));
  const model::Conversation conversation = read_question(options);
  const model::ModelConfig config = model::read_config(path);
  const std::size_t positions = choose_context(options.common, config, kDefaultContext);
  check_memory(config, {.context = positions,
                        .rows = 0,
                        .mapped_bytes = weight_file_bytes(path),
                        .other_bytes = tokenizer_bytes(path),
                        .what_helps = "use -c {} or less",
                        .cpu = cpu_memory(options.common, config)});

  model::Model model;
  const bool is_side_by_side = options.common.cache && options.common.device == "cpu";
  const auto load_backend = [&] {
    model = load(path);
    return make_backend(options.common, model, positions, trace.add("run", 1),
                        is_side_by_side ? tokenizer_bytes(path) : 0);
  };
  // A packed file, once it is there, is read in less time than a large tokenizer: both at once. Otherwise what may refuse the
  // question goes first.
  std::future<std::unique_ptr<program::Backend>> loading;
  if (is_side_by_side) loading = std::async(std::launch::async, load_backend);
  const auto tokenizer = model::Tokenizer::from_path(path);
  tokenizer.check_ids_below(config.vocab_size);
  const model::Thinking thinking =
      choose_thinking(options.chat, conversation, tokenizer.chat_template(), config);
  const std::vector<std::int32_t> prompt = encode(options, tokenizer, conversation, thinking);
  check_fits(prompt.size(), positions, config);
  const GenerationDefaults defaults = generation_defaults(path, parameter_count(config), thinking);
  const auto backend = loading.valid() ? loading.get() : load_backend();
  // Behind what may refuse the model: then that is all there is to say.
  if (!options.raw) warn_of_template(tokenizer.chat_template(), path.string());
  const Context context = {path.string(), positions, choose_seed(options.common)};
  const auto generate = make_generate_options(options, model, tokenizer, defaults, context.seed);
  if (options.common.verbose) to_stderr(settings(generate, context, *backend, thinking));

  std::string answer;
  bool reader_gone = false;
  const auto on_text = [&](std::string_view piece) {
    if (options.json) {
      answer += piece;
      return true;
    }
    try {
      to_stdout(piece);
    } catch (const ClosedPipe&) {
      reader_gone = true;
    }
    return !reader_gone;
  };
  const auto result = engine::generate(*backend, tokenizer, 0, prompt, generate, on_text, &interrupt_flag());
  // The last line on stderr is the report's; an answer that was not printed yet goes before what may fail.
  if (!options.json) trace.write(model.weights, {});
  if (reader_gone) return kGood;
  const int code = report(options, context, answer, result);
  if (options.json) trace.write(model.weights, {});
  return code;
}

}  // namespace

Command add_run(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("run", "answer a prompt");
  const auto options = std::make_shared<Options>();
  add_text_options(command, options->source, "the prompt");
  add_whole(command, "-n,--n-predict", options->max_tokens, 1, std::numeric_limits<std::uint32_t>::max(),
            "stop after N tokens (default: at the model's own end)");
  auto* raw = command.add_flag("--raw", options->raw, "continue the text as it is: no chat template");
  add_text(command, "--system", options->system, "system message")->excludes(raw);
  add_chat_options(command, options->chat);
  command.get_option("--messages")->excludes(raw)->excludes("--system");
  command.get_option("--thinking")->excludes(raw);
  auto* stop =
      command.add_option("--stop", options->stop_texts, "stop before this text (may be given several times)")
          ->type_name("TEXT")
          ->allow_extra_args(false);
  command.add_flag("--json", options->json, "print JSON when done, instead of streaming text");
  add_text(command, "--trace", options->trace,
           "write what each worker did in the first steps, for ui.perfetto.dev")
      ->type_name("FILE");
  add_sampling_options(command, options->sampling);
  add_common_options(command, options->common);
  add_head_option(command, options->common);
  return {&command, [&command, options, stop] {
            choose_device(command, options->common);
            options->stop_texts = stop->results();  // as written: CLI11 drops "%%" from its own list
            for (const std::string& text : options->stop_texts) check_stop_text(text);
            return run(*options);
          }};
}

}  // namespace sluice::cli
