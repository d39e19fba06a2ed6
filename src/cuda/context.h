// A device while it is in use: contexts, and what belongs to one. Every object keeps its context alive, gives back what it holds
// when it ends, and may be used by any thread, one at a time. What fails throws Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "cuda/driver.h"

namespace sluice::cuda {

// A context of our own on a device, so that a fault in one model's kernel ends no other model.
class Context : public std::enable_shared_from_this<Context> {
 public:
  static std::shared_ptr<Context> make(std::shared_ptr<const Driver> driver, std::size_t ordinal);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Driver& driver() const { return *driver_; }
  const DriverFunctions& functions() const { return driver_->functions(); }
  const DeviceInfo& device() const { return device_; }
  const std::string& where() const { return where_; }  // "cuda:0, NVIDIA GeForce RTX 3090", for messages
  std::size_t free_bytes() const;

  // Throws Error as Driver::check does, with the device's name.
  void check(Result result, std::string_view doing) const;

 private:
  friend class Current;
  Context(std::shared_ptr<const Driver> driver, std::size_t ordinal);

  std::shared_ptr<const Driver> driver_;
  DeviceInfo device_;
  std::string where_;
  ContextHandle handle_ = nullptr;
};

// Makes a context the calling thread's while it lives.
class Current {
 public:
  explicit Current(const Context& context);
  ~Current();
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  const Context& context_;
  bool pushed_ = false;
};

// What every object of a context is: a handle and who gives it back.
template <typename Handle>
class Owned {
 public:
  using Release = Result (*DriverFunctions::*)(Handle);

  Owned() = default;
  Owned(std::shared_ptr<const Context> context, Handle handle, Release release)
      : context_(std::move(context)), handle_(handle), release_(release) {}
  Owned(Owned&& other) noexcept
      : context_(std::move(other.context_)),
        handle_(std::exchange(other.handle_, Handle{})),
        release_(other.release_) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(context_, other.context_);
    std::swap(handle_, other.handle_);
    std::swap(release_, other.release_);
    return *this;
  }
  ~Owned() {
    if (handle_ == Handle{}) return;
    const Current current(*context_);
    static_cast<void>(
        (context_->functions().*release_)(handle_));  // after a fault it fails, and the context ends with it
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  Handle get() const { return handle_; }
  const Context& context() const { return *context_; }
  const std::shared_ptr<const Context>& shared_context() const { return context_; }

 private:
  std::shared_ptr<const Context> context_;
  Handle handle_{};
  Release release_ = nullptr;
};

class Stream {
 public:
  explicit Stream(std::shared_ptr<const Context> context);
  StreamHandle handle() const { return stream_.get(); }
  void synchronize() const;
  bool is_done() const;  // everything enqueued so far

 private:
  Owned<StreamHandle> stream_;
};

class Event {
 public:
  explicit Event(std::shared_ptr<const Context> context);
  void record(const Stream& stream) const;
  void synchronize() const;
  double seconds_since(const Event& begin) const;  // both recorded and over

 private:
  Owned<EventHandle> event_;
};

// Memory of the device.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(std::shared_ptr<const Context> context, std::size_t bytes);

  DevicePointer address() const { return memory_.get(); }
  std::size_t bytes() const { return bytes_; }
  void upload(std::size_t offset, std::span<const std::byte> data) const;
  void download(std::size_t offset, std::span<std::byte> data) const;
  void clear(std::size_t offset, std::size_t bytes, const Stream& stream) const;

 private:
  Owned<DevicePointer> memory_;
  std::size_t bytes_ = 0;
};

// Pinned memory of the host that a running kernel reads and writes.
class MappedMemory {
 public:
  MappedMemory() = default;
  MappedMemory(std::shared_ptr<const Context> context, std::size_t bytes);  // zero

  std::byte* data() const { return static_cast<std::byte*>(memory_.get()); }
  DevicePointer address() const { return address_; }
  std::size_t bytes() const { return bytes_; }

 private:
  Owned<void*> memory_;
  DevicePointer address_ = 0;
  std::size_t bytes_ = 0;
};

// A kernel. Lives no longer than its module.
class Kernel {
 public:
  const std::string& name() const { return name_; }
  int registers() const;
  int threads_at_most() const;

  // Opts in to so much dynamic shared memory for a block; Error if the device has less.
  void set_shared(std::size_t bytes);
  // Blocks of `threads` that are resident on the whole device at once, with that shared memory.
  std::size_t resident_blocks(unsigned threads) const;
  // The largest dynamic shared memory that a block may have.
  std::size_t shared_at_most() const;

  // All blocks at once. `parameters`: one struct, as the kernel's only parameter.
  template <typename Parameters>
  void launch(unsigned blocks, unsigned threads, const Stream& stream, const Parameters& parameters) const {
    static_assert(std::is_trivially_copyable_v<Parameters>);
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&parameters))};
    launch(blocks, threads, stream, static_cast<void**>(pointers));
  }

 private:
  friend class Module;
  Kernel(const Context& context, FunctionHandle function, std::string name)
      : context_(&context), function_(function), name_(std::move(name)) {}
  int attribute(int which, std::string_view doing) const;
  void launch(unsigned blocks, unsigned threads, const Stream& stream, void** parameters) const;

  const Context* context_;
  FunctionHandle function_;
  std::string name_;
  std::size_t shared_ = 0;
};

class Module {
 public:
  // `image`: a fat binary, or PTX that ends with a zero byte.
  Module(std::shared_ptr<const Context> context, std::span<const std::byte> image);
  Kernel kernel(const std::string& name) const;

 private:
  Owned<ModuleHandle> module_;
};

}  // namespace sluice::cuda
