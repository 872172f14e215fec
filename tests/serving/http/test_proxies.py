"""The address that a client is counted by."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from serving.http.proxies import MAX_PROXIES, client_address

TRUSTED = [ip_network(network) for network in ("10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8")]
PROXY = "10.0.0.7"


def counted(*lines: str, peer: str = PROXY) -> str:
    """Return the client address when `peer` sends these X-Forwarded-For lines."""
    headers = [(b"x-request-id", b"10.9.9.9"), *((b"x-forwarded-for", line.encode("latin-1")) for line in lines)]
    return client_address(peer, headers, TRUSTED)


def test_nobody_is_trusted_unless_named() -> None:
    for peer in (PROXY, "127.0.0.1"):
        assert client_address(peer, [(b"x-forwarded-for", b"192.0.2.1")], []) == peer


@pytest.mark.parametrize("peer", ["192.0.2.9", "11.0.0.1", "127.0.0.2"])
def test_a_client_that_comes_by_itself_is_not_believed(peer: str) -> None:
    assert counted("192.0.2.1", peer=peer) == peer


@pytest.mark.parametrize("peer", [PROXY, "127.0.0.1", "::ffff:10.1.2.3", "::1", "fd12::1"])
def test_a_trusted_proxy_names_the_client(peer: str) -> None:
    assert counted("192.0.2.1", peer=peer) == "192.0.2.1"


@pytest.mark.parametrize(
    "lines",
    [
        ["192.0.2.1, 10.0.0.8, 10.0.0.9"],
        ["203.0.113.5, 192.0.2.1"],
        ["10.0.0.1, 192.0.2.1"],
        ["nonsense, 192.0.2.1,10.0.0.8"],
        ["203.0.113.5", "192.0.2.1, 10.0.0.8"],
        ["192.0.2.1", "10.0.0.8", "10.0.0.9"],
        ["203.0.113.5", "192.0.2.1:443"],
        ["[::ffff:192.0.2.1]:443"],
        [" \t192.0.2.1 "],
    ],
    ids=str,
)
def test_the_client_is_the_last_who_is_not_trusted(lines: list[str]) -> None:
    assert counted(*lines) == "192.0.2.1"


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "unknown",
        "_hidden",
        "192.0.2",
        "192.0.2.300",
        "1.2.3.4:port",
        "[192.0.2.1",
        "[]",
        "[]:1",
        "unix:",
        "::1::",
        "ü",
    ],
)
def test_an_entry_that_is_no_address_ends_the_walk(entry: str) -> None:
    assert counted(f"192.0.2.1, {entry}") == PROXY
    assert counted(f"192.0.2.1, {entry}, 10.0.0.8") == "10.0.0.8"
    assert counted("192.0.2.1", entry) == PROXY


def test_without_the_header_the_proxy_is_counted() -> None:
    assert counted() == PROXY


def test_where_all_are_trusted_the_first_is_counted() -> None:
    assert counted("10.0.0.1, 10.0.0.8") == "10.0.0.1"


@pytest.mark.parametrize(
    "entry", ["2001:db8:1:2::1", "[2001:db8:1:2:3:4:5:6]:443", "[2001:DB8:1:2::]", "2001:db8:1:2::1%eth0"]
)
def test_ipv6_is_counted_by_its_network(entry: str) -> None:
    assert counted(entry) == "2001:db8:1:2::/64"
    assert counted(peer=entry) == "2001:db8:1:2::/64"


def test_a_long_line_is_walked_a_little_way() -> None:
    assert counted("192.0.2.1," + "10.0.0.1," * 10_000 + "10.0.0.2") == "10.0.0.1"
    assert counted("192.0.2.1," + "10.0.0.1," * (MAX_PROXIES - 2) + "10.0.0.2") == "192.0.2.1"


def test_what_has_no_address_is_counted_by_what_it_is() -> None:
    assert counted("192.0.2.1", peer="unknown") == "unknown"
