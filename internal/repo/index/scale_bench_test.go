package index_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// The benchmarks of this file write an index as it would be for so many TiB of unique chunks of 128 KiB, without the chunks: ids and
// packs exist by name only. `make bench-scale` runs them in processes of their own and doc/performance.md has the results.
//
//	HOLDFAST_SCALE_TIB     how much the chunks would be; 0.05 by default
//	HOLDFAST_SCALE_FOLDER  where the index lies, for BenchmarkScale_Read to find what BenchmarkScale_Grow or _Make has left there
const (
	chunksPerTiB  = 8 << 20
	chunksPerPack = 512
	spillEntries  = 96 << 10 // what a session writes to a run at once
	samplesMax    = 20_000
)

// made is an index in a folder.
type made struct {
	store  *file.Store
	ring   *keys.Ring
	folder string
	Chunks int
	Runs   []index.About
	Prefix []string // of the Runs: a Prefix has no form in JSON
	Sample []chunk.ID
	ID     keys.RepositoryID
	Key    []byte
	Ring   []byte
}

func scaleTiB(b *testing.B) float64 {
	b.Helper()
	tib, err := strconv.ParseFloat(os.Getenv("HOLDFAST_SCALE_TIB"), 64)
	if err != nil {
		return 0.05
	}
	return tib
}

// newMade returns an index without entries, in the folder that is asked for or one of its own.
func newMade(b *testing.B) *made {
	b.Helper()
	m := &made{folder: os.Getenv("HOLDFAST_SCALE_FOLDER"), Chunks: int(scaleTiB(b) * chunksPerTiB), ID: keys.NewRepositoryID(), Key: keys.Random(keys.Size)}
	if m.folder == "" {
		m.folder = b.TempDir()
	}
	m.ring = keys.NewRing(m.ID)
	var err error
	if m.Ring, err = m.ring.Encode(m.Key); err != nil {
		b.Fatal(err)
	}
	m.openStore(b)
	return m
}

func (m *made) openStore(b *testing.B) {
	b.Helper()
	var err error
	if m.store, err = file.Open(m.folder, file.Options{NoSync: true}); err != nil {
		b.Fatal(err)
	}
}

func (m *made) description() string { return filepath.Join(m.folder, "scale.json") }

