package preview

import (
	"encoding/json"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Name says what happened. The list is closed, and documented in doc/cli.md.
type Name string

// The names of events.
const (
	Run      Name = "run"      // a session of a policy begins
	Snapshot Name = "snapshot" // a snapshot of a machine is made
	Backup   Name = "backup"   // a backup is made
	Archive  Name = "archive"  // a backup is copied into an archive
	Refused  Name = "refused"  // a point cannot be made
	Unflag   Name = "unflag"   // a point loses flags and stays
	Remove   Name = "remove"   // a point goes
	Check    Name = "check"    // the points of a policy are checked
	Met      Name = "met"      // an SLA slot was met
	Missed   Name = "missed"   // an SLA slot was missed
	Excused  Name = "excused"  // an SLA slot counts on neither side
	Period   Name = "period"   // an SLA period closed, with its ratio
	Skipped  Name = "skipped"  // a slot makes no point, and no session begins
	Clock    Name = "clock"    // the clocks of a zone are changed
)

// What a preview says at its end.
const (
	Limit   Name = "limit"   // a limit of Azure would be passed
	Cost    Name = "cost"    // of a policy in a month
	Warning Name = "warning" // about costs, and points that were left out
)

// Names are all names, in the order in which events of one instant and one policy stand.
func Names() []Name {
	return []Name{Clock, Run, Snapshot, Backup, Archive, Refused, Skipped, Met, Missed, Excused, Unflag, Remove, Check, Period, Limit, Cost, Warning}
}

// Event is one thing that happens, to one machine or to many of which the same is to be said.
type Event struct {
	At       time.Time
	Policy   string // "" where no policy has a part in it
	Name     Name
	Slot     time.Time // zero where no slot has a part in it
	Point    holdfast.PointID
	Flags    holdfast.Flags
	Reason   string
	Machines []holdfast.ResourceID // none: the event is not about machines. Shared: not to be changed
}

// line is the JSON form of an event about one machine, or about none.
type line struct {
	Change string              `json:"change,omitempty"`
	At     time.Time           `json:"at"`
	VM     holdfast.ResourceID `json:"vm,omitempty"`
	Policy string              `json:"policy,omitempty"`
	Event  Name                `json:"event"`
	Slot   time.Time           `json:"slot,omitzero"`
	Point  holdfast.PointID    `json:"point,omitempty"`
	Flags  holdfast.Flags      `json:"flags,omitempty"`
	Reason string              `json:"reason,omitempty"`
}

// Lines returns the event as JSON, a line for each machine, appended to buffer.
func (e Event) Lines(buffer []byte) ([]byte, error) { return e.lines("", buffer) }

func (e Event) lines(change string, buffer []byte) ([]byte, error) {
	l := line{Change: change, At: e.At.UTC(), Policy: e.Policy, Event: e.Name, Slot: e.Slot.UTC(), Point: e.Point, Flags: e.Flags, Reason: e.Reason}
	if e.Slot.IsZero() {
		l.Slot = time.Time{}
	}
	if len(e.Machines) == 0 {
		return appendLine(buffer, l)
	}
	// The lines differ in the machine alone: what stands before and behind it is encoded once.
	l.VM = marker
	text, err := json.Marshal(l)
	if err != nil {
		return buffer, err
	}
	before, after := cutMarker(text)
	for _, id := range e.Machines {
		name, err := json.Marshal(id)
		if err != nil {
			return buffer, err
		}
		buffer = append(buffer, before...)
		buffer = append(buffer, name...)
		buffer = append(append(buffer, after...), '\n')
	}
	return buffer, nil
}
