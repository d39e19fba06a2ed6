// Under sanitizers everything takes ten times as long: tests draw fewer of their cases then.
#pragma once

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLUICE_TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SLUICE_TEST_SANITIZED 1
#endif
#endif
#ifndef SLUICE_TEST_SANITIZED
#define SLUICE_TEST_SANITIZED 0
#endif

namespace sluice::test {

inline constexpr bool kIsSanitized = SLUICE_TEST_SANITIZED != 0;

}  // namespace sluice::test
