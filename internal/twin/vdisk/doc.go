// Package vdisk keeps the volumes of the twin's managed disks and snapshots as files: sparse, copy-on-write, up to 64 TiB
// each, with a change map, so that a snapshot costs the same whatever the size and a diff costs what changed.
//
// A volume is a chain of layers. Each layer has a map of the ranges that were written or cleared in it, in units of 512
// bytes, and files that hold the written bytes at the volume's own offsets. Taking a snapshot freezes the top layer and
// puts an empty one on the live volume; the snapshot keeps the frozen one as its top. A diff between two snapshots is the
// union of the maps of the layers between them, the newest entry winning. Reading goes through a flat map, which says for
// every allocated range which layer holds it.
//
// Promises:
//   - A write or clear that returned is there after a kill of the process. Nothing is synced: a power loss may take it.
//   - Every WriteAt, Zero and Snapshot of one volume happens at one moment, before or after each other one.
//   - A set of volumes is frozen at one moment for all of them.
//   - A frozen volume never changes.
//   - What was written counts as changed even when the bytes are the same, and what was cleared counts as cleared even
//     when it was clear, as on the platform.
//
// It must never reuse the ID of a deleted volume, since grants and resource documents hold IDs, and never report less than
// what changed.
//
// On disk: DIR/catalogue lists volumes and layers, one checksummed line per change; DIR/layers/NAME/map is a layer's
// journal of map changes and DIR/layers/NAME/data-NNNN its bytes, one file per TiB since ext4 ends a file at 16 TiB. Bytes
// are written first and journalled second, so an interrupted write leaves at most bytes that no map refers to. A torn last
// record is cut off; damage before the last record is an error.
//
// Locks: a volume's mutex guards its content and is taken before the store's, which guards the set of volumes and layers.
// Who takes several volumes' mutexes takes them in the order of their IDs.
package vdisk
