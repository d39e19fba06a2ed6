// Whether screening pays. It reads about half of the head's bytes and then the panels that may hold the answer; where most may
// (flat logits, outlier columns that leave the scales coarse), it costs more than the full head. Nothing but the time depends on
// what is decided here.
//
// A step skims a sixteenth of the head (program.h) and gives screening up if it doesn't pay there: up to a sixteenth of a head's
// time is lost. A head whose other columns are worse than these costs one and a half full heads (bf16, one row), up to 1.9 where
// screening several rows is bound by arithmetic. So after a step in which screening didn't pay, the next kFirstPause steps have
// the full head, after the next such step in a row twice as many, up to kLongestPause.
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

  // Of a head or part of it, for `n_rows` outputs side by side.
  static bool pays(std::size_t bytes_screened, std::size_t bytes_recomputed, std::size_t bytes_of_full_head,
                   std::size_t n_rows) {
    constexpr double kWorthwhile = 0.9;  // scattered panels come more slowly than a stream
    // Rows side by side share a full head's bytes, while screening them is bound by arithmetic, and so are panels that stand
    // alone. Measured at 22% of the panels, in steps of the full head's: 1.23 (8 rows, AVX2), 1.17 (4 rows, AVX-512 BF16); at
    // 12% 1.06 and 1.05. One row is at 0.92 at 38%.
    constexpr std::size_t kWeightOfSeveral = 3;
    const std::size_t weight = n_rows > 1 ? kWeightOfSeveral : 1;
    return static_cast<double>(bytes_screened + weight * bytes_recomputed) <=
           kWorthwhile * static_cast<double>(bytes_of_full_head);
  }

  // What a screened step came to, whose outputs are in groups of `n_rows`: bytes of all groups together.
  void learn(std::size_t bytes_screened, std::size_t bytes_recomputed, std::size_t bytes_of_full_head,
             std::size_t n_rows) {
    if (pays(bytes_screened, bytes_recomputed, bytes_of_full_head, n_rows)) {
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
