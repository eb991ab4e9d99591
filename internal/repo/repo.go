// Package repo is the backup repository: the only door to the format of doc/format.md.
//
// It promises: a visible restore point is completely restorable; nothing is overwritten; many writers work at once without
// locks; storage and a key suffice to list, verify and restore. It must never delete (removing needs a type of its own,
// which only the collector holds), never trust a listing where safety is at stake, and never let a clock decide.
//
// The doors: Init and Open; Begin for a write session, which publishes one restore point or nothing; OpenPoint for reading;
// Verify for checking, with or without a key; RebuildIndex. The packages below are imported by this one alone.
package repo

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/access"
	"github.com/holdfast-backup/holdfast/internal/repo/cache"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/lock"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// Memory that an open repository may keep, beside the buffers of running sessions.
const (
	nodeCacheBytes  = 48 << 20
	frameCacheBytes = 64 << 20
	openPacksMax    = 4096
)

// Parameters are fixed when a repository is born.
type Parameters = layout.Parameters

// KDFCost is the cost of turning a password into a key; the zero value means the default.
type KDFCost = keys.KDFCost

// Repository is an open repository. Safe for concurrent use.
type Repository struct {
	store  *countingStore
	clock  clock.Clock
	tool   string
	log    *slog.Logger
	oplog  *oplog.Log
	ring   *keys.Ring
	hasher *chunk.Hasher
	codec  *seal.Codec
	id     keys.RepositoryID
	params layout.Parameters

	access *access.Opened

	openers *cache.Cache[string, *seal.Opener]
	frames  *cache.Cache[frameKey, []byte]
	nodes   *cache.Cache[chunk.ID, *tree.Node]
	runs    *runSet

	freshMax    int // index entries that a session keeps in memory
	packBuffers *seal.Buffers

	suspects *suspects
	moved    *movedPacks
}

type frameKey struct {
	pack   string
	offset int64
}

// InitOptions tell how a repository is born.
type InitOptions struct {
	Password    string
	VaultKey    string // https://VAULT/keys/NAME, used through Vault; instead of a Password
	Vault       Vault
	Unencrypted bool   // the key lies beside the data; Password and VaultKey must be empty then
	Label       string // of the first key slot
	Parameters  Parameters
	KDF         KDFCost
	Clock       clock.Clock
	Tool        string // name and version of the program, for manifests
}

// OpenOptions tell how a repository is opened.
type OpenOptions struct {
	Password     string
	Vault        Vault  // opens vault slots where there is no Password; nil for none
	Installation string // whom this writer belongs to; "" for nobody
	Clock        clock.Clock
	Tool         string
	Log          *slog.Logger // nil discards
	Index        IndexLimits  // of memory for the index; zero fields mean their defaults
	Compression  Compression  // of what is written; "" means CompressionDefault
}

// Compression is how much effort a writer spends on making data smaller.
type Compression = seal.Compression

// The efforts.
const (
	CompressionFast    = seal.CompressionFast
	CompressionDefault = seal.CompressionDefault
	CompressionBetter  = seal.CompressionBetter
)

// ParseCompression reads an effort's name. Anything else is KindInvalid and says what there is.
func ParseCompression(name string) (Compression, error) {
	switch c := Compression(name); c {
	case CompressionFast, CompressionDefault, CompressionBetter:
		return c, nil
	}
	return "", holdfast.Errorf(holdfast.KindInvalid, "the compression %q is not known", name).WithField("compression").WithHint("give fast, default or better")
}

// IndexLimits bound the memory for the index and say how it is cut.
type IndexLimits = index.Limits

// Init makes a repository in an empty folder of a store and opens it. An existing repository is KindConflict, a missing
// password or parameters out of range KindInvalid. After any other error Init may be called again.
func Init(ctx context.Context, store blob.Store, o InitOptions) (*Repository, error) {
	params := o.Parameters.OrDefault()
	if err := params.Validate(); err != nil {
		return nil, err
	}
	if err := o.KDF.Validate(); err != nil {
		return nil, err
	}
	if (o.Password == "" && o.VaultKey == "") != o.Unencrypted || o.Password != "" && o.VaultKey != "" {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "a repository is encrypted with a password or a vault key, or explicitly not encrypted").
			WithField("password").WithHint("give --password-file FILE (or HOLDFAST_REPO_PASSWORD), --vault-key URL, or --unencrypted")
	}
	id := keys.NewRepositoryID()
	ring := keys.NewRing(id)
	store, err := shadow.Open(ctx, store, oplog.ProvesItself, layout.LogEntry)
	if err != nil {
		return nil, err
	}
	if err := mustBeEmpty(ctx, store); err != nil {
		return nil, err
	}
	slotName, ringName, err := access.WriteFirst(ctx, store, id, ring, access.Birth{
		Unencrypted: o.Unencrypted, Vault: o.Vault, Created: o.Clock.Now(),
		Slot: access.NewSlot{Label: o.Label, Password: o.Password, VaultKey: o.VaultKey, KDF: o.KDF},
	})
	if err != nil {
		return nil, err
	}
	genesis := oplog.Entry{Repository: id, Format: layout.FormatVersion, Shape: &params, Slots: []string{slotName}, KeyRing: ringName}
	if err := oplog.Create(ctx, store, o.Clock, ring, genesis); err != nil {
		return nil, err
	}
	return Open(ctx, store, OpenOptions{Password: o.Password, Vault: o.Vault, Clock: o.Clock, Tool: o.Tool})
}

