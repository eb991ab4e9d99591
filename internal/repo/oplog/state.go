package oplog

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/ledger"
)

// State is the log folded: what holds after entry Next − 1 (doc/format.md §6.4).
type State struct {
	Holdfast   string            `json:"holdfast"`
	Format     int               `json:"format"`
	Repository keys.RepositoryID `json:"repository"`
	Next       uint64            `json:"next"`
	Head       string            `json:"head"` // hash of entry Next − 1
	Checkpoint uint64            `json:"checkpoint"`
	Parameters layout.Parameters `json:"parameters"`
	Slots      []string          `json:"slots"`
	KeyRing    string            `json:"keyRing"`
	// LeastGeneration is the oldest generation that entries may still be written with; 0 and 1 allow all.
	LeastGeneration uint32    `json:"leastGeneration,omitempty"`
	Owner           string    `json:"owner,omitempty"`
	Epoch           uint64    `json:"epoch,omitempty"`
	OwnedSince      time.Time `json:"ownedSince,omitzero"` // as the take-over says; for people

	Sessions  []SessionState `json:"sessions"`        // not settled, in order of their begin entries
	Points    []PointState   `json:"points"`          // visible, in order of publication
	Runs      []string       `json:"runs"`            // live index runs
	About     []RunAbout     `json:"about,omitempty"` // of the Runs, in their order; nil when nothing is known of any of them
	Condemned []Condemnation `json:"condemned"`       // in order of their entries, until swept and forgotten
	Proven    ledger.Ledger  `json:"proven,omitempty"`
	Damage    string         `json:"damage,omitempty"` // the damage list in force

	LastCondemned uint64   `json:"lastCondemned,omitempty"` // number of the newest condemn entry, 0 for none
	Gone          []string `json:"gone,omitempty"`          // records of condemned packs that pack lists still name

	// incomplete says that an entry before Next could not be read, so that what later entries rest on may be unknown here.
	incomplete bool

	sharesPoints, sharesRuns bool // snapshots see the same arrays
}

// Condemnation is a list of objects that are going to be deleted, or were. A swept one stays in the state as long as a session
// is open that began before the condemnation: that session may have found chunks in what is gone now.
type Condemnation struct {
	List   string `json:"list"`
	Number uint64 `json:"number"` // of the condemn entry
	Swept  bool   `json:"swept,omitempty"`
}

// RunAbout says of an index run what spares opening it. The zero RunAbout says that nothing is known: such a run may hold any id
// and name any pack.
type RunAbout struct {
	Prefix  string `json:"prefix,omitempty"` // binary digits with which all its ids begin
	Entries int    `json:"entries,omitempty"`
	Bytes   int64  `json:"bytes,omitempty"` // of the object
	Clean   uint64 `json:"clean,omitempty"` // it names no pack that was condemned by an entry before that one
}

const stateLabel = "log state"

// SessionStatus says how far a session is.
type SessionStatus string

// The states of a session that is not settled.
const (
	SessionOpen      SessionStatus = "open"
	SessionPublished SessionStatus = "published"
	SessionAbandoned SessionStatus = "abandoned"
)

// SealedPart is the private part of an entry as it stands in the log.
type SealedPart struct {
	Generation uint32 `json:"generation"`
	Sealed     []byte `json:"sealed"`
}

// SessionState is a session that is not settled.
type SessionState struct {
	ID        holdfast.SessionID `json:"id"`
	Subject   string             `json:"subject"`
	Parents   []holdfast.PointID `json:"parents,omitempty"`
	Begun     uint64             `json:"begun"`           // number of the begin entry
	Epoch     uint64             `json:"epoch,omitempty"` // of ownership when it began
	Status    SessionStatus      `json:"status"`
	Point     holdfast.PointID   `json:"point,omitempty"`
	Resources SealedPart         `json:"resources"`
	Published SealedPart         `json:"published"`
}

