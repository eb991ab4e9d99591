package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// exhaustive asks for level 2 with every single bit. Without it level 2 sees every field and a seeded share of the bits; see
// TestVerify_EveryBit for why that leaves nothing out.
var exhaustive = os.Getenv("HOLDFAST_EXHAUSTIVE") != ""

// bitsAllMax is the size up to which every bit of an object is flipped; of larger ones every field and bitsSampled bits.
const (
	bitsAllMax  = 4 << 10
	bitsSampled = 10_000
)

// specimen is a small repository that has some of everything: two machines, an increment, a checkpointless log, a session that
// was given up and left its packs, and one data pack of more than 4 KiB.
type specimen struct {
	objects map[string][]byte
	names   []string
	points  []holdfast.PointID
	vmOf    map[holdfast.PointID]holdfast.ResourceID
	needs   map[string][]holdfast.PointID // by object: the points that need it, told from what the store holds in clear
	orphans map[string]bool
	handle  *repo.Repository // opened while all was well
}

func newSpecimen(t *testing.T) *specimen {
	t.Helper()
	store, rnd := newStore(), newRand(11)
	r := repotest.Init(t, store)
	s := &specimen{objects: map[string][]byte{}, vmOf: map[holdfast.PointID]holdfast.ResourceID{}, needs: map[string][]holdfast.PointID{}, orphans: map[string]bool{}}
	note := func(p holdfast.Point) holdfast.Point {
		s.points, s.vmOf[p.ID] = append(s.points, p.ID), p.VM
		if err := r.Settle(t.Context(), p.Session); err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b := repotest.NewDisk(9*chunkSize+512), repotest.NewDisk(2*chunkSize)
	a.Write(0, bytes.Repeat([]byte{1}, chunkSize))
	a.Write(3*chunkSize, randomBytes(rnd, 6<<10))
	first := note(mustBackup(t, r, "alpha", a, nil))
	b.Write(100, []byte("another machine"))
	note(mustBackup(t, r, "beta", b, nil))
	a.Write(8*chunkSize, []byte("what changed since"))
	note(mustBackup(t, r, "alpha", a, &first))
	giveUp(t, r)

	for _, name := range store.Adversary().Names() {
		data, err := blob.ReadAll(t.Context(), store, name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		s.objects[name] = data
	}
	s.names = slices.Sorted(maps.Keys(s.objects))
	s.learnNeeds(t)
	s.handle = repotest.Open(t, store)
	return s
}

// giveUp leaves the packs of a session that never published.
func giveUp(t *testing.T, r *repo.Repository) {
	t.Helper()
	s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "gamma"})
	if err != nil {
		t.Fatal(err)
	}
	d := repotest.NewDisk(chunkSize)
	d.Write(0, []byte("never published"))
	out, err := s.WriteDisk(t.Context(), repo.DiskInput{LUN: holdfast.OSDisk, SizeBytes: chunkSize, Extents: repotest.Seq(d.Allocated()), Source: d})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	point := holdfast.Point{VM: "gamma", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: holdfast.OSDisk, SizeBytes: chunkSize, Root: out.Root}}}
	if err := r.Abandon(t.Context(), s.ID(), "given up by another run"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Publish(gone, point, nil); err == nil {
		t.Fatal("an abandoned session published")
	}
	cancel()
	if err := s.Close(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return b
}

// learnNeeds works out who needs what from log entries and pack lists alone, in the plainest way.
func (s *specimen) learnNeeds(t *testing.T) {
	t.Helper()
	need := func(id holdfast.PointID, name string) {
		if _, ok := s.objects[name]; !ok {
			t.Fatalf("point %s needs %s, which is not there", id, name)
		}
		s.needs[name] = append(s.needs[name], id)
	}
	known := map[string]bool{}
	for _, name := range s.names {
		if !strings.HasPrefix(name, "log/") {
			continue
		}
		known[name] = true
		var e struct {
			Kind, Manifest, List, KeyRing string
			Point                         holdfast.PointID
			Slots, Added, Dropped         []string
		}
		line, _, _ := bytes.Cut(s.objects[name], []byte("\n"))
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		for _, run := range e.Added {
			known[run] = true
		}
		for _, run := range e.Dropped {
			delete(known, run)
		}
		switch e.Kind {
		case "genesis":
			for _, id := range s.points {
				for _, object := range append(e.Slots, e.KeyRing, name) {
					need(id, object)
				}
			}
		case "publish":
			for _, object := range []string{name, e.Manifest, e.List} {
				need(e.Point, object)
			}
			for line := range strings.Lines(string(s.objects[e.List])) {
				if pack, ok := strings.CutPrefix(strings.TrimSpace(line), "pack "); ok {
					need(e.Point, pack)
				}
			}
		}
	}
	for _, name := range s.names {
		s.orphans[name] = !known[name] && len(s.needs[name]) == 0
		slices.Sort(s.needs[name])
	}
}

// view is the specimen with some objects changed: nil bytes are a missing object.
type view struct {
	base    *specimen
	changed map[string][]byte
}

func (v view) get(name string) ([]byte, error) {
	data, ok := v.changed[name]
	if !ok {
		data = v.base.objects[name]
	}
	if data == nil {
		return nil, blob.ErrNotFound
	}
	return data, nil
}

func (v view) Read(_ context.Context, name string, offset int64, p []byte) (int, error) {
	data, err := v.get(name)
	if err != nil || offset >= int64(len(data)) {
		return 0, err
	}
	return copy(p, data[offset:]), nil
}

func (v view) Stat(_ context.Context, name string) (blob.Info, error) {
	data, err := v.get(name)
	return blob.Info{Name: name, Size: int64(len(data))}, err
}

func (v view) List(_ context.Context, prefix string) iter.Seq2[blob.Info, error] {
	return func(yield func(blob.Info, error) bool) {
		for name := range v.names() {
			data, err := v.get(name)
			if err == nil && strings.HasPrefix(name, prefix) && !yield(blob.Info{Name: name, Size: int64(len(data))}, nil) {
				return
			}
		}
	}
}

// names yields the specimen's names and then the added ones.
func (v view) names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, name := range v.base.names {
			if !yield(name) {
				return
			}
		}
		for name := range v.changed {
			if _, ok := v.base.objects[name]; !ok && !yield(name) {
				return
			}
		}
	}
}

