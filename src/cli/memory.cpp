#include "cli/memory.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/free_memory.h"
#include "cli/decode_cost.h"
#include "model/encode_memory.h"
#include "model/gguf.h"
#include "model/gguf_model.h"
#include "program/program.h"

namespace sluice::cli {
namespace {

constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max();
constexpr std::size_t kFp32 = sizeof(float);

// Sums and products that stop at the largest number.
std::size_t plus(std::size_t a, std::size_t b) {
  return checked_add(a, b).value_or(kMost);
}
std::size_t times(std::size_t a, std::size_t b) {
  return checked_multiply(a, b).value_or(kMost);
}

// Vectors that grow to `rows` rows, `parts` insertions a row. Their capacity doubles, from one part on.
struct Growth {
  std::size_t capacity = 0;  // rows that are reserved in the end
  std::size_t moved = 0;     // rows of the old vector that were there beside the new one at the last doubling
};

Growth growth(std::size_t rows, std::size_t parts) {
  if (rows == 0) return {};
  const std::size_t insertions = times(rows, parts);
  if (insertions > kMost / 2) return {kMost, kMost};
  const std::size_t capacity = std::bit_ceil(insertions);
  return {.capacity = (capacity + parts - 1) / parts, .moved = capacity / 2 / parts};
}

// Vectors that every layer copies out of the checkpoint. A convolution is there twice while its channels are put in order.
std::size_t copied_weights(const model::ModelConfig& config) {
  const std::size_t conv = config.conv_dim() * config.conv_kernel;
  std::size_t floats = config.hidden_size;
  std::size_t twice = 0;
  for (const model::LayerKind kind : config.layers) {
    floats += 2 * config.hidden_size;
    if (kind == model::LayerKind::kAttention) {
      floats += 2 * config.head_dim;
    } else {
      floats += conv + 6 * config.n_value_heads + config.value_head_dim;
      twice = conv;
    }
  }
  if (config.n_mtp_layers > 0)
    floats += 3 * config.hidden_size + config.n_mtp_layers * 2 * (config.hidden_size + config.head_dim);
  return times(floats + twice, kFp32);
}

// What one step works in: activations of a row, its logits, and the sampler's candidates.
std::size_t workspace(const model::ModelConfig& config) {
  const std::size_t activations =
      4 * (config.hidden_size + config.intermediate_size + config.conv_dim() + 2 * config.query_dim());
  return times(plus(activations, times(6, config.vocab_size)), kFp32);
}

struct Shortage {
  std::size_t needed = 0;
  std::size_t free = 0;
  std::string_view where;
};

std::optional<Shortage> shortage(const MemoryNeed& need, std::size_t mapped_bytes, const FreeMemory& free) {
  if (free.memory && need.resident > *free.memory) return Shortage{need.resident, *free.memory, "memory"};
  if (free.data && need.reserved > *free.data)
    return Shortage{need.reserved, *free.data, "limit on data, ulimit -d"};
  const std::size_t mapped = plus(need.reserved, mapped_bytes);
  if (free.address_space && mapped > *free.address_space)
    return Shortage{mapped, *free.address_space, "limit on address space, ulimit -v"};
  return std::nullopt;
}

std::optional<Shortage> shortage(const model::ModelConfig& config, const MemoryPlan& plan,
                                 const FreeMemory& free) {
  return shortage(memory_need(config, plan), plan.mapped_bytes, free);
}

// The largest context that fits; 0 if none does.
std::size_t largest_context(const model::ModelConfig& config, MemoryPlan plan, const FreeMemory& free) {
  std::size_t fits = 0;
  std::size_t fails = plan.context;
  while (fails - fits > 1) {
    plan.context = fits + (fails - fits) / 2;
    (shortage(config, plan, free) ? fails : fits) = plan.context;
  }
  return fits;
}

}  // namespace

namespace {

constexpr std::size_t kProgram = std::size_t{24} << 20U;  // code, libraries, a small model's tensor list

MemoryNeed cpu_need(const model::ModelConfig& config, const MemoryPlan& plan, const CpuMemory& cpu) {
  const SequenceBytes sequence = sequence_bytes(config);
  // A worker has its part of a product's left side in fp32 and bf16.
  const std::size_t widest =
      std::max({config.hidden_size, config.intermediate_size, config.value_dim(), config.query_dim()});
  const std::size_t rows = std::min(std::max(cpu.rows, plan.rows), plan.context);
  const std::size_t activations = times(rows, activation_bytes(config));
  constexpr std::size_t kRowsOfGroup = 128;
  const std::size_t worker = times(kRowsOfGroup, times(2 * widest, kFp32));
  // A Program has splits for the next power of two; a prompt's last piece may be a short span.
  const std::size_t splits = 2 * (plan.context / program::kKvSplit + 1);
  const std::size_t partial =
      times(times(splits, program::kMaxShortSpan), times(config.n_heads, (config.head_dim + 2) * kFp32));
  const std::size_t logits = times(plan.rows + 2, times(config.vocab_size, kFp32));
  std::size_t need = times(sequence.kv_per_token, plan.context);
  for (const std::size_t part :
       {kProgram, copied_weights(config), cpu.packed_bytes, sequence.delta_state, sequence.conv_state,
        activations, times(worker, cpu.threads), partial, logits, plan.other_bytes})
    need = plus(need, part);
  return {.resident = need, .reserved = need};
}

}  // namespace

std::size_t activation_bytes(const model::ModelConfig& config) {
  std::size_t projection = 0;
  for (const model::LayerKind kind : {model::LayerKind::kDeltaNet, model::LayerKind::kAttention})
    projection = std::max<std::size_t>(projection, program::projection_layout(config, kind).width);
  const std::size_t mixed = std::max(config.value_dim(), config.query_dim());
  return times(config.hidden_size + projection + mixed + config.intermediate_size, kFp32);
}

MemoryNeed memory_need(const model::ModelConfig& config, const MemoryPlan& plan) {
  if (plan.cpu) return cpu_need(config, plan, *plan.cpu);
  constexpr std::size_t kFp32PerBf16 = 2;  // the oracle keeps keys and values in fp32
  const SequenceBytes sequence = sequence_bytes(config);
  // Resetting a sequence makes the new state beside the old one.
  std::size_t fixed = times(2, plus(sequence.delta_state, sequence.conv_state));
  for (const std::size_t part : {kProgram, copied_weights(config), workspace(config), plan.other_bytes})
    fixed = plus(fixed, part);
  // Every attention layer has a vector of keys, which come head by head, and one of values; they move one at a time.
  const std::size_t half_row = times(kFp32PerBf16, sequence.kv_per_token / 2);
  const Growth keys = growth(plan.context, config.n_kv_heads);
  const Growth values = growth(plan.context, 1);
  const std::size_t moving =
      half_row == 0 ? 0 : times(std::max(keys.moved, values.moved), times(config.kv_dim(), kFp32));
  const std::size_t logits_row = times(config.vocab_size, kFp32);
  const Growth logits = growth(plan.rows, 1);
  const std::size_t both = plus(moving, times(logits.moved, logits_row));
  const std::size_t kv = times(times(2, half_row), plan.context);
  const std::size_t kv_reserved = times(half_row, plus(keys.capacity, values.capacity));
  return {.resident = plus(plus(fixed, both), plus(kv, times(plan.rows, logits_row))),
          .reserved = plus(plus(fixed, both), plus(kv_reserved, times(logits.capacity, logits_row)))};
}

bool memory_fits(const model::ModelConfig& config, const MemoryPlan& plan) {
  return !shortage(config, plan, free_memory());
}

void check_memory(const model::ModelConfig& config, const MemoryPlan& plan) {
  const FreeMemory free = free_memory();
  const auto found = shortage(config, plan, free);
  if (!found) return;
  const std::size_t context = largest_context(config, plan, free);
  MemoryPlan small = plan;
  small.rows = 1;
  MemoryPlan textless = plan;
  textless.other_bytes -= plan.text_bytes;
  std::string advice = "close other programs, raise the limit, or take a smaller model";
  if (plan.rows > 1 && !shortage(config, small, free)) {
    advice = "feed the tokens in smaller pieces (--split)";
  } else if (plan.text_bytes > 0 && !shortage(config, textless, free)) {
    advice = kShorterText;
  } else if (context > 0 && plan.what_helps != nullptr) {
    advice = fmt::format(fmt::runtime(plan.what_helps), context);
  }
  throw Error(fmt::format("needs {}, {} free", bytes_text(found->needed), bytes_text(found->free)),
              found->where, advice);
}

bool bytes_fit(std::size_t bytes) {
  return !shortage(MemoryNeed{.resident = bytes, .reserved = bytes}, 0, free_memory());
}

void check_bytes(std::size_t bytes, std::string_view advice) {
  const auto found = shortage(MemoryNeed{.resident = bytes, .reserved = bytes}, 0, free_memory());
  if (!found) return;
  throw Error(fmt::format("needs {}, {} free", bytes_text(found->needed), bytes_text(found->free)),
              found->where, advice);
}

void check_loading(const model::ModelConfig& config) {
  check_bytes(copied_weights(config), "close other programs, raise the limit, or take a smaller model");
}

std::size_t tokenizer_bytes(const std::filesystem::path& path) {
  // Measured: 3 for Qwen3.5's, up to 10 where all tokens are short.
  constexpr std::size_t kPerByte = 10;
  std::error_code error;
  if (!model::is_gguf_file(path)) {
    const std::uintmax_t size = std::filesystem::file_size(path / "tokenizer.json", error);
    return error ? 0 : times(kPerByte, size);
  }
  const model::Gguf file(path);
  std::size_t size = 0;
  for (const auto& [key, value] : file.metadata().values())
    if (key.starts_with("tokenizer.ggml.")) size = plus(size, value.data.size());
  return times(kPerByte, size);
}

std::size_t input_bytes(const std::optional<std::string>& file) {
  constexpr std::size_t kMostAskedFor = std::size_t{65} << 20U;
  const std::string name = file.value_or("-");
  const std::filesystem::path path = name == "-" ? "/dev/stdin" : name;
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return 0;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  return error ? 0 : std::min<std::uintmax_t>(size, kMostAskedFor);
}

void check_reading(const std::optional<std::string>& file) {
  constexpr std::size_t kBuffer = std::size_t{1} << 20U;
  // It arrives in a string that doubles.
  const std::size_t size = input_bytes(file);
  if (size != 0) check_bytes(std::bit_ceil(size) / 2 * 3 + 2 * kBuffer, kShorterText);
}

void check_encoding(std::string_view text) {
  check_bytes(model::encode_memory(text), kShorterText);
}

std::string bytes_text(std::size_t bytes) {
  constexpr std::array<std::string_view, 6> kUnits = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < kUnits.size(); ++unit) value /= 1000;
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : (value < 100 ? 1 : 0), kUnits[unit]);
}

}  // namespace sluice::cli
