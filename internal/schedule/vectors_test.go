package schedule_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// vectors is what testdata/vectors.txt holds; its head says what the lines mean.
type vectors struct {
	calendars []calendarVector
	clocks    []clockVector
}

type calendarVector struct {
	text  string
	dates []civil.Date
}

// clockVector is what the clocks of some zones do.
type clockVector struct {
	zones   []string
	offset  time.Duration
	changes []change
}

type change struct {
	wall   time.Time // as if it were UTC
	shift  civil.Shift
	length time.Duration
	at     time.Time
}

// The dates for which the file holds vectors.
var firstVector, lastVector = date(2026, time.January, 1), date(2028, time.December, 31)

// zone makes a zone out of the vector alone, so that what a machine knows of time zones does not matter.
func (v clockVector) zone(t *testing.T) *time.Location {
	t.Helper()
	offsets, starts := []time.Duration{v.offset}, []time.Time{}
	for _, c := range v.changes {
		by, start := c.length, c.at
		if c.shift == civil.FirstOfTwo {
			by, start = -c.length, c.at.Add(c.length)
		}
		offsets, starts = append(offsets, offsets[len(offsets)-1]+by), append(starts, start)
	}
	// The format of RFC 9636, version 1: counts, then the changes, the type of each, the types and their names.
	data := append([]byte("TZif"), make([]byte, 16)...)
	for _, count := range []int{0, 0, 0, len(starts), len(offsets), 1} {
		data = binary.BigEndian.AppendUint32(data, uint32(count))
	}
	for _, start := range starts {
		data = binary.BigEndian.AppendUint32(data, uint32(start.Unix()))
	}
	for i := range starts {
		data = append(data, byte(i+1))
	}
	for _, offset := range offsets {
		data = append(binary.BigEndian.AppendUint32(data, uint32(int32(offset/time.Second))), 0, 0)
	}
	zone, err := time.LoadLocationFromTZData(v.zones[0], append(data, 0))
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// place says when a local time is, by what the vector says of changes.
func (v clockVector) place(wall time.Time) (time.Time, civil.Shift) {
	offset := v.offset
	for _, c := range v.changes {
		inside := !wall.Before(c.wall) && wall.Before(c.wall.Add(c.length))
		switch {
		case inside && c.shift == civil.AfterGap:
			return c.at, c.shift
		case inside:
			return c.at.Add(wall.Sub(c.wall)), c.shift
		case wall.Before(c.wall):
			return wall.Add(-offset), civil.Unshifted
		case c.shift == civil.AfterGap:
			offset += c.length
		default:
			offset -= c.length
		}
	}
	return wall.Add(-offset), civil.Unshifted
}

// TestVectors_EveryZone runs a policy with a run at every half hour over the years of the vectors, for each of the
// clocks that the zones of the world have, and wants all the instants and no other.
func TestVectors_EveryZone(t *testing.T) {
	zones := 0
	for _, v := range readVectors(t).clocks {
		zones += len(v.zones)
		expectRuns(t, v, holdfast.Calendar{Times: halfHours()}, datesBetween(firstVector, lastVector))
	}
	if zones < 590 {
		t.Errorf("the vectors speak of %d zones only", zones)
	}
}

// TestVectors_Calendars holds each calendar against its dates, for every clock.
func TestVectors_Calendars(t *testing.T) {
	all := readVectors(t)
	times := []holdfast.TimeOfDay{0, holdfast.NewTimeOfDay(2, 30), holdfast.NewTimeOfDay(23, 45)}
	for _, c := range all.calendars {
		calendar := readCalendar(t, c.text)
		calendar.Times = times
		for _, v := range all.clocks {
			expectRuns(t, v, calendar, c.dates)
		}
	}
	if len(all.calendars) < 14 {
		t.Errorf("the vectors hold %d calendars only", len(all.calendars))
	}
}

// expectRuns wants one run for each of the times on each of the dates, where the vector places them.
func expectRuns(t *testing.T, v clockVector, calendar holdfast.Calendar, dates []civil.Date) {
	t.Helper()
	type placed struct {
		at    time.Time
		shift civil.Shift
	}
	var want []placed
	for _, d := range dates {
		for _, minute := range calendar.Times {
			at, shift := v.place(time.Date(d.Year, d.Month, d.Day, 0, int(minute), 0, 0, time.UTC))
			if k := len(want) - 1; k >= 0 && want[k].at.Equal(at) {
				want[k].shift = want[k].shift.And(shift)
				continue
			}
			want = append(want, placed{at, shift})
		}
	}
	zone := v.zone(t)
	policy := holdfast.SchedulePolicy{Rows: []holdfast.ScheduleRow{{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, When: calendar}}}
	from, to := civil.Begin(firstVector, zone), civil.Begin(lastVector.AddDays(1), zone)
	got := 0
	for r := range schedule.Runs(policy, zone, from, to) {
		if got >= len(want) || !want[got].at.Equal(r.At) || want[got].shift != r.Shift {
			t.Fatalf("%s: run %d is at %s (%q), not %v", v.zones[0], got, r.At.Format(time.RFC3339), r.Shift, want[min(got, len(want)-1)])
		}
		got++
	}
	if got != len(want) {
		t.Fatalf("%s: %d runs, not %d", v.zones[0], got, len(want))
	}
}

// TestVectors_ThisMachine compares the vectors with what this machine knows of each zone. Where its database of time zones
// is another version a few may differ, which is logged; most must not, or the vectors describe no real clocks.
func TestVectors_ThisMachine(t *testing.T) {
	differing, zones := 0, 0
	for _, v := range readVectors(t).clocks {
		described := v.zone(t)
		for _, name := range v.zones {
			zones++
			if at, ok := sameClock(described, load(t, name)); !ok {
				differing++
				t.Logf("%s: this machine's zone differs from the vectors' on %s", name, at)
			}
		}
	}
	if differing > zones/10 {
		t.Errorf("%d of %d zones differ", differing, zones)
	}
}

func sameClock(a, b *time.Location) (time.Time, bool) {
	for at := civil.Begin(firstVector, a); at.Before(civil.Begin(lastVector, a)); at = at.Add(6 * time.Hour) {
		_, offsetA := at.In(a).Zone()
		_, offsetB := at.In(b).Zone()
		if offsetA != offsetB {
			return at, false
		}
	}
	return time.Time{}, true
}

func halfHours() []holdfast.TimeOfDay {
	var times []holdfast.TimeOfDay
	for minute := holdfast.TimeOfDay(0); minute < 24*60; minute += 30 {
		times = append(times, minute)
	}
	return times
}

func datesBetween(first, last civil.Date) []civil.Date {
	var dates []civil.Date
	for d := first; !last.Before(d); d = d.AddDays(1) {
		dates = append(dates, d)
	}
	return dates
}

// readCalendar reads a day of a month, and the months after "in".
func readCalendar(t *testing.T, text string) holdfast.Calendar {
	t.Helper()
	day, months, _ := strings.Cut(text, " in ")
	on, err := holdfast.ParseMonthDay(day)
	if err != nil {
		t.Fatal(err)
	}
	calendar := holdfast.Calendar{On: on}
	for word := range strings.FieldsSeq(months) {
		month, err := holdfast.ParseMonth(word)
		if err != nil {
			t.Fatal(err)
		}
		calendar.Months |= holdfast.NewMonthSet(month)
	}
	return calendar
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	for block := range strings.SplitSeq(string(text), "\n\n") {
		var c clockVector
		for line := range strings.Lines(block) {
			words := strings.Fields(line)
			switch {
			case words[0] == "#":
			case words[0] == "calendar":
				v.calendars = append(v.calendars, calendarVector{text: strings.Join(words[1:], " ")})
			case words[0] == "zones":
				c.zones = append(c.zones, words[1:]...)
			case words[0] == "offset":
				c.offset = readOffset(t, words[1])
			case len(c.zones) > 0:
				c.changes = append(c.changes, readChange(t, words))
			default:
				k := len(v.calendars) - 1
				v.calendars[k].dates = append(v.calendars[k].dates, readDates(t, words)...)
			}
		}
		if len(c.zones) > 0 {
			v.clocks = append(v.clocks, c)
		}
	}
	return v
}

func readOffset(t *testing.T, text string) time.Duration {
	t.Helper()
	at := readTime(t, "Z07:00", text)
	_, seconds := at.Zone()
	return time.Duration(seconds) * time.Second
}

func readChange(t *testing.T, words []string) change {
	t.Helper()
	c := change{wall: readTime(t, "2006-01-02 15:04", words[0]+" "+words[1]), at: readTime(t, "2006-01-02T15:04Z", words[4])}
	c.shift = map[string]civil.Shift{"gap": civil.AfterGap, "twice": civil.FirstOfTwo}[words[2]]
	length, err := time.ParseDuration(words[3])
	if err != nil || c.shift == civil.Unshifted {
		t.Fatalf("%v: %v", words, err)
	}
	c.length = length
	return c
}

func readDates(t *testing.T, words []string) []civil.Date {
	t.Helper()
	var dates []civil.Date
	for _, word := range words {
		dates = append(dates, civil.DateOf(readTime(t, time.DateOnly, word), time.UTC))
	}
	return dates
}

func readTime(t *testing.T, layout, text string) time.Time {
	t.Helper()
	at, err := time.Parse(layout, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// zoneNames returns the names of all zones of the vectors, sorted: every one that the IANA database has.
func zoneNames(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, v := range readVectors(t).clocks {
		names = append(names, v.zones...)
	}
	slices.Sort(names)
	return names
}

func load(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := civil.Zone(name)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", name, err))
	}
	return zone
}
