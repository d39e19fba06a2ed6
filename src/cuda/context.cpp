#include "cuda/context.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::cuda {
namespace {

// CUctx_flags, CUstream_flags, CUmemhostalloc flags, CUfunction_attribute, CUjit_option.
constexpr unsigned kScheduleBlocking = 4;
constexpr unsigned kMapHost = 8;
constexpr unsigned kStreamNonBlocking = 1;
constexpr unsigned kEventBlocking = 1;
constexpr unsigned kHostPortable = 1;
constexpr unsigned kHostMapped = 2;
constexpr int kThreadsPerBlock = 0;
constexpr int kStaticShared = 1;
constexpr int kRegisters = 4;
constexpr int kDynamicShared = 8;
constexpr int kJitErrorLog = 5;
constexpr int kJitErrorLogBytes = 6;

constexpr Result kNoBinaryForGpu = 209;
constexpr Result kUnsupportedPtx = 222;
constexpr Result kLaunchTooLarge = 720;

}  // namespace

Context::Context(std::shared_ptr<const Driver> driver, std::size_t ordinal)
    : driver_(std::move(driver)),
      device_(driver_->device(ordinal)),
      where_(fmt::format("cuda:{}, {}", ordinal, device_.name)) {}

std::shared_ptr<Context> Context::make(std::shared_ptr<const Driver> driver, std::size_t ordinal) {
  std::shared_ptr<Context> context(new Context(std::move(driver), ordinal));
  const std::string reason = why_unusable(*context->driver_, context->device_);
  if (!reason.empty()) throw Error("the GPU can't be used", context->where_, reason);
  DeviceHandle device = 0;
  context->check(context->functions().device_get(&device, static_cast<int>(ordinal)),
                 "can't open the device");
  // A thread that waits sleeps: the host has other things to do.
  const Result made =
      context->functions().context_create(&context->handle_, kScheduleBlocking | kMapHost, device);
  context->check(made, "can't make a context");
  ContextHandle popped = nullptr;
  context->check(context->functions().context_pop(&popped), "can't leave a new context");
  return context;
}

Context::~Context() {
  if (handle_ != nullptr) static_cast<void>(functions().context_destroy(handle_));
}

std::size_t Context::free_bytes() const {
  const Current current(*this);
  std::size_t free = 0;
  std::size_t total = 0;
  check(functions().memory_info(&free, &total), "can't tell how much memory is free");
  return free;
}

void Context::check(Result result, std::string_view doing) const {
  if (result == kSuccess) return;
  if (result == kOutOfMemory) {
    throw Error(fmt::format("the GPU's memory is full: the driver {}", doing), where_,
                "close what else uses the GPU, or use a smaller context (-c)");
  }
  throw Error(fmt::format("the CUDA driver {}: {}", doing, driver_->text_of(result)), where_);
}

Current::Current(const Context& context) : context_(context) {
  // A context that a fault has ended can still be pushed: the calls in it then say what has happened.
  pushed_ = context.functions().context_push(context.handle_) == kSuccess;
}

Current::~Current() {
  ContextHandle popped = nullptr;
  if (pushed_) static_cast<void>(context_.functions().context_pop(&popped));
}

Stream::Stream(std::shared_ptr<const Context> context) {
  const Current current(*context);
  StreamHandle handle = nullptr;
  context->check(context->functions().stream_create(&handle, kStreamNonBlocking), "can't make a stream");
  stream_ = {std::move(context), handle, &DriverFunctions::stream_destroy};
}

void Stream::synchronize() const {
  const Context& context = stream_.context();
  const Current current(context);
  context.check(context.functions().stream_synchronize(stream_.get()), "reports a failed kernel or copy");
}

bool Stream::is_done() const {
  const Context& context = stream_.context();
  const Current current(context);
  const Result result = context.functions().stream_query(stream_.get());
  if (result == kNotReady) return false;
  context.check(result, "reports a failed kernel or copy");
  return true;
}

Event::Event(std::shared_ptr<const Context> context) {
  const Current current(*context);
  EventHandle handle = nullptr;
  context->check(context->functions().event_create(&handle, kEventBlocking), "can't make an event");
  event_ = {std::move(context), handle, &DriverFunctions::event_destroy};
}

void Event::record(const Stream& stream) const {
  const Context& context = event_.context();
  const Current current(context);
  context.check(context.functions().event_record(event_.get(), stream.handle()), "can't record an event");
}

void Event::synchronize() const {
  const Context& context = event_.context();
  const Current current(context);
  context.check(context.functions().event_synchronize(event_.get()), "reports a failed kernel or copy");
}

double Event::seconds_since(const Event& begin) const {
  const Context& context = event_.context();
  const Current current(context);
  float milliseconds = 0;
  context.check(context.functions().event_milliseconds(&milliseconds, begin.event_.get(), event_.get()),
                "can't tell the time between events");
  return static_cast<double>(milliseconds) / 1e3;
}

DeviceMemory::DeviceMemory(std::shared_ptr<const Context> context, std::size_t bytes) : bytes_(bytes) {
  const Current current(*context);
  DevicePointer address = 0;
  context->check(context->functions().allocate(&address, bytes),
                 fmt::format("can't allocate {} bytes", bytes));
  memory_ = {std::move(context), address, &DriverFunctions::free};
}

