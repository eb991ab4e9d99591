package access

import (
	"context"
	"regexp"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// Ownership says whom a repository belongs to.
type Ownership struct {
	Owner string    `json:"owner"` // id of the installation, "" for nobody
	Epoch uint64    `json:"epoch"` // how many take-overs there were
	Since time.Time `json:"since,omitzero"`
	// OpenSessions were begun before and have neither published nor been given up; after a take-over they cannot publish any more.
	OpenSessions int `json:"openSessions"`
}

// Ownership returns whom the repository belongs to in the state read last.
func (a *Opened) Ownership() Ownership {
	return ownershipOf(a.options.Log.State())
}

func ownershipOf(state oplog.State) Ownership {
	o := Ownership{Owner: state.Owner, Epoch: state.Epoch, Since: state.OwnedSince}
	for _, session := range state.Sessions {
		if session.Status == oplog.SessionOpen {
			o.OpenSessions++
		}
	}
	return o
}

// installationID is what names an installation: printable, and safe in a command line.
var installationID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckInstallation returns a KindInvalid error for an id that no installation can have.
func CheckInstallation(id string) error {
	if installationID.MatchString(id) {
		return nil
	}
	return holdfast.Errorf(holdfast.KindInvalid, "%q is no id of an installation", id).WithField("owner").
		WithHint("1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit")
}

// TakeOver makes the installation that this handle belongs to the owner. from is the owner that the caller knows, "" for nobody: when it is
// another one by now, the error is KindRefused and names him. From then on what the old owner appends is refused; sessions that
// were open cannot publish. Who owns the repository already changes nothing. After another error the take-over happened or
// not, and TakeOver may be called again.
func (a *Opened) TakeOver(ctx context.Context, from string) (Ownership, error) {
	if err := CheckInstallation(a.options.Installation); err != nil {
		return Ownership{}, err
	}
	ours := false
	_, err := a.options.Log.TakeOver(ctx, func(state oplog.State) (oplog.Entry, error) {
		if ours = state.Owner == a.options.Installation; ours {
			return oplog.Entry{}, errOurs
		}
		if state.Owner != from {
			return oplog.Entry{}, notOwnedBy(state.Owner, from)
		}
		return oplog.Entry{Kind: oplog.Owner, Owner: a.options.Installation, Epoch: state.Epoch + 1}, nil
	})
	if err != nil && !ours {
		return Ownership{}, err
	}
	return a.Ownership(), nil
}

var errOurs = holdfast.Errorf(holdfast.KindConflict, "the repository is ours already")

func notOwnedBy(owner, from string) error {
	if owner == "" {
		return holdfast.Errorf(holdfast.KindRefused, "nobody owns the repository, %s does not", from).WithField("from").WithHint("leave --from out")
	}
	return holdfast.Errorf(holdfast.KindRefused, "the repository is owned by installation %s", owner).WithField("from").
		WithHint("confirm that it is to lose the repository with: --from %s; its next publication then fails", owner)
}

// Fenced reports whether the repository belongs to another installation than this handle.
func (a *Opened) Fenced() bool {
	state := a.options.Log.State()
	return state.Owner != "" && state.Owner != a.options.Installation
}
