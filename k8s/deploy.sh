#!/usr/bin/env bash
# Deploys an overlay with an image to a namespace, waits for it and asks every route; what fails is rolled back:
#   k8s/deploy.sh OVERLAY IMAGE [NAMESPACE]
set -euo pipefail
cd "$(dirname "$0")/.."
overlay=${1:?which folder of k8s/overlays?} image=${2:?which image?} namespace=${3:-tiffin}
timeout=${ROLLOUT_TIMEOUT:-300s}
servers=app.kubernetes.io/name=tiffin,app.kubernetes.io/component=server
# With the workers of background jobs, where there are some.
pods='app.kubernetes.io/name=tiffin,app.kubernetes.io/component in (server,worker)'
forwarding=

# Name, tag and digest, at least one of the last two. The port of a registry is no tag.
if ! [[ $image =~ ^(([a-z0-9.-]+(:[0-9]+)?/)?[a-z0-9._/-]+)(:([A-Za-z0-9_][A-Za-z0-9_.-]*))?(@(sha256:[0-9a-f]{64}))?$ ]] ||
  [ -z "${BASH_REMATCH[4]}${BASH_REMATCH[6]}" ]; then
  echo "$image is no NAME:TAG or NAME@sha256:DIGEST with a name in small letters" >&2
  exit 2
fi
new_name=${BASH_REMATCH[1]} new_tag=${BASH_REMATCH[5]} new_digest=${BASH_REMATCH[7]}

mkdir -p .cache
folder=$(mktemp -d .cache/deploy.XXXXXX)
trap 'rm -r "$folder"' EXIT

# In what kustomize renders: all images, and ours, those of the containers `tiffin` of servers and `worker` of jobs.
images() { awk 'NF > 1 && $(NF - 1) == "image:" { print $NF }'; }
own_images() {
  awk '/^      - / { image = name = ""; sub("- ", "  ") }
    /^        image: / { image = $2 }
    /^        name: / { name = $2 }
    (name == "tiffin" || name == "worker") && image { print image; image = "" }'
}
names() { sed -E 's/@.*//; s/:[^:/]*$//' | sort -u; }

# Render the overlay with the image, by whatever name the overlay itself calls it.
render() {
  local name other was
  was=$(kubectl kustomize "k8s/overlays/$overlay" | own_images | names)
  {
    printf 'resources: ["../../k8s/overlays/%s"]\nimages:\n' "$overlay"
    for name in $was; do
      printf '  - name: "%s"\n    newName: "%s"\n' "$name" "$new_name"
      [ -z "$new_tag" ] || printf '    newTag: "%s"\n' "$new_tag"
      [ -z "$new_digest" ] || printf '    digest: "%s"\n' "$new_digest"
    done
  } >"$folder/kustomization.yaml"
  kubectl kustomize "$folder" >"$folder/rendered.yaml"
  # Rather nothing than an image that nobody asked for.
  [ "$(own_images <"$folder/rendered.yaml" | sort -u)" = "$image" ] ||
    { echo "k8s/overlays/$overlay has no container tiffin that takes the image $image" >&2; return 1; }
  for other in $(images <"$folder/rendered.yaml" | grep -Fxv "$image"); do
    ! grep -Fxq "$(names <<<"$other")" <<<"$was"$'\n'"$new_name" ||
      { echo "k8s/overlays/$overlay has the image $other besides $image" >&2; return 1; }
  done
}

kube() { kubectl --namespace "$namespace" "$@"; }
revisions() {
  kube get deployments --selector "$pods" \
    --output 'jsonpath={range .items[*]}{.metadata.name}{" "}{.metadata.annotations.deployment\.kubernetes\.io/revision}{"\n"}{end}'
}
rolled_out() { kube get deployments --selector "$pods" --output name | while read -r deployment; do
  kube rollout status "$deployment" --timeout "$timeout" || return 1
done; }

smoke() {
  local services service http port status
  # Those with a port `http`, and its number: a headless one has none.
  services=$(kube get services --selector "$servers" \
    --output 'jsonpath={range .items[*]}{.metadata.name}{" "}{.spec.ports[?(@.name=="http")].port}{"\n"}{end}' |
    awk 'NF == 2 { print "service/" $1 ":" $2 }')
  [ -n "$services" ] || { echo "there is no Service to ask" >&2; return 1; }
  for service in $services; do
    http=${service##*:} service=${service%:*}
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    kubectl --namespace "$namespace" port-forward "$service" "$port:$http" >/dev/null &
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
      kube rollout undo "deployment/$deployment" --to-revision "$before" </dev/null ||
        echo "$deployment could not be rolled back" >&2
    fi
  done
  rolled_out
  exit 1
}

render
earlier=$(revisions)
{ kube apply --filename - <"$folder/rendered.yaml" && rolled_out && smoke; } || roll_back
