#include "model/tokenizer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/utf8.h"
#include "model/bpe.h"
#include "model/byte_level.h"
#include "model/gguf_model.h"
#include "model/nfc.h"
#include "model/tokenizer_definition.h"

namespace sluice::model {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{64} << 20U;
constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30U;

// The token of an id.
struct Token {
  std::uint32_t offset = 0;  // of its bytes
  std::uint32_t size = 0;
  bool exists = false;
  bool special = false;
};

bool valid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    std::uint64_t eight = 0;
    if (at + 8 <= text.size()) std::memcpy(&eight, text.data() + at, 8);
    if (at + 8 <= text.size() && (eight & 0x8080808080808080U) == 0) {
      at += 8;
      continue;
    }
    const utf8::CodePoint point = utf8::decode(text, at);
    if (!point.valid) return false;
    at += point.size;
  }
  return true;
}

// The pieces of a text whose tokens are known already: text repeats its words. One slot for each hash; the
// tokens are those that were put out for the piece's last occurrence, so nothing is copied.
class SeenPieces {
 public:
  SeenPieces(std::string_view text, const std::vector<std::int32_t>& ids) : text_(text), ids_(ids) {
    // A slot for each 8 bytes of text, up to what stays in the L2 cache.
    slots_.resize(std::bit_ceil(std::clamp<std::size_t>(text.size() / 8, 1, 16384)));
  }

  // Appends the tokens of text[begin, end) to `ids` (the vector given above) if it knows them; else calls
  // `encode`, which does so, and remembers.
  template <typename Encode>
  void append(std::size_t begin, std::size_t end, std::vector<std::int32_t>& ids, const Encode& encode) {
    const std::string_view piece = text_.substr(begin, end - begin);
    Slot& slot = slots_[static_cast<std::size_t>(hash_of(piece, 0)) & (slots_.size() - 1)];
    if (slot.n_ids != 0 && text_.substr(slot.begin, slot.size) == piece) {
      const std::size_t first = slot.first_id;
      for (std::size_t i = 0; i < slot.n_ids; ++i) ids.push_back(ids_[first + i]);
      return;
    }
    const std::size_t first = ids.size();
    encode(piece, ids);
    slot = {begin, piece.size(), first, ids.size() - first};
  }

 private:
  struct Slot {
    std::size_t begin = 0;
    std::size_t size = 0;
    std::size_t first_id = 0;
    std::size_t n_ids = 0;  // 0: empty
  };

  std::string_view text_;
  const std::vector<std::int32_t>& ids_;
  std::vector<Slot> slots_;
};

// Turns a definition's strings into ids and checks that they fit together.
class Resolver {
 public:
  explicit Resolver(const TokenizerDefinition& definition) : definition_(definition) {}

  // The id of every byte that occurs in UTF-8; -1 for the others if they have none.
  std::array<std::int32_t, 256> byte_ids() const {
    std::array<std::int32_t, 256> ids{};
    for (std::size_t byte = 0; byte < 256; ++byte) {
      std::string character;
      utf8::append(character, byte_alphabet()[byte]);
      const bool occurs = byte != 0xC0 && byte != 0xC1 && byte <= 0xF4;
      const std::optional<std::int32_t> id = definition_.vocab.find(character);
      if (!id && occurs) {
        fail(definition_.vocab_field + " has no token \"" + character + "\" for byte " + std::to_string(byte),
             "a byte-level vocabulary has one for each byte");
      }
      ids[byte] = id.value_or(-1);
    }
    return ids;
  }

  std::vector<Bpe::Merge> merges() const {
    std::vector<Bpe::Merge> merges;
    merges.reserve(definition_.merges.size());
    std::string joined;
    for (const TokenizerDefinition::Merge& merge : definition_.merges) {
      joined.assign(merge.left).append(merge.right);
      merges.push_back({merged_id(merge.left, merges.size()), merged_id(merge.right, merges.size()),
                        merged_id(joined, merges.size())});
    }
    const std::size_t duplicate = Bpe::first_duplicate(merges);
    if (duplicate != merges.size()) fail(field(duplicate) + " is a pair that an earlier merge has");
    return merges;
  }

  [[noreturn]] void fail(const std::string& what,
                         const std::string& what_to_do = "the file is damaged") const {
    throw Error(what, definition_.where, what_to_do);
  }

 private:
  std::string field(std::size_t merge) const {
    return definition_.merges_field + "[" + std::to_string(merge) + "]";
  }

  std::int32_t merged_id(std::string_view token, std::size_t merge) const {
    const std::optional<std::int32_t> id = definition_.vocab.find(token);
    if (id) return *id;
    fail(field(merge) + " needs the token \"" + printable(token, 100) + "\"",
         definition_.vocab_field + " doesn't have it");
  }

  const TokenizerDefinition& definition_;
};

