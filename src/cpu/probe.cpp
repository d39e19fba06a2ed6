#include "cpu/probe.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <sys/mman.h>

#include "base/median.h"

namespace sluice::cpu {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// Long enough that starting the workers doesn't count, short enough to be repeated between runs.
constexpr double kPeakTime = 0.003;
constexpr std::size_t kBytesPerMeasurement = std::size_t{64} << 20U;
constexpr std::size_t kLineWords = 8;
constexpr std::size_t kHugePage = std::size_t{2} << 20U;

#if defined(__x86_64__)
bool has_vnni() {
  return __builtin_cpu_supports("avx512vnni");
}
#endif

std::size_t round_up(std::size_t n, std::size_t unit) {
  return (n + unit - 1) / unit * unit;
}

template <typename Job>
double seconds_of(Workers& workers, const Job& job) {
  const auto start = Clock::now();
  workers.run(job);
  return Seconds(Clock::now() - start).count();
}

// That the calling thread has had.
double processor_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// "32768K" as Linux writes cache sizes.
std::size_t parse_size(const std::string& text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return 0;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  return unit == "K" ? value << 10U : unit == "M" ? value << 20U : value;
}

}  // namespace

const ArithmeticLoop& arithmetic_loop(std::string_view isa, Unit unit) {
#if defined(__x86_64__)
  if (isa == "amx_bf16" && unit == Unit::kBf16) return kAmxBf16;
  if (isa == "amx_bf16" && unit == Unit::kInt8) return kAmxInt8;
  if (isa == "avx512_bf16" && unit == Unit::kBf16) return kAvx512Bf16;
  if (isa.starts_with("avx512") || isa.starts_with("amx")) {
    if (unit != Unit::kInt8) return kAvx512Fp32;
    return has_vnni() ? kAvx512VnniInt8 : kAvx512Int8;
  }
  if (isa.starts_with("avx2")) return unit == Unit::kInt8 ? kAvx2Int8 : kAvx2Fp32;
#endif
  static_cast<void>(isa);
  return unit == Unit::kInt8 ? kPortableInt8 : kPortableFp32;
}

Unit unit_of(program::OpKind kind, model::DType dtype) {
  using program::OpKind;
  switch (kind) {
    case OpKind::kMixIn:
    case OpKind::kMixOut:
    case OpKind::kMlpIn:
    case OpKind::kMlpOut:
    case OpKind::kHead:
    case OpKind::kRecompute:
      return dtype == model::DType::kBF16 ? Unit::kBf16 : Unit::kFp32;
    case OpKind::kSkim:
    case OpKind::kScreen:
      return Unit::kInt8;
    case OpKind::kSelect:
    case OpKind::kEmbed:
    case OpKind::kKvAppend:
    case OpKind::kMix:
    case OpKind::kMixMerge:
    case OpKind::kSample:
      break;
  }
  return Unit::kFp32;
}

std::vector<const ReadLoop*> read_loops() {
  std::vector<const ReadLoop*> loops;
  const auto add = [&loops](const ReadLoops& some) {
    for (std::size_t i = 0; i < some.n; ++i) loops.push_back(some.begin + i);
  };
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) add(kAvx2Reads);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    add(kAvx512Reads);
#endif
  if (loops.empty()) add(kPortableReads);
  return loops;
}

std::string name_of(const ReadLoop& loop) {
  return fmt::format("{}-bit loads, {} stream{}, {}", loop.bits, loop.streams, loop.streams == 1 ? "" : "s",
                     loop.prefetch == 0 ? "no prefetch" : fmt::format("prefetch {} B ahead", loop.prefetch));
}

std::size_t last_level_cache() {
  std::size_t largest = 0;
  const std::filesystem::path folder = "/sys/devices/system/cpu/cpu0/cache";
  for (int index = 0; index < 8; ++index) {
    std::ifstream file(folder / fmt::format("index{}", index) / "size");
    if (std::string text; file >> text) largest = std::max(largest, parse_size(text));
  }
  return largest;
}

