# The CUDA device, its memory, and the ops that need no vendor library.
shared_cases(device_cases DEPS plsc_backend SOURCES
  ${CMAKE_CURRENT_SOURCE_DIR}/device_cases_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/device_health_test.cpp)
shared_cases(elementwise_cases DEPS plsc_backend
  SOURCES
  ${PROJECT_SOURCE_DIR}/tests/parity/backend/compress_cases.cpp
  ${PROJECT_SOURCE_DIR}/tests/parity/backend/elementwise_cases.cpp
  ${PROJECT_SOURCE_DIR}/tests/parity/backend/update_cases.cpp)
shared_cases(kernel_cases DEPS plsc_backend plsc_cuda_standin SOURCES
  ${CMAKE_CURRENT_SOURCE_DIR}/image_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/optim_test.cpp)
standin_test(device DEPS plsc_backend SOURCES
  ${device_cases} ${elementwise_cases} ${kernel_cases}
  ${CMAKE_CURRENT_SOURCE_DIR}/arena_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/device_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/memory_report_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/probe_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/recording_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/ring_test.cpp)
gpu_test(device DEPS plsc_backend plsc_cuda_headers SOURCES ${device_cases} ${elementwise_cases})
race_test(device DEPS plsc_backend SOURCES ${elementwise_cases} ${kernel_cases})
