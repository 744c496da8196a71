#include "app/doctor/mpi_interfaces.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <vector>

namespace plsc::doctor {
namespace {

namespace fs = std::filesystem;

constexpr const char* kInterfaces = "/sys/class/net/";
constexpr std::string_view kParameter = "btl_tcp_if_";

/// A bridge whose ports are all virtual leads to containers and guests of this machine alone.
bool leads_nowhere(const std::string& folder) {
  std::error_code ignored;
  if (!fs::exists(folder + "/bridge", ignored)) return false;
  for (const auto& port : fs::directory_iterator(folder + "/brif", ignored)) {
    if (fs::exists(std::string(kInterfaces) + port.path().filename().string() + "/device", ignored)) return false;
  }
  return true;
}

/// What avoid_bridges tells Open MPI; empty where there is nothing to avoid.
std::string bridges_to_avoid() {
  std::string names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kInterfaces, ignored)) {
    if (leads_nowhere(entry.path())) names += "," + entry.path().filename().string();
  }
  return names.empty() ? "" : "127.0.0.1/8,sppp" + names;  // the first two are Open MPI's own
}

int64_t number_of(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? 0 : std::atoll(value);
}

/// As the starter says; ranks of one host never call an address.
bool may_have_other_hosts() {
  const int64_t ranks = number_of("OMPI_COMM_WORLD_SIZE"), local = number_of("OMPI_COMM_WORLD_LOCAL_SIZE");
  if (ranks > 0 && local > 0) return ranks > local;
  return number_of("SLURM_NNODES") != 1;
}

/// In a file of the site or the user, as lines "btl_tcp_if_include = eth0". Open MPI refuses a second list beside it.
bool interfaces_are_chosen_by_file() {
  std::vector<std::string> files{"/etc/openmpi/openmpi-mca-params.conf"};
  if (const char* home = std::getenv("HOME")) files.push_back(std::string(home) + "/.openmpi/mca-params.conf");
  if (const char* prefix = std::getenv("OPAL_PREFIX"))
    files.push_back(std::string(prefix) + "/etc/openmpi-mca-params.conf");
  std::istringstream folders(std::getenv("PATH") != nullptr ? std::getenv("PATH") : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    files.push_back(folder + "/../etc/openmpi-mca-params.conf");
  return std::any_of(files.begin(), files.end(), [](const std::string& file) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);) {
      const size_t first = line.find_first_not_of(" \t");
      if (first != std::string::npos && line.compare(first, kParameter.size(), kParameter) == 0) return true;
    }
    return false;
  });
}

}  // namespace

bool interfaces_are_chosen() {
  return std::getenv(kMpiInclude) != nullptr || std::getenv(kMpiExclude) != nullptr || interfaces_are_chosen_by_file();
}

void avoid_bridges() {
  const std::string bridges = bridges_to_avoid();
  if (bridges.empty() || !may_have_other_hosts() || interfaces_are_chosen()) return;
  ::setenv(kMpiExclude, bridges.c_str(), 0);
}

bool bridges_are_avoided() {
  const char* list = std::getenv(kMpiExclude);
  return list != nullptr && list == bridges_to_avoid();
}

}  // namespace plsc::doctor
