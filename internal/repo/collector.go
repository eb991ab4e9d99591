package repo

import (
	"context"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/collect"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// Collector finds and deletes what no restore point of a repository needs. Nothing else can delete: the right to do so is the
// blob.Remover that it is made with.
type Collector struct {
	r       *Repository
	remover blob.Remover
}

// NewCollector returns the collector of an open repository. remover must remove from the repository's store.
func NewCollector(r *Repository, remover blob.Remover) *Collector { return &Collector{r, remover} }

// The parts of a collection that callers meet.
type (
	// CollectOptions tell what a collection may do. The zero value gives up no session and repacks under the default rule.
	CollectOptions = collect.Options
	// CollectRule says which packs are worth being repacked.
	CollectRule = collect.Rule
	// CollectProgress is how far a collection has come.
	CollectProgress = collect.Progress
	// Collected is what a collection did or is going to do.
	Collected = collect.Result
	// CollectPlan is what a collection is going to do. Execute does it, once.
	CollectPlan = collect.Plan
)

// The steps of a collection, for progress.
const (
	CollectMarks   = collect.StepMark   // restore points
	CollectMoves   = collect.StepMove   // bytes
	CollectDeletes = collect.StepDelete // objects
)

// DefaultCollectRule returns the rule of a collection that is given none.
func DefaultCollectRule() CollectRule { return collect.DefaultRule() }

// Plan reads what the visible points need and decides what is worth doing. It changes nothing. A repository whose log, index or
// pack lists are damaged is KindCorrupt: nobody can tell what is needed there.
func (c *Collector) Plan(ctx context.Context, o CollectOptions) (*CollectPlan, error) {
	return collect.NewPlan(ctx, c.config(), o)
}

// Collect plans and executes, and starts anew when another collection comes between. It may be ended at any moment: the next one
// finishes what it began. A repository that another installation owns is KindRefused.
func (c *Collector) Collect(ctx context.Context, o CollectOptions) (Collected, error) {
	if err := c.r.oplog.MayWrite(ctx); err != nil { // leftovers of what was swept go without an entry
		return Collected{}, err
	}
	result, err := collect.Run(ctx, c.config(), o)
	if err == nil {
		c.r.checkpoint(ctx)
	}
	return result, err
}

func (c *Collector) config() collect.Config {
	return collect.Config{
		Store: c.r.store, Remover: c.remover, Log: c.r.oplog, Clock: c.r.clock, Repository: collected{c.r},
		Ring: c.r.ring, Codec: c.r.codec, Hasher: c.r.hasher, ID: c.r.id, Parameters: c.r.params,
	}
}

// collected is a repository as a collection sees it.
type collected struct{ r *Repository }

// Disks implements collect.Repository.
func (c collected) Disks(ctx context.Context, p oplog.PointState) ([]collect.Disk, error) {
	point, err := c.r.readManifest(ctx, p)
	if err != nil {
		return nil, err
	}
	var disks []collect.Disk
	for _, d := range point.Disks {
		top, err := manifest.Top(d)
		if err != nil {
			return nil, err
		}
		disks = append(disks, collect.Disk{Top: top, Levels: tree.NewShape(d.SizeBytes, c.r.params).Height(), SizeBytes: d.SizeBytes})
	}
	return disks, nil
}

// LoadNode implements collect.Repository.
func (c collected) LoadNode(ctx context.Context, id chunk.ID, place *chunk.Place, level int) (*tree.Node, error) {
	return c.r.loadNode(ctx, id, place, level)
}

// ReadFrame implements collect.Repository.
func (c collected) ReadFrame(ctx context.Context, place *chunk.Place, target, stored []byte) (plain, scratch []byte, err error) {
	return c.r.readFrame(ctx, place, target, stored)
}

// Places implements collect.Repository.
func (c collected) Places(ctx context.Context, state oplog.State, id chunk.ID) ([]*chunk.Place, error) {
	live, err := c.r.runs.live(ctx, state)
	if err != nil {
		return nil, err
	}
	return places(ctx, live, id)
}

// IndexWhole implements collect.Repository.
func (c collected) IndexWhole(ctx context.Context, state oplog.State) error {
	for i, name := range state.Runs {
		if _, err := c.r.runs.reader.MustOpen(ctx, aboutRun(name, state.AboutRun(i))); err != nil {
			return err
		}
	}
	return nil
}

// AddRun implements collect.Repository.
func (c collected) AddRun(ctx context.Context, session holdfast.SessionID, state oplog.State, places []collect.Located) (oplog.Entry, error) {
	entries := make([]index.Entry, len(places))
	for i, l := range places {
		pack, err := index.PackOf(l.Place.Pack.Name())
		if err != nil {
			return oplog.Entry{}, err
		}
		entries[i] = index.Entry{ID: l.ID, Pack: pack, Offset: uint32(l.Place.Offset), Stored: uint32(l.Place.Stored), Slot: uint16(l.Place.Slot)}
	}
	merger, err := c.r.merger(session, nil, state)
	if err != nil {
		return oplog.Entry{}, err
	}
	change := index.NewChange(nil)
	err = change.Add(ctx, merger, entries)
	return changeOf(change).in(oplog.Entry{}), err
}

// CleanRuns implements collect.Repository.
func (c collected) CleanRuns(ctx context.Context, session holdfast.SessionID, state oplog.State) (oplog.Entry, error) {
	change, err := c.r.rewriteRuns(ctx, session, state)
	return change.in(oplog.Entry{}), err
}

// RemoveOptions tell how points are removed.
type RemoveOptions struct {
	DryRun bool // only tell what would be freed
}

// Removal is what Remove did or would do.
type Removal struct {
	Points     []holdfast.PointID
	FreesBytes int64 // of a dry run: stored bytes that nothing would need any more, roughly
}

// Remove makes points invisible, all in one log entry: all of them or none. Each is named by its id or a beginning of it. One that does
// not exist is KindNotFound, one that a running backup builds on KindConflict. Storage is freed by the next collection.
func (r *Repository) Remove(ctx context.Context, points []holdfast.PointID, o RemoveOptions) (Removal, error) {
	if err := r.Refresh(ctx); err != nil {
		return Removal{}, err
	}
	var removal Removal
	for _, given := range points {
		id, err := r.ResolvePoint(given)
		if err != nil {
			return Removal{}, err
		}
		if !slices.Contains(removal.Points, id) {
			removal.Points = append(removal.Points, id)
		}
	}
	if len(removal.Points) == 0 {
		return Removal{}, holdfast.Errorf(holdfast.KindInvalid, "no restore point is named").WithField("point").
			WithHint("list what there is with: holdfast repo points --repo %s", r.URL())
	}
	if err := r.mayGo(ctx, removal.Points); err != nil {
		return Removal{}, err
	}
	entry := oplog.Entry{Kind: oplog.Remove, Points: removal.Points}
	if o.DryRun {
		state := r.oplog.State()
		if err := state.Allowed(entry); err != nil {
			return Removal{}, err
		}
		var err error
		removal.FreesBytes, err = collect.Frees(ctx, NewCollector(r, nil).config(), removal.Points)
		return removal, err
	}
	_, err := r.oplog.Append(ctx, func(oplog.State) (oplog.Entry, error) { return entry, nil })
	if err != nil {
		return Removal{}, err
	}
	r.checkpoint(ctx)
	return removal, nil
}
