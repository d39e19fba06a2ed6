#include "ptx/driver/state.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <new>

#include <fmt/format.h>

#include "base/error.h"

namespace sluice::ptx::api {
namespace {

constexpr const char* kDefaultGpu = "rtx3090";

std::string_view variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr || *value == '\0' ? otherwise : value;
}

std::uint64_t seed_of(std::string_view text) {
  std::uint64_t seed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc{} || end != text.data() + text.size())
    throw Error(fmt::format("SLUICE_PTX_SEED is '{}'", text), {},
                "give a number from 0 to 18446744073709551615");
  return seed;
}

bool checks_of(std::string_view text) {
  if (text != "on" && text != "off")
    throw Error(fmt::format("SLUICE_PTX_CHECKS is '{}'", text), {}, "give on or off");
  return text == "on";
}

bool varies_of(std::string_view text) {
  if (text != "fixed" && text != "varied")
    throw Error(fmt::format("SLUICE_PTX_INEXACT is '{}'", text), {}, "give fixed or varied");
  return text == "varied";
}

// Never destroyed: streams' threads may still run when the process ends.
Driver*& instance() {
  static Driver* driver = nullptr;
  return driver;
}

}  // namespace

Driver::Driver()
    : gpu(gpu_named(variable("SLUICE_PTX_GPU", kDefaultGpu))),
      seed(seed_of(variable("SLUICE_PTX_SEED", "0"))),
      checks(checks_of(variable("SLUICE_PTX_CHECKS", "on"))),
      varies_inexact(varies_of(variable("SLUICE_PTX_INEXACT", "fixed"))),
      memory(gpu.memory_bytes) {}

void make_driver() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (instance() == nullptr) instance() = new Driver;
}

Driver& driver() {
  if (instance() == nullptr) throw Failure{CUDA_ERROR_NOT_INITIALIZED, {}};
  return *instance();
}

std::vector<Context*>& context_stack() {
  static thread_local std::vector<Context*> stack;
  return stack;
}

void say(std::string_view message) {
  if (!message.empty()) fmt::print(stderr, "sluice-ptx: {}\n", message);
}

CUresult guarded(const std::function<CUresult()>& body) noexcept {
  try {
    try {
      return body();
    } catch (const Failure& failure) {
      say(failure.message);
      return failure.result;
    } catch (const std::bad_alloc&) {
      say("the host is out of memory");
      return CUDA_ERROR_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
      say(error.what());
      return CUDA_ERROR_UNKNOWN;
    }
  } catch (...) {  // not even the message could be printed
    return CUDA_ERROR_UNKNOWN;
  }
}

CUresult call(const std::function<void(Driver& driver)>& body) noexcept {
  return guarded([&] {
    Driver& state = driver();
    const std::lock_guard lock(state.mutex);
    body(state);
    return CUDA_SUCCESS;
  });
}

CUresult in_context(const std::function<void(Driver& driver, Context& context)>& body) noexcept {
  return in_context_waiting([&](Driver& state, Context& context) {
    body(state, context);
    return std::vector<CompletionPointer>();
  });
}

CUresult in_context_waiting(
    const std::function<std::vector<CompletionPointer>(Driver& driver, Context& context)>& body) noexcept {
  return guarded([&] {
    Driver& state = driver();
    std::vector<CompletionPointer> to_wait_for;
    const Context* current = nullptr;
    {
      const std::lock_guard lock(state.mutex);
      require(!context_stack().empty() && context_stack().back() != nullptr, CUDA_ERROR_INVALID_CONTEXT);
      current = context_stack().back();
      require(state.contexts.contains(current), CUDA_ERROR_CONTEXT_IS_DESTROYED);
      Context& context = *state.contexts.at(current);
      if (const CUresult fault = context.fault; fault != CUDA_SUCCESS) return fault;
      to_wait_for = body(state, context);
    }
    if (to_wait_for.empty()) return CUDA_SUCCESS;
    for (const CompletionPointer& completion : to_wait_for) completion->wait();
    const std::lock_guard lock(state.mutex);
    const auto context = state.contexts.find(current);
    return context == state.contexts.end() ? CUDA_ERROR_CONTEXT_IS_DESTROYED : context->second->fault.load();
  });
}

