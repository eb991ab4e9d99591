// Package blob is the port for object storage: what the repository needs of a store, and nothing else.
//
// A store holds immutable objects under slash-separated names. Put creates and never overwrites; there is no rename and no
// append. Listing may be late and incomplete: nothing that matters for safety may rest on it. Removing is a port of its
// own, handed to the collector alone. Package blobtest is the conformance suite that every implementation passes; it is
// also shipped to users as `holdfast storage check`.
package blob

import (
	"context"
	"errors"
	"iter"
	"time"
)

// Errors that every implementation returns, wrapped or bare; test with errors.Is. Anything else a store returns is a
// *holdfast.Error whose kind says whether a retry may help.
var (
	ErrNotFound = errors.New("object not found")
	ErrExists   = errors.New("object exists already")
	ErrLocked   = errors.New("object is locked against removal")
	ErrReadOnly = errors.New("store cannot be written")
)

// Info describes an object.
type Info struct {
	Name        string
	Size        int64     // bytes
	LockedUntil time.Time // zero when the object is not locked
}

// PutOptions tell how an object is born.
type PutOptions struct {
	// LockUntil asks for immutability until that instant. Stores without support refuse with KindInvalid; they never
	// ignore it.
	LockUntil time.Time
	// Tier is hot, cool or cold; "" leaves the store's default. Stores without tiers ignore it.
	Tier string
}

// Reader reads objects. All methods are safe for concurrent use.
type Reader interface {
	// Read fills p with the object's bytes from offset on and returns how many it read. Fewer than len(p) come only at
	// the object's end, with a nil error; an offset at or after the end reads 0. A missing object is ErrNotFound.
	Read(ctx context.Context, name string, offset int64, p []byte) (int, error)
	// Stat returns size and lock of one object, ErrNotFound if there is none. It is a direct read, never a listing: an
	// object whose Put has returned is seen by every later Stat.
	Stat(ctx context.Context, name string) (Info, error)
	// List yields the objects whose name begins with prefix, in byte order of names. It may miss recent changes.
	List(ctx context.Context, prefix string) iter.Seq2[Info, error]
}

// Store reads and creates objects.
type Store interface {
	Reader
	// Put creates the object durably, or returns ErrExists and leaves the present one as it is. Among concurrent puts of
	// one name exactly one succeeds. After any other error the object may or may not exist; it is never partial. Data is
	// not kept after Put returns.
	Put(ctx context.Context, name string, data []byte, opts PutOptions) error
	// URL names the store for people, without secrets.
	URL() string
}

// Remover removes objects; only the collector holds one.
type Remover interface {
	// Remove deletes the object. A missing object is no error; a locked one is ErrLocked.
	Remove(ctx context.Context, name string) error
}

// Locker is implemented by stores that can lock objects against removal.
type Locker interface {
	// Extend moves the object's lock to until. It never shortens: an earlier until is no error and no change.
	Extend(ctx context.Context, name string, until time.Time) error
}

// Version identifies one version of an object on a versioned store.
type Version struct {
	ID      string
	Size    int64
	Current bool
}

// Versioned is implemented by stores that keep older versions of an object that was overwritten or deleted by others.
type Versioned interface {
	// Versions yields all versions of one object, newest first.
	Versions(ctx context.Context, name string) iter.Seq2[Version, error]
	// ReadVersion is Read for one version.
	ReadVersion(ctx context.Context, name, version string, offset int64, p []byte) (int, error)
}