void DeviceMemory::upload(std::size_t offset, std::span<const std::byte> data) const {
  SLUICE_CHECK(offset <= bytes_ && data.size() <= bytes_ - offset);
  if (data.empty()) return;
  const Context& context = memory_.context();
  const Current current(context);
  context.check(context.functions().upload(address() + offset, data.data(), data.size()),
                "can't copy to the GPU");
}

void DeviceMemory::download(std::size_t offset, std::span<std::byte> data) const {
  SLUICE_CHECK(offset <= bytes_ && data.size() <= bytes_ - offset);
  if (data.empty()) return;
  const Context& context = memory_.context();
  const Current current(context);
  context.check(context.functions().download(data.data(), address() + offset, data.size()),
                "can't copy from the GPU");
}

void DeviceMemory::clear(std::size_t offset, std::size_t bytes, const Stream& stream) const {
  SLUICE_CHECK(offset <= bytes_ && bytes <= bytes_ - offset);
  if (bytes == 0) return;
  const Context& context = memory_.context();
  const Current current(context);
  context.check(context.functions().fill_async(address() + offset, 0, bytes, stream.handle()),
                "can't clear memory");
}

MappedMemory::MappedMemory(std::shared_ptr<const Context> context, std::size_t bytes) : bytes_(bytes) {
  const Current current(*context);
  void* data = nullptr;
  context->check(context->functions().allocate_host(&data, bytes, kHostPortable | kHostMapped),
                 fmt::format("can't allocate {} bytes of pinned memory", bytes));
  memory_ = {context, data, &DriverFunctions::free_host};
  context->check(context->functions().mapped_address(&address_, data, 0), "can't map pinned memory");
  std::memset(data, 0, bytes);
}

int Kernel::attribute(int which, std::string_view doing) const {
  const Current current(*context_);
  int value = 0;
  context_->check(context_->functions().function_attribute(&value, which, function_), doing);
  return value;
}

int Kernel::registers() const {
  return attribute(kRegisters, "can't tell a kernel's registers");
}

int Kernel::threads_at_most() const {
  return attribute(kThreadsPerBlock, "can't tell a kernel's largest block");
}

std::size_t Kernel::shared_at_most() const {
  const int fixed = attribute(kStaticShared, "can't tell a kernel's shared memory");
  return static_cast<std::size_t>(std::max(0, context_->device().shared_per_block - fixed));
}

void Kernel::set_shared(std::size_t bytes) {
  if (const std::size_t most = shared_at_most(); bytes > most) {
    throw Error(
        fmt::format("kernel {} needs {} bytes of shared memory, a block may have {}", name_, bytes, most),
        context_->where(), "this GPU is too small for the model");
  }
  SLUICE_CHECK(bytes <= static_cast<std::size_t>(std::numeric_limits<int>::max()));
  const Current current(*context_);
  context_->check(
      context_->functions().set_function_attribute(function_, kDynamicShared, static_cast<int>(bytes)),
      "can't give a kernel its shared memory");
  shared_ = bytes;
}

std::size_t Kernel::resident_blocks(unsigned threads) const {
  const Current current(*context_);
  int blocks = 0;
  context_->check(context_->functions().occupancy(&blocks, function_, static_cast<int>(threads), shared_),
                  "can't tell how many blocks fit");
  return static_cast<std::size_t>(std::max(0, blocks)) *
         static_cast<std::size_t>(std::max(0, context_->device().n_sms));
}

void Kernel::launch(unsigned blocks, unsigned threads, const Stream& stream, void** parameters) const {
  const Current current(*context_);
  const Result result = context_->functions().launch_cooperative(
      function_, blocks, 1, 1, threads, 1, 1, static_cast<unsigned>(shared_), stream.handle(), parameters);
  if (result == kLaunchTooLarge) {
    throw Error(fmt::format("{} blocks of kernel {} don't fit at once", blocks, name_), context_->where(),
                "close what else uses the GPU");
  }
  context_->check(result, "can't launch a kernel");
}

Module::Module(std::shared_ptr<const Context> context, std::span<const std::byte> image) {
  const Current current(*context);
  constexpr std::size_t kLogBytes = 4096;
  std::array<char, kLogBytes> log{};
  std::array<int, 2> options = {kJitErrorLog, kJitErrorLogBytes};
  std::array<void*, 2> values = {log.data(), std::bit_cast<void*>(kLogBytes)};
  ModuleHandle handle = nullptr;
  const Result result = context->functions().module_load(
      &handle, image.data(), static_cast<unsigned>(options.size()), options.data(), values.data());
  if (result == kNoBinaryForGpu || result == kUnsupportedPtx) {
    throw Error(fmt::format("the driver can't run these kernels: {}", context->driver().text_of(result)),
                context->where(), "install a newer driver");
  }
  if (result != kSuccess && log[0] != '\0') {
    throw Error(fmt::format("the CUDA driver can't load the kernels: {}: {}",
                            context->driver().text_of(result), log.data()),
                context->where());
  }
  context->check(result, "can't load the kernels");
  module_ = {std::move(context), handle, &DriverFunctions::module_unload};
}

Kernel Module::kernel(const std::string& name) const {
  const Context& context = module_.context();
  const Current current(context);
  FunctionHandle function = nullptr;
  context.check(context.functions().module_function(&function, module_.get(), name.c_str()),
                fmt::format("can't find kernel {}", name));
  return {context, function, name};
}

}  // namespace sluice::cuda
