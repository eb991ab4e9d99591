package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// model is what the repository should hold, as plain bytes, beside the repository itself.
type model struct {
	store    *mem.Store
	clock    *clock.Manual      // by which locks run out
	locking  bool               // sessions promise how long their points stay
	handles  []*repo.Repository // several writers; each knows what it read last
	machines []*machine
	points   []modelPoint
	open     []*openSession
	hidden   map[string]bool // from lists
}

// machine is a VM with two disks.
type machine struct {
	name  string
	disks map[holdfast.LUN]*repotest.Disk
	last  *modelPoint // its newest point; its disks' change lists are against it
}

type modelPoint struct {
	id      holdfast.PointID
	vm      string
	disks   map[holdfast.LUN][]byte
	details holdfast.Point
	promise time.Time // until then nobody can remove it; zero when nothing was promised
	horizon time.Time // as it was seen last
}

// openSession has written its disks and is neither published nor given up.
type openSession struct {
	s       *repo.Session
	machine *machine
	point   holdfast.Point
	parents []holdfast.PointID
	content map[holdfast.LUN][]byte
	gone    bool // abandoned by somebody else
	maybe   bool // a collection came between: what it found stored may be gone
}

// Whatever several writers do in whatever order, every published point holds what its disks held, equal disks and only
// those have equal roots, and the repository is sound.
func TestModel(t *testing.T) {
	histories(t, func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(m.actions())
		m.finish(t)
	})
}

// shards is how many histories run at the same time: one of them leaves half a core idle.
const shards = 4

// histories runs random histories, several at a time. A failure prints the seed that runs it again; -rapid.checks says how many each shard runs.
func histories(t *testing.T, history func(t *rapid.T)) {
	t.Helper()
	for shard := range shards {
		t.Run(fmt.Sprint(shard), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, history)
		})
	}
}

// actions are what may happen, each as often as the others.
func (m *model) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"write":   m.write,
		"clear":   m.clear,
		"copy":    m.copyDisk,
		"grow":    m.grow,
		"begin":   m.begin,
		"publish": m.publish,
		"backup":  m.backup,
		"again":   m.backup, // it is what happens most
		"clone":   m.backupOfClone,
		"leave":   m.leave,
		"steal":   m.steal,
		"rebuild": m.rebuild,
		"remove":  m.remove,
		"collect": m.collect,
		"dying":   m.dyingCollection,
		"late":    m.lateList,
		"reopen":  m.reopen,
		"read":    m.read,
		"":        m.check,
	}
}

