# Brings a lab of Mininet up and down, and prints how long each took, in milliseconds, as JSON.
# Usage: python3 - (lxbr|ovs|chain) NODES
import json
import sys
import time
from functools import partial

import mininet.net
from mininet.net import Mininet
from mininet.node import OVSSwitch
from mininet.nodelib import LinuxBridge
from mininet.topo import LinearTopo, Topo

# It would change settings of the whole machine, for good, that labs of this size do not need.
mininet.net.fixLimits = lambda: None


class Chain(Topo):
    """Hosts in a row, each linked to the next, without switches."""

    def build(self, nodes):
        hosts = [self.addHost("h%d" % number) for number in range(nodes)]
        for one, next_one in zip(hosts, hosts[1:]):
            self.addLink(one, next_one)


kind, nodes = sys.argv[1], int(sys.argv[2])
topo = Chain(nodes) if kind == "chain" else LinearTopo(k=nodes)
bridge = partial(OVSSwitch, datapath="user", failMode="standalone") if kind == "ovs" else LinuxBridge
begin = time.monotonic()
net = Mininet(topo=topo, switch=bridge, controller=None)
try:
    net.start()
    up = time.monotonic()
finally:
    stop = time.monotonic()
    net.stop()
print(json.dumps({"up": (up - begin) * 1e3, "down": (time.monotonic() - stop) * 1e3}))
