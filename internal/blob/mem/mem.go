// Package mem is an object store in memory: the reference that the other stores are compared with, and the store of fast
// tests.
//
// It promises the whole port of package blob, locks and versions included, as a container with version-level immutability
// gives them. What somebody else with the storage's credentials could do to a repository is in Adversary, a type of its
// own. It must never be offered to users: everything is lost with the process.
package mem

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Store keeps objects and their versions in memory. Safe for concurrent use.
type Store struct {
	clock clock.Clock

	mu       sync.RWMutex
	objects  map[string]*object // guarded by mu, as are the objects
	hidden   map[string]bool    // guarded by mu: names that List misses
	versions int                // guarded by mu: how many versions were ever made
}

// object is one name. Versions are oldest first; without a current one the name reads as missing.
type object struct {
	versions []version
	current  bool // the last version is the current one
}

type version struct {
	id          string
	data        []byte
	lockedUntil time.Time
}

var (
	_ blob.Store     = (*Store)(nil)
	_ blob.Locker    = (*Store)(nil)
	_ blob.Versioned = (*Store)(nil)
)

// New returns an empty store whose locks run out by the given clock.
func New(c clock.Clock) *Store {
	return &Store{clock: c, objects: map[string]*object{}, hidden: map[string]bool{}}
}

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[name]; o != nil && o.current {
		return blob.ErrExists
	}
	s.append(name, data, opts.LockUntil)
	return nil
}

// append makes a copy of data the current version of name. s.mu is held for writing.
func (s *Store) append(name string, data []byte, lockUntil time.Time) {
	o := s.objects[name]
	if o == nil {
		o = &object{}
		s.objects[name] = o
	}
	s.versions++
	o.versions = append(o.versions, version{id: strconv.Itoa(s.versions), data: bytes.Clone(data), lockedUntil: lockUntil})
	o.current = true
}

// Read implements blob.Reader.
func (s *Store) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	v, err := s.currentVersion(ctx, name)
	if err != nil {
		return 0, err
	}
	return copyFrom(v.data, offset, p), nil
}

// Stat implements blob.Reader.
func (s *Store) Stat(ctx context.Context, name string) (blob.Info, error) {
	v, err := s.currentVersion(ctx, name)
	if err != nil {
		return blob.Info{}, err
	}
	return v.info(name), nil
}

// List implements blob.Reader. It lists the names that exist when it is called.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for _, info := range s.snapshot(prefix) {
			if err := ctx.Err(); err != nil {
				yield(blob.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (s *Store) snapshot(prefix string) []blob.Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var infos []blob.Info
	for name, o := range s.objects {
		if o.current && strings.HasPrefix(name, prefix) && !s.hidden[name] {
			infos = append(infos, o.last().info(name))
		}
	}
	slices.SortFunc(infos, func(a, b blob.Info) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

// URL implements blob.Store.
func (s *Store) URL() string { return "mem:" }

// Remover returns the right to remove objects from the store.
func (s *Store) Remover() blob.Remover { return remover{s} }

type remover struct{ store *Store }

// Remove implements blob.Remover: it deletes all versions, or none when one of them is locked.
func (r remover) Remove(ctx context.Context, name string) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[name]
	if o == nil {
		return nil
	}
	var until time.Time
	for _, v := range o.versions {
		if v.lockedUntil.After(until) {
			until = v.lockedUntil
		}
	}
	if until.After(s.clock.Now()) {
		return &blob.LockedError{Name: name, Until: until}
	}
	delete(s.objects, name)
	return nil
}

// Now implements blob.Locker.
func (s *Store) Now(ctx context.Context) (time.Time, error) { return s.clock.Now(), ctx.Err() }

// Extend implements blob.Locker.
func (s *Store) Extend(ctx context.Context, name string, until time.Time) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[name]
	if o == nil || !o.current {
		return blob.ErrNotFound
	}
	o.last().extend(until)
	return nil
}

// ExtendVersion implements blob.Locker.
func (s *Store) ExtendVersion(ctx context.Context, name, id string, until time.Time) error {
	if err := check(ctx, name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.version(name, id)
	if v == nil {
		return blob.ErrNotFound
	}
	v.extend(until)
	return nil
}

func (v *version) extend(until time.Time) {
	if until.After(v.lockedUntil) {
		v.lockedUntil = until
	}
}

// Versions implements blob.Versioned. A name that never existed has no versions, which is no error.
func (s *Store) Versions(ctx context.Context, name string) iter.Seq2[blob.Version, error] {
	return func(yield func(blob.Version, error) bool) {
		if err := check(ctx, name); err != nil {
			yield(blob.Version{}, err)
			return
		}
		s.yieldVersions([]string{name}, yield)
	}
}

// ListVersions implements blob.Versioned. It lists the names that exist when it is called.
func (s *Store) ListVersions(ctx context.Context, prefix string) iter.Seq2[blob.Version, error] {
	return func(yield func(blob.Version, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(blob.Version{}, err)
			return
		}
		s.yieldVersions(s.names(prefix), yield)
	}
}

func (s *Store) names(prefix string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var names []string
	for name := range s.objects {
		if strings.HasPrefix(name, prefix) && !s.hidden[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (s *Store) yieldVersions(names []string, yield func(blob.Version, error) bool) {
	for _, name := range names {
		for _, v := range s.versionsOf(name) {
			if !yield(v, nil) {
				return
			}
		}
	}
}

func (s *Store) versionsOf(name string) []blob.Version {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o := s.objects[name]
	if o == nil {
		return nil
	}
	var all []blob.Version
	for i, v := range slices.Backward(o.versions) {
		all = append(all, blob.Version{
			Name: name, ID: v.id, Size: int64(len(v.data)), Current: o.current && i == len(o.versions)-1, LockedUntil: v.lockedUntil,
		})
	}
	return all
}

// ReadVersion implements blob.Versioned.
func (s *Store) ReadVersion(ctx context.Context, name, id string, offset int64, p []byte) (int, error) {
	if err := check(ctx, name); err != nil {
		return 0, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.version(name, id)
	if v == nil {
		return 0, blob.ErrNotFound
	}
	return copyFrom(v.data, offset, p), nil
}

// version returns one version, nil if there is none. s.mu is held.
func (s *Store) version(name, id string) *version {
	o := s.objects[name]
	if o == nil {
		return nil
	}
	i := slices.IndexFunc(o.versions, func(v version) bool { return v.id == id })
	if i < 0 {
		return nil
	}
	return &o.versions[i]
}

// currentVersion returns a copy of the version; its bytes are never changed in place.
func (s *Store) currentVersion(ctx context.Context, name string) (version, error) {
	if err := check(ctx, name); err != nil {
		return version{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	o := s.objects[name]
	if o == nil || !o.current {
		return version{}, blob.ErrNotFound
	}
	return *o.last(), nil
}

func (o *object) last() *version { return &o.versions[len(o.versions)-1] }

func (v *version) info(name string) blob.Info {
	return blob.Info{Name: name, Size: int64(len(v.data)), LockedUntil: v.lockedUntil}
}

func check(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return blob.CheckName(name)
}

func copyFrom(data []byte, offset int64, p []byte) int {
	if offset < 0 || offset >= int64(len(data)) {
		return 0
	}
	return copy(p, data[offset:])
}