func (m *made) save(b *testing.B) {
	b.Helper()
	for _, run := range m.Runs {
		m.Prefix = append(m.Prefix, run.Prefix.String())
	}
	data, err := json.Marshal(m)
	if err == nil {
		err = os.WriteFile(m.description(), data, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// load reads what a benchmark before has made; it makes an index when there is none.
func load(b *testing.B) *made {
	b.Helper()
	m := &made{folder: os.Getenv("HOLDFAST_SCALE_FOLDER")}
	data, err := os.ReadFile(m.description())
	if err != nil {
		m = newMade(b)
		m.make(b)
		return m
	}
	if err := json.Unmarshal(data, m); err != nil {
		b.Fatal(err)
	}
	if m.ring, err = keys.DecodeRing(m.Ring, m.ID, m.Key); err != nil {
		b.Fatal(err)
	}
	for i := range m.Runs {
		m.Runs[i].Prefix = mustPrefix(m.Prefix[i])
	}
	m.openStore(b)
	return m
}

func (m *made) reader(store blob.Reader) *index.Reader {
	return index.NewReader(index.ReaderOptions{Store: store, Ring: m.ring, Codec: seal.NewCodec(runtime.GOMAXPROCS(0), seal.CompressionDefault, 1<<20)})
}

func (m *made) merger(written *int64) *index.Merger {
	buffer := make([]byte, 0, index.SizeMax(512<<10))
	return &index.Merger{
		Reader: m.reader(m.store),
		Header: func() seal.Header { return seal.NewHeader(seal.KindIndex, m.ring, m.ID, holdfast.SessionID{}) },
		Put: func(ctx context.Context, data []byte) (string, error) {
			*written += int64(len(data))
			name := layout.Name(layout.IndexRun, layout.Sum(data))
			return name, m.store.Put(ctx, name, data, blob.PutOptions{})
		},
		Buffer: func(size int) ([]byte, func()) {
			if size > cap(buffer) {
				return make([]byte, 0, size), func() {}
			}
			return buffer, func() {}
		},
	}
}

// entry returns the n-th chunk's entry. Ids look like hashes; neighbours lie in one pack.
func entry(n int, r *rand.ChaCha8) (e index.Entry) {
	_, _ = r.Read(e.ID[:]) // never returns an error
	e.Pack.Kind = seal.KindData
	binary.BigEndian.PutUint64(e.Pack.Hash[:], bits.Reverse64(uint64(n/chunksPerPack)))
	binary.BigEndian.PutUint64(e.Pack.Hash[8:], uint64(n/chunksPerPack)*0x9e3779b97f4a7c15)
	e.Offset, e.Stored, e.Slot = uint32(n%chunksPerPack)<<16, 400_000, uint16(n%8)
	return e
}

func newChaCha() *rand.ChaCha8 { return rand.NewChaCha8([32]byte{1}) }

// sample keeps some ids to be looked up.
func (m *made) sample(n int, id chunk.ID) {
	if n%max(m.Chunks/samplesMax, 1) == 0 {
		m.Sample = append(m.Sample, id)
	}
}

// BenchmarkScale_Grow writes the index as sessions do, one spill after the other, each merged with what there is as far as is due.
func BenchmarkScale_Grow(b *testing.B) {
	for b.Loop() {
		m := newMade(b)
		var written int64
		merger, r := m.merger(&written), newChaCha()
		heap := watchHeap()
		steps, worst := 0, time.Duration(0)
		for n := 0; n < m.Chunks; {
			entries := make([]index.Entry, 0, spillEntries)
			for range min(spillEntries, m.Chunks-n) {
				entries = append(entries, entry(n, r))
				m.sample(n, entries[len(entries)-1].ID)
				n++
			}
			started := clock.System{}.Now()
			change := index.NewChange(m.Runs)
			if err := change.Add(b.Context(), merger, entries); err != nil {
				b.Fatal(err)
			}
			if err := change.Tend(b.Context(), merger, 1<<30); err != nil {
				b.Fatal(err)
			}
			worst = max(worst, clock.System{}.Now().Sub(started))
			steps++
			for _, name := range change.Dropped { // what a collection does later
				if err := m.store.Remover().Remove(b.Context(), name); err != nil {
					b.Fatal(err)
				}
			}
			m.Runs = change.Runs()
			heap.look()
		}
		m.save(b)
		m.reportRuns(b)
		b.ReportMetric(float64(written)/float64(m.stored()), "written/stored")
		b.ReportMetric(float64(m.Chunks)/b.Elapsed().Seconds(), "entries/s")
		b.ReportMetric(worst.Seconds(), "s-longest-spill")
		heap.report(b)
	}
}

// BenchmarkScale_Make writes the index in the shape that Plan gives it, without the way there: leaves three quarters full and buffers half
// full. It is for sizes whose growth would take too long.
func BenchmarkScale_Make(b *testing.B) {
	for b.Loop() {
		m := newMade(b)
		m.make(b)
		m.save(b)
		m.reportRuns(b)
		b.ReportMetric(float64(m.Chunks)/b.Elapsed().Seconds(), "entries/s")
	}
}

func (m *made) make(b *testing.B) {
	b.Helper()
	limits := index.DefaultLimits()
	var written int64
	merger := m.merger(&written)
	digits := 0
	for m.Chunks>>digits > limits.RunEntries*3/4 {
		digits++
	}
	inBuffers := 0
	add := func(length, each int) {
		for i := range 1 << length {
			prefix := mustPrefix(fmt.Sprintf("%0*b", length, i)[:length])
			about, err := merger.Do(b.Context(), index.Step{Targets: []index.Target{{Prefix: prefix, Room: each}}}, m.evenly(prefix, each, inBuffers))
			if err != nil {
				b.Fatal(err)
			}
			m.Runs = append(m.Runs, about...)
		}
	}
	for length := 0; length < digits; length += limits.Stride {
		each := min(limits.RunEntries/2, m.Chunks>>(length+2))
		add(length, each)
		inBuffers += each << length
	}
	add(digits, (m.Chunks-inBuffers)>>digits)
}

// evenly returns entries whose ids are spread over a prefix.
func (m *made) evenly(prefix index.Prefix, n, salt int) []index.Entry {
	digits := prefix.String()
	first := uint64(0)
	for i := range digits {
		first |= uint64(digits[i]-'0') << (63 - i)
	}
	step := math.MaxUint64>>len(digits)/uint64(n) - 1
	r := rand.NewChaCha8([32]byte{byte(len(digits)), byte(salt), byte(first >> 56), byte(first >> 48), byte(first >> 40)})
	entries := make([]index.Entry, n)
	for i := range entries {
		entries[i] = entry(int(r.Uint64()%uint64(m.Chunks)), r)
		binary.BigEndian.PutUint64(entries[i].ID[:], first+uint64(i)*step+r.Uint64()%step)
		m.sample(len(m.Sample)*max(m.Chunks/samplesMax, 1)+i%max(m.Chunks/samplesMax, 1), entries[i].ID)
	}
	return entries
}

func (m *made) stored() (bytes int64) {
	for _, run := range m.Runs {
		bytes += run.Bytes
	}
	return bytes
}

func (m *made) reportRuns(b *testing.B) {
	b.Helper()
	x, asked := index.New(m.reader(m.store), m.Runs), 0
	for _, id := range m.Sample[:min(len(m.Sample), 2000)] {
		asked = max(asked, x.Asked(id))
	}
	b.ReportMetric(float64(m.Chunks)/chunksPerTiB, "TiB")
	b.ReportMetric(float64(len(m.Runs)), "runs")
	b.ReportMetric(float64(asked), "runs-asked")
	b.ReportMetric(float64(m.stored())/float64(m.Chunks), "B/chunk")
}

// BenchmarkScale_Read opens an index and looks up what is there and what is not, with nothing in memory at first.
func BenchmarkScale_Read(b *testing.B) {
	m := load(b)
	runtime.GC()
	for b.Loop() {
		heap := watchHeap()
		counted := &countedStore{Store: m.store}
		started := clock.System{}.Now()
		reader := m.reader(counted)
		x := index.New(reader, m.Runs)
		if err := x.Prepare(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(clock.System{}.Now().Sub(started).Seconds()*1000, "ms-open")
		b.ReportMetric(float64(counted.reads), "reads-open")
		r := rand.New(rand.NewPCG(uint64(b.N), 5))
		strangers := make([]chunk.ID, samplesMax)
		for i := range strangers {
			strangers[i] = randomID(r)
		}
		r.Shuffle(len(m.Sample), func(i, j int) { m.Sample[i], m.Sample[j] = m.Sample[j], m.Sample[i] })
		half := len(m.Sample) / 2
		for _, pass := range []struct {
			name string
			ids  []chunk.ID
			hit  bool
		}{
			{"miss-cold", strangers[:samplesMax/2], false}, {"hit-cold", m.Sample[:half], true}, {"miss-warm", strangers[samplesMax/2:], false}, {"hit-warm", m.Sample[half:], true},
		} {
			before := counted.reads
			took := lookups(b, x, pass.ids, pass.hit)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "µs-"+pass.name+"-p50")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "µs-"+pass.name+"-p99")
			b.ReportMetric(float64(counted.reads-before)/float64(len(pass.ids)), "reads-"+pass.name)
			heap.look()
		}
		m.reportRuns(b)
		kept := reader.Kept()
		b.ReportMetric(float64(kept.Open+kept.Filters+kept.Blocks)/(1<<20), "MiB-kept")
		heap.report(b)
	}
}

func lookups(b *testing.B, x *index.Index, ids []chunk.ID, hit bool) []time.Duration {
	b.Helper()
	took := make([]time.Duration, 0, len(ids))
	for _, id := range ids {
		started, found := clock.System{}.Now(), false
		err := x.Lookup(b.Context(), id, func(*chunk.Place) bool {
			found = true
			return true
		})
		took = append(took, clock.System{}.Now().Sub(started))
		if err != nil || found != hit {
			b.Fatalf("%s is found: %v, %v", id, found, err)
		}
	}
	slices.Sort(took)
	return took
}

// countedStore counts reads; it is used by one goroutine, but for Prepare, whose reads are few.
type countedStore struct {
	*file.Store
	reads int
}

func (c *countedStore) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	c.reads++
	return c.Store.Read(ctx, name, offset, p)
}

// heapWatch notes the greatest heap that it was shown.
type heapWatch struct{ most uint64 }

func watchHeap() *heapWatch { return &heapWatch{} }

func (h *heapWatch) look() {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	h.most = max(h.most, s.HeapAlloc)
}

// report states the greatest heap, garbage included, and what the system says of the whole process.
func (h *heapWatch) report(b *testing.B) {
	b.Helper()
	h.look()
	b.ReportMetric(float64(h.most)/(1<<20), "MiB-heap")
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return // another system
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			if err == nil {
				b.ReportMetric(float64(kib)/1024, "MiB-resident")
			}
		}
	}
}
