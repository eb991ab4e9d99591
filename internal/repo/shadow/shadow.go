// Package shadow reads through what others put over a repository's objects.
//
// On a store that keeps versions, somebody with all rights on the data can overwrite an object, which makes a newer version,
// or delete it, which leaves the versions; what is locked he cannot remove. A Store answers from a version that proves
// itself: of an object that is named by its hash the newest, of a log entry the oldest, since nobody who follows the rules
// writes an entry that exists (doc/format.md §2).
//
// It promises: what has a version that proves itself is found, whatever lies over it, as far as a whole object was read or
// somebody has told that a part did not prove itself (Doubt). It must never write, and never answer with bytes of two
// versions in one call. It has no key, so an entry that a stranger wrote with a right checksum passes here; the log's MAC
// finds it.
package shadow

import (
	"context"
	"crypto/sha256"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Store is a blob.Store that sees through shadows. Safe for concurrent use.
type Store struct {
	blob.Store
	versions blob.Versioned
	entry    func(stored []byte, n uint64) error // of nil for bytes that prove themselves as log entry n

	mu       sync.Mutex
	answers  map[string]blob.Version // guarded by mu: names that are answered from another version than the current one
	suspects map[string]bool         // guarded by mu: names with more than one version, or none that is current, still to be looked at
	hopeless map[string]string       // guarded by mu: names without a version that proves itself, with the newest version then
	surveyed bool                    // guarded by mu: the log was surveyed
	newest   uint64                  // guarded by mu: log entries below it were
}

// New returns a store that sees through shadows, or nil when store keeps no versions. entry judges the stored bytes of log
// entries.
func New(store blob.Store, entry func(stored []byte, n uint64) error) *Store {
	if s, ok := store.(*Store); ok {
		return s
	}
	versions, ok := store.(blob.Versioned)
	if !ok {
		return nil
	}
	return &Store{
		Store: store, versions: versions, entry: entry, answers: map[string]blob.Version{}, suspects: map[string]bool{}, hopeless: map[string]string{},
	}
}

// Survey lists the versions of all objects whose name begins with prefix and looks closer at those with more than one, or
// none that is current, when they are read. It is how shadows are found that a part of an object does not show. Without a
// survey of the log its newest entries would be taken as they lie on top.
func (s *Store) Survey(ctx context.Context, prefix string) error {
	for versions, err := range ByName(s.versions.ListVersions(ctx, prefix)) {
		if err != nil {
			return err
		}
		name := versions[0].Name
		kind, _ := layout.Parse(name)
		if kind == layout.Foreign {
			continue
		}
		s.mu.Lock()
		if len(versions) > 1 || !versions[0].Current {
			s.suspects[name] = true
		}
		if n, err := layout.ParseEntryName(name); err == nil && kind == layout.LogEntry {
			s.newest = max(s.newest, n+1)
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.surveyed = s.surveyed || strings.HasPrefix(layout.LogPrefix, prefix)
	return nil
}

// ByName groups versions that are listed in order of names.
func ByName(versions iter.Seq2[blob.Version, error]) iter.Seq2[[]blob.Version, error] {
	return func(yield func([]blob.Version, error) bool) {
		var held []blob.Version
		for v, err := range versions {
			if err != nil {
				yield(nil, err)
				return
			}
			if len(held) > 0 && held[0].Name != v.Name {
				if !yield(held, nil) {
					return
				}
				held = nil
			}
			held = append(held, v)
		}
		if len(held) > 0 {
			yield(held, nil)
		}
	}
}

// Shadowed returns the names that were read and are answered from another version than the current one, in order.
func (s *Store) Shadowed() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, slices.Sorted(maps.Keys(s.answers))...)
}

// Read implements blob.Reader.
func (s *Store) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	found, err := s.lookUp(ctx, name)
	if err != nil {
		return 0, err
	}
	if found.pinned {
		return s.versions.ReadVersion(ctx, name, found.answer.ID, offset, p)
	}
	n, err := s.Store.Read(ctx, name, offset, p)
	missing := errors.Is(err, blob.ErrNotFound)
	whole := err == nil && offset == 0 && n < len(p)
	if found.fresh || !missing && (!whole || s.proves(name, p[:n])) {
		return n, err
	}
	another, doubtErr := s.Doubt(ctx, name)
	if doubtErr != nil {
		return 0, doubtErr
	}
	if !another {
		return n, err
	}
	return s.Read(ctx, name, offset, p)
}

