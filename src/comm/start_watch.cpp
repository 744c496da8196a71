#include "comm/start_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "base/host.h"
#include "comm/interfaces.h"

namespace plsc {
namespace {

constexpr double kOthersSeconds = 3;  // the starter ends all ranks when the first leaves: rank 0 is to be that one

/// The one error that is not thrown: the thread that could catch it does not come back.
[[noreturn]] void give_up(double seconds, int rank) {
  std::string networks;
  for (const NetworkInterface& i : network_interfaces()) networks += fmt::format(" {} ({})", i.name, i.address);
  const std::string text = fmt::format(
      "plsc-train: rank {}: error: the ranks have not reached each other through MPI within {:.3g} s\n"
      "  hint: where hosts have several networks, name the one that joins them: export "
      "OMPI_MCA_btl_tcp_if_include=eth0, "
      "and with mpirun also -x OMPI_MCA_btl_tcp_if_include; host {} has:{}\n",
      rank, seconds, this_host(), networks.empty() ? " none" : networks);
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
  ::_exit(1);
}

}  // namespace

StartWatch::StartWatch(double seconds, int rank)
    : thread_([this, seconds, rank] {
        const std::chrono::duration<double> limit(seconds + (rank > 0 ? kOthersSeconds : 0));
        std::unique_lock lock(mutex_);
        if (!ended_.wait_for(lock, limit, [this] { return over_; })) give_up(seconds, rank);
      }) {}

StartWatch::~StartWatch() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  ended_.notify_one();
  thread_.join();
}

}  // namespace plsc