// mustBeEmpty refuses a store with a repository in it, also one that has lost its first entry. Keys that an Init left which died
// do not matter.
func mustBeEmpty(ctx context.Context, store blob.Store) error {
	_, err := store.Stat(ctx, layout.EntryName(0))
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	found := err == nil
	for _, err := range store.List(ctx, layout.LogPrefix) {
		if err != nil {
			return err
		}
		found = true
		break
	}
	if found {
		return holdfast.Errorf(holdfast.KindConflict, "there is a repository at %s already", store.URL()).
			WithHint("use it as it is, or choose an empty folder")
	}
	return nil
}

// Open opens a repository. No repository there is KindNotFound, a password that does not fit KindWrongKey, a repository of a
// newer version KindInvalid, damage that prevents opening KindCorrupt.
func Open(ctx context.Context, store blob.Store, o OpenOptions) (*Repository, error) {
	store, err := shadow.Open(ctx, store, oplog.ProvesItself, layout.LogEntry, layout.State, layout.IndexRun)
	if err != nil {
		return nil, err
	}
	entries, err := oplog.Open(ctx, store, o.Clock)
	if err != nil {
		return nil, err
	}
	state := entries.State()
	if err := state.Parameters.Validate(); err != nil {
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "the parameters of the repository are out of range")
	}
	unproven := entries.Unproven()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	counting := &countingStore{Store: store, added: new(atomic.Int64)}
	opened, err := access.Unlock(ctx, access.Options{
		Store: counting, Read: func(ctx context.Context, name string) ([]byte, error) {
			return readNamed(ctx, counting, name, layout.KeyObjectBytesMax)
		},
		Log: entries, Password: o.Password, Vault: o.Vault, Installation: o.Installation, Clock: o.Clock, Logger: o.Log,
		LockLike: func(ctx context.Context, added, others []string) error {
			return lock.Like(ctx, counting, added, others)
		},
	})
	if err != nil {
		if unproven != nil && (isDamage(err) || holdfast.IsKind(err, holdfast.KindWrongKey)) {
			return nil, unproven // a newer version may keep its keys in another way
		}
		return nil, err
	}
	state = entries.State() // less what proved to be a stranger's
	ring := opened.Ring
	r := &Repository{
		packBuffers: seal.NewBuffers(state.Parameters.FrameSize),
		store:       counting, clock: o.Clock, tool: o.Tool, log: o.Log, oplog: entries, ring: ring, id: state.Repository,
		access: opened, suspects: &suspects{names: map[string]bool{}}, moved: &movedPacks{},
		hasher: chunk.NewHasher(ring), codec: seal.NewCodec(runtime.GOMAXPROCS(0), o.Compression, state.Parameters.FrameSize), params: state.Parameters,
		openers: cache.New[string](openPacksMax, func(*seal.Opener) int64 { return 1 }),
		frames:  cache.New[frameKey](frameCacheBytes, func(b []byte) int64 { return int64(cap(b)) }),
		nodes:   cache.New[chunk.ID](nodeCacheBytes, (*tree.Node).MemoryBytes),
	}
	r.runs = newRunSet(r, o.Index)
	r.freshMax = min(freshEntriesMax, r.runs.reader.Limits().RunEntries/4)
	return r, nil
}

// readNamed reads an object and checks that it matches the hash in its name. A missing one is KindCorrupt: something that the
// log names must be there.
func readNamed(ctx context.Context, store blob.Reader, name string, limit int64) ([]byte, error) {
	var data []byte
	err := shadow.Twice(ctx, store, name, func() (err error) {
		data, err = stored.Read(ctx, store, name, limit)
		return err
	})
	return data, err
}

// ID returns the repository's id: 32 hex digits.
func (r *Repository) ID() string { return r.id.String() }

// Parameters returns what was fixed at birth.
func (r *Repository) Parameters() Parameters { return r.params }

// URL names the store for people, without secrets.
func (r *Repository) URL() string { return r.store.URL() }

// BytesAdded returns the bytes that this handle has added to the store, log entries included.
func (r *Repository) BytesAdded() int64 { return r.store.added.Load() }

// Refresh reads what others have written since. The other calls answer from the state read last.
func (r *Repository) Refresh(ctx context.Context) error {
	_, err := r.oplog.Sync(ctx)
	return err
}

// Damage returns the log entries that are missing or do not prove themselves. A repository with such damage can be read
// but not written.
func (r *Repository) Damage() []oplog.Problem { return r.oplog.Damage() }

// countingStore counts the bytes of objects that were really added.
type countingStore struct {
	blob.Store
	added  *atomic.Int64
	births *lock.Keeper // of what is put; nil for what is born without a lock
}

// Below implements shadow.Wrapper.
func (c *countingStore) Below() blob.Store { return c.Store }

// Put implements blob.Store.
func (c *countingStore) Put(ctx context.Context, name string, data []byte, o blob.PutOptions) error {
	var err error
	if c.births != nil {
		err = c.births.Put(ctx, name, data)
	} else {
		err = c.Store.Put(ctx, name, data, o)
	}
	if err == nil {
		c.added.Add(int64(len(data)))
	}
	return err
}

// put writes a new object under its hash. Its presence is no error: the name proves the content.
func (r *Repository) put(ctx context.Context, kind layout.Kind, data []byte) (string, error) {
	name := layout.Name(kind, layout.Sum(data))
	if limit := kind.BytesMax(); int64(len(data)) > limit { // nobody could read it
		return "", holdfast.Errorf(holdfast.KindInvalid, "the %s would have %d bytes, more than the %d that it may have", kind, len(data), limit)
	}
	err := r.store.Put(ctx, name, data, blob.PutOptions{})
	if errors.Is(err, blob.ErrExists) {
		return name, nil
	}
	return name, err
}
