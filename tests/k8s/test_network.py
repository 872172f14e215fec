"""Network policies allow the connections that are needed, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.manifests import RENDERS, WORKLOADS, labels, manifests, selects

renders = pytest.mark.parametrize("name", RENDERS)


@renders
def test_a_network_policy_is_for_pods_that_there_are(name: str) -> None:
    for policy in manifests(name, "NetworkPolicy"):
        selector = policy["spec"]["podSelector"]["matchLabels"]
        assert any(selects(selector, labels(found)) for found in manifests(name, *WORKLOADS))


def test_the_load_test_reaches_the_servers_and_is_none_of_them() -> None:
    (job,) = manifests("loadtest", "Job")
    (policy,) = manifests("base+network-policy", "NetworkPolicy")
    peers = [
        peer["podSelector"] for rule in policy["spec"]["ingress"] for peer in rule["from"] if "podSelector" in peer
    ]
    assert [peer for peer in peers if selects(peer["matchLabels"], labels(job))]
    assert not selects(policy["spec"]["podSelector"]["matchLabels"], labels(job))


def peers(name: str, direction: str, port: object) -> Iterator[dict[str, Any]]:
    """Yield the peers that the policy of the servers allows ingress from, or egress to, at a port."""
    (policy,) = [found for found in manifests(name, "NetworkPolicy") if found["metadata"]["name"] == "tiffin"]
    for rule in policy["spec"][direction]:
        if port in {allowed["port"] for allowed in rule["ports"]}:
            yield from rule["from" if direction == "ingress" else "to"]


def admits(peer: dict[str, Any], namespace: str) -> bool:
    """Return whether a peer of a policy is, or includes, a whole namespace."""
    selector = peer.get("namespaceSelector", {})
    names = {selector.get("matchLabels", {}).get("kubernetes.io/metadata.name")}
    for expression in selector.get("matchExpressions", []):
        assert (expression["key"], expression["operator"]) == ("kubernetes.io/metadata.name", "In")
        names |= set(expression["values"])
    return namespace in names


def test_the_gateways_of_the_guide_reach_the_servers() -> None:
    guide = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    # cert-manager asks no server.
    namespaces = set(re.findall(r"^helm install .*--namespace (\S+)", guide, re.MULTILINE)) - {"cert-manager"}
    (route,) = manifests("base+gateway-api", "HTTPRoute")
    namespaces |= {parent["namespace"] for parent in route["spec"]["parentRefs"]}
    (virtual,) = manifests("base+istio", "VirtualService")
    namespaces |= {gateway.partition("/")[0] for gateway in virtual["spec"]["gateways"]}
    assert namespaces >= {"envoy-gateway-system", "ingress", "monitoring"}
    found = list(peers("production", "ingress", "http"))
    assert found == list(peers("production", "ingress", "grpc"))
    for namespace in namespaces | {"istio-system"}:
        assert [peer for peer in found if admits(peer, namespace)], namespace
    # The guide's Gateway of GKE, see "Firewall rules" of Google's load balancers.
    blocks = {peer["ipBlock"]["cidr"] for peer in found if "ipBlock" in peer}
    assert blocks == {"130.211.0.0/22", "35.191.0.0/16"}


def test_the_servers_reach_dns_wherever_it_is() -> None:
    found = list(peers("production", "egress", 53))
    assert [peer for peer in found if admits(peer, "kube-system")]
    assert {peer["ipBlock"]["cidr"] for peer in found if "ipBlock" in peer} == {
        "169.254.20.10/32",
        "169.254.169.254/32",
    }
    assert [peer for peer in peers("production+openshift", "egress", 5353) if admits(peer, "openshift-dns")]


def test_the_routers_of_openshift_reach_the_servers() -> None:
    label = {"policy-group.network.openshift.io/ingress": ""}
    found = peers("production+openshift", "ingress", "http")
    assert [peer for peer in found if peer.get("namespaceSelector", {}).get("matchLabels") == label]
