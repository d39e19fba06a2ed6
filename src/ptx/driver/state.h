// What the library remembers between calls: one device, its contexts and what belongs to them. Every handle that a caller gets
// is an object's address, and is looked up before it is used: a wrong one is an error, not a crash.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "ptx/driver/api.h"
#include "ptx/driver/stream.h"
#include "ptx/machine.h"

namespace sluice::ptx::api {

// What an API function throws: its result, and, where the result alone doesn't say what to do, a line for stderr.
struct Failure {
  CUresult result;
  std::string message;
};

// Here, so that static analysis sees that nobody goes on with a null pointer.
inline void require(bool condition, CUresult result = CUDA_ERROR_INVALID_VALUE,
                    std::string_view message = {}) {
  if (!condition) throw Failure{result, std::string(message)};
}

// Where a result goes, which must be somewhere.
template <typename T>
T& out(T* pointer) {
  require(pointer != nullptr);
  return *pointer;
}

// What `body` returns; an Error of its ends the call with `result`.
template <typename Body>
auto or_fail(CUresult result, Body&& body) {
  try {
    return body();
  } catch (const Error& error) {
    throw Failure{result, error.what()};
  }
}

struct Context : Object {
  bool primary = false;
  Stream* stream = nullptr;      // the default one
  std::vector<Completion> ends;  // of destroyed streams
  // The first fault of a kernel. It stays, as on hardware: the context is of no more use.
  std::atomic<CUresult> fault = CUDA_SUCCESS;
};

struct Function : Object {
  const Kernel* kernel = nullptr;
  std::shared_ptr<LoadedModule> loaded;  // which it is of
  std::uint32_t max_dynamic_shared = 0;  // what the caller opted in to; 0: the limit without opt-in
  int carveout = -1;
};

struct DriverModule : Object {
  std::shared_ptr<LoadedModule> loaded;
  std::map<std::string, Function*, std::less<>> functions;
};

struct Event : Object {
  unsigned flags = 0;
  Completion recorded;
};

struct Allocated {
  enum class Kind : std::uint8_t { kDevice, kHost, kRegistered };
  Context* by = nullptr;
  Kind kind = Kind::kDevice;
  std::uint64_t bytes = 0;
};

// The whole library's state. Guarded by `mutex`, which is never held while a thread waits for the device.
struct Driver {
  Driver();

  // A new object and its handle; `owner` null: it belongs to no context.
  template <std::derived_from<Object> T, typename... Arguments>
  T& make(Context* owner, Arguments&&... arguments) {
    auto object = std::make_shared<T>(std::forward<Arguments>(arguments)...);
    object->context = owner;
    objects.emplace(object.get(), object);
    return *object;
  }
  // The object of a handle that a caller gives; null if there is none of its kind.
  template <std::derived_from<Object> T>
  T* find(const T* handle) const {
    const auto found = objects.find(handle);
    return found == objects.end() ? nullptr : dynamic_cast<T*>(found->second.get());
  }
  // The same, and that a context may use it: `user`, or null: any.
  template <std::derived_from<Object> T>
  T& checked(const T* handle, const Context* user = nullptr) const {
    T* object = find(handle);
    if (object == nullptr || (user != nullptr && object->context != nullptr && object->context != user))
      throw Failure{std::same_as<T, Context> ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_INVALID_HANDLE, {}};
    return *object;
  }
  // Null and CU_STREAM_LEGACY are the context's default stream.
  Stream& stream_of(const Context& context, CUstream stream) const {
    return reinterpret_cast<std::uintptr_t>(stream) <= 1 ? *context.stream : checked(stream, &context);
  }

  const Gpu& gpu;
  std::uint64_t seed;
  bool checks;
  bool varies_inexact;
  Memory memory;

  std::mutex mutex;
  std::mutex running;  // one kernel at a time
  std::uint64_t launches = 0;
  std::map<const void*, std::shared_ptr<Object>> objects;  // by handle
  Context* primary = nullptr;
  std::uint64_t primary_references = 0;
  std::map<std::uint64_t, Allocated> allocated;  // by address
};

void make_driver();  // cuInit

// The calling thread's stack of contexts.
std::vector<Context*>& context_stack();

// Runs an API function's body with the state locked, once cuInit has made it, and turns what it throws into a result.
CUresult guarded(const std::function<CUresult()>& body) noexcept;
CUresult call(const std::function<void(Driver& driver)>& body) noexcept;
// The same for functions that wait: what `body` returns ends before `afterwards` begins.
CUresult call_waiting(const std::function<std::vector<Completion>(Driver& driver)>& body,
                      const std::function<void(Driver& driver)>& afterwards) noexcept;
// The same in the current context, unless a kernel's fault has ended it.
CUresult in_context(const std::function<void(Driver& driver, Context& context)>& body) noexcept;
CUresult in_context_waiting(
    const std::function<std::vector<Completion>(Driver& driver, Context& context)>& body) noexcept;

void require_device(CUdevice device);

// Appends to a stream with the default stream's order: it waits for all other streams that aren't CU_STREAM_NON_BLOCKING, and
// they wait for it. After a fault nothing but completions happens.
Completion enqueue(Driver& driver, Stream& stream, std::function<void()> operation,
                   std::vector<Completion> after = {});
// The last operations of all streams, or of those that the default stream waits for, itself included.
std::vector<Completion> ends_of(Driver& driver, const Context& context, bool blocking_only = false);

// Gives memory back, whoever allocated it.
void release(Driver& driver, std::uint64_t address);

// A line on stderr, for the user of the program.
void say(std::string_view message);

}  // namespace sluice::ptx::api
