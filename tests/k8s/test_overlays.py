"""What single overlays and components are for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.manifests import RENDERS, containers, labels, manifests, named, pod, selects, servers, settings

COURSE = {"lab": "breast_cancer", "project": "sentiment"}
SIDECARS = [name for name in RENDERS if manifests(name, "VirtualService")]


def requested(value: str) -> float:
    """Return a quantity of CPU in cores."""
    return float(value.removesuffix("m")) / 1000 if value.endswith("m") else float(value)


def test_the_course_finds_what_it_counts() -> None:
    assert named("course", "Deployment").keys() == {"lab-api-deployment", "project-api-deployment", "redis-deployment"}
    assert named("course", "Service").keys() == {
        "lab-prediction-service",
        "project-prediction-service",
        "redis-service",
    }
    assert len(manifests("course", "VirtualService")) == 1
    targets = {found["spec"]["scaleTargetRef"]["name"] for found in manifests("course", "HorizontalPodAutoscaler")}
    assert targets == {"lab-api-deployment", "project-api-deployment"}


@pytest.mark.parametrize("service", COURSE)
def test_a_service_of_the_course_verifies_redis_and_listens_where_it_is_asked(service: str) -> None:
    deployment = named("course", "Deployment")[f"{service}-api-deployment"]
    names = [container["name"] for container in pod(deployment)["initContainers"]]
    assert names == ["init-verify-redis-service-dns", "init-verify-redis-ready"]
    server = pod(deployment)["containers"][0]
    assert server["image"].rpartition("/")[2] == "project:gitsha"
    found = settings("course", deployment)
    assert found["TIFFIN_MODELS"] == COURSE[service]
    assert found["TIFFIN_ROOT_PATH"] == f"/{service}"
    assert found["TIFFIN_REDIS_PREFIX"] == f"fastapi-cache-{service}"
    # The variable is read by the image's entry point.
    assert {"name": "PORT", "value": "8000"} in server["env"]
    assert {"name": "http", "containerPort": 8000} in server["ports"]
    ports = {
        port["name"]: port["port"]
        for port in named("course", "Service")[f"{service}-prediction-service"]["spec"]["ports"]
    }
    assert ports["http"] == 8000


@pytest.mark.parametrize("service", COURSE)
def test_one_virtual_service_leads_each_path_of_the_course_to_its_service(service: str) -> None:
    (route,) = manifests("course", "VirtualService")
    rules = {rule["name"]: rule for rule in route["spec"]["http"]}
    for name, match in ((service, {"prefix": f"/{service}"}), (f"{service}-predict", {"exact": f"/{service}/predict"})):
        assert rules[name]["match"] == [{"uri": match}]
        destination = {"host": f"{service}-prediction-service", "port": {"number": 8000}}
        assert rules[name]["route"] == [{"destination": destination}]
    assert rules[f"{service}-predict"]["rewrite"] == {"uri": f"/{service}/{COURSE[service]}/predict"}
    # The first rule that fits is taken.
    assert list(rules).index(f"{service}-predict") < list(rules).index(service)


def test_the_local_autoscaler_moves_between_one_and_three_servers_that_fit_the_cluster() -> None:
    (autoscaler,) = manifests("local-autoscaling", "HorizontalPodAutoscaler")
    assert (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"]) == (1, 3)
    (metric,) = autoscaler["spec"]["metrics"]
    assert metric["containerResource"]["target"]["averageUtilization"] == 20
    (deployment,) = servers("local-autoscaling")
    cores = sum(requested(found["resources"]["requests"]["cpu"]) for found in containers(deployment))
    guide = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    (given,) = set(re.findall(r"minikube start --cpus (\d+)", guide))
    # The cluster itself takes about one.
    assert 3 * cores <= int(given) - 1


def test_without_requests_no_server_needs_to_run() -> None:
    (scaled,) = manifests("base+scale-to-zero", "ScaledObject")
    assert scaled["spec"]["minReplicaCount"] == 0
    queue, gateway = (trigger["metadata"] for trigger in scaled["spec"]["triggers"])
    assert "tiffin_queue_items" in queue["query"]
    assert ("istio_requests_total" in gateway["query"], gateway["activationThreshold"]) == (True, "0")


def test_the_first_request_waits_for_a_server_behind_a_proxy_that_may_be_asked_and_asks() -> None:
    name = "base+all, behind a proxy"
    (scaled,) = manifests(name, "HTTPScaledObject")
    target = scaled["spec"]["scaleTargetRef"]
    assert scaled["spec"]["replicas"]["min"] == 0
    assert target["name"] in named(name, "Deployment")
    # The definition wants one of the two, which its schema cannot say.
    assert ("port" in target) != ("portName" in target)
    assert target["port"] in {port["port"] for port in named(name, "Service")[target["service"]]["spec"]["ports"]}
    (route,) = manifests(name, "HTTPRoute")
    assert route["spec"]["hostnames"] == scaled["spec"]["hosts"]
    ((backend,),) = [rule["backendRefs"] for rule in route["spec"]["rules"]]
    (grant,) = manifests("gateway-http-add-on", "ReferenceGrant")
    assert (backend["name"], backend["namespace"]) == (grant["spec"]["to"][0]["name"], grant["metadata"]["namespace"])
    assert grant["spec"]["from"][0]["namespace"] == route["metadata"]["namespace"]
    seconds = [int(value.removesuffix("s")) for value in scaled["spec"]["timeouts"].values()]
    (timeout,) = [rule["timeouts"]["request"] for rule in route["spec"]["rules"]]
    assert timeout == f"{sum(seconds)}s"
    policy = named(name, "NetworkPolicy")["tiffin"]
    namespaces = [peer.get("namespaceSelector", {}).get("matchLabels") for peer in policy["spec"]["ingress"][0]["from"]]
    assert {"kubernetes.io/metadata.name": backend["namespace"]} in namespaces


def test_a_load_balancer_has_http_alone_at_port_80_and_is_let_in() -> None:
    service = named("base+load-balancer", "Service")["tiffin-load-balancer"]["spec"]
    assert service["type"] == "LoadBalancer"
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(80, "http")]
    (policy,) = manifests("base+load-balancer", "NetworkPolicy")
    assert {"ports": [{"port": "http"}]} in policy["spec"]["ingress"]


def mounted_models(name: str) -> Any:
    """Return how the models' volume is mounted in a render."""
    (deployment,) = servers(name)
    (mount,) = [found for found in pod(deployment)["containers"][0]["volumeMounts"] if found["name"] == "models"]
    return mount


