package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api/client"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/view"
)

func (c *commands) sessionCommand() *cobra.Command {
	return command.Group(c.console, "session", "Look at what ran and what runs on the server", "",
		c.sessionListCommand(), c.sessionShowCommand(), c.sessionLogCommand(), c.sessionWatchCommand(), c.sessionStopCommand(), c.sessionStatsCommand(), c.sessionExportCommand())
}

// sessionFlags say which sessions are meant.
type sessionFlags struct {
	policy, vm, from, to    string
	types, states, outcomes []string
}

func (o *sessionFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.policy, "policy", "", "only those of this policy")
	flags.StringVar(&o.vm, "vm", "", "only those with a share of this machine: its ARM id, or a name that only one has")
	flags.StringSliceVar(&o.types, "type", nil, "only those of these types: policy, snapshot, healthCheck, retention, removal")
	flags.StringSliceVar(&o.states, "state", nil, "only those that are: queued, running, done")
	flags.StringSliceVar(&o.outcomes, "outcome", nil, "only those that came to: success, warning, stopped, error")
	flags.StringVar(&o.from, "from", "", "only those that were queued at or after this: a date, or a time such as 2026-03-01T00:00:00Z")
	flags.StringVar(&o.to, "to", "", "only those that were queued before this")
}

// filter reads the flags. A machine's name is looked up.
func (o *sessionFlags) filter(ctx context.Context, server *client.Client) (f client.SessionFilter, err error) {
	states := []holdfast.State{holdfast.StateQueued, holdfast.StateRunning, holdfast.StateDone}
	if err := errors.Join(oneOf("type", o.types, holdfast.SessionTypes()), oneOf("state", o.states, states), oneOf("outcome", o.outcomes, holdfast.Outcomes())); err != nil {
		return f, err
	}
	f = client.SessionFilter{Policy: o.policy, Types: o.types, States: o.states, Outcomes: o.outcomes}
	if f.From, f.To, err = stretch(o.from, o.to); err != nil || o.vm == "" {
		return f, err
	}
	f.VM, err = machineOf(ctx, server, o.vm)
	return f, err
}

// stretch reads --from and --to; what is not given is zero.
func stretch(first, last string) (from, to time.Time, err error) {
	if first != "" {
		if from, err = command.Instant(first, "from"); err != nil {
			return from, to, err
		}
	}
	if last != "" {
		if to, err = command.Instant(last, "to"); err != nil {
			return from, to, err
		}
	}
	if !from.IsZero() && !to.IsZero() && !to.After(from) {
		return from, to, holdfast.Errorf(holdfast.KindInvalid, "--to is not after --from").WithField("to").WithHint("--from %s --to %s is empty; swap the two", first, last)
	}
	return from, to, nil
}

func (c *commands) sessionListCommand() *cobra.Command {
	var o sessionFlags
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List sessions, the newest first",
		Example: `  holdfast session list
  holdfast session list --policy nightly --outcome error,warning --from 2026-03-01
  holdfast session list --vm web-1 --state running`,
	}
	o.add(cmd)
	limitFlag(cmd, &limit, 50)
	return c.asking(cmd, func(ctx context.Context, server *client.Client, _ []string) error {
		if err := checkLimit(limit); err != nil {
			return err
		}
		sessions, more, err := o.sessions(ctx, server, limit)
		if err != nil {
			return err
		}
		c.noteMore(more, len(sessions))
		return c.result(sessions, func(w io.Writer) error {
			return tellSessions(w, sessions, "No session matches. A policy is started by its schedule, or with: holdfast policy run NAME")
		})
	})
}

func (o *sessionFlags) sessions(ctx context.Context, server *client.Client, limit int) ([]view.Session, bool, error) {
	filter, err := o.filter(ctx, server)
	if err != nil {
		return nil, false, err
	}
	return gather(limit, func(limit int, after string) (view.List[view.Session], error) {
		filter.Limit, filter.After = limit, after
		return server.Sessions(ctx, filter)
	})
}

// tellSessions lists sessions.
func tellSessions(w io.Writer, sessions []view.Session, empty string) error {
	var rows [][]string
	for _, s := range sessions {
		rows = append(rows, []string{
			string(s.ID), string(s.Type), orNone(s.Policy), stateWord(s.State, s.Outcome, s.Stopping), cli.Time(s.Queued), tookWord(s.Started, s.Ended),
			fmt.Sprintf("%d of %d", s.Items.Done(), s.Items.Total), cli.Bytes(s.Bytes.Read), cli.Bytes(s.Bytes.Stored),
		})
	}
	return table(w, []string{"SESSION", "TYPE", "POLICY", "STATE", "QUEUED", "TOOK", "MACHINES", "READ", "STORED"}, rows, empty)
}

func stateWord(state holdfast.State, outcome holdfast.Outcome, stopping bool) string {
	switch {
	case outcome != "":
		return string(outcome)
	case stopping:
		return "stopping"
	}
	return string(state)
}

