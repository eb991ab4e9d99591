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
	"fmt"
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

// LockedError is an ErrLocked that knows how long: errors.As finds it where a store refuses to remove.
type LockedError struct {
	Name  string
	Until time.Time // by the service's clock; zero for a legal hold, or when the store does not tell
	Err   error     // what the service said; may be nil
}

// Error says until when.
func (e *LockedError) Error() string {
	if e.Until.IsZero() {
		return fmt.Sprintf("%s is locked against removal, by a legal hold or until a time that the store does not tell", e.Name)
	}
	return fmt.Sprintf("%s is locked against removal until %s", e.Name, e.Until.UTC().Format(time.RFC3339))
}

// Unwrap makes the error an ErrLocked.
func (e *LockedError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrLocked}
	}
	return []error{ErrLocked, e.Err}
}

// Info describes an object.
type Info struct {
	Name string
	Size int64 // bytes
	// LockedUntil is how long nobody can remove the object, by the service's clock; zero when it is not locked. A protection
	// that its owner could shorten is none.
	LockedUntil time.Time
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
	// Remove deletes the object with all its versions. A missing object is no error; a locked one is a LockedError.
	Remove(ctx context.Context, name string) error
}

// Locker is implemented by stores that can lock objects against removal.
type Locker interface {
	// Now returns the time by which the service judges locks. Dates of locks are made from it and from nothing else.
	Now(ctx context.Context) (time.Time, error)
	// Extend moves the object's lock to until. It never shortens: an earlier until is no error and no change.
	Extend(ctx context.Context, name string, until time.Time) error
	// ExtendVersion is Extend for one version, the current one or an older one. A version that does not exist is ErrNotFound.
	ExtendVersion(ctx context.Context, name, version string, until time.Time) error
}

// Version identifies one version of an object on a versioned store.
type Version struct {
	Name        string
	ID          string
	Size        int64
	Current     bool
	LockedUntil time.Time // as in Info
}

// Versioned is implemented by stores that keep older versions of an object that was overwritten or deleted by others.
type Versioned interface {
	// Versions yields all versions of one object, newest first. It is a direct read: a version whose making has been
	// answered is there.
	Versions(ctx context.Context, name string) iter.Seq2[Version, error]
	// ListVersions yields the versions of all objects whose name begins with prefix, in byte order of names and newest
	// first; objects without a current version too. Like List it may miss recent changes.
	ListVersions(ctx context.Context, prefix string) iter.Seq2[Version, error]
	// ReadVersion is Read for one version.
	ReadVersion(ctx context.Context, name, version string, offset int64, p []byte) (int, error)
}
