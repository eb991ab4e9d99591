// Package scheduler lets time pass: it follows what people intend, advances the SLA ledger, asks the plan what is due, and writes
// down the sessions and jobs that carry it out.
//
// It promises that each tick is one transaction: what was decided and what follows from it are there together or not at all, so a
// crash leaves everything to the next tick. Several servers may tick the same database; one decides at a time, and each
// intent gets one session whoever decides. It takes no input: what a person asks for is a row that the next tick finds.
//
// It must never talk to Azure or to a repository, and decides nothing that an engine decides (doc/design/server.md, "The tick").
package scheduler

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Teller is told, in the transaction of a tick, what the ledger says that people are to hear of.
type Teller interface {
	// Missed is told of all expectations of which a tick learnt that they were missed: of each one once, in one call.
	Missed(ctx context.Context, tx database.Tx, missed []sla.Expectation) error
	// PeriodClosed is told of each entry of a chart that closed, with what each machine achieved in it, once.
	PeriodClosed(ctx context.Context, tx database.Tx, period sla.Compliance, machines []sla.MachineCompliance) error
}

// Config says what to work with. All fields but Closed and Teller are required.
type Config struct {
	Database *database.DB
	Jobs     jobs.Enqueuer
	Clock    clock.Clock
	Log      *slog.Logger
	NewID    func() holdfast.RunID
	Closed   store.Closed // hears of sessions that end because nothing is tried again
	Teller   Teller
	// DownAfter is how long no tick may be until nothing was running in between; 0 for ticks that come only when something is due.
	DownAfter time.Duration
}

// Scheduler decides what falls due. It is not for several goroutines at once.
type Scheduler struct {
	config Config
	// What is known from the tick before; nil when it has to be read anew.
	known  *protection.State
	ledger *store.LedgerState
}

// New makes a scheduler.
func New(config Config) *Scheduler { return &Scheduler{config: config} }

// snapshotEvery is how many events the ledger takes in between two snapshots of it: a start applies no more than these.
const snapshotEvery = 20_000

// Tick decides what has fallen due, and returns when something falls due next if nothing happens before; zero when nothing ever does. After an error nothing was
// decided.
func (s *Scheduler) Tick(ctx context.Context) (next time.Time, err error) {
	err = s.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		t := &tick{scheduler: s, tx: tx}
		for _, step := range []func(context.Context) error{
			t.begin, t.noteDowntime, t.takeInWhatHappened, t.followIntentions, t.letTimePass, t.decide, t.write,
		} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		next = t.after.Due()
		return nil
	})
	if err != nil {
		s.known, s.ledger = nil, nil // they may be ahead of what is written down
		return time.Time{}, err
	}
	return next, nil
}

// tick is one under way.
type tick struct {
	scheduler *Scheduler
	tx        database.Tx
	now       time.Time

	state  *protection.State // as of now
	before plan.State        // as it is written down
	after  plan.State
	told   recorder
}

// counterTicks is raised by each tick, first of all: on PostgreSQL the row makes other servers wait until this tick is over.
const counterTicks store.Counter = "ticks"

// begin waits for its turn, reads the time, and then what is written down.
func (t *tick) begin(ctx context.Context) error {
	s := t.scheduler
	if _, err := store.Count(ctx, t.tx, counterTicks); err != nil {
		return err
	}
	t.now = s.config.Clock.Now().UTC().Truncate(time.Millisecond)
	if err := t.loadLedger(ctx); err != nil {
		return err
	}
	t.told.ledger = s.ledger.Ledger
	var err error
	t.state, err = protection.Load(ctx, t.tx, s.known)
	if err != nil {
		return err
	}
	var decided bool
	t.before, decided, err = store.PlanState(ctx, t.tx)
	if err != nil {
		return err
	}
	t.after = t.before
	if !decided {
		t.after = plan.Begin(t.state.Estate, t.now)
	}
	return nil
}

// counterTicked holds when the last tick was.
const counterTicked store.Counter = "ticked"

