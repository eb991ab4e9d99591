// Package verify checks a repository for damage: the log from its first entry, every object in the folder and every object that
// should be there, and with a key the content of every restore point (doc/format.md §1, §6.6). Without a key it finds every
// flipped, missing or added bit as well, and names objects and points; with one it names machines too.
//
// It promises that damage is in the report and that an error means that it could not look. It must never change the store,
// and never call something damaged because a listing was late.
package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/ledger"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// Level is how deep a verification goes; the proof levels of a restore point.
type Level int

// The levels that need nothing but the store.
const (
	Stored   Level = 1 // stored bytes re-hashed, the log folded anew; needs no key
	Complete Level = 2 // everything decrypted, every chunk of every point present and authentic; needs a key
)

// Options tell what to check.
type Options struct {
	Level    Level
	Key      *Key                           // what an open repository lends; nil verifies without a key
	Progress func(objects int, bytes int64) // optional; called from several goroutines with what was checked since the last call
	// Choose, optional, makes the check a share: it picks the ranges that are read, from the audited state and what a listing shows. The
	// log is read whole, and all objects are looked for.
	Choose func(state oplog.State, stored *ledger.Inventory) []ledger.Range
	Only   func(name string) bool // optional: no other objects are read; what a share is for tests
}

// Key is what an open repository lends for checks that need its key.
type Key struct {
	Ring       *keys.Ring
	Codec      *seal.Codec
	Hasher     *chunk.Hasher
	Repository keys.RepositoryID
	Parameters layout.Parameters
	Nodes      tree.Source
	// Manifest reads the manifest of that name.
	Manifest func(ctx context.Context, name string) (holdfast.Point, error)
	// Top tells where the map of a disk begins.
	Top func(disk holdfast.PointDisk) (tree.Child, error)
	// Machine tells the VM of a point from its place in the log.
	Machine func(point oplog.PointState) (holdfast.ResourceID, error)
	// Places returns all places of an id that the index knows, condemned and damaged ones too.
	Places func(ctx context.Context, id chunk.ID) ([]*chunk.Place, error)
	// Runs checks the live index runs of a state and reports those that are damaged.
	Runs func(ctx context.Context, state oplog.State, report func(name string, err error)) error
}

// Report is what a verification found.
type Report struct {
	OK      bool                  `json:"ok"`
	Level   Level                 `json:"level"`
	Objects []ObjectProblem       `json:"objects"` // damaged, missing and foreign ones
	Points  []holdfast.PointID    `json:"points"`  // hit by damage
	VMs     []holdfast.ResourceID `json:"vms"`     // hit by damage; only with a key
	Checked int                   `json:"checkedObjects"`
	Bytes   int64                 `json:"checkedBytes"`
	Orphans int                   `json:"orphanObjects"` // sound leftovers of runs that died or still work: no damage
	// Shadowed are objects that somebody overwrote or deleted and that an older version answers: no damage, but somebody was there.
	Shadowed []string `json:"shadowedObjects"`
	Healed   []string `json:"healed"` // damaged or missing objects of which all that was needed has been written again: no damage

	// What a proof says (doc/format.md §6.6).
	Ranges   []ledger.Range  `json:"-"` // that were read whole
	Began    time.Time       `json:"-"` // set by the caller
	Seen     uint64          `json:"-"` // number of the first log entry that was not looked at
	Requests int64           `json:"-"` // made to the store
	Damage   packlist.Damage `json:"-"` // what is known to be damaged after this check
	State    *oplog.State    `json:"-"` // the log, folded from its first entry
}

// ObjectProblem names an object and what is wrong with it.
type ObjectProblem struct {
	Name    string `json:"name"`
	Problem string `json:"problem"`
	Foreign bool   `json:"-"` // it does not belong to the repository: a stranger's object, or a stranger's log entry
}

// Run checks a repository. It returns an error only when it could not check; damage is in the report.
func Run(ctx context.Context, store blob.Store, o Options) (Report, error) {
	v := newVerifier(&counting{Store: store}, o)
	audited, err := v.auditLog(ctx)
	if err != nil {
		return Report{}, err
	}
	for range roundsMax - 1 {
		report, err := v.check(ctx, audited)
		if err != nil || report.OK {
			return report, err
		}
		if audited, err = v.auditLog(ctx); err != nil || audited.State.Next == v.state.Next {
			return report, err
		}
		v = v.again()
	}
	return v.check(ctx, audited)
}