func tookWord(started, ended time.Time) string {
	if started.IsZero() || ended.IsZero() {
		return "–"
	}
	return cli.Took(ended.Sub(started))
}

func (c *commands) sessionShowCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "show ID", Short: "Show a session with the share of each machine", Args: words("ID"),
		Example: `  holdfast session show 01976f3a-5c00-7a3e-8a44-3f7a5d0c1b2e`,
	}, func(ctx context.Context, server *client.Client, args []string) error {
		s, err := server.Session(ctx, holdfast.RunID(args[0]))
		if err != nil {
			return err
		}
		return c.result(s, func(w io.Writer) error { return tellSession(w, s) })
	})
}

func tellSession(w io.Writer, s view.Session) error {
	by := s.By
	if s.Manual && by == "" {
		by = "somebody"
	}
	remaining, rate := "", ""
	if s.RemainingSeconds != nil {
		remaining = "about " + cli.Took(time.Duration(*s.RemainingSeconds)*time.Second)
	}
	if s.PerSecond > 0 {
		rate = cli.Bytes(s.PerSecond) + "/s"
	}
	if err := fields(w, [][2]string{
		{"session", string(s.ID)},
		{"type", string(s.Type)},
		{"policy", s.Policy},
		{"region", s.Region},
		{"makes", makesWord(s.Makes)},
		{"started by", by},
		{"state", stateWord(s.State, s.Outcome, s.Stopping)},
		{"message", s.Message},
		{"queued", cli.Time(s.Queued)},
		{"started", timeOrNone(s.Started)},
		{"ended", timeOrNone(s.Ended)},
		{"read", cli.Bytes(s.Bytes.Read)},
		{"stored", cli.Bytes(s.Bytes.Stored)},
		{"rate", rate},
		{"remaining", remaining},
	}); err != nil || len(s.Machines) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	var rows [][]string
	for _, m := range s.Machines {
		rows = append(rows, []string{
			m.VM.Name(), orNone(m.Region), stateWord(m.State, m.Outcome, false), progressWord(m), fmt.Sprint(m.Attempts), tookWord(m.Started, m.Ended), cli.Bytes(m.Bytes.Read), cli.Bytes(m.Bytes.Stored), pointsWord(m.Points),
		})
	}
	if err := cli.Table(w, []string{"MACHINE", "REGION", "STATE", "NOW", "ATTEMPTS", "TOOK", "READ", "STORED", "POINTS"}, rows); err != nil {
		return err
	}
	return tellTroubles(w, []view.Session{s})
}