std::size_t memory_buffer_bytes(std::size_t limit) {
  constexpr std::size_t kLeast = std::size_t{256} << 20U;
  constexpr std::size_t kCaches = 8;
  return std::min(std::max(kLeast, kCaches * last_level_cache()), limit);
}

ReadProbe::ReadProbe(Workers& workers, std::size_t bytes)
    : workers_(workers),
      range_bytes_(round_up(std::max<std::size_t>(bytes / workers.size(), 1), kReadGranule)),
      buffer_(range_bytes_ * workers.size() + kHugePage),
      loops_(read_loops()),
      rates_(loops_.size()),
      sums_(workers.size() * kLineWords) {
  // What translations cost belongs to a layout, not to the memory. A refusal is no error.
  static_cast<void>(::madvise(buffer_.data(), buffer_.size(), MADV_HUGEPAGE));
  // Written by who reads it, so that it lies in that worker's memory; a page never written is a shared page of zeros.
  workers_.run([this](std::size_t worker) {
    std::memset(buffer_.data() + worker * range_bytes_, static_cast<int>(worker % 255 + 1), range_bytes_);
  });
}

double ReadProbe::time(const ReadLoop& loop) {
  const std::size_t passes = std::max<std::size_t>(kBytesPerMeasurement / bytes(), 1);
  const auto job = [&](std::size_t worker) {
    for (std::size_t pass = 0; pass < passes; ++pass)
      sums_[worker * kLineWords] += loop.read(buffer_.data() + worker * range_bytes_, range_bytes_);
  };
  const double seconds = seconds_of(workers_, job);
  return static_cast<double>(passes * bytes()) / seconds;
}

void ReadProbe::measure() {
  for (std::size_t i = 0; i < loops_.size(); ++i) rates_[i].push_back(time(*loops_[i]));
}

Bandwidth ReadProbe::best() const {
  Bandwidth best;
  for (std::size_t i = 0; i < loops_.size(); ++i) {
    const double rate = median(rates_[i]);
    if (rate > best.bytes_per_second) best = {.bytes_per_second = rate, .loop = loops_[i]};
  }
  return best;
}

PeakProbe::PeakProbe(Workers& workers, std::string_view isa) : workers_(workers) {
  for (std::size_t unit = 0; unit < kUnits; ++unit) {
    loops_[unit] = &arithmetic_loop(isa, static_cast<Unit>(unit));
    // The first few rounds wake the unit and the workers; then double until it takes long enough to tell. By a worker's own
    // time: of a busy machine's, a few rounds that were interrupted look like many.
    std::size_t rounds = 1000;
    double seconds = 0;
    for (; seconds < kPeakTime / 8; rounds *= 2) {
      workers_.run([&](std::size_t worker) {
        const double start = processor_seconds();
        loops_[unit]->run(rounds);
        if (worker == 0) seconds = processor_seconds() - start;
      });
    }
    rounds_[unit] = static_cast<std::size_t>(static_cast<double>(rounds) / 2 * kPeakTime / seconds) + 1;
  }
}

void PeakProbe::measure() {
  for (std::size_t unit = 0; unit < kUnits; ++unit) {
    const auto job = [&](std::size_t /*worker*/) { loops_[unit]->run(rounds_[unit]); };
    double seconds = seconds_of(workers_, job);
    // However slow the processor was when rounds were chosen: starting the workers must not count.
    for (; seconds < kPeakTime / 2; seconds = seconds_of(workers_, job)) rounds_[unit] *= 2;
    const std::size_t flops = rounds_[unit] * loops_[unit]->flops_per_round * workers_.size();
    rates_[unit].push_back(static_cast<double>(flops) / seconds);
  }
}

double PeakProbe::flops_per_second(Unit unit) const {
  // Two units may share a loop: then they share its figure, and not only nearly.
  const auto* const first = std::ranges::find(loops_, loops_[static_cast<std::size_t>(unit)]);
  return median(rates_[static_cast<std::size_t>(first - loops_.begin())]);
}

}  // namespace sluice::cpu
