// tokenizer.json (Hugging Face `tokenizers`, its serialization of a Tokenizer). Vocabulary and merges,
// hundreds of thousands of entries, go from the parser's events straight into our tables; the rest, small,
// becomes a tree.
#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "model/tokenizer_definition.h"

namespace sluice::model {
namespace {

constexpr std::size_t kMaxDepth = 64;
constexpr const char* kDamaged = "the file is damaged";
constexpr std::size_t kMaxConfigBytes = std::size_t{16} << 20U;

class TokenizerJsonHandler : public nlohmann::json_sax<Json> {
 public:
  TokenizerJsonHandler(std::string_view where, TokenizerDefinition& definition)
      : where_(where), definition_(definition) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return integer(value); }
  bool number_unsigned(number_unsigned_t value) override {
    return integer(static_cast<std::int64_t>(std::min<std::uint64_t>(value, std::uint64_t{1} << 62U)));
  }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return add(value); }
  bool binary(binary_t& value) override { return add(std::move(value)); }

  bool string(string_t& value) override {
    if (state_ == State::kMerges) return spaced_merge(value);
    if (state_ != State::kMergePair) return add(std::move(value));
    if (pair_.size() == 2) fail_merge();
    pair_.push_back(std::move(value));
    return true;
  }

  bool key(string_t& value) override {
    key_ = std::move(value);
    if (state_ == State::kTree && open_.back()->contains(key_))
      fail("key \"" + key_ + "\" stands there twice");
    return true;
  }

  bool start_object(std::size_t /*size*/) override {
    if (state_ == State::kTree && in_model() && key_ == "vocab") state_ = State::kVocabNext;
    return open(Json::object());
  }
  bool start_array(std::size_t /*size*/) override {
    if (state_ == State::kMerges) {
      state_ = State::kMergePair;
      pair_.clear();
      return true;
    }
    if (state_ == State::kTree && in_model() && key_ == "merges") state_ = State::kMergesNext;
    return open(Json::array());
  }
  bool end_object() override { return close(); }
  bool end_array() override {
    if (state_ != State::kMergePair) return close();
    if (pair_.size() != 2) fail_merge();
    definition_.merges.push_back({std::move(pair_[0]), std::move(pair_[1])});
    state_ = State::kMerges;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*reason*/) override {
    throw Error("not valid JSON at byte " + std::to_string(position), where_, "is the file complete?");
  }

  Json take() { return std::move(root_); }

 private:
  enum class State : std::uint8_t {
    kTree,
    kVocabNext,  // the object that opens now is model.vocab
    kVocab,
    kMergesNext,  // the array that opens now is model.merges
    kMerges,
    kMergePair,
  };

  [[noreturn]] void fail(const std::string& what) const { throw Error(what, where_, kDamaged); }
  [[noreturn]] void fail_merge() const {
    fail("model.merges[" + std::to_string(definition_.merges.size()) +
         "] is neither \"left right\" nor [\"left\", \"right\"]");
  }

  // Whether the value that comes is a member of "model".
  bool in_model() const { return open_.size() == 2 && open_.back() == model_; }

  // Only tree values may stand here.
  void require_tree() const {
    if (state_ == State::kVocab) fail("model.vocab[\"" + key_ + "\"] is not an id");
    if (state_ == State::kMerges || state_ == State::kMergePair) fail_merge();
  }

  Json* place(Json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    return &(parent[key_] = std::move(value));
  }

  bool add(Json value) {
    require_tree();
    place(std::move(value));
    return true;
  }

  bool integer(std::int64_t value) {
    if (state_ != State::kVocab) return add(value);
    if (value < 0 || value > kMaxTokenId) {
      fail("model.vocab[\"" + key_ + "\"] is not an id between 0 and " + std::to_string(kMaxTokenId));
    }
    if (!definition_.vocab.insert(key_, static_cast<std::int32_t>(value))) {
      fail("model.vocab has the token \"" + key_ + "\" twice");
    }
    return true;
  }

  bool spaced_merge(const std::string& merge) {
    const std::size_t space = merge.find(' ');
    if (space == std::string::npos || merge.find(' ', space + 1) != std::string::npos) fail_merge();
    definition_.merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
    return true;
  }

  bool open(Json value) {
    require_tree();
    if (open_.size() >= kMaxDepth) fail("JSON nested deeper than " + std::to_string(kMaxDepth) + " levels");
    const bool is_model = open_.size() == 1 && open_.back()->is_object() && key_ == "model";
    open_.push_back(place(std::move(value)));
    if (is_model) model_ = open_.back();
    if (state_ == State::kVocabNext) state_ = State::kVocab;
    if (state_ == State::kMergesNext) state_ = State::kMerges;
    return true;
  }

  bool close() {
    open_.pop_back();
    state_ = State::kTree;
    return true;
  }

  std::string where_;
  TokenizerDefinition& definition_;
  State state_ = State::kTree;
  Json root_;
  std::vector<Json*> open_;  // a parent is never appended to while a child is open, so these stay valid
  const Json* model_ = nullptr;
  std::string key_;
  std::vector<std::string> pair_;
};

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

std::vector<AddedToken> read_added_tokens(const Field& field) {
  std::vector<AddedToken> tokens;
  if (field.is_null()) return tokens;
  for (const Field& item : field.items()) {
    const Field content = item.member("content");
    if (content.text().empty() || content.text().size() > kMaxAddedTokenBytes) {
      content.fail("has not between 1 and " + std::to_string(kMaxAddedTokenBytes) + " bytes");
    }
    for (const char* key : {"lstrip", "rstrip", "single_word"}) item.require_flag(key, false, false);
    const bool special = item.member("special").flag(false);
    tokens.push_back(
        {item.member("id").id(), content.text(), special, item.member("normalized").flag(!special)});
  }
  return tokens;
}

}  // namespace

TokenizerDefinition parse_tokenizer_json(std::string_view text, std::string_view where) {
  TokenizerDefinition definition;
  definition.where = where;
  TokenizerJsonHandler handler(where, definition);
  refuse_zero_bytes(text, where);
  Json::sax_parse(text.begin(), text.end(), &handler);
  const Json json = handler.take();
  // "truncation" and "padding" are settings for batches: whoever asks for ids here wants all and no others.
  const Field root(json, "", definition.where);
  read_model(root.member("model"), definition);
  definition.nfc = read_normalizer(root.member("normalizer"));
  definition.pattern = read_pre_tokenizer(root.member("pre_tokenizer"));
  root.member("decoder").require_type("ByteLevel");
  check_post_processor(root.member("post_processor"));
  definition.added_tokens = read_added_tokens(root.member("added_tokens"));
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