// PointState is a visible restore point.
type PointState struct {
	ID          holdfast.PointID   `json:"id"`
	Session     holdfast.SessionID `json:"session"`
	Subject     string             `json:"subject"`
	Manifest    string             `json:"manifest"`
	List        string             `json:"list"`
	Published   uint64             `json:"published"` // number of the publish entry
	Summary     SealedPart         `json:"summary"`
	Annotations []SealedPart       `json:"annotations,omitempty"`
}

// Lists returns the condemnation lists of the state, swept ones included.
func (s *State) Lists() []string {
	var lists []string
	for _, c := range s.Condemned {
		lists = append(lists, c.List)
	}
	return lists
}

// Session returns the unsettled session of that id.
func (s *State) Session(id holdfast.SessionID) *SessionState {
	for i := range s.Sessions {
		if s.Sessions[i].ID == id {
			return &s.Sessions[i]
		}
	}
	return nil
}

// Point returns the visible point of that id.
func (s *State) Point(id holdfast.PointID) *PointState {
	for i := range s.Points {
		if s.Points[i].ID == id {
			return &s.Points[i]
		}
	}
	return nil
}

// Encode returns the checkpoint object's bytes: equal states encode equally.
func (s *State) Encode() ([]byte, error) {
	c := *s
	c.Holdfast, c.Format = stateLabel, layout.FormatVersion
	return json.Marshal(c)
}

// DecodeState reads a checkpoint object. Anything else is KindCorrupt.
func DecodeState(data []byte) (State, error) {
	var s State
	if err := json.Unmarshal(data, &s); err != nil || s.Holdfast != stateLabel || s.Format != layout.FormatVersion ||
		s.About != nil && len(s.About) != len(s.Runs) {
		return State{}, holdfast.Errorf(holdfast.KindCorrupt, "a checkpoint is not readable")
	}
	return s, nil
}

// snapshot returns a copy that later entries do not change. What may be long is not copied: the state appends to it beyond what the copy
// sees, and copies it itself before it changes it otherwise.
func (s *State) snapshot() State {
	s.sharesPoints, s.sharesRuns = true, true
	c := *s
	c.Points, c.Runs, c.About = slices.Clip(s.Points), slices.Clip(s.Runs), slices.Clip(s.About)
	c.Slots = slices.Clone(s.Slots)
	c.Sessions = slices.Clone(s.Sessions)
	c.Condemned = slices.Clone(s.Condemned)
	c.Gone = slices.Clone(s.Gone)
	return c
}

// ownPoints makes the points the state's own before they are changed in place.
func (s *State) ownPoints() {
	if s.sharesPoints {
		s.Points, s.sharesPoints = slices.Clone(s.Points), false
	}
}

// ownRuns is ownPoints for the index runs.
func (s *State) ownRuns() {
	if s.sharesRuns {
		s.Runs, s.About, s.sharesRuns = slices.Clone(s.Runs), slices.Clone(s.About), false
	}
}

// Allowed says whether an entry may follow, under the rules of doc/format.md §6.3. The error tells a person why not. After
// an entry that could not be read the rules cannot be judged: what follows was allowed when its writer appended it, so it
// only has to make sense.
func (s *State) Allowed(e Entry) error {
	if e.Generation < s.LeastGeneration {
		return holdfast.Errorf(holdfast.KindConflict, "the entry was written with generation %d of the key, which has been revoked", e.Generation).
			WithHint("run again: the repository is then opened with the new key")
	}
	if s.incomplete {
		return s.sensible(e)
	}
	switch e.Kind {
	case Genesis:
		return refuse(s.Next == 0, "a repository is born once")
	case Keys:
		return refuse(len(e.Slots) > 0 && e.KeyRing != "", "a key change names slots and a ring")
	case Owner:
		return refuse(e.Owner != "" && e.Epoch == s.Epoch+1, "the repository has been taken over at the same time (epoch %d)", s.Epoch)
	case Begin:
		return s.beginAllowed(e)
	case Publish:
		return s.publishAllowed(e)
	case Abandon:
		return s.sessionIs(e, SessionOpen)
	case Settle:
		return s.sessionIs(e, SessionPublished, SessionAbandoned)
	case Remove:
		return s.removeAllowed(e)
	case Annotate:
		return refuse(s.Point(e.Point) != nil, "there is no restore point %s", e.Point)
	case Condemn:
		return s.condemnAllowed(e)
	case Swept:
		return refuse(slices.ContainsFunc(s.Condemned, func(c Condemnation) bool { return c.List == e.List && !c.Swept }), "%s was not condemned", e.List)
	case Checkpoint:
		return refuse(e.State != "", "a checkpoint names its state")
	case Index:
		return s.indexAllowed(e)
	case Proofs:
		return s.proofAllowed(e)
	}
	return newer(e.N, e.Kind)
}

