// Byte-level BPE from a Hugging Face `tokenizer.json`: NFC, the Qwen pre-tokenizer expression, ranked merges,
// added tokens matched atomically. Gives the ids that Hugging Face `tokenizers` gives.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

struct TokenizerDefinition;

class Tokenizer {
 public:
  // Reads `folder`/tokenizer.json (and tokenizer_config.json if it is there). Throws Error that names file,
  // field and expectation; also for a tokenizer whose model, normalizer or pre-tokenizer is not one we know.
  static Tokenizer from_folder(const std::filesystem::path& folder);
  // The tokenizer of a model's folder, or the one inside a GGUF file.
  static Tokenizer from_path(const std::filesystem::path& path);
  // The same from a definition that another file format gave. Throws Error if its parts don't fit together:
  // ids given twice, merges of tokens that aren't there, a byte of UTF-8 without token.
  static Tokenizer from_definition(TokenizerDefinition definition);
  ~Tokenizer();
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;

  // `text` need not be valid UTF-8: what isn't counts as U+FFFD. With `parse_special` false, special added
  // tokens in `text` are ordinary characters (for text that a user must not be able to forge turns with).
  // Throws Error for a text above 1 GiB. Any number of threads may encode at once.
  std::vector<std::int32_t> encode(std::string_view text, bool parse_special = true) const;

  // The bytes of `ids`, invalid UTF-8 replaced by U+FFFD. With `skip_special`, tokens marked special vanish.
  // Throws Error for an id that has no token. One difference to Hugging Face: it takes an added token that
  // happens to consist of the byte alphabet's letters (such as "é") for encoded bytes; here added tokens are
  // text as they are.
  std::string decode(const std::vector<std::int32_t>& ids, bool skip_special) const;

  // The raw bytes of one token; they may be part of a character. Empty for an id without token, such as the
  // padding at the end of a model's vocabulary.
  std::string token_bytes(std::int32_t id) const;
  bool is_special(std::int32_t id) const;
  // By its text in the file: "<|im_end|>", or "Ġthe" for " the" (the byte alphabet, byte_level.h).
  std::optional<std::int32_t> id_of(std::string_view token) const;

  // Number of ids: every token is below it. The model's head may have more rows (padding): mask those.
  std::size_t size() const;
  // Throws Error that names the file and the token unless all ids are below `vocab_size`: a model has no embedding for others.
  void check_ids_below(std::size_t vocab_size) const;

  // From tokenizer_config.json (or chat_template.jinja), if given.
  const std::string& chat_template() const;

 private:
  friend class StreamDecoder;
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Turns ids into text as they come, never splitting a UTF-8 character: a piece that ends inside one is held
// back until the rest arrives. Holds a reference to the tokenizer.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true);
  // The text that is complete with this id; may be empty.
  std::string push(std::int32_t id);
  // What was held back, as U+FFFD where it stays incomplete.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;
};

}  // namespace sluice::model
