// Package proof is the health check: the backups of a policy read again in their repositories, and what that says of each machine.
//
// It promises that a point counts as proven only by a reading that came after it was written, that a point which is hit by damage is good no
// more until a later check finds it whole, that the SLA ledger hears of both, and that a check may be run again from its beginning, by another
// process too. It changes nothing in a repository but the log of what was proven.
//
// Snapshots are no part of it: nothing can be read in them that a backup of them does not say better.
package proof

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Level is what a check proves: complete and decryptable, every chunk there and authentic.
const Level = 2

// Prover reads repositories.
type Prover interface {
	// Prove reads all of a repository, notes in its log what was found, and returns the points that damage has hit.
	Prove(ctx context.Context, repository string) (Found, error)
}

// Found is what a reading found.
type Found struct {
	Bytes   int64 // that were read
	Damaged []holdfast.PointID
}

// Config says what to work with. All fields but WatchEvery are required.
type Config struct {
	Database *database.DB
	Prover   Prover
	Clock    clock.Clock
	Log      *slog.Logger
	Closed   store.Closed
	// WatchEvery is how often a check looks whether it is to stop; 0 for never.
	WatchEvery time.Duration
}

// Proof checks. Its methods may be called for different sessions at once.
type Proof struct {
	config   Config
	intended protection.Cache
}

// New makes it.
func New(config Config) *Proof { return &Proof{config: config} }

func (p *Proof) now() time.Time { return p.config.Clock.Now().UTC().Truncate(time.Millisecond) }

// errStopped ends a check that a person stopped.
var errStopped = errors.New("a person stopped the session")

// Check checks the points of a session's policy. It returns an error only when it is to be called again.
func (p *Proof) Check(ctx context.Context, session holdfast.RunID) error {
	c, over, err := p.begin(ctx, session)
	if err != nil || over {
		return err
	}
	working, end := context.WithCancelCause(ctx)
	defer end(nil)
	go c.watch(working, end)
	for _, repository := range c.repositories() {
		if err := c.prove(working, repository); err != nil {
			if !errors.Is(context.Cause(working), errStopped) {
				return err
			}
			c.stopped = true
			break
		}
	}
	return c.end(ctx)
}

// check is one under way.
type check struct {
	proof    *Proof
	session  holdfast.Session
	state    *protection.State
	points   []store.Point            // that are to be proven
	failures map[string]machineResult // by the key of the machine
	stopped  bool
}

// machineResult is what a check has to say of a machine, if all is not well.
type machineResult struct {
	outcome holdfast.Outcome
	message string
	hint    string
}

// begin reads what is to be proven, and writes the share of each machine down.
func (p *Proof) begin(ctx context.Context, id holdfast.RunID) (c *check, over bool, err error) {
	err = p.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		c = &check{proof: p, failures: map[string]machineResult{}}
		if c.session, err = store.SessionOf(ctx, tx, id); err != nil {
			return err
		}
		if over = c.session.State == holdfast.StateDone; over {
			return nil
		}
		c.stopped = c.session.Stopping
		if err := store.StartSession(ctx, tx, id, p.now()); err != nil {
			return err
		}
		if c.state, err = p.intended.Load(ctx, tx); err != nil {
			return err
		}
		all, err := store.Points(ctx, tx, store.PointFilter{Policy: c.session.Policy, Kinds: []holdfast.PointKind{holdfast.PointBackup, holdfast.PointArchive}}, store.Page{})
		if err != nil {
			return err
		}
		var items []store.NewItem
		for _, point := range all {
			if c.session.Region != "" && point.Region != c.session.Region {
				continue
			}
			c.points = append(c.points, point)
			if !slices.ContainsFunc(items, func(i store.NewItem) bool { return i.VM.Equal(point.VM) }) {
				items = append(items, store.NewItem{VM: point.VM, Region: point.Region})
			}
		}
		return store.AddItems(ctx, tx, id, items)
	})
	return c, over, err
}

// watch looks whether a person stops the session, until the work ends.
func (c *check) watch(ctx context.Context, end context.CancelCauseFunc) {
	if c.proof.config.WatchEvery == 0 {
		return
	}
	for c.proof.config.Clock.Sleep(ctx, c.proof.config.WatchEvery) == nil {
		err := c.proof.config.Database.Read(ctx, func(ctx context.Context, q store.Query) error {
			s, err := store.SessionOf(ctx, q, c.session.ID)
			if err == nil && s.Stopping {
				end(errStopped)
			}
			return err
		})
		if err != nil && ctx.Err() == nil { // best effort: the next look is soon
			c.proof.config.Log.WarnContext(ctx, "a health check could not look whether it is to stop", "error", err)
		}
	}
}

