#include "app/doctor/network.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace plsc::doctor {
namespace {

int holders(uint32_t address, const std::vector<HostNetwork>& all) {
  return static_cast<int>(std::count_if(all.begin(), all.end(), [&](const HostNetwork& host) {
    return std::any_of(host.interfaces.begin(), host.interfaces.end(),
                       [&](const Interface& i) { return i.address == address; });
  }));
}

/// Whether a list such as "lo,docker0" has the name.
bool lists(const std::string& list, const std::string& name) {
  return ("," + list + ",").find("," + name + ",") != std::string::npos;
}

}  // namespace

std::string address_text(uint32_t a) {
  return fmt::format("{}.{}.{}.{}", a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
}

std::string to_json(const HostNetwork& network) {
  nlohmann::json interfaces = nlohmann::json::array();
  for (const Interface& i : network.interfaces)
    interfaces.push_back({i.name, i.address, i.mask, i.bridge, i.carrier, i.megabits});
  return nlohmann::json{{"host", network.host}, {"node", network.node}, {"interfaces", interfaces}}.dump();
}

HostNetwork network_from_json(const std::string& text) {
  const auto j = nlohmann::json::parse(text);
  HostNetwork network{j.at("host"), j.at("node"), {}};
  for (const auto& i : j.at("interfaces")) network.interfaces.push_back({i[0], i[1], i[2], i[3], i[4], i[5]});
  return network;
}

uint32_t address_to_call(const HostNetwork& own, const HostNetwork& other, const std::vector<HostNetwork>& all) {
  uint32_t first = 0;
  for (const Interface& theirs : other.interfaces) {
    if (holders(theirs.address, all) > 1) continue;
    if (first == 0) first = theirs.address;
    for (const Interface& ours : own.interfaces) {
      if (ours.mask != 0 && (ours.address & ours.mask) == (theirs.address & ours.mask)) return theirs.address;
    }
  }
  return first;
}

std::vector<std::string> treacherous(const HostNetwork& own, const std::vector<HostNetwork>& all) {
  std::vector<std::string> names;
  for (const Interface& i : own.interfaces) {
    if (holders(i.address, all) > 1 || (i.bridge && !i.carrier)) names.push_back(i.name);
  }
  return names;
}

std::vector<std::string> unguarded(const std::vector<std::string>& traps, const InterfaceChoice& choice) {
  std::vector<std::string> open;
  for (const std::string& name : traps) {
    const bool mpi = choice.include.empty() ? !lists(choice.exclude, name) : lists(choice.include, name);
    const bool nccl = choice.nccl_in_use && choice.nccl.empty() && !name.starts_with("docker");
    if (mpi || nccl) open.push_back(name);
  }
  return open;
}

std::string interface_hint(const std::vector<std::string>& used, const std::vector<std::string>& traps) {
  constexpr const char* kExport = "export OMPI_MCA_btl_tcp_if_include={0} NCCL_SOCKET_IFNAME={0}";
  for (const std::string& name : used) {
    if (std::find(traps.begin(), traps.end(), name) == traps.end()) return fmt::format(kExport, name);
  }
  return fmt::format(kExport, "NAME") + ", with the interface that leads to the other hosts";
}

}  // namespace plsc::doctor
