// Finds stop texts in a text that comes in pieces, and holds back no more than it must.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::engine {

// The text ends before the stop text whose end comes first; of two that end together, before the longer one.
// So what comes out doesn't depend on where the pieces were cut.
class StopText {
 public:
  // Throws Error if a stop text is empty or not valid UTF-8.
  explicit StopText(const std::vector<std::string>& stops);

  // The text that is certain with `piece`: all but the longest tail that may be the beginning of a stop text.
  // Empty once a stop text was found.
  std::string push(std::string_view piece);

  // What was held back; no more text comes.
  std::string finish();

  bool found() const { return found_; }

 private:
  // Knuth, Morris, Pratt (1977): matching one byte at a time, without going back.
  struct Pattern {
    std::string text;
    std::vector<std::size_t> border;  // [n]: the longest proper prefix of text[0, n) that is also its suffix
    std::size_t matched = 0;          // bytes of `text` at the end of what was pushed

    explicit Pattern(std::string stop);
    bool advance(char byte);  // whether the whole text is matched
  };

  std::vector<Pattern> patterns_;
  std::string held_;
  bool found_ = false;
};

}  // namespace sluice::engine
