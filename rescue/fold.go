package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// state is what the log says after its last entry (§6.4), as far as a reader needs it.
type state struct {
	parameters parameters
	slots      []string // current
	ring       string   // current
	least      uint32   // generation: entries of older ones do not count any more
	owner      string
	epoch      uint64
	sessions   map[string]*session
	points     []*point // visible, in order of publication
	runs       []liveRun

	known    bool     // entry 0, or a checkpoint, was read
	unsure   bool     // an entry was lost: the rules cannot be judged until a checkpoint tells
	problems []string // what is wrong with the log
}

type session struct {
	status  string // open, published or abandoned
	epoch   uint64
	parents []string
}

// point is a visible restore point.
type point struct {
	id, manifest, list string
	summary            sealedPart
}

// checkpointFile is a folded state (§6.5).
type checkpointFile struct {
	Holdfast   string     `json:"holdfast"`
	Format     int        `json:"format"`
	Repository string     `json:"repository"`
	Next       uint64     `json:"next"`
	Parameters parameters `json:"parameters"`
	Slots      []string   `json:"slots"`
	KeyRing    string     `json:"keyRing"`
	Least      uint32     `json:"leastGeneration"`
	Owner      string     `json:"owner"`
	Epoch      uint64     `json:"epoch"`
	Sessions   []struct {
		ID      string   `json:"id"`
		Parents []string `json:"parents"`
		Epoch   uint64   `json:"epoch"`
		Status  string   `json:"status"`
	} `json:"sessions"`
	Points []struct {
		ID       string     `json:"id"`
		Manifest string     `json:"manifest"`
		List     string     `json:"list"`
		Summary  sealedPart `json:"summary"`
	} `json:"points"`
	Runs  []string `json:"runs"`
	About []struct {
		Prefix string `json:"prefix"`
	} `json:"about"`
}

// fold reads the whole log, from entry 0: a person who rescues has time, and the oldest road is the shortest to explain.
// Checkpoints are read only where entries before them were lost. Its error says that there is nothing to go on.
func fold(f folders, k *keys) (*state, error) {
	numbers, err := f.logNumbers()
	if err != nil {
		return nil, err
	}
	s := &state{sessions: make(map[string]*session)}
	var previous *entry
	next := uint64(0)
	for _, n := range numbers {
		if n != next {
			s.lose(fmt.Sprintf("log entries %d to %d are missing", next, n-1))
			previous = nil
		}
		e, err := f.logEntry(n, func(e *entry) error { return e.authentic(k, n) })
		if err == nil && !follows(e, previous, n) {
			err = damaged("%s does not follow the entry before it", entryName(n))
		}
		switch {
		case isNewer(err): // a newer version
			return nil, err
		case isKind(err, kindWrongKey): // by a generation that this key does not open: it says nothing about the others
			s.problems = append(s.problems, err.Error())
			previous = nil
		case err != nil:
			s.lose(err.Error())
			previous = nil
		default:
			s.take(f, k, e)
			previous = e
		}
		next = n + 1
	}
	if !s.known {
		return nil, damaged("neither entry 0 of the log nor a checkpoint can be read, so the repository's parameters are not known")
	}
	return s, s.parameters.check()
}

// follows reports whether an entry names the one before it. Where that one is lost nobody can say.
func follows(e, previous *entry, n uint64) bool {
	if n == 0 {
		return strings.Trim(e.Previous, "0") == "" && len(e.Previous) == 64
	}
	return previous == nil || e.Previous == hex.EncodeToString(previous.hash[:])
}

// lose notes that an entry is gone.
func (s *state) lose(problem string) {
	s.problems = append(s.problems, problem)
	s.unsure = true
}

// take applies an authentic entry, or notes that the state before it does not allow it. The rules that look into objects
// (nothing condemned is needed, a key object exists) are left to the writers: this reader proves every byte by its id, so a
// point that leads to what is gone cannot mislead it.
func (s *state) take(f folders, k *keys, e *entry) {
	if e.Kind == "checkpoint" {
		if s.unsure {
			s.recover(f, k, e)
		}
		return
	}
	if problem := s.objection(e); problem != "" && (!s.unsure || e.Generation < s.least) {
		s.problems = append(s.problems, fmt.Sprintf("%s is not allowed where it stands: %s", entryName(e.N), problem))
		return
	}
	s.apply(e)
}

// objection says why the state does not allow an entry, or nothing.
func (s *state) objection(e *entry) string {
	if e.Generation < s.least {
		return "its generation was revoked" // whoever holds the old key may have written it
	}
	open := s.sessions[e.Session]
	switch e.Kind {
	case "genesis":
		return unless(e.N == 0, "the repository was born before")
	case "owner":
		return unless(e.Epoch == s.epoch+1, "its epoch is not the next one")
	case "begin":
		if s.owner != "" && (e.Owner != s.owner || e.Epoch != s.epoch) {
			return "another installation owns the repository"
		}
		return unless(open == nil && s.visible(e.Parents...), "its session exists, or its parents are not visible")
	case "publish":
		return unless(open != nil && open.status == "open" && open.epoch == s.epoch && s.find(e.Point) < 0, "its session cannot publish it")
	case "abandon":
		return unless(open != nil && open.status == "open", "its session is not open")
	case "index", "proof":
		return unless(e.Session == "" || open != nil && open.status == "open", "its session is not open")
	case "settle":
		return unless(open != nil && open.status != "open", "its session is neither published nor abandoned")
	case "remove":
		return unless(s.visible(e.Points...) && !s.pinned(e.Points), "its points are not visible, or an open session needs them")
	case "annotate":
		return unless(s.visible(e.Point), "its point is not visible")
	default: // keys, condemn, swept: what they ask for lies in objects
		return ""
	}
}

