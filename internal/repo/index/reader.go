package index

import (
	"context"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/cache"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
)

// Limits bound memory and shape the index. The zero value of a field stands for its default.
type Limits struct {
	RunEntries  int   // that a run has, about; see DefaultLimits
	Stride      int   // digits from a buffer to the next; see Plan
	OpenBytes   int64 // of the directories of open runs kept in memory
	FilterBytes int64 // of filters kept in memory; runs beyond are asked without
	BlockBytes  int64 // of blocks kept in memory
	AheadBytes  int   // that a merge reads ahead in all
}

// DefaultLimits keep an index within 190 MiB, whatever its size: 120 MiB of caches, what a merge reads ahead, and the run it makes. A run
// of 384 Ki entries has 30 MB, so that it fits the memory of a pack; 100 TiB of unique chunks need about 3,000 of them, whose directories
// all stay open within OpenBytes.
func DefaultLimits() Limits {
	return Limits{RunEntries: 384 << 10, Stride: 4, OpenBytes: 64 << 20, FilterBytes: 40 << 20, BlockBytes: 16 << 20, AheadBytes: 16 << 20}
}

// OrDefault returns l with zero fields replaced by their defaults.
func (l Limits) OrDefault() Limits {
	d := DefaultLimits()
	set := func(field *int64, value int64) {
		if *field == 0 {
			*field = value
		}
	}
	if l.RunEntries == 0 {
		l.RunEntries = d.RunEntries
	}
	if l.Stride == 0 {
		l.Stride = d.Stride
	}
	if l.AheadBytes == 0 {
		l.AheadBytes = d.AheadBytes
	}
	set(&l.OpenBytes, d.OpenBytes)
	set(&l.FilterBytes, d.FilterBytes)
	set(&l.BlockBytes, d.BlockBytes)
	return l
}

// Reader reads runs and keeps what it read within its limits, whatever the runs. Safe for concurrent use.
type Reader struct {
	store  blob.Reader
	ring   *keys.Ring
	codec  *seal.Codec
	limits Limits
	notice func(ctx context.Context, name string, err error)
	twice  func(ctx context.Context, name string, read func() error) error

	open    *cache.Cache[string, *Run]
	filters *cache.Cache[string, filter]
	blocks  *cache.Cache[blockKey, []byte]
	packs   *cache.Cache[Pack, *chunk.PackRef]

	mu       sync.Mutex       // guards the fields below
	unusable map[string]error // runs that cannot be opened
	told     map[string]bool  // runs that were told of
}

type blockKey struct {
	run   string
	block int
}

// packRefsMax is how many references to packs are kept: what one backup finds lies in few of them.
const packRefsMax = 16 << 10

// ReaderOptions tell where runs lie and what may be kept of them.
type ReaderOptions struct {
	Store  blob.Reader
	Ring   *keys.Ring
	Codec  *seal.Codec
	Limits Limits
	Notice func(ctx context.Context, name string, err error) // optional; called once for each run that is missing or damaged
	// Twice calls read, and once more when what it read of the object is damaged and there is something else to be read; nil calls it once.
	Twice func(ctx context.Context, name string, read func() error) error
}

// NewReader returns a reader that has read nothing.
func NewReader(o ReaderOptions) *Reader {
	limits := o.Limits.OrDefault()
	if o.Twice == nil {
		o.Twice = func(_ context.Context, _ string, read func() error) error { return read() }
	}
	return &Reader{
		store: o.Store, ring: o.Ring, codec: o.Codec, limits: limits, notice: o.Notice, twice: o.Twice, unusable: map[string]error{}, told: map[string]bool{},
		open:    cache.New[string](limits.OpenBytes, (*Run).memoryBytes),
		filters: cache.New[string](limits.FilterBytes, func(f filter) int64 { return int64(cap(f)) }),
		blocks:  cache.New[blockKey](limits.BlockBytes, func(b []byte) int64 { return int64(cap(b)) }),
		packs:   cache.New[Pack](packRefsMax, func(*chunk.PackRef) int64 { return 1 }),
	}
}

