// Keys and values take memory as positions are written, and give it back.
#include "cpu/sequences.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/random_model.h"

namespace sluice::cpu {
namespace {

// Bytes of [begin, begin + n) that are in memory. Reading them would not change that.
std::size_t in_memory(const void* begin, std::size_t n) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  auto* first = reinterpret_cast<std::byte*>(reinterpret_cast<std::uintptr_t>(begin) / page * page);
  const std::size_t size = static_cast<std::size_t>(static_cast<const std::byte*>(begin) - first) + n;
  std::vector<unsigned char> pages((size + page - 1) / page);
  EXPECT_EQ(::mincore(first, size, pages.data()), 0);
  return page * static_cast<std::size_t>(
                    std::ranges::count_if(pages, [](unsigned char is) { return (is & 1U) != 0; }));
}

TEST(Sequences, TakeMemoryAsPositionsAreWritten) {
  constexpr std::size_t kContext = 1 << 18;
  const model::ModelConfig config = model::known_shape("qwen3.5-0.8b").value();
  Sequences sequences(config, 2, kContext);  // 6.4 GB of addresses
  const std::size_t layer = 3;               // attention
  ASSERT_EQ(config.layers[layer], model::LayerKind::kAttention);
  const std::size_t n = kContext * config.head_dim * sizeof(std::uint16_t);
  std::uint16_t* keys = sequences.keys(layer, 0, 1);
  EXPECT_EQ(in_memory(keys, n), 0U);
  constexpr std::size_t kUsed = 1000;
  const std::size_t used = kUsed * config.head_dim * sizeof(std::uint16_t);
  std::fill_n(keys, kUsed * config.head_dim, std::uint16_t{1});
  EXPECT_GE(in_memory(keys, n), used);
  // A page at each end, or a huge page where the system hands those out unasked.
  EXPECT_LE(in_memory(keys, n), used + (std::size_t{4} << 20U));
  EXPECT_EQ(in_memory(sequences.keys(layer, 1, 1), n), 0U) << "the other slot";

  sequences.advance(0, kUsed);
  sequences.delta_state(0, 0, 0)[0] = 1;
  sequences.reset(0);
  EXPECT_EQ(sequences.length(0), 0U);
  EXPECT_EQ(in_memory(keys, n), 0U);
  EXPECT_EQ(keys[0], 0);
  EXPECT_EQ(sequences.delta_state(0, 0, 0)[0], 0);
}

TEST(Sequences, KeepLayersHeadsAndSlotsApart) {
  model::ModelConfig config = model::known_shape("qwen3.5-0.8b").value();
  constexpr std::size_t kContext = 3;
  Sequences sequences(config, 2, kContext);
  std::vector<std::pair<std::byte*, std::byte*>> ranges;
  const auto add = [&](auto* data, std::size_t n) {
    ranges.emplace_back(reinterpret_cast<std::byte*>(data), reinterpret_cast<std::byte*>(data + n));
    std::fill_n(data, n, 0);  // may be written
  };
  for (std::size_t slot = 0; slot < 2; ++slot) {
    for (std::size_t layer = 0; layer < config.n_layers(); ++layer) {
      if (config.layers[layer] == model::LayerKind::kAttention) {
        for (std::size_t head = 0; head < config.n_kv_heads; ++head) {
          add(sequences.keys(layer, slot, head), kContext * config.head_dim);
          add(sequences.values(layer, slot, head), kContext * config.head_dim);
        }
        continue;
      }
      for (std::size_t head = 0; head < config.n_value_heads; ++head)
        add(sequences.delta_state(layer, slot, head), config.key_head_dim * config.value_head_dim);
      add(sequences.conv_state(layer, slot, 0), config.conv_dim() * (config.conv_kernel - 1));
    }
  }
  std::ranges::sort(ranges);
  for (std::size_t i = 1; i < ranges.size(); ++i) EXPECT_LE(ranges[i - 1].second, ranges[i].first);
}

}  // namespace
}  // namespace sluice::cpu
