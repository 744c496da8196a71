#include "comm/interfaces.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace plsc {
namespace {

/// Whether a parameter file sets which interfaces Open MPI's TCP uses. A file that is not there says nothing.
bool names_interfaces(const std::filesystem::path& file) {
  std::ifstream text(file);
  for (std::string line; std::getline(text, line);) {
    const size_t at = line.find("btl_tcp_if_");
    if (at != std::string::npos && line.find('#') > at) return true;
  }
  return false;
}

/// The variables win over the files, and one that includes beside one that excludes is an error to Open MPI.
bool user_has_chosen(const std::string& library) {
  for (const char* name : {"OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_btl_tcp_if_exclude"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  const char* home = std::getenv("HOME");
  const char* prefix = std::getenv("OPAL_PREFIX");
  const std::filesystem::path of_library = std::filesystem::path(library).parent_path().parent_path();
  return names_interfaces(std::filesystem::path(home ? home : "/") / ".openmpi/mca-params.conf") ||
         names_interfaces(std::filesystem::path(prefix ? prefix : "/usr") / "etc/openmpi-mca-params.conf") ||
         names_interfaces(of_library / "etc/openmpi-mca-params.conf") ||
         names_interfaces("/etc/openmpi/openmpi-mca-params.conf");
}

}  // namespace

bool is_local_network(const std::string& name) {
  constexpr std::array kPrefixes{"docker", "br-", "virbr", "cni", "podman", "lxcbr", "lxdbr", "vmnet"};
  return std::any_of(kPrefixes.begin(), kPrefixes.end(), [&](const char* p) { return name.starts_with(p); });
}

std::vector<NetworkInterface> network_interfaces() {
  std::vector<NetworkInterface> found;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return found;
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    const bool usable = i->ifa_addr != nullptr && i->ifa_addr->sa_family == AF_INET && (i->ifa_flags & IFF_UP) != 0 &&
                        (i->ifa_flags & IFF_LOOPBACK) == 0;
    if (!usable) continue;
    std::array<char, INET_ADDRSTRLEN> text{};
    const auto* address = reinterpret_cast<const sockaddr_in*>(i->ifa_addr);
    if (::inet_ntop(AF_INET, &address->sin_addr, text.data(), text.size()) == nullptr) continue;
    found.push_back({i->ifa_name, text.data(), is_local_network(i->ifa_name)});
  }
  ::freeifaddrs(list);
  std::stable_partition(found.begin(), found.end(), [](const NetworkInterface& i) { return !i.local_network; });
  return found;
}

void avoid_local_networks(const std::string& library) {
  std::string excluded = "127.0.0.1/8,sppp";  // what Open MPI excludes by itself
  bool any = false;
  for (const NetworkInterface& interface : network_interfaces()) {
    if (!interface.local_network) continue;
    excluded += "," + interface.name;
    any = true;
  }
  if (any && !user_has_chosen(library)) ::setenv("OMPI_MCA_btl_tcp_if_exclude", excluded.c_str(), 0);
}

}  // namespace plsc
