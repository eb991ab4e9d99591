package index

import (
	"context"
	"slices"
)

// Change is a set of runs that is being changed: the live ones of a state, or those that a session has written so far. Not safe for
// concurrent use.
type Change struct {
	Added   []About  // made by the change and still part of it
	Dropped []string // of the runs that were there before
	Merged  int      // entries that merges have read

	before map[string]bool
	runs   []About
}

// NewChange starts from runs that are there.
func NewChange(runs []About) *Change {
	c := &Change{runs: slices.Clone(runs), before: make(map[string]bool, len(runs))}
	for _, run := range runs {
		c.before[run.Name] = true
	}
	return c
}

// Runs returns the runs as changed.
func (c *Change) Runs() []About { return slices.Clone(c.runs) }

// Adopt takes up runs that were made elsewhere as part of the change.
func (c *Change) Adopt(runs []About) {
	c.Added, c.runs = append(c.Added, runs...), append(c.runs, runs...)
}

// Do does one step, with new entries, and takes over what it made.
func (c *Change) Do(ctx context.Context, m *Merger, step Step, entries []Entry) error {
	made, err := m.Do(ctx, step, entries)
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	for _, run := range step.Dropped() {
		gone[run.Name] = true
		c.Merged += run.Entries
		if c.before[run.Name] {
			c.Dropped = append(c.Dropped, run.Name)
		}
	}
	isGone := func(run About) bool { return gone[run.Name] }
	c.runs = append(slices.DeleteFunc(c.runs, isGone), made...)
	c.Added = append(slices.DeleteFunc(c.Added, isGone), made...)
	return nil
}

// Add puts new entries into a run of their own, merged with those that they should be merged with.
func (c *Change) Add(ctx context.Context, m *Merger, entries []Entry) error {
	return c.Do(ctx, m, PlanAdd(c.runs, len(entries), m.Reader.limits), entries)
}

// Tend does what Plan says until there is nothing left to do, or merges have read that many entries, or the change has become so long
// that a log entry would not hold it. At least one step is done if one is due.
func (c *Change) Tend(ctx context.Context, m *Merger, entriesMax int) error {
	for start := c.Merged; ; {
		step, due := Plan(c.runs, m.Reader.limits)
		if !due || c.Merged > start && c.Merged-start+step.Entries() > entriesMax || len(c.Added)+len(c.Dropped) > ChangedRunsMax {
			return nil
		}
		if err := c.Do(ctx, m, step, nil); err != nil {
			return err
		}
	}
}

// ChangedRunsMax is how many runs a change may name before it is better written down: a log entry has up to 1 MiB, and takes some 200
// bytes for a run that is added.
const ChangedRunsMax = 3000
