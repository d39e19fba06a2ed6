// C++20 atomics for a handful of threads, small enough to explore every execution.
//
// The model is the view-based form of RC11's release/acquire fragment (as in "A Promising Semantics for Relaxed-Memory
// Concurrency", Kang et al., POPL 2017, without promises). Each atomic location keeps its modification order, a list of
// messages. A thread has a view: for each location the last message that it knows of. A load may return any message
// from there on; a store may go to any place behind it; a read-modify-write goes right behind the message that it reads,
// and nothing ever comes between. A release operation leaves the thread's view in its message, an acquire operation takes
// the message's view over. A read-modify-write passes on the view of the message that it read: the release sequence.
//
// Data that is not atomic is watched by vector clocks, which travel with the views: two accesses of which one writes must
// be ordered by happens-before, whatever their order in the exploration.
//
// What it leaves out: loads that take values of later stores of their own thread's future (load buffering); no wait or
// signal here has a store that follows a relaxed load without depending on it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace sluice::test {

enum class Order : std::uint8_t { kRelaxed, kAcquire, kRelease };

class WeakMemory {
 public:
  static constexpr std::size_t kThreads = 3;
  static constexpr std::size_t kLocations = 4;
  static constexpr std::size_t kData = 6;
  static constexpr std::size_t kMessages = 12;

  WeakMemory() {
    for (Location& location : locations_) location.size = 1;  // the initial zero
    for (std::size_t thread = 0; thread < kThreads; ++thread) threads_[thread].clock[thread] = 1;
  }

  // --- Atomics. A place is an index into a location's modification order.

  std::uint8_t first_readable(std::size_t thread, std::size_t at) const { return threads_[thread].known[at]; }
  std::uint8_t end(std::size_t at) const { return locations_[at].size; }
  std::uint8_t value(std::size_t at, std::uint8_t place) const {
    return locations_[at].messages[place].value;
  }
  // Whether a new message may come right behind `place`.
  bool is_open(std::size_t at, std::uint8_t place) const {
    return place + 1 == locations_[at].size || !locations_[at].messages[place + 1].is_update;
  }

  void load(std::size_t thread, std::size_t at, std::uint8_t place, Order order) {
    View& view = threads_[thread];
    if (order == Order::kAcquire) view.join(locations_[at].messages[place].view);
    view.known[at] = std::max(view.known[at], place);
  }
  void store(std::size_t thread, std::size_t at, std::uint8_t behind, std::uint8_t value, Order order) {
    insert(thread, at, behind, value, order, View{}, false);
  }
  void update(std::size_t thread, std::size_t at, std::uint8_t behind, std::uint8_t value, Order order) {
    const View read = locations_[at].messages[behind].view;
    load(thread, at, behind, order);
    insert(thread, at, behind, value, order, read, true);
  }

  // --- The lock inside the kernel that orders sleeping and waking. Coherence only: it is not part of happens-before.

  void lock_kernel(std::size_t thread) {
    for (std::size_t at = 0; at < kLocations; ++at) {
      const std::uint8_t known = std::max(kernel_.known[at], threads_[thread].known[at]);
      kernel_.known[at] = threads_[thread].known[at] = known;
    }
  }

  // --- Data. False: not ordered after an earlier access that it conflicts with.

  bool read(std::size_t thread, std::size_t datum) {
    Datum& it = data_[datum];
    const View& view = threads_[thread];
    it.reads[thread] = view.clock[thread];
    return view.clock[it.writer] >= it.write;
  }
  bool write(std::size_t thread, std::size_t datum, std::uint8_t value) {
    Datum& it = data_[datum];
    const View& view = threads_[thread];
    bool ordered = view.clock[it.writer] >= it.write;
    for (std::size_t other = 0; other < kThreads; ++other)
      ordered = ordered && view.clock[other] >= it.reads[other];
    it = {value, static_cast<std::uint8_t>(thread), view.clock[thread], {}};
    return ordered;
  }
  std::uint8_t datum(std::size_t datum) const { return data_[datum].value; }

