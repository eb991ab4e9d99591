package remote

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api/client"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/view"
)

func (c *commands) sessionWatchCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "watch ID", Short: "Follow a session until it has ended", Args: words("ID"),
		Long: `Follow a session until it has ended: its log as it grows, and how far each machine is. A connection that breaks is made again, and goes on
where it was. The exit code is 1 unless the session ended well or with warnings alone. To end the command does not end the session.

With --json each thing that happens is a line of its own: {"line": …} of the log, or {"session": …} with the figures as they are; the last one is the
session as it ended.`,
		Example: `  holdfast session watch 01976f3a-5c00-7a3e-8a44-3f7a5d0c1b2e`,
	}, func(ctx context.Context, server *client.Client, args []string) error {
		id := holdfast.RunID(args[0])
		if c.console.JSON {
			return c.watchJSON(ctx, server, id)
		}
		last, err := c.watchShown(ctx, server, id)
		if err != nil {
			return err
		}
		if err := c.result(last, func(w io.Writer) error { return tellSession(w, last) }); err != nil {
			return err
		}
		return endedWell([]view.Session{last})
	})
}

// watchedLine is a line of watch --json; one field is set.
type watchedLine struct {
	Session *view.Session     `json:"session,omitempty"`
	Line    *holdfast.LogLine `json:"line,omitempty"`
}

func (c *commands) watchJSON(ctx context.Context, server *client.Client, id holdfast.RunID) error {
	var last view.Session
	for w, err := range server.Watch(ctx, id) {
		if err != nil {
			return err
		}
		if w.Session != nil {
			last = *w.Session
		}
		if err := c.console.Result(watchedLine(w), nil); err != nil {
			return err
		}
	}
	return endedWell([]view.Session{last})
}

// watchShown follows one session and shows its log: above the bars on a terminal, as the result elsewhere.
func (c *commands) watchShown(ctx context.Context, server *client.Client, id holdfast.RunID) (view.Session, error) {
	tell := func(l holdfast.LogLine) error {
		_, err := fmt.Fprintln(c.console.Out, cli.Printable(logLine(l)))
		return err
	}
	if cli.IsTerminal(c.console.Out) {
		tell = func(l holdfast.LogLine) error {
			c.console.Note("%s", logLine(l))
			return nil
		}
	}
	progress := c.console.NewProgress(c.clock)
	last, err := watchOne(ctx, server, id, &bars{progress: progress}, tell)
	progress.Wait(err)
	c.noteStillRunning(ctx, []holdfast.RunID{id})
	return last, err
}

// follow follows sessions until all have ended, and returns them as they ended. Of their logs warnings and errors are told.
func (c *commands) follow(ctx context.Context, server *client.Client, sessions []view.Session) ([]view.Session, error) {
	tell := func(l holdfast.LogLine) error {
		if l.Level != holdfast.LogInfo {
			c.console.Note("%s", logLine(l))
		}
		return nil
	}
	progress := c.console.NewProgress(c.clock)
	shown := &bars{progress: progress}
	ended := make([]view.Session, len(sessions))
	ids := make([]holdfast.RunID, len(sessions))
	group, groupContext := errgroup.WithContext(ctx)
	for i, s := range sessions {
		ids[i] = s.ID
		group.Go(func() (err error) {
			ended[i], err = watchOne(groupContext, server, s.ID, shown, tell)
			return err
		})
	}
	err := group.Wait()
	progress.Wait(err)
	c.noteStillRunning(ctx, ids)
	return ended, err
}

// noteStillRunning says that who ends a command does not end the sessions.
func (c *commands) noteStillRunning(ctx context.Context, ids []holdfast.RunID) {
	if ctx.Err() == nil {
		return
	}
	for _, id := range ids {
		c.console.Note("The session %s goes on; to end it, run: holdfast session stop %s", id, id)
	}
}

// watchOne follows one session to its end.
func watchOne(ctx context.Context, server *client.Client, id holdfast.RunID, shown *bars, tell func(holdfast.LogLine) error) (last view.Session, err error) {
	for w, err := range server.Watch(ctx, id) {
		switch {
		case err != nil:
			return last, err
		case w.Line != nil:
			if err := tell(*w.Line); err != nil {
				return last, err
			}
		case w.Session != nil:
			last = *w.Session
			shown.move(last)
		}
	}
	return last, nil
}

// barsMax bounds the bars that are shown at a time: a screen has no more lines.
const barsMax = 24

// bars are a bar for each stage of each machine. Safe for concurrent use.
type bars struct {
	progress *cli.Progress

	mu    sync.Mutex // guards what follows
	known map[string]*cli.Bar
}

// move moves the bars to where a session is.
func (b *bars) move(s view.Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known == nil {
		b.known = map[string]*cli.Bar{}
	}
	for _, m := range s.Machines {
		p := m.Progress
		if p == nil || p.Total <= 0 || m.State != holdfast.StateRunning {
			continue
		}
		name := cli.Printable(m.VM.Name() + " " + p.Stage)
		if b.known[name] == nil {
			if len(b.known) == barsMax {
				continue
			}
			b.known[name] = b.progress.Bar(name, p.Total)
		}
		b.known[name].At(min(p.Done, p.Total))
	}
}

// endedWell is the outcome of sessions as an error: their results have told it already.
func endedWell(sessions []view.Session) error {
	for _, s := range sessions {
		switch s.Outcome {
		case holdfast.OutcomeError, holdfast.OutcomeStopped:
			return command.ErrTold
		case "", holdfast.OutcomeSuccess, holdfast.OutcomeWarning:
		}
	}
	return nil
}