// sensible says whether an entry can be folded into a state that is incomplete.
func (s *State) sensible(e Entry) error {
	switch e.Kind {
	case Genesis:
		return refuse(s.Next == 0, "a repository is born once")
	case Begin, Abandon, Settle:
		return refuse(e.Session != nil, "the entry names no session")
	case Publish:
		return refuse(e.Session != nil && e.Point != "" && e.Manifest != "" && e.List != "", "the publication is not complete")
	case Proofs:
		return refuse(e.Proof.sensible(), "the proof is not complete")
	case Keys, Owner, Remove, Annotate, Index, Condemn, Swept, Checkpoint:
		return nil
	}
	return newer(e.N, e.Kind)
}

func (s *State) beginAllowed(e Entry) error {
	if e.Session == nil || s.Session(*e.Session) != nil {
		return holdfast.Errorf(holdfast.KindConflict, "the session exists already")
	}
	if s.Owner != "" && (e.Owner != s.Owner || e.Epoch != s.Epoch) {
		return s.ownedByAnother()
	}
	for _, parent := range e.Parents {
		if s.Point(parent) == nil {
			return holdfast.Errorf(holdfast.KindConflict, "the restore point %s, which this run builds on, has been removed", parent).WithHint("run again")
		}
	}
	return nil
}

// ownedByAnother tells a writer of another installation, or of none, that it may only read.
func (s *State) ownedByAnother() error {
	return holdfast.Errorf(holdfast.KindRefused, "the repository is owned by installation %s", s.Owner).
		WithHint("write through that installation, or take the repository over: holdfast repo owner take-over --owner ID --from %s", s.Owner)
}

func (s *State) publishAllowed(e Entry) error {
	if err := s.sessionIs(e, SessionOpen); err != nil {
		return err
	}
	if s.Session(*e.Session).Epoch != s.Epoch {
		return holdfast.Errorf(holdfast.KindRefused, "installation %s has taken the repository over since this run began", s.Owner).
			WithHint("back up through that installation, or take the repository over")
	}
	if err := aboutAdded(e); err != nil {
		return err
	}
	return refuse(s.Point(e.Point) == nil && e.Manifest != "" && e.List != "", "the restore point %s cannot be published twice", e.Point)
}

func (s *State) indexAllowed(e Entry) error {
	if err := aboutAdded(e); err != nil || e.Session == nil {
		return err
	}
	return s.sessionIs(e, SessionOpen)
}

func aboutAdded(e Entry) error {
	return refuse(len(e.About) == 0 || len(e.About) == len(e.Added), "the entry tells about %d of %d index runs", len(e.About), len(e.Added))
}

func (s *State) removeAllowed(e Entry) error {
	for _, id := range e.Points {
		if s.Point(id) == nil {
			return holdfast.Errorf(holdfast.KindNotFound, "there is no restore point %s", id).WithField("point")
		}
		for _, session := range s.Sessions {
			if session.Status == SessionOpen && slices.Contains(session.Parents, id) {
				return holdfast.Errorf(holdfast.KindConflict, "a running backup builds on restore point %s", id).WithHint("wait for it to end")
			}
		}
	}
	return nil
}

