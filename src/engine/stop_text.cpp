#include "engine/stop_text.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"

namespace sluice::engine {

StopText::Pattern::Pattern(std::string stop) : text(std::move(stop)), border(text.size() + 1, 0) {
  std::size_t length = 0;
  for (std::size_t n = 2; n <= text.size(); ++n) {
    while (length > 0 && text[length] != text[n - 1]) length = border[length];
    if (text[length] == text[n - 1]) ++length;
    border[n] = length;
  }
}

bool StopText::Pattern::advance(char byte) {
  while (matched > 0 && text[matched] != byte) matched = border[matched];
  if (text[matched] == byte) ++matched;
  return matched == text.size();
}

StopText::StopText(const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    if (stop.empty())
      throw Error("a stop text is empty", "stop", "leave it out, or give at least one character");
    if (utf8::replace_invalid(stop) != stop) {
      throw Error("stop text '" + stop + "' is not valid UTF-8", "stop", "generated text always is");
    }
    patterns_.emplace_back(stop);
  }
}

std::string StopText::push(std::string_view piece) {
  for (std::size_t i = 0; i < piece.size() && !found_; ++i) {
    held_ += piece[i];
    std::size_t stop_size = 0;
    for (Pattern& pattern : patterns_) {
      if (pattern.advance(piece[i])) stop_size = std::max(stop_size, pattern.text.size());
    }
    if (stop_size > 0) {
      found_ = true;
      held_.resize(held_.size() - stop_size);
    }
  }
  std::size_t uncertain = 0;
  if (!found_) {
    for (const Pattern& pattern : patterns_) uncertain = std::max(uncertain, pattern.matched);
  }
  std::string certain = held_.substr(0, held_.size() - uncertain);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopText::finish() {
  return std::exchange(held_, {});
}

}  // namespace sluice::engine