func unless(allowed bool, problem string) string {
	if allowed {
		return ""
	}
	return problem
}

// apply changes what the meaning of an entry's kind says. After a loss it takes an entry at its word as far as it makes sense.
func (s *state) apply(e *entry) {
	switch e.Kind {
	case "genesis":
		s.parameters, s.known = e.parameters, true
		s.slots, s.ring = e.Slots, e.KeyRing
	case "keys":
		s.slots, s.ring, s.least = e.Slots, e.KeyRing, max(s.least, e.Least)
	case "owner":
		s.owner, s.epoch = e.Owner, e.Epoch
	case "begin":
		s.sessions[e.Session] = &session{status: "open", epoch: s.epoch, parents: e.Parents}
	case "publish":
		s.points = slices.DeleteFunc(s.points, func(p *point) bool { return p.id == e.Point })
		s.points = append(s.points, &point{
			id: e.Point, manifest: e.Manifest, list: e.List, summary: sealedPart{Generation: e.Generation, Sealed: e.Sealed},
		})
		s.conclude(e.Session, "published")
		s.replaceRuns(e)
	case "abandon":
		s.conclude(e.Session, "abandoned")
	case "settle":
		delete(s.sessions, e.Session)
	case "remove":
		s.points = slices.DeleteFunc(s.points, func(p *point) bool { return slices.Contains(e.Points, p.id) })
	case "index", "proof":
		delete(s.sessions, e.Session)
		s.replaceRuns(e)
	}
}

func (s *state) conclude(id, status string) {
	if known := s.sessions[id]; known != nil {
		known.status = status
	}
}

func (s *state) replaceRuns(e *entry) {
	s.runs = slices.DeleteFunc(s.runs, func(run liveRun) bool {
		return slices.Contains(e.Dropped, run.name) || slices.Contains(e.Added, run.name) // added again, it takes what is said now
	})
	for i, name := range e.Added {
		run := liveRun{name: name}
		if len(e.About) == len(e.Added) {
			run.prefix = e.About[i].Prefix
		}
		s.runs = append(s.runs, run)
	}
}

// find returns the place of a visible point, or -1.
func (s *state) find(id string) int {
	return slices.IndexFunc(s.points, func(p *point) bool { return p.id == id })
}

// visible reports whether all these points are.
func (s *state) visible(ids ...string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return s.find(id) < 0 })
}

// pinned reports whether an open session has one of these points as a parent.
func (s *state) pinned(ids []string) bool {
	for _, open := range s.sessions {
		if open.status == "open" && slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(open.parents, id) }) {
			return true
		}
	}
	return false
}

// recover takes the state that a checkpoint holds, after entries before it were lost.
func (s *state) recover(f folders, k *keys, e *entry) {
	content, err := f.read(e.State, "state")
	if err != nil {
		s.problems = append(s.problems, err.Error())
		return
	}
	c, err := parseCheckpoint(content)
	if err == nil && (c.Repository != k.repositoryID() || c.Next != e.N) {
		err = damaged("it is the state before entry %d of the repository %s", c.Next, c.Repository)
	}
	if err != nil {
		s.problems = append(s.problems, fmt.Sprintf("%s: %v", e.State, err))
		return
	}
	s.parameters, s.owner, s.epoch = c.Parameters, c.Owner, c.Epoch
	s.slots, s.ring, s.least = c.Slots, c.KeyRing, c.Least
	s.known, s.unsure = true, false
	s.points, s.runs, s.sessions = nil, nil, make(map[string]*session)
	for i, name := range c.Runs {
		run := liveRun{name: name}
		if len(c.About) == len(c.Runs) {
			run.prefix = c.About[i].Prefix
		}
		s.runs = append(s.runs, run)
	}
	for _, p := range c.Points {
		s.points = append(s.points, &point{id: p.ID, manifest: p.Manifest, list: p.List, summary: p.Summary})
	}
	for _, one := range c.Sessions {
		s.sessions[one.ID] = &session{status: one.Status, epoch: one.Epoch, parents: one.Parents}
	}
}

// parseCheckpoint reads a checkpoint's JSON.
func parseCheckpoint(content []byte) (*checkpointFile, error) {
	var c checkpointFile
	if err := json.Unmarshal(content, &c); err != nil || c.Holdfast != "log state" {
		return nil, damaged("it is no checkpoint")
	}
	if c.Format != 1 {
		return nil, newer("a checkpoint has format %d", c.Format)
	}
	return &c, nil
}
