// JSON that keeps what a chat template shows of it: the order of an object's keys, and numbers as Python prints them.
// nlohmann's ordered_json keeps the order too, but looks a key up in linear time: a hostile object takes quadratic time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::model {

struct OrderedJson {
  enum class Kind : std::uint8_t { kNull, kFalse, kTrue, kNumber, kString, kArray, kObject };

  Kind kind = Kind::kNull;
  std::string key;                    // in the object that holds this value
  std::string text;                   // a string's characters (UTF-8), a number as Python's repr() prints it
  std::vector<OrderedJson> children;  // an array's elements, an object's values

  // The member of that name, or null; linear in the number of members.
  const OrderedJson* find(std::string_view name) const;
};

// Throws Error naming `where` for what base/json.h's parse_json refuses (bad syntax, bad UTF-8, a key given twice, more
// than 64 levels), for a number that no double holds, and for more than a million values: no context of a model holds
// such a conversation. Time is linear in the text (n log n in the keys of one object).
OrderedJson parse_ordered_json(std::string_view text, std::string_view where);

// As Python's json.dumps(value, ensure_ascii=False) prints it, which is what `tojson` means in a chat template.
void append_python_json(const OrderedJson& value, std::string& out);

// A double as Python's repr() prints it: the shortest digits that read back, "1e+16" from 1e16 on, "1e-05" below 1e-4, else
// with at least one decimal ("1.0"). `value` must be finite.
std::string python_repr(double value);

}  // namespace sluice::model
