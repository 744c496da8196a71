// The network interfaces of hosts, and what is wrong with them: values and pure functions. Who asks the machine is
// network_probe.cpp.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "app/doctor/sheet.h"

namespace plsc::doctor {

struct Interface {
  std::string name;      // "eth0"
  uint32_t address = 0;  // IPv4, the host's byte order
  uint32_t mask = 0;
  bool bridge = false;
  bool carrier = true;
  int64_t megabits = 0;  // a second; 0: not known
};
struct HostNetwork {
  std::string host;
  int node = 0;
  std::vector<Interface> interfaces;  // that are up, without loopback
};

/// "10.0.0.1"
std::string address_text(uint32_t address);

std::string to_json(const HostNetwork& network);
HostNetwork network_from_json(const std::string& text);

/// The address by which `own` would call `other`: one that no other host has, best of all in a network that both are
/// in; 0: there is none.
uint32_t address_to_call(const HostNetwork& own, const HostNetwork& other, const std::vector<HostNetwork>& all);

/// Interfaces of `own` that a library may take by mistake: another host has the same address (docker0, virbr0), or a
/// bridge without carrier.
std::vector<std::string> treacherous(const HostNetwork& own, const std::vector<HostNetwork>& all);

/// Which interfaces the libraries were told to take: the values of Open MPI's and NCCL's variables.
struct InterfaceChoice {
  std::string include = {}, exclude = {};  // of Open MPI: "eth0,10.0.0.0/8"
  std::string nccl = {};
  bool nccl_in_use = false;
};
/// Those of `traps` that a library may take all the same. NCCL leaves docker0 alone by itself.
std::vector<std::string> unguarded(const std::vector<std::string>& traps, const InterfaceChoice& choice);

/// How to keep the libraries to the first interface of `used` (those that lead to other hosts) that is no trap; in
/// general words where there is none.
std::string interface_hint(const std::vector<std::string>& used, const std::vector<std::string>& traps);

}  // namespace plsc::doctor
