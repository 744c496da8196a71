// MPI's begin and end. These calls block inside of MPI; of the others only those that make communicators do.
#include "comm/mpi_session.h"

#include <dlfcn.h>
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <thread>

#include "base/error.h"

namespace plsc {

std::string mpi_library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);
  // "Open MPI v4.1.4, package: ..., ident: ..., repo rev: ..., date"
  std::string version(text.data(), static_cast<size_t>(length));
  version.erase(std::min(version.find(','), version.size()));
  const size_t v = version.find(" v");
  if (v != std::string::npos) version.erase(v + 1, 1);
  return version;
}

std::string mpi_library_file() {
  Dl_info info{};
  return ::dladdr(reinterpret_cast<const void*>(&MPI_Init), &info) != 0 && info.dli_fname ? info.dli_fname : "";
}

MpiPlace mpi_start(std::chrono::milliseconds pause) {
  // Where ranks share cores Open MPI would yield at every poll that finds nothing, which on some kernels starves other
  // programs (comm/wait.cpp has the pauses). A user's own setting stands.
  ::setenv("OMPI_MCA_mpi_yield_when_idle", "0", 0);
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);  // prints and ends the process when it cannot
  if (provided < MPI_THREAD_SERIALIZED) fail("this MPI library cannot be used by a process with threads");
  std::this_thread::sleep_for(pause);
  MpiPlace place;
  MPI_Comm_rank(MPI_COMM_WORLD, &place.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &place.size);
  MPI_Comm local = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, place.rank, MPI_INFO_NULL, &local);
  MPI_Comm_rank(local, &place.local_rank);
  MPI_Comm_size(local, &place.local_size);
  // Ordered by rank, so the first of the host is its lowest.
  place.node = place.rank;
  MPI_Bcast(&place.node, 1, MPI_INT, 0, local);
  MPI_Comm_free(&local);
  return place;
}

void mpi_finish() { MPI_Finalize(); }

void mpi_abort(int status) noexcept {
  int running = 0, over = 0;
  MPI_Initialized(&running);
  MPI_Finalized(&over);
  if (running != 0 && over == 0) MPI_Abort(MPI_COMM_WORLD, status);
  _exit(status);
}

}  // namespace plsc