// Stat implements blob.Reader.
func (s *Store) Stat(ctx context.Context, name string) (blob.Info, error) {
	found, err := s.lookUp(ctx, name)
	if err != nil {
		return blob.Info{}, err
	}
	if found.pinned {
		return blob.Info{Name: name, Size: found.answer.Size, LockedUntil: found.answer.LockedUntil}, nil
	}
	info, err := s.Store.Stat(ctx, name)
	if found.fresh || !errors.Is(err, blob.ErrNotFound) {
		return info, err
	}
	another, doubtErr := s.Doubt(ctx, name)
	if doubtErr != nil {
		return blob.Info{}, doubtErr
	}
	if !another {
		return info, err
	}
	return s.Stat(ctx, name)
}

// List implements blob.Reader. It shows what is current; of a shadowed object, what it is answered from. Objects that others
// deleted are not shown: who needs one asks for it by name.
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for info, err := range s.Store.List(ctx, prefix) {
			if err == nil && s.isKnown(info.Name) {
				info, err = s.Stat(ctx, info.Name)
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// Put implements blob.Store. An object that exists under its hash is looked at: a stranger's bytes there are KindConflict. An
// entry that was put where another writer's lies, which somebody deleted meanwhile, is ErrExists: the older one counts.
func (s *Store) Put(ctx context.Context, name string, data []byte, opts blob.PutOptions) error {
	err := s.Store.Put(ctx, name, data, opts)
	kind, _ := layout.Parse(name)
	switch {
	case kind == layout.LogEntry && err == nil:
		return s.settleEntry(ctx, name)
	case kind == layout.LogEntry || kind == layout.Foreign || !errors.Is(err, blob.ErrExists):
		return err
	}
	present := make([]byte, len(data)+1)
	n, readErr := s.Read(ctx, name, 0, present)
	if readErr != nil {
		return readErr
	}
	if !s.proves(name, present[:n]) {
		return holdfast.Errorf(holdfast.KindConflict, "somebody put other bytes under %s, the name of a new object", name).
			WithHint("run again; if it happens again, somebody who may write to the storage works against you")
	}
	return err
}

// settleEntry looks whether an entry that was just put is the only one of its number.
func (s *Store) settleEntry(ctx context.Context, name string) error {
	older, err := s.Doubt(ctx, name)
	if err == nil && older {
		return blob.ErrExists
	}
	return err
}

// Doubt looks at all versions of an object and chooses the one that answers from now on. It reports whether that is another
// one than before, so that reading again is worth it. Who read a part of an object that does not prove itself calls it.
func (s *Store) Doubt(ctx context.Context, name string) (bool, error) {
	versions, err := s.VersionsOf(ctx, name)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	before, pinned := s.answers[name]
	known := len(versions) == 0 || s.hopeless[name] == versions[0].ID && !pinned
	s.mu.Unlock()
	alone := len(versions) == 1 && versions[0].Current && !pinned
	if known || alone {
		s.forget(name)
		return false, nil
	}
	if !pinned && versions[0].Current {
		before = versions[0]
	}
	chosen, ok, err := s.choose(ctx, name, versions)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.suspects, name)
	if !ok {
		s.hopeless[name] = versions[0].ID
		delete(s.answers, name)
		return false, nil
	}
	if chosen.Current {
		delete(s.answers, name)
	} else {
		s.answers[name] = chosen
	}
	return chosen.ID != before.ID, nil
}

// choose returns the version of an object that counts; versions are newest first.
func (s *Store) choose(ctx context.Context, name string, versions []blob.Version) (blob.Version, bool, error) {
	order := versions
	if kind, _ := layout.Parse(name); kind == layout.LogEntry {
		order = slices.Clone(versions)
		slices.Reverse(order)
	}
	for _, v := range order {
		ok, err := s.versionProves(ctx, v)
		if err != nil || ok {
			return v, ok, err
		}
	}
	return blob.Version{}, false, nil
}

// Longest returns, of the versions of one object, the one that proves itself and is locked longest; none is false. An
// object with a single version is not read: whether it is sound is for verification to say.
func (s *Store) Longest(ctx context.Context, versions []blob.Version) (blob.Version, bool, error) {
	if len(versions) == 1 && versions[0].Current {
		return versions[0], true, nil
	}
	if len(versions) == 0 {
		return blob.Version{}, false, nil
	}
	if kind, _ := layout.Parse(versions[0].Name); kind == layout.LogEntry {
		return s.choose(ctx, versions[0].Name, versions)
	}
	order := slices.Clone(versions)
	slices.SortStableFunc(order, func(a, b blob.Version) int { return b.LockedUntil.Compare(a.LockedUntil) })
	return s.choose(ctx, versions[0].Name, order)
}

// VersionsOf returns the versions of one object, newest first.
func (s *Store) VersionsOf(ctx context.Context, name string) ([]blob.Version, error) {
	var versions []blob.Version
	for v, err := range s.versions.Versions(ctx, name) {
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	return versions, nil
}

// AllVersions yields the versions of each object whose name begins with prefix.
func (s *Store) AllVersions(ctx context.Context, prefix string) iter.Seq2[[]blob.Version, error] {
	return ByName(s.versions.ListVersions(ctx, prefix))
}

// found says how a name is answered.
type found struct {
	answer blob.Version // instead of the current one, where pinned
	pinned bool
	fresh  bool // all versions were looked at just now
}

// lookUp says how a name is answered. A suspect is looked at first, and so is a log entry that is newer than the survey.
func (s *Store) lookUp(ctx context.Context, name string) (found, error) {
	f, suspect := s.known(name)
	if f.pinned || !suspect {
		return f, nil
	}
	if _, err := s.Doubt(ctx, name); err != nil {
		return found{}, err
	}
	f, _ = s.known(name)
	f.fresh = true
	return f, nil
}

func (s *Store) known(name string) (f found, suspect bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.answer, f.pinned = s.answers[name]
	suspect = s.suspects[name]
	if n, err := layout.ParseEntryName(name); err == nil && s.surveyed && n >= s.newest {
		suspect = true
	}
	return f, suspect
}

func (s *Store) isKnown(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, pinned := s.answers[name]
	return pinned || s.suspects[name]
}

// forget takes a name for one that has nothing over it.
func (s *Store) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.suspects, name)
	delete(s.answers, name)
}

