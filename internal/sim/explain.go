package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Promised returns the lines that a record has of an event of a preview: one for each machine, none for what no record tells (clocks that are
// changed, costs and limits).
func Promised(e preview.Event) []store.Event {
	if slices.Contains([]preview.Name{preview.Clock, preview.Limit, preview.Cost, preview.Warning}, e.Name) {
		return nil
	}
	machines := e.Machines
	if len(machines) == 0 {
		machines = []holdfast.ResourceID{""}
	}
	lines := make([]store.Event, 0, len(machines))
	for _, vm := range machines {
		lines = append(lines, store.Event{At: e.At, VM: vm, Policy: e.Policy, Name: string(e.Name), Slot: e.Slot, Point: e.Point, Flags: e.Flags, Reason: e.Reason})
	}
	return lines
}

// Difference is a line that one of two histories alone has.
type Difference struct {
	store.Event
	Happened bool         // it is on record, and was not promised; else the other way round
	Cause    *store.Event // the line on record that explains it; nil: nothing does
}

// String writes the difference as a sentence.
func (d Difference) String() string {
	what, why := "was to happen", "nothing on record says why not"
	if d.Happened {
		what, why = "happened alone", "nothing on record says why"
	}
	if d.Cause != nil {
		why = "because: " + sentence(*d.Cause)
	}
	return fmt.Sprintf("%s: %s; %s", what, sentence(d.Event), why)
}

func sentence(e store.Event) string {
	return fmt.Sprintf("%s %s %s %s for %s %s %s", e.At.Format(time.RFC3339), e.Policy, e.VM.Name(), e.Name, e.Slot.Format(time.RFC3339), e.Flags, e.Reason)
}

// Explain holds the record of what happened against what a preview promised, both complete and in order, and returns every line that one of them
// alone has, with the one line of the record that explains it. Instants are not compared, since what is tried again comes later.
//
// Lines that something was refused, skipped or missed are what explains. A point that was not made is explained by the last refusal of that very
// point, or by its slot having been skipped; a slot that was not met by its being missed, and the other way round; a session that did not begin, or
// not with all machines, by a skipped slot; what retention did otherwise by a point of that machine that was not made, or came late (of the same window, or
// one whose flag it tells the number of); flags that
// another point bears likewise; the figure of a period by a slot of it that was missed.
func Explain(promised, recorded []store.Event) []Difference {
	x := newExplainer(recorded)
	var all []Difference
	for _, e := range alone(recorded, promised) {
		if e.Name == string(preview.Refused) || e.Name == string(preview.Skipped) {
			continue // it explains
		}
		all = append(all, Difference{Event: e, Happened: true})
	}
	for _, e := range alone(promised, recorded) {
		all = append(all, Difference{Event: e})
	}
	met := map[lineKey]bool{}
	for _, d := range all {
		if !d.Happened && d.Name == string(preview.Met) {
			met[keyOf(d.Event)] = true
		}
	}
	for i := range all {
		if d := &all[i]; d.Name != string(preview.Missed) || met[keyOf(d.Event)] {
			d.Cause = x.cause(*d)
		}
	}
	for i := range all {
		if d := &all[i]; d.Cause == nil && (d.Name == string(preview.Remove) || d.Name == string(preview.Unflag)) {
			d.Cause = ofOtherBearer(*d, all)
		}
	}
	return all
}

// ofOtherBearer explains a number that retention tells of, such as weekly 1 of 3 where 1 of 4 was promised: a point of that machine with that flag
// was not made, however long before. Its own explanation is the one.
func ofOtherBearer(d Difference, all []Difference) *store.Event {
	var bearers []store.Event
	causes := map[lineKey]*store.Event{}
	for _, other := range all {
		point := other.Name == string(preview.Snapshot) || other.Name == string(preview.Backup) || other.Name == string(preview.Archive)
		if other.Happened || !point || other.Cause == nil || other.Policy != d.Policy || !other.VM.Equal(d.VM) || other.Slot.After(d.At) {
			continue
		}
		for _, flag := range []holdfast.Flag{holdfast.Weekly, holdfast.Monthly, holdfast.Yearly} {
			if other.Flags.Has(flag) && strings.Contains(d.Reason, flag.String()+" ") {
				bearers = append(bearers, other.Event)
				causes[keyOf(other.Event)] = other.Cause
			}
		}
	}
	bearer := newest(bearers, func(store.Event) bool { return true })
	if bearer == nil {
		return nil
	}
	return causes[keyOf(*bearer)]
}

// alone returns the events of one history that the other one has not, or not as often.
func alone(of, other []store.Event) []store.Event {
	type content struct {
		lineKey
		name, reason string
	}
	contentOf := func(e store.Event) content { return content{keyOf(e), e.Name, e.Reason} }
	left := map[content]int{}
	for _, e := range other {
		left[contentOf(e)]++
	}
	var rest []store.Event
	for _, e := range of {
		if left[contentOf(e)]--; left[contentOf(e)] < 0 {
			rest = append(rest, e)
		}
	}
	return rest
}

// lineKey names what lines of several names may be about.
type lineKey struct {
	policy, vm string
	slot       time.Time
	flags      holdfast.Flags
}

func keyOf(e store.Event) lineKey { return lineKey{e.Policy, e.VM.Key(), e.Slot.UTC(), e.Flags} }

// explainer finds causes in a record.
type explainer struct {
	failures map[string][]store.Event // refused and skipped, and points that came late; by machine, in order
	skipped  map[string][]store.Event // by policy
	refused  map[string][]store.Event // by policy
	missed   map[string][]store.Event // by policy
	ends     map[lineKey][]store.Event
	until    time.Time // of the last line
}

// lateAfter is how much later than its slot a point is made before that explains anything: more than throttling alone brings about.
const lateAfter = 5 * time.Minute

func newExplainer(recorded []store.Event) *explainer {
	x := &explainer{failures: map[string][]store.Event{}, skipped: map[string][]store.Event{}, refused: map[string][]store.Event{}, missed: map[string][]store.Event{}, ends: map[lineKey][]store.Event{}}
	for _, e := range recorded {
		vm := e.VM.Key()
		x.until = e.At
		switch preview.Name(e.Name) {
		case preview.Refused:
			x.failures[vm] = append(x.failures[vm], e)
			x.refused[e.Policy] = append(x.refused[e.Policy], e)
		case preview.Skipped:
			x.failures[vm] = append(x.failures[vm], e)
			x.skipped[e.Policy] = append(x.skipped[e.Policy], e)
		case preview.Snapshot, preview.Backup, preview.Archive:
			if e.At.Sub(e.Slot) > lateAfter {
				x.failures[vm] = append(x.failures[vm], e)
			}
		case preview.Missed:
			x.missed[e.Policy] = append(x.missed[e.Policy], e)
			x.ends[keyOf(e)] = append(x.ends[keyOf(e)], e)
		default:
		}
	}
	return x
}

func (x *explainer) cause(d Difference) *store.Event {
	switch preview.Name(d.Name) {
	case preview.Snapshot, preview.Backup, preview.Archive:
		return x.ofPoint(d)
	case preview.Met, preview.Missed:
		kind := func(e store.Event) bool { return strings.HasPrefix(e.Reason, firstWord(d.Reason)) }
		if missed := newest(x.ends[keyOf(d.Event)], kind); missed != nil {
			return missed
		}
		return x.ofOpen(d)
	case preview.Run:
		return newest(x.skipped[d.Policy], func(e store.Event) bool { return e.Slot.Equal(d.Slot) })
	case preview.Check:
		return x.ofCheck(d)
	case preview.Remove, preview.Unflag:
		return x.ofRetention(d)
	case preview.Period:
		return x.ofPeriod(d)
	default:
		return nil
	}
}

// ofCheck explains a check that did not come: the session that it was to follow was skipped, or is being tried again when the record ends.
func (x *explainer) ofCheck(d Difference) *store.Event {
	own := func(e store.Event) bool { return e.Slot.Equal(d.Slot) }
	if skipped := newest(x.skipped[d.Policy], own); skipped != nil {
		return skipped
	}
	if last := newest(x.refused[d.Policy], own); last != nil && x.until.Sub(last.At) <= windowMax {
		return last
	}
	return nil
}

// ofPoint explains a point that was not made, or that bears other flags than promised.
func (x *explainer) ofPoint(d Difference) *store.Event {
	own := func(e store.Event) bool {
		same := e.Policy == d.Policy && e.Slot.Equal(d.Slot)
		return same && (e.Name == string(preview.Skipped) || e.Name == string(preview.Refused) && strings.HasPrefix(e.Reason, "no "+d.Name+":"))
	}
	if !d.Happened {
		if cause := newest(x.failures[d.VM.Key()], own); cause != nil {
			return cause
		}
	}
	return newest(x.failures[d.VM.Key()], func(e store.Event) bool { // the flags of a window that the point before did not take
		return e.Policy == d.Policy && e.Slot.Before(d.Slot) && e.Slot.After(d.Slot.Add(-windowMax))
	})
}

// windowMax is the longest time between the first and the last slot of a window, a change of the clocks included.
const windowMax = 25 * time.Hour

// ofOpen explains a slot that was not met and is not missed yet: its point was refused, and the record ends before it is tried again.
func (x *explainer) ofOpen(d Difference) *store.Event {
	last := newest(x.failures[d.VM.Key()], func(e store.Event) bool {
		return e.Policy == d.Policy && e.Slot.Equal(d.Slot) && e.Name == string(preview.Refused)
	})
	if last == nil || x.until.Sub(last.At) > windowMax {
		return nil
	}
	return last
}

// ofRetention explains a point that stayed or went otherwise than promised: it was not made, or came late; or another one of its machine was, so that
// numbers, flags of a window or the last good point are others.
func (x *explainer) ofRetention(d Difference) *store.Event {
	failures := x.failures[d.VM.Key()]
	if own := newest(failures, func(e store.Event) bool { return e.Slot.Equal(d.Slot) }); own != nil {
		return own
	}
	return newest(failures, func(e store.Event) bool { return e.Slot.After(d.Slot.Add(-windowMax)) && !e.Slot.After(d.At) })
}

// ofPeriod explains a figure: a slot of that row was missed in that day, week or month.
func (x *explainer) ofPeriod(d Difference) *store.Event {
	words := strings.Fields(d.Reason) // "daily backups of 2026-03-28: …"
	if len(words) < 4 {
		return nil
	}
	first, err := time.Parse(time.DateOnly, strings.TrimSuffix(words[3], ":"))
	if err != nil {
		return nil
	}
	lasts := map[holdfast.Flags]int{holdfast.Flags(holdfast.Daily): 1, holdfast.Flags(holdfast.Weekly): 7, holdfast.Flags(holdfast.Monthly): 31}[d.Flags]
	from, until := first.Add(-windowMax), first.AddDate(0, 0, lasts).Add(2*windowMax)
	return newest(x.missed[d.Policy], func(e store.Event) bool {
		return e.Flags == d.Flags && strings.HasPrefix(words[1], firstWord(e.Reason)) && e.Slot.After(from) && e.Slot.Before(until)
	})
}

func firstWord(text string) string {
	word, _, _ := strings.Cut(text, ":")
	word, _, _ = strings.Cut(word, " ")
	return word
}

// newest returns the event with the newest slot that fits, the last on record of those.
func newest(events []store.Event, fits func(store.Event) bool) *store.Event {
	fitting := slices.DeleteFunc(slices.Clone(events), func(e store.Event) bool { return !fits(e) })
	if len(fitting) == 0 {
		return nil
	}
	slices.SortStableFunc(fitting, func(a, b store.Event) int { return cmp.Compare(a.Slot.UnixNano(), b.Slot.UnixNano()) })
	return &fitting[len(fitting)-1]
}
