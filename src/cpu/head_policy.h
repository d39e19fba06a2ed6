// Whether the next step screens its head. Screening reads about half of the head's bytes and then the panels that may hold the
// answer; where most may (flat logits, outlier columns that leave the scales coarse), it costs more than the full head. Nothing
// but the time depends on what is decided here.
//
// After a step in which screening didn't pay, the next kFirstPause steps have the full head, after the next such step in a row
// twice as many, up to kLongestPause. A step that recomputes everything costs one and a half full heads (bf16), so in the
// long run at most 0.5 / (1 + kLongestPause) of a head's time is lost, and never more than 9% of that of the steps so far once
// there are six.
#pragma once

#include <algorithm>
#include <cstddef>

namespace sluice::cpu {

class HeadPolicy {
 public:
  // Asked once a step that could be screened.
  bool screens() {
    if (pause_ == 0) return true;
    --pause_;
    return false;
  }

  // What a screened step came to.
  void learn(std::size_t bytes_screened, std::size_t bytes_recomputed, std::size_t bytes_of_full_head) {
    constexpr double kWorthwhile = 0.9;  // scattered panels come more slowly than a stream
    if (static_cast<double>(bytes_screened + bytes_recomputed) <=
        kWorthwhile * static_cast<double>(bytes_of_full_head)) {
      next_pause_ = kFirstPause;
      return;
    }
    pause_ = next_pause_;
    next_pause_ = std::min(2 * next_pause_, kLongestPause);
  }

 private:
  static constexpr std::size_t kFirstPause = 16;
  static constexpr std::size_t kLongestPause = 256;

  std::size_t pause_ = 0;  // steps left with the full head
  std::size_t next_pause_ = kFirstPause;
};

}  // namespace sluice::cpu
