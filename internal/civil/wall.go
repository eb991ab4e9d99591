package civil

import (
	"math"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Shift says what a change of the clock did to a local time.
type Shift uint8

// The shifts.
const (
	Unshifted  Shift = iota // the zone's clock shows the time once
	FirstOfTwo              // it does twice: the instant is the first of the two
	AfterGap                // it never does: the instant is the first one after the gap
)

// String returns the word for people; the empty text when nothing was shifted.
func (s Shift) String() string {
	switch s {
	case AfterGap:
		return "after gap"
	case FirstOfTwo:
		return "first of two"
	case Unshifted:
	}
	return ""
}

// MarshalText implements encoding.TextMarshaler.
func (s Shift) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it reads the words of String.
func (s *Shift) UnmarshalText(text []byte) error {
	for shift := range AfterGap + 1 {
		if string(text) == shift.String() {
			*s = shift
			return nil
		}
	}
	return holdfast.Errorf(holdfast.KindInvalid, "%q is not what a clock does to a time", text).WithHint("write after gap, first of two or nothing")
}

// And is what the clock did to two times that became one.
func (s Shift) And(other Shift) Shift { return max(s, other) }

// Wall places many local times of one zone. It remembers between which local times the clock is not changed, so that
// all but the days around a change cost an addition. It is not for several goroutines at once.
type Wall struct {
	zone *time.Location
	// From here to there, in seconds of the wall clock, nothing is shifted and the offset is this one.
	from, to, offset int64
}

// NewWall makes the wall clock of a zone.
func NewWall(zone *time.Location) *Wall { return &Wall{zone: zone} }

// Place returns the instant of a time of day on a date, as At does, and what the clock did to it.
func (w *Wall) Place(d Date, t holdfast.TimeOfDay) (time.Time, Shift) {
	return w.PlaceMinute(d, int(t))
}

// PlaceMinute is Place for a number of minutes after the date's midnight, which may lie beyond the next one: the hours
// are those that the wall clock shows, not those that pass.
func (w *Wall) PlaceMinute(d Date, minute int) (time.Time, Shift) {
	wall := d.utc().Unix() + int64(minute)*secondsPerMinute
	if wall < w.from || wall >= w.to {
		w.look(wall)
	}
	if w.from <= wall && wall < w.to {
		return time.Unix(wall-w.offset, 0).UTC(), Unshifted
	}
	return place(time.Unix(wall, 0).UTC(), w.zone)
}

const secondsPerMinute = 60

// look finds the stretch of unchanged clock around a local time. What lies within reach of a change is left out, since
// only place can tell what the change does to it.
func (w *Wall) look(wall int64) {
	around := time.Unix(wall, 0).In(w.zone)
	_, offset := around.Zone()
	start, end := around.ZoneBounds()
	w.offset, w.from, w.to = int64(offset), math.MinInt64, math.MaxInt64
	if !start.IsZero() {
		w.from = start.Add(reach).Unix()
	}
	if !end.IsZero() {
		w.to = end.Add(-reach).Unix()
	}
}
