package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/sim"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// What --days, ten years, and --crashes are bounded by.
const (
	simDaysMax    = 3_660
	simCrashesMax = 100_000
)

type simOptions struct {
	files                []string
	estate, faults, from string
	days                 int
	seed                 uint64
	crashes              int
	dir                  string
}

func (a *app) simCommand() *cobra.Command {
	var o simOptions
	cmd := &cobra.Command{
		Use: "sim", Short: "Let policies run on a simulated Azure, for days to come", Args: command.NoArguments,
		Long: `Let policies run on a simulated Azure through days to come, in minutes: the scheduler, the flows and the repositories that a server is made
of, over the twin and the real SDK, on one virtual clock. Guests write into their disks by a seeded pattern. At the end every backup and archive is
read, and compared with what its disks held, and every snapshot in the cloud is held against what is written down; what is wrong ends the
command with 1.

Nothing is reached but this machine. Repositories lie in the simulation's own folder, whatever their documents say, and no secret is read.
One seed makes one history, but for the names that repositories give to points. Without --faults and --crashes its events are those of holdfast policy preview for the same time; with --json they are printed in
the same form, a line each, and the proof of the end as the last line.`,
		Example: `  holdfast sim -f examples/policies --estate examples/shop.yaml --days 7
  holdfast sim -f policies.yaml --estate estate.yaml --from 2026-03-01 --days 30 --seed 7 --faults faults.yaml --crashes 20 --json > events.jsonl`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.sim(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&o.files, "file", "f", nil, "file or folder with documents; may be given several times")
	flags.StringVar(&o.estate, "estate", "", "file that says what exists in the simulated Azure (doc/twin.md)")
	flags.StringVar(&o.faults, "faults", "", "file that says what goes wrong in it")
	flags.StringVar(&o.from, "from", "", "when the simulation begins: a date, or a time such as 2026-03-01T00:00:00Z (default: now)")
	flags.IntVar(&o.days, "days", 7, "how many days of 24 hours it lasts")
	flags.Uint64Var(&o.seed, "seed", 1, "what guests write, and the names of things, follow from it")
	flags.IntVar(&o.crashes, "crashes", 0, "how often the control plane dies in the middle of its work, at seeded moments, and another one takes over")
	flags.StringVar(&o.dir, "dir", "", "folder for the simulated world, empty or not there yet, that stays (default: a temporary one)")
	command.Required(cmd, "file", "estate")
	return cmd
}

func (a *app) sim(ctx context.Context, o simOptions) (err error) {
	config, err := a.simConfig(o)
	if err != nil {
		return err
	}
	if config.Folder, err = simFolder(o.dir); err != nil {
		return err
	}
	if o.dir == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(config.Folder)) }()
	}
	s, err := sim.Start(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close(context.WithoutCancel(ctx))) }()
	count := simCount{}
	if err := s.Run(ctx, func(e store.Event) error { return a.tellSimulated(e, count) }); err != nil {
		return err
	}
	a.console.Note("Reading every restore point and comparing it with what its disks held.")
	proof, err := s.Prove(ctx)
	if err != nil {
		return err
	}
	if err := a.console.Result(proof, func(w io.Writer) error { return tellProof(w, count, proof) }); err != nil {
		return err
	}
	if len(proof.Wrong) > 0 {
		return command.ErrTold
	}
	return nil
}

// simConfig reads what the flags name.
func (a *app) simConfig(o simOptions) (sim.Config, error) {
	config := sim.Config{EstateFile: o.estate, FaultFile: o.faults, Seed: o.seed, Crashes: o.crashes, Log: a.log()}
	if o.days < 1 || o.days > simDaysMax {
		return config, holdfast.Errorf(holdfast.KindInvalid, "%d is no number of days", o.days).WithField("days").WithHint("write a whole number from 1 to %d", simDaysMax)
	}
	if o.crashes < 0 || o.crashes > simCrashesMax {
		return config, holdfast.Errorf(holdfast.KindInvalid, "%d is no number of crashes", o.crashes).WithField("crashes").WithHint("write a whole number from 0 to %d", simCrashesMax)
	}
	var err error
	config.From = a.clock.Now().UTC().Truncate(time.Second)
	if o.from != "" {
		if config.From, err = command.Instant(o.from, "from"); err != nil {
			return config, err
		}
	}
	config.Until = config.From.AddDate(0, 0, o.days)
	files, err := document.Load(o.files...)
	if err != nil {
		return config, err
	}
	config.Documents, _, err = document.Read(files...)
	return config, err
}

// simFolder makes the folder of a simulation. One with something in it is refused.
func simFolder(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "holdfast-sim-")
	}
	if names, err := os.ReadDir(dir); err == nil && len(names) > 0 {
		return "", holdfast.Errorf(holdfast.KindInvalid, "the folder %s is not empty", dir).WithField("dir").WithHint("name one that is empty or not there yet")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", holdfast.Wrap(holdfast.KindInvalid, err, "the folder cannot be made").WithField("dir")
	}
	return dir, nil
}

// simCount is how often what happened, by policy.
type simCount map[string]map[string]int

// tellSimulated prints an event for scripts, and counts it for people.
func (a *app) tellSimulated(e store.Event, count simCount) error {
	if count[e.Policy] == nil {
		count[e.Policy] = map[string]int{}
	}
	count[e.Policy][e.Name]++
	if !a.console.JSON {
		return nil
	}
	event := preview.Event{At: e.At, Policy: e.Policy, Name: preview.Name(e.Name), Slot: e.Slot, Point: e.Point, Flags: e.Flags, Reason: e.Reason}
	if e.VM != "" {
		event.Machines = []holdfast.ResourceID{e.VM}
	}
	lines, err := event.Lines(nil)
	if err != nil {
		return err
	}
	_, err = a.console.Out.Write(lines)
	return err
}

// tellProof says to a person what happened, and what was found at the end.
func tellProof(w io.Writer, count simCount, proof sim.Proof) error {
	var rows [][]string
	for _, policy := range slices.Sorted(maps.Keys(count)) {
		row := []string{policy}
		for _, name := range []preview.Name{preview.Run, preview.Snapshot, preview.Backup, preview.Archive, preview.Refused, preview.Skipped, preview.Remove, preview.Met, preview.Missed, preview.Excused} {
			row = append(row, fmt.Sprint(count[policy][string(name)]))
		}
		rows = append(rows, row)
	}
	head := strings.Fields("POLICY SESSIONS SNAPSHOTS BACKUPS ARCHIVES REFUSED SKIPPED REMOVED MET MISSED EXCUSED")
	if err := cli.Table(w, head, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\nread %d restore points with %d disks: %s; %d snapshots in the cloud, all of them known\n", proof.Points, proof.Disks, equalOrNot(proof), proof.Snapshots); err != nil {
		return err
	}
	for _, wrong := range proof.Wrong {
		if _, err := fmt.Fprintf(w, "Wrong: %s\n", wrong); err != nil {
			return err
		}
	}
	return nil
}

func equalOrNot(proof sim.Proof) string {
	if len(proof.Wrong) > 0 {
		return fmt.Sprintf("%d things are wrong", len(proof.Wrong))
	}
	return "all equal to what the disks held"
}
