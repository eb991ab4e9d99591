// Package layout names the objects of a repository and the limits that every reader enforces. It is doc/format.md §2 and §3
// as code, and nothing else.
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// FormatVersion is the only version this code writes and reads.
const FormatVersion = 1

// Limits a reader enforces before it allocates (doc/format.md §5).
const (
	ObjectBytesMax    = 256 << 20
	IndexRunBytesMax  = 4 << 30
	FrameBytesMax     = 4 << 20
	NodeBytesMax      = 16 << 10
	DirectoryBytesMax = 64 << 20
	EntryBytesMax     = 1 << 20
	KeyObjectBytesMax = 1 << 20
	StateBytesMax     = 256 << 20
	ListBytesMax      = 64 << 20
)

// FanOutMax is the greatest fan-out whose nodes, with all their hints, stay under NodeBytesMax: 6 + F/8 + 75 × F bytes.
const FanOutMax = 216

// PackBytesTarget is the size at which a writer closes a pack. Three are in memory at a time, so twice the size would cost 50 MiB; half
// of it would save no more than 25, and ask for twice the requests.
const PackBytesTarget = 16 << 20

// Kind is the kind of an object, told from its name.
type Kind int

// The kinds of object.
const (
	Foreign Kind = iota // a name that the format does not know
	LogEntry
	KeyObject
	State
	DataPack
	TreePack
	IndexRun
	Manifest
	List
)

// String returns the word used in reports.
func (k Kind) String() string {
	return [...]string{"foreign object", "log entry", "key object", "checkpoint", "data pack", "tree pack", "index run", "manifest", "list"}[k]
}

// BytesMax returns the limit on the size of an object of that kind.
func (k Kind) BytesMax() int64 {
	switch k {
	case LogEntry:
		return EntryBytesMax
	case KeyObject:
		return KeyObjectBytesMax
	case State:
		return StateBytesMax
	case IndexRun:
		return IndexRunBytesMax
	case List:
		return ListBytesMax
	case DataPack, TreePack, Manifest, Foreign:
	}
	return ObjectBytesMax
}

// Prefixes of the objects that are looked for by listing: log entries, and key slots and rings.
const (
	LogPrefix  = "log/"
	KeysPrefix = "keys/"
)

// Prefixes of object names, one per kind.
const (
	statePrefix = "state/"
	dataPrefix  = "data/"
	treePrefix  = "tree/"
	indexPrefix = "index/"
	pointPrefix = "points/"
	listPrefix  = "lists/"
)

// HashSize is the size of an object's hash in bytes.
const HashSize = sha256.Size

// Hash is the SHA-256 of an object's stored bytes.
type Hash [HashSize]byte

// Sum hashes stored bytes.
func Sum(data []byte) Hash { return sha256.Sum256(data) }

// EntryName returns the name of log entry n.
func EntryName(n uint64) string { return fmt.Sprintf("%s%020d", LogPrefix, n) }

// Name returns the name of an object of the given kind whose stored bytes have that hash.
func Name(kind Kind, hash Hash) string {
	digits := hex.EncodeToString(hash[:])
	switch kind {
	case KeyObject:
		return KeysPrefix + digits
	case State:
		return statePrefix + digits
	case DataPack:
		return dataPrefix + digits[:2] + "/" + digits
	case TreePack:
		return treePrefix + digits[:2] + "/" + digits
	case IndexRun:
		return indexPrefix + digits
	case Manifest:
		return pointPrefix + digits
	case List:
		return listPrefix + digits
	case Foreign, LogEntry:
	}
	holdfast.Invariant(false, "%v has no name by hash", kind)
	return ""
}

