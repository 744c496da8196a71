// Which interfaces this host has, and by which the kernel would reach the other hosts. Nothing is sent.
#include <arpa/inet.h>
#include <fmt/ranges.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "app/doctor/network.h"
#include "app/doctor/probes.h"

namespace plsc::doctor {
namespace {

constexpr uint16_t kDiscardPort = 9;

uint32_t ipv4(const sockaddr* address) { return ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr); }

int64_t number_in(const std::string& path) {
  std::ifstream in(path);
  int64_t value = 0;
  return in >> value ? value : 0;
}

HostNetwork own_network(const World& world) {
  HostNetwork network{world.hosts()[static_cast<size_t>(world.rank())], world.node(), {}};
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return network;
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    const bool ip = at->ifa_addr != nullptr && at->ifa_addr->sa_family == AF_INET && at->ifa_netmask != nullptr;
    if (!ip || (at->ifa_flags & IFF_UP) == 0 || (at->ifa_flags & IFF_LOOPBACK) != 0) continue;
    const std::string folder = std::string("/sys/class/net/") + at->ifa_name;
    std::error_code ignored;
    Interface i;
    i.name = at->ifa_name;
    i.address = ipv4(at->ifa_addr);
    i.mask = ipv4(at->ifa_netmask);
    i.bridge = std::filesystem::exists(folder + "/bridge", ignored);
    i.carrier = (at->ifa_flags & IFF_RUNNING) != 0;
    i.megabits = std::max<int64_t>(0, number_in(folder + "/speed"));  // -1: not known
    network.interfaces.push_back(std::move(i));
  }
  ::freeifaddrs(list);
  return network;
}

/// Our address on the way to `peer`; 0: there is no way.
uint32_t source_address(uint32_t peer) {
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return 0;
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(kDiscardPort);
  to.sin_addr.s_addr = htonl(peer);
  sockaddr_in from{};
  socklen_t size = sizeof from;
  // Connecting a datagram socket asks the routing table and sends nothing.
  const bool routed = ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 &&
                      ::getsockname(fd, reinterpret_cast<sockaddr*>(&from), &size) == 0;
  ::close(fd);
  return routed ? ntohl(from.sin_addr.s_addr) : 0;
}

std::string interface_text(const Interface& i) {
  const std::string speed = i.megabits > 0 ? fmt::format(", {} Gbit/s", static_cast<double>(i.megabits) / 1000) : "";
  return fmt::format("{} ({}{})", i.name, address_text(i.address), speed);
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// What the libraries were told: by the user, or for Open MPI by World, which leaves local networks out.
InterfaceChoice interface_choice(bool nccl, RankSheet& sheet) {
  InterfaceChoice choice;
  choice.nccl_in_use = nccl;
  const auto take = [&](const char* name, std::string& value) {
    value = variable(name);
    if (!value.empty()) sheet.add({"network", name, fmt::format("{}={}", name, value), {}, "", Agreement::same});
  };
  take("OMPI_MCA_btl_tcp_if_include", choice.include);
  take("OMPI_MCA_btl_tcp_if_exclude", choice.exclude);
  take("NCCL_SOCKET_IFNAME", choice.nccl);
  return choice;
}

/// By which interfaces the other hosts are reached.
std::vector<const Interface*> used_interfaces(const HostNetwork& own, const std::vector<HostNetwork>& all,
                                              RankSheet& sheet) {
  std::vector<const Interface*> used;
  for (const HostNetwork& other : all) {
    if (other.node == own.node) continue;
    const uint32_t peer = address_to_call(own, other, all);
    const uint32_t source = peer == 0 ? 0 : source_address(peer);
    const auto at = std::find_if(own.interfaces.begin(), own.interfaces.end(),
                                 [&](const Interface& i) { return source != 0 && i.address == source; });
    if (at == own.interfaces.end()) {
      sheet.warn("network", fmt::format("no interface with a way to host {} was found", other.host),
                 "ip route get ADDRESS shows what the kernel would do");
    } else if (std::find(used.begin(), used.end(), &*at) == used.end()) {
      used.push_back(&*at);
    }
  }
  return used;
}

/// What `own` has and which of it leads to the others.
void describe(const HostNetwork& own, const std::vector<HostNetwork>& all, bool nccl, RankSheet& sheet) {
  if (all.size() == 1) {
    std::vector<std::string> names;
    for (const Interface& i : own.interfaces) names.push_back(interface_text(i));
    sheet.add({"network", "interfaces",
               fmt::format("one host, none needed; there: {}",
                           names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")))});
    return;
  }
  const std::vector<const Interface*> used = used_interfaces(own, all, sheet);
  std::vector<std::string> names;
  for (const Interface* i : used) names.push_back(interface_text(*i));
  if (names.empty()) names.emplace_back("no interface known to lead to another host");
  sheet.add({"network", "interfaces", fmt::format("{}: {}", own.host, fmt::join(names, ", "))});
  const auto speed = used.empty() ? 0.0 : static_cast<double>(used[0]->megabits);
  sheet.add({"network", "link speed", "", speed, "Mbit/s", Agreement::near, Grade::warn, false});
  const std::vector<std::string> traps = unguarded(treacherous(own, all), interface_choice(nccl, sheet));
  if (traps.empty()) return;
  std::vector<std::string> leading;
  for (const Interface* i : used) leading.push_back(i->name);
  sheet.warn(
      "network",
      fmt::format("{} {} no other host, but {} may try, and training would hang in its first message",
                  fmt::join(traps, ", "), traps.size() == 1 ? "reaches" : "reach", nccl ? "MPI and NCCL" : "MPI"),
      interface_hint(leading, traps));
}

}  // namespace

void forget_feared(RankSheet& sheet) {
  std::erase_if(sheet.findings, [](const Finding& f) { return f.section == "network" && f.grade == Grade::warn; });
}

void probe_network(World& world, bool nccl, RankSheet& sheet) {
  const HostNetwork own = own_network(world);
  std::vector<HostNetwork> all;
  for (const std::string& text : gather_texts(world.host_collective(), to_json(own))) {
    HostNetwork other = network_from_json(text);
    const auto known = [&](const HostNetwork& h) { return h.node == other.node; };
    if (std::none_of(all.begin(), all.end(), known)) all.push_back(std::move(other));
  }
  if (world.local_rank() == 0) describe(own, all, nccl, sheet);
}

}  // namespace plsc::doctor
