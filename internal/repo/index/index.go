// Package index answers where a chunk or node lies: immutable sorted runs, each a sealed object, kept so that few of them have to be
// asked for any id however many there are (doc/format.md §8).
//
// It promises: an answer is what some run says; a lookup asks a number of runs that grows with the logarithm of the entries; what is
// kept in memory stays within Limits; a merge reads and writes in order and keeps one run in memory. It must never give an answer for
// another id, and never decide what is live: that is the log's business. A run is a cache of what the directories of packs say; losing
// one costs time, never data.
//
// Index answers lookups, Writer makes a run, Merge unites runs, Plan says what is worth merging. Reader reads and remembers.
package index

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
)

// Index is the runs of one state of the log, put in order. Immutable; safe for concurrent use.
type Index struct {
	reader *Reader
	runs   []About
	levels []level
}

// level is the runs whose prefixes have one length.
type level struct {
	length int
	runs   map[Prefix][]asked
}

// asked is a run as lookups see it.
type asked struct {
	about    About
	filtered bool // its filter is kept in memory
}

// About is what is known about a run without opening it.
type About struct {
	Name    string
	Prefix  Prefix // with which all its ids begin
	Entries int    // 0 when nobody has said
	Bytes   int64  // of the object; 0 when nobody has said
	Clean   uint64 // it names no pack condemned by a log entry before that one
}

// New puts runs in order. Nothing is read. The filters of as many runs as fit the reader's limit are going to be kept in memory, those
// with the shortest prefixes first: every id asks them.
func New(reader *Reader, runs []About) *Index {
	x := &Index{reader: reader, runs: runs}
	byLength := slices.Clone(runs)
	slices.SortStableFunc(byLength, func(a, b About) int {
		if a.Prefix.length != b.Prefix.length {
			return a.Prefix.length - b.Prefix.length
		}
		return a.Entries - b.Entries
	})
	room := reader.limits.FilterBytes
	for _, about := range byLength {
		room -= filterBytes(about.Entries)
		if n := len(x.levels); n == 0 || x.levels[n-1].length != about.Prefix.length {
			x.levels = append(x.levels, level{about.Prefix.length, map[Prefix][]asked{}})
		}
		runs := x.levels[len(x.levels)-1].runs
		runs[about.Prefix] = append(runs[about.Prefix], asked{about, room >= 0})
	}
	return x
}

// Runs returns what the index consists of.
func (x *Index) Runs() []About { return x.runs }

// Lookup calls accept with places of an id, until it returns true. The runs whose filters are in memory are asked first. A run that is
// missing or damaged is passed over and noted by the reader.
func (x *Index) Lookup(ctx context.Context, id chunk.ID, accept func(*chunk.Place) bool) error {
	var rest [16]asked
	unfiltered := rest[:0]
	for _, l := range x.levels {
		for _, a := range l.runs[prefixOf(id, l.length)] {
			if !a.filtered {
				unfiltered = append(unfiltered, a)
				continue
			}
			if done, err := x.ask(ctx, a, id, accept); done || err != nil {
				return err
			}
		}
	}
	for _, a := range unfiltered {
		if done, err := x.ask(ctx, a, id, accept); done || err != nil {
			return err
		}
	}
	return nil
}

// Asked returns how many runs a lookup of an id that is not there asks.
func (x *Index) Asked(id chunk.ID) int {
	n := 0
	for _, l := range x.levels {
		n += len(l.runs[prefixOf(id, l.length)])
	}
	return n
}

func (x *Index) ask(ctx context.Context, a asked, id chunk.ID, accept func(*chunk.Place) bool) (bool, error) {
	run, err := x.reader.Open(ctx, a.about)
	if run == nil || err != nil {
		return false, err
	}
	if a.filtered {
		f, err := x.reader.filter(ctx, run)
		if err != nil {
			return false, x.reader.passOver(ctx, a.about.Name, err)
		}
		if !f.mayContain(id) {
			return false, nil
		}
	}
	place, err := run.Lookup(ctx, id)
	if err != nil {
		return false, x.reader.passOver(ctx, a.about.Name, err)
	}
	return place != nil && accept(place), nil
}

// Prepare opens the runs that every lookup asks, several at a time, so that the first lookups do not do it one after the other.
func (x *Index) Prepare(ctx context.Context) error {
	if len(x.levels) == 0 || x.levels[0].length > 0 {
		return nil
	}
	runs := x.levels[0].runs[Prefix{}]
	var wg sync.WaitGroup
	errs := make([]error, len(runs))
	room := make(chan struct{}, opensAtOnce)
	for i, a := range runs {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			run, err := x.reader.Open(ctx, a.about)
			if run != nil && a.filtered {
				_, err = x.reader.filter(ctx, run)
				err = x.reader.passOver(ctx, a.about.Name, err)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// opensAtOnce bounds the runs that Prepare opens at the same time.
const opensAtOnce = 8

// prefixOf returns the prefix of an id that has so many digits.
func prefixOf(id chunk.ID, length int) Prefix { return newPrefix(keyOf(id[:]), length) }

// keyOf returns the first 8 bytes of an id, by which runs are ordered and cut.
func keyOf(id []byte) uint64 { return binary.BigEndian.Uint64(id) }
