"""Several hosts on one machine, joined by links of a given rate: for studies of what links cost."""

from hocket.comms.links.host import Host
from hocket.comms.links.hosts import Hosts, why_not
from hocket.comms.links.rate import LOOPBACK, Link

__all__ = ["LOOPBACK", "Host", "Hosts", "Link", "why_not"]