func (v view) Put(context.Context, string, []byte, blob.PutOptions) error { return blob.ErrReadOnly }
func (v view) URL() string                                                { return "view:" }

// check verifies the view and returns what is wrong with the answer: it must name exactly the given objects, and the points
// that need them; of log entries at least those. VMs are named with a key.
func (v view) check(o repo.VerifyOptions, objects ...string) error {
	report, err := repo.Verify(context.Background(), v, o)
	if err != nil {
		return err
	}
	return v.judge(report, o, objects...)
}

func (v view) judge(report repo.Report, o repo.VerifyOptions, objects ...string) error {
	var named []string
	for _, p := range report.Objects {
		named = append(named, p.Name)
	}
	var points []holdfast.PointID
	exact := true
	for _, name := range objects {
		points = append(points, v.base.needs[name]...)
		exact = exact && !strings.HasPrefix(name, "log/")
	}
	slices.Sort(points)
	points = slices.Compact(points)
	slices.Sort(objects)
	vms := map[holdfast.ResourceID]bool{}
	for _, id := range report.Points {
		if vm := v.base.vmOf[id]; vm != "" {
			vms[vm] = true
		}
	}
	if o.Repository == nil {
		clear(vms)
	}
	missing := slices.ContainsFunc(points, func(id holdfast.PointID) bool { return !slices.Contains(report.Points, id) })
	switch {
	case report.OK != (len(objects) == 0):
		return fmt.Errorf("ok is %v", report.OK)
	case !slices.Equal(named, objects):
		return fmt.Errorf("named %v, want %v", named, objects)
	case missing || exact && !slices.Equal(points, report.Points):
		return fmt.Errorf("points %v, want %v", report.Points, points)
	case exact && !slices.Equal(report.VMs, slices.Sorted(maps.Keys(vms))), !containsAll(report.VMs, vms):
		return fmt.Errorf("VMs %v, want %v", report.VMs, vms)
	}
	return nil
}

func containsAll(have []holdfast.ResourceID, want map[holdfast.ResourceID]bool) bool {
	for vm := range want {
		if !slices.Contains(have, vm) {
			return false
		}
	}
	return true
}

