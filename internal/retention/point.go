package retention

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// Point is a restore point as retention knows it, and what it remembers of it from one pass to the next: flags, the rules
// stored with it, and whether they have run out. Its JSON form is what --points takes.
type Point struct {
	ID         holdfast.PointID    `json:"id"`
	VM         holdfast.ResourceID `json:"vm"`
	Kind       holdfast.PointKind  `json:"kind"`
	Policy     string              `json:"policy,omitempty"` // that made it; "" of a point made by hand
	Slot       time.Time           `json:"slot,omitzero"`    // for which it was made; zero of a point that a person started
	Created    time.Time           `json:"created"`
	Flags      holdfast.Flags      `json:"flags"`
	Repository string              `json:"repository,omitempty"`
	Region     string              `json:"region,omitempty"`

	Good   bool `json:"good"`             // it can be restored, as far as is known; a file that leaves it out says true
	Manual bool `json:"manual,omitempty"` // made by hand, outside of every policy: no retention touches it
	// Base says of a snapshot that the next backup will be compared with it, or that a session reads it at this moment.
	Base bool `json:"base,omitempty"`
	// Temporary says of a point that a session made it for its own work, as SLA policies make snapshots for their backups: it is
	// nothing to restore from, bears no flag, and goes when it is not a base.
	Temporary   bool      `json:"temporary,omitempty"`
	LockedUntil time.Time `json:"lockedUntil,omitzero"` // until then nobody can remove it

	// Like is the flag of the most frequent schedule that was enabled when a person started the policy. The point bears no flag, and
	// stays as long as one that was made at its moment with this flag. Zero where the rules are to be asked.
	Like holdfast.Flag `json:"like,omitzero"`
	Keep Keep          `json:"keep,omitzero"` // the last rules that a policy had for it
	// Outdated says that its flags, or what Like stands for, are gone; something else still holds it.
	Outdated bool `json:"outdated,omitempty"`
}

// inUTC returns the point with its times in UTC, as they are written.
func (p Point) inUTC() Point {
	for _, t := range []*time.Time{&p.Slot, &p.Created, &p.LockedUntil} {
		*t = written(*t)
	}
	return p
}

// byPerson reports whether a person started the policy that made the point, so that it never had a flag.
func (p Point) byPerson() bool {
	return p.Flags == 0 && p.Slot.IsZero() && !p.Manual && !p.Temporary && !p.Outdated
}

// locked reports whether nobody can remove the point now. At the very end of a lock it still holds.
func (p Point) locked(now time.Time) bool {
	return !p.LockedUntil.IsZero() && !now.After(p.LockedUntil)
}

// compare orders points by age, and those of one moment so that the newest is the one that is best to have: a backup before an
// archive, an archive before a snapshot, which dies with its machine's account.
func (p Point) compare(other Point) int {
	return cmp.Or(p.Created.Compare(other.Created), cmp.Compare(rank(p.Kind), rank(other.Kind)),
		cmp.Compare(p.ID, other.ID), cmp.Compare(p.Repository, other.Repository))
}

// kinds is how many kinds of point there are.
const kinds = 3

// rank numbers the kinds from 0 on.
func rank(kind holdfast.PointKind) int {
	switch kind {
	case holdfast.PointArchive:
		return 1
	case holdfast.PointBackup:
		return 2
	case holdfast.PointSnapshot:
	}
	return 0
}

// Keep is what the last settings of a policy said of a point: by flag, how long it is borne. A machine that loses its policy,
// and a schedule that is turned off, leave their points to it.
type Keep struct {
	Daily   Limit `json:"daily,omitzero"`
	Weekly  Limit `json:"weekly,omitzero"`
	Monthly Limit `json:"monthly,omitzero"`
	Yearly  Limit `json:"yearly,omitzero"`
	Zone    Zone  `json:"zone,omitzero"` // in which its periods are counted; zero: that of the installation
}

// Of returns the limit of a flag; zero when none is stored.
func (k Keep) Of(flag holdfast.Flag) Limit {
	switch flag {
	case holdfast.Daily:
		return k.Daily
	case holdfast.Weekly:
		return k.Weekly
	case holdfast.Monthly:
		return k.Monthly
	case holdfast.Yearly:
		return k.Yearly
	}
	return Limit{}
}

// With returns the rules with another limit for a flag.
func (k Keep) With(flag holdfast.Flag, limit Limit) Keep {
	switch flag {
	case holdfast.Daily:
		k.Daily = limit
	case holdfast.Weekly:
		k.Weekly = limit
	case holdfast.Monthly:
		k.Monthly = limit
	case holdfast.Yearly:
		k.Yearly = limit
	}
	return k
}

// Limit says how long points bear a flag: the newest so many good ones, or each one for a period. The zero value says that
// no limit is known, which is not the same as a limit of none.
type Limit struct {
	Counted bool
	Count   int // when Counted
	For     holdfast.Period
}

// Newest is the limit that the n newest good points keep the flag.
func Newest(n int) Limit { return Limit{Counted: true, Count: n} }

// Lasting is the limit that each point keeps the flag for a period.
func Lasting(p holdfast.Period) Limit { return Limit{For: p} }

// IsZero reports whether no limit is known.
func (l Limit) IsZero() bool { return l == Limit{} }

// String returns the limit as it is written in files: 3 points, 21 days. The zero value is the empty text.
func (l Limit) String() string {
	switch {
	case !l.Counted:
		return l.For.String()
	case l.Count == 1:
		return "1 point"
	}
	return strconv.Itoa(l.Count) + " points"
}

// MarshalText implements encoding.TextMarshaler.
func (l Limit) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it reads what String writes.
func (l *Limit) UnmarshalText(text []byte) error {
	number, unit, _ := strings.Cut(string(text), " ")
	if unit == "point" || unit == "points" {
		if n, err := strconv.Atoi(number); err == nil && n >= 0 && n <= countMax {
			*l = Newest(n)
			return nil
		}
	}
	var period holdfast.Period
	if err := period.UnmarshalText(text); err != nil {
		return holdfast.Errorf(holdfast.KindInvalid, "%q does not say how long points are kept", text).
			WithHint("write a number of points from 0 to %d, or a period: 3 points, 21 days, 12 months", countMax)
	}
	*l = Lasting(period)
	return nil
}

// countMax is the largest number of points that a limit can ask for: more than any platform holds of one disk.
const countMax = 100_000

// Zone is a time zone that is written by its IANA name. The zero value is none.
type Zone struct{ *time.Location }

// IsZero reports whether there is no zone.
func (z Zone) IsZero() bool { return z.Location == nil }

// MarshalText implements encoding.TextMarshaler.
func (z Zone) MarshalText() ([]byte, error) {
	if z.IsZero() {
		return nil, nil
	}
	return []byte(z.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (z *Zone) UnmarshalText(text []byte) error {
	zone, err := civil.Zone(string(text))
	if err != nil {
		return fmt.Errorf("zone: %w", err)
	}
	z.Location = zone
	return nil
}
