// Streams: operations in order, asynchronous with respect to the host.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <vector>

namespace sluice::ptx::api {

struct Context;

// What a handle of the API points to.
struct Object {
  Object() = default;
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  Context* context = nullptr;  // whose it is and with which it ends; null: nobody's
};

// The end of an operation, and when it was: what the host, other streams and events wait for. Not valid: there was none.
using Completion = std::shared_future<std::chrono::steady_clock::time_point>;
inline bool is_finished(const Completion& completion) {
  return !completion.valid() || completion.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

// A queue with a thread of its own, which starts with the first operation and ends after the last one once the stream is
// destroyed. The caller of the driver API decides about the order between streams: it hands over what to wait for.
class Stream : public Object {
 public:
  explicit Stream(unsigned its_flags) : flags(its_flags) {}
  ~Stream() override;

  // Appends `operation`, which begins when everything before it and all of `after` have ended. It must not throw.
  void enqueue(std::function<void()> operation, std::vector<Completion> after);

  const unsigned flags;
  Completion last;  // the end of the last operation so far

 private:
  struct Queue;
  std::shared_ptr<Queue> queue_;
};

}  // namespace sluice::ptx::api
