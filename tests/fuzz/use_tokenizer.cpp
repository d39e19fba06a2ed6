#include "tests/fuzz/use_tokenizer.h"

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace sluice::fuzz {

void use_tokenizer(const model::Tokenizer& tokenizer, std::string_view text) {
  constexpr std::size_t kMostBytes = 400;
  std::string all = "Hello, world's  12\r\n\t<|im_start|>e\u0301\u4f60\U0001F600\xff\xf0\x9f ";
  all += text.substr(0, kMostBytes);
  for (const bool special : {true, false}) {
    const std::vector<std::int32_t> ids = tokenizer.encode(all, special);
    static_cast<void>(tokenizer.decode(ids, special));
    model::StreamDecoder decoder(tokenizer, special);
    for (const std::int32_t id : ids) {
      SLUICE_CHECK(id >= 0 && static_cast<std::size_t>(id) < tokenizer.size());
      static_cast<void>(decoder.push(id));
    }
    static_cast<void>(decoder.finish());
  }
  static_cast<void>(tokenizer.id_of(text.substr(0, kMostBytes)));
}

}  // namespace sluice::fuzz