func makesWord(makes []holdfast.Makes) string {
	var words []string
	for _, m := range makes {
		word := string(m.Kind)
		if m.Flags != 0 {
			word += " " + m.Flags.String()
		}
		if m.Repository != "" {
			word += " in " + m.Repository
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func progressWord(m holdfast.SessionItem) string {
	p := m.Progress
	switch {
	case m.State == holdfast.StateWaiting && !m.NextAt.IsZero():
		return "again at " + cli.Time(m.NextAt)
	case p == nil || m.State != holdfast.StateRunning:
		return "–"
	case p.Total <= 0:
		return p.Stage
	}
	return fmt.Sprintf("%s %d %%", p.Stage, 100*min(p.Done, p.Total)/p.Total)
}

func pointsWord(points []holdfast.PointID) string {
	var words []string
	for _, p := range points {
		words = append(words, string(p))
	}
	return orNone(strings.Join(words, ", "))
}

// tellTroubles says of machines that did not do well what went wrong, and what to do about it.
func tellTroubles(w io.Writer, sessions []view.Session) error {
	for _, s := range sessions {
		for _, m := range s.Machines {
			if m.Message == "" {
				continue
			}
			if _, err := fmt.Fprintf(w, "%s: %s\n", m.VM.Name(), m.Message); err != nil {
				return err
			}
			if m.Hint == "" {
				continue
			}
			if _, err := fmt.Fprintf(w, "  → %s\n", m.Hint); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *commands) sessionLogCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "log ID", Short: "Show the log of a session", Args: words("ID"),
		Example: `  holdfast session log 01976f3a-5c00-7a3e-8a44-3f7a5d0c1b2e`,
	}, func(ctx context.Context, server *client.Client, args []string) error {
		lines, err := wholeLog(ctx, server, holdfast.RunID(args[0]))
		if err != nil {
			return err
		}
		return c.result(lines, func(w io.Writer) error {
			if len(lines) == 0 {
				_, err := fmt.Fprintln(w, "The log is empty so far.")
				return err
			}
			for _, l := range lines {
				if _, err := fmt.Fprintln(w, logLine(l)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// wholeLog reads a log page by page.
func wholeLog(ctx context.Context, server *client.Client, id holdfast.RunID) ([]holdfast.LogLine, error) {
	all := []holdfast.LogLine{}
	var last int64
	for {
		lines, err := server.SessionLog(ctx, id, last)
		if err != nil {
			return nil, err
		}
		for _, l := range lines {
			if l.Number > last {
				all, last = append(all, l), l.Number
				continue
			}
			return nil, holdfast.Errorf(holdfast.KindInternal, "the lines of the log are not in order").WithHint("check that this is a Holdfast server of the same version")
		}
		if len(lines) == 0 {
			return all, nil
		}
	}
}

func logLine(l holdfast.LogLine) string {
	text := cli.Time(l.At) + "  "
	if l.Level != holdfast.LogInfo {
		text += strings.ToUpper(string(l.Level)) + "  "
	}
	if l.VM != "" {
		text += l.VM.Name() + ": "
	}
	return text + l.Text
}

func (c *commands) sessionStopCommand() *cobra.Command {
	return c.asking(&cobra.Command{
		Use: "stop ID", Short: "Ask a session to stop", Args: words("ID"),
		Long:    `Ask a session to stop. Points that are durable stay; what is half made is undone, and nothing is tried again.`,
		Example: `  holdfast session stop 01976f3a-5c00-7a3e-8a44-3f7a5d0c1b2e`,
	}, func(ctx context.Context, server *client.Client, args []string) error {
		s, err := server.StopSession(ctx, holdfast.RunID(args[0]))
		if err != nil {
			return err
		}
		return c.result(s, func(w io.Writer) error {
			if s.State == holdfast.StateDone {
				_, err := fmt.Fprintf(w, "Session %s has ended: %s.\n", s.ID, s.Outcome)
				return err
			}
			_, err := fmt.Fprintf(w, "Session %s was asked to stop.\n", s.ID)
			return err
		})
	})
}

func (c *commands) sessionStatsCommand() *cobra.Command {
	var o sessionFlags
	cmd := &cobra.Command{
		Use: "stats", Short: "Say how sessions went",
		Example: `  holdfast session stats --from 2026-03-01 --to 2026-04-01
  holdfast session stats --policy nightly`,
	}
	o.add(cmd)
	return c.asking(cmd, func(ctx context.Context, server *client.Client, _ []string) error {
		filter, err := o.filter(ctx, server)
		if err != nil {
			return err
		}
		s, err := server.Statistics(ctx, filter)
		if err != nil {
			return err
		}
		return c.result(s, func(w io.Writer) error {
			var outcomes []string
			for _, o := range holdfast.Outcomes() {
				outcomes = append(outcomes, fmt.Sprintf("%d %s", s.Outcomes[o], o))
			}
			m := s.Machines
			return fields(w, [][2]string{
				{"from", timeOrNone(s.From)},
				{"to", timeOrNone(s.To)},
				{"sessions", fmt.Sprintf("%d: %s, %d not ended", s.Sessions, strings.Join(outcomes, ", "), s.Running)},
				{"machines", fmt.Sprintf("%d: %d success, %d warning, %d stopped, %d error, %d not ended", m.Total, m.Success, m.Warning, m.Stopped, m.Error, m.Queued+m.Running+m.Waiting)},
				{"read", cli.Bytes(s.Bytes.Read)},
				{"stored", cli.Bytes(s.Bytes.Stored)},
				{"saved", cli.Bytes(s.Bytes.Saved)},
				{"took", cli.Took(time.Duration(s.Seconds) * time.Second)},
			})
		})
	})
}

func (c *commands) sessionExportCommand() *cobra.Command {
	var o sessionFlags
	var format string
	var limit int
	cmd := &cobra.Command{
		Use: "export", Short: "Write sessions for other programs",
		Long: `Write sessions for other programs, the newest first: as CSV with a line for each machine of each session, or as JSON. --limit bounds the
sessions of JSON; CSV holds all.`,
		Example: `  holdfast session export --from 2026-03-01 > sessions.csv
  holdfast session export --policy nightly --format json > sessions.json`,
	}
	o.add(cmd)
	limitFlag(cmd, &limit, 0)
	cmd.Flags().StringVar(&format, "format", "", "csv or json (default csv, with --json json)")
	return c.asking(cmd, func(ctx context.Context, server *client.Client, _ []string) error {
		if err := errors.Join(checkLimit(limit), checkFormat(format, c.console.JSON)); err != nil {
			return err
		}
		if format == "json" || c.console.JSON {
			sessions, _, err := o.sessions(ctx, server, limit)
			if err != nil {
				return err
			}
			return (&cli.Console{Out: c.console.Out, JSON: true}).Result(sessions, nil)
		}
		return c.exportCSV(ctx, server, o)
	})
}

func checkFormat(format string, json bool) error {
	if json && format == "csv" {
		return holdfast.Errorf(holdfast.KindInvalid, "--json and --format csv exclude each other").WithField("format").WithHint("give one of them")
	}
	if format == "" {
		return nil
	}
	return oneOf("format", []string{format}, []string{"csv", "json"})
}

func (c *commands) exportCSV(ctx context.Context, server *client.Client, o sessionFlags) (err error) {
	filter, err := o.filter(ctx, server)
	if err != nil {
		return err
	}
	lines, err := server.SessionsCSV(ctx, filter)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lines.Close()) }()
	return c.copyOut(lines)
}
