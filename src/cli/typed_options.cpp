#include "cli/typed_options.h"

#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <system_error>

#include <fmt/format.h>

#include "cli/exit.h"

namespace sluice::cli {
namespace {

// All of `text` as a T, or nothing.
template <typename T>
std::optional<T> parse(const std::string& text) {
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

template <typename T>
CLI::Option* add(CLI::App& command, const std::string& names, std::optional<T>& value,
                 const std::string& description, const std::string& expected,
                 const std::function<bool(T)>& in_range) {
  const auto take = [&value, &command, names, expected, in_range](const std::string& text) {
    value = parse<T>(text);
    if (!value || !in_range(*value))
      throw UsageError(fmt::format("\"{}\" is not {}", text, expected), names,
                       fmt::format("see sluice {} --help", command.get_name()));
  };
  return command.add_option_function<std::string>(names, take, description);
}

}  // namespace

CLI::Option* add_text(CLI::App& command, const std::string& names, std::optional<std::string>& value,
                      const std::string& description) {
  const auto take = [&value](const std::string& text) { value = text; };
  return command.add_option_function<std::string>(names, take, description)->type_name("TEXT");
}

CLI::Option* add_whole(CLI::App& command, const std::string& names, std::optional<std::uint64_t>& value,
                       std::uint64_t low, std::uint64_t high, const std::string& description) {
  const std::string expected = high == std::numeric_limits<std::uint64_t>::max()
                                   ? fmt::format("a whole number from {} up that fits into 64 bits", low)
                                   : fmt::format("a whole number from {} to {}", low, high);
  return add<std::uint64_t>(command, names, value, description, expected,
                            [low, high](std::uint64_t number) { return number >= low && number <= high; })
      ->type_name("N");
}

CLI::Option* add_number(CLI::App& command, const std::string& names, std::optional<float>& value, double low,
                        double high, const std::string& description) {
  const auto in_range = [low, high](float number) {
    return std::isfinite(number) && double{number} >= low && double{number} <= high;
  };
  return add<float>(command, names, value, description, fmt::format("a number from {} to {}", low, high),
                    in_range)
      ->type_name("X");
}

}  // namespace sluice::cli
