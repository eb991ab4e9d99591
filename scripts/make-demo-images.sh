#!/usr/bin/env bash
# Makes the disk images that `holdfast demo` protects: internal/demo/images/NAME.img.zst with NAME.json beside it.
#
# Each is a whole disk: a partition table and one partition with a filesystem that holds a few hundred files. The files come
# from scripts/demodisk and are the same on every machine. Ids are fixed and the clock stands still (libfaketime), so that
# another run with the same versions of the tools gives nearly the same bytes; what a tool picks at random stays random.
# Run it only to change the images: the tests compare them with the JSON, not with another run.
#
# Wants, from Debian: e2fsprogs ntfs-3g xfsprogs fdisk zstd faketime. NTFS is filled through a FUSE mount, which wants
# root or /dev/fuse; the others need no privilege.
set -euo pipefail

cd "$(dirname "$0")/.."
target=internal/demo/images
work=$(mktemp -d)
mounted=
cleanup() {
  if [ -n "$mounted" ]; then umount "$mounted" || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

for tool in mkfs.ext4 mkfs.ntfs ntfs-3g mkfs.xfs sfdisk zstd faketime; do
  command -v "$tool" >/dev/null || { echo "make-demo-images: $tool is missing" >&2; exit 1; }
done
still() { faketime -f '2026-03-02 06:30:00' "$@"; }

go build -o "$work/demodisk" ./scripts/demodisk
export TZ=UTC

# The partition starts at 1 MiB in every image.
start_bytes=$((1024 * 1024))

# finish NAME FILESYSTEM FILES: puts $work/partition into a disk image, describes and compresses it.
finish() {
  local name=$1 filesystem=$2 files=$3
  dd if="$work/partition" of="$work/disk" bs=1M seek=1 conv=notrunc,sparse status=none
  "$work/demodisk" describe "$name" "$filesystem" "$work/disk" "$files" >"$target/$name.json"
  zstd --ultra -22 --long=27 -q -f "$work/disk" -o "$target/$name.img.zst"
  rm -f "$work/disk" "$work/partition"
  ls -l "$target/$name.img.zst"
}

# web: a Linux web server, GPT and ext4.
"$work/demodisk" files web "$work/web"
truncate -s 256M "$work/disk"
sfdisk -q "$work/disk" <<EOF
label: gpt
label-id: 6B1F1C9A-35D2-4C8E-9C5E-2F6D1B7A0001
start=2048, size=$((254 * 2048)), type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=6B1F1C9A-35D2-4C8E-9C5E-2F6D1B7A0002, name="root"
EOF
truncate -s 254M "$work/partition"
still mkfs.ext4 -q -F -b 4096 -L web -U 6b1f1c9a-35d2-4c8e-9c5e-2f6d1b7a0003 \
  -E hash_seed=6b1f1c9a-35d2-4c8e-9c5e-2f6d1b7a0004,root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0 \
  -d "$work/web" "$work/partition"
finish web ext4 "$work/web"

# office: a Windows file server, MBR and NTFS.
"$work/demodisk" files office "$work/office"
truncate -s 128M "$work/disk"
sfdisk -q "$work/disk" <<EOF
label: dos
label-id: 0x6b1f1c9b
start=2048, size=$((126 * 2048)), type=7
EOF
truncate -s 126M "$work/partition"
still mkfs.ntfs -q -F -f -s 512 -c 4096 -p $((start_bytes / 512)) -H 255 -S 63 -L Office "$work/partition"
mkdir "$work/mount"
still ntfs-3g -o no_detach "$work/partition" "$work/mount" &
server=$!
mounted=$work/mount
until mountpoint -q "$mounted"; do kill -0 "$server"; done
while IFS= read -r entry; do
  if [ -d "$work/office/$entry" ]; then mkdir -p "$mounted/$entry"; else cp -p "$work/office/$entry" "$mounted/$entry"; fi
done < <(cd "$work/office" && find . -mindepth 1 | LC_ALL=C sort)
umount "$mounted"
mounted=
wait "$server"
finish office ntfs "$work/office"

# orders: the data disk of an order system, GPT and XFS.
"$work/demodisk" files orders "$work/orders"
truncate -s 320M "$work/disk"
sfdisk -q "$work/disk" <<EOF
label: gpt
label-id: 6B1F1C9C-35D2-4C8E-9C5E-2F6D1B7A0001
start=2048, size=$((318 * 2048)), type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=6B1F1C9C-35D2-4C8E-9C5E-2F6D1B7A0002, name="data"
EOF
truncate -s 318M "$work/partition"
"$work/demodisk" proto "$work/orders" >"$work/prototype"
still mkfs.xfs -q -f -m uuid=6b1f1c9c-35d2-4c8e-9c5e-2f6d1b7a0003 -L orders -p "$work/prototype" "$work/partition"
finish orders xfs "$work/orders"
