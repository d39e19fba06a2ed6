// What `bench` sets a GPU's speed against: that the probes read and multiply all they say. What they measure is the machine's own
// time here.
#include "cuda/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cuda/build.h"
#include "tests/cuda/ptx_machine.h"
#include "tests/support/errors.h"
#include "tests/support/seed.h"

namespace sluice::cuda {
namespace {

using sluice::test::pick;

class CudaProbe : public testing::Test {
 protected:
  void SetUp() override {
    if (!is_built_in()) GTEST_SKIP() << "CUDA isn't built in: " << why_not_built_in();
  }
};

// Any number of 16-byte units, also fewer than threads: `measure` throws if a word was left out or read twice.
TEST_F(CudaProbe, EveryByteIsReadOnceAndEveryProductCounts) {
  sluice::test::Random random{sluice::test::seed_of_test()};
  const auto context = sluice::test::new_context();
  const Stream stream(context);
  const Module module(context, fat_binary());
  for (const std::size_t bytes : {std::size_t{16}, 16 * pick(random, 2, 40000) + 5}) {
    Probe probe(context, module, stream, bytes);
    EXPECT_EQ(probe.bytes(), bytes / 16 * 16);
    probe.measure();
    probe.measure();
    EXPECT_GT(probe.best().bytes_per_second, 0);
    EXPECT_THAT(probe.best().variant, testing::HasSubstr("blocks"));
    EXPECT_GT(probe.flops_per_second(), 0);
  }
}

TEST_F(CudaProbe, TheBufferIsLargerThanTheCacheAndFitsWhatIsFree) {
  DeviceInfo device;
  device.l2_bytes = 50 << 20;
  EXPECT_EQ(probe_buffer_bytes(device, std::size_t{80} << 30U), std::size_t{800} << 20U);
  EXPECT_EQ(probe_buffer_bytes(device, std::size_t{1} << 30U), std::size_t{256} << 20U);
  device.l2_bytes = 0;
  EXPECT_EQ(probe_buffer_bytes(device, std::size_t{80} << 30U), std::size_t{256} << 20U);
  device.name = "Any GPU (PTX machine)";
  EXPECT_LE(probe_buffer_bytes(device, std::size_t{80} << 30U), std::size_t{1} << 20U);
}

}  // namespace
}  // namespace sluice::cuda
