// Package ledger says what of a repository's stored bytes was proven when, and plans what is to be proven next, so that every
// byte is read again within a number of days (doc/format.md §6.6).
//
// Objects are named by the hash of their bytes, so a rotation over the hash space is a rotation over the bytes, in even shares,
// whatever is added and removed meanwhile. The space has 4,096 cells: the first three hex digits of a hash.
//
// It is pure: it reads nothing and knows no clock. What it decides is economy, never safety; times are those of log entries.
package ledger

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Cells is the number of cells of the hash space.
const Cells = 1 << 12

// Cell is one of them: the first three hex digits of a hash.
type Cell uint16

// CellOf returns the cell of an object's hash.
func CellOf(hash [32]byte) Cell { return Cell(hash[0])<<4 | Cell(hash[1])>>4 }

// String returns the three hex digits.
func (c Cell) String() string { return fmt.Sprintf("%03x", uint16(c)) }

// MarshalText implements encoding.TextMarshaler.
func (c Cell) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText takes three hex digits in lower case.
func (c *Cell) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 16, 16)
	if err != nil || Cell(n).String() != string(text) {
		return fmt.Errorf("cell %.10q: three hex digits are wanted", text)
	}
	*c = Cell(n)
	return nil
}

// Range is a run of cells, both ends included.
type Range struct {
	From Cell `json:"from"`
	To   Cell `json:"to"`
}

// Whole is the whole space.
func Whole() []Range { return []Range{{0, Cells - 1}} }

// Sorted reports whether ranges are in order, do not overlap and each ends where it begins or later.
func Sorted(ranges []Range) bool {
	next := 0
	for _, r := range ranges {
		if int(r.From) < next || r.To < r.From || r.To >= Cells {
			return false
		}
		next = int(r.To) + 1
	}
	return true
}

// Has reports whether a cell lies in one of the ranges.
func Has(ranges []Range, c Cell) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return r.From <= c && c <= r.To })
}

// Proven says that the objects of a range which the log led to before entry Seen were read whole and matched their names.
type Proven struct {
	Range
	Level int       `json:"level"`
	Time  time.Time `json:"time"` // when reading began
	Seen  uint64    `json:"seen"` // number of the first entry that was not looked at
}

// Ledger is what is known of each cell that was ever proven: the newest proof, in order of cells, ranges of one proof joined.
type Ledger []Proven

// With returns the ledger after one more proof of some ranges. What the proof covers forgets older ones.
func (l Ledger) With(ranges []Range, p Proven) Ledger {
	var cells [Cells]*Proven
	for i := range l {
		for c := l[i].From; c <= l[i].To && c < Cells; c++ {
			cells[c] = &l[i]
		}
	}
	for _, r := range ranges {
		for c := r.From; c <= r.To && c < Cells; c++ {
			cells[c] = &p
		}
	}
	return join(&cells)
}

// join makes ranges of neighbouring cells that were proven together.
func join(cells *[Cells]*Proven) Ledger {
	var l Ledger
	for c, p := range cells {
		if p == nil {
			continue
		}
		if k := len(l) - 1; k >= 0 && int(l[k].To)+1 == c && l[k].same(*p) {
			l[k].To = Cell(c)
			continue
		}
		next := *p
		next.Range = Range{Cell(c), Cell(c)}
		l = append(l, next)
	}
	return l
}

func (p Proven) same(o Proven) bool {
	return p.Level == o.Level && p.Seen == o.Seen && p.Time.Equal(o.Time)
}

// Since returns the instant since which every byte that the log led to before an entry has been read: the oldest proof of all
// cells. It reports false while a cell was never proven, or not since then.
func (l Ledger) Since(entry uint64) (time.Time, bool) {
	var oldest time.Time
	next := 0
	for _, p := range l {
		if int(p.From) != next || p.Seen < entry {
			return time.Time{}, false
		}
		next = int(p.To) + 1
		if oldest.IsZero() || p.Time.Before(oldest) {
			oldest = p.Time
		}
	}
	return oldest, next == Cells
}

// UnmarshalJSON refuses ranges that no fold makes, so that a checkpoint of hostile bytes is found out where it is read.
func (l *Ledger) UnmarshalJSON(data []byte) error {
	var list []Proven
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	ranges := make([]Range, len(list))
	for i, p := range list {
		ranges[i] = p.Range
	}
	if !Sorted(ranges) {
		return fmt.Errorf("the ledger's ranges are not in order")
	}
	*l = list
	return nil
}
