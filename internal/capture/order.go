package capture

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// journal is what a session writes into the log before it makes anything in the cloud, and again when it publishes: the
// names of what has to be put in order if nobody comes back to it.
type journal struct {
	Snapshots  []holdfast.ResourceID `json:"snapshots"`            // made by this session
	Opened     []holdfast.ResourceID `json:"opened,omitempty"`     // of a snapshot point, and what they are compared with: only their access is ended
	Superseded []holdfast.ResourceID `json:"superseded,omitempty"` // with publication: bases that it replaced
}

// leftover is what an earlier session may have left.
type leftover struct {
	session holdfast.SessionID
	remove  []holdfast.ResourceID
	revoke  []holdfast.ResourceID // kept as bases; only their access is ended
}

// roundsMax bounds how often the log is read anew when somebody else settles the same sessions at the same time.
const roundsMax = 5

// putInOrder gives up open sessions of the machine, so that they can never publish, and removes what unsettled sessions
// left in the cloud. The sessions are returned to be looked at again: a request that was under way when its process died
// may take effect after the first look.
func (f *Flow) putInOrder(ctx context.Context, vm holdfast.ResourceID) ([]leftover, error) {
	for range roundsMax {
		if err := f.config.Repository.Refresh(ctx); err != nil {
			return nil, err
		}
		sessions, err := f.config.Repository.Unsettled(vm)
		if err != nil {
			return nil, err
		}
		open, err := f.abandon(ctx, sessions)
		if err != nil {
			return nil, err
		}
		if open {
			continue // what became of them decides what is to be removed
		}
		left, err := f.leftovers(vm, sessions)
		if err != nil {
			return nil, err
		}
		for _, l := range left {
			if err := f.remove(ctx, l); err != nil {
				return nil, err
			}
		}
		return left, nil
	}
	return nil, holdfast.Errorf(holdfast.KindConflict, "other backups of %s keep starting", vm.Name()).
		WithHint("let one backup of a machine run at a time")
}

// abandon gives up open sessions and reports whether there were any.
func (f *Flow) abandon(ctx context.Context, sessions []repo.UnsettledSession) (bool, error) {
	any := false
	for _, s := range sessions {
		if s.Status != repo.SessionOpen {
			continue
		}
		any = true
		err := f.config.Repository.Abandon(ctx, s.ID, "a newer backup of the machine started")
		if err != nil && !holdfast.IsKind(err, holdfast.KindConflict) {
			return any, err
		}
	}
	return any, nil
}

// leftovers reads the journals. A snapshot behind the newest durable point stays, whatever a journal says; a session that was
// given up may have left access to it open.
func (f *Flow) leftovers(vm holdfast.ResourceID, sessions []repo.UnsettledSession) ([]leftover, error) {
	keep, err := f.bases(vm)
	if err != nil {
		return nil, err
	}
	var left []leftover
	for _, s := range sessions {
		var begun, published journal
		if err := decode(s.Resources, &begun); err != nil {
			return nil, err
		}
		if err := decode(s.PublishResources, &published); err != nil {
			return nil, err
		}
		l := leftover{session: s.ID}
		for _, id := range slices.Concat(begun.Snapshots, published.Superseded) {
			if _, kept := keep[id.Key()]; !kept {
				l.remove = append(l.remove, id)
			}
		}
		l.revoke = slices.Concat(slices.Sorted(maps.Values(keep)), begun.Opened)
		left = append(left, l)
	}
	return left, nil
}

func decode(raw json.RawMessage, into *journal) error {
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return holdfast.Wrap(holdfast.KindCorrupt, err, "the names of an earlier session's snapshots cannot be read")
	}
	return nil
}

// bases returns the snapshots behind the newest durable point of a machine.
func (f *Flow) bases(vm holdfast.ResourceID) (map[string]holdfast.ResourceID, error) {
	newest, found, err := f.newestPoint(vm, time.Time{})
	if err != nil || !found {
		return nil, err
	}
	keep := map[string]holdfast.ResourceID{}
	for _, d := range newest.Disks {
		if d.Snapshot != nil {
			keep[d.Snapshot.ID.Key()] = d.Snapshot.ID
		}
	}
	return keep, nil
}

// remove deletes and closes what an earlier session left.
func (f *Flow) remove(ctx context.Context, l leftover) error {
	var failed []error
	for _, id := range l.remove {
		failed = append(failed, f.removeOurs(ctx, id))
	}
	for _, id := range l.revoke {
		failed = append(failed, f.config.Source.Revoke(ctx, id))
	}
	return errors.Join(failed...)
}