// noteDowntime tells the ledger that nothing ran since the last tick, when that is long ago.
func (t *tick) noteDowntime(ctx context.Context) error {
	allowed := t.scheduler.config.DownAfter
	if allowed == 0 {
		return nil
	}
	last, err := store.Counted(ctx, t.tx, counterTicked)
	if err != nil {
		return err
	}
	if err := store.Remember(ctx, t.tx, counterTicked, t.now.UnixMilli()); err != nil {
		return err
	}
	stopped := time.UnixMilli(last).UTC()
	if last == 0 || t.now.Sub(stopped) <= allowed {
		return nil
	}
	t.scheduler.config.Log.InfoContext(ctx, "nothing was decided for a while", "since", stopped)
	return store.AppendLedger(ctx, t.tx, sla.ServerStopped{At: stopped}, sla.ServerStarted{At: t.now})
}

// loadLedger reads the ledger, unless the one of the tick before is still what is written down.
func (t *tick) loadLedger(ctx context.Context) error {
	s := t.scheduler
	through, err := store.LedgerTold(ctx, t.tx)
	if err != nil {
		return err
	}
	if s.ledger != nil && s.ledger.Through == through {
		return nil
	}
	ledger, err := store.LoadLedger(ctx, t.tx)
	if err != nil {
		return err
	}
	s.ledger = &ledger
	return nil
}

// takeInWhatHappened applies to the ledger what workers have added.
func (t *tick) takeInWhatHappened(ctx context.Context) error {
	events, err := store.LedgerAfter(ctx, t.tx, t.scheduler.ledger.Through)
	if err != nil {
		return err
	}
	for _, e := range events {
		if err := t.scheduler.ledger.Apply(e, &t.told); err != nil {
			return err
		}
	}
	return nil
}

// add writes an event of the ledger down and applies it.
func (t *tick) add(ctx context.Context, event sla.Event) error {
	if err := store.AppendLedger(ctx, t.tx, event); err != nil {
		return err
	}
	return t.takeInWhatHappened(ctx)
}

// letTimePass advances the ledger. When something ended or closed by that, the passing is an event of its own, so that reading the
// ledger anew tells it no second time.
func (t *tick) letTimePass(ctx context.Context) error {
	before := t.told.count()
	if err := t.scheduler.ledger.Ledger.Advance(t.now, &t.told); err != nil {
		return err
	}
	if t.told.count() == before {
		return nil
	}
	if err := store.AppendLedger(ctx, t.tx, sla.TimePassed{At: t.now}); err != nil {
		return err
	}
	events, err := store.LedgerAfter(ctx, t.tx, t.scheduler.ledger.Through)
	if err != nil {
		return err
	}
	holdfast.Invariant(len(events) == 1, "%d events were added while the time passed", len(events))
	t.scheduler.ledger.Through, t.scheduler.ledger.Since = events[0].Number, t.scheduler.ledger.Since+1
	return nil
}

// decide asks the plan, and begins what it wants.
func (t *tick) decide(ctx context.Context) error {
	decision := plan.Decide(t.now, t.state.Estate, t.after)
	t.after = decision.After
	for _, intent := range decision.Intents {
		if err := t.carryOut(ctx, intent); err != nil {
			return err
		}
	}
	return nil
}

// write writes down where things stand after the tick, and what the ledger told.
func (t *tick) write(ctx context.Context) error {
	if err := t.takeInWhatHappened(ctx); err != nil { // skipped slots
		return err
	}
	if err := store.SavePlanState(ctx, t.tx, t.before, t.after, t.now); err != nil {
		return err
	}
	if err := t.told.write(ctx, t.tx); err != nil {
		return err
	}
	if teller := t.scheduler.config.Teller; teller != nil {
		if err := t.told.tell(ctx, t.tx, teller); err != nil {
			return err
		}
	}
	ledger := t.scheduler.ledger
	if err := store.Told(ctx, t.tx, ledger.Through); err != nil {
		return err
	}
	if ledger.Since >= snapshotEvery {
		if err := store.SaveLedger(ctx, t.tx, *ledger); err != nil {
			return err
		}
		ledger.Since = 0
	}
	t.scheduler.known = t.state
	return nil
}
