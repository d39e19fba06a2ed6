# The CUDA kernels: src/cuda/device/*.cu, compiled by nvcc in custom commands (CMake's own CUDA language knows no nvcc 13).
#
#   nvcc     kernels.cu            -> kernels.75.ptx, kernels.80.ptx      what the tests execute
#   ptxas    exactly these texts   -> kernels.86.cubin, ...               machine code, with what ptxas says of it in kernels.86.log
#   fatbinary  all of it           -> kernels.fatbin                      embedded in the library sluice_cuda
#
# SLUICE_CUDA       AUTO: if there is an nvcc; ON: or stop; OFF. Without, the program says that CUDA isn't built in.
# SLUICE_NVCC       the nvcc to take; else one in PATH, else what tools/get_nvcc.sh has fetched.
# SLUICE_CUDA_SASS  architectures with machine code, such as "86;120", or ALL. Empty: none, which saves most of the time; the driver
#                   then compiles the PTX. `make build` makes all, `make test` one.

set(SLUICE_CUDA AUTO CACHE STRING "Build the CUDA kernels in: AUTO, ON or OFF")
set(SLUICE_NVCC "" CACHE FILEPATH "nvcc 13.0 or newer; empty: search")
set(sass ALL)
if(SLUICE_SANITIZE)
  set(sass "")
endif()
set(SLUICE_CUDA_SASS "${sass}" CACHE STRING "GPU architectures to make machine code for; empty: PTX alone")
set(SLUICE_CUDA_FOLDER ${PROJECT_BINARY_DIR}/cuda)
set(sluice_sass ${SLUICE_CUDA_SASS})
if(SLUICE_CUDA_SASS STREQUAL "ALL")
  set(sluice_sass 75 80 86 89 90 100 120)
endif()

# Sets `result` to the version of an nvcc as 130 for 13.0; 0 if it doesn't run.
function(sluice_nvcc_version nvcc result)
  execute_process(COMMAND ${nvcc} --version OUTPUT_VARIABLE text ERROR_QUIET)
  set(${result} 0 PARENT_SCOPE)
  if(text MATCHES "release ([0-9]+)\\.([0-9]+)")
    math(EXPR version "10 * ${CMAKE_MATCH_1} + ${CMAKE_MATCH_2}")
    set(${result} ${version} PARENT_SCOPE)
  endif()
endfunction()