// Limits returns the reader's limits.
func (r *Reader) Limits() Limits { return r.limits }

// Kept is the memory that a reader holds on to, in bytes.
type Kept struct{ Open, Filters, Blocks int64 }

// Kept returns what the reader keeps at the moment.
func (r *Reader) Kept() Kept { return Kept{r.open.Used(), r.filters.Used(), r.blocks.Used()} }

// Open returns a run, nil when it is missing or damaged, which is noted.
func (r *Reader) Open(ctx context.Context, about About) (*Run, error) {
	run, err := r.MustOpen(ctx, about)
	if err != nil {
		return nil, r.passOver(ctx, about.Name, err)
	}
	return run, nil
}

// MustOpen returns a run. One that is missing or damaged is KindCorrupt or blob.ErrNotFound, this time and later.
func (r *Reader) MustOpen(ctx context.Context, about About) (*Run, error) {
	if err := r.Unusable(about.Name); err != nil {
		return nil, err
	}
	run, err := r.open.Get(ctx, about.Name, func() (run *Run, err error) {
		err = r.twice(ctx, about.Name, func() (err error) {
			run, err = r.read(ctx, about)
			return err
		})
		return run, err
	})
	if err != nil && stored.IsDamage(err) {
		r.mu.Lock()
		r.unusable[about.Name] = err
		r.mu.Unlock()
	}
	return run, err
}

// read reads a run's directory.
func (r *Reader) read(ctx context.Context, about About) (*Run, error) {
	var object *seal.Object
	var whole []byte
	var err error
	if about.Bytes > 0 {
		object, whole, err = seal.OpenSized(ctx, seal.Reading{Store: r.store, Name: about.Name, Size: about.Bytes, Ring: r.ring, Codec: r.codec})
	} else {
		object, err = seal.OpenObject(ctx, r.store, about.Name, r.ring, r.codec, layout.IndexRunBytesMax)
	}
	if err != nil {
		return nil, err
	}
	run, err := newRun(about.Name, r, object)
	if err != nil {
		return nil, err
	}
	if about.Entries > 0 && run.entries != about.Entries {
		return nil, seal.Damaged(about.Name, corrupt("it has %d entries, and the log says %d", run.entries, about.Entries))
	}
	return run, r.takeBlocks(run, whole)
}

// takeBlocks keeps the blocks of a run that was read whole.
func (r *Reader) takeBlocks(run *Run, whole []byte) error {
	if whole == nil {
		return nil
	}
	for i := range run.firsts {
		f := run.frame(i)
		records, err := run.open(i, nil, whole[f.offset:f.offset+f.stored])
		if err != nil {
			return err
		}
		r.blocks.Put(blockKey{run.name, i}, records)
	}
	return nil
}

// filter returns a run's filter, which is kept in memory.
func (r *Reader) filter(ctx context.Context, run *Run) (filter, error) {
	return r.filters.Get(ctx, run.name, func() (filter, error) { return run.readFilter(ctx) })
}

// Unusable returns why a run was passed over, nil if it was not.
func (r *Reader) Unusable(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unusable[name]
}

// passOver tells of a run that is missing or damaged, once, and returns errors that say something else.
func (r *Reader) passOver(ctx context.Context, name string, err error) error {
	if err == nil || !stored.IsDamage(err) {
		return err
	}
	r.mu.Lock()
	known := r.told[name]
	r.told[name] = true
	r.mu.Unlock()
	if !known && r.notice != nil {
		r.notice(ctx, name, err)
	}
	return nil
}

// placeOf returns what a record says.
func (r *Reader) placeOf(ctx context.Context, record []byte) (*chunk.Place, error) {
	e := parseRecord(record)
	pack, err := r.packs.Get(ctx, e.Pack, func() (*chunk.PackRef, error) { return chunk.NamedPack(e.Pack.Name()), nil })
	if err != nil {
		return nil, err
	}
	return &chunk.Place{Pack: pack, Offset: int64(e.Offset), Stored: int(e.Stored), Slot: int(e.Slot)}, nil
}
