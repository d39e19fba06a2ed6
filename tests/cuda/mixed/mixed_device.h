// Steps of any shape on the mixed entry point, on the PTX machine itself: every finding is a failure, the grid, the GPU and the seed
// are the test's, and what the machine counts can be asked for. Steps without long spans can take the decode entry point.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "cuda/driver.h"
#include "cuda/launch.h"
#include "cuda/plan.h"
#include "cuda/step_parts.h"
#include "model/weights.h"
#include "program/backend.h"
#include "program/builder.h"
#include "ptx/machine.h"
#include "tests/cuda/kernels.h"
#include "tests/support/seed.h"

namespace sluice::cuda::test {

// An architecture's kernels on a GPU that has it: made once, for it takes time.
class Machine {
 public:
  explicit Machine(int architecture)
      : gpu_(&ptx::gpu_named(architecture == 75 ? "t4" : "rtx3090")), memory_(std::uint64_t{1} << 30U) {
    module_ = std::make_unique<ptx::LoadedModule>(
        ptx::parse(sluice::test::kernels(architecture), sluice::test::kernels_file(architecture)), memory_,
        *gpu_);
  }
  static Machine& of(int architecture) {
    static std::map<int, std::unique_ptr<Machine>> machines;
    std::unique_ptr<Machine>& machine = machines[architecture];
    if (machine == nullptr) machine = std::make_unique<Machine>(architecture);
    return *machine;
  }

  ptx::Memory& memory() { return memory_; }
  const ptx::Gpu& gpu() const { return *gpu_; }
  const ptx::Kernel& kernel(std::string_view name) const { return *module_->find_kernel(name); }

