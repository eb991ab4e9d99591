package policies

import (
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

func (c *commands) retentionCommand() *cobra.Command {
	return command.Group(c.console, "retention", "Which restore points stay, and why", "", c.retentionExplainCommand())
}

func (c *commands) retentionExplainCommand() *cobra.Command {
	var points, at string
	var files []string
	cmd := &cobra.Command{
		Use: "explain", Short: "Say of each restore point whether it stays, why, and until when", Args: command.NoArguments,
		Long: `Say of each restore point of a list whether it stays, why, and until when, or why it goes, if a session closed and the daily pass ran
at that moment. Nothing is removed. Each machine is looked at alone, by the rules of the policy that made its newest point; when no
document has that policy any more, by the rules stored with its points.`,
		Example: `  holdfast retention explain --points points.json -f policies.yaml
  holdfast retention explain --points points.json -f policies.yaml --at 2026-05-01T00:15:00Z --json`,
		RunE: func(*cobra.Command, []string) error { return c.explainRetention(points, files, at) },
	}
	cmd.Flags().StringVar(&points, "points", "", "file with restore points: a JSON array, or one JSON object after the other")
	cmd.Flags().StringVar(&at, "at", "", "the moment, such as 2026-05-01T00:15:00Z (default: now)")
	documentsFlag(cmd, &files)
	command.Required(cmd, "points")
	return cmd
}

func (c *commands) explainRetention(file string, documents []string, at string) error {
	now, err := c.moment(at)
	if err != nil {
		return err
	}
	d, err := c.documents(documents)
	if err != nil {
		return err
	}
	points, err := readPoints(file)
	if err != nil {
		return err
	}
	explained, err := explain(now, d, points)
	if err != nil {
		return err
	}
	return c.console.Result(explained, func(w io.Writer) error { return explained.Tell(w) })
}

// moment reads what --at says; now where it says nothing.
func (c *commands) moment(at string) (time.Time, error) {
	if at == "" {
		return c.clock.Now(), nil
	}
	return command.Instant(at, "at")
}

func readPoints(file string) ([]retention.Point, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindNotFound, err, "the restore points %s cannot be read", file).WithField("points").
			WithHint("name a file with a JSON array of restore points, or with one JSON object after the other")
	}
	return retention.ParsePoints(file, data)
}

// explain looks at each machine alone, as if a session closed and the daily pass ran now.
func explain(now time.Time, d holdfast.Documents, points []retention.Point) (show.Retention, error) {
	settings, err := retention.SettingsOf(d.Installation)
	if err != nil {
		return show.Retention{}, err
	}
	explained := show.Retention{At: now.UTC(), NextPass: settings.NextPass(now).UTC(), Machines: []show.RetentionMachine{}}
	for _, machine := range retention.Machines(points) {
		latest := retention.Latest(machine)
		rules, err := rulesOf(d, settings, latest)
		if err != nil {
			return show.Retention{}, err
		}
		explained.Add(show.RetentionMachine{
			VM: machine[0].VM, Policy: latest.Policy, Protected: rules.Protected, Zone: rules.Zone.String(),
			Points: retention.Explain(now, retention.BothOccasions, rules, machine),
		})
	}
	return explained, nil
}

// rulesOf returns what applies to a machine, by the documents and its latest point alone.
func rulesOf(d holdfast.Documents, settings retention.Settings, latest retention.Point) (retention.Rules, error) {
	for _, p := range d.SchedulePolicies {
		if p.Name != latest.Policy {
			continue
		}
		zone := settings.Zone
		if p.Zone != "" {
			var err error
			if zone, err = civil.Zone(p.Zone); err != nil {
				return retention.Rules{}, err
			}
		}
		return retention.RulesOf(p, zone, settings), nil
	}
	for _, p := range d.SLAPolicies {
		if template, ok := d.SLATemplate(p.Template); ok && p.Name == latest.Policy {
			zone, err := machineZone(latest.Region, settings.Zone)
			return retention.RulesOfTemplate(template, zone, settings), err
		}
	}
	rules := retention.Unprotected(settings)
	rules.Zone = settings.Zone
	return rules, nil
}

// machineZone is the zone of a machine's region; that of the installation where no region is known.
func machineZone(region string, otherwise *time.Location) (*time.Location, error) {
	if region == "" {
		return otherwise, nil
	}
	name, _ := schedule.RegionZone(strings.ToLower(region))
	return civil.Zone(name)
}
