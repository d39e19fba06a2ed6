// The decode kernel alone, on the PTX machine, for any grid and either PTX text: what the backend does around it in a few lines,
// without its policies.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "cuda/build.h"
#include "cuda/context.h"
#include "cuda/launch.h"
#include "cuda/plan.h"
#include "cuda/step_parts.h"
#include "model/weights.h"
#include "program/builder.h"
#include "program/sampling.h"
#include "tests/cuda/kernels.h"
#include "tests/cuda/ptx_machine.h"
#include "tests/support/seed.h"

namespace sluice::cuda::test {

inline std::vector<std::byte> read_ptx(int architecture) {
  const std::string text = sluice::test::kernels(architecture);
  std::vector<std::byte> bytes(text.size() + 1);
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

template <typename T>
DeviceMemory to_device(const std::shared_ptr<const Context>& context, const std::vector<T>& values) {
  DeviceMemory memory(context, std::max<std::size_t>(values.size(), 1) * sizeof(T));
  memory.upload(0, std::as_bytes(std::span(values)));
  return memory;
}

template <typename T>
T* pointer(const DeviceMemory& memory) {
  return device_pointer<T>(memory.address());
}

struct DeviceOptions {
  int architecture = 80;
  unsigned blocks = 1;
  std::uint32_t most_rows = 1;
  std::uint32_t n_slots = 1;
  std::uint32_t context = 160;
  std::uint32_t ring_slots = 1;
  std::uint64_t wait_ns = 2'000'000'000;
  std::uint32_t endless_wait = kNone;  // an op that waits for itself
};

// What a row is asked for; its slot and position follow from its span.
struct DecodeRow {
  std::int32_t token = 0;
  ChoiceKind choice = ChoiceKind::kNothing;
  bool wants_logits = true;
  program::Sampling sampling{};
  std::uint64_t draw = 0;
  std::size_t n_tokens = 0;  // 0: the vocabulary
  std::vector<program::LogitEdit>
      edits{};  // NOLINT(readability-redundant-member-init): designated initializers may leave it out
};

struct DecodeSpan {
  std::uint32_t slot = 0;
  std::vector<DecodeRow> rows;
};

struct DecodeResult {
  std::vector<std::vector<float>> logits;  // [rows that wanted them], of the last step
  TokenRing ring;
};

class DecodeDevice {
 public:
  DecodeDevice(const model::Model& model, const DeviceOptions& options, sluice::test::Random& random)
      : model_(model),
        options_(options),
        context_(sluice::test::kernels_context()),
        module_(context_, read_ptx(options.architecture)),
        kernel_(module_.kernel("sluice_decode")),
        stream_(context_),
        weights_(model),
        shape_(weights_.shape()),
        memory_(context_, weights_.bytes()),
        layers_(to_device(context_, weights_.layers(memory_.address()))),
        rotary_(to_device(context_, rotary_table(model.config, options.context))),
        lengths_(options.n_slots, 0),
        parity_(options.n_slots, 0) {
    for (std::size_t i = 0; i < weights_.n_pieces(); ++i) {
      std::vector<std::byte> bytes(weights_.piece(i).bytes);
      weights_.fill(i, bytes);
      memory_.upload(weights_.piece(i).offset, bytes);
    }
    max_pages_ = (options.context + kKvPage - 1) / kKvPage;
    std::vector<std::uint32_t> pages(std::size_t{options.n_slots} * max_pages_);
    std::iota(pages.begin(), pages.end(), 0U);
    std::shuffle(pages.begin(), pages.end(), random);
    pages_ = to_device(context_, pages);
    const std::size_t rows = options.most_rows;
    const auto floats = [this](std::size_t n) {
      return DeviceMemory(context_, std::max<std::size_t>(n, 1) * sizeof(float));
    };
    residual_ = floats(rows * shape_.residual_stride());
    projection_ = floats(rows * shape_.projection_stride());
    mixed_ = floats(rows * shape_.mixed_stride());
    attended_ = to_device(context_, std::vector<std::uint16_t>(rows * shape_.attended_stride()));
    gated_ = to_device(context_, std::vector<std::uint16_t>(rows * shape_.gated_stride()));
    partial_ = floats(rows * shape_.n_heads * max_pages_ * shape_.head_dim);
    partial_sums_ = floats(rows * shape_.n_heads * max_pages_ * 2);
    logits_ = floats(rows * shape_.vocab);
    kv_ = DeviceMemory(
        context_, std::max<std::size_t>(2, pages.size() * shape_.n_attention_layers * 2 * shape_.n_kv_heads *
                                               kKvPage * shape_.kv_stride() * 2));
    delta_ = to_device(context_, std::vector<float>(delta_size()));
    conv_ = to_device(context_, std::vector<float>(2 * conv_half()));
    candidates_ = floats(rows * kMostTopK * options.blocks * 2);
    words_ = to_device(context_, std::vector<std::uint32_t>(2));
    for (DeviceMemory& counters : counters_)
      counters = to_device(context_, std::vector<std::uint32_t>(kMostOps * kCounterWords));
    ring_ = MappedMemory(context_, sizeof(TokenRing));
    record_ = MappedMemory(context_, sizeof(AbortRecord));
    stop_ = MappedMemory(context_, sizeof(std::uint32_t));
  }

  std::uint32_t length(std::uint32_t slot) const { return lengths_[slot]; }
  volatile std::uint32_t& stop_word() { return *reinterpret_cast<volatile std::uint32_t*>(stop_.data()); }
  const AbortRecord& abort_record() const { return *reinterpret_cast<const AbortRecord*>(record_.data()); }

  // One launch of up to n_steps steps.
  DecodeResult run(const std::vector<DecodeSpan>& spans, std::uint32_t n_steps = 1,
                   const std::vector<std::int32_t>& stop_tokens = {}) {
    program::StepShape shape;
    std::vector<Row> rows;
    std::vector<Span> device_spans;
    std::vector<Edit> edits;
    std::uint32_t n_outputs = 0;
    for (const DecodeSpan& span : spans) {
      const auto n = static_cast<std::uint32_t>(span.rows.size());
      shape.spans.push_back({n, program::kv_splits_of(n, lengths_[span.slot] + n)});
      device_spans.push_back(
          {span.slot, lengths_[span.slot], static_cast<std::uint32_t>(rows.size()), n, parity_[span.slot]});
      for (const DecodeRow& row : span.rows) {
        if (row.wants_logits || row.choice != ChoiceKind::kNothing)
          shape.output_rows.push_back(static_cast<std::uint32_t>(rows.size()));
        rows.push_back(device_row(row, static_cast<std::uint32_t>(device_spans.size()) - 1, edits));
        if (row.wants_logits) rows.back().logits_at = n_outputs++;
      }
    }
    const program::Program program = program::build(model_.config, shape, program::Tiling{});
    std::vector<Op> ops = decode_ops(program, weights_, memory_.address());
    if (options_.endless_wait != kNone) ops[options_.endless_wait].wait = options_.endless_wait;
    EXPECT_LE(ops.size(), kMostOps);

    const DeviceMemory device_ops = to_device(context_, ops);
    const DeviceMemory device_rows = to_device(context_, rows);
    const DeviceMemory all_spans = to_device(context_, device_spans);
    const DeviceMemory device_edits = to_device(context_, edits);
    Launch launch = make_launch(static_cast<std::uint32_t>(rows.size()));
    launch.ops = pointer<const Op>(device_ops);
    launch.n_ops = static_cast<std::uint32_t>(ops.size());
    launch.rows = pointer<const Row>(device_rows);
    launch.spans = pointer<const Span>(all_spans);
    launch.n_spans = static_cast<std::uint32_t>(device_spans.size());
    launch.edits = pointer<const Edit>(device_edits);
    launch.n_steps = n_steps;
    launch.n_stop_tokens = static_cast<std::uint32_t>(stop_tokens.size());
    std::copy(stop_tokens.begin(), stop_tokens.end(), launch.stop_tokens);
    std::memset(ring_.data(), 0, sizeof(TokenRing));
    kernel_.set_shared(launch.shared.bytes);
    kernel_.launch(options_.blocks, kDecodeThreads, stream_, launch);
    stream_.synchronize();
    turn_ ^= 1U;

    DecodeResult result;
    std::memcpy(&result.ring, ring_.data(), sizeof result.ring);
    for (const DecodeSpan& span : spans) {
      lengths_[span.slot] += static_cast<std::uint32_t>(span.rows.size()) + result.ring.n_steps - 1;
      parity_[span.slot] ^= result.ring.n_steps & 1U;
    }
    for (std::uint32_t i = 0; i < n_outputs; ++i) {
      result.logits.emplace_back(shape_.vocab);
      logits_.download(std::size_t{i} * shape_.vocab * sizeof(float),
                       std::as_writable_bytes(std::span(result.logits.back())));
    }
    return result;
  }

  // [n_value_heads, value_head_dim, key_head_dim] as the oracle has it.
  std::vector<float> delta_state(std::size_t layer, std::uint32_t slot) const {
    std::vector<float> all(delta_size());
    delta_.download(0, std::as_writable_bytes(std::span(all)));
    std::vector<float> state;
    const std::size_t rows = std::size_t{shape_.n_value_heads} * shape_.value_head_dim;
    for (std::size_t row = 0; row < rows; ++row) {
      const auto from =
          all.begin() +
          static_cast<std::ptrdiff_t>(((layer * options_.n_slots + slot) * rows + row) * shape_.key_stride());
      state.insert(state.end(), from, from + shape_.key_head_dim);
    }
    return state;
  }
  // [conv_dim, conv_kernel - 1] as the oracle has it.
  std::vector<float> conv_state(std::size_t layer, std::uint32_t slot) const {
    std::vector<float> all(2 * conv_half());
    conv_.download(0, std::as_writable_bytes(std::span(all)));
    const std::size_t kept = shape_.conv_kernel - 1;
    const std::size_t first =
        ((parity_[slot] * std::size_t{shape_.n_delta_layers} + layer) * options_.n_slots + slot) * kept *
        shape_.conv_dim();
    std::vector<float> state;
    for (std::size_t channel = 0; channel < shape_.conv_dim(); ++channel)
      for (std::size_t i = 0; i < kept; ++i) state.push_back(all[first + i * shape_.conv_dim() + channel]);
    return state;
  }

 private:
  static constexpr std::size_t kMostOps = 64;

  std::size_t delta_size() const {
    return std::max<std::size_t>(
        1, std::size_t{shape_.n_delta_layers} * options_.n_slots * shape_.value_dim() * shape_.key_stride());
  }
  std::size_t conv_half() const {
    return std::max<std::size_t>(1, std::size_t{shape_.n_delta_layers} * options_.n_slots *
                                        (shape_.conv_kernel - 1) * shape_.conv_dim());
  }

  Row device_row(const DecodeRow& row, std::uint32_t span, std::vector<Edit>& edits) const {
    Row out{};
    out.token = row.token;
    out.span = span;
    out.logits_at = kNone;
    set_choice({row.sampling, row.draw, row.n_tokens == 0 ? shape_.vocab : row.n_tokens, row.edits}, out,
               edits);
    out.choice = row.choice;
    return out;
  }

  Launch make_launch(std::uint32_t n_rows) {
    Launch launch{};
    launch.model = shape_;
    launch.buffers = {pointer<float>(residual_),      pointer<float>(projection_),
                      pointer<float>(mixed_),         pointer<std::uint16_t>(attended_),
                      pointer<std::uint16_t>(gated_), pointer<float>(partial_),
                      pointer<float>(partial_sums_),  pointer<float>(logits_),
                      shape_.residual_stride(),       shape_.projection_stride(),
                      shape_.mixed_stride(),          shape_.attended_stride(),
                      shape_.gated_stride(),          max_pages_};
    launch.states = {pointer<float>(delta_), pointer<float>(conv_), pointer<std::uint16_t>(kv_),
                     pointer<const std::uint32_t>(pages_), options_.n_slots};
    launch.control.counters = pointer<std::uint32_t>(counters_[turn_]);
    launch.control.next_counters = pointer<std::uint32_t>(counters_[turn_ ^ 1U]);
    launch.control.n_counters = kMostOps;
    launch.control.abort = pointer<std::uint32_t>(words_);
    launch.control.decision = pointer<std::uint32_t>(words_) + 1;
    launch.control.candidates = pointer<Candidate>(candidates_);
    launch.control.stop = device_pointer<const std::uint32_t>(stop_.address());
    launch.control.ring = device_pointer<TokenRing>(ring_.address());
    launch.control.record = device_pointer<AbortRecord>(record_.address());
    launch.control.wait_ns = options_.wait_ns;
    launch.control.launch_ns = std::uint64_t{100'000'000'000};
    const std::uint32_t of_slot = kComputeWarps * kRingStages * kChunkBytes;
    launch.shared = shared_layout(shape_, n_rows, 0);
    launch.shared = shared_layout(shape_, n_rows,
                                  std::min(launch.shared.ring + options_.ring_slots * of_slot,
                                           static_cast<std::uint32_t>(kernel_.shared_at_most())));
    launch.layers = pointer<const LayerVectors>(layers_);
    launch.embedding = weights_.embedding(memory_.address());
    launch.rotary = pointer<const float>(rotary_);
    launch.n_rows = n_rows;
    return launch;
  }

  const model::Model& model_;
  DeviceOptions options_;
  std::shared_ptr<const Context> context_;
  Module module_;
  Kernel kernel_;
  Stream stream_;
  DeviceWeights weights_;
  ModelShape shape_;
  DeviceMemory memory_, layers_, rotary_, pages_, residual_, projection_, mixed_, attended_, gated_, partial_,
      partial_sums_, logits_, kv_, delta_, conv_, candidates_, words_;
  DeviceMemory counters_[2];
  MappedMemory ring_, record_, stop_;
  std::uint32_t max_pages_ = 0;
  std::uint32_t turn_ = 0;
  std::vector<std::uint32_t> lengths_;
  std::vector<std::uint32_t> parity_;
};

}  // namespace sluice::cuda::test
