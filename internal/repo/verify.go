package repo

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

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// VerifyLevel is how deep a verification goes; the proof levels of a restore point.
type VerifyLevel int

// The levels that need nothing but the store.
const (
	VerifyStored   VerifyLevel = 1 // stored bytes re-hashed, the log folded anew; needs no key
	VerifyComplete VerifyLevel = 2 // everything decrypted, every chunk of every point present and authentic; needs a key
)

// VerifyOptions tell what to check.
type VerifyOptions struct {
	Level      VerifyLevel
	Repository *Repository // the open repository for level 2, and to name VMs; nil verifies without a key
	Clock      clock.Clock
	Progress   func(objects int, bytes int64) // optional; called from several goroutines with what was checked since the last call
}

// Report is what a verification found.
type Report struct {
	OK      bool                  `json:"ok"`
	Level   VerifyLevel           `json:"level"`
	Objects []ObjectProblem       `json:"objects"` // damaged, missing and foreign ones
	Points  []holdfast.PointID    `json:"points"`  // hit by damage
	VMs     []holdfast.ResourceID `json:"vms"`     // hit by damage; only with a key
	Checked int                   `json:"checkedObjects"`
	Bytes   int64                 `json:"checkedBytes"`
	Orphans int                   `json:"orphanObjects"` // sound leftovers of runs that died or still work: no damage
	// Shadowed are objects that somebody overwrote or deleted and that an older version answers: no damage, but somebody was there.
	Shadowed []string `json:"shadowedObjects"`
}

// ObjectProblem names an object and what is wrong with it.
type ObjectProblem struct {
	Name    string `json:"name"`
	Problem string `json:"problem"`
}

