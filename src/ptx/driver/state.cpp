#include "ptx/driver/state.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <new>

#include <fmt/format.h>

namespace sluice::ptx::api {
namespace {

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

// A variable that has one of two values: whether it has the first.
bool is_first(const char* name, const char* first, const char* second, const char* otherwise) {
  const std::string_view text = variable(name, otherwise);
  if (text != first && text != second)
    throw Error(fmt::format("{} is '{}'", name, text), {}, fmt::format("give {} or {}", first, second));
  return text == first;
}

// Never destroyed: streams' threads may still run when the process ends.
Driver*& instance() {
  static Driver* driver = nullptr;
  return driver;
}

Driver& driver() {
  require(instance() != nullptr, CUDA_ERROR_NOT_INITIALIZED);
  return *instance();
}

Context& current_context(Driver& state) {
  require(!context_stack().empty() && context_stack().back() != nullptr, CUDA_ERROR_INVALID_CONTEXT);
  Context* current = state.find(context_stack().back());
  require(current != nullptr, CUDA_ERROR_CONTEXT_IS_DESTROYED);
  if (const CUresult fault = current->fault; fault != CUDA_SUCCESS) throw Failure{fault, {}};
  return *current;
}

}  // namespace

Driver::Driver()
    : gpu(gpu_named(variable("SLUICE_PTX_GPU", "rtx3090"))),
      seed(seed_of(variable("SLUICE_PTX_SEED", "0"))),
      checks(is_first("SLUICE_PTX_CHECKS", "on", "off", "on")),
      varies_inexact(is_first("SLUICE_PTX_INEXACT", "varied", "fixed", "fixed")),
      memory(gpu.memory_bytes) {}

void make_driver() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (instance() == nullptr) instance() = new Driver;
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

CUresult call_waiting(const std::function<std::vector<Completion>(Driver& driver)>& body,
                      const std::function<void(Driver& driver)>& afterwards) noexcept {
  return guarded([&] {
    Driver& state = driver();
    std::vector<Completion> to_wait_for;
    {
      const std::lock_guard lock(state.mutex);
      to_wait_for = body(state);
    }
    for (const Completion& completion : to_wait_for)
      if (completion.valid()) completion.wait();
    const std::lock_guard lock(state.mutex);
    afterwards(state);
    return CUDA_SUCCESS;
  });
}

CUresult call(const std::function<void(Driver& driver)>& body) noexcept {
  return call_waiting([](Driver&) { return std::vector<Completion>(); }, body);
}

CUresult in_context(const std::function<void(Driver& driver, Context& context)>& body) noexcept {
  return call([&](Driver& state) { body(state, current_context(state)); });
}

CUresult in_context_waiting(
    const std::function<std::vector<Completion>(Driver& driver, Context& context)>& body) noexcept {
  return call_waiting([&](Driver& state) { return body(state, current_context(state)); },
                      [](Driver& state) { current_context(state); });
}

void require_device(CUdevice device) {
  require(device == 0, CUDA_ERROR_INVALID_DEVICE);
}

std::vector<Completion> ends_of(Driver& driver, const Context& context, bool blocking_only) {
  std::vector<Completion> ends;
  for (const auto& [_, object] : driver.objects) {
    const auto* stream = object->context == &context ? dynamic_cast<const Stream*>(object.get()) : nullptr;
    if (stream == nullptr || !stream->last.valid()) continue;
    if (!blocking_only || (stream->flags & CU_STREAM_NON_BLOCKING) == 0) ends.push_back(stream->last);
  }
  if (!blocking_only) ends.insert(ends.end(), context.ends.begin(), context.ends.end());
  return ends;
}

Completion enqueue(Driver& driver, Stream& stream, std::function<void()> operation,
                   std::vector<Completion> after) {
  Context& context = *stream.context;
  if (&stream == context.stream) {
    for (Completion& earlier : ends_of(driver, context, true)) after.push_back(std::move(earlier));
  } else if ((stream.flags & CU_STREAM_NON_BLOCKING) == 0 && context.stream->last.valid()) {
    after.push_back(context.stream->last);
  }
  stream.enqueue(
      [&fault = context.fault, operation = std::move(operation)] {
        if (fault.load() == CUDA_SUCCESS) operation();
      },
      std::move(after));
  return stream.last;
}

}  // namespace sluice::ptx::api
