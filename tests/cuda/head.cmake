# The head on CUDA: kernels against their twins; and the cases that the CPU runs (tests/parity/head, tests/golden/head).
shared_cases(head_kernel_cases DEPS plsc_cuda plsc_head plsc_kernels_cpu SOURCES
  head_rows_test.cpp head_tile_test.cpp head_sample_test.cpp neighbours_test.cpp row_copy_test.cpp row_updates_test.cpp)
standin_test(head_kernels DEPS plsc_cuda plsc_head plsc_kernels_cpu plsc_cuda_headers SOURCES ${head_kernel_cases})
race_test(head DEPS plsc_cuda plsc_head plsc_kernels_cpu plsc_cuda_headers SOURCES ${head_kernel_cases})
gpu_test(head_kernels DEPS plsc_cuda plsc_head plsc_kernels_cpu plsc_cuda_headers SOURCES ${head_kernel_cases})

shared_cases(head_cases DEPS plsc_head SOURCES
  head_context_cuda.cpp
  head_passes.cpp
  head_passes_test.cpp
  ${PROJECT_SOURCE_DIR}/tests/parity/head/head_step_test.cpp
  ${PROJECT_SOURCE_DIR}/tests/parity/head/head_corners_test.cpp
  ${PROJECT_SOURCE_DIR}/tests/parity/head/d_softmax_test.cpp
  ${PROJECT_SOURCE_DIR}/tests/parity/head/linear_test.cpp
  ${PROJECT_SOURCE_DIR}/tests/parity/head/row_updates_test.cpp
  ${PROJECT_SOURCE_DIR}/tests/parity/head/neighbours_test.cpp
  ${PROJECT_SOURCE_DIR}/tests/golden/head/head_golden_test.cpp)
standin_test(head DEPS plsc_head plsc_cuda_headers SOURCES ${head_cases} head_order_test.cpp head_sampling_ahead_test.cpp
  row_buffers_test.cpp)
# 2^31 logits are for a real device.
gpu_test(head DEPS plsc_head plsc_cuda_headers SOURCES ${head_cases} ${PROJECT_SOURCE_DIR}/tests/parity/head/head_range_test.cpp)