@pytest.mark.parametrize("name", ["base+model-volume", "base+model-volume-host"])
def test_models_are_mounted_where_the_image_has_its_own(name: str) -> None:
    dockerfile = (ROOT / "container" / "Dockerfile").read_text(encoding="utf-8")
    (bento,) = re.findall(r"BENTO_PATH=(\S+)", dockerfile)
    assert mounted_models(name) == {"name": "models", "mountPath": f"{bento}/models", "readOnly": True}


def test_a_folder_of_the_node_is_claimed_as_a_volume() -> None:
    (volume,) = manifests("base+model-volume-host", "PersistentVolume")
    (claim,) = manifests("base+model-volume-host", "PersistentVolumeClaim")
    assert volume["spec"]["hostPath"]["path"] == "/var/tmp/models"
    assert claim["spec"]["selector"]["matchLabels"].items() <= volume["metadata"]["labels"].items()
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""
    assert claim["spec"]["accessModes"] == volume["spec"]["accessModes"]


def test_images_may_come_from_a_registry_with_a_password() -> None:
    for deployment in servers("base+image-pull-secret"):
        assert pod(deployment)["imagePullSecrets"] == [{"name": "tiffin-registry"}]


@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_is_told_where_the_metrics_of_its_server_are(name: str) -> None:
    for deployment in servers(name):
        hints = deployment["spec"]["template"]["metadata"]["annotations"]
        ports = {port["name"]: port["containerPort"] for port in pod(deployment)["containers"][0]["ports"]}
        assert hints["prometheus.io/scrape"] == "true"
        assert hints["prometheus.io/port"] == str(ports["http"])
        assert hints["prometheus.io/path"] == "/metrics"


