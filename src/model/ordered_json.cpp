#include "model/ordered_json.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/json.h"

namespace sluice::model {
namespace {

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxValues = 1'000'000;

class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(std::string_view where) : where_(where) {}

  bool null() override { return add(OrderedJson::Kind::kNull, {}); }
  bool boolean(bool value) override {
    return add(value ? OrderedJson::Kind::kTrue : OrderedJson::Kind::kFalse, {});
  }
  bool number_integer(number_integer_t value) override {
    return add(OrderedJson::Kind::kNumber, std::to_string(value));
  }
  bool number_unsigned(number_unsigned_t value) override {
    return add(OrderedJson::Kind::kNumber, std::to_string(value));
  }
  // Also integers of more than 64 bits: those are as exact in Python as they are written.
  bool number_float(number_float_t value, const string_t& text) override {
    const bool is_integer = text.find_first_not_of("-0123456789") == string_t::npos;
    return add(OrderedJson::Kind::kNumber, is_integer ? text : python_repr(value));
  }
  bool string(string_t& value) override { return add(OrderedJson::Kind::kString, std::move(value)); }
  bool binary(binary_t& /*value*/) override { return false; }  // never called for JSON text

  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }
  bool start_object(std::size_t /*size*/) override { return open(OrderedJson::Kind::kObject); }
  bool start_array(std::size_t /*size*/) override { return open(OrderedJson::Kind::kArray); }
  bool end_object() override {
    refuse_repeated_keys(*open_.back());
    return end_array();
  }
  bool end_array() override {
    open_.pop_back();
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& reason) override {
    constexpr int kNumberOutOfRange = 406;
    if (reason.id == kNumberOutOfRange) {
      throw Error("a number is too large before byte " + std::to_string(position), where_,
                  "numbers go up to 1.79e308");
    }
    throw Error("not valid JSON at byte " + std::to_string(position), where_, "is it complete?");
  }

  OrderedJson take() { return std::move(root_); }

 private:
  OrderedJson& place(OrderedJson::Kind kind, std::string text) {
    if (++n_values_ > kMaxValues)
      throw Error("more than a million JSON values", where_, "is it the right file?");
    OrderedJson& value = open_.empty() ? root_ : open_.back()->children.emplace_back();
    value.kind = kind;
    value.text = std::move(text);
    value.key = std::exchange(key_, {});
    return value;
  }

  bool add(OrderedJson::Kind kind, std::string text) {
    place(kind, std::move(text));
    return true;
  }

  bool open(OrderedJson::Kind kind) {
    if (open_.size() >= kMaxDepth) {
      throw Error("JSON nested deeper than " + std::to_string(kMaxDepth) + " levels", where_,
                  "is it the right file?");
    }
    open_.push_back(&place(kind, {}));
    return true;
  }

  void refuse_repeated_keys(const OrderedJson& object) const {
    std::vector<std::string_view> keys;
    keys.reserve(object.children.size());
    for (const OrderedJson& child : object.children) keys.emplace_back(child.key);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice != keys.end())
      throw Error("the JSON key \"" + std::string(*twice) + "\" stands there twice", where_, "leave one");
  }

  std::string where_;
  OrderedJson root_;
  std::vector<OrderedJson*>
      open_;  // a parent is never appended to while a child is open, so these stay valid
  std::string key_;
  std::size_t n_values_ = 0;
};

void append_python_string(std::string_view text, std::string& out) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"':
      case '\\':
        out.append(1, '\\').append(1, c);
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (byte < 0x20) {
          out.append("\\u00").append(1, kHex[byte >> 4U]).append(1, kHex[byte & 15U]);
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

}  // namespace

const OrderedJson* OrderedJson::find(std::string_view name) const {
  const auto found = std::find_if(children.begin(), children.end(),
                                  [&](const OrderedJson& child) { return child.key == name; });
  return found == children.end() ? nullptr : &*found;
}

OrderedJson parse_ordered_json(std::string_view text, std::string_view where) {
  refuse_zero_bytes(text, where);
  Builder builder(where);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

void append_python_json(const OrderedJson& value, std::string& out) {
  switch (value.kind) {
    case OrderedJson::Kind::kNull:
      out += "null";
      return;
    case OrderedJson::Kind::kFalse:
      out += "false";
      return;
    case OrderedJson::Kind::kTrue:
      out += "true";
      return;
    case OrderedJson::Kind::kNumber:
      out += value.text;
      return;
    case OrderedJson::Kind::kString:
      append_python_string(value.text, out);
      return;
    case OrderedJson::Kind::kArray:
    case OrderedJson::Kind::kObject:
      break;
  }
  const bool is_object = value.kind == OrderedJson::Kind::kObject;
  out += is_object ? '{' : '[';
  bool first = true;
  for (const OrderedJson& child : value.children) {
    if (!std::exchange(first, false)) out += ", ";
    if (is_object) {
      append_python_string(child.key, out);
      out += ": ";
    }
    append_python_json(child, out);
  }
  out += is_object ? '}' : ']';
}

std::string python_repr(double value) {
  SLUICE_CHECK(std::isfinite(value));
  std::array<char, 32> buffer{};  // the longest: -1.2345678901234567e-308
  const auto written =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  SLUICE_CHECK(written.ec == std::errc());
  std::string scientific(buffer.data(), written.ptr);  // [-]D[.DDD]e[+-]EE
  const std::size_t e = scientific.find('e');
  const int exponent = std::stoi(scientific.substr(e + 1));
  if (exponent < -4 || exponent >= 16) return scientific;

  const std::size_t begin = scientific.front() == '-' ? 1 : 0;
  std::string digits = scientific.substr(begin, e - begin);
  std::erase(digits, '.');
  if (exponent < 0) {
    digits.insert(0, static_cast<std::size_t>(-exponent), '0');
    digits.insert(1, 1, '.');
  } else {
    const auto whole = static_cast<std::size_t>(exponent) + 1;
    if (digits.size() < whole + 1) digits.append(whole + 1 - digits.size(), '0');
    digits.insert(whole, 1, '.');
  }
  return scientific.substr(0, begin) + digits;
}

}  // namespace sluice::model
