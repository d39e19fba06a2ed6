# What every target of ours shares: warnings, sanitizers, include root.

add_library(sluice_options INTERFACE)
target_include_directories(sluice_options INTERFACE ${PROJECT_SOURCE_DIR}/src)
target_compile_options(sluice_options INTERFACE -Wall -Wextra -Wpedantic -Wconversion
                       # No fused multiply-add behind our back: same bits from every compiler and machine.
                       -ffp-contract=off
                       # Messages name files by their place in the source tree, not on the build machine.
                       -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=)
if(SLUICE_WERROR)
  target_compile_options(sluice_options INTERFACE -Werror)
endif()
if(SLUICE_SANITIZE)
  target_compile_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZE} -fno-sanitize-recover=all
                         -fno-omit-frame-pointer)
  target_link_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZE})
endif()
if(SLUICE_FUZZ)
  target_compile_options(sluice_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

add_library(sluice_without_function_types INTERFACE)
target_compile_options(sluice_without_function_types INTERFACE -fno-sanitize=function)

# sluice_quickly_compiled(TARGET): what takes long to compile and little time to run. Under sanitizers that is what templates of
# JSON, command line and test libraries come to; in release builds it is the command line and tests that measure nothing.
function(sluice_quickly_compiled target)
  if(SLUICE_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  else()
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
endfunction()

# sluice_in_batches(TARGET): with SLUICE_UNITY about twelve files of the target at a time are compiled as one, which reads headers
# and makes templates once for all of them. Files with options of their own stay alone. Each has to compile alone too: without
# SLUICE_UNITY, as `make lint` builds, it does.
function(sluice_in_batches target)
  if(NOT SLUICE_UNITY)
    return()
  endif()
  find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)
  get_target_property(sources ${target} SOURCES)
  get_target_property(folder ${target} SOURCE_DIR)
  set(batched "")
  foreach(source ${sources})
    get_filename_component(source ${source} ABSOLUTE BASE_DIR ${folder})
    get_source_file_property(alone ${source} TARGET_DIRECTORY ${target} SKIP_UNITY_BUILD_INCLUSION)
    if(source MATCHES "\\.cpp$" AND NOT alone)
      list(APPEND batched ${source})
    endif()
  endforeach()
  list(LENGTH batched n_files)
  math(EXPR n_batches "(${n_files} + 11) / 12")
  execute_process(COMMAND ${Python3_EXECUTABLE} -B ${PROJECT_SOURCE_DIR}/cmake/batches.py ${n_batches} ${batched}
                  OUTPUT_VARIABLE numbers OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  foreach(source number IN ZIP_LISTS batched numbers)
    set_source_files_properties(${source} TARGET_DIRECTORY ${target} PROPERTIES UNITY_GROUP batch_${number})
  endforeach()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_MODE GROUP)
  # GCC takes a type for shared when it isn't defined in the file that is compiled.
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endfunction()

# sluice_precompile(TARGET HEADER...): reads what most of a target's files include once for all of them, beside the standard
# library: half of what compiling a test costs. A file still has to name what it uses: `make lint` builds without.
function(sluice_precompile target)
  if(SLUICE_UNITY)
    return()
  endif()
  target_precompile_headers(${target} PRIVATE <algorithm> <array> <cstdint> <filesystem> <fmt/format.h> <functional> <map>
                            <memory> <optional> <span> <string> <string_view> <vector> ${ARGN})
endfunction()

# sluice_library(NAME DEPENDENCY...): the library sluice_NAME of all src/NAME/*.cpp.
function(sluice_library name)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/${name}/*.cpp)
  add_library(sluice_${name} STATIC ${sources})
  target_link_libraries(sluice_${name} PUBLIC ${ARGN} PRIVATE sluice_options)
  target_include_directories(sluice_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  list(LENGTH sources n_sources)
  if(n_sources GREATER 10)
    sluice_precompile(sluice_${name})
  endif()
  sluice_in_batches(sluice_${name})
endfunction()

# sluice_test(FOLDER LINK DEPENDENCY... [FILES FILE...] [LABELS LABEL...] [SLOW PATTERN] [FIXTURES FIXTURE...]): the program
# test_FOLDER of all tests/FOLDER/*_test.cpp, or of the FILES; its tests need what ctest's FIXTURES set up. Those whose name begins
# with PATTERN get the label `slow` too, with which tests are left out of sanitizer runs. Programs that SLUICE_TESTS_ELSEWHERE
# names run in another build.
function(sluice_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "" "SLOW" "LINK;FILES;LABELS;FIXTURES")
  set(sources ${test_FILES})
  if(NOT sources)
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${name}/*_test.cpp)
  endif()
  add_executable(test_${name} ${sources})
  target_link_libraries(test_${name} PRIVATE ${test_LINK} sluice_options GTest::gmock GTest::gtest_main)
  target_include_directories(test_${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_compile_definitions(test_${name} PRIVATE SLUICE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(NOT name MATCHES "^(cpu|portable|program|screen)$")  # these compute
    sluice_quickly_compiled(test_${name})
  endif()
  list(LENGTH sources n_sources)
  if(n_sources GREATER 2)
    sluice_precompile(test_${name} <gmock/gmock.h> <gtest/gtest.h>)
  endif()
  sluice_in_batches(test_${name})
  set(filter "")
  set(properties "")  # an empty value would vanish, and its name take the next one's place
  if(test_LABELS)
    list(APPEND properties LABELS "${test_LABELS}")
  endif()
  if(test_FIXTURES)
    list(APPEND properties FIXTURES_REQUIRED "${test_FIXTURES}")
  endif()
  if(name IN_LIST SLUICE_TESTS_ELSEWHERE)
    set_target_properties(test_${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    return()
  endif()
  if(test_SLOW)
    gtest_discover_tests(test_${name} TEST_PREFIX ${name}. TEST_FILTER ${test_SLOW}* TEST_LIST slow_tests_of_${name}
                         DISCOVERY_TIMEOUT 60 PROPERTIES ${properties} LABELS slow)
    set(filter TEST_FILTER -${test_SLOW}*)
  endif()
  gtest_discover_tests(test_${name} TEST_PREFIX ${name}. ${filter} DISCOVERY_TIMEOUT 60 PROPERTIES ${properties})
endfunction()

# sluice_calls_the_driver(TARGET): its sources call the CUDA driver through pointers. The driver's functions are C's and have no C++
# type that a sanitizer could compare. (A target's own options stand before those of what it is linked to: this goes behind.)
function(sluice_calls_the_driver target)
  if(SLUICE_SANITIZE MATCHES undefined AND CMAKE_CXX_COMPILER_ID MATCHES Clang)
    target_link_libraries(${target} PRIVATE sluice_without_function_types)
  endif()
endfunction()