// Parse tells the kind of an object from its name, and its hash where the name holds one. A name that the format does not
// know is Foreign.
func Parse(name string) (Kind, Hash) {
	if number, ok := strings.CutPrefix(name, LogPrefix); ok {
		if _, err := ParseEntryName(name); err != nil || number == "" {
			return Foreign, Hash{}
		}
		return LogEntry, Hash{}
	}
	for _, row := range []struct {
		prefix string
		kind   Kind
		spread bool
	}{
		{KeysPrefix, KeyObject, false},
		{statePrefix, State, false},
		{dataPrefix, DataPack, true},
		{treePrefix, TreePack, true},
		{indexPrefix, IndexRun, false},
		{pointPrefix, Manifest, false},
		{listPrefix, List, false},
	} {
		digits, ok := strings.CutPrefix(name, row.prefix)
		if !ok {
			continue
		}
		if row.spread {
			if len(digits) < 3 || digits[2] != '/' || !strings.HasPrefix(digits[3:], digits[:2]) {
				return Foreign, Hash{}
			}
			digits = digits[3:]
		}
		var hash Hash
		if len(digits) != 2*HashSize || strings.ContainsAny(digits, "ABCDEF") {
			return Foreign, Hash{}
		}
		if _, err := hex.Decode(hash[:], []byte(digits)); err != nil {
			return Foreign, Hash{}
		}
		return row.kind, hash
	}
	return Foreign, Hash{}
}

// Prefix begins the names of all objects of a kind.
func Prefix(kind Kind) string {
	switch kind {
	case LogEntry:
		return LogPrefix
	case KeyObject:
		return KeysPrefix
	case State:
		return statePrefix
	case DataPack:
		return dataPrefix
	case TreePack:
		return treePrefix
	case IndexRun:
		return indexPrefix
	case Manifest:
		return pointPrefix
	case List:
		return listPrefix
	case Foreign:
	}
	holdfast.Invariant(false, "%v has no prefix", kind)
	return ""
}

// ParseEntryName returns the number of a log entry's name.
func ParseEntryName(name string) (uint64, error) {
	digits, ok := strings.CutPrefix(name, LogPrefix)
	if !ok || len(digits) != 20 {
		return 0, fmt.Errorf("%q is not the name of a log entry", name)
	}
	return strconv.ParseUint(digits, 10, 64)
}

// Parameters are fixed when a repository is born (doc/format.md §3).
type Parameters struct {
	ChunkSize int `json:"chunkSize"` // bytes
	FrameSize int `json:"frameSize"` // plain bytes at most
	FanOut    int `json:"fanOut"`    // children of a tree node
}

// DefaultParameters are those of `repo init` without options. At fan-out 32 the six nodes above one chunk of a disk of 32 TiB
// have 14.5 KB at most, however old and scattered the disk is; at 64 the five nodes could have 24 KB.
func DefaultParameters() Parameters {
	return Parameters{ChunkSize: 128 << 10, FrameSize: 1 << 20, FanOut: 32}
}

// OrDefault returns p with zero fields replaced by their defaults.
func (p Parameters) OrDefault() Parameters {
	d := DefaultParameters()
	if p.ChunkSize == 0 {
		p.ChunkSize = d.ChunkSize
	}
	if p.FrameSize == 0 {
		p.FrameSize = max(d.FrameSize, p.ChunkSize)
	}
	if p.FanOut == 0 {
		p.FanOut = d.FanOut
	}
	return p
}

// Validate returns a KindInvalid error naming the field that is out of range and what is accepted.
func (p Parameters) Validate() error {
	if p.ChunkSize < 64<<10 || p.ChunkSize > 4<<20 || p.ChunkSize&(p.ChunkSize-1) != 0 {
		return holdfast.Errorf(holdfast.KindInvalid, "chunk size %d is not a power of two from 64 KiB to 4 MiB", p.ChunkSize).WithField("chunkSize")
	}
	if p.FrameSize < p.ChunkSize || p.FrameSize > FrameBytesMax || p.FrameSize%p.ChunkSize != 0 || p.FrameSize/p.ChunkSize > 64 {
		return holdfast.Errorf(holdfast.KindInvalid, "frame size %d is not a multiple of the chunk size (%d), at most 64 chunks and 4 MiB", p.FrameSize, p.ChunkSize).WithField("frameSize")
	}
	if p.FanOut < 8 || p.FanOut > FanOutMax || p.FanOut%8 != 0 {
		return holdfast.Errorf(holdfast.KindInvalid, "fan-out %d is not a multiple of 8 from 8 to %d", p.FanOut, FanOutMax).WithField("fanOut")
	}
	return nil
}

// String returns the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }
