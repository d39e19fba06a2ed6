#include "base/error.h"
#include "model/gguf.h"
#include "model/gguf_model.h"
#include "model/tokenizer.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/use_tensors.h"
#include "tests/fuzz/use_tokenizer.h"

namespace sluice::fuzz {
namespace {

template <typename Action>
bool accepted(Action&& action) {
  try {
    action();
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Asks for `key` as every type.
void use_key(const model::Gguf& file, std::string_view key) {
  accepted([&] { static_cast<void>(file.whole(key)); });
  accepted([&] { static_cast<void>(file.number(key)); });
  accepted([&] { static_cast<void>(file.flag(key)); });
  accepted([&] { static_cast<void>(file.text(key)); });
  accepted([&] { static_cast<void>(file.wholes(key)); });
  accepted([&] { static_cast<void>(file.texts(key)); });
}

bool use_file(const model::Gguf& file) {
  for (const auto& [name, tensor] : file.tensors()) use_tensor(tensor);
  for (const char* key :
       {"general.architecture", "general.alignment", "qwen35.block_count", "qwen35.rope.dimension_sections",
        "qwen35.attention.layer_norm_rms_epsilon", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type",
        "tokenizer.ggml.add_bos_token", "k"})
    use_key(file, key);
  const bool model =
      accepted([&] { use_model(model::read_gguf_weights(file, model::read_gguf_config(file), {})); });
  const bool tokenizer = accepted([&] {
    use_tokenizer(model::Tokenizer::from_definition(model::read_gguf_tokenizer(file)), file.path().string());
  });
  return model && (tokenizer || !file.has("tokenizer.ggml.model"));
}

}  // namespace

bool gguf(std::string_view input) {
  static const MemoryFile memory;
  memory.set(input);
  bool all = false;
  return accepted([&] { all = use_file(model::Gguf(memory.path())); }) && all;
}

}  // namespace sluice::fuzz