# Sets SLUICE_NVCC_FOUND and SLUICE_NVCC_VERSION in the caller, or SLUICE_NO_CUDA to the reason why there is none.
function(sluice_find_nvcc)
  set(least 130)
  find_program(in_path nvcc NO_CACHE)
  file(GLOB fetched ${PROJECT_SOURCE_DIR}/build/nvcc/lib*/python3*/site-packages/nvidia/cu13/bin/nvcc)
  set(candidates ${in_path} ${fetched})
  if(SLUICE_NVCC)
    set(candidates ${SLUICE_NVCC})
  endif()
  foreach(candidate ${candidates})
    if(NOT EXISTS ${candidate})
      continue()
    endif()
    sluice_nvcc_version(${candidate} version)
    if(version GREATER_EQUAL least)
      set(SLUICE_NVCC_FOUND ${candidate} PARENT_SCOPE)
      set(SLUICE_NVCC_VERSION ${version} PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(SLUICE_NO_CUDA "no nvcc 13.0 or newer (tools/get_nvcc.sh fetches one)" PARENT_SCOPE)
endfunction()

# Makes kernels.fatbin of the sources; adds it to the library `target`.
function(sluice_add_kernels target)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/cuda/device/*.cu)
  if(SLUICE_CUDA STREQUAL "OFF")
    set(SLUICE_NO_CUDA "SLUICE_CUDA is OFF")
  elseif(CMAKE_CROSSCOMPILING OR SLUICE_FUZZ OR SLUICE_SANITIZE MATCHES "thread")
    set(SLUICE_NO_CUDA "not in this kind of build")
  elseif(NOT sources)
    set(SLUICE_NO_CUDA "there are no kernels")
  else()
    sluice_find_nvcc()
  endif()
  if(NOT SLUICE_NVCC_FOUND)
    if(SLUICE_CUDA STREQUAL "ON")
      message(FATAL_ERROR "CUDA can't be built in: ${SLUICE_NO_CUDA}")
    endif()
    message(STATUS "CUDA isn't built in: ${SLUICE_NO_CUDA}")
    target_compile_definitions(${target} PRIVATE SLUICE_NO_CUDA="${SLUICE_NO_CUDA}")
    return()
  endif()
  message(STATUS "CUDA is built in: ${SLUICE_NVCC_FOUND}, PTX for compute_75 and compute_80, machine code: "
                 "${sluice_sass}")
  get_filename_component(bin ${SLUICE_NVCC_FOUND} DIRECTORY)
  find_program(ptxas ptxas HINTS ${bin} NO_DEFAULT_PATH NO_CACHE REQUIRED)
  find_program(fatbinary fatbinary HINTS ${bin} NO_DEFAULT_PATH NO_CACHE REQUIRED)

  # One translation unit: the entry points share their functions, and a fat binary holds one text for an architecture.
  set(folder ${SLUICE_CUDA_FOLDER})
  file(MAKE_DIRECTORY ${folder})
  set(unit "")
  foreach(source ${sources})
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR}/src ${source})
    string(APPEND unit "#include \"${name}\"\n")
  endforeach()
  file(CONFIGURE OUTPUT ${folder}/kernels.cu CONTENT "${unit}" @ONLY)

  # No multiplication and addition becomes one behind our back: the sampler's bits are the CPU's (sources say fmaf where they
  # want it).
  set(flags -std=c++20 -O3 -lineinfo --fmad=false -DNDEBUG -I${PROJECT_SOURCE_DIR}/src)
  set(images "")
  foreach(architecture 75 80)
    set(ptx ${folder}/kernels.${architecture}.ptx)
    add_custom_command(
      OUTPUT ${ptx}
      COMMAND ${SLUICE_NVCC_FOUND} ${flags} -arch=compute_${architecture} -ptx ${folder}/kernels.cu -o ${ptx}
              -MD -MF ${ptx}.d
      COMMAND ${CMAKE_COMMAND} -DFILE=${ptx} -DROOT=${PROJECT_SOURCE_DIR}/ -DBUILD=${PROJECT_BINARY_DIR}/
              -P ${PROJECT_SOURCE_DIR}/cmake/relative_paths.cmake
      DEPENDS ${folder}/kernels.cu ${PROJECT_SOURCE_DIR}/cmake/relative_paths.cmake
      DEPFILE ${ptx}.d
      COMMENT "Compiling CUDA kernels for compute_${architecture}"
      VERBATIM)
    list(APPEND images --image3=kind=ptx,sm=${architecture},file=${ptx})
    list(APPEND made ${ptx})
  endforeach()
  foreach(architecture ${sluice_sass})
    set(from 80)
    if(architecture LESS 80)
      set(from 75)
    endif()
    set(ptx ${folder}/kernels.${from}.ptx)
    set(cubin ${folder}/kernels.${architecture}.cubin)
    add_custom_command(
      OUTPUT ${cubin} ${folder}/kernels.${architecture}.log
      COMMAND ${CMAKE_COMMAND} -DPTXAS=${ptxas} -DARCHITECTURE=${architecture} -DPTX=${ptx} -DCUBIN=${cubin}
              -DLOG=${folder}/kernels.${architecture}.log -P ${PROJECT_SOURCE_DIR}/cmake/assemble.cmake
      DEPENDS ${ptx} ${PROJECT_SOURCE_DIR}/cmake/assemble.cmake
      COMMENT "Assembling CUDA kernels for sm_${architecture}"
      VERBATIM)
    list(APPEND images --image3=kind=elf,sm=${architecture},file=${cubin})
    list(APPEND made ${cubin})
  endforeach()
  add_custom_command(
    OUTPUT ${folder}/kernels.fatbin
    COMMAND ${fatbinary} -64 --create=${folder}/kernels.fatbin --compress=false ${images}
    DEPENDS ${made}
    COMMENT "Putting the CUDA kernels into one fat binary"
    VERBATIM)
  set(code "")
  foreach(architecture ${sluice_sass})
    list(APPEND code sm_${architecture})
  endforeach()
  list(JOIN code " " code)
  set_property(SOURCE ${PROJECT_SOURCE_DIR}/src/cuda/build.cpp APPEND PROPERTY OBJECT_DEPENDS ${folder}/kernels.fatbin)
  target_compile_definitions(${target} PRIVATE SLUICE_CUDA_IMAGE="${folder}/kernels.fatbin"
                             SLUICE_CUDA_MACHINE_CODE="${code}" SLUICE_CUDA_TOOLKIT=${SLUICE_NVCC_VERSION})
endfunction()
