# The benches on the stand-in: a bench that ends in an error would cost time on a real GPU, which is dear.
foreach(bench step head)
  plsc_standin_bench(${bench})
endforeach()
