// Tokens, their types and merges stand in three arrays of the metadata (ggml-org/ggml, docs/gguf.md, "Tokenizer").
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/utf8.h"
#include "model/gguf_model.h"

namespace sluice::model {
namespace {

constexpr const char* kModel = "tokenizer.ggml.model";
constexpr const char* kPre = "tokenizer.ggml.pre";
constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kTemplate = "tokenizer.chat_template";
constexpr const char* kEmbedding = "token_embd.weight";
constexpr std::size_t kMaxTextBytes = std::size_t{256}
                                      << 20U;  // of all tokens; a tokenizer.json may be as large

// llama.cpp's LLAMA_TOKEN_TYPE_*, but for "undefined" and "unknown", which no byte-level vocabulary has.
enum TokenType : std::int64_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

class Reader {
 public:
  explicit Reader(const Gguf& file) : file_(file), where_(file.path().string()) {}

  TokenizerDefinition read() {
    definition_.where = where_;
    definition_.vocab_field = kTokens;
    definition_.merges_field = kMerges;
    definition_.added_tokens_field = kTokens;
    check_model();
    refuse_frame("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id");
    refuse_frame("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id");
    definition_.pattern = pattern();
    read_tokens();
    read_merges();
    const std::string_view chat_template = file_.text(kTemplate).value_or("");
    if (!valid_utf8(chat_template)) fail(kTemplate, "not valid UTF-8", "text");
    definition_.chat_template = chat_template;
    return std::move(definition_);
  }

 private:
  [[noreturn]] void fail(const std::string& what, const std::string& is, const std::string& expected) const {
    throw Error(what + " is " + is, where_, "expected " + expected);
  }
  static std::string item(const char* key, std::size_t i) { return fmt::format("{}[{}]", key, i); }
  static std::string quoted(std::string_view text) { return '"' + printable(text, 100) + '"'; }

  static bool valid_utf8(std::string_view text) {
    for (std::size_t at = 0; at < text.size();) {
      const utf8::CodePoint point = utf8::decode(text, at);
      if (!point.valid) return false;
      at += point.size;
    }
    return true;
  }

  std::string_view required(const char* key, const std::string& expected) const {
    const auto text = file_.text(key);
    if (!text) fail(key, "missing", expected);
    return *text;
  }

  void check_model() const {
    const std::string expected = "\"gpt2\": byte-level BPE";
    const std::string_view model = required(kModel, expected);
    if (model != "gpt2") fail(kModel, quoted(model), expected);
  }

  SplitPattern pattern() const {
    const std::string expected = "\"qwen35\" or \"qwen2\"";
    const std::string_view pre = required(kPre, expected);
    if (pre == "qwen35") return SplitPattern::kQwen35;
    if (pre == "qwen2") return SplitPattern::kQwen2;
    fail(kPre, quoted(pre), expected);
  }

  // Without an id there is nothing that could be added.
  void refuse_frame(const char* flag, const char* id) const {
    if (file_.flag(flag).value_or(false) && file_.has(id))
      fail(flag, "true", "false: Qwen's models begin and end no text with a token of their own");
  }

  template <typename List>
  List required_list(std::optional<List> list, const char* key, std::size_t most) const {
    if (!list || list->empty()) fail(key, list ? "empty" : "missing", "the tokenizer's list");
    if (list->size() > most)
      fail(key, fmt::format("a list of {}", list->size()), fmt::format("one of at most {}", most));
    return *std::move(list);
  }

  void read_tokens() {
    const auto tokens = required_list(file_.texts(kTokens), kTokens, kMaxTokens);
    const auto types = file_.has(kTypes)
                           ? required_list(file_.wholes(kTypes), kTypes, kMaxTokens)
                           : std::vector<std::int64_t>(tokens.size(), kNormal);  // as in llama.cpp
    if (types.size() != tokens.size())
      fail(kTypes, fmt::format("a list of {}", types.size()),
           fmt::format("one of {}, as {}", tokens.size(), kTokens));
    check_rows(tokens.size());
    std::size_t bytes = 0;
    TokenTable added;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (types[i] == kUnused) continue;  // padding
      bytes += tokens[i].size();
      if (bytes > kMaxTextBytes)
        fail(kTokens, "too long", fmt::format("at most {} bytes of text", kMaxTextBytes));
      if (!valid_utf8(tokens[i])) fail(item(kTokens, i), "not valid UTF-8", "a token in the byte alphabet");
      add_token(i, tokens[i], types[i], added);
    }
  }

  void check_rows(std::size_t n_tokens) const {
    if (!file_.contains(kEmbedding)) return;  // a file with a vocabulary alone
    const TensorView& embedding = file_.tensor(kEmbedding);
    if (!embedding.shape.empty() && n_tokens > embedding.shape.front())
      fail(kTokens, fmt::format("a list of {}", n_tokens),
           fmt::format("at most {}, the rows of {}", embedding.shape.front(), kEmbedding));
  }

  void add_token(std::size_t i, std::string_view text, std::int64_t type, TokenTable& added) {
    const auto id = static_cast<std::int32_t>(i);
    const bool is_added = type == kControl || type == kUserDefined;
    if (!is_added && type != kNormal && type != kByte)
      fail(item(kTypes, i), std::to_string(type), "1, 3, 4, 5 or 6");
    if (is_added && (text.empty() || text.size() > kMaxAddedTokenBytes))
      fail(item(kTokens, i), fmt::format("{} bytes long", text.size()),
           fmt::format("1 to {}: it is matched in texts", kMaxAddedTokenBytes));
    const bool is_new = is_added ? !definition_.vocab.find(text) && added.insert(text, id)
                                 : !added.find(text) && definition_.vocab.insert(text, id);
    if (!is_new) fail(item(kTokens, i), quoted(text), "a token that isn't there yet");
    if (!is_added) return;
    if (definition_.added_tokens.size() == kMaxAddedTokens)
      fail(kTypes, "too long a list of 3 and 4", fmt::format("at most {}", kMaxAddedTokens));
    definition_.added_tokens.push_back(
        {.id = id, .content = std::string(text), .special = type == kControl, .normalized = false});
  }

  // "LEFT RIGHT": neither has a space, which the byte alphabet writes as "Ġ", and neither is empty.
  void read_merges() {
    const auto merges = required_list(file_.texts(kMerges), kMerges, kMaxMerges);
    definition_.merges.reserve(merges.size());
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const std::size_t space = merges[i].find(' ');
      if (space == 0 || space == std::string_view::npos || space + 1 == merges[i].size() ||
          merges[i].find(' ', space + 1) != std::string_view::npos)
        fail(item(kMerges, i), quoted(merges[i]), "\"LEFT RIGHT\"");
      definition_.merges.push_back(
          {std::string(merges[i].substr(0, space)), std::string(merges[i].substr(space + 1))});
    }
  }

  const Gguf& file_;
  std::string where_;
  TokenizerDefinition definition_;
};

}  // namespace

TokenizerDefinition read_gguf_tokenizer(const Gguf& file) {
  return Reader(file).read();
}

}  // namespace sluice::model
