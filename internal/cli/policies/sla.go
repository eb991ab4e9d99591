package policies

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/sla/replay"
)

func (c *commands) slaCommand() *cobra.Command {
	return command.Group(c.console, "sla", "What SLA policies asked for, and what share of it came", "", c.slaReplayCommand())
}

func (c *commands) slaReplayCommand() *cobra.Command {
	var files []string
	var events string
	cmd := &cobra.Command{
		Use: "replay", Short: "Judge what happened, from a file of events", Args: command.NoArguments,
		Long: `Judge what happened, from a file of events. Every line of the file is one event as a JSON object, in order of time: versions of policies,
machines that join and leave, sessions, points, proofs, downtimes. Policies and templates are those of the documents after -f. The
result is the ledger of an SLA: each expectation with how it ended and why, and the ratios of each day, week and month.`,
		Example: `  holdfast sla replay --events events.jsonl -f policies.yaml
  holdfast sla replay --events events.jsonl -f policies/ --json`,
		RunE: func(*cobra.Command, []string) error { return c.slaReplay(events, files) },
	}
	documentsFlag(cmd, &files)
	cmd.Flags().StringVar(&events, "events", "", "file with an event on each line")
	command.Required(cmd, "events")
	return cmd
}

func (c *commands) slaReplay(events string, files []string) error {
	documents, err := c.documents(files)
	if err != nil {
		return err
	}
	f, err := os.Open(events)
	if err != nil {
		kind := holdfast.KindUnavailable
		if os.IsNotExist(err) {
			kind = holdfast.KindNotFound
		}
		return holdfast.Wrap(kind, err, "the events cannot be read").WithField("events").WithHint("name a file with an event on each line")
	}
	defer f.Close()
	result, err := replay.Run(f, documents)
	if err != nil {
		return err
	}
	return c.console.Result(result, func(w io.Writer) error { return show.Replay(w, result) })
}