// Verify checks a repository: the log from its first entry, every object in the folder and every object that should be
// there, and at level 2 the content of every restore point. It returns an error only when it could not check; damage is in
// the report.
func Verify(ctx context.Context, store blob.Store, o VerifyOptions) (Report, error) {
	if o.Level == VerifyComplete && o.Repository == nil {
		return Report{}, holdfast.Errorf(holdfast.KindWrongKey, "level 2 decrypts, so it needs the repository's password").WithHint("give the password, or verify at level 1")
	}
	store, err := seeThrough(ctx, store)
	if err != nil {
		return Report{}, err
	}
	v := newVerifier(store, o)
	audited, err := v.auditLog(ctx)
	if err != nil {
		return Report{}, err
	}
	for range verifyRoundsMax - 1 {
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

// verifyRoundsMax bounds how often a repository that somebody works on is looked at again: what was missed may have been removed
// or collected since the log was read, and then it is no damage.
const verifyRoundsMax = 3

// again returns a verifier that need not hash again what v found sound.
func (v *verifier) again() *verifier {
	next := newVerifier(v.store, v.o)
	next.checked, next.bytes = v.checked, v.bytes
	next.sound = func(name string) bool {
		return v.present[name] && !v.isProblem(name) || v.sound != nil && v.sound(name)
	}
	return next
}

// check is what follows the audit of the log.
func (v *verifier) check(ctx context.Context, audited oplog.Audited) (Report, error) {
	v.noteLog(audited)
	if err := v.checkObjects(ctx); err != nil {
		return Report{}, err
	}
	if err := v.checkPoints(ctx); err != nil {
		return Report{}, err
	}
	if err := v.checkLosses(ctx); err != nil {
		return Report{}, err
	}
	if v.o.Level == VerifyComplete {
		if err := v.checkContent(ctx); err != nil {
			return Report{}, err
		}
	}
	return v.report(ctx)
}

type verifier struct {
	store blob.Store
	o     VerifyOptions
	state oplog.State
	known map[string]bool // objects that the log leads to, filled in as they are found

	listLost bool                   // a pack list could not be read
	sound    func(name string) bool // tells of objects that were found sound before and have not changed; nil for none

	mu       sync.Mutex // guards the fields below
	problems map[string]string
	hit      map[holdfast.PointID]bool
	present  map[string]bool
	checked  int
	bytes    int64
}

// checkpointsKept is how many of the newest checkpoints must be there: those before them may have been collected.
const checkpointsKept = 2

func newVerifier(store blob.Store, o VerifyOptions) *verifier {
	return &verifier{store: store, o: o, problems: map[string]string{}, hit: map[holdfast.PointID]bool{}}
}

func (v *verifier) problem(name, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.problems[name]; !ok {
		v.problems[name] = fmt.Sprintf(format, args...)
	}
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
	if v.o.Repository != nil {
		ring = v.o.Repository.ring
	}
	return oplog.Audit(ctx, v.store, ring, newest)
}

// noteLog takes over what is wrong with the log and what it leads to.
func (v *verifier) noteLog(audited oplog.Audited) {
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
	for _, name := range slices.Concat(v.state.Slots, []string{v.state.KeyRing}, v.state.Runs, v.state.Lists(), v.state.Gone) {
		if name != "" {
			v.known[name] = true
		}
	}
}

// listedGapMax is how many entries may be missing in a row before a listed one that lies beyond them is taken for a stray object.
const listedGapMax = 1024

// newestListed returns the number of the newest log entry that a listing shows and that may belong to the log. It only makes
// the audit look further: without it, entries that were lost at the log's end, but for one, would pass unseen.
func (v *verifier) newestListed(ctx context.Context) (uint64, error) {
	newest := uint64(0)
	for info, err := range v.store.List(ctx, layout.LogPrefix) {
		if err != nil {
			return 0, err
		}
		if n, err := layout.ParseEntryName(info.Name); err == nil && n > newest && n-newest <= listedGapMax {
			newest = n
		}
	}
	return newest, nil
}

const (
	readBytes  = 1 << 20  // read at once
	smallBytes = 64 << 10 // smaller objects get a buffer of their own size
)

// checkObjects hashes every object that a listing shows.
func (v *verifier) checkObjects(ctx context.Context) error {
	v.present = map[string]bool{}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(4, 2*runtime.GOMAXPROCS(0)))
	buffers := sync.Pool{New: func() any { b := make([]byte, readBytes); return &b }}
	for info, err := range v.store.List(ctx, "") {
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		v.mu.Lock()
		v.present[info.Name] = true
		v.mu.Unlock()
		if v.sound != nil && v.sound(info.Name) {
			continue
		}
		g.Go(func() error {
			if info.Size < smallBytes {
				return v.checkObject(gctx, info.Name, make([]byte, info.Size+1))
			}
			buffer := buffers.Get().(*[]byte)
			defer buffers.Put(buffer)
			return v.checkObject(gctx, info.Name, *buffer)
		})
	}
	return g.Wait()
}

// checkObject reads one object and compares it with its name. Log entries have been checked already.
func (v *verifier) checkObject(ctx context.Context, name string, buffer []byte) error {
	kind, want := layout.Parse(name)
	if kind == layout.Foreign {
		v.problem(name, "it does not belong to a repository")
		return nil
	}
	hash, size := sha256.New(), int64(0)
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
		}
		hash.Write(buffer[:n])
		size += int64(n)
		if n < len(buffer) {
			break
		}
	}
	if kind == layout.LogEntry {
		if !v.known[name] {
			v.problem(name, "it lies beyond a gap in the log")
		}
	} else if layout.Hash(hash.Sum(nil)) != want {
		v.problem(name, "the %s does not match the hash in its name", kind)
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
		return slices.ContainsFunc([]string{packlist.Label, packlist.CondemnationLabel, packlist.GoneLabel}, func(label string) bool {
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
	gone, err := v.goneAndCondemned(ctx)
	if err != nil {
		return err
	}
	for _, p := range v.state.Points {
		packs, includes, err := listsIn(v.store).Expand(ctx, p.List)
		if err != nil && !isDamage(err) {
			return err
		}
		packs = gone.Resolve(packs)
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
			if v.isProblem(name) {
				v.hits(p.ID)
			}
		}
	}
	return nil
}

// goneAndCondemned returns what became of packs that lists name and that are not to be missed: those that are condemned count as
// gone already. A record that cannot be read is named as damage by itself.
func (v *verifier) goneAndCondemned(ctx context.Context) (packlist.Gone, error) {
	gone, err := goneIn(ctx, v.store, v.state)
	if err != nil {
		gone = packlist.Gone{}
	}
	for _, list := range v.state.Lists() {
		data, readErr := readNamed(ctx, v.store, list, layout.ListBytesMax)
		if readErr != nil {
			err = errors.Join(err, ignoreDamage(readErr))
			continue
		}
		condemnation, _ := packlist.ParseCondemnation(data) // what is not one is damage, and named
		for _, name := range condemnation.Names {
			v.known[name] = v.known[name] || v.present[name] // on its way out: neither missed nor an orphan
			if _, ok := gone[name]; !ok {
				gone[name] = nil
			}
		}
	}
	return gone, ignoreDamage(err)
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
		return v.checkObject(ctx, name, make([]byte, readBytes))
	}
	return err
}

// report sums up.
func (v *verifier) report(ctx context.Context) (Report, error) {
	r := Report{
		OK: len(v.problems) == 0 && len(v.hit) == 0, Level: v.o.Level, Objects: []ObjectProblem{}, Points: slices.Sorted(maps.Keys(v.hit)),
		VMs: []holdfast.ResourceID{}, Checked: v.checked, Bytes: v.bytes, Shadowed: append([]string{}, shadowedIn(v.store)...),
	}
	if r.Points == nil {
		r.Points = []holdfast.PointID{}
	}
	for _, name := range slices.Sorted(maps.Keys(v.problems)) {
		r.Objects = append(r.Objects, ObjectProblem{name, v.problems[name]})
	}
	for name := range v.present {
		if kind, _ := layout.Parse(name); kind != layout.Foreign && kind != layout.LogEntry && !v.known[name] {
			r.Orphans++
		}
	}
	if v.o.Repository == nil {
		return r, nil
	}
	vms, err := v.machines(ctx)
	r.VMs = append(r.VMs, vms...)
	return r, err
}
