// sluice man: the manual page, its options made from the program's own.
#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/exit.h"
#include "cli/help_tree.h"
#include "cli/output.h"
#include "cli/version.h"

namespace sluice::cli {
namespace {

constexpr std::string_view kAfterOptions = R"(.SH MODEL
A folder with config.json and safetensors; a
.B .gguf
file, or a folder that has just one; or an id such as
.BR Qwen/Qwen3.5\-0.8B ,
which is looked up in the local Hugging Face cache (nothing is downloaded).
Without MODEL the bundled one is used:
.B SLUICE_MODEL_PATH
if it is set, else the one that lies with the program.
.SH OUTPUT
Results go to standard output, everything else to standard error.
With
.B \-\-json
standard output is JSON alone.
Colours and progress bars appear on a terminal only.
A file given with
.B \-o
appears when it is complete, or not at all.
.SH EXIT STATUS
.TP
.B 0
good; also when the reader of a pipe has gone
.TP
.B 1
the run failed
.TP
.B 2
wrong usage
.TP
.B 130
interrupted; the first Ctrl\-C ends a text in good order, the second kills the program
.SH CONVERSATIONS
.B \-\-messages
takes JSON as in OpenAI's chat requests: a list of messages with
.B role
(system, user, assistant, tool) and
.BR content ,
or an object with
.B messages
and, if wanted,
.BR tools .
.SH PERPLEXITY
The text is cut into windows of
.B \-c
tokens. Of each, the tokens of the second half are scored, as llama\-perplexity does.
A line feed at the end of the text doesn't count, and marks such as <|im_end|> are plain text.
.SH ENVIRONMENT
.TP
.B SLUICE_MODEL_PATH
folders, separated by colons: each a model, or with a model named "demo" in it
.TP
.BR HF_HUB_CACHE ", " HF_HOME ", " XDG_CACHE_HOME
where the Hugging Face cache is (default: ~/.cache/huggingface)
.TP
.B NO_COLOR
if it is not empty: no colours
.SH EXAMPLES
.nf
sluice run \-p "What is 17 + 25?"
sluice run Qwen/Qwen3.5\-0.8B \-\-thinking on < question.txt
sluice logits model/ \-\-tokens 1,2,3 \-o logits.npy
sluice tokenize \-p "Hello" | sluice tokenize \-\-decode
sluice perplexity model.gguf \-f text.txt
sluice inspect \-\-json
sluice inspect model.gguf \-\-tensor token_embd.weight \-o embedding.npy
sluice devices
.fi
)";

// Text as roff takes it: no line begins a request, and what is to be copied stays as it is.
std::string roff(const std::string& text) {
  std::string escaped = replaced(replaced(text, "\\", "\\e"), "-", "\\-");
  if (escaped.starts_with('.') || escaped.starts_with('\'')) escaped = "\\&" + escaped;
  return escaped;
}

std::string option_text(const OptionHelp& option) {
  std::string line;
  for (const std::string& name : option.names)
    line += (line.empty() ? "\\fB" : ", \\fB") + roff(name) + "\\fR";
  if (!option.value.empty()) line += (line.empty() ? "\\fI" : " \\fI") + roff(option.value) + "\\fR";
  return fmt::format(".TP\n{}\n{}\n", line, roff(option.description));
}

int run(const CLI::App& program) {
  std::string page = fmt::format(".TH SLUICE 1 \"\" \"sluice {}\" \"User Commands\"\n", version());
  page += ".SH NAME\nsluice \\- run hybrid Gated DeltaNet and attention language models\n";
  page += ".SH SYNOPSIS\n.B sluice\n.I COMMAND\n.RI [ MODEL ]\n.RI [ options ]\n";
  page += ".SH DESCRIPTION\nSluice runs models of the Qwen3.5 family from their checkpoints.\n.SH OPTIONS\n";
  for (const OptionHelp& option : options_of(program)) page += option_text(option);
  page += ".SH COMMANDS\n";
  for (const CommandHelp& command : commands_of(program)) {
    page += fmt::format(".SS sluice {}\n{}.\n", roff(command.name), roff(command.description));
    for (const OptionHelp& option : command.options) page += option_text(option);
  }
  to_stdout(page);
  to_stdout(kAfterOptions);
  return kGood;
}

}  // namespace

Command add_man(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("man", "print the manual page")->group("");
  return {&command, [&program] { return run(program); }};
}

}  // namespace sluice::cli
