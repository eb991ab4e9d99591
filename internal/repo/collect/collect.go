package collect

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// Repository is what a collection asks of an open repository beyond its store and its log. Damage, a missing object included, is
// an error that stored.IsDamage knows.
type Repository interface {
	// Disks returns the maps of a point's disks.
	Disks(ctx context.Context, p oplog.PointState) ([]Disk, error)
	// LoadNode returns the node of that id from that place and from nowhere else.
	LoadNode(ctx context.Context, id chunk.ID, place *chunk.Place, level int) (*tree.Node, error)
	// ReadFrame returns a frame's payload, in target's memory where it fits.
	ReadFrame(ctx context.Context, place *chunk.Place, target, stored []byte) (plain, scratch []byte, err error)
	// Places returns all places that the index of a state knows of an id.
	Places(ctx context.Context, state oplog.State, id chunk.ID) ([]*chunk.Place, error)
	// IndexWhole returns an error when a live run of a state cannot be used.
	IndexWhole(ctx context.Context, state oplog.State) error
	// AddRun stores an index run for a session and returns what the entry says that makes it live.
	AddRun(ctx context.Context, session holdfast.SessionID, state oplog.State, entries []Located) (oplog.Entry, error)
	// CleanRuns stores what replaces the live runs that name packs condemned in a state, and returns what the entry says that
	// does so.
	CleanRuns(ctx context.Context, session holdfast.SessionID, state oplog.State) (oplog.Entry, error)
}

// Located is an id and where it lies now.
type Located struct {
	ID    chunk.ID
	Place chunk.Place
}

// Disk is a disk's map.
type Disk struct {
	Top       tree.Child
	Levels    int
	SizeBytes int64
}

// Config is what a collection works on.
type Config struct {
	Store      blob.Store
	Remover    blob.Remover // nil: plans alone
	Log        *oplog.Log
	Clock      clock.Clock
	Repository Repository
	Ring       *keys.Ring
	Codec      *seal.Codec
	Hasher     *chunk.Hasher
	ID         keys.RepositoryID
	Parameters layout.Parameters
}

// Options tell what a collection may do.
type Options struct {
	// GiveUpAfter abandons open sessions that began longer ago by the clock of who began them, so that what they left can go; 0
	// abandons none. It is safe at any age: an abandoned session cannot publish. One that still works then has worked in vain.
	GiveUpAfter time.Duration
	Rule        Rule           // zero means DefaultRule
	Progress    func(Progress) // optional; called from several goroutines
}

// Progress is how far a step has come.
type Progress struct {
	Step  Step
	Done  int64
	Total int64 // 0 while it is not known
}

// Step is a part of a collection, for progress.
type Step string

// The steps.
const (
	StepMark   Step = "mark"   // restore points
	StepMove   Step = "move"   // bytes
	StepDelete Step = "delete" // objects
)

// Result is what a collection did, or, from Plan.Result, is going to do.
type Result struct {
	Freed     Amount               // objects that were deleted, and by how many bytes more than what was moved
	Moved     Amount               // packs that what is needed was moved out of, and the bytes that were moved
	Gathered  Amount               // of these, packs that were moved to put newest points in the order of reading
	Locked    LockedAmount         // needed by nobody, and kept since a lock holds it
	Waiting   LockedAmount         // condemned, and not deleted because a lock holds it
	Protected Amount               // needed by no point, and written by sessions that are open
	GivenUp   []holdfast.SessionID // sessions that were abandoned
	Damaged   []holdfast.PointID   // points that are damaged: all that they may need is kept
	Scattered []Scattered          // the newest points of all machines
	Points    int                  // visible
	Packs     int
	Stored    int64 // bytes of all objects but log entries, before
	Foreign   int   // objects that do not belong to a repository: they are left alone
}

// Amount is a number of objects and their bytes.
type Amount struct {
	Objects int
	Bytes   int64
}

func (a *Amount) add(bytes int64) { a.Objects, a.Bytes = a.Objects+1, a.Bytes+bytes }

// LockedAmount is an amount with the time when the first and the last of its locks end.
type LockedAmount struct {
	Amount
	First, Last time.Time
}

func (a *LockedAmount) add(bytes int64, until time.Time) {
	a.Amount.add(bytes)
	if a.First.IsZero() || until.Before(a.First) {
		a.First = until
	}
	if until.After(a.Last) {
		a.Last = until
	}
}

// Scattered says how scattered a point lies in the store.
type Scattered struct {
	Point       holdfast.PointID
	Bytes       int64 // of its disks that were looked at: stored chunks that no other newest point has
	Packs       int
	Seeks       int // how often a reader must go on elsewhere than where it is
	SeeksPerGiB float64
}

// errStale says that the log went on in a way that a plan did not foresee.
var errStale = holdfast.Errorf(holdfast.KindConflict, "another collection came between").WithHint("run again")

// triesMax bounds how often a collection starts anew because others condemned something meanwhile.
const triesMax = 8

// Run plans and executes until nobody interferes.
func Run(ctx context.Context, c Config, o Options) (Result, error) {
	for range triesMax {
		plan, err := NewPlan(ctx, c, o)
		if err != nil {
			return Result{}, err
		}
		result, err := plan.Execute(ctx)
		if !errors.Is(err, errStale) {
			return result, err
		}
	}
	return Result{}, busy(c)
}

func busy(c Config) error {
	return holdfast.Errorf(holdfast.KindConflict, "other collections are at work on %s", c.Store.URL()).WithHint("run again when they are done")
}

// Execute does what was planned. A plan is executed once. After an error some of it may be done; the next collection does the rest.
func (p *Plan) Execute(ctx context.Context) (Result, error) {
	if err := p.finishEarlier(ctx); err != nil {
		return Result{}, err
	}
	if err := p.giveUp(ctx); err != nil {
		return Result{}, err
	}
	if p.isIdle() {
		return p.result, errors.Join(p.sweepLost(ctx), p.dropExpired(ctx))
	}
	if err := p.begin(ctx); err != nil {
		return Result{}, err
	}
	if err := p.unlessStale(ctx, p.work(ctx)); err != nil {
		return Result{}, errors.Join(err, p.leave(context.WithoutCancel(ctx), err))
	}
	if err := p.sweep(ctx); err != nil {
		return Result{}, err
	}
	err := errors.Join(p.sweepLost(ctx), p.dropExpired(ctx))
	p.result.Freed.Bytes -= p.result.Moved.Bytes
	return p.result, err
}

// work is what happens inside the collection's session.
func (p *Plan) work(ctx context.Context) error {
	if err := p.move(ctx); err != nil {
		return err
	}
	if err := p.condemn(ctx); err != nil {
		return err
	}
	return p.end(ctx)
}

// lists reads lists.
func (c Config) lists() packlist.Source {
	return func(ctx context.Context, name string) ([]byte, error) {
		return stored.Read(ctx, c.Store, name, layout.ListBytesMax)
	}
}
