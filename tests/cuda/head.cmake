# The head on CUDA: kernels against their twins.
set(head_kernel_tests head_rows_test.cpp head_tile_test.cpp head_sample_test.cpp)
standin_test(head_kernels DEPS plsc_cuda plsc_kernels_cpu plsc_cuda_headers SOURCES ${head_kernel_tests})
gpu_test(head_kernels DEPS plsc_cuda plsc_kernels_cpu plsc_cuda_headers SOURCES ${head_kernel_tests})
