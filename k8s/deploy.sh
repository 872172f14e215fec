#!/usr/bin/env bash
# Deploys an overlay with an image to a namespace, waits for it and asks every route; what fails is rolled back.
set -euo pipefail
cd "$(dirname "$0")/.."
overlay=$1 image=$2 namespace=$3
timeout=${ROLLOUT_TIMEOUT:-300s}
servers=app.kubernetes.io/name=tiffin,app.kubernetes.io/component=server
forwarding=

kube() { kubectl --namespace "$namespace" "$@"; }
revisions() {
  kube get deployments --selector "$servers" \
    --output 'jsonpath={range .items[*]}{.metadata.name}{" "}{.metadata.annotations.deployment\.kubernetes\.io/revision}{"\n"}{end}'
}
rolled_out() { kube get deployments --selector "$servers" --output name | while read -r deployment; do
  kube rollout status "$deployment" --timeout "$timeout" || return 1
done; }

smoke() {
  local services service port status
  services=$(kube get services --selector "$servers" --output name)
  [ -n "$services" ] || { echo "there is no Service to ask" >&2; return 1; }
  for service in $services; do
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    kubectl --namespace "$namespace" port-forward "$service" "$port:3000" >/dev/null &
    forwarding=$!
    for _ in $(seq 100); do
      (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
      sleep 0.1
    done
    echo "$service"
    status=0
    python3 k8s/smoke.py "http://127.0.0.1:$port" || status=1
    kill "$forwarding"
    [ "$status" = 0 ] || return 1
  done
}

# To the revision that each Deployment had: one that this overlay left as it was must not go a step back.
roll_back() {
  echo "failed, rolling back" >&2
  [ -z "$forwarding" ] || kill "$forwarding" 2>/dev/null || true
  revisions | while read -r deployment revision; do
    before=$(awk -v name="$deployment" '$1 == name {print $2}' <<<"$earlier")
    if [ -z "$before" ]; then
      echo "$deployment is new, there is nothing to go back to" >&2
    elif [ "$before" != "$revision" ]; then
      kube rollout undo "deployment/$deployment" --to-revision "$before" </dev/null
    fi
  done
  rolled_out
  exit 1
}

earlier=$(revisions)
kubectl kustomize "k8s/overlays/$overlay" | sed "s|image: tiffin:.*|image: $image|" | kube apply --filename -
rolled_out && smoke || roll_back
