"""A slower network in front of the same server, with every round trip and byte counted."""

from course_lib.instruments.network.delay import Network, network_delay

__all__ = ["Network", "network_delay"]
