package sla

import (
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Event is something that happened. The list is closed: the types of this file.
//
// Events come in order of time. Within one instant what changes policies, machines and the server comes first; then the
// slots of the instant fall due; then comes what happened to sessions, points and proofs. So a machine that joins at a slot is
// expected at it, one that leaves at it is not, and an edit at the slot is in force for it.
type Event interface {
	instant() time.Time
	// change reports whether the event comes before the slots of its instant.
	change() bool
	// check refuses what does not fit into the ledger, before anything is changed.
	check(l *Ledger) error
	// apply changes a ledger whose time is the event's instant.
	apply(l *Ledger)
}

// PolicyInForce puts a version of a policy in force, the first one or another. Before the first nothing is expected.
type PolicyInForce struct {
	At     time.Time
	Policy string
	Terms  Terms
}

// PolicyEnabled makes slots count again. It asks for no extra session.
type PolicyEnabled struct {
	At     time.Time
	Policy string
}

// PolicyDisabled excuses the slots that fall due from now on. Open ones stay open, since their sessions run on.
type PolicyDisabled struct {
	At     time.Time
	Policy string
}

// PolicyRemoved lets all machines leave, and nothing more falls due. Figures stay.
type PolicyRemoved struct {
	At     time.Time
	Policy string
}

// MachineJoined says that a policy protects a machine from now on.
type MachineJoined struct {
	At      time.Time
	Policy  string
	Machine holdfast.ResourceID
	Region  string // Azure's name in lower case
}

// MachineLeft says that a policy does not protect a machine any more.
type MachineLeft struct {
	At      time.Time
	Policy  string
	Machine holdfast.ResourceID
}

// ServerStopped says that from now on nothing was started, until ServerStarted.
type ServerStopped struct{ At time.Time }

// ServerStarted ends a downtime.
type ServerStarted struct{ At time.Time }

// TimePassed says that it is this late: slots up to and at this instant fall due, and those whose deadline has come are missed.
type TimePassed struct{ At time.Time }

// Work names the share of one machine in one session.
type Work struct {
	Policy  string
	Machine holdfast.ResourceID
	Kind    holdfast.PointKind
	Slot    time.Time // for which the session was started
}

// SessionStarted says that an attempt for a slot began, the first one or a retry.
type SessionStarted struct {
	At time.Time
	Work
}

// SessionFailed says that an attempt for a slot ended without a point.
type SessionFailed struct {
	At time.Time
	Work
}

// SessionSkipped says that nothing was started for a slot of a backup, since the machine's backup before was still running.
type SessionSkipped struct {
	At time.Time
	Work
}

// PointDurable says that a good point became durable.
type PointDurable struct {
	At time.Time
	Work
	Point holdfast.PointID
}

// PointProven says how a proof of a point ended. A failed one voids all that were made before it.
type PointProven struct {
	At     time.Time
	Point  holdfast.PointID
	Level  int // 1 to 5
	OK     bool
	Proved time.Time // from when the proof counts, such as the oldest reading of a pack that the point needs; zero: At
}

// PointRemoved says that retention removed a point.
type PointRemoved struct {
	At    time.Time
	Point holdfast.PointID
}

func (e PolicyInForce) instant() time.Time  { return e.At }
func (e PolicyEnabled) instant() time.Time  { return e.At }
func (e PolicyDisabled) instant() time.Time { return e.At }
func (e PolicyRemoved) instant() time.Time  { return e.At }
func (e MachineJoined) instant() time.Time  { return e.At }
func (e MachineLeft) instant() time.Time    { return e.At }
func (e ServerStopped) instant() time.Time  { return e.At }
func (e ServerStarted) instant() time.Time  { return e.At }
func (e TimePassed) instant() time.Time     { return e.At }
func (e SessionStarted) instant() time.Time { return e.At }
func (e SessionFailed) instant() time.Time  { return e.At }
func (e SessionSkipped) instant() time.Time { return e.At }
func (e PointDurable) instant() time.Time   { return e.At }
func (e PointProven) instant() time.Time    { return e.At }
func (e PointRemoved) instant() time.Time   { return e.At }

func (PolicyInForce) change() bool  { return true }
func (PolicyEnabled) change() bool  { return true }
func (PolicyDisabled) change() bool { return true }
func (PolicyRemoved) change() bool  { return true }
func (MachineJoined) change() bool  { return true }
func (MachineLeft) change() bool    { return true }
func (ServerStopped) change() bool  { return true }
func (ServerStarted) change() bool  { return true }
func (TimePassed) change() bool     { return false }
func (SessionStarted) change() bool { return false }
func (SessionFailed) change() bool  { return false }
func (SessionSkipped) change() bool { return false }
func (PointDurable) change() bool   { return false }
func (PointProven) change() bool    { return false }
func (PointRemoved) change() bool   { return false }
