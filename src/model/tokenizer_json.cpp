// tokenizer.json (Hugging Face `tokenizers`, its serialization of a Tokenizer). Vocabulary, merges and added tokens, up to
// hundreds of thousands of entries, go straight into our tables; the rest, small, becomes a tree.
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/json_reader.h"
#include "base/mapped_file.h"
#include "model/tokenizer_definition.h"

namespace sluice::model {
namespace {

// In trees: an added token is an object of seven members; the rest of a file is small.
constexpr std::size_t kMaxTreeValues = 8 * kMaxAddedTokens + (std::size_t{1} << 16U);
// A token is a number, a merge an array of two strings.
constexpr std::size_t kMaxValues = kMaxTokens + 3 * kMaxMerges + kMaxTreeValues;
constexpr std::size_t kMaxDepth = 64;
constexpr const char* kDamaged = "the file is damaged";
constexpr std::size_t kMaxConfigBytes = std::size_t{16} << 20U;

// A value of the tree with the path that errors name it by.
class Field {
 public:
  Field(const Json& json, std::string path, const std::string& where)
      : json_(&json), path_(std::move(path)), where_(&where) {}

  [[noreturn]] void fail(const std::string& what, const std::string& what_to_do = kDamaged) const {
    throw Error((path_.empty() ? "the file" : path_) + " " + what, *where_, what_to_do);
  }

  bool is_null() const { return json_->is_null(); }
  bool is_array() const { return json_->is_array(); }
  const std::string& path() const { return path_; }

  // The member `key`; null if there is none.
  Field member(const std::string& key) const {
    static const Json kNull;
    if (!json_->is_object()) fail("is not an object");
    const auto found = json_->find(key);
    return {found == json_->end() ? kNull : *found, path_.empty() ? key : path_ + "." + key, *where_};
  }

  std::vector<Field> items() const {
    if (!json_->is_array()) fail("is not an array");
    std::vector<Field> all;
    for (std::size_t i = 0; i < json_->size(); ++i) {
      all.emplace_back((*json_)[i], path_ + "[" + std::to_string(i) + "]", *where_);
    }
    return all;
  }

  const std::string& text() const {
    if (!json_->is_string()) fail("is not a string");
    return json_->get_ref<const std::string&>();
  }
  bool flag(bool otherwise) const {
    if (json_->is_null()) return otherwise;
    if (!json_->is_boolean()) fail("is neither true nor false");
    return json_->get<bool>();
  }
  std::int32_t id() const {
    if (!json_->is_number_integer() || json_->get<std::int64_t>() < 0 ||
        json_->get<std::int64_t>() > kMaxTokenId) {
      fail("is not an id between 0 and " + std::to_string(kMaxTokenId));
    }
    return json_->get<std::int32_t>();
  }

  std::string type() const { return member("type").text(); }
  void require_type(const std::string& expected) const {
    const Field type = member("type");
    if (type.text() != expected)
      type.fail("is \"" + type.text() + "\"", "only \"" + expected + "\" is supported");
  }
  void require_flag(const std::string& key, bool expected, bool otherwise) const {
    const Field value = member(key);
    if (value.flag(otherwise) == expected) return;
    value.fail(expected ? "is not true" : "is not false", "nothing else is supported");
  }

