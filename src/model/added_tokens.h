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
  // The leftmost match that starts at or after `from`; of those that start there, the longest.
  std::optional<Match> find(std::string_view text, std::size_t from) const;

 private:
  const AddedToken* longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;  // sorted by content
  std::array<bool, 256> starts_{};  // bytes that some content begins with
};

}  // namespace sluice::model
