// Puts MPI, the monitor and the collectives together.
#include "comm/world.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <random>
#include <sstream>
#include <thread>

#include "base/cpu_quota.h"
#include "base/host.h"
#include "base/threads.h"
#include "comm/errors.h"
#include "comm/interfaces.h"
#include "comm/mpi_collective.h"
#include "comm/start_watch.h"

namespace plsc {
namespace {

constexpr double kOwnErrorSeconds = 1;
constexpr double kBlockedSeconds = 2;
constexpr int kManyRanks = 64;
constexpr double kSilentSeconds = 5;  // how long a silent rank waits for the one that tells the user

std::string join(const auto& values) {
  std::string text;
  for (const auto& value : values) text += fmt::format("{}{}", text.empty() ? "" : " ", value);
  return text;
}

uint64_t random_token() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

/// How long a rank waits for others to be ready for its first message where nobody does that for it: some milliseconds
/// would do on nodes that have their cores for themselves.
constexpr std::chrono::milliseconds kLooseStart{1000};

}  // namespace

int ranks_sharing_cores(const std::vector<std::vector<int>>& masks, size_t own) {
  return static_cast<int>(std::count_if(masks.begin(), masks.end(), [&](const std::vector<int>& mask) {
    return std::any_of(mask.begin(), mask.end(), [&](int core) {
      return std::find(masks[own].begin(), masks[own].end(), core) != masks[own].end();
    });
  }));
}

World::World(const Options& options) {
  std::optional<StartWatch> watch;
  if (!options.environment.under_mpi) {
    check_promised_tasks(options.environment, 1);
  } else {
    // Later than a collective's own time-out, which says more.
    watch.emplace(options.timeout + kBlockedSeconds, options.environment.rank);
    avoid_local_networks(mpi_library_file());
    place_ = mpi_start(options.environment.loose_start ? kLooseStart : std::chrono::milliseconds(0));
    mpi_ = true;
  }
  try {
    check_promised_tasks(options.environment, place_.size);
    policy_ = {options.timeout, false, nullptr};
    if (place_.size > 1) progress_ = make_mpi_progress();
    const auto make = [&] { return progress_ ? make_mpi_collective(policy_, progress_) : make_single_collective(); };
    const auto boot = make();
    hosts_ = gather_texts(*boot, this_host());
    share_cores(*boot, options.threads);
    if (place_.size > 1) start_monitor(*boot, options.timeout);
    policy_.spin = !oversubscribed_;
    policy_.watch = monitor_.get();
    device_ = make();
    host_ = make();
  } catch (const std::exception&) {
    // A constructor that throws has no destructor; MPI_Finalize would wait for ranks that may have failed too.
    if (place_.size <= 1 && mpi_) mpi_finish();
    throw;
  }
}

void World::share_cores(Collective& boot, int threads) {
  const std::vector<int64_t> nodes = gather_values(boot, static_cast<int64_t>(place_.node));
  const std::vector<std::string> texts = gather_texts(boot, join(affinity_cores()));
  std::vector<std::vector<int>> masks;
  size_t own = 0;
  for (size_t r = 0; r < texts.size(); ++r) {
    if (nodes[r] != place_.node) continue;
    if (static_cast<int>(r) == place_.rank) own = masks.size();
    std::istringstream in(texts[r]);
    masks.emplace_back(std::istream_iterator<int>(in), std::istream_iterator<int>());
  }
  const int sharing = ranks_sharing_cores(masks, own);
  double cores = static_cast<double>(masks[own].size()) / sharing;
  // A quota of CPU time holds for all ranks of the container together.
  if (const double quota = cpu_quota(); quota > 0) cores = std::min(cores, std::ceil(quota) / place_.local_size);
  threads_ = threads > 0 ? threads : std::max(1, static_cast<int>(cores));
  const std::vector<int64_t> too_many = gather_values(boot, static_cast<int64_t>(threads_ > cores ? 1 : 0));
  for (size_t r = 0; r < too_many.size(); ++r) oversubscribed_ |= nodes[r] == place_.node && too_many[r] != 0;
}

void World::start_monitor(Collective& boot, double timeout) {
  const bool one_host = place_.local_size == place_.size;
  const char* file = std::getenv("PLSC_LOSS_FILE");
  MonitorServer::Options server;
  server.ranks = place_.size;
  server.loopback_only = one_host;
  server.loss_file = file ? file : "";
  std::string problem;
  std::ostringstream where;  // port, token, addresses
  if (place_.rank == 0) {
    try {
      server.token = random_token();
      server_ = std::make_unique<MonitorServer>(server);
      where << server_->port() << ' ' << server.token << ' ';
      if (one_host) where << "127.0.0.1";
      for (const NetworkInterface& i : network_interfaces()) {
        if (!one_host) where << i.address << ' ';
      }
    } catch (const std::exception& error) {
      problem = error.what();
    }
  }
  Monitor::Options client;
  client.rank = place_.rank;
  client.loss_file = server.loss_file;
  client.beat = place_.size <= kManyRanks ? 0.2 : 1;  // one thread on rank 0 reads them all
  client.rank0 = broadcast_text(boot, fmt::format("rank 0 (host {}, pid {})", hosts_[0], ::getpid()));
  std::istringstream in(broadcast_text(boot, where.str()));
  in >> client.port >> client.token;
  client.addresses.assign(std::istream_iterator<std::string>(in), std::istream_iterator<std::string>());
  try {
    if (client.port != 0) monitor_ = std::make_unique<Monitor>(client);
  } catch (const std::exception& error) {
    problem = error.what();
  }
  if (monitor_ == nullptr && problem.empty()) problem = "rank 0 has no monitor";
  // All or none: a monitor that some ranks cannot reach would call them missing.
  const std::vector<std::string> problems = gather_texts(boot, problem);
  for (size_t r = 0; r < problems.size(); ++r) {
    if (problems[r].empty()) continue;
    warnings_.push_back(fmt::format(
        "rank {}: {}. The run goes on without a monitor: dead or hung ranks show only after comm.timeout ({:.3g} s)", r,
        problems[r], timeout));
    monitor_.reset();
    break;
  }
}

World::~World() {
  if (finished_ || !mpi_) return;
  abort(1, "it ended without a word");
}

void World::finish() {
  if (finished_) return;
  if (place_.size > 1) host_->barrier("the end of the run");
  if (monitor_) monitor_->goodbye();
  server_.reset();
  if (progress_) stop_mpi_progress(*progress_);
  if (mpi_) mpi_finish();
  finished_ = true;
}

bool World::speaks(const std::exception& error) const {
  const auto* shared = dynamic_cast<const SharedError*>(&error);
  if (shared != nullptr && shared->voice() == Voice::silent) return false;
  if (shared != nullptr && shared->voice() == Voice::wait) {
    std::this_thread::sleep_for(std::chrono::duration<double>(kSilentSeconds));
  } else if (shared == nullptr && place_.rank > 0) {
    // What is wrong with a file or a key is wrong on every rank: rank 0 then says it and ends the others.
    std::this_thread::sleep_for(std::chrono::duration<double>(kOwnErrorSeconds));
  }
  return true;
}

void World::abort(int status, const std::string& why) noexcept {
  if (monitor_) monitor_->failed(why);
  server_.reset();
  if (progress_) stop_mpi_progress(*progress_);
  if (mpi_) mpi_abort(status);
  _exit(status);
}

}  // namespace plsc