 private:
  const Json* json_;
  std::string path_;
  const std::string* where_;
};

void require_empty(const Field& affix) {
  if (!affix.is_null() && !affix.text().empty())
    affix.fail("is not empty", "prefixes and suffixes aren't supported");
}

void read_model(const Field& model, TokenizerDefinition& definition) {
  model.require_type("BPE");
  // `unk_token` and `fuse_unk` concern characters without a token; there are none when every byte has one.
  const Field dropout = model.member("dropout");
  if (!dropout.is_null()) dropout.fail("is not null", "random merges aren't supported");
  require_empty(model.member("continuing_subword_prefix"));
  require_empty(model.member("end_of_word_suffix"));
  model.require_flag("byte_fallback", false, false);
  definition.ignore_merges = model.member("ignore_merges").flag(false);
  if (definition.vocab.size() == 0) model.member("vocab").fail("is missing, empty or not an object");
  if (!model.member("merges").is_array()) model.member("merges").fail("is not an array");
}

bool read_normalizer(const Field& normalizer) {
  if (normalizer.is_null()) return false;
  if (normalizer.type() != "Sequence") {
    normalizer.require_type("NFC");
    return true;
  }
  const std::vector<Field> parts = normalizer.member("normalizers").items();
  for (const Field& part : parts) part.require_type("NFC");
  return !parts.empty();
}

SplitPattern read_pre_tokenizer(const Field& pre_tokenizer) {
  pre_tokenizer.require_type("Sequence");
  const Field parts = pre_tokenizer.member("pretokenizers");
  const std::vector<Field> steps = parts.items();
  if (steps.size() != 2) parts.fail("has not two members", "only Split and then ByteLevel is supported");
  const Field& split = steps[0];
  split.require_type("Split");
  const Field behavior = split.member("behavior");
  if (behavior.text() != "Isolated") behavior.fail("is not \"Isolated\"", "nothing else is supported");
  split.require_flag("invert", false, false);
  const Field expression = split.member("pattern").member("Regex");
  const std::optional<SplitPattern> pattern = split_pattern_of(expression.text());
  if (!pattern) {
    expression.fail("is an unknown expression: " + printable(expression.text(), 200),
                    "only Qwen2's and Qwen3.5's are supported");
  }
  steps[1].require_type("ByteLevel");
  steps[1].require_flag("add_prefix_space", false, true);
  steps[1].require_flag("use_regex", false, true);
  return *pattern;
}

// ByteLevel only moves offsets, which nobody asks for here.
void check_post_processor(const Field& post_processor) {
  if (post_processor.is_null()) return;
  if (post_processor.type() != "Sequence") {
    post_processor.require_type("ByteLevel");
    return;
  }
  for (const Field& part : post_processor.member("processors").items()) part.require_type("ByteLevel");
}

AddedToken read_added_token(const Field& item) {
  const Field content = item.member("content");
  if (content.text().empty() || content.text().size() > kMaxAddedTokenBytes) {
    content.fail("has not between 1 and " + std::to_string(kMaxAddedTokenBytes) + " bytes");
  }
  for (const char* key : {"lstrip", "rstrip", "single_word"}) item.require_flag(key, false, false);
  const bool special = item.member("special").flag(false);
  return {item.member("id").id(), content.text(), special, item.member("normalized").flag(!special)};
}

// The file as a tree, in which the tables that went into the definition are left empty.
class TokenizerJson {
 public:
  TokenizerJson(std::string_view text, TokenizerDefinition& definition)
      : definition_(definition),
        reader_(text, definition.where,
                {.depth = kMaxDepth, .values = kMaxValues, .tree_values = kMaxTreeValues}) {}

  Json read() {
    Json root = reader_.kind() == Kind::kObject
                    ? members([this](const std::string& key) { return root_member(key); })
                    : reader_.tree();
    reader_.end();
    return root;
  }

 private:
  using Kind = JsonReader::Kind;

  [[noreturn]] void fail(const std::string& what) const { throw Error(what, definition_.where, kDamaged); }

  void check_room(const char* field, std::size_t size, std::size_t most) const {
    if (size == most)
      throw Error(std::string(field) + " has more than " + std::to_string(most) + " entries",
                  definition_.where, "is it the right file?");
  }

  // The object that comes next; `value` reads the member of the key it is given.
  template <typename Value>
  Json members(const Value& value) {
    Json::object_t all;
    reader_.object([&](std::string_view key) {
      const auto [place, is_new] = all.try_emplace(std::string(key));
      if (!is_new) reader_.fail_twice(key);
      place->second = value(place->first);
    });
    return all;
  }

  Json root_member(const std::string& key) {
    if (key == "model" && reader_.kind() == Kind::kObject)
      return members([this](const std::string& name) { return model_member(name); });
    if (key != "added_tokens" || reader_.kind() != Kind::kArray) return reader_.tree();
    reader_.array([this] { read_added_token_item(); });
    return Json::array();
  }

