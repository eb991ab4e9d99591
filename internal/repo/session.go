package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/pack"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// Session writes one restore point. It publishes that point or nothing: leaving without Publish leaves orphans that do no
// harm. WriteDisk may run for several disks at the same time; Publish and Close end the session.
type Session struct {
	r       *Repository // where locks were asked for: one whose objects are born locked
	kept    *promise
	id      holdfast.SessionID
	begin   BeginOptions
	finder  *finder
	fresh   *index.Fresh    // where what the session stored lies
	ctx     context.Context // ends when something fails, or at Close
	cancel  context.CancelCauseFunc
	chunks  *pack.Packer
	nodes   *pack.Nodes
	ended   bool // owned by the caller of Publish and Close
	begun   int64
	parents []oplog.PointState
	bases   map[holdfast.Root]bool // roots of the parents' disks
	healed  atomic.Bool            // something was written anew that lay in damaged packs

	damageList string // in force when the session began

	mu      sync.Mutex                // guards the fields below
	pending map[chunk.ID]*chunk.Place // of new chunks and nodes that no run of this session knows yet
	reused  map[string]bool           // packs of others that this point needs
	packs   []string
	lists   []string // that the session stored, included ones too
	disks   map[holdfast.LUN]writtenDisk
}

// writtenDisk is what WriteDisk made.
type writtenDisk struct {
	top       tree.Child
	base      tree.Base // that it was written against
	root      holdfast.Root
	sizeBytes int64
}

// BeginOptions tell what a session is for.
type BeginOptions struct {
	VM      holdfast.ResourceID
	Parents []holdfast.PointID // points that disks are written against; they cannot be removed while the session is open
	// Resources returns the journal of what the session is going to create outside the repository, named from its id, to
	// be kept as JSON in the log before anything is created. nil for none.
	Resources func(holdfast.SessionID) (any, error)
	// RetainUntil asks that nothing the point needs can be removed by anybody before that date, by the store's clock
	// (RetainFor). Zero asks for no locks. A store that cannot lock is refused with KindInvalid.
	RetainUntil time.Time
	// LockRequestsMax bounds the locks of reused objects that are moved for it; beyond, Publish is refused with KindInvalid
	// before it moves any. 0 is no bound.
	LockRequestsMax int
}

