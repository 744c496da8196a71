# Batch norm, pooling and the elementwise ops: their own kernels, and the backend that calls them.
set(nn_cases pool norm elementwise repeat)
list(TRANSFORM nn_cases PREPEND ${PROJECT_SOURCE_DIR}/tests/parity/backend/)
list(TRANSFORM nn_cases APPEND _cases.cpp)
standin_test(nn DEPS plsc_backend SOURCES
  ${nn_cases}
  ${CMAKE_CURRENT_SOURCE_DIR}/nn_parity_test.cpp
  ${CMAKE_CURRENT_SOURCE_DIR}/nn_sizes_test.cpp)
