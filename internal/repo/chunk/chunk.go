// Package chunk cuts disks at fixed offsets and names the pieces: chunk ids, node ids and roots are keyed hashes
// (doc/format.md §3, §4 and §7).
package chunk

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"sync"

	"github.com/holdfast-backup/holdfast"
)

// ID names a chunk or a tree node by its content. The zero ID is a hole: content of zeros alone.
type ID [32]byte

// String returns the id in hex.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsHole reports whether the id stands for zeros.
func (id ID) IsHole() bool { return id == ID{} }

// PackRef names a pack, whose name is known once it is stored: a writer refers to packs before that. Safe for
// concurrent use.
type PackRef struct {
	name  string        // owned by Resolve until ready is closed
	ready chan struct{} // nil for a pack whose name was known from the beginning
}

// PackRefBytes is the memory that a reference to a stored pack takes, its name included.
const PackRefBytes = 112

// NamedPack returns a reference to a stored pack.
func NamedPack(name string) *PackRef { return &PackRef{name: name} }

// NewPackRef returns a reference to a pack that is still being written.
func NewPackRef() *PackRef { return &PackRef{ready: make(chan struct{})} }

// Resolve gives the pack its name. It is called once.
func (r *PackRef) Resolve(name string) {
	r.name = name
	close(r.ready)
}

// Ready is closed once the name is known.
func (r *PackRef) Ready() <-chan struct{} {
	if r.ready == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return r.ready
}

// Name returns the pack's name, "" before Ready.
func (r *PackRef) Name() string {
	if r.ready == nil {
		return r.name
	}
	select {
	case <-r.ready:
		return r.name
	default:
		return ""
	}
}

// Place says where an id's bytes are: a pack, the frame in it, and the slot in the frame's payload.
type Place struct {
	Pack   *PackRef
	Offset int64 // of the frame in the pack
	Stored int   // bytes of the frame in the pack
	Slot   int
}

// Hasher computes ids. Safe for concurrent use.
type Hasher struct {
	chunk, node, root, subject sync.Pool // of hash.Hash, keyed
}

// Secrets derives keys from the identity key of a repository; a key ring does.
type Secrets interface {
	// IdentityKey returns the key for one use: chunk, node, root or subject.
	IdentityKey(use string) []byte
}

// NewHasher returns the hasher of a repository.
func NewHasher(secrets Secrets) *Hasher {
	return &Hasher{
		chunk: keyedPool(secrets.IdentityKey("chunk")), node: keyedPool(secrets.IdentityKey("node")),
		root: keyedPool(secrets.IdentityKey("root")), subject: keyedPool(secrets.IdentityKey("subject")),
	}
}

func keyedPool(key []byte) sync.Pool {
	return sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}
}

func pooledMAC(pool *sync.Pool, parts ...[]byte) ID {
	m := pool.Get().(hash.Hash)
	defer pool.Put(m)
	m.Reset()
	for _, part := range parts {
		m.Write(part)
	}
	var id ID
	m.Sum(id[:0])
	return id
}

// Chunk returns the id of a chunk's bytes, which must not be zeros alone.
func (h *Hasher) Chunk(data []byte) ID { return pooledMAC(&h.chunk, data) }

// Node returns the id of a tree node.
func (h *Hasher) Node(level byte, bitmap, ids []byte) ID {
	return pooledMAC(&h.node, []byte{level}, bitmap, ids)
}

// Root commits to a disk: its size, how it is cut, and the top node (the zero ID for a disk of zeros).
func (h *Hasher) Root(sizeBytes int64, chunkSize, fanOut int, top ID) holdfast.Root {
	var b [16 + len(top)]byte
	binary.BigEndian.PutUint64(b[:], uint64(sizeBytes))
	binary.BigEndian.PutUint32(b[8:], uint32(chunkSize))
	binary.BigEndian.PutUint32(b[12:], uint32(fanOut))
	copy(b[16:], top[:])
	return holdfast.Root(pooledMAC(&h.root, b[:]))
}

// Subject returns the opaque name under which the log knows a VM.
func (h *Hasher) Subject(vm holdfast.ResourceID) string {
	mac := pooledMAC(&h.subject, []byte(vm.Key()))
	return hex.EncodeToString(mac[:16])
}

// Count returns how many chunks a disk of that size has.
func Count(sizeBytes int64, chunkSize int) int64 {
	return (sizeBytes + int64(chunkSize) - 1) / int64(chunkSize)
}

// zeros is compared against; its size is that of the greatest step of IsZero.
var zeros [4096]byte

// IsZero reports whether b holds zeros alone.
func IsZero(b []byte) bool {
	if len(b) > 0 && b[0] != 0 {
		return false
	}
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
