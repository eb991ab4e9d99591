package remote

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/api/client"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/report"
	"github.com/holdfast-backup/holdfast/internal/view"
)

func (c *commands) slaReportCommand() *cobra.Command {
	var period, from, to string
	var asCSV bool
	cmd := &cobra.Command{
		Use: "report NAME", Short: "Show how an SLA policy of the server did, period by period", Args: words("NAME"),
		Long: `Show how an SLA policy of the server did: each row of its template in each day, week or month, the newest first; what was missed and why;
what is still expected. Without --from and --to these are the last 14 days, 12 weeks or 12 months. --csv has a line for each machine of each
row and period.`,
		Example: `  holdfast sla report gold --period daily
  holdfast sla report gold --period monthly --from 2026-01-01 --to 2026-03-01 --csv > gold.csv`,
	}
	cmd.Flags().StringVar(&period, "period", "", "daily, weekly or monthly")
	cmd.Flags().StringVar(&from, "from", "", "first day of the oldest period, such as 2026-03-01")
	cmd.Flags().StringVar(&to, "to", "", "first day of the newest period")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "write CSV")
	command.Required(cmd, "period")
	return c.asking(cmd, func(ctx context.Context, server *client.Client, args []string) error {
		if err := oneOf("period", []string{period}, []string{"daily", "weekly", "monthly"}); err != nil {
			return err
		}
		if asCSV && c.console.JSON {
			return holdfast.Errorf(holdfast.KindInvalid, "--csv and --json exclude each other").WithField("csv").WithHint("give one of them")
		}
		told, err := server.SLAReport(ctx, args[0], client.ReportFilter{Period: period, From: from, To: to})
		if err != nil {
			return err
		}
		return c.result(told, func(w io.Writer) error {
			if asCSV {
				return reportCSV(w, told)
			}
			return show.SLAReport(w, told)
		})
	})
}

// reportCSV writes a line for each machine of each row and period.
func reportCSV(w io.Writer, r report.Report) error {
	out := csv.NewWriter(w)
	lines := [][]string{{"policy", "template", "period", "entry", "kind", "flag", "machine", "planned", "met", "missed", "excused", "open", "proven", "createdPercent", "provenPercent", "targetPercent", "status"}}
	for _, e := range r.Entries {
		for _, m := range e.ByMachine {
			lines = append(lines, []string{
				r.Policy, r.Template, r.Period.String(), e.Compliance.Entry.String(), string(e.Kind), e.Flag.String(), string(m.Machine), strconv.Itoa(m.Planned), strconv.Itoa(m.Met), strconv.Itoa(m.Missed),
				strconv.Itoa(m.Excused), strconv.Itoa(m.Open), strconv.Itoa(m.Proven), number(m.Created), number(m.ProvenRatio), number(&e.TargetPercent), string(m.Status),
			})
		}
	}
	return out.WriteAll(lines)
}

func number(share *float64) string {
	if share == nil {
		return ""
	}
	return strconv.FormatFloat(*share, 'f', -1, 64)
}

func (c *commands) notifyCommand() *cobra.Command {
	var to string
	test := &cobra.Command{
		Use: "test", Short: "Have the server send a trial message",
		Long: `Have the server send a trial message, to one address or to all recipients and webhooks of the installation, and say what became of it. The
exit code is 1 unless all were delivered.`,
		Example: `  holdfast notify test
  holdfast notify test --to anna@example.com`,
	}
	test.Flags().StringVar(&to, "to", "", "an address; otherwise the recipients and webhooks that are set up")
	return command.Group(c.console, "notify", "Mail and webhooks of the server", "",
		c.asking(test, func(ctx context.Context, server *client.Client, _ []string) error {
			return c.testNotifications(ctx, server, to)
		}))
}

func (c *commands) testNotifications(ctx context.Context, server *client.Client, to string) error {
	sent, err := server.TestNotifications(ctx, view.TestNotification{To: to})
	if err != nil {
		return err
	}
	if err := c.result(sent, func(w io.Writer) error { return tellDeliveries(w, sent.Deliveries) }); err != nil {
		return err
	}
	for _, d := range sent.Deliveries {
		if !d.OK {
			return command.ErrTold
		}
	}
	return nil
}

func tellDeliveries(w io.Writer, deliveries []view.Delivery) error {
	var rows [][]string
	for _, d := range deliveries {
		outcome := "delivered"
		if !d.OK {
			outcome = "failed: " + d.Problem
		}
		rows = append(rows, []string{d.To, outcome})
	}
	if err := table(w, []string{"TO", "OUTCOME"}, rows, "Nobody is set up to hear of anything. Mail and webhooks stand in the document of kind Installation."); err != nil {
		return err
	}
	for _, d := range deliveries {
		if d.Hint == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "  → %s: %s\n", d.To, d.Hint); err != nil {
			return err
		}
	}
	return nil
}
