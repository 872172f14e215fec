"""The address under which a client is counted, also behind proxies that are trusted to name it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The smallest network that a provider gives to each of its customers.
IPV6_PREFIX_BITS = 64
# The most proxies in a row; what a header names before them is ignored.
MAX_PROXIES = 32
# An address as proxies write it: [IPv6], [IPv6]:port, IPv4:port, or bare.
WRITTEN = re.compile(r"\[([^][]+)\](?::\d+)?|([^][:]+):\d+|([^][]+)")


def address_of(scope: Scope, trusted: Sequence[Network]) -> str:
    """Return the address under which the client of a request is counted."""
    peer = (scope.get("client") or ("unknown",))[0]
    return client_address(peer, scope["headers"], trusted)


def client_address(peer: str, headers: Iterable[tuple[bytes, bytes]], trusted: Sequence[Network]) -> str:
    """Return the address of a request's client; for IPv6, its /64 network.

    That is `peer`, the other end of the connection, unless it is a trusted proxy. Each trusted proxy
    appends the address that it was called from to X-Forwarded-For, so the client is the last one that is not trusted.
    What stands before it, or before an entry that is no address, may be forged.
    """
    address = parse(peer)
    if address is None:  # as of a Unix socket
        return peer
    if is_trusted(address, trusted):
        lines = [value for name, value in headers if name == b"x-forwarded-for"]
        for entry in reversed(b",".join(lines).decode("latin-1").rsplit(",", MAX_PROXIES)):
            named = parse(entry)
            if named is None:
                break
            address = named
            if not is_trusted(address, trusted):
                break
    return str(address if address.version == 4 else ip_network((int(address), IPV6_PREFIX_BITS), strict=False))


def parse(text: str) -> Address | None:
    """Parse an entry of X-Forwarded-For, IPv4 mapped to IPv6 as IPv4; return None when it has no address."""
    written = WRITTEN.fullmatch(text.strip())
    if written is None:
        return None
    try:
        address = ip_address(written[1] or written[2] or written[3])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    """Return whether an address is in one of the networks."""
    return any(address in network for network in trusted)


def network(value: object) -> Network:
    """Parse an address or a network; raise ValueError that names what is neither."""
    try:
        return ip_network(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{error}; must be addresses and networks, such as 10.0.0.0/8, ::1") from error
