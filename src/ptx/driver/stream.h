// Streams: operations in order, asynchronous with respect to the host.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace sluice::ptx::api {

struct Context;

// That an operation has ended: what the host, other streams and events wait for.
class Completion {
 public:
  void finish();
  void wait() const;
  bool finished() const;
  // Only once it is finished.
  std::chrono::steady_clock::time_point when() const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool finished_ = false;
  std::chrono::steady_clock::time_point when_;
};
using CompletionPointer = std::shared_ptr<Completion>;

// A queue with a thread of its own, which starts with the first operation and ends after the last one once the stream is
// closed. The caller of the driver API decides about the order between streams: it hands over what to wait for.
class Stream : public std::enable_shared_from_this<Stream> {
 public:
  Stream(Context* context, unsigned flags, int priority, std::uint64_t id);

  // Appends `operation`, which begins when everything before it and all of `after` have ended. It must not throw.
  CompletionPointer enqueue(std::function<void()> operation, std::vector<CompletionPointer> after = {});
  // The end of the last operation so far; null if there was none.
  CompletionPointer last() const;
  void close();

  Context* context() const { return context_; }
  unsigned flags() const { return flags_; }
  int priority() const { return priority_; }
  std::uint64_t id() const { return id_; }

 private:
  struct Operation {
    std::function<void()> run;
    std::vector<CompletionPointer> after;
    CompletionPointer completion;
  };
  void work();

  Context* context_;
  unsigned flags_;
  int priority_;
  std::uint64_t id_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Operation> operations_;
  CompletionPointer last_;
  bool started_ = false;
  bool closed_ = false;
};

}  // namespace sluice::ptx::api
