#include "base/json.h"

#include <string>

#include "base/error.h"
#include "base/json_reader.h"

namespace sluice {

void refuse_zero_bytes(std::string_view text, std::string_view where) {
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos)
    throw Error("not valid JSON at byte " + std::to_string(zero + 1), where, "is the file complete?");
}

Json parse_json(std::string_view text, std::string_view where, std::size_t max_depth,
                std::size_t max_values) {
  JsonReader reader(text, where, {.depth = max_depth, .values = max_values});
  Json tree = reader.tree();
  reader.end();
  return tree;
}

}  // namespace sluice