// removeOurs deletes a snapshot that bears this repository's tag. It is looked up by its id; one that is gone is no error,
// one without the tag is somebody else's, and one of a snapshot point goes with that point.
func (f *Flow) removeOurs(ctx context.Context, id holdfast.ResourceID) error {
	found, err := f.config.Source.Snapshot(ctx, id)
	if holdfast.IsKind(err, holdfast.KindNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if point := tagOf(found.Tags, tagPoint); point != "" {
		f.config.Log.DebugContext(ctx, "a snapshot stays, for it belongs to a snapshot point", "snapshot", string(id), "point", point)
		return nil
	}
	if found.Tags[tagRepository] != f.config.Repository.ID() {
		f.config.Log.WarnContext(ctx, "a snapshot of our name does not bear our tag and is left alone", "snapshot", string(id))
		return nil
	}
	return f.config.Source.DeleteSnapshot(ctx, id)
}

// settle looks at what earlier sessions left a second time and takes them off the list.
func (f *Flow) settle(ctx context.Context, left []leftover) error {
	for _, l := range left {
		if err := f.remove(ctx, l); err != nil {
			return err
		}
		if err := f.config.Repository.Settle(ctx, l.session); err != nil && !holdfast.IsKind(err, holdfast.KindConflict) {
			return err
		}
	}
	return nil
}

// names chooses the snapshots' names from the session's id, before anything is made. Of a set nothing is made: what is opened is
// named, so that no access outlives a run that dies.
func (r *run) names(session holdfast.SessionID) journal {
	var j journal
	for _, d := range r.disks {
		if r.options.From == nil {
			d.name = d.ID.Sibling(snapshotType, "hf-"+session.String()[:16]+"-"+string(d.LUN))
			j.Snapshots = append(j.Snapshots, d.name)
			continue
		}
		j.Opened = append(j.Opened, d.name)
		if d.base != nil {
			j.Opened = append(j.Opened, d.before.ID)
		}
	}
	return j
}

func (r *run) tags() map[string]string {
	return map[string]string{tagRepository: r.flow.config.Repository.ID(), tagSession: r.session.ID().String(), tagMachine: machineTag(r.vm.ID, r.vm.Name)}
}

// undo removes what the run made and says in the error what it could not remove. It runs although ctx may have ended.
func (r *run) undo(ctx context.Context, cause error) error {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	closed := r.close(ctx, cause)
	if !closed && r.publishing {
		// The point may be durable after all, and then these are its bases.
		r.revoke(ctx, slices.Concat(r.journal.Snapshots, r.journal.Opened))
		return leaves(cause, "Whether the restore point became durable is not known; the next backup of this machine finds out and removes what remains")
	}
	remain := r.flow.removeAll(ctx, r.journal.Snapshots)
	if len(remain) > 0 {
		return leaves(cause, "The next backup of this machine removes what remains: "+strings.Join(remain, ", "))
	}
	if !r.revoke(ctx, r.journal.Opened) {
		r.unsure = true
	}
	if closed && !r.unsure {
		if err := r.flow.config.Repository.Settle(ctx, r.session.ID()); err != nil {
			// best effort: the next backup looks once more, finds nothing, and settles the session.
			r.flow.config.Log.WarnContext(ctx, "the session could not be settled", "error", err)
		}
	}
	return cause
}

// close gives the session up and reports whether it is certain that it can never publish.
func (r *run) close(ctx context.Context, cause error) bool {
	err := r.session.Close(ctx, reasonOf(cause))
	if err == nil && !r.publishing {
		return true
	}
	if err != nil {
		r.flow.config.Log.WarnContext(ctx, "the session could not be closed", "error", err)
	}
	// When publication was tried, closing is quiet about a session that was published after all.
	session, found, err := r.status(ctx)
	return err == nil && (!found || session.Status == repo.SessionAbandoned)
}

// status reads what the log says about this run's session. One that is not found was given up and settled by another
// backup of the machine.
func (r *run) status(ctx context.Context) (repo.UnsettledSession, bool, error) {
	if err := r.flow.config.Repository.Refresh(ctx); err != nil {
		return repo.UnsettledSession{}, false, err
	}
	sessions, err := r.flow.config.Repository.Unsettled(r.vm.ID)
	if err != nil {
		return repo.UnsettledSession{}, false, err
	}
	for _, s := range sessions {
		if s.ID == r.session.ID() {
			return s, true, nil
		}
	}
	return repo.UnsettledSession{}, false, nil
}

// revoke ends all access to snapshots, and reports whether that is certain.
func (r *run) revoke(ctx context.Context, ids []holdfast.ResourceID) bool {
	certain := true
	for _, id := range ids {
		if err := r.flow.config.Source.Revoke(ctx, id); err != nil {
			// best effort: the names are in the log, and the next backup revokes.
			r.flow.config.Log.WarnContext(ctx, "access may still be open", "snapshot", string(id), "error", err)
			certain = false
		}
	}
	return certain
}

// reasonOf is what the log keeps about a session that was given up.
func reasonOf(cause error) string { return "failed: " + string(holdfast.KindOf(cause)) }

// leaves adds a sentence to the hint of an error.
func leaves(cause error, sentence string) error {
	var e *holdfast.Error
	if !errors.As(cause, &e) {
		return holdfast.Wrap(holdfast.KindOf(cause), cause, "the backup failed").WithHint("%s", sentence)
	}
	hint := strings.TrimSpace(e.Hint)
	if hint != "" && !strings.HasSuffix(hint, ".") {
		hint += ". "
	}
	return e.WithHint("%s", hint+sentence)
}

// removeAll deletes snapshots and returns those that could not be deleted.
func (f *Flow) removeAll(ctx context.Context, ids []holdfast.ResourceID) (remain []string) {
	for _, id := range ids {
		if err := f.removeOurs(ctx, id); err != nil {
			f.config.Log.WarnContext(ctx, "a snapshot remains", "snapshot", string(id), "error", err)
			remain = append(remain, string(id))
		}
	}
	return slices.Clip(remain)
}