// repositories are those with a point that this session has not proven yet, by name.
func (c *check) repositories() []string {
	if c.stopped {
		return nil
	}
	var names []string
	for _, p := range c.points {
		if p.ProofLevel < Level || p.Proved.Before(c.session.Queued) {
			names = append(names, p.Repository)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// prove reads one repository, and writes down what that says of its points.
func (c *check) prove(ctx context.Context, name string) error {
	spec, declared := c.state.Documents.Repository(name)
	switch {
	case !declared:
		return c.unread(ctx, name, holdfast.OutcomeError, "is not declared any more")
	case spec.Tier == holdfast.TierArchive:
		return c.unread(ctx, name, holdfast.OutcomeWarning, "is in the archive tier, which cannot be read at once")
	}
	began := c.proof.now()
	found, err := c.proof.config.Prover.Prove(ctx, name)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return c.unread(ctx, name, holdfast.OutcomeError, "could not be read: "+err.Error())
	}
	return c.proof.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error { return c.put(ctx, tx, name, began, found) })
}

// unread says of all machines with points in a repository that these were not proven.
func (c *check) unread(ctx context.Context, name string, outcome holdfast.Outcome, why string) error {
	level := holdfast.LogError
	if outcome == holdfast.OutcomeWarning {
		level = holdfast.LogWarning
	}
	for _, p := range c.points {
		if p.Repository == name {
			c.fail(p.VM, machineResult{outcome, "the repository " + name + " " + why, "look at it with: holdfast repository show " + name})
		}
	}
	line := holdfast.LogLine{Session: c.session.ID, At: c.proof.now(), Level: level, Text: "the repository " + name + " " + why}
	return c.proof.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error { return store.AppendLog(ctx, tx, line) })
}

// fail keeps the worst that is to be said of a machine.
func (c *check) fail(vm holdfast.ResourceID, r machineResult) {
	if before, known := c.failures[vm.Key()]; known && before.outcome.Worse(r.outcome) == before.outcome {
		return
	}
	c.failures[vm.Key()] = r
}

// put writes down what a reading says of the points of a repository.
func (c *check) put(ctx context.Context, tx database.Tx, name string, began time.Time, found Found) error {
	now, damaged, whole := c.proof.now(), 0, 0
	for _, known := range c.points {
		if known.Repository != name {
			continue
		}
		point, err := store.PointIn(ctx, tx, known.ID, name)
		if holdfast.IsKind(err, holdfast.KindNotFound) || err == nil && point.State != store.PointKept {
			continue // it went meanwhile
		}
		if err != nil {
			return err
		}
		event := sla.PointProven{At: now, Point: point.ID, Level: Level, OK: !slices.Contains(found.Damaged, point.ID), Proved: began}
		point.Good = event.OK
		if event.OK {
			point.ProofLevel, point.Proved = max(point.ProofLevel, Level), began
			whole++
		} else {
			point.ProofLevel, point.Proved = 0, time.Time{}
			damaged++
			c.fail(point.VM, machineResult{
				holdfast.OutcomeError, fmt.Sprintf("the %s %s in %s is damaged", point.Kind, point.ID, name), "the next backup writes again what is lost; see what is hit with: holdfast repo verify",
			})
		}
		if err := store.PutPoint(ctx, tx, point); err != nil {
			return err
		}
		if err := store.AppendLedger(ctx, tx, event); err != nil {
			return err
		}
	}
	line := holdfast.LogLine{Session: c.session.ID, At: now, Level: holdfast.LogInfo, Text: fmt.Sprintf("%s: %d bytes read, %d points are whole", name, found.Bytes, whole)}
	if damaged > 0 {
		line.Level, line.Text = holdfast.LogError, fmt.Sprintf("%s: %d bytes read, %d points are whole, %d are damaged", name, found.Bytes, whole, damaged)
	}
	return store.AppendLog(ctx, tx, line)
}

// end ends the share of each machine, and with the last one the session.
func (c *check) end(ctx context.Context) error {
	return c.proof.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		items, err := store.Items(ctx, tx, c.session.ID)
		if err != nil {
			return err
		}
		now := c.proof.now()
		for _, i := range items {
			claimed, ok, err := store.ClaimItem(ctx, tx, c.session.ID, i.VM, now)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if err := store.PutItem(ctx, tx, c.conclude(claimed.SessionItem, now)); err != nil {
				return err
			}
		}
		_, err = store.CloseSession(ctx, tx, c.session.ID, now, c.proof.config.Closed)
		return err
	})
}

// conclude says what the check came to for a machine.
func (c *check) conclude(i holdfast.SessionItem, now time.Time) holdfast.SessionItem {
	i.State, i.Outcome, i.Ended = holdfast.StateDone, holdfast.OutcomeSuccess, now
	if r, failed := c.failures[i.VM.Key()]; failed {
		i.Outcome, i.Message, i.Hint = r.outcome, r.message, r.hint
	}
	if c.stopped {
		i.Outcome, i.Message = holdfast.OutcomeStopped, "a person stopped the session"
	}
	return i
}