// Audit does the first step of Run.
func Audit(ctx context.Context, store blob.Store, o Options) (oplog.Audited, error) {
	return newVerifier(&counting{Store: store}, o).auditLog(ctx)
}

// RunAfter does once what follows Audit.
func RunAfter(ctx context.Context, store blob.Store, o Options, audited oplog.Audited) (Report, error) {
	return newVerifier(&counting{Store: store}, o).check(ctx, audited)
}

// roundsMax bounds how often a repository that somebody works on is looked at again: what was missed may have been removed
// or collected since the log was read, and then it is no damage.
const roundsMax = 3

// again returns a verifier that need not hash again what v found sound.
func (v *verifier) again() *verifier {
	next := newVerifier(v.store, v.o)
	next.checked, next.bytes, next.seen, next.chosenBefore = v.checked, v.bytes, v.seen, v.chosenBefore
	next.sound = func(name string) bool {
		return v.present[name] && !v.isProblem(name) || v.sound != nil && v.sound(name)
	}
	return next
}

// check is what follows the audit of the log.
func (v *verifier) check(ctx context.Context, audited oplog.Audited) (Report, error) {
	if err := v.noteLog(ctx, audited); err != nil {
		return Report{}, err
	}
	if err := v.checkObjects(ctx); err != nil {
		return Report{}, err
	}
	if err := v.checkPoints(ctx); err != nil {
		return Report{}, err
	}
	if err := v.checkLosses(ctx); err != nil {
		return Report{}, err
	}
	if v.o.Level == Complete {
		if err := v.checkContent(ctx); err != nil {
			return Report{}, err
		}
	}
	if err := v.assess(ctx); err != nil {
		return Report{}, err
	}
	return v.report(ctx)
}

type verifier struct {
	store *counting
	o     Options
	state oplog.State
	known map[string]bool // objects that the log leads to, filled in as they are found

	listLost     bool                      // a pack list, or a record of gone packs, could not be read
	chosenBefore []ledger.Range            // by an earlier round of a share
	ranges       []ledger.Range            // to be read
	chosen       func(name string) bool    // tells which objects are to be read
	damage       packlist.Damage           // in force
	after        packlist.Damage           // known after this check
	byList       map[holdfast.PointID]bool // points whose lists name damaged packs
	avoid        map[string]bool           // condemned objects
	gone         packlist.Gone             // what became of packs that lists name
	seen         uint64                    // number of the first entry that the first round did not look at, 0 before it
	sound        func(name string) bool    // tells of objects that were found sound before and have not changed; nil for none

	packMemory sync.Pool // of *packMemory

	mu       sync.Mutex // guards the fields below
	problems map[string]string
	foreign  map[string]bool // problems of what does not belong to the repository
	healed   map[string]bool // problems that hurt nobody any more
	hit      map[holdfast.PointID]bool
	present  map[string]bool
	checked  int
	bytes    int64
}

// checkpointsKept is how many of the newest checkpoints must be there: those before them may have been collected.
const checkpointsKept = 2

func newVerifier(store *counting, o Options) *verifier {
	return &verifier{
		store: store, o: o, problems: map[string]string{}, foreign: map[string]bool{}, healed: map[string]bool{}, hit: map[holdfast.PointID]bool{},
		chosen: func(string) bool { return true }, byList: map[holdfast.PointID]bool{}, avoid: map[string]bool{},
		packMemory: sync.Pool{New: func() any { return &packMemory{} }},
	}
}

func (v *verifier) problem(name, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, spare := v.damage.Spare[name]; spare {
		v.healed[name] = true
		return
	}
	if _, ok := v.problems[name]; !ok {
		v.problems[name] = fmt.Sprintf(format, args...)
	}
}

// strange notes that an object with a problem is none of ours.
func (v *verifier) strange(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.foreign[name] = true
}

func (v *verifier) hits(points ...holdfast.PointID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range points {
		v.hit[id] = true
	}
}

// auditLog folds the log from its first entry.
func (v *verifier) auditLog(ctx context.Context) (oplog.Audited, error) {
	newest, err := v.newestListed(ctx)
	if err != nil {
		return oplog.Audited{}, err
	}
	var ring *keys.Ring
	if v.o.Key != nil {
		ring = v.o.Key.Ring
	}
	return oplog.Audit(ctx, v.store, ring, newest)
}

