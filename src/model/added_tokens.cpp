#include "model/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace sluice::model {
namespace {

unsigned byte_at(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
  for (const AddedToken& token : tokens_) {
    SLUICE_CHECK(!token.content.empty());
    starts_[byte_at(token.content, 0)] = true;
  }
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::find(std::string_view text,
                                                                std::size_t from) const {
  for (std::size_t at = from; at < text.size(); ++at) {
    if (!starts_[byte_at(text, at)]) continue;
    if (const AddedToken* token = longest_at(text.substr(at)))
      return Match{at, at + token->content.size(), token};
  }
  return std::nullopt;
}

// Narrows the sorted contents to those that share more and more of `text`'s bytes.
const AddedToken* AddedTokenMatcher::longest_at(std::string_view text) const {
  const AddedToken* longest = nullptr;
  auto begin = tokens_.begin();
  auto end = tokens_.end();
  for (std::size_t i = 0; begin != end && i < text.size(); ++i) {
    const unsigned byte = byte_at(text, i);
    // Contents that end here are prefixes of the others and so come first.
    begin = std::partition_point(begin, end, [i, byte](const AddedToken& token) {
      return token.content.size() <= i || byte_at(token.content, i) < byte;
    });
    end = std::partition_point(
        begin, end, [i, byte](const AddedToken& token) { return byte_at(token.content, i) == byte; });
    if (begin != end && begin->content.size() == i + 1) longest = &*begin;
  }
  return longest;
}

}  // namespace sluice::model
