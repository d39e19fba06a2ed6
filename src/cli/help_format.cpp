#include "cli/help_format.h"

#include <sstream>
#include <string>

namespace sluice::cli {
namespace {

constexpr std::size_t kNameColumn = 30;
constexpr std::size_t kTextColumn = 76;

// `text` with line breaks, so that no line is longer than `width` unless a word is.
std::string wrapped(const std::string& text, std::size_t width) {
  std::istringstream words(text);
  std::string lines;
  std::size_t length = 0;
  for (std::string word; words >> word; length += word.size()) {
    if (length != 0) {
      const bool fits = length + 1 + word.size() <= width;
      lines += fits ? ' ' : '\n';
      length = fits ? length + 1 : 0;
    }
    lines += word;
  }
  return lines;
}

class HelpFormat : public CLI::Formatter {
 public:
  HelpFormat() { column_width(kNameColumn); }

  std::string make_usage(const CLI::App* app, std::string name) const override {
    // A command's own name comes with the program's already in front.
    const bool is_program = app->get_parent() == nullptr;
    const bool takes_model = is_program || app->get_option_no_throw("MODEL") != nullptr;
    return "Usage: " + name + (is_program ? " COMMAND" : "") + (takes_model ? " [MODEL]" : "") +
           " [options]\n";
  }

  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text;
    if (option->get_type_size() != 0 && option->nonpositional()) text += " " + option->get_type_name();
    if (option->get_required()) text += " (required)";
    return text;
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    return wrapped(option->get_description(), kTextColumn);
  }

  std::string make_subcommand(const CLI::App* command) const override {
    std::ostringstream line;
    CLI::detail::format_help(line, command->get_name(), command->get_description(), kNameColumn);
    return line.str();
  }
};

}  // namespace

std::shared_ptr<CLI::FormatterBase> make_help_format() {
  return std::make_shared<HelpFormat>();
}

}  // namespace sluice::cli
