#include "base/error.h"
#include "model/tokenizer.h"
#include "model/tokenizer_definition.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/use_tokenizer.h"

namespace sluice::fuzz {

bool tokenizer_json(std::string_view input) {
  try {
    use_tokenizer(model::Tokenizer::from_definition(model::parse_tokenizer_json(input, "tokenizer.json")),
                  input);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace sluice::fuzz
