#!/usr/bin/env bash
# Packs the second reader so that it can be built in ten years without a network: its source, the format page, and the source
# of the modules it is built from, in the versions that go.sum pins. It is built offline once before it is packed.
# Usage: scripts/rescue-source.sh TARGET.tar.gz
set -euo pipefail
target=$(realpath -m "$1")
cd "$(dirname "$0")/.."
mkdir -p "$(dirname "$target")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/rescue" "$work/doc"
cp rescue/*.go rescue/go.mod rescue/go.sum rescue/README.md "$work/rescue"
cp LICENSE "$work"
cp doc/format.md "$work/doc"
(cd "$work/rescue" && go mod vendor && GOPROXY=off GOFLAGS=-mod=vendor CGO_ENABLED=0 go build -trimpath -o "$work/built" .)
"$work/built" help >/dev/null

# Same source, same bytes: names sorted, no owner, no time.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime='1970-01-01 00:00Z' -C "$work" -cf - LICENSE doc rescue | gzip -n9 >"$target"
