#include "base/json.h"

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace sluice {
namespace {

// Builds the document event by event, so that what the tree can't show any more (a key given twice) is seen
// and what would exhaust the stack (deep nesting) is refused.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view where, std::size_t max_depth) : where_(where), max_depth_(max_depth) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::move(value)); }
  bool start_object(std::size_t /*size*/) override { return open(Json::object()); }
  bool start_array(std::size_t /*size*/) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& value) override {
    key_ = std::move(value);
    if (open_.back()->contains(key_))
      throw Error("the JSON key \"" + key_ + "\" stands there twice", where_, "leave one");
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& /*reason*/) override {
    throw Error("not valid JSON at byte " + std::to_string(position), where_, "is the file complete?");
  }

  Json take() { return std::move(root_); }

 private:
  Json* place(Json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    return &(parent[key_] = std::move(value));
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json value) {
    if (open_.size() >= max_depth_)
      throw Error("JSON nested deeper than " + std::to_string(max_depth_) + " levels", where_,
                  "is it the right file?");
    open_.push_back(place(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  std::string where_;
  std::size_t max_depth_;
  Json root_;
  std::vector<Json*> open_;  // a parent is never appended to while a child is open, so these stay valid
  std::string key_;
};

}  // namespace

void refuse_zero_bytes(std::string_view text, std::string_view where) {
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos)
    throw Error("not valid JSON at byte " + std::to_string(zero + 1), where, "is the file complete?");
}

Json parse_json(std::string_view text, std::string_view where, std::size_t max_depth) {
  refuse_zero_bytes(text, where);
  Builder builder(where, max_depth);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace sluice
