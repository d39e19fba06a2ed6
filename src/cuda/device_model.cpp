#include "cuda/device_model.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::cuda {
namespace {

constexpr std::size_t kFp32 = sizeof(float);
constexpr std::size_t kBf16 = sizeof(std::uint16_t);
constexpr std::size_t kLeast = 256;  // bytes of an allocation that nothing needs

std::uint32_t max_pages(std::size_t positions) {
  return static_cast<std::uint32_t>((positions + kKvPage - 1) / kKvPage);
}

template <typename T>
DeviceMemory uploaded(const std::shared_ptr<const Context>& context, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  DeviceMemory memory(context, std::max(kLeast, bytes.size()));
  memory.upload(0, bytes);
  return memory;
}

// Packs pieces on several threads and copies each as soon as it is ready; the calling thread reports.
class Loading {
 public:
  Loading(const DeviceWeights& weights, const DeviceMemory& memory,
          const std::function<void(std::size_t done, std::size_t total)>& progress)
      : weights_(weights), memory_(memory), progress_(progress) {}

  void run() {
    constexpr std::size_t kMostThreads = 8;  // more only take memory's bandwidth from each other
    const std::size_t n_threads = std::min(
        {kMostThreads, std::max<std::size_t>(1, std::thread::hardware_concurrency()), weights_.n_pieces()});
    {
      std::vector<std::jthread> helpers;
      for (std::size_t i = 1; i < n_threads; ++i) helpers.emplace_back([this] { work(false); });
      work(true);
    }
    if (failed_) std::rethrow_exception(failed_);
  }

 private:
  void work(bool reports) {
    try {
      std::vector<std::byte> packed;
      for (std::size_t i = next_++; i < weights_.n_pieces() && !ended_; i = next_++) {
        const DeviceWeights::Piece piece = weights_.piece(i);
        packed.resize(piece.bytes);
        weights_.fill(i, packed);
        memory_.upload(piece.offset, packed);
        done_ += piece.bytes;
        if (reports && progress_) progress_(done_, weights_.bytes());
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!failed_) failed_ = std::current_exception();
      ended_ = true;
    }
  }

  const DeviceWeights& weights_;
  const DeviceMemory& memory_;
  const std::function<void(std::size_t, std::size_t)>& progress_;
  std::atomic<std::size_t> next_ = 0;
  std::atomic<std::size_t> done_ = 0;
  std::atomic<bool> ended_ = false;
  std::mutex mutex_;
  std::exception_ptr failed_;
};

}  // namespace

DeviceModel::DeviceModel(const model::Model& model, std::size_t positions)
    : model_(model), positions_(positions), weights_(model) {}

// Of decode launches.
DeviceModel::BufferBytes DeviceModel::buffer_bytes() const {
  const ModelShape& shape = weights_.shape();
  const std::size_t row = kMostDecodeRows * kFp32;
  const std::size_t pages = std::size_t{kMostDecodeRows} * shape.n_heads * max_pages(positions_) * kFp32;
  return {.residual = 2 * row * shape.residual_stride(),
          .projection = row * shape.projection_stride(),
          .mixed = row * shape.mixed_stride(),
          .attended = std::size_t{kMostDecodeRows} * shape.attended_stride() * kBf16,
          .gated = std::size_t{kMostDecodeRows} * shape.gated_stride() * kBf16,
          .partial = std::max(kLeast, pages * shape.head_dim),
          .partial_sums = std::max(kLeast, pages * 2),
          .logits = row * shape.vocab};
}

std::size_t DeviceModel::bytes() const {
  const BufferBytes buffers = buffer_bytes();
  const std::size_t tables = model_.config.layers.size() * sizeof(LayerVectors) +
                             positions_ * model_.config.rotary_dim * kFp32 + 2 * kLeast;
  return weights_.bytes() + tables + buffers.residual + buffers.projection + buffers.mixed +
         buffers.attended + buffers.gated + buffers.partial + buffers.partial_sums + buffers.logits;
}

void DeviceModel::load(const std::shared_ptr<const Context>& context,
                       const std::function<void(std::size_t done, std::size_t total)>& progress) {
  weight_memory_ = DeviceMemory(context, weights_.bytes());
  const BufferBytes bytes = buffer_bytes();
  residual_ = DeviceMemory(context, bytes.residual);
  projection_ = DeviceMemory(context, bytes.projection);
  mixed_ = DeviceMemory(context, bytes.mixed);
  // What is behind a row's width stays zero.
  attended_ = uploaded(context, std::vector<std::byte>(bytes.attended));
  gated_ = uploaded(context, std::vector<std::byte>(bytes.gated));
  partial_ = DeviceMemory(context, bytes.partial);
  partial_sums_ = DeviceMemory(context, bytes.partial_sums);
  logits_ = DeviceMemory(context, bytes.logits);
  rotary_ = uploaded(context, rotary_table(model_.config, positions_));
  layers_ = uploaded(context, weights_.layers(base()));
  Loading(weights_, weight_memory_, progress).run();
}

Buffers DeviceModel::buffers(std::size_t index) const {
  const auto floats = [](const DeviceMemory& memory) { return device_pointer<float>(memory.address()); };
  const ModelShape& shape = weights_.shape();
  Buffers buffers{};
  buffers.residual = floats(residual_) + index % 2 * kMostDecodeRows * shape.residual_stride();
  buffers.projection = floats(projection_);
  buffers.mixed = floats(mixed_);
  buffers.attended = device_pointer<std::uint16_t>(attended_.address());
  buffers.gated = device_pointer<std::uint16_t>(gated_.address());
  buffers.partial = floats(partial_);
  buffers.partial_sums = floats(partial_sums_);
  buffers.logits = floats(logits_);
  buffers.residual_stride = shape.residual_stride();
  buffers.projection_stride = shape.projection_stride();
  buffers.mixed_stride = shape.mixed_stride();
  buffers.attended_stride = shape.attended_stride();
  buffers.gated_stride = shape.gated_stride();
  buffers.max_pages = max_pages(positions_);
  return buffers;
}

void DeviceModel::reserve_logits(const std::shared_ptr<const Context>& context, std::size_t rows) {
  const std::size_t bytes = rows * weights_.shape().vocab * kFp32;
  if (bytes <= logits_.bytes()) return;
  if (const std::size_t free = context->free_bytes(); bytes - logits_.bytes() > free) {
    constexpr double kGiga = 1e9;
    throw Error(fmt::format("the logits of {} rows need {:.2f} GB, {:.2f} GB free", rows,
                            static_cast<double>(bytes) / kGiga, static_cast<double>(free) / kGiga),
                context->where(), "ask for fewer in a step");
  }
  logits_ = {};  // before the larger ones, for both may not fit
  logits_ = DeviceMemory(context, bytes);
}

Launch DeviceModel::launch(std::size_t index) const {
  Launch launch{};
  launch.model = weights_.shape();
  launch.buffers = buffers(index);
  launch.layers = device_pointer<const LayerVectors>(layers_.address());
  launch.embedding = weights_.embedding(base());
  launch.rotary = device_pointer<const float>(rotary_.address());
  return launch;
}

}  // namespace sluice::cuda