// condemnAllowed judges what the state tells. Whether a visible point or an open session needs what the list names is judged by
// the collector, who has read the list.
func (s *State) condemnAllowed(e Entry) error {
	if e.Session != nil {
		if err := s.sessionIs(e, SessionOpen); err != nil {
			return err
		}
	}
	return refuse(e.List != "", "a condemnation names its list")
}

func (s *State) sessionIs(e Entry, wanted ...SessionStatus) error {
	if e.Session == nil {
		return holdfast.Errorf(holdfast.KindConflict, "the entry names no session")
	}
	session := s.Session(*e.Session)
	if session == nil {
		return holdfast.Errorf(holdfast.KindConflict, "session %s is not open", e.Session)
	}
	if slices.Contains(wanted, session.Status) {
		return nil
	}
	if session.Status == SessionAbandoned {
		return holdfast.Errorf(holdfast.KindConflict, "another run has taken this one's place (session %s is abandoned)", e.Session).
			WithHint("look at the result of the newer run")
	}
	return holdfast.Errorf(holdfast.KindConflict, "session %s is %s", e.Session, session.Status)
}

func refuse(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return holdfast.Errorf(holdfast.KindConflict, format, args...)
}

// apply folds an entry that Allowed accepts into the state. hash is that of its stored bytes.
func (s *State) apply(e Entry, hash string) {
	switch e.Kind {
	case Genesis:
		s.Repository, s.Slots, s.KeyRing = e.Repository, e.Slots, e.KeyRing
		if e.Shape != nil {
			s.Parameters = *e.Shape
		}
	case Keys:
		s.Slots, s.KeyRing, s.LeastGeneration = e.Slots, e.KeyRing, max(s.LeastGeneration, e.LeastGeneration)
	case Owner:
		s.Owner, s.Epoch, s.OwnedSince = e.Owner, e.Epoch, e.Time
	case Begin:
		s.Sessions = append(s.Sessions, SessionState{
			ID: *e.Session, Subject: e.Subject, Parents: e.Parents, Begun: e.N, Epoch: s.Epoch, Status: SessionOpen, Resources: SealedPart{e.Generation, e.Sealed},
		})
	case Publish:
		s.publish(e)
	case Abandon:
		if session := s.Session(*e.Session); session != nil {
			session.Status = SessionAbandoned
		}
	case Settle:
		s.dropSession(*e.Session)
	case Remove:
		s.ownPoints()
		s.Points = slices.DeleteFunc(s.Points, func(x PointState) bool { return slices.Contains(e.Points, x.ID) })
	case Annotate:
		s.ownPoints()
		if point := s.Point(e.Point); point != nil {
			point.Annotations = append(slices.Clip(point.Annotations), SealedPart{e.Generation, e.Sealed})
		}
	case Index:
		s.changeRuns(e)
		if e.Session != nil {
			s.dropSession(*e.Session)
		}
	case Condemn:
		s.Condemned = append(s.Condemned, Condemnation{List: e.List, Number: e.N})
		s.LastCondemned, s.Gone = e.N, changed(s.Gone, e)
	case Swept:
		for i := range s.Condemned {
			s.Condemned[i].Swept = s.Condemned[i].Swept || s.Condemned[i].List == e.List
		}
	case Checkpoint:
		s.Checkpoint = e.N
	case Proofs:
		p := e.Proof
		s.Proven, s.Damage = s.Proven.With(p.Ranges, ledger.Proven{Level: p.Level, Time: p.Began, Seen: p.Seen}), p.Damage
		if e.Session != nil {
			s.dropSession(*e.Session)
		}
	}
	s.forgetSwept()
	s.skip(e.N, hash)
}

// skip moves past an entry that is not allowed and therefore changes nothing.
func (s *State) skip(n uint64, hash string) { s.Next, s.Head = n+1, hash }

// lose moves past an entry that cannot be read. The chain cannot be checked for the next one.
func (s *State) lose(n uint64) {
	s.skip(n, "")
	s.incomplete = true
}