void require(bool condition, CUresult result, std::string_view message) {
  if (!condition) throw Failure{result, std::string(message)};
}

void require_device(CUdevice device) {
  require(device == 0, CUDA_ERROR_INVALID_DEVICE);
}

Context& checked_context(Driver& driver, CUcontext context) {
  const auto found = driver.contexts.find(context);
  require(found != driver.contexts.end(), CUDA_ERROR_INVALID_CONTEXT);
  return *found->second;
}

DriverModule& checked_module(Driver& driver, CUmodule module) {
  for (const auto& [_, context] : driver.contexts)
    if (const auto found = context->modules.find(module); found != context->modules.end())
      return *found->second;
  throw Failure{CUDA_ERROR_INVALID_HANDLE, {}};
}

Event& checked_event(Driver& driver, CUevent event) {
  for (const auto& [_, context] : driver.contexts)
    if (const auto found = context->events.find(event); found != context->events.end()) return *found->second;
  throw Failure{CUDA_ERROR_INVALID_HANDLE, {}};
}

Stream& checked_stream(Driver& driver, Context& context, CUstream stream) {
  const auto handle = reinterpret_cast<std::uintptr_t>(stream);
  if (handle <= 1) return *context.legacy;  // null, CU_STREAM_LEGACY
  if (handle == 2) {                        // CU_STREAM_PER_THREAD
    std::shared_ptr<Stream>& own = context.per_thread[std::this_thread::get_id()];
    if (own == nullptr) own = std::make_shared<Stream>(&context, 0, 0, driver.next_id++);
    return *own;
  }
  const auto found = context.streams.find(stream);
  require(found != context.streams.end(), CUDA_ERROR_INVALID_HANDLE);
  return *found->second;
}

std::vector<CompletionPointer> everything(Context& context) {
  std::vector<CompletionPointer> all = everything_blocking(context);
  for (const auto& [_, stream] : context.streams)
    if (CompletionPointer last = stream->last(); last != nullptr) all.push_back(std::move(last));
  std::erase_if(context.orphans, [](const CompletionPointer& orphan) { return orphan->finished(); });
  all.insert(all.end(), context.orphans.begin(), context.orphans.end());
  return all;
}

std::vector<CompletionPointer> everything_blocking(Context& context) {
  std::vector<CompletionPointer> all;
  const auto add = [&](const Stream& stream) {
    if ((stream.flags() & CU_STREAM_NON_BLOCKING) != 0) return;
    if (CompletionPointer last = stream.last(); last != nullptr) all.push_back(std::move(last));
  };
  add(*context.legacy);
  for (const auto& [_, stream] : context.per_thread) add(*stream);
  for (const auto& [_, stream] : context.streams) add(*stream);
  return all;
}

CompletionPointer enqueue_always(Context& context, Stream& stream, std::function<void()> operation,
                                 std::vector<CompletionPointer> after) {
  if (&stream == context.legacy.get()) {
    for (CompletionPointer& earlier : everything_blocking(context)) after.push_back(std::move(earlier));
  } else if ((stream.flags() & CU_STREAM_NON_BLOCKING) == 0) {
    if (CompletionPointer last = context.legacy->last(); last != nullptr) after.push_back(std::move(last));
  }
  return stream.enqueue(std::move(operation), std::move(after));
}

CompletionPointer enqueue(Context& context, Stream& stream, std::function<void()> operation,
                          std::vector<CompletionPointer> after) {
  return enqueue_always(
      context, stream,
      [&fault = context.fault, operation = std::move(operation)] {
        if (fault.load() == CUDA_SUCCESS) operation();
      },
      std::move(after));
}

}  // namespace sluice::ptx::api
