// JSON from outside as a tree, with the checks that hostile files call for. json_reader.h reads what is too large for one.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

namespace sluice {

using Json = nlohmann::json;

// Parses `text`. Throws Error naming `where` (a file name) and the byte offset for a syntax error, invalid
// UTF-8, an object that has the same key twice (readers differ in which one they take: that is how a file
// shows one thing to a checker and another to a loader), nesting deeper than `max_depth`, or more than `max_values`
// values.
Json parse_json(std::string_view text, std::string_view where, std::size_t max_depth = 64,
                std::size_t max_values = std::size_t{1} << 20U);

// Throws Error, as for a syntax error, if `text` holds a zero byte: nlohmann's parser takes one for the end of the text
// and would never look at what stands behind it.
void refuse_zero_bytes(std::string_view text, std::string_view where);

}  // namespace sluice
