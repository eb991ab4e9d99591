package retention

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Cause is the rule behind a reason.
type Cause string

// What keeps a point.
const (
	CauseFlag     Cause = "flag"        // it bears a flag whose limit is not exceeded
	CauseStarted  Cause = "manualStart" // a person started the policy; one of its most frequent schedule would stay as long
	CauseNoRule   Cause = "noRule"      // it bears a flag of which neither a policy nor what is stored says how long
	CauseBase     Cause = "base"        // the next backup is compared with it
	CauseLastGood Cause = "lastGood"    // there is no newer good one
	CauseLocked   Cause = "locked"      // nobody can remove it yet
	CauseManual   Cause = "manual"      // made by hand
)

// What takes a point.
const (
	CauseCount          Cause = "count"          // as many newer good ones bear the flag as are kept
	CauseAge            Cause = "age"            // the period of the flag is over
	CauseOutdated       Cause = "outdated"       // it lost its last flag earlier, and what held it since then does no more
	CauseTemporary      Cause = "temporary"      // made for a session, which is over
	CauseSnapshotAge    Cause = "snapshotAge"    // the installation lets no snapshot grow so old
	CauseObsoleteAge    Cause = "obsoleteAge"    // the same, of machines that no policy protects
	CauseUnprotectedAge Cause = "unprotectedAge" // the same, of their backups
)

// Reason is why a point stays, or why it goes.
type Reason struct {
	Cause Cause
	Kind  holdfast.PointKind // of a last good point, where one of each kind is kept; "" where one of all kinds together is
	Flag  holdfast.Flag      // that is borne, or was lost; of a point that a person started, the one it is treated like
	// Number is the place among the good points that bear the flag, the newest being 1, and 0 for a bad point. Of is how many are
	// kept by a limit of a number, else how many there are.
	Number, Of int
	More       int             // how many more good ones with the flag will end the reason; 0 when their number does not
	Age        holdfast.Period // of the period or global age that is over
	Until      time.Time       // when the reason ends, or ended; in the zone in which it is counted. Zero when no date is known
	// Pending says that the limit is exceeded already, and that the flag goes on the occasion that looks at it.
	Pending bool
}

// Text says the reason in words.
func (r Reason) Text() string {
	switch r.Cause {
	case CauseFlag:
		return r.place() + r.end()
	case CauseStarted:
		return "started by a person, kept like a " + r.Flag.String() + " one" + r.end()
	case CauseNoRule:
		return r.noRule()
	case CauseBase:
		return "changed-range base, until the next backup has its own"
	case CauseLastGood:
		if r.Kind == "" {
			return "last good restore point of a machine that no policy protects, until a person or a global age takes it"
		}
		return "last good " + string(r.Kind) + ", until there is a newer one"
	case CauseLocked:
		return "locked until " + date(r.Until)
	case CauseManual:
		return "made by hand, which no retention touches"
	case CauseCount, CauseAge, CauseOutdated, CauseTemporary, CauseSnapshotAge, CauseObsoleteAge, CauseUnprotectedAge:
	}
	return r.loss()
}

// place is the flag, and which of its bearers the point is.
func (r Reason) place() string {
	if r.Number == 0 || r.Of == 0 {
		return r.Flag.String()
	}
	return fmt.Sprintf("%s %d of %d", r.Flag, r.Number, r.Of)
}

// end is what ends a reason that has to do with a flag.
func (r Reason) end() string {
	switch {
	case r.Pending && r.Until.IsZero():
		return ", more than are kept: until a session closes"
	case r.Pending:
		return ", over since " + date(r.Until) + ": until the daily pass"
	case r.Until.IsZero():
		return ", until " + r.more()
	}
	return ", until " + date(r.Until)
}

func (r Reason) more() string {
	if r.More == 1 {
		return "1 more good one is made"
	}
	return fmt.Sprintf("%d more good ones are made", r.More)
}

// enough is what displaced a point.
func (r Reason) enough() string {
	switch r.Of {
	case 0:
		return "none is kept"
	case 1:
		return "a newer good one bears it, and 1 is kept"
	}
	return fmt.Sprintf("%d newer good ones bear it, as many as are kept", r.Of)
}

func (r Reason) noRule() string {
	if r.Flag == 0 {
		return "no policy says how long it stays, and nothing is stored with it"
	}
	return r.Flag.String() + ", but no policy says how long it stays, and nothing is stored with it"
}

// loss is why a point goes.
func (r Reason) loss() string {
	switch r.Cause {
	case CauseCount:
		return r.Flag.String() + ": " + r.enough()
	case CauseAge:
		return fmt.Sprintf("%s: %s ended on %s", r.Flag, r.Age, date(r.Until))
	case CauseOutdated:
		return "its flags were lost earlier, and nothing else holds it any more"
	case CauseTemporary:
		return "made for a session, and no backup needs it any more"
	case CauseSnapshotAge:
		return "no snapshot is kept longer than " + r.Age.String()
	case CauseObsoleteAge:
		return "no snapshot of an unprotected machine is kept longer than " + r.Age.String()
	case CauseUnprotectedAge:
		return "no backup of an unprotected machine is kept longer than " + r.Age.String()
	default:
		return string(r.Cause)
	}
}

func date(t time.Time) string { return t.Format("2 January 2006") }

// MarshalJSON implements json.Marshaler: the fields that the cause has, and the text.
func (r Reason) MarshalJSON() ([]byte, error) {
	type form struct {
		Cause   Cause              `json:"cause"`
		Kind    holdfast.PointKind `json:"kind,omitempty"`
		Flag    holdfast.Flag      `json:"flag,omitzero"`
		Number  int                `json:"number,omitempty"`
		Of      int                `json:"of,omitempty"`
		More    int                `json:"more,omitempty"`
		Age     holdfast.Period    `json:"age,omitzero"`
		Until   time.Time          `json:"until,omitzero"`
		Pending bool               `json:"pending,omitempty"`
		Text    string             `json:"text"`
	}
	f := form{r.Cause, r.Kind, r.Flag, r.Number, r.Of, r.More, r.Age, written(r.Until), r.Pending, r.Text()}
	return json.Marshal(f)
}

// written is a moment as JSON can hold it: years have four digits there, and somebody may keep points longer than that.
func written(t time.Time) time.Time {
	if last := time.Date(9999, time.December, 31, 0, 0, 0, 0, time.UTC); t.After(last) {
		return last
	}
	if t.IsZero() {
		return t
	}
	return t.UTC()
}
