#include "cuda/probe.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"
#include "base/median.h"
#include "cuda/probe_launch.h"

namespace sluice::cuda {
namespace {

constexpr std::size_t kUnit = 16;  // bytes that a thread loads
// Long beside a launch on a GPU: some 100 µs.
constexpr std::uint32_t kProductRounds = 4096;
// The PTX machine takes a second for what a GPU does in a microsecond, and tells nothing of speed.
constexpr std::uint32_t kEmulatedProductRounds = 4;
constexpr std::size_t kEmulatedBytes = std::size_t{256} << 10U;
constexpr std::size_t kEmulatedBlocks = 4;

std::size_t blocks_of(const Kernel& kernel, const DeviceInfo& device) {
  const std::size_t resident = kernel.resident_blocks(kProbeThreads);
  return device.is_emulated() ? std::min(resident, kEmulatedBlocks) : resident;
}

}  // namespace

std::size_t probe_buffer_bytes(const DeviceInfo& device, std::size_t free_bytes) {
  if (device.is_emulated()) return kEmulatedBytes;
  constexpr std::size_t kLeast = std::size_t{256} << 20U;
  constexpr std::size_t kCaches = 16;
  constexpr std::size_t kShareOfFree = 4;
  const auto cache = static_cast<std::size_t>(std::max(0, device.l2_bytes));
  return std::min(std::max(kLeast, kCaches * cache), free_bytes / kShareOfFree);
}

Probe::Probe(std::shared_ptr<const Context> context, const Module& module, const Stream& stream,
             std::size_t bytes)
    : context_(std::move(context)),
      stream_(stream),
      read_(module.kernel("sluice_probe_read")),
      products_(module.kernel("sluice_probe_products")),
      read_blocks_(blocks_of(read_, context_->device())),
      product_blocks_(blocks_of(products_, context_->device())),
      data_(context_, std::max(kUnit, bytes / kUnit * kUnit)),
      sums_(context_, std::max(read_blocks_, product_blocks_) * kProbeThreads * sizeof(std::uint32_t)),
      begin_(context_),
      end_(context_) {
  std::vector<std::uint32_t> words((std::size_t{4} << 20U) / sizeof(std::uint32_t));
  std::uint32_t word = 0;
  constexpr std::uint32_t kGolden = 0x9E3779B9;  // 2^32 ÷ the golden ratio: no two words of 2^32 are equal
  for (std::size_t done = 0; done < data_.bytes();) {
    const std::size_t n = std::min(words.size(), (data_.bytes() - done) / sizeof(std::uint32_t));
    for (std::size_t i = 0; i < n; ++i) expected_ ^= words[i] = word += kGolden;
    data_.upload(done, std::as_bytes(std::span(words).first(n)));
    done += n * sizeof(std::uint32_t);
  }
  for (const std::size_t part : {std::size_t{1}, std::size_t{2}}) {
    if (read_blocks_ / part == 0) continue;
    for (const bool is_striped : {false, true})
      variants_.push_back({.blocks = read_blocks_ / part, .is_striped = is_striped, .rates = {}});
  }
}

template <typename Parameters>
double Probe::time(const Kernel& kernel, std::size_t blocks, const Parameters& parameters) {
  begin_.record(stream_);
  kernel.launch(static_cast<unsigned>(blocks), kProbeThreads, stream_, parameters);
  end_.record(stream_);
  stream_.synchronize();
  return end_.seconds_since(begin_);
}

void Probe::measure() {
  for (Variant& variant : variants_) read(variant);
  multiply();
}

void Probe::read(Variant& variant) {
  const ReadProbeLaunch launch{.data = device_pointer<const void>(data_.address()),
                               .sums = device_pointer<std::uint32_t>(sums_.address()),
                               .n = data_.bytes() / kUnit,
                               .is_striped = variant.is_striped ? 1U : 0U};
  const double seconds = time(read_, variant.blocks, launch);
  std::vector<std::uint32_t> sums(variant.blocks * kProbeThreads);
  sums_.download(0, std::as_writable_bytes(std::span(sums)));
  const std::uint32_t sum = std::accumulate(sums.begin(), sums.end(), 0U, std::bit_xor());
  if (sum != expected_)
    throw Error(fmt::format("the GPU read {} bytes and their sum is wrong", data_.bytes()), context_->where(),
                "its memory may be faulty");
  variant.rates.push_back(static_cast<double>(data_.bytes()) / seconds);
}

void Probe::multiply() {
  const std::uint32_t rounds = context_->device().is_emulated() ? kEmulatedProductRounds : kProductRounds;
  const ProductProbeLaunch launch{.sums = device_pointer<float>(sums_.address()), .rounds = rounds};
  const double seconds = time(products_, product_blocks_, launch);
  std::vector<float> sums(product_blocks_ * kProbeThreads);
  sums_.download(0, std::as_writable_bytes(std::span(sums)));
  const auto expected = static_cast<float>(4 * kProbeSums * 16 * rounds);  // ones: exact
  if (std::ranges::any_of(sums, [&](float sum) { return sum != expected; }))
    throw Error("the GPU multiplied ones and the sum is wrong", context_->where(), "it may be faulty");
  constexpr std::size_t kWarp = 32;
  const std::size_t products = product_blocks_ * (kProbeThreads / kWarp) * kProbeSums * rounds;
  product_rates_.push_back(static_cast<double>(products * kFlopsOfProduct) / seconds);
}

Probe::Reading Probe::best() const {
  Reading best;
  for (const Variant& variant : variants_) {
    const double rate = median(variant.rates);
    if (rate <= best.bytes_per_second) continue;
    best = {.bytes_per_second = rate,
            .variant = fmt::format("16-byte loads, 8 at once, {} blocks, {}", variant.blocks,
                                   variant.is_striped ? "side by side" : "a range each")};
  }
  return best;
}

double Probe::flops_per_second() const {
  return median(product_rates_);
}

}  // namespace sluice::cuda
