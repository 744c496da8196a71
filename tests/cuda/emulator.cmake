# The emulator alone, below a stand-in of its own that makes a misuse an exception.
set(emulator_parts emulator block fibre shared_memory fault_handler race_detector)
list(TRANSFORM emulator_parts PREPEND ${PROJECT_SOURCE_DIR}/tests/support/cuda/)
list(TRANSFORM emulator_parts APPEND .cpp)
set(emulator_kernels emulator_kernels emulator_wrong_kernels)
set(emulated)
set(for_device)
foreach(kernels ${emulator_kernels})
  set(wrapper ${CMAKE_CURRENT_BINARY_DIR}/emulated/${kernels}.cpp)
  file(GENERATE OUTPUT ${wrapper} CONTENT "#include \"tests/cuda/${kernels}.cu\"\n")
  set_source_files_properties(${wrapper} PROPERTIES COMPILE_DEFINITIONS PLSC_CUDA_EMULATION=1)
  list(APPEND emulated ${wrapper})
  list(APPEND for_device ${kernels}.cu)
endforeach()
set_source_files_properties(emulator_finds_test.cpp PROPERTIES COMPILE_DEFINITIONS PLSC_CUDA_EMULATION=1)
standin_test(emulator DEPS plsc_options plsc_cuda_headers
             SOURCES emulator_test.cpp emulator_finds_test.cpp emulator_standin.cpp ${emulated} ${emulator_parts})
target_include_directories(test_standin_emulator PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/tests/support/cuda)

# The same with the kernels under the thread sanitizer, which the emulator tells which of a block's threads runs. Not
# together with another sanitizer. Tried with GCC's.
if(NOT PLSC_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  set(sanitized)
  foreach(kernels ${emulator_kernels})
    set(wrapper ${CMAKE_CURRENT_BINARY_DIR}/sanitized/${kernels}.cpp)
    file(GENERATE OUTPUT ${wrapper} CONTENT "#include \"tests/cuda/${kernels}.cu\"\n")
    set_source_files_properties(${wrapper} PROPERTIES COMPILE_DEFINITIONS PLSC_CUDA_EMULATION=1
                                COMPILE_OPTIONS "-fsanitize=thread;-g1" SKIP_PRECOMPILE_HEADERS ON)
    list(APPEND sanitized ${wrapper})
  endforeach()
  standin_test(races DEPS plsc_options plsc_cuda_headers
               SOURCES emulator_races_test.cpp emulator_standin.cpp ${sanitized} ${emulator_parts})
  target_include_directories(test_standin_races PRIVATE ${CMAKE_CURRENT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/tests/support/cuda)
  target_link_options(test_standin_races PRIVATE -fsanitize=thread)
endif()

# The same kernels by nvcc: what the emulator takes is CUDA. Nothing runs them.
add_library(plsc_test_kernels_cuda OBJECT ${for_device})
target_include_directories(plsc_test_kernels_cuda PRIVATE ${PROJECT_SOURCE_DIR})
target_compile_options(plsc_test_kernels_cuda PRIVATE $<TARGET_PROPERTY:plsc_kernels_cuda,COMPILE_OPTIONS>)
