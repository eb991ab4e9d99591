// Package sla keeps the ledger of SLA policies: what was expected of each machine, whether it came in time, and what share
// of it did. The rules are those of doc/policies.md, "SLA"; the slots themselves are package schedule's.
//
// It promises that the same events make the same ledger, in one go or in pieces with its state stored in between; that an
// expectation ends once, as met, missed or excused; and that whatever is reported about a closed period changes nothing in it.
// Its memory is that of what is open, of the points whose proofs still count, and of one counter for each machine and closed
// entry of a chart; it never looks at history.
//
// It is pure: it reads no clock, since time passes as it is told to, and it starts nothing. What is done about a slot is
// package plan's to decide, with the small functions of this package that say what such a decision will be judged by.
package sla

import (
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// Row is a row of a template: one frequency of one kind of point. Each has entries and figures of its own.
type Row struct {
	Kind holdfast.PointKind `json:"kind"`
	Flag holdfast.Flag      `json:"flag"`
}

// State says how far an expectation is.
type State string

// The states. An expectation that is not open has ended, and stays as it is. That a machine was removed is said of all its
// expectations of an entry together: see Status.
const (
	Open    State = "open"
	Met     State = "met"
	Missed  State = "missed"
	Excused State = "excused" // counts on neither side
)

// Reason says why an expectation was missed or excused.
type Reason string

// The reasons for a miss.
const (
	NotRunning Reason = "notRunning" // the server was down when the deadline passed, or came back too late for this slot
	Overlap    Reason = "overlap"    // the backup before it was still running
	Failed     Reason = "failed"     // its session failed, and no retry succeeded in time
	Late       Reason = "late"       // its session was still at work at the deadline
	NoPoint    Reason = "noPoint"    // nothing was started for it
)

// The reasons for an excuse.
const (
	Disabled   Reason = "disabled"   // the policy was
	JoinedLate Reason = "joinedLate" // the machine came after the slot, in the same day, week or month
	Left       Reason = "left"       // the machine went while the slot was open
)

// Expectation is a line of the ledger: for this machine a point of this kind was asked for at this slot. Policy, machine,
// kind, flag and slot together name it.
type Expectation struct {
	Policy          string              `json:"policy"`
	PolicyVersion   int                 `json:"policyVersion"`
	Template        string              `json:"template"`
	TemplateVersion int                 `json:"templateVersion"`
	Machine         holdfast.ResourceID `json:"machine"`
	Region          string              `json:"region"`
	Row
	Slot     time.Time        `json:"slot"`
	Opens    time.Time        `json:"opens"`
	Closes   time.Time        `json:"closes"`
	Deadline time.Time        `json:"deadline"` // the point had to be durable before
	Entry    civil.Date       `json:"entry"`    // the first day of the day, week or month to which it belongs
	State    State            `json:"state"`
	Reason   Reason           `json:"reason"`
	Ended    time.Time        `json:"ended,omitzero"` // when the point became durable, or the instant of the miss or excuse
	Point    holdfast.PointID `json:"point"`          // that met it; "" otherwise
}

// Note tells of an event that came too late to change anything, or that fits no expectation.
type Note struct {
	At      time.Time           `json:"at"`
	Policy  string              `json:"policy"`
	Machine holdfast.ResourceID `json:"machine"`
	Kind    holdfast.PointKind  `json:"kind"`
	Slot    time.Time           `json:"slot,omitzero"`
	Point   holdfast.PointID    `json:"point"`
	Text    string              `json:"text"`
}

// Recorder is told what happens, in order of time. It may read the ledger, but must not change it.
type Recorder interface {
	// Expectation is called when one is written, and once more when it ends. One that is excused from the start is told once.
	Expectation(e Expectation)
	// Period is called when an entry closes, and once more when its figure of proven points freezes.
	Period(c Compliance)
	// Note is called for what changed nothing.
	Note(n Note)
}

// Terms are a version of a policy with a version of its template: what is asked for while they are in force.
type Terms struct {
	Version         int                  `json:"version"` // of the policy
	Enabled         bool                 `json:"enabled"`
	Regions         []string             `json:"regions"`
	Template        holdfast.SLATemplate `json:"template"`
	TemplateVersion int                  `json:"templateVersion"`
}
