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
  link_prefixes();
}

// Jump pointers as in Myers, "An applicative random-access stack" (1983): a token's jump goes as far as its parent's two jumps
// together if these are equally long, else to its parent.
void AddedTokenMatcher::link_prefixes() {
  prefixes_.reserve(tokens_.size());
  const auto depth_of = [this](std::size_t token) { return token == kNone ? 0 : prefixes_[token].depth + 1; };
  const auto jump_of = [this](std::size_t token) { return token == kNone ? kNone : prefixes_[token].jump; };
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    // In sorted order prefixes come first, and between a token and its prefix stand only others with that prefix.
    std::size_t parent = i == 0 ? kNone : i - 1;
    while (!begins(tokens_[i].content, parent)) parent = prefixes_[parent].parent;
    const std::size_t near = jump_of(parent);
    const std::size_t far = jump_of(near);
    const bool equally_long = depth_of(parent) - depth_of(near) == depth_of(near) - depth_of(far);
    prefixes_.push_back({parent, equally_long ? far : parent, depth_of(parent)});
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

// Of the tokens, the last one that sorts before `text` or is equal to it: what begins `text` is that token or a prefix of it.
const AddedToken* AddedTokenMatcher::longest_at(std::string_view text) const {
  const auto after = std::upper_bound(
      tokens_.begin(), tokens_.end(), text,
      [](std::string_view sought, const AddedToken& token) { return sought < token.content; });
  if (after == tokens_.begin()) return nullptr;
  auto token = static_cast<std::size_t>(after - tokens_.begin()) - 1;
  while (!begins(text, token)) {
    const Prefixes& prefixes = prefixes_[token];
    token = begins(text, prefixes.jump) ? prefixes.parent : prefixes.jump;
  }
  return token == kNone ? nullptr : &tokens_[token];
}

}  // namespace sluice::model