// levels are the ways to verify: with and without a key.
func (s *specimen) levels() []repo.VerifyOptions {
	return []repo.VerifyOptions{
		{Level: repo.VerifyStored}, {Level: repo.VerifyStored, Repository: s.handle}, {Level: repo.VerifyComplete, Repository: s.handle},
	}
}

// bitsOf returns the bits of an object to be flipped: all, or the fields in clear and a seeded sample.
func bitsOf(name string, data []byte) []int {
	var bits []int
	if len(data) <= bitsAllMax {
		for bit := range len(data) * 8 {
			bits = append(bits, bit)
		}
		return bits
	}
	directory := int(binary.BigEndian.Uint64(data[len(data)-16:]))
	for i := range data {
		if i < 64 || i >= directory || i == directory-1 { // header, directory, trailer, the end of the last frame
			for b := range 8 {
				bits = append(bits, i*8+b)
			}
		}
	}
	hash := sha256.Sum256([]byte(name[:5]))
	rnd := newRand(binary.BigEndian.Uint64(hash[:]))
	for range bitsSampled {
		bits = append(bits, rnd.IntN(len(data)*8))
	}
	return bits
}

// Every flipped bit of every object is found, and named with the points that need the object, and with a key the VMs.
//
// Each bit is flipped and the repository verified at level 1 without a key; what has not changed is not looked at again (see
// VerifyChanged). With a key, and at level 2, all that is done first, by the same code, and
// what is reported is added to what was found: so a fault that is named without a key is named with one too. That this is so is
// tried with every 61st bit and the first and last byte of every object, with Verify itself at all levels, with and without key;
// HOLDFAST_EXHAUSTIVE=1 does that with all bits.
func TestVerify_EveryBit(t *testing.T) {
	s := newSpecimen(t)
	levels := s.levels()
	var flips, verifications atomic.Int64
	g := errgroup.Group{}
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, name := range s.names {
		g.Go(func() error {
			data := bytes.Clone(s.objects[name])
			v, isEntry := view{s, map[string][]byte{name: data}}, strings.HasPrefix(name, "log/")
			data[len(data)-1] ^= 1
			audited, err := repo.AuditLog(context.Background(), v, levels[0])
			if err != nil || isEntry != (len(audited.Problems) == 1) {
				return fmt.Errorf("audit of the log with %s changed: %v, %w", name, audited.Problems, err)
			}
			data[len(data)-1] ^= 1
			for i, bit := range bitsOf(name, data) {
				if testing.Short() && i%16 > 0 { // a first impression in seconds
					continue
				}
				data[bit/8] ^= 1 << (bit % 8)
				if isEntry && !holdfast.IsKind(repo.CheckEntry(name, data), holdfast.KindCorrupt) {
					return fmt.Errorf("bit %d of %s: the entry proves itself still", bit, name)
				}
				report, err := repo.VerifyChanged(context.Background(), v, levels[0], audited, name)
				if err == nil {
					err = v.judge(report, levels[0], name)
				}
				if err != nil {
					return fmt.Errorf("bit %d of %s: %w", bit, name, err)
				}
				flips.Add(1)
				for _, o := range levels {
					if !exhaustive && i%61 != 0 && bit/8 > 0 && bit/8 < len(data)-1 {
						continue
					}
					if err := v.check(o, name); err != nil {
						return fmt.Errorf("bit %d of %s, level %d, key %v: %w", bit, name, o.Level, o.Repository != nil, err)
					}
					verifications.Add(1)
				}
				data[bit/8] ^= 1 << (bit % 8)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	total, large := 0, 0
	for _, data := range s.objects {
		total += len(data)
		if len(data) > bitsAllMax {
			large++
		}
	}
	if large == 0 {
		t.Error("the specimen has no object of more than 4 KiB")
	}
	t.Logf("%d bits flipped in %d objects of %d bytes, %d of them large; %d of the bits at all levels", flips.Load(), len(s.names), total, large,
		verifications.Load()/int64(len(levels)))
}

// An object that is missing, cut short, grown or exchanged for another of its kind is named with the points that need it.
// Leftovers may go missing: that is what collections do. So may the newest log entry; see
// TestVerify_NewestEntriesTakenAway.
func TestVerify_EveryObject(t *testing.T) {
	s := newSpecimen(t)
	newest := s.names[0]
	for _, name := range s.names {
		if strings.HasPrefix(name, "log/") {
			newest = name
		}
	}
	for _, o := range s.levels() {
		for i, name := range s.names {
			data := s.objects[name]
			changes := map[string][]byte{"cut": data[:len(data)-1], "grown": append(bytes.Clone(data), 0), "empty": {}}
			if !s.orphans[name] && name != newest {
				changes["missing"] = nil
			}
			for what, changed := range changes {
				if err := (view{s, map[string][]byte{name: changed}}).check(o, name); err != nil {
					t.Errorf("%s %s at level %d, key %v: %v", what, name, o.Level, o.Repository != nil, err)
				}
			}
			folder, _, _ := strings.Cut(name, "/")
			for _, other := range s.names[i+1:] {
				if !strings.HasPrefix(other, folder+"/") {
					continue
				}
				if err := (view{s, map[string][]byte{name: s.objects[other], other: data}}).check(o, name, other); err != nil {
					t.Errorf("%s and %s exchanged, level %d, key %v: %v", name, other, o.Level, o.Repository != nil, err)
				}
			}
		}
	}
}

// Nothing may lie in the folder that does not belong there: foreign names, bytes under a name that matches them but are not an
// object, and objects of another repository.
func TestVerify_ForeignObjects(t *testing.T) {
	s, other := newSpecimen(t), newSpecimen(t)
	added := map[string][]byte{
		"readme.txt": []byte("hello"), "data/zz": {1}, "log/1": {2}, "log/00000000000000009999": other.objects["log/00000000000000000000"],
		"keys/" + strings.Repeat("0", 63): {3}, "data/00/" + strings.Repeat("f", 64): {4},
	}
	garbage := []byte("garbage whose name matches its bytes")
	digits := fmt.Sprintf("%x", sha256.Sum256(garbage))
	for _, name := range []string{"keys/", "state/", "index/", "points/", "lists/", "data/" + digits[:2] + "/", "tree/" + digits[:2] + "/"} {
		added[name+digits] = garbage
	}
	for name, data := range other.objects {
		if !strings.HasPrefix(name, "log/") && !strings.HasPrefix(name, "keys/") { // keys may be left of an Init that died
			added[name] = data
		}
	}
	for _, o := range s.levels() {
		for name, data := range added {
			if err := (view{s, map[string][]byte{name: data}}).check(o, name); err != nil {
				t.Errorf("%s added, level %d, key %v: %v", name, o.Level, o.Repository != nil, err)
			}
		}
	}
}

// An object of the right session under a right name, but of another kind, is found too.
func TestVerify_ObjectUnderAnotherKind(t *testing.T) {
	s := newSpecimen(t)
	for _, name := range s.names {
		hash := name[strings.LastIndex(name, "/")+1:]
		if raw, err := hex.DecodeString(hash); err != nil || len(raw) != sha256.Size {
			continue
		}
		for _, folder := range []string{"keys/", "state/", "index/", "points/", "lists/", "data/" + hash[:2] + "/", "tree/" + hash[:2] + "/"} {
			if folder+hash == name || strings.HasPrefix(name, "keys/") && folder == "keys/" {
				continue
			}
			if err := (view{s, map[string][]byte{folder + hash: s.objects[name]}}).check(repo.VerifyOptions{Level: repo.VerifyStored}, folder+hash); err != nil {
				t.Errorf("%s as %s: %v", name, folder+hash, err)
			}
		}
	}
}

// The one thing a folder cannot tell about itself (doc/format.md §1): that its newest entries were taken away. What is left is
// an older state, whole and sound. This test is here so that nobody believes otherwise.
func TestVerify_NewestEntriesTakenAway(t *testing.T) {
	s := newSpecimen(t)
	changed, entries := map[string][]byte{}, 0
	for _, name := range slices.Backward(s.names) {
		if strings.HasPrefix(name, "log/") && entries < 4 {
			changed[name], entries = nil, entries+1
			if err := (view{s, changed}).check(repo.VerifyOptions{Level: repo.VerifyStored}); err != nil {
				t.Errorf("without the newest %d entries: %v", entries, err)
			}
		}
	}
}

// A log with lost entries in its middle is read to its end: restore points on both sides are visible, and nobody appends
// over the gap.
func TestOpen_LostEntries(t *testing.T) {
	store := newStore()
	r := repotest.Init(t, store)
	d := repotest.NewDisk(256 << 10)
	var points []holdfast.Point
	var contents [][]byte
	for i := range 12 {
		d.Write(0, []byte{byte(i + 1)})
		points, contents = append(points, mustBackup(t, r, "vm", d, nil)), append(contents, bytes.Clone(d.Data))
	}
	clean := map[string][]byte{}
	for _, name := range store.Adversary().Names() {
		clean[name], _ = blob.ReadAll(t.Context(), store, name, 1<<20)
	}
	for lost := 1; lost < 24; lost++ {
		damaged := mem.New(nil)
		for name, data := range clean {
			damaged.Adversary().Overwrite(name, data)
		}
		name := fmt.Sprintf("log/%020d", lost)
		damaged.Adversary().Erase(name)
		if lost%3 == 0 { // what lies in its place is no entry at all
			damaged.Adversary().Overwrite(name, make([]byte, layout.EntryBytesMax+1))
		}
		opened := repotest.Open(t, damaged)
		summaries, err := opened.Points()
		want := len(points)
		if lost%2 == 0 { // a publication
			want--
		}
		if err != nil || len(summaries) != want || len(opened.Damage()) != 1 {
			t.Fatalf("entry %d lost: %d points of %d, damage %v, error %v", lost, len(summaries), want, opened.Damage(), err)
		}
		for i, p := range points {
			if 2*(i+1) != lost {
				mustEqual(t, opened, p.ID, contents[i])
			}
		}
		before := damaged.Adversary().Names()
		if _, err := opened.Begin(t.Context(), repo.BeginOptions{VM: "vm"}); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Fatalf("entry %d lost: begin: %v", lost, err)
		}
		if !slices.Equal(before, damaged.Adversary().Names()) {
			t.Fatalf("entry %d lost: a refused writer wrote", lost)
		}
	}
}

// Level 2 walks every point down to its chunks: what is lost without any list or hash telling is found, and named by the
// manifest, the point and the VM. (Only a defect of a writer makes such a repository.)
func TestVerify_Level2FindsWhatNoListNames(t *testing.T) {
	for _, folder := range []string{"data/", "tree/"} {
		store := newStore()
		r, err := repo.Init(t.Context(), store, repo.InitOptions{Password: repotest.Password, KDF: repotest.FastKDF(), Clock: openOptions().Clock})
		if err != nil {
			t.Fatal(err)
		}
		d := repotest.NewDisk(3 * chunkSize)
		d.Write(0, []byte("content"))
		first := mustBackup(t, r, "first", d, nil)
		s, err := r.Begin(t.Context(), repo.BeginOptions{VM: "second"})
		if err != nil {
			t.Fatal(err)
		}
		out, err := s.WriteDisk(t.Context(), repo.DiskInput{LUN: "os", SizeBytes: int64(len(d.Data)), Extents: repotest.Seq(d.Allocated()), Source: d})
		if err != nil {
			t.Fatal(err)
		}
		repo.ForgetReused(s, folder)
		second, err := s.Publish(t.Context(), holdfast.Point{VM: "second", Time: repotest.Start(), Disks: []holdfast.PointDisk{{LUN: "os", SizeBytes: int64(len(d.Data)), Root: out.Root}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := repo.RemovePoint(t.Context(), r, first.ID); err != nil {
			t.Fatal(err)
		}
		for _, name := range store.Adversary().Names() {
			if strings.HasPrefix(name, folder) {
				store.Adversary().Erase(name)
			}
		}
		r = repotest.Open(t, store)
		one, err := repo.Verify(t.Context(), store, repo.VerifyOptions{Level: repo.VerifyStored})
		if err != nil || !one.OK {
			t.Fatalf("level 1 sees it: %+v, %v", one, err)
		}
		two, err := repo.Verify(t.Context(), store, repo.VerifyOptions{Level: repo.VerifyComplete, Repository: r})
		if err != nil || two.OK || len(two.Objects) != 1 || !strings.HasPrefix(two.Objects[0].Name, "points/") ||
			!slices.Equal(two.Points, []holdfast.PointID{second.ID}) || !slices.Equal(two.VMs, []holdfast.ResourceID{"second"}) {
			t.Errorf("without %s level 2 says %+v, %v", folder, two, err)
		}
	}
}
