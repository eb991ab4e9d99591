package civil

import (
	"time"
	_ "time/tzdata" // zones for machines that have none of their own

	"github.com/holdfast-backup/holdfast"
)

// Zone loads a zone by its IANA name. The error has KindInvalid and says what is accepted; neither the empty name nor
// Local, which is another zone on another machine, is.
func Zone(name string) (*time.Location, error) {
	if name != "" && name != time.Local.String() {
		if zone, err := time.LoadLocation(name); err == nil {
			return zone, nil
		}
	}
	return nil, holdfast.Errorf(holdfast.KindInvalid, "%q is not a time zone", name).
		WithHint("write the IANA name of one, such as UTC, Europe/Berlin or America/New_York")
}
