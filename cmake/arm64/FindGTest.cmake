# GoogleTest and GoogleMock from the sources that come with Debian's libgtest-dev.
set(folder /usr/src/googletest)
if(NOT TARGET GTest::gmock)
  add_library(sluice_googletest STATIC EXCLUDE_FROM_ALL
              ${folder}/googletest/src/gtest-all.cc ${folder}/googletest/src/gtest_main.cc
              ${folder}/googlemock/src/gmock-all.cc)
  target_include_directories(sluice_googletest PRIVATE ${folder}/googletest ${folder}/googlemock)
  target_include_directories(sluice_googletest SYSTEM PUBLIC ${folder}/googletest/include
                                                              ${folder}/googlemock/include)
  target_compile_options(sluice_googletest PRIVATE -O0)
  target_link_libraries(sluice_googletest PUBLIC Threads::Threads)
  add_library(GTest::gmock ALIAS sluice_googletest)
  add_library(GTest::gtest_main ALIAS sluice_googletest)
endif()
set(GTest_FOUND TRUE)
