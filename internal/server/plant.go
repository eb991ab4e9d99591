package server

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/aging"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/flows"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	riverjobs "github.com/holdfast-backup/holdfast/internal/jobs/river"
	"github.com/holdfast-backup/holdfast/internal/outbox"
	"github.com/holdfast-backup/holdfast/internal/proof"
	"github.com/holdfast-backup/holdfast/internal/protect"
	"github.com/holdfast-backup/holdfast/internal/repositories"
	"github.com/holdfast-backup/holdfast/internal/seal"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// PlantConfig is what servers and workers have in common.
type PlantConfig struct {
	Database string // URL; see database.Open
	KeyFile  string // that seals secrets
	Azure    *azure.Client
	Queues   []string // that jobs are taken from; AllQueues alone for every one there is
	AtOnce   int      // machines in work at a time in each region; 4 when 0
	Clock    clock.Clock
	Log      *slog.Logger
	Tool     string // how the program names itself in what it writes
}

// AllQueues stands for every queue there is, and will be.
const AllQueues = "all"

// How many jobs of a queue run at a time.
const (
	atOnceDefault  = 4
	controlAtOnce  = 4
	messagesAtOnce = 4
)

// watchEvery is how often the progress of a machine in work is written down.
const watchEvery = 2 * time.Second

// plant is what does the work, in servers and in workers.
type plant struct {
	config       PlantConfig
	db           *database.DB
	keys         *seal.Keys
	secrets      *repositories.Secrets
	installation string
	repositories *repositories.Repositories
	queue        *riverjobs.Queue
	outbox       *outbox.Outbox
	aging        *aging.Aging
	proof        *proof.Proof
	closed       store.Closed // hears of every session that ends
	protector    *protect.Protector
	everywhere   bool // it takes jobs from the queues of all regions
}

// openPlant opens the database and builds what works on it. The caller closes it.
func openPlant(ctx context.Context, config PlantConfig) (*plant, error) {
	if config.AtOnce == 0 {
		config.AtOnce = atOnceDefault
	}
	p := &plant{config: config}
	for _, step := range []func(context.Context) error{p.openDatabase, p.openKeys, p.openQueue, p.build, p.handle} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, p.close(ctx))
		}
	}
	return p, nil
}

func (p *plant) openDatabase(ctx context.Context) (err error) {
	p.db, err = database.Open(ctx, p.config.Database, database.Options{Clock: p.config.Clock, Log: p.config.Log, Migrations: store.Migrations()})
	return err
}

func (p *plant) openKeys(ctx context.Context) (err error) {
	if p.keys, err = repositories.OpenKeys(ctx, p.db, p.config.KeyFile); err != nil {
		return err
	}
	p.secrets = repositories.NewSecrets(p.db, p.keys)
	return p.db.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		p.installation, err = store.Installation(ctx, tx, uuid.NewString)
		return err
	})
}

// openQueue takes jobs from the queues that the configuration names; from those of regions once the regions are known.
func (p *plant) openQueue(ctx context.Context) (err error) {
	queues := map[string]int{}
	for _, name := range p.config.Queues {
		name = strings.ToLower(name)
		switch {
		case name == AllQueues:
			p.everywhere = true
			queues[work.Control], queues[work.Messages] = controlAtOnce, messagesAtOnce
		case name == work.Control:
			queues[name] = controlAtOnce
		case name == work.Messages:
			queues[name] = messagesAtOnce
		default:
			queues[work.Region(strings.TrimPrefix(name, work.Region("")))] = p.config.AtOnce
		}
	}
	p.queue, err = riverjobs.New(ctx, p.db, riverjobs.Options{Log: quieter(p.config.Log), Queues: queues})
	return err
}

// quieter is a log of the queue, which tells of its own business every few seconds: of that only warnings are of use.
func quieter(log *slog.Logger) *slog.Logger {
	return slog.New(warnings{log.With("part", "queue").Handler()})
}

type warnings struct{ slog.Handler }

