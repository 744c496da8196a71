# Convolutions, the linear layer and matrix products: the libraries' calls and the layouts between them.
shared_cases(conv_cases DEPS plsc_backend SOURCES
  ${CMAKE_CURRENT_SOURCE_DIR}/conv_layout_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/conv_parity_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/gemm_test.cpp
  ${PROJECT_SOURCE_DIR}/tests/parity/backend/conv_cases.cpp
  ${PROJECT_SOURCE_DIR}/tests/parity/backend/linear_cases.cpp)
standin_test(conv DEPS plsc_backend SOURCES ${conv_cases}
  ${CMAKE_CURRENT_SOURCE_DIR}/conv_choice_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/conv_misuse_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/conv_recording_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/gemm_cache_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/gemm_misuse_test.cpp)
gpu_test(conv DEPS plsc_backend plsc_cuda_headers SOURCES ${conv_cases})
