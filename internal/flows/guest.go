package flows

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// freezeFor is how long the filesystems of a guest stay frozen at the most: snapshots take seconds, and applications do not bear minutes.
const freezeFor = time.Minute

// wantsGuest reports whether a policy wants anything to happen in guests.
func wantsGuest(g holdfast.GuestProcessing) bool {
	none := holdfast.GuestScripts{}
	return g.ApplicationConsistent || g.Linux != none || g.Windows != none
}

// around makes snapshots with what the policy wants in the guest around them: its scripts, and where the set is to be consistent for applications a
// freeze of the filesystems, which Linux guests have. A freeze is no claim: which filesystems lie on which disks of the set is not known for
// certain, and snapshots that an earlier attempt made were not made inside of this one.
func (f *Flows) around(ctx context.Context, o work.MakeOrder, take func(ctx context.Context) error) (guest.Result, error) {
	vm, err := f.config.Source.Machine(ctx, o.Set.VM)
	if err != nil {
		return guest.Result{}, err
	}
	flow, err := guest.New(guest.Config{Commands: f.config.Guests, Log: f.config.Log})
	if err != nil {
		return guest.Result{}, err
	}
	job := guest.Work{
		Machine: vm, Processing: o.Policy.Guest, PolicyID: o.Policy.Name, PolicyName: o.Policy.Name, Name: o.Attempt, FeedsBackup: o.Read,
	}
	if o.Policy.Guest.ApplicationConsistent && (o.Read || !o.Policy.Guest.BackupsOnly) {
		job.FreezeFor = freezeFor
	}
	return flow.Around(ctx, job, take)
}

// eachAlone warns of a set whose disks are not of one instant, where the policy wants them to be.
func eachAlone(o work.MakeOrder, made holdfast.SnapshotSet, err error) []string {
	if err != nil || made.Consistency != holdfast.ConsistencyEachDisk || !o.Policy.Snapshots.CrashConsistent && !o.Policy.Guest.ApplicationConsistent {
		return nil
	}
	return []string{"the disks were captured one by one, each as after a loss of power: the set is not of one instant"}
}
