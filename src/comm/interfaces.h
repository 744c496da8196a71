// The network interfaces of this host, and which of them lead to other hosts.
#pragma once
#include <string>
#include <vector>

namespace plsc {

struct NetworkInterface {
  std::string name;            // "eth0"
  std::string address;         // "10.0.0.1", IPv4
  bool local_network = false;  // a bridge that container or virtual machine software made: leads to no other host
};

/// Those that are up and have an IPv4 address, without loopback; local networks last.
std::vector<NetworkInterface> network_interfaces();

/// Whether an interface of this name is such a bridge: docker0, br-1f2e..., virbr0, cni0, ...
bool is_local_network(const std::string& name);

/// Keeps Open MPI off the local networks of this host; call it before MPI_Init. Such a bridge has the same address on
/// every host, so that Open MPI takes it for a network that joins them, connects a rank to itself, and hangs. Does
/// nothing where there is none, and where the environment or a file of Open MPI's says which interfaces to use.
/// `library`: the file of the MPI library, beside which such a file may lie; may be empty.
void avoid_local_networks(const std::string& library);

}  // namespace plsc