func newModel(t *rapid.T) *model {
	now := clock.NewManual(repotest.Start())
	m := &model{store: mem.New(now), clock: now, hidden: map[string]bool{}}
	_, err := repo.Init(context.Background(), m.store, repo.InitOptions{
		Password: repotest.Password, KDF: repotest.FastKDF(), Clock: openOptions().Clock,
		Parameters: repo.Parameters{
			ChunkSize: chunkSize, FrameSize: chunkSize * rapid.SampledFrom([]int{1, 2, 3}).Draw(t, "frame"), FanOut: 8 * rapid.IntRange(1, 2).Draw(t, "fanOut"),
		},
	})
	must(t, err)
	for range 3 {
		m.handles = append(m.handles, m.openHandle(t))
	}
	for i := range 2 {
		v := &machine{name: fmt.Sprintf("vm-%d", i), disks: map[holdfast.LUN]*repotest.Disk{}}
		for _, lun := range []holdfast.LUN{holdfast.OSDisk, "0"} {
			v.disks[lun] = repotest.NewDisk(512 * rapid.IntRange(1, 12*chunkSize/512).Draw(t, "size"))
		}
		m.machines = append(m.machines, v)
	}
	return m
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (m *model) openHandle(t *rapid.T) *repo.Repository {
	r, err := repo.Open(context.Background(), m.store, openOptions())
	must(t, err)
	return r
}

func (m *model) machine(t *rapid.T) *machine { return rapid.SampledFrom(m.machines).Draw(t, "machine") }

func (m *model) disk(t *rapid.T) *repotest.Disk {
	return m.machine(t).disks[rapid.SampledFrom([]holdfast.LUN{holdfast.OSDisk, "0"}).Draw(t, "lun")]
}

func (m *model) handle(t *rapid.T) *repo.Repository {
	return rapid.SampledFrom(m.handles).Draw(t, "handle")
}

// window draws a range of the disk in sectors, often aligned to chunks, where the boundaries are.
func window(t *rapid.T, d *repotest.Disk) (offset, length int) {
	unit := rapid.SampledFrom([]int{512, chunkSize}).Draw(t, "unit")
	offset = min(unit*rapid.IntRange(0, len(d.Data)/unit).Draw(t, "offset"), len(d.Data)-512)
	length = min(unit*rapid.IntRange(1, 3*chunkSize/unit).Draw(t, "length"), len(d.Data)-offset)
	if rapid.IntRange(0, 3).Draw(t, "at the end") == 0 {
		offset = len(d.Data) - length
	}
	return offset, length
}

func (m *model) write(t *rapid.T) {
	d := m.disk(t)
	offset, length := window(t, d)
	p := bytes.Repeat([]byte{byte(rapid.IntRange(0, 3).Draw(t, "fill"))}, length) // zeros too, and duplicates often
	if rapid.Bool().Draw(t, "unique") {
		p[0] = byte(rapid.IntRange(1, 255).Draw(t, "first"))
	}
	d.Write(offset, p)
}

func (m *model) clear(t *rapid.T) {
	d := m.disk(t)
	d.Clear(window(t, d))
}

// copyDisk makes a disk equal to another one of the same size or larger, as a clone is.
func (m *model) copyDisk(t *rapid.T) {
	from, to := m.disk(t), m.disk(t)
	if from == to || len(to.Data) > len(from.Data) {
		t.Skip("no two disks, or it would shrink")
	}
	to.Grow(len(from.Data))
	to.Write(0, bytes.Clone(from.Data))
}

func (m *model) grow(t *rapid.T) {
	d := m.disk(t)
	if len(d.Data) > 80*chunkSize {
		t.Skip("large enough")
	}
	d.Grow(len(d.Data) + 512*rapid.IntRange(1, 20*chunkSize/512).Draw(t, "by"))
}

// begin starts a session and writes all disks of a machine, against its newest point or in full.
func (m *model) begin(t *rapid.T) {
	if len(m.open) >= 3 {
		t.Skip("enough sessions")
	}
	v, r, full := m.machine(t), m.handle(t), rapid.IntRange(0, 3).Draw(t, "full") == 0
	begin := repo.BeginOptions{VM: holdfast.ResourceID(v.name)}
	if v.last == nil {
		full = true
	}
	if !full {
		begin.Parents = []holdfast.PointID{v.last.id}
	}
	begin.RetainUntil = m.promise(t, r)
	s, err := r.Begin(context.Background(), begin)
	must(t, err)
	o := &openSession{s: s, machine: v, parents: begin.Parents, content: map[holdfast.LUN][]byte{}, point: holdfast.Point{
		VM: holdfast.ResourceID(v.name), Name: v.name, Time: repotest.Start(), Kind: holdfast.PointBackup,
	}}
	for _, lun := range []holdfast.LUN{holdfast.OSDisk, "0"} {
		d := v.disks[lun]
		in := repo.DiskInput{LUN: lun, SizeBytes: int64(len(d.Data)), Extents: repotest.Seq(d.Allocated()), Source: d, Readers: rapid.IntRange(1, 3).Draw(t, "readers")}
		if !full {
			base, _ := v.last.details.Disk(lun)
			in.Base, in.Extents = &base, repotest.Seq(d.Changes())
		}
		out, err := s.WriteDisk(context.Background(), in)
		must(t, err)
		o.point.Disks = append(o.point.Disks, holdfast.PointDisk{LUN: lun, SizeBytes: in.SizeBytes, Root: out.Root})
		o.content[lun] = bytes.Clone(d.Data)
	}
	m.open = append(m.open, o)
}

// backup is begin and publish in one.
func (m *model) backup(t *rapid.T) {
	m.begin(t)
	m.end(t, len(m.open)-1)
}

// backupOfClone makes one machine's disks equal to another's first: nothing is new, and the point rests on the other's packs.
func (m *model) backupOfClone(t *rapid.T) {
	from, to := m.machines[0], m.machines[1]
	for lun, d := range to.disks {
		if len(from.disks[lun].Data) < len(d.Data) {
			t.Skip("it would shrink")
		}
		d.Grow(len(from.disks[lun].Data))
		d.Write(0, bytes.Clone(from.disks[lun].Data))
	}
	m.backup(t)
}

func (m *model) take(t *rapid.T) *openSession {
	if len(m.open) == 0 {
		t.Skip("no open session")
	}
	return m.takeAt(rapid.IntRange(0, len(m.open)-1).Draw(t, "session"))
}

func (m *model) takeAt(i int) *openSession {
	o := m.open[i]
	m.open = append(m.open[:i:i], m.open[i+1:]...)
	return o
}

func (m *model) publish(t *rapid.T) {
	if len(m.open) == 0 {
		t.Skip("no open session")
	}
	m.end(t, rapid.IntRange(0, len(m.open)-1).Draw(t, "session"))
}

// end publishes an open session, or sees that it cannot.
func (m *model) end(t *rapid.T, i int) {
	o := m.takeAt(i)
	published, err := o.s.Publish(context.Background(), o.point, nil)
	if o.gone {
		if !holdfast.IsKind(err, holdfast.KindConflict) {
			t.Fatalf("an abandoned session published: %v", err)
		}
		must(t, o.s.Close(context.Background(), "test"))
		return
	}
	if o.maybe && holdfast.IsKind(err, holdfast.KindConflict) { // what it found stored was nobody else's any more
		must(t, o.s.Close(context.Background(), "collected"))
		return
	}
	must(t, err)
	reader, err := m.openHandle(t).OpenPoint(context.Background(), published.ID)
	must(t, err)
	p := modelPoint{id: published.ID, vm: o.machine.name, disks: o.content, details: reader.Point(), promise: published.LockedUntil}
	m.points = append(m.points, p)
	m.rebase(o.machine, &p)
}

// rebase makes p the machine's newest point, if the disks' change lists can be against it: another session may have been written
// since, so the lists are made anew from the contents.
func (m *model) rebase(v *machine, p *modelPoint) {
	for lun, d := range v.disks {
		d.Cut()
		held := p.disks[lun]
		for offset := 0; offset < len(held); offset += 512 {
			end := min(offset+512, len(held))
			if !bytes.Equal(held[offset:end], d.Data[offset:end]) {
				d.Write(offset, bytes.Clone(d.Data[offset:end]))
			}
		}
		if len(d.Data) > len(held) {
			d.Write(len(held), bytes.Clone(d.Data[len(held):]))
		}
	}
	v.last = p
}

// leave ends a session without a point.
func (m *model) leave(t *rapid.T) { must(t, m.take(t).s.Close(context.Background(), "left")) }

// steal abandons a session from another handle, as a newer run does.
func (m *model) steal(t *rapid.T) {
	if len(m.open) == 0 {
		t.Skip("no open session")
	}
	o := rapid.SampledFrom(m.open).Draw(t, "session")
	if err := m.handle(t).Abandon(context.Background(), o.s.ID(), "stolen"); (err == nil) == o.gone {
		t.Fatalf("abandon: %v", err)
	}
	o.gone = true
}

func (m *model) rebuild(t *rapid.T) {
	result, err := m.handle(t).RebuildIndex(context.Background(), nil)
	if err != nil || len(result.Damaged) > 0 {
		t.Fatalf("rebuild: %+v, %v", result, err)
	}
}

// remove removes a point from any handle, which may be old. One that an open session builds on stays.
func (m *model) remove(t *rapid.T) {
	if len(m.points) == 0 {
		t.Skip("no points")
	}
	i := rapid.IntRange(0, len(m.points)-1).Draw(t, "point")
	p := m.points[i]
	pinned := slices.ContainsFunc(m.open, func(o *openSession) bool { return !o.gone && slices.Contains(o.parents, p.id) })
	_, err := m.handle(t).Remove(context.Background(), []holdfast.PointID{p.id}, repo.RemoveOptions{})
	if holdfast.IsKind(err, holdfast.KindRefused) && m.locking {
		m.mustBeLocked(t, p)
		return
	}
	if pinned {
		if !holdfast.IsKind(err, holdfast.KindConflict) {
			t.Fatalf("a point was removed that an open session builds on: %v", err)
		}
		return
	}
	must(t, err)
	if p.promise.After(m.clock.Now()) {
		t.Fatalf("a point was removed that stays until %s", p.promise)
	}
	m.points = slices.Delete(m.points, i, i+1)
	for _, v := range m.machines {
		if v.last != nil && v.last.id == p.id {
			v.last = nil
		}
	}
}

// collector returns a collector of any handle, and options drawn at random.
func (m *model) collector(t *rapid.T, store blob.Store, remover blob.Remover) (*repo.Collector, repo.CollectOptions) {
	r, err := repo.Open(context.Background(), store, openOptions())
	must(t, err)
	return repo.NewCollector(r, remover), repo.CollectOptions{Rule: repo.CollectRule{
		FreedPerMoved: rapid.SampledFrom([]float64{0, 0.3, 1, 100}).Draw(t, "freed per moved"), MoveBytesMax: 1 << 30,
		SeeksPerGiBMax: rapid.SampledFrom([]float64{1e9, 100}).Draw(t, "seeks"), GatherBytesMax: 1 << 30, SmallBytes: 1 << 20, Unite: rapid.IntRange(2, 6).Draw(t, "unite"),
	}}
}

func (m *model) collect(t *rapid.T) {
	c, o := m.collector(t, m.store, m.store.Remover())
	if rapid.Bool().Draw(t, "old handle") {
		c = repo.NewCollector(m.handle(t), m.store.Remover())
	}
	_, err := c.Collect(context.Background(), o)
	must(t, err)
	m.collected()
}

func (m *model) collected() {
	for _, o := range m.open {
		o.maybe = true
	}
}

// dyingCollection is a collection whose process ends at some call, with or without that call's effect. Its session stays open, until
// somebody gives it up.
func (m *model) dyingCollection(t *rapid.T) {
	mode := rapid.SampledFrom([]wrap.Mode{wrap.Die, wrap.DieAfterEffect}).Draw(t, "mode")
	faults := wrap.NewFaults(mode, rapid.IntRange(20, 200).Draw(t, "call"))
	store, remover := wrap.Fault(m.store, faults), wrap.FaultRemover(m.store.Remover(), faults)
	r, err := repo.Open(context.Background(), store, openOptions())
	if err != nil {
		return // it died before it was there
	}
	_, err = repo.NewCollector(r, remover).Collect(context.Background(), repo.CollectOptions{Rule: repo.CollectRule{FreedPerMoved: 0.3, MoveBytesMax: 1 << 30, SeeksPerGiBMax: 1e9}})
	if err == nil && faults.Fired() && mode == wrap.Die {
		t.Logf("the collection did without its last call")
	}
	m.collected()
}

// lateList makes lists miss an object from now on, or show again what they missed.
func (m *model) lateList(t *rapid.T) {
	names := m.store.Adversary().Names()
	name := rapid.SampledFrom(names).Draw(t, "object")
	if m.hidden[name] {
		m.store.Adversary().Show(name)
		delete(m.hidden, name)
		return
	}
	if strings.HasPrefix(name, "log/") {
		t.Skip("verification looks for lost entries there")
	}
	m.store.Adversary().Hide(name)
	m.hidden[name] = true
}

func (m *model) reopen(t *rapid.T) {
	m.handles[rapid.IntRange(0, len(m.handles)-1).Draw(t, "handle")] = m.openHandle(t)
}

// read restores one point through a handle that may have to be told of it first.
func (m *model) read(t *rapid.T) {
	if len(m.points) == 0 {
		t.Skip("no points")
	}
	p, r := rapid.SampledFrom(m.points).Draw(t, "point"), m.handle(t)
	must(t, r.Refresh(context.Background()))
	m.mustHold(t, r, p)
	disk, err := mustReader(t, r, p).Disk(holdfast.OSDisk)
	must(t, err)
	want := p.disks[holdfast.OSDisk]
	offset := rapid.IntRange(0, len(want)-1).Draw(t, "offset")
	got := make([]byte, rapid.IntRange(0, len(want)-offset).Draw(t, "length"))
	if n, err := disk.ReadAt(context.Background(), got, int64(offset)); err != nil || !bytes.Equal(got[:n], want[offset:offset+len(got)]) {
		t.Fatalf("ReadAt(%d, %d) = %d, %v", offset, len(got), n, err)
	}
}

func mustReader(t *rapid.T, r *repo.Repository, p modelPoint) *repo.PointReader {
	reader, err := r.OpenPoint(context.Background(), p.id)
	must(t, err)
	return reader
}

func (m *model) mustHold(t *rapid.T, r *repo.Repository, p modelPoint) {
	reader := mustReader(t, r, p)
	for lun, want := range p.disks {
		disk, err := reader.Disk(lun)
		must(t, err)
		b := &repotest.Buffer{Data: make([]byte, disk.SizeBytes())}
		must(t, disk.CopyTo(context.Background(), b, repo.CopyOptions{Workers: 2}))
		if !bytes.Equal(b.Data, want) {
			t.Fatalf("disk %s of point %s of %s is not what it was", lun, p.id, p.vm)
		}
	}
}

// check compares roots with contents: equal exactly when size and bytes are.
func (m *model) check(t *rapid.T) {
	type held struct {
		root holdfast.Root
		data []byte
	}
	var all []held
	for _, p := range m.points {
		for _, d := range p.details.Disks {
			all = append(all, held{d.Root, p.disks[d.LUN]})
		}
	}
	if len(all) == 0 {
		return
	}
	newest := all[len(all)-1]
	for _, other := range all {
		if bytes.Equal(newest.data, other.data) != (newest.root == other.root) {
			t.Fatalf("roots %s and %s of disks of %d and %d bytes", newest.root, other.root, len(newest.data), len(other.data))
		}
	}
}

// leaveAll ends all open sessions.
func (m *model) leaveAll(t *rapid.T) {
	for _, o := range m.open {
		must(t, o.s.Close(context.Background(), "end"))
	}
	m.open = nil
}

// finish ends what is open and looks at everything once more, from a handle that knows nothing.
func (m *model) finish(t *rapid.T) {
	m.leaveAll(t)
	r := m.openHandle(t)
	points, err := r.Points()
	if err != nil || len(points) != len(m.points) {
		t.Fatalf("%d points are visible, %d were published, %v", len(points), len(m.points), err)
	}
	for _, p := range m.points {
		m.mustHold(t, r, p)
	}
	for _, o := range []repo.VerifyOptions{{Level: repo.VerifyStored}, {Level: repo.VerifyComplete, Repository: r}} {
		if report, err := repo.Verify(context.Background(), m.store, o); err != nil || !report.OK {
			t.Fatalf("verify: %+v, %v", report, err)
		}
	}
	m.finishCollections(t)
	if len(m.points) > 0 {
		m.strip(t, rapid.SampledFrom(m.points).Draw(t, "stripped"))
	}
}

// finishCollections gives up what died, and collects until there is nothing left to do: then nothing is left that nothing leads to.
func (m *model) finishCollections(t *rapid.T) {
	for name := range m.hidden {
		m.store.Adversary().Show(name)
	}
	var results []repo.Collected
	for range 5 {
		o := openOptions()
		o.Clock = clock.NewManual(repotest.Start().Add(time.Hour))
		r, err := repo.Open(context.Background(), m.store, o)
		must(t, err)
		result, err := repo.NewCollector(r, m.store.Remover()).Collect(context.Background(), eager())
		must(t, err)
		results = append(results, result)
	}
	r := m.openHandle(t)
	for _, p := range m.points {
		m.mustHold(t, r, p)
	}
	report, err := repo.Verify(context.Background(), m.store, repo.VerifyOptions{Level: repo.VerifyComplete, Repository: r})
	if err != nil || !report.OK || report.Orphans != 0 {
		plan, planErr := repo.NewCollector(r, nil).Plan(context.Background(), eager())
		must(t, planErr)
		t.Fatalf("after the last collection: %d orphans, %v, %v; it would still free %v, and did %+v", report.Orphans, report.Objects, err, plan.Unneeded(), results)
	}
}

// strip destroys everything that the point's pack list does not name, the index too, which is rebuilt from what is left: the
// point is complete by itself.
func (m *model) strip(t *rapid.T, p modelPoint) {
	kept := map[string]bool{}
	for _, name := range m.store.Adversary().Names() {
		content := m.text(t, name)
		if strings.HasPrefix(name, "lists/") && strings.Contains(content, "\npoint "+string(p.id)+"\n") {
			kept[name] = true // from it the index is rebuilt
			for line := range strings.SplitSeq(content, "\n") {
				word, rest, _ := strings.Cut(line, " ")
				if included, _, _ := strings.Cut(rest, " "); word == "include" {
					kept[included] = true
					for nested := range strings.SplitSeq(m.text(t, included), "\n") {
						kept[strings.TrimPrefix(nested, "pack ")] = true
					}
				}
				kept[rest] = kept[rest] || word == "pack"
			}
		}
	}
	if len(kept) == 0 {
		t.Fatalf("point %s has no list", p.id)
	}
	m.keepSuccessors(t, kept)
	for _, name := range m.store.Adversary().Names() {
		switch folder, _, _ := strings.Cut(name, "/"); folder {
		case "data", "tree", "index", "lists":
			if !kept[name] {
				m.store.Adversary().Erase(name)
			}
		}
	}
	r := m.openHandle(t)
	if _, err := r.RebuildIndex(context.Background(), nil); err != nil { // a hint may name another copy, that was not kept
		t.Fatal(err)
	}
	m.mustHold(t, r, p)
}

// keepSuccessors keeps what the log says of condemned packs: lists of them, the records of those that are gone, and the packs that those of kept names stand for now.
func (m *model) keepSuccessors(t *rapid.T, kept map[string]bool) {
	for range 20 { // a successor may be gone as well
		for _, name := range m.store.Adversary().Names() {
			if !strings.HasPrefix(name, "lists/") {
				continue
			}
			content := m.text(t, name)
			kept[name] = kept[name] || !strings.HasPrefix(content, "holdfast pack list 1\n")
			if !strings.HasPrefix(content, "holdfast gone packs 1\n") {
				continue
			}
			gone := ""
			for line := range strings.SplitSeq(content, "\n") {
				word, rest, _ := strings.Cut(line, " ")
				switch {
				case word == "gone":
					gone = rest
				case word == "now" && kept[gone]:
					kept[rest] = true
				}
			}
		}
	}
}

func (m *model) text(t *rapid.T, name string) string {
	data, err := blob.ReadAll(context.Background(), m.store, name, 1<<30)
	must(t, err)
	return string(data)
}
