// Package week tells the story of a week in half a minute: what two policies will do is previewed, the week is lived through on a twin that
// misbehaves, and what happened is held against the preview.
//
// It promises to report what it saw and nothing else: the preview is the one of package preview, the record the one that a server would have
// written, and in the end every restore point is read and compared with what its disks held.
package week

import (
	"context"
	"embed"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/report"
	"github.com/holdfast-backup/holdfast/internal/sim"
	"github.com/holdfast-backup/holdfast/internal/store"
)

//go:embed estate.yaml policies.yaml faults.yaml
var files embed.FS

// days is how long the week lasts: one day more, in which its last window closes.
const days = 8

// lookEvery is how often the cloud is looked at: nothing comes or goes in this week.
const lookEvery = 6 * time.Hour

// seed makes it the same week each time.
const seed = 7

// slaPolicy is the one whose report is told.
const slaPolicy = "gold"

// Config says what to work with. All fields are required.
type Config struct {
	Folder string // empty, or not there yet; what is made in it stays
	From   time.Time
	Log    *slog.Logger
	Say    func(format string, args ...any) // one line of the story
}

// Report is what the week came to.
type Report struct {
	OK          bool            `json:"ok"` // every difference is explained, and every point equal
	Preview     preview.Summary `json:"preview"`
	Promised    int             `json:"promisedEvents"`
	Happened    int             `json:"recordedEvents"`
	Differences []string        `json:"differences"` // sentences
	Unexplained int             `json:"unexplained"`
	Refused     int             `json:"refused"`
	Missed      int             `json:"missedSlots"`
	SLA         report.Report   `json:"sla"`
	Proof       sim.Proof       `json:"proof"`
}

// Run lives through the week.
func Run(ctx context.Context, c Config) (r Report, err error) {
	w := &week{config: c, until: c.From.AddDate(0, 0, days)}
	if err := w.begin(ctx); err != nil {
		return r, err
	}
	defer func() { err = firstOf(err, w.world.Close(context.WithoutCancel(ctx))) }()
	for _, step := range []func(context.Context) error{w.preview, w.live, w.compare, w.readBack} {
		if err := step(ctx); err != nil {
			return w.report, err
		}
	}
	w.report.OK = w.report.Unexplained == 0 && len(w.report.Proof.Wrong) == 0
	return w.report, nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

type week struct {
	config    Config
	until     time.Time
	documents holdfast.Documents
	world     *sim.Simulation
	promised  []store.Event
	happened  []store.Event
	report    Report
}

// begin makes the world.
func (w *week) begin(ctx context.Context) error {
	if err := os.MkdirAll(w.config.Folder, 0o700); err != nil {
		return holdfast.Wrap(holdfast.KindInvalid, err, "the folder of the week cannot be made")
	}
	paths := map[string]string{}
	for _, name := range []string{"estate.yaml", "faults.yaml", "policies.yaml"} {
		data, err := files.ReadFile(name)
		holdfast.Invariant(err == nil, "%s is embedded: %v", name, err)
		paths[name] = filepath.Join(w.config.Folder, name)
		if err := os.WriteFile(paths[name], data, 0o600); err != nil {
			return holdfast.Wrap(holdfast.KindUnavailable, err, "a file of the week cannot be written")
		}
	}
	read, err := document.Load(paths["policies.yaml"])
	if err != nil {
		return err
	}
	if w.documents, _, err = document.Read(read...); err != nil {
		return err
	}
	w.world, err = sim.Start(ctx, sim.Config{
		Folder: filepath.Join(w.config.Folder, "world"), EstateFile: paths["estate.yaml"], FaultFile: paths["faults.yaml"], Documents: w.documents,
		From: w.config.From, Until: w.until, Seed: seed, Log: w.config.Log, LookEvery: lookEvery,
	})
	return err
}

// preview asks the engines what is going to happen.
func (w *week) preview(ctx context.Context) error {
	w.config.Say("Previewing a week of two policies, before anything is saved: gold machines by an SLA, all others each night.")
	inventory, err := w.world.Inventory(ctx)
	if err != nil {
		return err
	}
	prices, err := cost.BuiltIn()
	if err != nil {
		return err
	}
	p, err := preview.New(preview.Input{Documents: w.documents, Inventory: inventory, Prices: prices, Assumptions: cost.DefaultAssumptions()}, w.config.From)
	if err != nil {
		return err
	}
	for e, err := range p.Run(w.until) {
		if err != nil {
			return err
		}
		w.promised = append(w.promised, sim.Promised(e)...)
	}
	w.report.Preview, w.report.Promised = p.Summary(), len(w.promised)
	return nil
}

// live lets the week pass.
func (w *week) live(ctx context.Context) error {
	w.config.Say("Living through that week on a simulated Azure in which snapshots fail for some hours, and connections break off.")
	err := w.world.Run(ctx, func(e store.Event) error {
		w.happened = append(w.happened, e)
		switch preview.Name(e.Name) {
		case preview.Refused:
			w.report.Refused++
		case preview.Missed:
			w.report.Missed++
		default:
		}
		return nil
	})
	w.report.Happened = len(w.happened)
	return err
}

// compare holds what happened against what was promised, and asks how the SLA policy did.
func (w *week) compare(ctx context.Context) (err error) {
	w.report.Differences = []string{}
	for _, d := range sim.Explain(w.promised, w.happened) {
		w.report.Differences = append(w.report.Differences, d.String())
		if d.Cause == nil {
			w.report.Unexplained++
		}
	}
	w.report.SLA, err = w.world.Report(ctx, report.Ask{Policy: slaPolicy, Period: holdfast.Daily, Slots: report.MissedSlots, UnderWay: true})
	return err
}

// readBack reads every restore point.
func (w *week) readBack(ctx context.Context) (err error) {
	w.config.Say("Reading every restore point of the week and comparing it with what its disks held.")
	w.report.Proof, err = w.world.Prove(ctx)
	return err
}

// differencesTold bounds how many differences a person is told.
const differencesTold = 3

// Tell prints the report for a person.
func (r Report) Tell(out io.Writer) error {
	lines := &lines{out: out}
	lines.add("\nA week of two policies, previewed\n=================================\n")
	lines.do(func() error { return show.Preview(out, r.Preview) })
	lines.add("\nThe week as it was\n==================\n")
	lines.add("%d events were previewed, %d are on record; %d refusals, %d missed slots.", r.Promised, r.Happened, r.Refused, r.Missed)
	lines.add("%d lines differ, %d of them unexplained.", len(r.Differences), r.Unexplained)
	told := slices.Clone(r.Differences[:min(len(r.Differences), differencesTold)])
	for _, d := range told {
		lines.add("  %s", d)
	}
	if more := len(r.Differences) - len(told); more > 0 {
		lines.add("  and %d more (--json tells them all)", more)
	}
	lines.add("")
	lines.do(func() error { return show.SLAReport(out, r.SLA) })
	lines.add("\nRead back  %d restore points with %d disks: %s", r.Proof.Points, r.Proof.Disks, map[bool]string{true: "all equal to what the disks held", false: "SOMETHING IS WRONG"}[len(r.Proof.Wrong) == 0])
	for _, wrong := range r.Proof.Wrong {
		lines.add("  %s", wrong)
	}
	return lines.err
}

// lines writes until something fails.
type lines struct {
	out io.Writer
	err error
}

func (l *lines) add(format string, args ...any) {
	l.do(func() error {
		_, err := fmt.Fprintf(l.out, format+"\n", args...)
		return err
	})
}

func (l *lines) do(what func() error) {
	if l.err == nil {
		l.err = what()
	}
}