// Enabled implements slog.Handler.
func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// build makes what the handlers are.
func (p *plant) build(context.Context) (err error) {
	c := p.config
	p.repositories = repositories.New(repositories.Config{
		Database: p.db, Secrets: p.secrets, Azure: c.Azure, Installation: p.installation, Clock: c.Clock, Log: c.Log, Tool: c.Tool,
	})
	makes, err := flows.New(flows.Config{Source: c.Azure, Guests: c.Azure, Repositories: p.repositories, Clock: c.Clock, Log: c.Log})
	if err != nil {
		return err
	}
	p.outbox = outbox.New(outbox.Config{Database: p.db, Jobs: p.queue, Clock: c.Clock, Log: c.Log, Secrets: p.secrets})
	p.closed = proof.Follower{Jobs: p.queue, NewID: newID, Next: p.outbox.SessionClosed}.Closed
	p.aging = aging.New(aging.Config{Database: p.db, Remover: makes, Clock: c.Clock, Log: c.Log, Closed: p.closed})
	p.proof = proof.New(proof.Config{Database: p.db, Prover: makes, Clock: c.Clock, Log: c.Log, Closed: p.closed, WatchEvery: watchEvery})
	p.protector = protect.New(protect.Config{
		Database: p.db, Flows: makes, Aging: p.aging, Clock: c.Clock, Log: c.Log, Closed: p.closed, WatchEvery: watchEvery,
	})
	return nil
}

// handle says who does which jobs.
func (p *plant) handle(context.Context) error {
	p.queue.Handle(work.KindItem, func(ctx context.Context, job jobs.Job) error {
		item, err := work.ItemOf(job)
		if err != nil {
			return err
		}
		return p.protector.Item(ctx, item.Session, item.VM)
	})
	p.queue.Handle(work.KindPass, func(ctx context.Context, job jobs.Job) error { return p.aging.Pass(ctx, holdfast.RunID(job.Key)) })
	p.queue.Handle(work.KindCheck, func(ctx context.Context, job jobs.Job) error { return p.proof.Check(ctx, holdfast.RunID(job.Key)) })
	p.queue.Handle(work.KindRemove, func(ctx context.Context, job jobs.Job) error { return p.aging.Remove(ctx, holdfast.RunID(job.Key)) })
	p.queue.Handle(work.KindNotify, p.outbox.Deliver)
	return nil
}

// start begins to take jobs.
func (p *plant) start(ctx context.Context) error {
	if err := p.queue.Start(ctx); err != nil {
		return err
	}
	return p.followRegions(ctx)
}

// followRegions takes jobs from the queue of every region in which a machine was ever seen.
func (p *plant) followRegions(ctx context.Context) error {
	if !p.everywhere {
		return nil
	}
	var regions []string
	err := p.db.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		regions, err = store.Regions(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range regions {
		if err := p.queue.Take(work.Region(name), p.config.AtOnce); err != nil {
			return err
		}
	}
	return nil
}

// drainTimeout is how long work may go on once the process is to end: what is not done by then goes on elsewhere, or after the next start.
const drainTimeout = 20 * time.Second

// close ends the work and closes what was opened.
func (p *plant) close(ctx context.Context) error {
	var problems []error
	if p.queue != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		problems = append(problems, p.queue.Drain(ctx))
	}
	if p.db != nil {
		problems = append(problems, p.db.Close())
	}
	return errors.Join(problems...)
}

// DatabaseIn is the URL of the database that a data folder holds.
func DatabaseIn(folder string) (string, error) {
	absolute, err := filepath.Abs(folder)
	if err != nil {
		return "", holdfast.Wrap(holdfast.KindInvalid, err, "the folder %s has no absolute path", folder).WithField("data-dir")
	}
	return "sqlite://" + filepath.ToSlash(filepath.Join(absolute, "holdfast.db")), nil
}

// KeysIn is the file of a data folder that seals secrets.
func KeysIn(folder string) string { return filepath.Join(folder, "seal.keys") }

// newID makes a name for a session.
func newID() holdfast.RunID { return holdfast.RunID(uuid.Must(uuid.NewV7()).String()) }
