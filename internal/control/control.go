// Package control is what a person may ask of an installation: what is in force and how it goes, changes of documents, sessions begun
// and stopped, points removed.
//
// It promises that each question is asked by somebody who may ask it, that what is asked for is checked as a whole before anything is
// written down, and that it is written down in one transaction, with who asked: a change is there whole or not at all. What takes long is
// answered with the session that does it.
//
// It must never do the work of a session itself, nor decide what an engine decides. It gives out no secret.
package control

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/jobs"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// Repositories opens what documents declare.
type Repositories interface {
	// Connect opens a repository, or makes it where there is none and it may be made, and takes it for this installation. An empty secret
	// stands for the one that is known.
	Connect(ctx context.Context, spec holdfast.RepositorySpec, secret string, mayMake bool) (view.Connected, error)
	// Inspect looks at a repository now, and fills in what is found.
	Inspect(ctx context.Context, name string) (id, owner string, err error)
	// Forget closes a repository that is not declared any more.
	Forget(name string)
}

// Secrets keeps passwords, sealed.
type Secrets interface {
	// Secret returns a secret; KindNotFound when there is none.
	Secret(ctx context.Context, name string) (string, error)
	Put(ctx context.Context, tx database.Tx, name, secret string) error
	Remove(ctx context.Context, tx database.Tx, name string) error
}

// Discovery looks at the cloud.
type Discovery interface {
	// Discover looks at the cloud now.
	Discover(ctx context.Context) error
	// Refresh looks at the cloud unless that was done a moment ago.
	Refresh(ctx context.Context) error
}

// Notifier sends a trial message.
type Notifier interface {
	Test(ctx context.Context, to, by string) ([]view.Delivery, error)
}

// Config says what to work with. All fields are required.
type Config struct {
	Database     *database.DB
	Jobs         jobs.Enqueuer
	Repositories Repositories
	Secrets      Secrets
	Discovery    Discovery
	Notifier     Notifier
	Clock        clock.Clock
	Log          *slog.Logger
	NewID        func() holdfast.RunID
	Closed       store.Closed // hears of sessions that end by what a person asks
	Nudge        func()       // tells the scheduler that something may be due
}

// Control answers. Safe for concurrent use.
type Control struct {
	config   Config
	intended protection.Cache
}

// New makes it.
func New(config Config) *Control { return &Control{config: config} }

func (c *Control) now() time.Time { return c.config.Clock.Now().UTC().Truncate(time.Millisecond) }

// read answers a question of somebody who has a right, from one state of the database.
func (c *Control) read(ctx context.Context, p auth.Principal, right auth.Right, do func(ctx context.Context, q store.Query) error) error {
	if err := p.Require(right); err != nil {
		return err
	}
	return c.config.Database.Read(ctx, do)
}

// write does what somebody who has a right asks, in one transaction.
func (c *Control) write(ctx context.Context, p auth.Principal, right auth.Right, do func(ctx context.Context, tx database.Tx) error) error {
	if err := p.Require(right); err != nil {
		return err
	}
	return c.config.Database.Write(ctx, do)
}

// state is what is intended as of a transaction.
func (c *Control) state(ctx context.Context, q store.Query) (*protection.State, error) {
	return c.intended.Load(ctx, q)
}

// page bounds what one answer holds.
func page(limit int, after string) store.Page {
	const most, usual = 1000, 100
	switch {
	case limit <= 0:
		limit = usual
	case limit > most:
		limit = most
	}
	return store.Page{Limit: limit, After: after}
}

// listOf makes a page of what was read: one row more than wanted says that there is another page.
func listOf[T any](rows []T, p store.Page, id func(T) string) view.List[T] {
	l := view.List[T]{Items: rows}
	if l.Items == nil {
		l.Items = []T{}
	}
	if len(rows) > p.Limit {
		l.Items = rows[:p.Limit]
		l.Next = id(l.Items[p.Limit-1])
	}
	return l
}

// oneMore asks for a row more than the page holds.
func oneMore(p store.Page) store.Page { return store.Page{Limit: p.Limit + 1, After: p.After} }