// noteLog takes over what is wrong with the log and what it leads to.
func (v *verifier) noteLog(ctx context.Context, audited oplog.Audited) error {
	if v.seen == 0 {
		v.seen = audited.State.Next
	}
	v.state, v.known = audited.State, map[string]bool{}
	for _, p := range audited.Problems {
		v.problem(p.Object, "%s", p.Text)
	}
	for n := range v.state.Next {
		v.known[layout.EntryName(n)] = true
	}
	for i, name := range audited.Checkpoints {
		if i+checkpointsKept >= len(audited.Checkpoints) {
			v.known[name] = true
		}
	}
	for _, name := range slices.Concat(v.state.Slots, []string{v.state.KeyRing, v.state.Damage}, v.state.Runs, v.state.Lists(), v.state.Gone) {
		if name != "" {
			v.known[name] = true
		}
	}
	damage, err := v.lists().Damage(ctx, v.state.Damage)
	if stored.IsDamage(err) {
		v.problem(v.state.Damage, "%v", err) // what it said is found out again
		return nil
	}
	v.damage = damage
	return err
}

// lists reads the lists of the store.
func (v *verifier) lists() packlist.Source {
	return func(ctx context.Context, name string) ([]byte, error) {
		return stored.Read(ctx, v.store, name, layout.ListBytesMax)
	}
}

// listedGapMax is how many entries may be missing in a row before a listed one that lies beyond them is taken for a stray object.
const listedGapMax = 1024

// newestListed returns the number of the newest log entry that a listing shows and that may belong to the log. It only makes
// the audit look further: without it, entries that were lost at the log's end, but for one, would pass unseen. What lies far out and
// does not prove itself is no entry: anybody may put anything there.
func (v *verifier) newestListed(ctx context.Context) (uint64, error) {
	var listed []uint64
	newest := uint64(0)
	for info, err := range v.store.List(ctx, layout.LogPrefix) {
		if err != nil {
			return 0, err
		}
		if n, err := layout.ParseEntryName(info.Name); err == nil && n > newest && n-newest <= listedGapMax {
			newest = n
			listed = append(listed, n)
		}
	}
	for _, n := range slices.Backward(listed) {
		ours, err := v.isOurs(ctx, n)
		if err != nil || ours {
			return n, err
		}
	}
	return 0, nil
}

// isOurs reports whether an entry proves itself, with the key where there is one.
func (v *verifier) isOurs(ctx context.Context, n uint64) (bool, error) {
	data, err := blob.ReadAll(ctx, v.store, layout.EntryName(n), layout.EntryBytesMax)
	if err != nil {
		return false, stored.IgnoreDamage(err)
	}
	strange := v.o.Key != nil && oplog.IsStrange(v.o.Key.Ring, data, n)
	return !strange && oplog.ProvesItself(data, n) == nil, nil
}

// readBytes are read at once: a request has its price.
const readBytes = 4 << 20

// Requests returns how many reads an object of that size takes.
func Requests(size int64) int64 { return size/readBytes + 1 }