def test_in_a_strict_mesh_sidecars_are_scraped_instead_of_servers() -> None:
    name = "base+all, their alternatives"
    assert manifests(name, "ServiceMonitor") == []
    monitor = named(name, "PodMonitor")["tiffin"]
    (deployment,) = servers(name)
    assert selects(monitor["spec"]["selector"]["matchLabels"], labels(deployment))
    assert labels(deployment)[monitor["spec"]["jobLabel"]] == "tiffin"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] == "/stats/prometheus"
    assert [found["replacement"] for found in endpoint["relabelings"] if "replacement" in found] == ["$1:15020"]
    (policy,) = [found for found in manifests(name, "NetworkPolicy") if found["metadata"]["name"] == "tiffin"]
    assert [port for rule in policy["spec"]["ingress"] for port in rule["ports"] if port["port"] == 15020]


def certified_hosts(name: str) -> set[str]:
    """Return the hosts of the certificate of a gateway."""
    (certificate,) = manifests(name, "Certificate")
    return set(certificate["spec"]["dnsNames"])


def test_a_certificate_is_for_every_host_of_a_route() -> None:
    routes = [
        route for name in ("production", "base+gateway-api") for route in manifests(name, "HTTPRoute", "GRPCRoute")
    ]
    hosts = {host for route in routes for host in route["spec"]["hostnames"]}
    assert certified_hosts("gateway-gateway-api") == hosts


def test_the_gateway_serves_by_tls_alone_and_leads_http_there() -> None:
    (gateway,) = manifests("gateway-gateway-api", "Gateway")
    (certificate,) = manifests("gateway-gateway-api", "Certificate")
    http, *https = gateway["spec"]["listeners"]
    assert (http["port"], http["allowedRoutes"]) == (80, {"namespaces": {"from": "Same"}})
    for listener in https:
        assert (listener["port"], listener["protocol"]) == (443, "HTTPS")
        assert listener["tls"]["certificateRefs"] == [{"name": certificate["spec"]["secretName"]}]
        admitted = listener["allowedRoutes"]["namespaces"]["selector"]["matchLabels"]
        (namespace,) = manifests("production", "Namespace")
        assert admitted == {"kubernetes.io/metadata.name": namespace["metadata"]["name"]}
    (redirect,) = manifests("gateway-gateway-api", "HTTPRoute")
    (parent,) = redirect["spec"]["parentRefs"]
    assert parent == {"name": gateway["metadata"]["name"], "sectionName": http["name"]}
    ((rule,),) = [rule["filters"] for rule in redirect["spec"]["rules"]]
    assert rule["requestRedirect"] == {"scheme": "https", "statusCode": 301}


def test_istios_gateway_serves_by_tls_alone_and_leads_http_there() -> None:
    (gateway,) = manifests("gateway-istio", "Gateway")
    (certificate,) = manifests("gateway-istio", "Certificate")
    http, https = gateway["spec"]["servers"]
    assert http["tls"] == {"httpsRedirect": True}
    assert https["tls"] == {"mode": "SIMPLE", "credentialName": certificate["spec"]["secretName"]}
    assert http["hosts"] == https["hosts"]
    (route,) = manifests("base+istio", "VirtualService")
    hosts = {host.partition("/")[2] for host in https["hosts"]}
    assert set(route["spec"]["hosts"]) <= hosts <= certified_hosts("gateway-istio")
    assert route["spec"]["gateways"] == [f"{gateway['metadata']['namespace']}/{gateway['metadata']['name']}"]


def test_routes_lead_to_the_gateway_that_there_is() -> None:
    (gateway,) = manifests("gateway-gateway-api", "Gateway")
    for route in manifests("production", "HTTPRoute", "GRPCRoute"):
        parent = {"name": gateway["metadata"]["name"], "namespace": gateway["metadata"]["namespace"]}
        assert route["spec"]["parentRefs"] == [parent]
