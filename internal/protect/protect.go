// Package protect is the share of one machine in a session: it makes the points that the session is to make of it, lets the
// machine's older points go, and ends the item.
//
// It promises that it may be run again from its first step at any time, by this process or another: every step finds what is there
// by the names that were written down before anything was made. A worker whose claim was given up writes nothing more. When an
// item is done, each point that it made is whole and written down, and nothing else of its work is left in the cloud but
// what is written down as going.
//
// What is to be made was decided by package plan; which flags a point takes and how long it stays, by the engines. The flows behind
// the ports do the work (doc/design/server.md, "A session's item").
package protect

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// Flows make what points are made of.
type Flows interface {
	// PrepareSnapshots chooses the names of a set. It makes nothing.
	PrepareSnapshots(ctx context.Context, vm holdfast.ResourceID, o work.SnapshotOrder) (holdfast.SnapshotSet, error)
	// MakeSnapshots makes a set that is written down; it may be asked again. After an error RemoveSnapshots is to be called. Warnings are sentences for
	// people, and are there beside an error too.
	MakeSnapshots(ctx context.Context, o work.MakeOrder) (set holdfast.SnapshotSet, warnings []string, err error)
	// RemoveSnapshots removes what bears the set's names.
	RemoveSnapshots(ctx context.Context, set holdfast.SnapshotSet) error
	// Backup reads a set into a repository. Asked again for a set that was read, it returns the point that there is.
	Backup(ctx context.Context, o work.BackupOrder) (holdfast.BackupResult, error)
	// Archive copies a backup into another repository. Asked again for one that was copied, it returns the point that there is.
	Archive(ctx context.Context, o work.ArchiveOrder) (holdfast.BackupResult, error)
}

// Ager lets the points of a machine go.
type Ager interface {
	// Close is the closing step of a session. What could not be done now is told in sentences, and done by the daily pass.
	Close(ctx context.Context, vm holdfast.ResourceID, session holdfast.RunID) (warnings []string, err error)
}

// Config says what to work with. All fields but Closed are required.
type Config struct {
	Database *database.DB
	Flows    Flows
	Aging    Ager
	Clock    clock.Clock
	Log      *slog.Logger
	Closed   store.Closed // hears of sessions that end with an item
	// WatchEvery is how often the progress of an item is written down, and looked whether its session is to stop; 0 for never.
	WatchEvery time.Duration
	// Random gives the bytes that tell points of one second apart; nil for the system's.
	Random func() [4]byte
}

// Protector works on items. Its methods may be called for different items at once.
type Protector struct {
	config   Config
	intended protection.Cache
}

// New makes it.
func New(config Config) *Protector {
	if config.Random == nil {
		config.Random = func() (random [4]byte) {
			_, _ = rand.Read(random[:]) // it never fails
			return random
		}
	}
	return &Protector{config: config}
}

// Item does the share of one machine in a session, whatever an earlier worker left of it. It returns an error only when that could
// not be written down; then it is to be called again. What the work came to is in the item.
func (p *Protector) Item(ctx context.Context, session holdfast.RunID, vm holdfast.ResourceID) error {
	i, claimed, err := p.claim(ctx, session, vm)
	if err != nil || !claimed {
		return err
	}
	i.watched(ctx, i.makePoints)
	if ctx.Err() != nil && !i.stopping {
		return ctx.Err() // this process ends: another one goes on from what is written down
	}
	if err := i.stillMine(ctx); err != nil {
		return err // another worker reads what the closing step would let go
	}
	i.letOthersGo(ctx)
	if ctx.Err() != nil && !i.stopping {
		return ctx.Err()
	}
	return i.end(ctx)
}

// item is one under way.
type item struct {
	p     *Protector
	c     store.Claimed
	state *protection.State

	policy  holdfast.PolicyCommon
	kind    holdfast.PolicyKind
	rules   retention.Rules
	refused string // why no point can be made of the machine

	noSource error         // why this attempt has no snapshots to read from
	failed   []plan.Making // that this attempt could not make
	failure  error         // of the last of them
	refusal  bool          // nothing would change by trying again
	warnings []string
	stopping bool
	meter    meter
}

// claim takes the item, and reads what it needs to know.
func (p *Protector) claim(ctx context.Context, session holdfast.RunID, vm holdfast.ResourceID) (i *item, claimed bool, err error) {
	err = p.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		i = &item{p: p, meter: meter{clock: p.config.Clock}}
		if i.c, claimed, err = store.ClaimItem(ctx, tx, session, vm, p.now()); err != nil || !claimed {
			return err
		}
		if i.state, err = p.intended.Load(ctx, tx); err != nil {
			return err
		}
		i.stopping = i.c.Session.Stopping
		i.policy, i.kind, _ = i.state.Policy(i.c.Session.Policy)
		i.policy.Name = i.c.Session.Policy // it may have been removed meanwhile; its points are its own all the same
		if i.rules, err = i.state.Rules(vm); err != nil {
			return err
		}
		if seen, there := i.state.Machine(vm); there {
			i.refused = seen.Refusal()
		}
		return nil
	})
	return i, claimed, err
}

func (p *Protector) now() time.Time { return p.config.Clock.Now().UTC().Truncate(time.Millisecond) }

// makePoints makes one point after the other. What cannot be made does not keep the others from being made, unless a person stopped the
// session: then none is.
func (i *item) makePoints(ctx context.Context) {
	for _, m := range i.c.Makes {
		if i.stopped(ctx) {
			i.fail(ctx, m, errStopped)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if err := i.makePoint(ctx, m); err != nil {
			i.fail(ctx, m, err)
		}
	}
}

func (i *item) makePoint(ctx context.Context, m plan.Making) error {
	if err := i.began(ctx, m); err != nil {
		return err
	}
	if i.refused != "" {
		return &refusedError{i.refused}
	}
	switch m.Kind {
	case holdfast.PointSnapshot:
		_, err := i.snapshot(ctx, m)
		return err
	case holdfast.PointBackup:
		return i.backup(ctx, m)
	case holdfast.PointArchive:
		return i.archive(ctx, m)
	}
	return holdfast.Errorf(holdfast.KindInternal, "points of kind %q are not known", m.Kind)
}

// refusedError says that a point cannot be made, and will not be by trying again.
type refusedError struct{ why string }

func (e *refusedError) Error() string { return e.why }

// letOthersGo lets the machine's older points go: the closing step of a session.
func (i *item) letOthersGo(ctx context.Context) {
	warnings, err := i.p.config.Aging.Close(ctx, i.c.VM, i.c.Session.ID)
	if err != nil {
		// best effort: the daily pass does it.
		i.p.config.Log.WarnContext(ctx, "retention did not run", "machine", string(i.c.VM), "error", err)
		i.warnings = append(i.warnings, "retention did not run at the close of the session; the daily pass does it")
	}
	i.warnings = append(i.warnings, warnings...)
}
