package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Verb is what an intent wants.
type Verb string

// The verbs.
const (
	Start  Verb = "start"  // a session that makes points
	Retry  Verb = "retry"  // the session again, for the machines that failed
	Skip   Verb = "skip"   // nothing is made for a slot; Reason says why
	Check  Verb = "check"  // a health check
	Retain Verb = "retain" // the daily pass of retention over everything
)

// Reason says why a slot makes no point.
type Reason string

// The reasons.
const (
	NotRunning Reason = "notRunning" // the server did not run when it was due, and a newer slot is
	Overlap    Reason = "overlap"    // the machine was still in work
	Superseded Reason = "superseded" // of a retry: the next run is due
)

// Making is a point that a session makes of each of its machines.
type Making struct {
	Kind       holdfast.PointKind
	Flags      holdfast.Flags
	Owed       holdfast.Flags // of SLA sessions: flags that the first good point of the kind in this window takes as well
	Opens      time.Time      // of SLA sessions: when the window opened, which says which window it is
	Repository string         // of backups and archives
}

// Intent is one thing to be done.
type Intent struct {
	Verb     Verb
	Policy   string // "" of Retain
	Region   string // of SLA sessions, which are begun for each region alone
	Slot     time.Time
	Attempt  int       // 0 at first
	Makes    []Making  // in the order in which they are made; of Skip: what is not made
	Machines []Machine // shared with the estate and the state: not to be changed
	Reason   Reason
	// CheckAfter asks for a health check once the session and its retries are over.
	CheckAfter bool
	// Manual sessions are asked for by a person; they are not tried again.
	Manual bool
}

// Key is the natural key of the intent: two intents with one key are the same, and it is done once.
func (i Intent) Key() string {
	parts := []string{string(i.Verb), i.Policy, i.Region, i.Slot.UTC().Format(time.RFC3339), i.kinds(), fmt.Sprint(i.Attempt), string(i.Reason)}
	if i.Manual {
		parts = append(parts, "manual")
	}
	return strings.Join(parts, "/")
}

func (i Intent) kinds() string {
	var kinds []string
	for _, m := range i.Makes {
		kinds = append(kinds, string(m.Kind)+":"+m.Repository)
	}
	return strings.Join(kinds, "+")
}

// Flags are all flags that the points of a session may bear.
func (i Intent) Flags() holdfast.Flags {
	var flags holdfast.Flags
	for _, m := range i.Makes {
		flags |= m.Flags | m.Owed
	}
	return flags
}

// Summary says what a session makes, and of how many machines.
func (i Intent) Summary(machines int) string {
	var parts []string
	for _, m := range i.Makes {
		text := string(m.Kind)
		if m.Repository != "" {
			text += " to " + m.Repository
		}
		parts = append(parts, text)
	}
	return i.InRegion(fmt.Sprintf("%s; %d machines", strings.Join(parts, ", "), machines))
}

// InRegion adds the region of an intent, where it has one, to a text about it.
func (i Intent) InRegion(text string) string {
	if i.Region == "" {
		return text
	}
	return text + " in " + i.Region
}

// MakesA reports whether the session makes points of a kind.
func (i Intent) MakesA(kind holdfast.PointKind) bool {
	return slices.ContainsFunc(i.Makes, func(m Making) bool { return m.Kind == kind })
}

// String says in words what is to be done.
func (i Intent) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", i.Slot.UTC().Format(time.RFC3339), i.Verb)
	if i.Policy != "" {
		fmt.Fprintf(&b, " %s", i.Policy)
	}
	if i.Region != "" {
		fmt.Fprintf(&b, " in %s", i.Region)
	}
	for _, m := range i.Makes {
		fmt.Fprintf(&b, ", %s", m)
	}
	if len(i.Machines) > 0 {
		fmt.Fprintf(&b, ", %d machines", len(i.Machines))
	}
	if i.Reason != "" {
		fmt.Fprintf(&b, ": %s", i.Reason)
	}
	return b.String()
}

// String says what is made.
func (m Making) String() string {
	text := string(m.Kind)
	if flags := m.Flags | m.Owed; flags != 0 {
		text += " " + flags.String()
	}
	if m.Repository != "" {
		text += " to " + m.Repository
	}
	return text
}
