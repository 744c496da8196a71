// The life of MPI in this process, without MPI's types.
#pragma once
#include <chrono>
#include <string>

namespace plsc {

/// What MPI says about this process once it has been initialised.
struct MpiPlace {
  int rank = 0, size = 1;
  int local_rank = 0, local_size = 1;  // among the ranks that share this host's memory
  int node = 0;                        // the lowest rank of this host
};

/// "Open MPI 4.1.4". Needs no initialised MPI.
std::string mpi_library_version();
/// "/usr/lib/x86_64-linux-gnu/libmpi.so.40"; empty where it cannot be told.
std::string mpi_library_file();
/// MPI_Init_thread with MPI_THREAD_SERIALIZED: one thread at a time may call MPI (comm/mpi_progress.h sees to that).
/// `pause` passes before this rank's first message.
MpiPlace mpi_start(std::chrono::milliseconds pause);
/// MPI_Finalize. All ranks, in order, after their last collective.
void mpi_finish();
/// MPI_Abort: ends every rank of the run.
[[noreturn]] void mpi_abort(int status) noexcept;

}  // namespace plsc
