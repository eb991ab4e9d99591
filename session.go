package holdfast

import (
	"slices"
	"time"
)

// RunID names a session of the control plane: a UUIDv7 as text, so that it sorts by time. SessionID, in contrast, names a
// write session of a repository.
type RunID string

// SessionType says what a session does.
type SessionType string

// The types of session.
const (
	SessionPolicy      SessionType = "policy"      // makes the points that a policy asks for, at a slot or because a person asked
	SessionSnapshot    SessionType = "snapshot"    // makes a snapshot by hand, outside of every policy
	SessionHealthCheck SessionType = "healthCheck" // proves the points of a policy
	SessionRetention   SessionType = "retention"   // the daily pass over all points
	SessionRemoval     SessionType = "removal"     // removes points that a person named
)

// SessionTypes are all types, in the order in which they are listed.
func SessionTypes() []SessionType {
	return []SessionType{SessionPolicy, SessionSnapshot, SessionHealthCheck, SessionRetention, SessionRemoval}
}

// State is how far a session, or the share of one machine in it, has come. What it came to is its Outcome.
type State string

// The states. A picture is in doc/states.md.
const (
	StateQueued  State = "queued"
	StateRunning State = "running"
	StateWaiting State = "waiting" // an item alone: its last attempt failed, and the next one is due later
	StateDone    State = "done"
)

// Outcome is what a session, or the share of one machine in it, came to. It is empty until that is done.
type Outcome string

// The outcomes, from the best to the worst.
const (
	OutcomeSuccess Outcome = "success"
	OutcomeWarning Outcome = "warning" // everything asked for was made, and a person should look at something
	OutcomeStopped Outcome = "stopped" // a person stopped it, or something else took its place
	OutcomeError   Outcome = "error"
)

// Outcomes are all outcomes, from the best to the worst.
func Outcomes() []Outcome {
	return []Outcome{OutcomeSuccess, OutcomeWarning, OutcomeStopped, OutcomeError}
}

// Worse returns the worse one of two outcomes; any is worse than none.
func (o Outcome) Worse(other Outcome) Outcome {
	if slices.Index(Outcomes(), other) > slices.Index(Outcomes(), o) {
		return other
	}
	return o
}

// becomes is the one table of transitions: which state may follow which.
var becomes = map[State][]State{
	StateQueued:  {StateRunning, StateDone},
	StateRunning: {StateRunning, StateWaiting, StateDone}, // running again: its worker died, and another one took over
	StateWaiting: {StateQueued, StateDone},
	StateDone:    {},
}

// Become returns the state that follows, or an error of KindConflict when it cannot follow. A session that is done stays as it is.
func (s State) Become(next State) (State, error) {
	if !slices.Contains(becomes[s], next) {
		return s, Errorf(KindConflict, "what is %s cannot become %s", s, next)
	}
	return next, nil
}

// Session is one run of an operation. Its JSON form is that of the API.
type Session struct {
	ID      RunID       `json:"id"`
	Type    SessionType `json:"type"`
	Policy  string      `json:"policy,omitempty"`
	Region  string      `json:"region,omitempty"` // of sessions of SLA policies, which are begun for each region alone
	Slot    time.Time   `json:"slot,omitzero"`    // for which it was begun; of sessions by hand, when it was asked for
	Manual  bool        `json:"manual,omitempty"` // a person asked for it
	By      string      `json:"by,omitempty"`     // who
	Makes   []Makes     `json:"makes,omitempty"`  // points of each machine, in this order
	State   State       `json:"state"`
	Outcome Outcome     `json:"outcome,omitempty"`
	Message string      `json:"message,omitempty"` // why it ended as it did, where its items do not say so
	// Stopping says that a person asked for its end: what is durable stays, the rest is undone.
	Stopping bool       `json:"stopping,omitempty"`
	Queued   time.Time  `json:"queued"`
	Started  time.Time  `json:"started,omitzero"`
	Ended    time.Time  `json:"ended,omitzero"`
	Items    ItemCounts `json:"items"`
	Bytes    Bytes      `json:"bytes"`
}

// Makes is a kind of point that a session makes of each of its machines.
type Makes struct {
	Kind       PointKind `json:"kind"`
	Flags      Flags     `json:"flags,omitempty"`
	Repository string    `json:"repository,omitempty"`
}

// ItemCounts says how many items of a session are how far.
type ItemCounts struct {
	Total   int `json:"total"`
	Queued  int `json:"queued"`
	Running int `json:"running"`
	Waiting int `json:"waiting"`
	Success int `json:"success"`
	Warning int `json:"warning"`
	Stopped int `json:"stopped"`
	Error   int `json:"error"`
}

