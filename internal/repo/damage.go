package repo

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

// damageIn returns what is known to be damaged. A damage list that is damaged itself says nothing: the next verification finds
// out again what it said.
func (r *Repository) damageIn(ctx context.Context, state oplog.State) (packlist.Damage, error) {
	damage, err := listsIn(r.store).Damage(ctx, state.Damage)
	return damage, stored.IgnoreDamage(err)
}

// DamagedPoints returns the visible restore points that are known to be damaged, from the state read last.
func (r *Repository) DamagedPoints(ctx context.Context) (map[holdfast.PointID]bool, error) {
	damage, err := r.damageIn(ctx, r.oplog.State())
	return damage.Hit, err
}

// places returns all places of an id that the index knows now.
func (r *Repository) places(ctx context.Context, id chunk.ID) ([]*chunk.Place, error) {
	live, err := r.runs.current(ctx)
	if err != nil {
		return nil, err
	}
	return places(ctx, live, id)
}

// Recorded is what RecordProof wrote.
type Recorded struct {
	Since *time.Time // every byte has been read since then; nil while a part never was
}

// RecordProof keeps in the log what a verification found: what was read and matched, and what damage is known now. Sessions take
// nothing from damaged packs from then on, so that the next backup writes again what is lost. The report must be one that the
// key was lent for. A log that is damaged cannot be written: KindCorrupt.
func (r *Repository) RecordProof(ctx context.Context, report Report) (Recorded, error) {
	proof := oplog.Proof{
		Level: int(report.Level), Ranges: report.Ranges, Seen: report.Seen, Began: report.Began.UTC(),
		Objects: int64(report.Checked), Bytes: report.Bytes, Requests: report.Requests,
	}
	err := r.appendProof(ctx, proof, func(ctx context.Context, state oplog.State) (packlist.Damage, error) {
		newer := !report.Damage.Empty() && hasPublishedSince(state, report.State.Next)
		if state.Damage == report.State.Damage && !newer {
			return report.Damage, nil
		}
		now, err := r.damageIn(ctx, state) // somebody else found something meanwhile, or healed it, or built on what is damaged
		if err != nil {
			return packlist.Damage{}, err
		}
		names := report.Damage.Names()
		maps.Copy(names, now.Names())
		return r.judge(ctx, state, names)
	})
	if err != nil {
		return Recorded{}, err
	}
	return Recorded{Since: r.ProvenSince()}, nil
}

// ProvenSince returns the instant since which every stored byte has been read, nil while a part never was.
func (r *Repository) ProvenSince() *time.Time {
	if since, ok := r.oplog.State().Proven.Since(0); ok {
		return &since
	}
	return nil
}

// judge says of damaged objects which are needed and which points they hit.
func (r *Repository) judge(ctx context.Context, state oplog.State, names map[string]bool) (packlist.Damage, error) {
	condemned, err := r.runs.condemnedPacks(ctx, state)
	if err != nil {
		return packlist.Damage{}, err
	}
	packs := maps.Clone(names)
	maps.DeleteFunc(packs, func(name string, _ bool) bool { return !verify.IsPack(name) || condemned[name] })
	a, err := r.verifyKey().Assess(ctx, verify.Question{State: state, Lists: listsIn(r.store), Damaged: packs, Condemned: condemned})
	if err != nil {
		return packlist.Damage{}, err
	}
	d := packlist.Damage{Repository: r.id, Lost: map[string][]string{}, Spare: map[string][]string{}, Hit: a.Hit}
	for name := range names {
		by := slices.Sorted(maps.Keys(a.By[name]))
		switch {
		case packs[name] && !a.Needed[name]:
			d.Spare[name] = by
		case !condemned[name]:
			d.Lost[name] = by
		}
	}
	return d, nil
}

// hasPublishedSince reports whether a state has a visible point that was published by that entry or a later one.
func hasPublishedSince(state oplog.State, n uint64) bool {
	return slices.ContainsFunc(state.Points, func(p oplog.PointState) bool { return p.Published >= n })
}

// damageTriesMax bounds how often a proof is made anew because somebody else recorded damage at the same time.
const damageTriesMax = 20

var errDamageChanged = errors.New("the damage list, or what it has to tell of, has changed meanwhile")

// appendProof appends a proof with what decide says is damaged in the state that it is appended to.
func (r *Repository) appendProof(ctx context.Context, proof oplog.Proof, decide func(context.Context, oplog.State) (packlist.Damage, error)) error {
	for range damageTriesMax {
		state, err := r.oplog.Sync(ctx)
		if err != nil {
			return err
		}
		err = r.tryProof(ctx, proof, state, decide)
		if !errors.Is(err, errDamageChanged) {
			return err
		}
	}
	return holdfast.Errorf(holdfast.KindConflict, "others keep recording damage").WithHint("run again")
}

func (r *Repository) tryProof(ctx context.Context, proof oplog.Proof, state oplog.State, decide func(context.Context, oplog.State) (packlist.Damage, error)) error {
	damage, err := decide(ctx, state)
	if err != nil {
		return err
	}
	before, err := r.damageIn(ctx, state)
	if err != nil {
		return err
	}
	entry := oplog.Entry{Kind: oplog.Proofs, Proof: &proof}
	damage.Repository, damage.Session = r.id, before.Session
	switch {
	case damage.Empty():
	case string(damage.Encode()) == string(before.Encode()):
		proof.Damage = state.Damage
	default:
		session := holdfast.SessionID(keys.Random(16))
		entry.Session, damage.Session = &session, session
		if proof.Damage, err = r.writeDamage(ctx, damage); err != nil {
			return err
		}
	}
	if len(proof.Ranges) == 0 && proof.Damage == state.Damage {
		return nil // nothing new
	}
	_, err = r.oplog.Append(ctx, func(now oplog.State) (oplog.Entry, error) {
		if now.Damage != state.Damage || entry.Session != nil && hasPublishedSince(now, state.Next) {
			return oplog.Entry{}, errDamageChanged // a point that came meanwhile may be hit by what is told for the first time
		}
		return entry, nil
	})
	if err == nil {
		r.checkpoint(ctx)
		return nil
	}
	if entry.Session != nil {
		r.giveUp(ctx, *entry.Session, "the proof was not appended")
	}
	return err
}

// writeDamage stores a damage list in the name of its session, which begins here.
func (r *Repository) writeDamage(ctx context.Context, damage packlist.Damage) (string, error) {
	session := damage.Session
	_, err := r.oplog.Append(ctx, func(oplog.State) (oplog.Entry, error) {
		return oplog.Entry{Kind: oplog.Begin, Session: &session}, nil
	})
	if err != nil {
		return "", err
	}
	name, err := r.put(ctx, layout.List, damage.Encode())
	if err != nil {
		r.giveUp(ctx, session, "the damage list was not stored")
	}
	return name, err
}

// giveUp abandons a session that left nothing outside the repository, and settles it.
func (r *Repository) giveUp(ctx context.Context, session holdfast.SessionID, reason string) {
	ctx = context.WithoutCancel(ctx)
	err := r.Abandon(ctx, session, reason)
	if err == nil {
		err = r.Settle(ctx, session)
	}
	if err != nil {
		// best effort: the session can do nothing but stay open, and a collection gives it up.
		r.log.WarnContext(ctx, "a session was not given up", "session", session.String(), "error", err)
	}
}