  Json model_member(const std::string& key) {
    if (key == "vocab" && reader_.kind() == Kind::kObject) {
      reader_.object([this](std::string_view token) { read_vocab_entry(token); });
      return Json::object();
    }
    if (key != "merges" || reader_.kind() != Kind::kArray) return reader_.tree();
    reader_.array([this] { read_merge(); });
    return Json::array();
  }

  void read_added_token_item() {
    check_room("added_tokens", definition_.added_tokens.size(), kMaxAddedTokens);
    const Json item = reader_.tree();
    const std::string path = "added_tokens[" + std::to_string(definition_.added_tokens.size()) + "]";
    definition_.added_tokens.push_back(read_added_token(Field(item, path, definition_.where)));
  }

  void read_vocab_entry(std::string_view token) {
    check_room("model.vocab", definition_.vocab.size(), kMaxTokens);
    token_.assign(token);
    const auto name = [this] { return "model.vocab[\"" + printable(token_, 200) + "\"]"; };
    if (reader_.kind() != Kind::kNumber) fail(name() + " is not an id");
    const Json id = reader_.scalar();
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > kMaxTokenId)
      fail(name() + " is not an id between 0 and " + std::to_string(kMaxTokenId));
    if (!definition_.vocab.insert(token_, id.get<std::int32_t>()))
      fail("model.vocab has the token \"" + printable(token_, 200) + "\" twice");
  }

  [[noreturn]] void fail_merge() const {
    fail("model.merges[" + std::to_string(definition_.merges.size()) +
         "] is neither \"left right\" nor [\"left\", \"right\"]");
  }

  void read_merge() {
    check_room("model.merges", definition_.merges.size(), kMaxMerges);
    const Kind kind = reader_.kind();
    if (kind == Kind::kString) {
      const std::string_view merge = reader_.string();
      const std::size_t space = merge.find(' ');
      if (space == std::string_view::npos || merge.find(' ', space + 1) != std::string_view::npos)
        fail_merge();
      definition_.merges.push_back(
          {std::string(merge.substr(0, space)), std::string(merge.substr(space + 1))});
      return;
    }
    if (kind != Kind::kArray) fail_merge();
    TokenizerDefinition::Merge merge;
    std::size_t n = 0;
    reader_.array([&] {
      if (n == 2 || reader_.kind() != Kind::kString) fail_merge();
      (n == 0 ? merge.left : merge.right) = reader_.string();
      ++n;
    });
    if (n != 2) fail_merge();
    definition_.merges.push_back(std::move(merge));
  }

  TokenizerDefinition& definition_;
  JsonReader reader_;
  std::string token_;
};

}  // namespace

TokenizerDefinition parse_tokenizer_json(std::string_view text, std::string_view where) {
  TokenizerDefinition definition;
  definition.where = where;
  const Json json = TokenizerJson(text, definition).read();
  // "truncation" and "padding" are settings for batches: whoever asks for ids here wants all and no others.
  const Field root(json, "", definition.where);
  read_model(root.member("model"), definition);
  definition.nfc = read_normalizer(root.member("normalizer"));
  definition.pattern = read_pre_tokenizer(root.member("pre_tokenizer"));
  root.member("decoder").require_type("ByteLevel");
  check_post_processor(root.member("post_processor"));
  const Field added_tokens = root.member("added_tokens");
  if (!added_tokens.is_null() && !added_tokens.is_array()) added_tokens.fail("is not an array");
  return definition;
}

std::string read_chat_template(const std::filesystem::path& folder) {
  const std::filesystem::path jinja = folder / "chat_template.jinja";
  if (is_there(jinja)) return read_text_file(jinja, kMaxConfigBytes);
  const std::filesystem::path config = folder / "tokenizer_config.json";
  if (!is_there(config)) return {};
  const std::string where = config.string();
  const Json json = parse_json(read_text_file(config, kMaxConfigBytes), where);
  const Field field = Field(json, "", where).member("chat_template");
  if (field.is_null()) return {};
  if (!field.is_array()) return field.text();
  for (const Field& item : field.items()) {
    if (item.member("name").text() == "default") return item.member("template").text();
  }
  return {};
}

}  // namespace sluice::model
