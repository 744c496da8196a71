// A build without CUDA has no NCCL.
#include "comm/nccl.h"

namespace plsc {

std::string nccl_version() { return ""; }
std::string nccl_built_version() { return ""; }

std::unique_ptr<NcclCollective> make_nccl_collective(const NcclOptions&, Collective&) {
  fail_hint("use comm.backend: auto or mpi", "comm.backend: nccl: this build of plsc-train has no NCCL");
}

}  // namespace plsc