// checkObjects hashes the objects that a listing shows.
func (v *verifier) checkObjects(ctx context.Context) error {
	v.present = map[string]bool{}
	var listed []blob.Info
	for info, err := range v.store.List(ctx, "") {
		if err != nil {
			return err
		}
		v.present[info.Name] = true
		listed = append(listed, info)
	}
	v.choose(listed)
	g, gctx := errgroup.WithContext(ctx)
	readers := max(4, 2*runtime.GOMAXPROCS(0))
	g.SetLimit(readers)
	buffers := make(chan []byte, readers) // each is as large as its reader needed so far
	for range readers {
		buffers <- nil
	}
	for _, info := range listed {
		if v.sound != nil && v.sound(info.Name) || !v.isChosen(info.Name) {
			continue
		}
		g.Go(func() error {
			buffer := <-buffers
			defer func() { buffers <- buffer }()
			if need := min(info.Size+1, readBytes); int64(len(buffer)) < need { // one more byte tells that the object has ended
				buffer = make([]byte, need)
			}
			return v.checkObject(gctx, info.Name, buffer)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	v.recallDamage()
	return nil
}

// choose decides what is read.
func (v *verifier) choose(listed []blob.Info) {
	v.ranges = ledger.Whole()
	switch {
	case v.o.Only != nil:
		v.ranges, v.chosen = nil, v.o.Only
	case v.o.Choose != nil:
		if v.chosenBefore == nil { // a second round reads what the first one chose
			v.chosenBefore = v.o.Choose(v.state, inventory(listed))
		}
		v.ranges = v.chosenBefore
		v.chosen = func(name string) bool {
			kind, hash := layout.Parse(name)
			if kind == layout.LogEntry {
				return !v.known[name] // the audit has read the others
			}
			return ledger.Has(v.ranges, ledger.CellOf(hash))
		}
	}
}

// inventory sums up what a listing shows.
func inventory(listed []blob.Info) *ledger.Inventory {
	var stored ledger.Inventory
	for _, info := range listed {
		kind, hash := layout.Parse(info.Name)
		if kind != layout.LogEntry && kind != layout.Foreign {
			stored[ledger.CellOf(hash)].Add(ledger.Load{Objects: 1, Bytes: info.Size, Requests: Requests(info.Size)})
		}
	}
	return &stored
}

// recallDamage repeats what is known of objects that lie there and were not read now. Those that do not are missed by who needs them; else
// they have gone, which is the end of their damage.
func (v *verifier) recallDamage() {
	for name := range v.damage.Names() {
		if v.present[name] {
			v.recall(name)
		}
	}
}

func (v *verifier) recall(name string) {
	if v.damage.Knows(name) && !v.isChosen(name) {
		v.problem(name, "an earlier check found it damaged")
	}
}

// isChosen reports whether an object is to be read. A foreign one is told by its name.
func (v *verifier) isChosen(name string) bool {
	kind, _ := layout.Parse(name)
	return kind == layout.Foreign || v.chosen(name)
}

// checkObject reads one object and compares it with its name. Log entries have been checked already.
func (v *verifier) checkObject(ctx context.Context, name string, buffer []byte) error {
	kind, want := layout.Parse(name)
	if kind == layout.Foreign {
		v.problem(name, "it does not belong to a repository")
		v.strange(name)
		return nil
	}
	hash, size, strange := sha256.New(), int64(0), false
	for {
		n, err := v.store.Read(ctx, name, size, buffer)
		if errors.Is(err, blob.ErrNotFound) {
			return nil // gone since it was listed; if it is needed it is missed below
		}
		if holdfast.IsKind(err, holdfast.KindCorrupt) {
			v.problem(name, "%v", err)
			return nil
		}
		if err != nil {
			return err
		}
		if size == 0 && !belongs(kind, buffer[:n], v.state.Repository) {
			v.problem(name, "it is not a %s of this repository", kind)
			strange = true
		}
		hash.Write(buffer[:n])
		size += int64(n)
		if n < len(buffer) {
			break
		}
	}
	switch {
	case kind == layout.LogEntry && !v.known[name]:
		v.problem(name, "it lies beyond a gap in the log")
		v.strange(name)
	case kind == layout.LogEntry:
	case layout.Hash(hash.Sum(nil)) != want:
		v.problem(name, "the %s does not match the hash in its name", kind)
	case strange:
		v.strange(name)
	}
	v.mu.Lock()
	v.checked++
	v.bytes += size
	v.mu.Unlock()
	if v.o.Progress != nil {
		v.o.Progress(1, size)
	}
	return nil
}

// belongs reports whether an object begins like one of its kind that was written for the repository: a name that matches its
// bytes does not make a stranger's object ours. Log entries have been checked already.
func belongs(kind layout.Kind, beginning []byte, id keys.RepositoryID) bool {
	if id == (keys.RepositoryID{}) {
		return true // the log is lost: nobody can say
	}
	switch kind {
	case layout.KeyObject: // may be left of an Init that died, which drew an id of its own
		return bytes.Contains(beginning, []byte(`"holdfast":"key `))
	case layout.State:
		return bytes.Contains(beginning, []byte(`"holdfast":"log state"`)) && bytes.Contains(beginning, []byte(`"repository":"`+id.String()+`"`))
	case layout.List:
		return slices.ContainsFunc([]string{packlist.Label, packlist.CondemnationLabel, packlist.GoneLabel, packlist.DamageLabel}, func(label string) bool {
			return bytes.HasPrefix(beginning, fmt.Appendf(nil, "%s\nrepository %s\n", label, id))
		})
	case layout.DataPack, layout.TreePack, layout.IndexRun, layout.Manifest:
		header, err := seal.ParseHeader(beginning)
		return err == nil && header.Kind.ObjectKind() == kind && header.Repository == id
	case layout.LogEntry, layout.Foreign:
	}
	return true
}

// checkPoints finds what each restore point needs and is missing or damaged. It needs no key.
func (v *verifier) checkPoints(ctx context.Context) error {
	for name := range maps.Keys(v.known) {
		if err := v.mustExist(ctx, name); err != nil {
			return err
		}
	}
	var err error
	if v.gone, err = v.goneAndCondemned(ctx); err != nil {
		return err
	}
	for _, p := range v.state.Points {
		packs, includes, err := v.lists().Expand(ctx, p.List)
		if err != nil && !stored.IsDamage(err) {
			return err
		}
		packs = v.gone.Resolve(append(packs, v.damage.Instead(packs)...))
		if err != nil {
			v.listLost = true
			v.hits(p.ID)
			v.problem(p.List, "a pack list of the point cannot be read: %v", err)
		}
		needed := slices.Concat([]string{p.Manifest, p.List}, includes, packs)
		for _, name := range needed {
			v.known[name] = true
			if err := v.mustExist(ctx, name); err != nil {
				return err
			}
			switch {
			case v.isProblem(name) && IsPack(name):
				v.byList[p.ID] = true
			case v.isProblem(name):
				v.hits(p.ID)
			}
		}
	}
	return nil
}

// goneAndCondemned returns what became of packs that lists name and that are not to be missed: those that are condemned count as
// gone already. A record that cannot be read is named as damage by itself.
func (v *verifier) goneAndCondemned(ctx context.Context) (packlist.Gone, error) {
	gone, err := packlist.Gone{}, error(nil)
	for _, record := range v.state.Gone {
		one, readErr := v.lists().Gone(ctx, []string{record})
		if readErr != nil {
			err = errors.Join(err, stored.IgnoreDamage(readErr))
			v.listLost = true // what it led to must not be missed
		}
		maps.Copy(gone, one)
	}
	for _, list := range v.state.Lists() {
		data, readErr := stored.Read(ctx, v.store, list, layout.ListBytesMax)
		if readErr != nil {
			err = errors.Join(err, stored.IgnoreDamage(readErr))
			continue
		}
		condemnation, _ := packlist.ParseCondemnation(data) // what is not one is damage, and named
		for _, name := range condemnation.Names {
			v.avoid[name] = true
			if v.present[name] {
				v.known[name] = true // on its way out: neither missed nor an orphan
			}
			if _, ok := gone[name]; !ok {
				gone[name] = nil
			}
		}
	}
	return gone, err
}

func (v *verifier) isProblem(name string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, bad := v.problems[name]
	return bad
}

// mustExist notes an object that the log leads to and that is not there. Listings may be late: a direct read decides.
func (v *verifier) mustExist(ctx context.Context, name string) error {
	if v.present[name] {
		return nil
	}
	_, err := v.store.Stat(ctx, name)
	if errors.Is(err, blob.ErrNotFound) {
		kind, _ := layout.Parse(name)
		v.problem(name, "the %s is missing", kind)
		return nil
	}
	if err == nil {
		v.present[name] = true
		if !v.isChosen(name) {
			v.recall(name)
			return nil
		}
		return v.checkObject(ctx, name, make([]byte, readBytes))
	}
	return err
}

// report sums up.
func (v *verifier) report(ctx context.Context) (Report, error) {
	r := Report{
		OK: len(v.problems) == 0 && len(v.hit) == 0, Level: v.o.Level, Objects: []ObjectProblem{}, Points: slices.Sorted(maps.Keys(v.hit)),
		VMs: []holdfast.ResourceID{}, Checked: v.checked, Bytes: v.bytes, Healed: slices.AppendSeq([]string{}, maps.Keys(v.healed)),
		Seen: v.seen, State: &v.state, Damage: v.after, Ranges: v.ranges,
	}
	slices.Sort(r.Healed)
	if r.Points == nil {
		r.Points = []holdfast.PointID{}
	}
	for _, name := range slices.Sorted(maps.Keys(v.problems)) {
		r.Objects = append(r.Objects, ObjectProblem{Name: name, Problem: v.problems[name], Foreign: v.foreign[name]})
	}
	for name := range v.present {
		if kind, _ := layout.Parse(name); kind != layout.Foreign && kind != layout.LogEntry && !v.known[name] {
			r.Orphans++
		}
	}
	if v.o.Key != nil {
		vms, err := v.machines(ctx)
		if err != nil {
			return Report{}, err
		}
		r.VMs = append(r.VMs, vms...)
	}
	r.Requests = v.store.requests.Load()
	return r, nil
}
