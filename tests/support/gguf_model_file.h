// Small GGUF files of models, right ones, and what they become when a key or a tensor changes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/config.h"
#include "model/weights.h"
#include "tests/support/checkpoints.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_checkpoints.h"

namespace sluice::test {

// A GGUF file that may be spoilt before it is read.
struct GgufModelFile {
  model::ModelConfig config;
  std::vector<StoredTensor> hf;
  GgufWriter writer;

  GgufWriter::Tensor& tensor(const std::string& name) {
    return *std::find_if(writer.tensors.begin(), writer.tensors.end(),
                         [&](const auto& t) { return t.name == name; });
  }
  void erase_tensor(const std::string& name) {
    std::erase_if(writer.tensors, [&](const auto& t) { return t.name == name; });
  }
  void erase_key(const std::string& key) {
    std::erase_if(writer.keys, [&](const auto& pair) { return pair.first == key; });
  }
  template <typename T>
  void set(const std::string& key, const T& value) {
    erase_key(key);
    writer.key(key, value);
  }
  template <typename T>
  void set_list(const std::string& key, const std::vector<T>& values) {
    erase_key(key);
    writer.array(key, values);
  }
  void set_size(const std::string& key, std::size_t value) {
    set("qwen35." + key, static_cast<std::uint32_t>(value));
  }

  // As llama.cpp's converter does by --fuse-qkv: the rows of attn_q, attn_k and attn_v of all attention layers in one tensor.
  void fuse_qkv() {
    const std::vector<GgufWriter::Tensor> before = writer.tensors;
    for (const GgufWriter::Tensor& q : before) {
      if (!q.name.ends_with(".attn_q.weight")) continue;
      const std::string at = q.name.substr(0, q.name.size() - std::string("q.weight").size());
      GgufWriter::Tensor& fused = tensor(q.name);
      fused.name = at + "qkv.weight";
      for (const char* part : {"k.weight", "v.weight"}) {
        const GgufWriter::Tensor& below = tensor(at + part);
        tensor(fused.name).dimensions[1] += below.dimensions[1];
        tensor(fused.name).data += below.data;
      }
      erase_tensor(at + "k.weight");
      erase_tensor(at + "v.weight");
    }
  }

  model::Model load() const {
    const TempFolder folder;
    return model::load_model(folder.write("some.gguf", writer.file()));
  }
  model::ModelConfig read() const {
    const TempFolder folder;
    return model::read_config(folder.write("some.gguf", writer.file()));
  }
  std::string failure() const {
    const std::string message = error_of([&] { load(); });
    EXPECT_THAT(message, testing::HasSubstr("some.gguf"));
    return message;
  }
};

inline GgufModelFile small_gguf(Random& random, const Shapes& shapes = {}) {
  GgufModelFile file;
  file.config = model::parse_config(text_config(shapes), "config.json");
  file.hf = CheckpointTensors(random, shapes, "model.").draw();
  file.writer = GgufConverter(file.config, file.hf, "model.").convert();
  return file;
}

}  // namespace sluice::test