 private:
  const ptx::Gpu* gpu_;
  ptx::Memory memory_;
  std::unique_ptr<ptx::LoadedModule> module_;
};

template <typename T>
class DeviceArray {
 public:
  DeviceArray(Machine& machine, std::vector<T> values, std::string name = {})
      : machine_(&machine), size_(std::max<std::size_t>(values.size(), 1)) {
    values.resize(size_);
    address_ = machine.memory().allocate(size_ * sizeof(T), ptx::AllocationKind::kDevice, std::move(name));
    std::memcpy(bytes().data(), values.data(), size_ * sizeof(T));
  }
  DeviceArray(Machine& machine, std::size_t n) : DeviceArray(machine, std::vector<T>(n)) {}
  ~DeviceArray() { machine_->memory().free(address_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  std::uint64_t address() const { return address_; }
  T* pointer(std::size_t at = 0) const { return device_pointer<T>(address_ + at * sizeof(T)); }
  std::span<std::byte> bytes() const { return machine_->memory().bytes(address_, size_ * sizeof(T)); }
  std::vector<T> values() const {
    std::vector<T> copy(size_);
    std::memcpy(copy.data(), bytes().data(), size_ * sizeof(T));
    return copy;
  }

 private:
  Machine* machine_;
  std::size_t size_;
  std::uint64_t address_ = 0;
};

struct MixedOptions {
  int architecture = 80;
  std::uint32_t blocks = 1;
  std::uint32_t most_rows = 160;  // of a step
  std::uint32_t n_slots = 1;
  std::uint32_t context = 192;
  bool takes_decode_entry = false;  // where a step has no long span
};

class MixedDevice final : public program::Backend {
 public:
  MixedDevice(const model::Model& model, const MixedOptions& options, sluice::test::Random& random)
      : model_(model),
        options_(options),
        random_(random),
        machine_(Machine::of(options.architecture)),
        weights_(model),
        shape_(weights_.shape()),
        memory_(machine_, std::vector<std::byte>(weights_.bytes()), "products"),
        others_(machine_, std::vector<std::byte>(weights_.bytes()), "vectors"),
        layers_(machine_, weights_.layers(others_.address())),
        rotary_(machine_, rotary_table(model.config, options.context)),
        max_pages_((options.context + kKvPage - 1) / kKvPage),
        pages_(machine_, shuffled_pages()),
        residual_(machine_, rows_up() * shape_.residual_stride()),
        projection_(machine_, rows_up() * shape_.projection_stride()),
        mixed_(machine_, rows_up() * shape_.mixed_stride()),
        attended_(machine_, rows_up() * shape_.attended_stride()),
        gated_(machine_, rows_up() * shape_.gated_stride()),
        partial_(machine_, rows_up() * shape_.n_heads * max_pages_ * shape_.head_dim),
        partial_sums_(machine_, rows_up() * shape_.n_heads * max_pages_ * 2),
        logits_(machine_, rows_up() * shape_.vocab),
        kv_(machine_, std::size_t{options.n_slots} * max_pages_ * shape_.n_attention_layers * 2 *
                          shape_.n_kv_heads * kKvPage * shape_.kv_stride()),
        delta_(machine_, std::size_t{shape_.n_delta_layers} * options.n_slots * shape_.value_dim() *
                             shape_.key_stride()),
        conv_(machine_, 2 * conv_half()),
        operand_(machine_, rows_up() * kRowBlock * operand_depth(shape_)),
        gated_operand_(machine_, rows_up() * kRowBlock * round_up(shape_.intermediate, kChunk)),
        output_residual_(machine_, rows_up() * shape_.residual_stride()),
        lengths_(options.n_slots, 0),
        parity_(options.n_slots, 0) {
    for (std::size_t i = 0; i < weights_.n_pieces(); ++i)
      weights_.fill(i, memory_.bytes().subspan(weights_.piece(i).offset, weights_.piece(i).bytes));
    std::ranges::copy(memory_.bytes(), others_.bytes().begin());
  }

  std::string_view name() const override { return "cuda, mixed"; }
  const model::ModelConfig& config() const override { return model_.config; }
  std::size_t n_slots() const override { return options_.n_slots; }
  std::size_t context() const override { return options_.context; }
  void reset(std::size_t slot) override {
    lengths_[slot] = 0;
    const std::size_t of_layer = std::size_t{shape_.value_dim()} * shape_.key_stride();
    for (std::size_t layer = 0; layer < shape_.n_delta_layers; ++layer) {
      clear(delta_, (layer * options_.n_slots + slot) * of_layer, of_layer);
      const std::size_t kept = std::size_t{shape_.conv_kernel - 1} * shape_.conv_dim();
      clear(conv_, parity_[slot] * conv_half() + (layer * options_.n_slots + slot) * kept, kept);
    }
  }

  program::StepResult run(const program::Step& step) override {
    program::validate(step, model_.config, options_.context, {lengths_.begin(), lengths_.end()});
    Parts parts(*this, step);
    const bool is_decode = options_.takes_decode_entry && parts.n_long_spans() == 0 && parts.n_groups() == 1;
    launch(is_decode ? "sluice_decode" : "sluice_mixed",
           is_decode ? parts.decode_bytes() : parts.mixed_bytes());
    for (const program::Span& span : step.spans) {
      lengths_[span.slot] += span.n_rows;
      parity_[span.slot] ^= 1U;
    }
    return parts.result();
  }

  // Of the last launch.
  const ptx::LaunchReport& report() const { return report_; }
  std::uint64_t product_bytes_read() const {
    const auto& traffic = report_.counters.traffic;
    const auto at = std::ranges::find(traffic, "products", &ptx::Counters::Traffic::name);
    return at == traffic.end() ? 0 : at->read;
  }
  // What products read if each byte is read once.
  std::uint64_t layer_bytes() const {
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < model_.config.n_layers(); ++i) {
      const DeviceWeights::LayerMatrices& layer = weights_.matrices(i);
      for (const auto& matrix : {layer.mix_in, layer.mix_out, layer.mlp_in, layer.mlp_out})
        bytes += bytes_of(matrix);
    }
    return bytes;
  }
  std::uint64_t head_bytes() const { return bytes_of(weights_.head()); }

 private:
  // A part of the step as a launch, and what belongs to it in device memory.
  struct DecodePart {
    Part part;
    std::unique_ptr<DeviceArray<Row>> rows;
    std::unique_ptr<DeviceArray<Span>> spans;
    std::unique_ptr<DeviceArray<Edit>> edits;
    std::unique_ptr<DeviceArray<Op>> ops;
    std::unique_ptr<DeviceArray<std::uint32_t>> counters, next_counters, decision;
    std::unique_ptr<DeviceArray<Candidate>> candidates;
    std::unique_ptr<DeviceArray<TokenRing>> ring;
    Launch launch{};
  };

  // What a step becomes. Every part has counters, records and candidates of its own, so that a mistake shows where it is made.
  class Parts {
   public:
    Parts(MixedDevice& device, const program::Step& step)
        : d_(device), step_(step), parts_(mixed_parts(step, device.parity_)) {
      std::uint32_t row = 0;  // groups and the long spans have rows of their own
      for (const Part& group : parts_.groups) {
        add(groups_, group, d_.ops_of(group.shape()), row);
        row += static_cast<std::uint32_t>(group.rows.size());
      }
      prefill_.part = parts_.prefill;
      finish(prefill_, n_long_spans() == 0 ? std::vector<Op>{} : d_.ops_of({{{1, 1}}, {0}, false}), row);
      std::uint32_t output = 0;
      for (const Part& head : parts_.heads) {
        DecodePart& added = add(heads_, head, head_ops(d_.ops_of({{{1, 1}}, {0}, false})), 0);
        added.launch.buffers.residual =
            d_.output_residual_.pointer(std::size_t{output} * d_.shape_.residual_stride());
        output += static_cast<std::uint32_t>(head.rows.size());
      }
    }

    std::size_t n_long_spans() const { return parts_.prefill.spans.size(); }
    std::size_t n_groups() const { return groups_.size(); }

    std::vector<std::byte> decode_bytes() const { return bytes_of(groups_[0]->launch); }
    std::vector<std::byte> mixed_bytes() {
      MixedLaunch mixed{};
      mixed.prefill = prefill_.launch;
      group_launches_ = launches_of(groups_);
      head_launches_ = launches_of(heads_);
      blocks_ = std::make_unique<DeviceArray<RowBlock>>(d_.machine_, parts_.blocks);
      outputs_ = std::make_unique<DeviceArray<std::uint32_t>>(d_.machine_, parts_.output_rows);
      mixed.groups = group_launches_->pointer();
      mixed.heads = head_launches_->pointer();
      mixed.blocks = blocks_->pointer();
      mixed.outputs = outputs_->pointer();
      mixed.output_residual = d_.output_residual_.pointer();
      mixed.operand = d_.operand_.pointer();
      mixed.gated = d_.gated_operand_.pointer();
      mixed.operand_depth = operand_depth(d_.shape_);
      mixed.n_groups = static_cast<std::uint32_t>(groups_.size());
      mixed.n_heads = static_cast<std::uint32_t>(heads_.size());
      mixed.n_blocks = static_cast<std::uint32_t>(parts_.blocks.size());
      mixed.n_outputs = static_cast<std::uint32_t>(parts_.output_rows.size());
      return bytes_of(mixed);
    }

    program::StepResult result() const {
      program::StepResult result;
      result.tokens.assign(step_.outputs.size(), -1);
      const std::vector<float> logits = d_.logits_.values();
      std::ptrdiff_t at = 0;  // rows of those that want them stand in the order of outputs
      for (const program::Output& output : step_.outputs) {
        if (!needs_logits(output)) continue;
        const auto from = logits.begin() + at++ * static_cast<std::ptrdiff_t>(d_.shape_.vocab);
        result.logits.insert(result.logits.end(), from, from + d_.shape_.vocab);
      }
      const auto take = [&](const std::unique_ptr<DecodePart>& part) {
        const TokenRing ring = part->ring->values()[0];
        EXPECT_EQ(ring.n_steps, 1U);
        const std::vector<std::size_t>& outputs = part->part.outputs;
        for (std::size_t row = 0; row < outputs.size(); ++row)
          if (outputs[row] != Part::kNoOutput) result.tokens[outputs[row]] = ring.tokens[0][row];
      };
      std::ranges::for_each(groups_, take);
      std::ranges::for_each(heads_, take);
      if (n_long_spans() != 0) expect_cleared(prefill_);
      return result;
    }

   private:
    static void expect_cleared(const DecodePart& part) {
      const std::vector<std::uint32_t> counters = part.next_counters->values();
      for (std::size_t i = 0; i < part.launch.control.n_counters; ++i)
        EXPECT_EQ(counters[i * kCounterWords], 0U);
    }

    template <typename T>
    static std::vector<std::byte> bytes_of(const T& value) {
      const auto bytes = std::as_bytes(std::span(&value, 1));
      return {bytes.begin(), bytes.end()};
    }

    std::unique_ptr<DeviceArray<Launch>> launches_of(
        const std::vector<std::unique_ptr<DecodePart>>& parts) const {
      std::vector<Launch> launches;
      for (const auto& part : parts) launches.push_back(part->launch);
      return std::make_unique<DeviceArray<Launch>>(d_.machine_, launches);
    }

    DecodePart& add(std::vector<std::unique_ptr<DecodePart>>& to, const Part& part,
                    const std::vector<Op>& ops, std::uint32_t first_row) {
      to.push_back(std::make_unique<DecodePart>());
      to.back()->part = part;
      finish(*to.back(), ops, first_row);
      return *to.back();
    }

    void finish(DecodePart& part, const std::vector<Op>& ops, std::uint32_t first_row) {
      Machine& m = d_.machine_;
      const auto n_ops = static_cast<std::uint32_t>(ops.size());
      const std::uint32_t n_counters =
          std::max(n_ops, mixed_counters(n_ops, static_cast<std::uint32_t>(parts_.blocks.size())));
      part.rows = std::make_unique<DeviceArray<Row>>(m, part.part.rows);
      part.spans = std::make_unique<DeviceArray<Span>>(m, part.part.spans);
      part.edits = std::make_unique<DeviceArray<Edit>>(m, part.part.edits);
      part.ops = std::make_unique<DeviceArray<Op>>(m, ops);
      part.counters =
          std::make_unique<DeviceArray<std::uint32_t>>(m, std::size_t{n_counters} * kCounterWords);
      part.next_counters = std::make_unique<DeviceArray<std::uint32_t>>(
          m, std::vector<std::uint32_t>(std::size_t{n_counters} * kCounterWords, 7));  // of a launch before
      part.decision = std::make_unique<DeviceArray<std::uint32_t>>(m, 1);
      part.candidates = std::make_unique<DeviceArray<Candidate>>(
          m, std::size_t{kMostDecodeRows} * kMostTopK * d_.options_.blocks);
      part.ring = std::make_unique<DeviceArray<TokenRing>>(m, 1);
      Launch& launch = part.launch;
      launch.model = d_.shape_;
      launch.buffers = d_.buffers(first_row);
      launch.states = {d_.delta_.pointer(), d_.conv_.pointer(), d_.kv_.pointer(), d_.pages_.pointer(),
                       d_.options_.n_slots};
      launch.control.counters = part.counters->pointer();
      launch.control.next_counters = part.next_counters->pointer();
      launch.control.n_counters = n_counters;
      launch.control.abort = d_.abort_.pointer();
      launch.control.candidates = part.candidates->pointer();
      launch.control.decision = part.decision->pointer();
      launch.control.ring = part.ring->pointer();
      launch.control.record = d_.record_.pointer();
      launch.control.wait_ns = std::uint64_t{100'000'000'000};
      launch.control.launch_ns = std::uint64_t{100'000'000'000};
      launch.shared = d_.shared();
      launch.ops = part.ops->pointer();
      launch.layers = d_.layers_.pointer();
      launch.embedding = d_.weights_.embedding(d_.others_.address());
      launch.rotary = d_.rotary_.pointer();
      launch.rows = part.rows->pointer();
      launch.spans = part.spans->pointer();
      launch.edits = part.edits->pointer();
      launch.n_ops = n_ops;
      launch.n_rows = static_cast<std::uint32_t>(part.part.rows.size());
      launch.n_spans = static_cast<std::uint32_t>(part.part.spans.size());
      launch.n_steps = 1;
    }

    MixedDevice& d_;
    const program::Step& step_;
    MixedParts parts_;
    std::vector<std::unique_ptr<DecodePart>> groups_, heads_;
    DecodePart prefill_;
    std::unique_ptr<DeviceArray<Launch>> group_launches_, head_launches_;
    std::unique_ptr<DeviceArray<RowBlock>> blocks_;
    std::unique_ptr<DeviceArray<std::uint32_t>> outputs_;
  };

  static std::uint64_t bytes_of(const DeviceWeights::PackedMatrix& matrix) {
    return std::uint64_t{round_up(matrix.n_rows, kPanel)} * matrix.chunks * kChunk * sizeof(std::uint16_t);
  }
  std::size_t rows_up() const { return options_.most_rows; }
  std::size_t conv_half() const {
    return std::size_t{shape_.n_delta_layers} * options_.n_slots * (shape_.conv_kernel - 1) *
           shape_.conv_dim();
  }
  std::vector<std::uint32_t> shuffled_pages() {
    std::vector<std::uint32_t> pages(std::size_t{options_.n_slots} * max_pages_);
    std::iota(pages.begin(), pages.end(), 0U);
    std::shuffle(pages.begin(), pages.end(), random_);
    return pages;
  }
  static void clear(const DeviceArray<float>& array, std::size_t at, std::size_t n) {
    std::ranges::fill(array.bytes().subspan(at * sizeof(float), n * sizeof(float)), std::byte{0});
  }

  std::vector<Op> ops_of(const program::StepShape& shape) const {
    const program::Program program = program::build(model_.config, shape, program::Tiling{});
    std::vector<Op> ops = decode_ops(program, weights_, memory_.address());
    const std::vector<Op> others = decode_ops(program, weights_, others_.address());
    for (std::size_t i = 0; i < ops.size(); ++i) ops[i].norm = others[i].norm;
    return ops;
  }

  Buffers buffers(std::uint32_t row) const {
    Buffers buffers{};
    buffers.residual = residual_.pointer(std::size_t{row} * shape_.residual_stride());
    buffers.projection = projection_.pointer(std::size_t{row} * shape_.projection_stride());
    buffers.mixed = mixed_.pointer(std::size_t{row} * shape_.mixed_stride());
    buffers.attended = attended_.pointer(std::size_t{row} * shape_.attended_stride());
    buffers.gated = gated_.pointer(std::size_t{row} * shape_.gated_stride());
    buffers.partial = partial_.pointer(std::size_t{row} * shape_.n_heads * max_pages_ * shape_.head_dim);
    buffers.partial_sums = partial_sums_.pointer(std::size_t{row} * shape_.n_heads * max_pages_ * 2);
    buffers.logits = logits_.pointer();
    buffers.residual_stride = shape_.residual_stride();
    buffers.projection_stride = shape_.projection_stride();
    buffers.mixed_stride = shape_.mixed_stride();
    buffers.attended_stride = shape_.attended_stride();
    buffers.gated_stride = shape_.gated_stride();
    buffers.max_pages = max_pages_;
    return buffers;
  }

  SharedLayout shared() const {
    const std::uint32_t ring = shared_layout(shape_, kMostDecodeRows, 0).ring;
    return shared_layout(shape_, kMostDecodeRows, ring + kComputeWarps * kRingStages * kChunkBytes);
  }

  void launch(std::string_view name, const std::vector<std::byte>& parameters) {
    ptx::LaunchOptions options;
    options.grid = {options_.blocks, 1, 1};
    options.block = {kDecodeThreads, 1, 1};
    options.dynamic_shared = std::max(shared().bytes, kMixedShared);
    options.max_dynamic_shared = options.dynamic_shared;
    options.cooperative = true;
    options.seed = random_();
    const ptx::LaunchResult result =
        ptx::launch(machine_.kernel(name), machine_.memory(), machine_.gpu(), parameters, options);
    EXPECT_TRUE(result.completed) << "seed " << options.seed;
    for (const ptx::Finding& finding : result.findings) ADD_FAILURE() << finding.message;
    EXPECT_EQ(abort_.values()[0], 0U);
    report_ = result.report;
  }

  const model::Model& model_;
  MixedOptions options_;
  sluice::test::Random& random_;
  Machine& machine_;
  DeviceWeights weights_;
  ModelShape shape_;
  DeviceArray<std::byte> memory_;  // of which the matrices of products are used
  DeviceArray<std::byte> others_;  // and here the rest: traffic is counted by allocation
  DeviceArray<LayerVectors> layers_;
  DeviceArray<float> rotary_;
  std::uint32_t max_pages_;
  DeviceArray<std::uint32_t> pages_;
  DeviceArray<float> residual_, projection_, mixed_;
  DeviceArray<std::uint16_t> attended_, gated_;
  DeviceArray<float> partial_, partial_sums_, logits_;
  DeviceArray<std::uint16_t> kv_;
  DeviceArray<float> delta_, conv_;
  DeviceArray<std::uint16_t> operand_, gated_operand_;
  DeviceArray<float> output_residual_;
  DeviceArray<std::uint32_t> abort_{machine_, 1};
  DeviceArray<AbortRecord> record_{machine_, 1};
  std::vector<std::size_t> lengths_;
  std::vector<std::uint32_t> parity_;
  ptx::LaunchReport report_;
};

}  // namespace sluice::cuda::test