  // Forgets what can't matter any more, so that states that differ in nothing else are one: messages that no thread can
  // read, and accesses that happen before all that is to come.
  void forget() {
    for (std::size_t at = 0; at < kLocations; ++at) forget_messages(at);
    for (std::size_t thread = 0; thread < kThreads; ++thread) {
      std::uint8_t n = threads_[0].clock[thread];
      for (const View& view : threads_) n = std::min(n, view.clock[thread]);
      for_each_view([&](View& view) { subtract(view.clock[thread], n); });
      for (Datum& datum : data_) {
        subtract(datum.reads[thread], n);
        if (datum.writer == thread) subtract(datum.write, n);
        if (datum.write == 0) datum.writer = 0;
      }
    }
  }

  // Thread i becomes what thread order[i] was.
  void permute(const std::array<std::uint8_t, kThreads>& order) {
    const auto apply = [&](auto& values) {
      const auto old = values;
      for (std::size_t i = 0; i < kThreads; ++i) values[i] = old[order[i]];
    };
    apply(threads_);
    for_each_view([&](View& view) { apply(view.clock); });
    for (Datum& datum : data_) {
      apply(datum.reads);
      if (datum.write == 0) continue;
      datum.writer =
          static_cast<std::uint8_t>(std::find(order.begin(), order.end(), datum.writer) - order.begin());
    }
  }
  // What a thread knows, for sorting.
  std::array<std::uint8_t, kLocations> known_to(std::size_t thread) const { return threads_[thread].known; }

 private:
  struct View {
    std::array<std::uint8_t, kLocations> known{};
    std::array<std::uint8_t, kThreads> clock{};
    void join(const View& other) {
      for (std::size_t i = 0; i < kLocations; ++i) known[i] = std::max(known[i], other.known[i]);
      for (std::size_t i = 0; i < kThreads; ++i) clock[i] = std::max(clock[i], other.clock[i]);
    }
  };
  struct Message {
    std::uint8_t value = 0;
    bool is_update = false;  // stands right behind the message that it read, for good
    View view;
  };
  struct Location {
    std::uint8_t size = 0;
    std::array<Message, kMessages> messages{};
  };
  struct Datum {
    std::uint8_t value = 0;
    std::uint8_t writer = 0;
    std::uint8_t write = 0;  // the writer's clock
    std::array<std::uint8_t, kThreads> reads{};
  };

  template <typename F>
  void for_each_view(const F& f) {
    for (View& view : threads_) f(view);
    f(kernel_);
    for (Location& location : locations_)
      for (std::size_t i = 0; i < location.size; ++i) f(location.messages[i].view);
  }

  static void subtract(std::uint8_t& from, std::uint8_t n) {
    from = static_cast<std::uint8_t>(from - std::min(from, n));
  }

  void forget_messages(std::size_t at) {
    std::uint8_t n = kMessages;
    for (const View& view : threads_) n = std::min(n, view.known[at]);
    if (n == 0) return;
    Location& location = locations_[at];
    std::move(location.messages.begin() + n, location.messages.begin() + location.size,
              location.messages.begin());
    std::fill(location.messages.begin() + (location.size - n), location.messages.end(), Message{});
    location.size = static_cast<std::uint8_t>(location.size - n);
    for_each_view([&](View& view) { subtract(view.known[at], n); });
  }

  void insert(std::size_t thread, std::size_t at, std::uint8_t behind, std::uint8_t value, Order order,
              const View& passed_on, bool is_update) {
    Location& location = locations_[at];
    if (location.size == kMessages) std::abort();  // too small for what is explored
    for_each_view([&](View& view) {
      if (view.known[at] > behind) ++view.known[at];
    });
    const auto place = static_cast<std::uint8_t>(behind + 1);
    auto* const first = location.messages.begin();
    std::move_backward(first + place, first + location.size, first + location.size + 1);
    ++location.size;
    View& view = threads_[thread];
    view.known[at] = place;
    Message& message = location.messages[place];
    message = {value, is_update, passed_on};
    if (order == Order::kRelease) {
      message.view.join(view);
      ++view.clock[thread];
    }
    message.view.known[at] = place;
  }

  std::array<View, kThreads> threads_{};
  View kernel_{};
  std::array<Location, kLocations> locations_{};
  std::array<Datum, kData> data_{};
};

}  // namespace sluice::test