func (s *State) proofAllowed(e Entry) error {
	if e.Session != nil {
		if err := s.sessionIs(e, SessionOpen); err != nil {
			return err
		}
	}
	return refuse(e.Proof.sensible() && e.Proof.Seen <= s.Next, "a proof names what was read, and no more than there is")
}

// sensible reports whether a proof can be folded.
func (p *Proof) sensible() bool { return p != nil && p.Level >= 1 && ledger.Sorted(p.Ranges) }

func (s *State) publish(e Entry) {
	point := PointState{
		ID: e.Point, Session: *e.Session, Manifest: e.Manifest, List: e.List, Published: e.N, Summary: SealedPart{e.Generation, e.Sealed},
	}
	if session := s.Session(*e.Session); session != nil {
		session.Status, session.Point, session.Published = SessionPublished, e.Point, point.Summary
		point.Subject = session.Subject
	}
	if s.Point(e.Point) == nil {
		s.Points = append(s.Points, point)
	}
	s.changeRuns(e)
}

// changeRuns drops and adds index runs. A run that is live already and is added again takes what the entry says about it.
func (s *State) changeRuns(e Entry) {
	if len(e.Added)+len(e.Dropped) == 0 {
		return
	}
	s.ownRuns()
	if s.About == nil && len(e.About) > 0 {
		s.About = make([]RunAbout, len(s.Runs))
	}
	at := make(map[string]int, len(s.Runs))
	s.keepRuns(e.Dropped)
	for i, run := range s.Runs {
		at[run] = i
	}
	for i, run := range e.Added {
		place, live := at[run]
		if !live {
			place, at[run] = len(s.Runs), len(s.Runs)
			s.Runs = append(s.Runs, run)
			if s.About != nil {
				s.About = append(s.About, RunAbout{})
			}
		}
		if i < len(e.About) {
			s.About[place] = e.About[i]
		}
	}
	if !slices.ContainsFunc(s.About, func(a RunAbout) bool { return a != RunAbout{} }) {
		s.About = nil
	}
}

// keepRuns drops the named runs.
func (s *State) keepRuns(dropped []string) {
	gone := make(map[string]bool, len(dropped))
	for _, run := range dropped {
		gone[run] = true
	}
	kept := 0
	for i, run := range s.Runs {
		if gone[run] {
			continue
		}
		s.Runs[kept] = run
		if s.About != nil {
			s.About[kept] = s.About[i]
		}
		kept++
	}
	s.Runs = s.Runs[:kept]
	if s.About != nil {
		s.About = s.About[:kept]
	}
}

// AboutRun returns what is known of live run i.
func (s *State) AboutRun(i int) RunAbout {
	if s.About == nil {
		return RunAbout{}
	}
	return s.About[i]
}

// changed returns names less those that an entry drops, and those that it adds.
func changed(names []string, e Entry) []string {
	names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(e.Dropped, name) })
	for _, name := range e.Added {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (s *State) dropSession(id holdfast.SessionID) {
	s.Sessions = slices.DeleteFunc(s.Sessions, func(x SessionState) bool { return x.ID == id })
}

// forgetSwept drops swept condemnations that no open session can have missed and that no live index run can lead to.
func (s *State) forgetSwept() {
	if len(s.Condemned) == 0 {
		return
	}
	oldest := s.Next
	for _, session := range s.Sessions {
		if session.Status == SessionOpen {
			oldest = min(oldest, session.Begun)
		}
	}
	for i := range s.Runs {
		oldest = min(oldest, max(s.AboutRun(i).Clean, 1)-1)
	}
	s.Condemned = slices.DeleteFunc(s.Condemned, func(c Condemnation) bool { return c.Swept && oldest >= c.Number })
}

// SortedPoints returns the visible points by id, which is by time.
func (s *State) SortedPoints() []PointState {
	points := slices.Clone(s.Points)
	slices.SortFunc(points, func(a, b PointState) int {
		return cmp.Or(strings.Compare(string(a.ID), string(b.ID)), cmp.Compare(a.Published, b.Published))
	})
	return points
}
