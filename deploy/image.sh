#!/usr/bin/env bash
# Builds the image where no base image can be pulled: buildah, on a base made of Debian's packages
# (Debian: apt install buildah debootstrap; as root). Then looks at what it is, and lets the command
# in it check and load the bundled API.
set -euo pipefail
cd "$(dirname "$0")/.."
base=localhost/incident-assets-base image=localhost/incident-assets
export BUILDAH_ISOLATION=chroot
place=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$place"' EXIT

if ! buildah inspect --type image "$base" >/dev/null 2>&1; then
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv stable "$place/root" >"$place/log" \
    || { tail -n 5 "$place/log"; exit 1; }
  rm -rf "$place"/root/var/{cache/apt,lib/apt/lists}/*
  container=$(buildah from scratch)
  buildah add -q "$container" "$place/root" / >/dev/null
  buildah commit -q --rm "$container" "$base" >/dev/null
  rm -rf "$place/root"
fi

# Certificates are this machine's, which may be behind a proxy.
buildah build -q --format docker --build-arg "BASE=$base" -f deploy/Dockerfile -t "$image" \
  --volume /etc/ssl/certs:/etc/ssl/certs:ro . >/dev/null

container=$(buildah from "$image")
trap 'buildah rm "$container" >/dev/null; kill $(jobs -p) 2>/dev/null || true; rm -rf "$place"' EXIT
root=$(buildah mount "$container")
run() { buildah run --env INCIDENT_API_BASE_URL="$api" --env INCIDENT_API_KEY=demo-key "$container" -- "$@"; }
buildah run "$container" -- incident-assets demo serve --port 0 >"$place/api" 2>&1 &
until grep -q 'http://' "$place/api"; do sleep 0.2; done
api=$(grep -o 'http://[0-9.:]*' "$place/api" | head -n 1)
run sh -c 'test "$(id -u)" = 10001 && ! command -v cc gcc pip >/dev/null && ! touch /opt/dagster/x 2>/dev/null'
run incident-assets check
run incident-assets sync --select users,severities
run sh -c 'dagster api grpc -h 127.0.0.1 -p 4017 -m incident_assets.definitions & until dagster api grpc-health-check -h 127.0.0.1 -p 4017; do sleep 1; done; kill -9 $!'
echo "$image: $(du -sm --apparent-size "$root" | cut -f1) MB, of which the base $(du -sm --apparent-size --exclude=opt "$root" | cut -f1)"
