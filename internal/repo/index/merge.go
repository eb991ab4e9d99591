package index

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// Merger makes runs in the name of a session. Not safe for concurrent use.
type Merger struct {
	Reader  *Reader
	Without func(pack Pack) bool // entries of these packs are left out; nil for none
	Clean   uint64               // what Without stands for: About.Clean of the runs that are made
	Header  func() seal.Header   // of a new run
	// Put stores a run and returns its name. The bytes are not kept.
	Put func(ctx context.Context, data []byte) (string, error)
	// Buffer returns memory of at least so many bytes for the run under way, and a function that gives it back.
	Buffer func(size int) (buffer []byte, release func())
}

// Do unites the runs of a step and new entries, which may come in any order and win over those of runs, into runs of the step's targets,
// and returns them. A run that is missing or damaged is passed over: what it says is lost already. After an error some runs may have
// been stored.
func (m *Merger) Do(ctx context.Context, step Step, entries []Entry) ([]About, error) {
	in, err := merge(ctx, m.cursors(step, entries))
	if err != nil {
		return nil, err
	}
	out := outputs{ctx: ctx, m: m, targets: step.Targets}
	defer out.abort()
	var record []byte
	for {
		if record, err = in.next(ctx, record); err != nil {
			return nil, err
		}
		if record == nil {
			err := out.close()
			return out.made, err
		}
		if m.Without != nil && m.Without(packIn(record)) {
			continue
		}
		if err := out.add(record); err != nil {
			return nil, err
		}
	}
}

// cursors returns one cursor per run that covers all targets, and one per layer of runs that cover one target each: memory goes with
// the number of cursors.
func (m *Merger) cursors(step Step, entries []Entry) []*cursor {
	cursors := []*cursor{inMemory(sorted(entries))}
	for _, run := range step.Runs {
		cursors = append(cursors, newCursor(m.Reader, run))
	}
	for layer := 0; ; layer++ {
		var runs []About
		for _, target := range step.Targets {
			if layer < len(target.Runs) {
				runs = append(runs, target.Runs[layer])
			}
		}
		if len(runs) == 0 {
			break
		}
		cursors = append(cursors, newCursor(m.Reader, runs...))
	}
	ahead := m.Reader.limits.AheadBytes / (2 * len(cursors)) // stored, and as much opened
	for _, c := range cursors {
		c.ahead = ahead
	}
	return cursors
}

// outputs puts records, which come in order, into runs of the targets.
type outputs struct {
	ctx     context.Context
	m       *Merger
	targets []Target // not yet complete
	run     *Writer  // of the first one, nil for none
	release func()   // gives back the memory of run
	made    []About
}

func (o *outputs) add(record []byte) error {
	key := keyOf(record)
	for len(o.targets) > 0 && key > o.targets[0].Prefix.last() {
		if err := o.close(); err != nil {
			return err
		}
		o.targets = o.targets[1:]
	}
	if len(o.targets) == 0 || !o.targets[0].Prefix.contains(key) {
		return corrupt("an index run has an id that it should not have")
	}
	if o.run != nil && o.run.IsFull() { // chance put more into this prefix than a run may have: the next step cuts it
		if err := o.close(); err != nil {
			return err
		}
	}
	if o.run == nil {
		if err := o.begin(o.targets[0].Room); err != nil {
			return err
		}
	}
	o.run.add(record)
	return nil
}

func (o *outputs) begin(room int) error {
	buffer, release := o.m.Buffer(SizeMax(room))
	run, err := NewWriter(buffer, room, o.m.Reader.ring, o.m.Header())
	if err != nil {
		release()
		return err
	}
	o.run, o.release = run, release
	return nil
}

// close stores the run under way, if any.
func (o *outputs) close() error {
	if o.run == nil {
		return nil
	}
	defer o.abort()
	data := o.run.Finish()
	name, err := o.m.Put(o.ctx, data)
	if err != nil {
		return err
	}
	o.made = append(o.made, About{Name: name, Prefix: o.targets[0].Prefix, Entries: o.run.Len(), Bytes: int64(len(data)), Clean: o.m.Clean})
	return nil
}

// abort drops the run under way, if any.
func (o *outputs) abort() {
	if o.run != nil {
		o.release()
		o.run = nil
	}
}
