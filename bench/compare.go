package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"github.com/holdfast-backup/holdfast/internal/clock"
)

// results are the samples of all rounds, by engine and step.
type results map[string]map[string][]sample

// compare measures all engines and prints the tables.
func compare(ctx context.Context, o options, d disks, limits ceiling) error {
	engines := known(o)
	if len(engines) == 0 {
		return errors.New("no engine is left to measure")
	}
	all := results{}
	for round := range o.rounds {
		turned := slices.Concat(engines[round%len(engines):], engines[:round%len(engines)])
		if err := oneRound(ctx, o, d, turned, all); err != nil {
			return err
		}
	}
	return outcome{o, d, engines, all, limits}.tell(os.Stdout)
}

// oneRound gives every engine a fresh repository and takes them through the steps side by side.
func oneRound(ctx context.Context, o options, d disks, engines []engine, all results) error {
	round, err := os.MkdirTemp(o.dir, "round-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(round) // of our own making
	for _, e := range engines {
		if err := os.MkdirAll(filepath.Join(round, e.name, "out"), 0o700); err != nil {
			return err
		}
		if _, err := measured(ctx, e.command(round, e.create(e, e.repo(round)))); err != nil {
			return err
		}
		if all[e.name] == nil {
			all[e.name] = map[string][]sample{}
		}
	}
	first := map[string]string{} // what each engine calls its full backup
	for _, step := range steps {
		for _, e := range engines {
			s, err := e.step(ctx, stage{round, first[e.name], d}, step)
			if err != nil {
				return err
			}
			if step == stepFull && e.first != nil {
				if first[e.name], err = e.firstID(ctx, round); err != nil {
					return err
				}
			}
			all[e.name][step] = append(all[e.name][step], s)
			fmt.Fprintf(os.Stderr, "%-26s %-18s %7.2f s %7.2f s of processors %8.1f MiB stored %6.0f MiB of memory\n", e.name, step, s.seconds, s.cpu, mib(s.stored), mib(s.peak))
		}
	}
	return nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func (e engine) repo(round string) string { return filepath.Join(round, e.name, "repo") }

func (e engine) command(round string, args []string) command {
	place := filepath.Join(round, e.name)
	return command{args: args, env: append(e.env, "HOME="+place), dir: place, repo: e.repo(round)}
}

// stage is what a step finds: the folder of the round, what the engine calls its full backup, and the disk.
type stage struct {
	round, first string
	disks        disks
}

// step measures one step of one engine. A restore that is not equal is an error: speed without truth counts for nothing.
func (e engine) step(ctx context.Context, at stage, step string) (sample, error) {
	switch step {
	case stepRestore:
		c := e.command(at.round, e.restore(e, e.repo(at.round), at.first))
		c.dir = filepath.Join(c.dir, "out")
		s, err := measured(ctx, c)
		if err != nil {
			return s, err
		}
		out := filepath.Join(c.dir, "disk.img")
		return s, errors.Join(mustBeEqual(ctx, out, at.disks.base), os.Remove(out))
	case stepVerify:
		return measured(ctx, e.command(at.round, e.verify(e, e.repo(at.round))))
	}
	place := filepath.Join(at.round, e.name)
	if err := lay(place, step, at.disks); err != nil {
		return sample{}, err
	}
	return measured(ctx, e.command(at.round, e.backup(e, e.repo(at.round), step, at.first)))
}

// lay puts the disk as it is at a step, and the list of what changed since the full backup, where engines look for them. The disk's
// time is the present: a disk in use is never older than its last backup.
func lay(place, step string, d disks) error {
	disk, list := d.base, d.noList
	switch step {
	case stepRuns:
		disk, list = d.runs, d.runsList
	case stepPages:
		disk, list = d.pages, d.pagesList
	}
	for from, name := range map[string]string{disk: "disk.img", list: "changes"} {
		to := filepath.Join(place, name)
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		if err := os.Link(from, to); err != nil {
			return err
		}
	}
	now := clock.System{}.Now()
	return os.Chtimes(disk, now, now)
}

// firstID asks an engine for the id of its first backup: the first in its own list.
func (e engine) firstID(ctx context.Context, round string) (string, error) {
	c := e.command(round, e.first(e, e.repo(round)))
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Env, cmd.Dir = append(os.Environ(), c.env...), c.dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%v: %w", c.args, err)
	}
	var list []struct{ ID string }
	if err := json.Unmarshal(out, &list); err != nil || len(list) == 0 {
		return "", fmt.Errorf("%v lists no backup: %s", c.args, bytes.TrimSpace(out))
	}
	return list[0].ID, nil
}

func mustBeEqual(ctx context.Context, a, b string) error {
	if out, err := exec.CommandContext(ctx, "cmp", a, b).CombinedOutput(); err != nil {
		return fmt.Errorf("the restored disk differs: %w: %s", err, out)
	}
	return nil
}

// outcome is what a comparison found.
type outcome struct {
	o       options
	disks   disks
	engines []engine
	results results
	limits  ceiling
}

// tell prints medians: of each engine, and as multiples of the first one, and how near that one comes to the ceilings.
func (r outcome) tell(w io.Writer) error {
	t := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	ours := r.engines[0].name
	fmt.Fprintf(w, "\nA disk of %.1f GiB with %.1f GiB of data; 1 %% touches chunks of %.0f MiB in runs and %.0f MiB in pages. %d rounds, medians.\n",
		float64(r.o.disk)/(1<<30), float64(r.disks.allocated)/(1<<30), mib(r.disks.runsTouched), mib(r.disks.pagesTouched), r.o.rounds)
	for _, table := range []struct {
		title string
		value func(samples []sample) float64
	}{
		{"time, s", func(s []sample) float64 { return median(s, seconds) }},
		{"processor time, s", func(s []sample) float64 { return median(s, cpu) }},
		{"stored, MiB", func(s []sample) float64 { return mib(median(s, stored)) }},
		{"peak memory, MiB", func(s []sample) float64 { return mib(median(s, peak)) }},
	} {
		fmt.Fprintf(t, "\n%s (as a multiple of %s)", table.title, ours)
		for _, e := range r.engines {
			fmt.Fprintf(t, "\t%s", e.name)
		}
		fmt.Fprintln(t)
		for _, step := range steps {
			fmt.Fprint(t, step)
			base := table.value(r.results[ours][step])
			for _, e := range r.engines {
				value := table.value(r.results[e.name][step])
				fmt.Fprintf(t, "\t%.2f", value)
				if base > 0.005 {
					fmt.Fprintf(t, " (%.2f)", value/base)
				}
			}
			fmt.Fprintln(t)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return r.limits.tell(w, median(r.results[ours][stepFull], seconds), median(r.results[ours][stepRestore], seconds))
}