Bpe make_bpe(const Resolver& resolver) {
  const std::array<std::int32_t, 256> byte_ids = resolver.byte_ids();  // first: its errors say more
  return {byte_ids, resolver.merges()};
}

// Of tokens that NFC makes equal, the first special one is matched, else the first: Hugging Face's order.
std::vector<AddedToken> matched_in(const TokenizerDefinition& definition, bool normalized) {
  std::vector<AddedToken> tokens;
  TokenTable seen;
  for (const bool special : {true, false}) {
    for (const AddedToken& given : definition.added_tokens) {
      if (given.special != special || given.normalized != normalized) continue;
      AddedToken token = given;
      if (normalized && definition.nfc) token.content = nfc(token.content);
      if (seen.insert(token.content, token.id)) tokens.push_back(std::move(token));
    }
  }
  return tokens;
}

}  // namespace

struct Tokenizer::Impl {
  explicit Impl(TokenizerDefinition given);

  void add_token(std::int32_t id, std::string_view token_bytes, std::string_view name);
  void add_added_tokens();
  const Token* token(std::int32_t id) const;
  std::string_view bytes_of(const Token& token) const {
    return std::string_view(bytes).substr(token.offset, token.size);
  }
  void append_bytes(std::int32_t id, bool skip_special, std::string& out) const;

  // Encoding, from the outside in: text between added tokens, normalized text between added tokens, pieces.
  template <typename Rest>
  void split(const AddedTokenMatcher& matcher, std::string_view text, bool parse_special,
             std::vector<std::int32_t>& ids, const Rest& rest) const;
  void encode_raw(std::string_view text, bool parse_special, std::vector<std::int32_t>& ids) const;
  void encode_normalized(std::string_view text, bool parse_special, std::vector<std::int32_t>& ids) const;
  void encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const;

  TokenizerDefinition definition;
  Bpe bpe;
  AddedTokenMatcher raw;         // matched in the raw text
  AddedTokenMatcher normalized;  // matched in the normalized text
  std::string bytes;             // of all tokens
  std::vector<Token> tokens;     // by id
  TokenTable names;              // every token as files write it → id
  TokenTable whole_pieces;       // with ignore_merges: bytes → id
};

Tokenizer::Impl::Impl(TokenizerDefinition given)
    : definition(std::move(given)),
      bpe(make_bpe(Resolver(definition))),
      raw(matched_in(definition, false)),
      normalized(matched_in(definition, true)) {
  definition.merges = {};
  for (const TokenTable::Entry& entry : definition.vocab.entries()) {
    const std::string_view text = definition.vocab.text(entry);
    const std::optional<std::string> decoded = bytes_of_token(text);
    add_token(entry.id, decoded ? *decoded : text, text);
    if (decoded && definition.ignore_merges) whole_pieces.insert(*decoded, entry.id);
  }
  names = std::move(definition.vocab);
  definition.vocab = {};
  add_added_tokens();
}

void Tokenizer::Impl::add_token(std::int32_t id, std::string_view token_bytes, std::string_view name) {
  SLUICE_CHECK(id >= 0 && id <= kMaxTokenId);
  const auto index = static_cast<std::size_t>(id);
  if (index >= tokens.size()) tokens.resize(index + 1);
  if (tokens[index].exists) {
    Resolver(definition)
        .fail("id " + std::to_string(id) + " is given to the token \"" + printable(name, 100) +
              "\" and to another one");
  }
  tokens[index] = {static_cast<std::uint32_t>(bytes.size()), static_cast<std::uint32_t>(token_bytes.size()),
                   true, false};
  bytes += token_bytes;
}

void Tokenizer::Impl::add_added_tokens() {
  TokenTable seen;
  for (std::size_t i = 0; i < definition.added_tokens.size(); ++i) {
    const AddedToken& token = definition.added_tokens[i];
    const std::string field = definition.added_tokens_field + "[" + std::to_string(i) + "]";
    if (!seen.insert(token.content, token.id)) {
      Resolver(definition).fail(field + " \"" + printable(token.content, 100) + "\" stands there twice");
    }
    const std::optional<std::int32_t> id = names.find(token.content);
    if (id && *id != token.id) {
      Resolver(definition)
          .fail(field + ".id is " + std::to_string(token.id) + ", but " + definition.vocab_field +
                " gives \"" + printable(token.content, 100) + "\" " + std::to_string(*id));
    }
    // Added tokens are text as it is, also where the vocabulary has them too.
    if (id) tokens[static_cast<std::size_t>(*id)].exists = false;
    add_token(token.id, token.content, token.content);
    names.insert(token.content, token.id);
    tokens[static_cast<std::size_t>(token.id)].special = token.special;
  }
}

const Token* Tokenizer::Impl::token(std::int32_t id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= tokens.size()) return nullptr;
  const Token& found = tokens[static_cast<std::size_t>(id)];
  return found.exists ? &found : nullptr;
}

