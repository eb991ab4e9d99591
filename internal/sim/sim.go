// Package sim lets the control plane and the twin live through days to come in one process, on one virtual clock: the scheduler, the
// flows, the real SDK over HTTP, and the twin below it. Guests write by a seeded pattern.
//
// It promises that what happens is what a server would do: there is no second scheduler and no mock in it. One thing happens after the
// other, so one seed makes one history. Its events have the names of those of a preview, so that the two can be compared by anyone;
// at the end every restore point is read, and compared with what its disks held.
//
// It must never reach anything but its own folder and the loopback: repositories that the documents declare lie in that folder, under
// passwords of its own.
package sim

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/aging"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/discover"
	"github.com/holdfast-backup/holdfast/internal/flows"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/jobs/inline"
	"github.com/holdfast-backup/holdfast/internal/proof"
	"github.com/holdfast-backup/holdfast/internal/protect"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/report"
	"github.com/holdfast-backup/holdfast/internal/scheduler"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/twin"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// Config says what is simulated. All fields but FaultFile, LookEvery and Log are required.
type Config struct {
	Folder     string // empty, or of a simulation to be looked at; everything is in it
	EstateFile string
	Documents  holdfast.Documents
	From       time.Time
	Until      time.Time // nothing happens at or after it
	Seed       uint64
	FaultFile  string        // "" for a cloud that behaves
	Crashes    int           // how often the control plane dies at a seeded moment, and another one takes over
	LookEvery  time.Duration // between looks at the cloud; 15 minutes when 0, as a server does
	Log        *slog.Logger
}

// Simulation is a world under way. It is not for several goroutines at once.
type Simulation struct {
	config Config
	clock  *clock.Virtual
	random *rand.Rand

	twin         *twin.Twin
	control      *control.Client
	azure        *azure.Client
	db           *database.DB
	repositories *repositories
	discovery    *discover.Discovery
	scheduler    *scheduler.Scheduler
	protector    *protect.Protector
	aging        *aging.Aging
	proof        *proof.Proof
	queue        *inline.Queue
	failed       error // of a job that could not even be written down
	guests       *guests
	crashes      *crashes

	looked time.Time // when the cloud is looked at next
	wrote  time.Time // when the guests write next
}

// Start makes a world that stands at its beginning. The caller closes it.
func Start(ctx context.Context, config Config) (*Simulation, error) {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	config.LookEvery = cmp.Or(config.LookEvery, lookEvery)
	s := &Simulation{
		config: config, clock: clock.NewVirtual(config.From), random: rand.New(rand.NewPCG(config.Seed, 1)),
		looked: config.From, wrote: config.From, crashes: newCrashes(config.Seed, config.Crashes, config.From, config.Until),
	}
	for _, step := range []func(context.Context) error{s.startTwin, s.startQueue, s.startControlPlane, s.apply} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, s.Close(ctx))
		}
	}
	return s, nil
}

// speed makes operations of the twin end at once, and its tokens last, since the SDK counts their age by the real clock.
var speed = twin.Options{PollAfter: time.Nanosecond, OperationTime: time.Nanosecond, CopyTime: time.Nanosecond, TokenLifetime: 10 * 365 * 24 * time.Hour}

func (s *Simulation) startTwin(ctx context.Context) (err error) {
	dir := filepath.Join(s.config.Folder, "twin")
	s.twin, err = twin.Start(ctx, twin.Config{
		Dir: dir, EstateFile: s.config.EstateFile, FaultFile: s.config.FaultFile, Clock: s.clock, Log: s.config.Log, Options: speed,
	})
	if err != nil {
		return err
	}
	if s.control, err = control.Dial(dir); err != nil {
		return err
	}
	config, err := azureconfig.Read(s.twin.Endpoints().AzureFile)
	if err != nil {
		return err
	}
	s.azure, err = azure.New(config, azure.Options{
		Clock: s.clock, Log: s.config.Log, PollEvery: time.Second, Retry: azure.Retry{Delay: time.Millisecond},
		Wrap: func(next http.RoundTripper) http.RoundTripper { return mortal{s.crashes, patience{s.clock, next}} },
	})
	s.guests = newGuests(s.control, s.config.Seed)
	return err
}

