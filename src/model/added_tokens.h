// Added tokens: strings that are found in the text as they are, before anything else looks at it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

struct AddedToken {
  std::int32_t id = 0;
  std::string content;      // not empty, at most kMaxAddedTokenBytes
  bool special = false;     // control tokens such as <|im_end|>: not printed, not for users to write
  bool normalized = false;  // matched in the normalized text instead of the raw one
};

inline constexpr std::size_t kMaxAddedTokenBytes = 1024;

class AddedTokenMatcher {
 public:
  // Different contents.
  explicit AddedTokenMatcher(std::vector<AddedToken> tokens);

  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
    const AddedToken* token = nullptr;
  };
  // The leftmost match that starts at or after `from`; of those that start there, the longest. Whatever the tokens have in
  // common, a place in the text costs comparisons in the order of the logarithm of their number.
  std::optional<Match> find(std::string_view text, std::size_t from) const;

 private:
  // A token among those that are prefixes of it, by index into tokens_; kNone where there is none.
  struct Prefixes {
    std::size_t parent;  // the longest of them
    std::size_t jump;    // a shorter one, chosen so that any is reached in logarithmically many steps
    std::size_t depth;   // how many there are
  };
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  void link_prefixes();
  const AddedToken* longest_at(std::string_view text) const;
  bool begins(std::string_view text, std::size_t token) const {
    return token == kNone || text.starts_with(tokens_[token].content);
  }

  std::vector<AddedToken> tokens_;  // sorted by content
  std::vector<Prefixes> prefixes_;  // one for each token
  std::array<bool, 256> starts_{};  // bytes that some content begins with
};

}  // namespace sluice::model