void Tokenizer::Impl::append_bytes(std::int32_t id, bool skip_special, std::string& out) const {
  const Token* found = token(id);
  if (found == nullptr)
    throw Error("there is no token " + std::to_string(id), definition.where, "is this the right model?");
  if (!skip_special || !found->special) out += bytes_of(*found);
}

template <typename Rest>
void Tokenizer::Impl::split(const AddedTokenMatcher& matcher, std::string_view text, bool parse_special,
                            std::vector<std::int32_t>& ids, const Rest& rest) const {
  std::size_t done = 0;
  std::size_t from = 0;
  while (const auto match = matcher.find(text, from)) {
    from = match->end;
    if (match->token->special && !parse_special) continue;
    if (match->begin != done) rest(text.substr(done, match->begin - done));
    ids.push_back(match->token->id);
    done = match->end;
  }
  if (done != text.size()) rest(text.substr(done));
}

void Tokenizer::Impl::encode_raw(std::string_view text, bool parse_special,
                                 std::vector<std::int32_t>& ids) const {
  split(raw, text, parse_special, ids, [&](std::string_view part) {
    if (definition.nfc && nfc_may_change(part)) {
      encode_normalized(nfc(part), parse_special, ids);
    } else {
      encode_normalized(part, parse_special, ids);
    }
  });
}

void Tokenizer::Impl::encode_normalized(std::string_view text, bool parse_special,
                                        std::vector<std::int32_t>& ids) const {
  split(normalized, text, parse_special, ids, [&](std::string_view part) { encode_plain(part, ids); });
}

void Tokenizer::Impl::encode_plain(std::string_view text, std::vector<std::int32_t>& ids) const {
  SeenPieces seen(text, ids);
  const auto encode_piece = [this](std::string_view piece, std::vector<std::int32_t>& out) {
    const std::optional<std::int32_t> whole = whole_pieces.find(piece);
    if (whole) {
      out.push_back(*whole);
    } else {
      bpe.encode(piece, out);
    }
  };
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = piece_end(text, at, definition.pattern);
    seen.append(at, end, ids, encode_piece);
    at = end;
  }
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

Tokenizer Tokenizer::from_definition(TokenizerDefinition definition) {
  return Tokenizer(std::make_unique<Impl>(std::move(definition)));
}

Tokenizer Tokenizer::from_folder(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "tokenizer.json";
  TokenizerDefinition definition = parse_tokenizer_json(read_text_file(path, kMaxFileBytes), path.string());
  definition.chat_template = read_chat_template(folder);
  return from_definition(std::move(definition));
}

Tokenizer Tokenizer::from_path(const std::filesystem::path& path) {
  if (!is_gguf_file(path)) return from_folder(path);
  const Gguf file(path);
  TokenizerDefinition definition = read_gguf_tokenizer(file);
  file.check_intact();
  return from_definition(std::move(definition));
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, bool parse_special) const {
  if (text.size() > kMaxTextBytes) {
    throw Error("a text of " + std::to_string(text.size()) + " bytes is too long", {},
                "at most " + std::to_string(kMaxTextBytes) + " bytes can be encoded at once");
  }
  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 4 + 1);
  if (valid_utf8(text)) {
    impl_->encode_raw(text, parse_special, ids);
  } else {
    impl_->encode_raw(utf8::replace_invalid(text), parse_special, ids);
  }
  return ids;
}

std::string Tokenizer::decode(const std::vector<std::int32_t>& ids, bool skip_special) const {
  std::string bytes;
  for (const std::int32_t id : ids) impl_->append_bytes(id, skip_special, bytes);
  return utf8::replace_invalid(bytes);
}

std::string Tokenizer::token_bytes(std::int32_t id) const {
  const Token* token = impl_->token(id);
  return token == nullptr ? std::string() : std::string(impl_->bytes_of(*token));
}

bool Tokenizer::is_special(std::int32_t id) const {
  const Token* token = impl_->token(id);
  return token != nullptr && token->special;
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view token) const {
  return impl_->names.find(token);
}

std::size_t Tokenizer::size() const {
  return impl_->tokens.size();
}

void Tokenizer::check_ids_below(std::size_t vocab_size) const {
  if (size() <= vocab_size) return;  // the last id has a token
  const std::size_t last = size() - 1;
  throw Error("the token \"" + printable(impl_->bytes_of(impl_->tokens[last]), 100) + "\" has the id " +
                  std::to_string(last) + ", past the model's vocabulary",
              impl_->definition.where, "ids go from 0 to " + std::to_string(vocab_size - 1));
}

const std::string& Tokenizer::chat_template() const {
  return impl_->definition.chat_template;
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special) {}

std::string StreamDecoder::push(std::int32_t id) {
  tokenizer_->impl_->append_bytes(id, skip_special_, pending_);
  const std::size_t complete = utf8::complete_prefix(pending_);
  std::string text = utf8::replace_invalid(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::finish() {
  return utf8::replace_invalid(std::exchange(pending_, {}));
}

}  // namespace sluice::model