func (s *Simulation) startControlPlane(ctx context.Context) (err error) {
	s.db, err = database.Open(ctx, "sqlite://"+filepath.Join(s.config.Folder, "holdfast.db"), database.Options{
		Clock: s.clock, Log: s.config.Log, Migrations: store.Migrations(), Volatile: true,
	})
	if err != nil {
		return err
	}
	s.repositories = newRepositories(filepath.Join(s.config.Folder, "repositories"), s.clock, s.config.Log)
	makes, err := flows.New(flows.Config{Source: s.azure, Repositories: s.repositories, Clock: s.clock, Log: s.config.Log, DisksAtOnce: 1, Readers: 1, OneByOne: true})
	if err != nil {
		return err
	}
	s.discovery = discover.New(discover.Config{Database: s.db, Cloud: s.azure, Clock: s.clock, Log: s.config.Log})
	closed := proof.Follower{Jobs: s.queue, NewID: s.runID}.Closed
	s.proof = proof.New(proof.Config{Database: s.db, Prover: makes, Clock: s.clock, Log: s.config.Log, Closed: closed})
	s.aging = aging.New(aging.Config{Database: s.db, Remover: makes, Clock: s.clock, Log: s.config.Log, Closed: closed})
	s.protector = protect.New(protect.Config{Database: s.db, Flows: s.guests.watch(makes), Aging: s.aging, Clock: s.clock, Log: s.config.Log, Random: s.bytes, Closed: closed})
	s.scheduler = scheduler.New(scheduler.Config{Database: s.db, Jobs: s.queue, Clock: s.clock, Log: s.config.Log, NewID: s.runID, Closed: closed})
	return nil
}

// bytes are random ones of this history.
func (s *Simulation) bytes() (four [4]byte) {
	for i := range four {
		four[i] = byte(s.random.Uint32())
	}
	return four
}

// runID is an id of this history: of its time, and its random bytes.
func (s *Simulation) runID() holdfast.RunID {
	var id uuid.UUID
	ms := s.clock.Now().UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	for i := 6; i < len(id); i++ {
		id[i] = byte(s.random.Uint32())
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return holdfast.RunID(id.String())
}

// apply writes the documents down.
func (s *Simulation) apply(ctx context.Context) error {
	rows, err := protection.Rows(s.config.Documents)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		for _, d := range rows {
			d.Updated, d.Author = s.clock.Now(), "simulation"
			if err := store.PutDocument(ctx, tx, d); err != nil {
				return err
			}
		}
		return nil
	})
}

// Died is how often the control plane died so far.
func (s *Simulation) Died() int { return s.crashes.died }

// Close ends the world; its folder stays.
func (s *Simulation) Close(ctx context.Context) error {
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.azure != nil {
		s.azure.CloseIdleConnections()
	}
	if s.control != nil {
		s.control.Close()
	}
	if s.twin != nil {
		errs = append(errs, s.twin.Close(ctx))
	}
	return errors.Join(errs...)
}

// Between these the cloud is looked at, and the guests write.
const (
	lookEvery  = 15 * time.Minute
	writeEvery = 6 * time.Hour
)

// Run lets time pass to the end. told is given every event of the record, in the order in which they were written down.
func (s *Simulation) Run(ctx context.Context, told func(store.Event) error) error {
	var number int64
	for now := s.config.From; now.Before(s.config.Until); {
		s.clock.MoveTo(now)
		next, err := s.instant(ctx)
		if err != nil {
			return err
		}
		if number, err = s.tell(ctx, number, told); err != nil {
			return err
		}
		now = next
	}
	s.clock.MoveTo(s.config.Until.Add(-time.Millisecond))
	if _, err := s.scheduler.Tick(ctx); err != nil {
		return err
	}
	_, err := s.tell(ctx, number, told)
	return err
}