// Plus returns the sums.
func (c ItemCounts) Plus(o ItemCounts) ItemCounts {
	return ItemCounts{
		c.Total + o.Total, c.Queued + o.Queued, c.Running + o.Running, c.Waiting + o.Waiting, c.Success + o.Success, c.Warning + o.Warning, c.Stopped + o.Stopped, c.Error + o.Error,
	}
}

// Done is how many items have ended.
func (c ItemCounts) Done() int { return c.Success + c.Warning + c.Stopped + c.Error }

// SessionItem is the share of one machine in a session.
type SessionItem struct {
	Session  RunID      `json:"session"`
	VM       ResourceID `json:"vm"`
	Region   string     `json:"region"`
	State    State      `json:"state"`
	Outcome  Outcome    `json:"outcome,omitempty"`
	Message  string     `json:"message,omitempty"` // of the last attempt that failed, or what to look at
	Hint     string     `json:"hint,omitempty"`    // what to do about it
	Attempts int        `json:"attempts"`
	NextAt   time.Time  `json:"nextAt,omitzero"` // of a waiting one: when the next attempt is due
	Started  time.Time  `json:"started,omitzero"`
	Ended    time.Time  `json:"ended,omitzero"`
	Points   []PointID  `json:"points"` // that it made
	Bytes    Bytes      `json:"bytes"`
	Progress *Progress  `json:"progress,omitempty"` // of one that runs, as of a few seconds ago
	// Epoch is raised by each claim. A write that names an older one comes from a worker that was given up, and is refused.
	Epoch int `json:"-"`
}

// Bytes are what was moved for a machine, or for all machines of a session.
type Bytes struct {
	Total   int64 `json:"total"`   // size of the disks
	Read    int64 `json:"read"`    // fetched from Azure
	Stored  int64 `json:"stored"`  // added to repositories
	Saved   int64 `json:"saved"`   // read, and there already or made smaller
	Audited int64 `json:"audited"` // read to check the change lists
}

// Plus returns the sums.
func (b Bytes) Plus(other Bytes) Bytes {
	return Bytes{b.Total + other.Total, b.Read + other.Read, b.Stored + other.Stored, b.Saved + other.Saved, b.Audited + other.Audited}
}

// Progress is how far the share of a machine in a session has come in what is being done for it now.
type Progress struct {
	Stage  string    `json:"stage"`  // snapshot, copy, read, publish, archive
	Done   int64     `json:"done"`   // bytes of the disks that were passed by, read or not
	Total  int64     `json:"total"`  // size of the disks; 0 as long as it is not known
	Read   int64     `json:"read"`   // bytes fetched so far
	Stored int64     `json:"stored"` // bytes added to the repository so far
	Since  time.Time `json:"since"`  // when the stage began
	At     time.Time `json:"at"`     // when this was so
}

// Remaining estimates how long the stage still takes at the pace that it had so far; false when nothing can be said yet.
func (p Progress) Remaining() (time.Duration, bool) {
	took := p.At.Sub(p.Since)
	if p.Done <= 0 || p.Total <= 0 || took <= 0 {
		return 0, false
	}
	left := max(0, p.Total-p.Done)
	return time.Duration(float64(took) * float64(left) / float64(p.Done)), true
}

// PerSecond is the rate at which b.Read was fetched over a duration, in bytes; 0 when it took no time.
func (b Bytes) PerSecond(took time.Duration) int64 {
	if took <= 0 {
		return 0
	}
	return int64(float64(b.Read) / took.Seconds())
}

// RollUp says what a session came to whose items are all done: warnings make a warning, one failure makes an error. A session that a
// person stopped is stopped, whatever its items came to. One without items is a success.
func RollUp(items ItemCounts, stopped bool) Outcome {
	switch {
	case stopped:
		return OutcomeStopped
	case items.Error > 0:
		return OutcomeError
	case items.Warning > 0:
		return OutcomeWarning
	case items.Stopped > 0 && items.Success == 0:
		return OutcomeStopped
	}
	return OutcomeSuccess
}

// LogLine is a line of a session's log. Its texts are for people.
type LogLine struct {
	Session RunID      `json:"session"`
	Number  int64      `json:"number"` // rises with time
	At      time.Time  `json:"at"`
	VM      ResourceID `json:"vm,omitempty"` // "" of the session as a whole
	Level   LogLevel   `json:"level"`
	Text    string     `json:"text"`
}

// LogLevel says how much a line matters.
type LogLevel string

// The levels.
const (
	LogInfo    LogLevel = "info"
	LogWarning LogLevel = "warning"
	LogError   LogLevel = "error"
)