// proves reports whether the bytes of a whole object are what its name says. A foreign name says nothing.
func (s *Store) proves(name string, data []byte) bool {
	kind, hash := layout.Parse(name)
	switch kind {
	case layout.Foreign:
		return true
	case layout.LogEntry:
		n, err := layout.ParseEntryName(name)
		return err == nil && s.entry(data, n) == nil
	case layout.KeyObject, layout.State, layout.DataPack, layout.TreePack, layout.IndexRun, layout.Manifest, layout.List:
	}
	return layout.Sum(data) == hash
}

// pieceBytes is how much of a version is read at a time.
const pieceBytes = 1 << 20

func (s *Store) versionProves(ctx context.Context, v blob.Version) (bool, error) {
	kind, want := layout.Parse(v.Name)
	if kind == layout.Foreign || v.Size > kind.BytesMax() {
		return false, nil
	}
	var entry []byte
	hash, piece := sha256.New(), make([]byte, min(v.Size+1, pieceBytes))
	for offset := int64(0); ; {
		n, err := s.versions.ReadVersion(ctx, v.Name, v.ID, offset, piece)
		if errors.Is(err, blob.ErrNotFound) {
			return false, nil // gone since it was listed
		}
		if err != nil {
			return false, err
		}
		if kind == layout.LogEntry {
			entry = append(entry, piece[:n]...)
		} else {
			hash.Write(piece[:n])
		}
		if offset += int64(n); n < len(piece) {
			break
		}
	}
	if kind == layout.LogEntry {
		return s.proves(v.Name, entry), nil
	}
	return layout.Hash(hash.Sum(nil)) == want, nil
}

// Extended notes that a version's lock was moved, for what Stat says of it.
func (s *Store) Extended(name, version string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.answers[name]; ok && v.ID == version && until.After(v.LockedUntil) {
		v.LockedUntil = until
		s.answers[name] = v
	}
}
