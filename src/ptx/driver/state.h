// What the library remembers between calls: one device, its contexts and what belongs to them. Every handle that a caller gets
// points to an object here, and is looked up before it is used: a wrong one is an error, not a crash.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "ptx/driver/api.h"
#include "ptx/driver/stream.h"
#include "ptx/machine.h"

namespace sluice::ptx::api {

// What an API function throws: its result, and, where the result alone doesn't say what to do, a line for stderr.
struct Failure {
  CUresult result;
  std::string message;
};

struct Function {
  const Kernel* kernel = nullptr;
  DriverModule* module = nullptr;
  std::uint32_t max_dynamic_shared = 0;  // what the caller opted in to; 0: the limit without opt-in
  int carveout = -1;
};

struct DriverModule {
  Context* context = nullptr;
  Library* library = nullptr;  // that it was loaded for
  std::shared_ptr<LoadedModule> loaded;
  std::vector<std::unique_ptr<Function>> functions;  // in the order of loaded->kernels()
};

struct LibraryKernel {
  Library* library = nullptr;
  std::string name;
};

// A module's text, loaded into a context when the context first needs it.
struct Library {
  std::string text;
  std::vector<std::unique_ptr<LibraryKernel>> kernels;
  std::map<Context*, DriverModule*> modules;
};

struct Event {
  unsigned flags = 0;
  CompletionPointer recorded;  // null: never
};

struct Link {
  std::string text;
};

struct Pool {
  std::uint64_t release_threshold = 0;
  int reuse[3] = {1, 1, 1};
};

struct Context {
  std::uint64_t id = 0;
  unsigned flags = 0;
  bool primary = false;
  unsigned api_version = 0;
  std::shared_ptr<Stream> legacy;                                 // the default stream
  std::map<std::thread::id, std::shared_ptr<Stream>> per_thread;  // CU_STREAM_PER_THREAD
  std::map<const Stream*, std::shared_ptr<Stream>> streams;
  std::vector<CompletionPointer> orphans;  // of destroyed streams
  std::map<const DriverModule*, std::unique_ptr<DriverModule>> modules;
  std::map<const Event*, std::unique_ptr<Event>> events;
  std::map<CUlimit, size_t> limits;
  CUfunc_cache cache_config = 0;
  // The first fault of a kernel. It stays, as on hardware: the context is of no more use.
  std::atomic<CUresult> fault = CUDA_SUCCESS;
};

// An allocation's owner and what cuMemHostGetFlags and cuPointerGetAttribute tell of it.
struct Owned {
  enum class Kind : std::uint8_t { kDevice, kHost, kRegistered };
  Context* context = nullptr;
  Kind kind = Kind::kDevice;
  std::uint64_t bytes = 0;
  std::uint64_t id = 0;
  unsigned flags = 0;
};

// The whole library's state. Guarded by `mutex`, which is never held while a thread waits for the device.
struct Driver {
  Driver();

  const Gpu& gpu;
  std::uint64_t seed;
  bool checks;
  bool varies_inexact;
  Memory memory;

  std::mutex mutex;
  std::mutex running;  // one kernel at a time
  std::uint64_t launches = 0;
  std::uint64_t next_id = 1;
  std::map<const Context*, std::unique_ptr<Context>> contexts;
  Context* primary = nullptr;
  unsigned primary_flags = 0;
  std::uint64_t primary_references = 0;
  std::map<const Library*, std::unique_ptr<Library>> libraries;
  std::map<const Link*, std::unique_ptr<Link>> links;
  std::map<std::uint64_t, Owned> owned;  // by address
  Pool pool;
};

// The state, once cuInit has made it; throws Failure before.
Driver& driver();
void make_driver();

// The calling thread's stack of contexts.
std::vector<Context*>& context_stack();

// Runs an API function's body with the state locked and turns what it throws into a result.
CUresult guarded(const std::function<CUresult()>& body) noexcept;
CUresult call(const std::function<void(Driver& driver)>& body) noexcept;
// The same in the current context, unless a kernel's fault has ended it.
CUresult in_context(const std::function<void(Driver& driver, Context& context)>& body) noexcept;
// The same for functions that wait: what `body` returns ends before the function does.
CUresult in_context_waiting(
    const std::function<std::vector<CompletionPointer>(Driver& driver, Context& context)>& body) noexcept;

// Checks of arguments; all throw Failure.
void require(bool condition, CUresult result = CUDA_ERROR_INVALID_VALUE, std::string_view message = {});
void require_device(CUdevice device);
Context& checked_context(Driver& driver, CUcontext context);
DriverModule& checked_module(Driver& driver, CUmodule module);
// Also takes a CUkernel in the place of a function, as the driver does.
Function& checked_function(Driver& driver, Context& context, CUfunction function);
LibraryKernel& checked_kernel(Driver& driver, CUkernel kernel);
Event& checked_event(Driver& driver, CUevent event);
// Null and CU_STREAM_LEGACY are the context's default stream, CU_STREAM_PER_THREAD the calling thread's.
Stream& checked_stream(Driver& driver, Context& context, CUstream stream);

// Appends to a stream with the default stream's order: it waits for all other streams that aren't CU_STREAM_NON_BLOCKING, and
// they wait for it. After a fault nothing but completions happens.
CompletionPointer enqueue(Context& context, Stream& stream, std::function<void()> operation,
                          std::vector<CompletionPointer> after = {});
// The same for what must happen after a fault, too.
CompletionPointer enqueue_always(Context& context, Stream& stream, std::function<void()> operation,
                                 std::vector<CompletionPointer> after = {});
// The last operations of all streams, and of those that the default stream waits for, itself included.
std::vector<CompletionPointer> everything(Context& context);
std::vector<CompletionPointer> everything_blocking(Context& context);

// Blocks of a kernel that fit on one SM, with so many bytes of dynamic shared memory each.
int resident_blocks(const Driver& driver, const Function& function, int block_size, size_t dynamic_shared);

// Gives memory back, whoever allocated it.
void release(Driver& driver, std::uint64_t address, const Owned& owned);

// A line on stderr, for the user of the program.
void say(std::string_view message);

}  // namespace sluice::ptx::api
