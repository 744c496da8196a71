# Batch norm, pooling and the elementwise ops: their own kernels, and the backend that calls them.
set(nn_tests pool norm elementwise repeat)
list(TRANSFORM nn_tests PREPEND ${PROJECT_SOURCE_DIR}/tests/parity/backend/)
list(TRANSFORM nn_tests APPEND _cases.cpp)
shared_cases(nn_cases DEPS plsc_backend SOURCES ${nn_tests} nn_parity_test.cpp nn_sizes_test.cpp)
standin_test(nn DEPS plsc_backend SOURCES ${nn_cases})
race_test(nn DEPS plsc_backend SOURCES ${nn_cases})
gpu_test(nn DEPS plsc_backend plsc_cuda_headers SOURCES ${nn_cases})