// Begin starts a session. Another open session of the same VM is not looked at: who must not run beside it abandons it
// first (Unsettled, Abandon). A repository that belongs to another installation is KindRefused.
func (r *Repository) Begin(ctx context.Context, o BeginOptions) (*Session, error) {
	id := holdfast.SessionID(keys.Random(16))
	before := r.BytesAdded()
	r, kept, err := r.promise(ctx, o)
	if err != nil {
		return nil, err
	}
	journal, err := journalOf(o.Resources, id)
	if err != nil {
		return nil, err
	}
	var state oplog.State
	_, err = r.oplog.Append(ctx, func(s oplog.State) (oplog.Entry, error) {
		state = s
		return oplog.Entry{Kind: oplog.Begin, Session: &id, Subject: r.hasher.Subject(o.VM), Parents: o.Parents, Private: journal, LockUntil: kept.For(layout.EntryName(0))}, nil
	})
	if err != nil {
		return nil, err
	}
	s := &Session{
		r: r, kept: kept, id: id, begin: o, begun: before, pending: map[chunk.ID]*chunk.Place{}, reused: map[string]bool{}, bases: map[holdfast.Root]bool{},
		disks: map[holdfast.LUN]writtenDisk{},
	}
	if err := s.prepare(ctx, state); err != nil {
		return nil, errors.Join(err, r.Abandon(context.WithoutCancel(ctx), id, err.Error()))
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	packs := pack.Options{Buffers: r.packBuffers, Ring: r.ring, Repository: r.id, Session: id, Put: r.put, Stored: s.packStored, Failed: s.fail}
	s.chunks = pack.New(s.ctx, seal.KindData, packs)
	s.nodes = pack.NewNodes(s.ctx, pack.NodesOptions{Options: packs, Find: s.findNode, Register: s.register, CloseData: s.chunks.Rotate})
	return s, nil
}

// prepare reads what the session needs of the state it begins in.
func (s *Session) prepare(ctx context.Context, state oplog.State) (err error) {
	if s.finder, err = s.r.finder(ctx, state); err != nil {
		return err
	}
	if err := s.learnDamage(ctx, state); err != nil {
		return err
	}
	merger, err := s.r.merger(s.id, s.finder.condemned, state)
	if err != nil {
		return err
	}
	s.fresh = index.NewFresh(merger, s.r.freshMax, s.forget)
	for _, id := range s.begin.Parents {
		parent := *state.Point(id)
		sum, err := s.r.openSummary(parent.ID, parent.Summary)
		if err != nil {
			return err
		}
		s.parents = append(s.parents, parent)
		for _, disk := range sum.Disks {
			s.bases[disk.Root] = true
		}
	}
	return nil
}

// journalOf returns what the begin entry is to keep of the session's resources, nil for nothing.
func journalOf(resources func(holdfast.SessionID) (any, error), id holdfast.SessionID) ([]byte, error) {
	if resources == nil {
		return nil, nil
	}
	value, err := resources(id)
	if err != nil {
		return nil, err
	}
	return json.Marshal(value)
}

// ID returns the session's id.
func (s *Session) ID() holdfast.SessionID { return s.id }

// fail ends everything that the session does; the first reason stays.
func (s *Session) fail(err error) { s.cancel(err) }

// find returns where an id is stored already, nil for nowhere, and remembers the pack as needed.
func (s *Session) find(ctx context.Context, id chunk.ID) (*chunk.Place, error) {
	s.mu.Lock()
	place, ok := s.pending[id]
	s.mu.Unlock()
	if ok {
		return place, nil
	}
	place, err := s.fresh.Lookup(ctx, id) // these packs are in s.packs
	if place != nil || err != nil {
		return place, err
	}
	place, err = s.finder.place(ctx, id)
	if place != nil {
		s.mu.Lock()
		s.reused[place.Pack.Name()] = true
		s.mu.Unlock()
	}
	return place, err
}

// findNode is find for tree nodes. One that is written anew because it was lost heals the points that need it.
func (s *Session) findNode(ctx context.Context, id chunk.ID) (*chunk.Place, error) {
	place, err := s.find(ctx, id)
	if place != nil || err != nil {
		return place, err
	}
	if was, err := s.finder.wasStored(ctx, id); err != nil {
		return nil, err
	} else if was {
		s.healed.Store(true)
	}
	return nil, nil //nolint:nilnil // nowhere, as find says it
}

// remember notes the places of chunks that are new in this session.
func (s *Session) remember(ids []chunk.ID, places []chunk.Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, id := range ids {
		s.pending[id] = &places[i]
	}
}

// register notes the place that a new node is going to have, and returns the one that it has already, if any.
func (s *Session) register(id chunk.ID, place *chunk.Place) *chunk.Place {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, ok := s.pending[id]; ok {
		return other
	}
	s.pending[id] = place
	return nil
}

// packStored is called for each stored pack.
func (s *Session) packStored(name string, items []pack.Item) error {
	where, err := index.PackOf(name)
	if err != nil {
		return err
	}
	entries := make([]index.Entry, len(items))
	for i, item := range items {
		entries[i] = index.Entry{ID: item.ID, Pack: where, Offset: item.Offset, Stored: item.Stored, Slot: item.Slot}
	}
	s.mu.Lock()
	s.packs = append(s.packs, name)
	s.mu.Unlock()
	return s.fresh.Add(s.ctx, entries)
}

// forget drops what has come to lie in runs of the session.
func (s *Session) forget(entries []index.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range entries {
		delete(s.pending, entries[i].ID)
	}
}

// Published is what Publish made.
type Published struct {
	ID          holdfast.PointID
	StoredBytes int64 // added to the store by the session, up to and including publication
	// LockedUntil is the date before which nothing that the point needs can be removed; zero when no locks were asked for.
	LockedUntil  time.Time
	LocksRenewed int // locks of reused objects that were moved for it, a request each
}

// Publish stores what is still open and makes the point visible. It fills in Format, ID, Session and Tool, and the Top of
// each disk that WriteDisk wrote under its LUN. resources, kept as JSON in the log, is the journal of what is to be put in order outside
// the repository before Settle; nil for none. When Publish returns nil the point is durable. When another run abandoned
// this session, or a collection took what it builds on and what no restore point needed, the error is KindConflict. After another error Publish may be called
// again, as long as nothing failed that was written before.
func (s *Session) Publish(ctx context.Context, point holdfast.Point, resources any) (Published, error) {
	stop := context.AfterFunc(ctx, func() { s.fail(context.Cause(ctx)) })
	err := s.flush()
	stop()
	if err != nil {
		return Published{}, err
	}
	point.Format, point.Session, point.Tool = layout.FormatVersion, s.id, s.r.tool
	point.ID = holdfast.NewPointID(point.Time, [4]byte(keys.Random(4)))
	if err := s.placeTops(&point); err != nil {
		return Published{}, err
	}
	for range publishTriesMax {
		published, err := s.publishOnce(ctx, point, resources)
		if !errors.Is(err, errCondemned) {
			return published, s.unlessOver(ctx, err)
		}
		if err := s.mend(ctx); err != nil {
			return Published{}, err
		}
	}
	return Published{}, holdfast.Errorf(holdfast.KindConflict, "collections condemned what this backup builds on again and again").WithHint("run the backup again")
}

// unlessOver returns err, or, when something is missing because the session was given up and its leftovers are gone, that.
func (s *Session) unlessOver(ctx context.Context, err error) error {
	if !isDamage(err) {
		return err
	}
	state, syncErr := s.r.oplog.Sync(ctx)
	if syncErr != nil {
		return err
	}
	if over := state.Allowed(oplog.Entry{Kind: oplog.Abandon, Session: &s.id}); over != nil {
		return over
	}
	return err
}

// publishOnce writes everything that publication needs in its order, and publishes. errCondemned: some of it names what was
// condemned meanwhile.
func (s *Session) publishOnce(ctx context.Context, point holdfast.Point, resources any) (Published, error) {
	list, err := s.writePackList(ctx, point.ID)
	if err != nil {
		return Published{}, err
	}
	merged, err := s.fresh.Finish(ctx, s.finder.live)
	if err != nil {
		return Published{}, err
	}
	runs := changeOf(merged)
	manifest, err := s.r.writeManifest(ctx, s.id, point)
	if err != nil {
		return Published{}, err
	}
	summary, err := s.summarise(point, resources)
	if err != nil {
		return Published{}, err
	}
	needs := oplog.PointState{Manifest: manifest, List: list}
	if err := s.kept.keep(ctx, s.r.oplog.State(), needs, runs.dropped); err != nil {
		return Published{}, err
	}
	_, err = s.r.oplog.Append(ctx, func(state oplog.State) (oplog.Entry, error) {
		if err := s.checkCondemned(ctx, state, append([]string{manifest}, runs.added...)); err != nil {
			return oplog.Entry{}, err
		}
		if err := s.checkDamage(ctx, state); err != nil {
			return oplog.Entry{}, err
		}
		if err := s.kept.keep(ctx, state, needs, runs.dropped); err != nil { // what others appended meanwhile
			return oplog.Entry{}, err
		}
		return runs.in(oplog.Entry{
			Kind: oplog.Publish, Session: &s.id, Point: point.ID, Manifest: manifest, List: list, Private: summary, LockUntil: s.kept.For(layout.EntryName(0)),
		}), nil
	})
	if err != nil {
		return Published{}, err
	}
	s.ended = true
	s.cancel(nil)
	published := Published{ID: point.ID, StoredBytes: s.r.BytesAdded() - s.begun}
	s.r.checkpoint(ctx)
	published.LockedUntil, published.LocksRenewed = s.kept.Result()
	s.r.tend(ctx, s.fresh.Count())
	if s.healed.Load() {
		s.r.noteHealed(ctx)
	}
	return published, nil
}

// flush stores all packs: first the data, whose names the nodes need.
func (s *Session) flush() error {
	if err := context.Cause(s.ctx); err != nil {
		return err
	}
	if err := s.chunks.Flush(); err != nil {
		return context.Cause(s.ctx)
	}
	if err := s.nodes.Flush(); err != nil {
		return context.Cause(s.ctx)
	}
	return nil
}

// checkpoint writes a checkpoint if one is due.
func (r *Repository) checkpoint(ctx context.Context) {
	if err := r.oplog.Checkpoint(ctx); err != nil {
		// best effort: without it, opening reads more entries.
		r.log.WarnContext(ctx, "checkpoint not written", "error", err)
	}
}

// writePackList stores the list of the packs that the point needs.
func (s *Session) writePackList(ctx context.Context, point holdfast.PointID) (string, error) {
	var parents []string
	for _, p := range s.parents {
		parents = append(parents, p.List)
	}
	s.mu.Lock()
	packs := slices.AppendSeq(slices.Clone(s.packs), maps.Keys(s.reused))
	s.mu.Unlock()
	list := packlist.List{Repository: s.r.id, Session: s.id, Point: point, Packs: packs}
	gone, err := goneIn(ctx, s.r.store, s.r.oplog.State())
	if err != nil && !isDamage(err) { // else: a list may name too many
		return "", err
	}
	writer := s.r.listWriter(gone)
	store := writer.Put
	writer.Put = func(ctx context.Context, data []byte) (string, error) {
		name, err := store(ctx, data)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lists = append(s.lists, name)
		return name, err
	}
	return writer.Write(ctx, list, parents)
}

// checkCondemned makes sure that nothing which the point builds on, or is made of, has been condemned since the session began: made are
// the objects of the publication. The state still names what was condemned and swept meanwhile. Collections spare what an open session
// wrote; they are told whose an object is by its own bytes, and somebody may have put others in their place.
func (s *Session) checkCondemned(ctx context.Context, state oplog.State, made []string) error {
	condemned, err := s.r.runs.condemnedPacks(ctx, state)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range slices.Concat(made, s.lists, s.packs) {
		if condemned[name] {
			return holdfast.Errorf(holdfast.KindConflict, "a collection took %s, which this backup wrote", name).
				WithHint("run the backup again; if it happens again, somebody who may write to the storage works against you")
		}
	}
	for name := range condemned {
		if s.reused[name] && !s.finder.condemned[name] {
			return fmt.Errorf("%s: %w", name, errCondemned)
		}
	}
	return nil
}

// Close ends a session that did not publish: it waits for everything the session does and appends that it is abandoned. After
// a successful Publish it does nothing. It works with a cancelled ctx.
func (s *Session) Close(ctx context.Context, reason string) error {
	if s.ended {
		return nil
	}
	s.ended = true
	s.cancel(holdfast.Errorf(holdfast.KindCanceled, "the session was closed: %s", reason))
	s.chunks.Wait()
	s.nodes.Stop()
	err := s.r.Abandon(context.WithoutCancel(ctx), s.id, reason)
	s.r.noteFailedReads(context.WithoutCancel(ctx))
	if holdfast.IsKind(err, holdfast.KindConflict) || s.r.access.Fenced() {
		return nil // somebody else abandoned it, it was published after all, or it lost the repository and cannot publish: the log knows
	}
	return err
}

// Abandon makes sure that a session can never publish. A session that is not open is KindConflict.
func (r *Repository) Abandon(ctx context.Context, id holdfast.SessionID, reason string) error {
	plain, err := json.Marshal(abandonment{Reason: reason[:min(len(reason), reasonBytesMax)]})
	if err != nil {
		return err
	}
	_, err = r.oplog.Append(ctx, func(oplog.State) (oplog.Entry, error) {
		return oplog.Entry{Kind: oplog.Abandon, Session: &id, Private: plain}, nil
	})
	return err
}

// abandonment is the sealed part of an abandon entry: a reason may name machines, so it is not for everybody's eyes.
type abandonment struct {
	Reason string `json:"reason"`
}

// reasonBytesMax bounds a reason: entries have a greatest size.
const reasonBytesMax = 4 << 10

// Settle records that everything outside the repository that a published or abandoned session left is in order. A session
// that is settled already is no error.
func (r *Repository) Settle(ctx context.Context, id holdfast.SessionID) error {
	_, err := r.oplog.Append(ctx, func(s oplog.State) (oplog.Entry, error) {
		if s.Session(id) == nil {
			return oplog.Entry{}, errSettled
		}
		return oplog.Entry{Kind: oplog.Settle, Session: &id}, nil
	})
	if errors.Is(err, errSettled) {
		return nil
	}
	if err == nil {
		r.checkpoint(ctx)
	}
	return err
}

var errSettled = errors.New("the session is settled already")

// UnsettledSession is a session of a VM whose leftovers outside the repository may still need to be put in order.
type UnsettledSession struct {
	ID               holdfast.SessionID
	Status           oplog.SessionStatus
	Point            holdfast.PointID // of a published session
	Resources        json.RawMessage  // what Begin recorded
	PublishResources json.RawMessage  // what Publish recorded
}

// The states of an unsettled session.
const (
	SessionOpen      = oplog.SessionOpen
	SessionPublished = oplog.SessionPublished
	SessionAbandoned = oplog.SessionAbandoned
)

// Unsettled returns the sessions of a VM that are not settled, oldest first, from the state read last.
func (r *Repository) Unsettled(vm holdfast.ResourceID) ([]UnsettledSession, error) {
	state, subject := r.oplog.State(), r.hasher.Subject(vm)
	var sessions []UnsettledSession
	for _, s := range state.Sessions {
		if s.Subject != subject {
			continue
		}
		u := UnsettledSession{ID: s.ID, Status: s.Status, Point: s.Point}
		if s.Resources.Sealed != nil {
			plain, err := r.ring.OpenEntryPart(s.Resources.Generation, s.Resources.Sealed, oplog.SealContext(oplog.Begin, s.ID.String()))
			if err != nil {
				return nil, err
			}
			u.Resources = plain
		}
		if s.Published.Sealed != nil {
			summary, err := r.openSummary(s.Point, s.Published)
			if err != nil {
				return nil, err
			}
			u.PublishResources = summary.Resources
		}
		sessions = append(sessions, u)
	}
	return sessions, nil
}
