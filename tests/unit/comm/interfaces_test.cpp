// Which networks lead to other hosts.
#include "comm/interfaces.h"

#include <stdlib.h>

#include "support/catch.h"

using namespace plsc;

TEST_CASE("bridges of container and virtual machine software are known by name") {
  for (const char* name : {"docker0", "docker_gwbridge", "br-0a1b2c3d4e5f", "virbr0", "cni0", "podman1", "lxcbr0"}) {
    CHECK(is_local_network(name));
  }
  for (const char* name : {"eth0", "ib0", "bond0", "br0", "enp3s0f1", "wlan0", "lo"})
    CHECK_FALSE(is_local_network(name));
}

TEST_CASE("interfaces that lead to other hosts come first, loopback never") {
  bool local = false;
  for (const NetworkInterface& interface : network_interfaces()) {
    CHECK_FALSE(interface.name == "lo");
    CHECK_FALSE(interface.address.rfind("127.", 0) == 0);
    CHECK((interface.local_network || !local));
    local = interface.local_network;
  }
}

TEST_CASE("what the user has chosen stays") {
  const char* name = "OMPI_MCA_btl_tcp_if_exclude";
  ::setenv(name, "ib9", 1);
  avoid_local_networks("");
  CHECK(std::string(::getenv(name)) == "ib9");
  ::unsetenv(name);
}
