package policies

import (
	"bufio"
	"context"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/preview"
)

// previewDaysMax bounds --days: ten years.
const previewDaysMax = 3_660

// previewFlags are what a preview is asked for.
type previewFlags struct {
	files   []string
	against []string
	points  string
	prices  string
	from    string
	days    int
	assumed cost.Assumptions
}

func (c *commands) policyPreviewCommand() *cobra.Command {
	o := previewFlags{assumed: cost.DefaultAssumptions()}
	cmd := &cobra.Command{
		Use: "preview", Short: "Show what policies will do, before they are saved", Args: command.NoArguments,
		Long: `Show what policies will do: every run, point and removal of the days to come, with its reason; what is kept at the end; what it
costs; which limits of Azure it comes near; on which days the clocks change. The engines are those that will carry the policies out, on a virtual
clock, in a world in which every session succeeds at once. Nothing is changed anywhere.

With --against the difference to other documents is shown, such as those in force. With --points, which takes what holdfast retention explain
takes, existing points are part of the world, and those that an edit would take are named.

With --json each event is a line of its own: {"at","vm","policy","event","slot","point","flags","reason"}; doc/cli.md lists the events.`,
		Example: `  holdfast policy preview -f examples/policies --inventory inventory.json
  holdfast policy preview -f new.yaml --against policies.yaml --azure azure.yaml --days 90
  holdfast policy preview -f policies.yaml --inventory inventory.json --from 2026-03-01T00:00:00Z --days 400 --json > events.jsonl`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.policyPreview(cmd.Context(), o) },
	}
	documentsFlag(cmd, &o.files)
	c.inventoryFlags(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&o.against, "against", nil, "file or folder with other documents, to show the difference to them; may be given several times")
	flags.StringVar(&o.points, "points", "", "file with the restore points that exist")
	flags.StringVar(&o.prices, "prices", "", "file with prices in place of the list prices; doc/policies.md has its form")
	flags.StringVar(&o.from, "from", "", "when the preview begins: a date, or a time such as 2026-03-01T00:00:00Z (default: now)")
	flags.IntVar(&o.days, "days", 30, "how many days of 24 hours it shows")
	flags.Float64Var(&o.assumed.Occupied, "occupied", o.assumed.Occupied, "share of the disks that holds data, for costs")
	flags.Float64Var(&o.assumed.DailyChurn, "daily-churn", o.assumed.DailyChurn, "share of the data that changes in a day, for costs")
	flags.Float64Var(&o.assumed.Compression, "compression", o.assumed.Compression, "stored size over plain size, for costs")
	return cmd
}

// policyPreview reads what the world is made of and shows what happens in it.
func (c *commands) policyPreview(ctx context.Context, o previewFlags) error {
	from, until, err := c.previewRange(o)
	if err != nil {
		return err
	}
	documents, err := c.documents(o.files)
	if err != nil {
		return err
	}
	in, err := c.previewWorld(ctx, o)
	if err != nil {
		return err
	}
	in.Documents = documents
	after, err := preview.New(in, from)
	if err != nil {
		return err
	}
	if len(o.against) == 0 {
		return c.showPreview(ctx, after, until)
	}
	if in.Documents, err = c.documents(o.against); err != nil {
		return err
	}
	before, err := preview.New(in, from)
	if err != nil {
		return err
	}
	return c.showDifference(ctx, before, after, until)
}

// previewRange reads --from and --days.
func (c *commands) previewRange(o previewFlags) (from, until time.Time, err error) {
	from = c.clock.Now().UTC().Truncate(time.Second)
	if o.from != "" {
		if from, err = command.Instant(o.from, "from"); err != nil {
			return from, until, err
		}
	}
	if o.days < 1 || o.days > previewDaysMax {
		return from, until, holdfast.Errorf(holdfast.KindInvalid, "%d days cannot be shown", o.days).WithField("days").WithHint("write a number from 1 to %d", previewDaysMax)
	}
	return from, from.Add(time.Duration(o.days) * 24 * time.Hour), nil
}

// previewWorld reads all but the documents.
func (c *commands) previewWorld(ctx context.Context, o previewFlags) (preview.Input, error) {
	in := preview.Input{Assumptions: o.assumed}
	var err error
	if in.Prices, err = readPrices(o.prices); err != nil {
		return in, err
	}
	if o.points != "" {
		if in.Points, err = readPoints(o.points); err != nil {
			return in, err
		}
	}
	in.Inventory, err = c.inventory(ctx)
	return in, err
}

func readPrices(path string) (*cost.Prices, error) {
	if path == "" {
		return cost.BuiltIn()
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindNotFound, err, "the prices cannot be read").WithField("prices")
	}
	return cost.ReadPrices(data)
}

// showPreview streams the events to scripts, and shows people a calendar and a summary.
func (c *commands) showPreview(ctx context.Context, p *preview.Preview, until time.Time) error {
	out := bufio.NewWriter(c.console.Out)
	var buffer []byte
	for e, err := range p.Run(until) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && c.console.JSON {
			buffer, err = e.Lines(buffer[:0])
			if err == nil {
				_, err = out.Write(buffer)
			}
		}
		if err != nil {
			return err
		}
	}
	if err := c.concludePreview(out, p.Summary()); err != nil {
		return err
	}
	return out.Flush()
}

// concludePreview ends a preview: to scripts with events more, to people with all there is.
func (c *commands) concludePreview(out io.Writer, s preview.Summary) error {
	if !c.console.JSON {
		return show.Preview(out, s)
	}
	for _, e := range s.Conclusions() {
		text, err := e.Lines(nil)
		if err != nil {
			return err
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	return nil
}

// showDifference streams what differs to scripts, with a field change in front, and shows people what that comes to.
func (c *commands) showDifference(ctx context.Context, before, after *preview.Preview, until time.Time) error {
	out := bufio.NewWriter(c.console.Out)
	lost := preview.LostByEdit(before, after)
	counts := show.Differences{}
	var buffer []byte
	for change, err := range preview.Compare(before, after, until) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && c.console.JSON {
			buffer, err = change.Lines(buffer[:0])
			if err == nil {
				_, err = out.Write(buffer)
			}
		}
		if err != nil {
			return err
		}
		counts.Add(change)
	}
	if !c.console.JSON {
		if err := show.Difference(out, counts, lost, before.Summary(), after.Summary()); err != nil {
			return err
		}
	}
	return out.Flush()
}