// instant does all that is due now, and returns when something is due next.
func (s *Simulation) instant(ctx context.Context) (next time.Time, err error) {
	now := s.clock.Now()
	if !s.wrote.After(now) {
		if err := s.guests.write(ctx); err != nil {
			return next, err
		}
		s.wrote = s.wrote.Add(writeEvery)
	}
	if !s.looked.After(now) {
		if err := s.look(ctx); err != nil {
			return next, err
		}
	}
	for {
		due, err := s.scheduler.Tick(ctx)
		if err != nil {
			return next, err
		}
		if !s.queue.Step(ctx) {
			return earliest(due, s.looked, s.wrote), nil
		}
		for s.queue.Step(ctx) { // what they did may make something due
		}
		if s.failed != nil {
			return next, s.failed
		}
	}
}

// look lets the discovery look at the cloud. Who takes over from a process that died looks first of all.
func (s *Simulation) look(ctx context.Context) error {
	for {
		var failed error
		again, err := s.live(ctx, func(ctx context.Context) error {
			_, failed = s.discovery.Look(ctx)
			return nil
		})
		switch {
		case err != nil:
			return err
		case again:
			continue
		case failed != nil: // it is looked at again soon
			s.config.Log.WarnContext(ctx, "the cloud could not be looked at", "error", failed)
			s.looked = s.looked.Add(min(lookEvery, s.config.LookEvery))
		default:
			s.looked = s.looked.Add(s.config.LookEvery)
		}
		return nil
	}
}

func earliest(first time.Time, others ...time.Time) time.Time {
	for _, t := range others {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first
}

// startQueue says who does which jobs. It outlives the control plane, as a queue in a database does.
func (s *Simulation) startQueue(ctx context.Context) error {
	s.queue = inline.New(s.clock)
	s.queue.Handle(work.KindItem, func(ctx context.Context, job jobs.Job) error {
		item, err := work.ItemOf(job)
		if err != nil {
			return err
		}
		return s.finish(ctx, func(ctx context.Context) error { return s.protector.Item(ctx, item.Session, item.VM) })
	})
	s.queue.Handle(work.KindCheck, func(ctx context.Context, job jobs.Job) error {
		return s.finish(ctx, func(ctx context.Context) error { return s.proof.Check(ctx, holdfast.RunID(job.Key)) })
	})
	s.queue.Handle(work.KindPass, func(ctx context.Context, job jobs.Job) error {
		return s.finish(ctx, func(ctx context.Context) error { return s.aging.Pass(ctx, holdfast.RunID(job.Key)) })
	})
	return s.queue.Start(ctx)
}

// tell hands on what was written into the record after a number.
func (s *Simulation) tell(ctx context.Context, number int64, told func(store.Event) error) (int64, error) {
	var events []store.Event
	err := s.db.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		events, err = store.EventsAfter(ctx, q, number, 1<<20)
		return err
	})
	for _, e := range events {
		if err := told(e); err != nil {
			return number, err
		}
		number = e.Number
	}
	return number, err
}

// Inventory is what the cloud holds now.
func (s *Simulation) Inventory(ctx context.Context) (holdfast.Inventory, error) {
	return s.azure.Inventory(ctx)
}

// Report tells how an SLA policy did, as of now.
func (s *Simulation) Report(ctx context.Context, ask report.Ask) (r report.Report, err error) {
	err = s.db.Read(ctx, func(ctx context.Context, q store.Query) error {
		state, err := protection.Load(ctx, q, nil)
		if err != nil {
			return err
		}
		r, err = report.Of(ctx, q, state, s.clock.Now(), ask)
		return err
	})
	return r, err
}
