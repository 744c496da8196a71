"""Two hosts (hosts.py) of two ranks each, joined by a cable (veth) that can be cut."""
from hosts import CABLE, Hosts, missing  # noqa: F401: who has two hosts asks here whether there can be any


class TwoHosts(Hosts):
    def __init__(self):
        super().__init__(2, slots=2)

    def join(self):
        alpha, beta = self.hosts
        alpha.add_cable(CABLE, beta, CABLE)
        for host in self.hosts:
            host.open_cable()
