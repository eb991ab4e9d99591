package repo_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// scalePoints is how many restore points BenchmarkScale_Points makes: HOLDFAST_SCALE_POINTS, 200 by default.
func scalePoints() int {
	n, err := strconv.Atoi(os.Getenv("HOLDFAST_SCALE_POINTS"))
	if err != nil {
		return 200
	}
	return n
}

// BenchmarkScale_Points makes many restore points of a disk of 32 TiB, each with one chunk changed somewhere, and measures what one more
// costs; and then what it takes to open the repository, list the points, begin a session, and compare the first point with the last.
func BenchmarkScale_Points(b *testing.B) {
	const size = 32 << 40
	for b.Loop() {
		folder := b.TempDir()
		files, err := file.Open(folder, file.Options{NoSync: true})
		if err != nil {
			b.Fatal(err)
		}
		store := &byFolder{Store: files}
		store.reset()
		r, err := repo.Init(b.Context(), store, repo.InitOptions{Password: repotest.Password, KDF: repotest.FastKDF(), Clock: clock.System{}})
		if err != nil {
			b.Fatal(err)
		}
		disk := &sparse{chunkSize: int64(r.Parameters().ChunkSize), chunks: map[int64]byte{}}
		chunks, random := size/disk.chunkSize, rand.New(rand.NewPCG(1, 1))
		points, last := scalePoints(), (*holdfast.Point)(nil)
		var first holdfast.PointID
		for n := range points {
			if n == points/2 {
				store.reset() // what is measured is an increment of a repository that is no longer young
			}
			number := random.Int64N(chunks)
			disk.chunks = map[int64]byte{number: byte(1 + n%255)}
			last = disk.put(b, r, size, last, number)
			if n == 0 {
				first = last.ID
			}
			if err := r.Settle(b.Context(), last.Session); err != nil {
				b.Fatal(err)
			}
		}
		measured := float64(points - points/2)
		for _, what := range []string{"tree", "index", "log", "state", "lists", "points"} {
			b.ReportMetric(float64(store.bytes[what])/measured, "B-"+what+"/point")
		}
		b.ReportMetric(float64(points), "points")
		measureOpening(b, files, first, last.ID)
	}
}

// callCounter counts the calls that read from a store.
type callCounter struct {
	blob.Store
	calls int
}

func (c *callCounter) Read(ctx context.Context, name string, offset int64, p []byte) (int, error) {
	c.calls++
	return c.Store.Read(ctx, name, offset, p)
}

func measureOpening(b *testing.B, store blob.Store, first, last holdfast.PointID) {
	b.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // what the repository before kept in pools goes with the second one
	runtime.ReadMemStats(&before)
	counter, system := &callCounter{Store: store}, clock.System{}
	step := func(name string, work func()) {
		started, calls := system.Now(), counter.calls
		work()
		b.ReportMetric(float64(system.Now().Sub(started))/float64(time.Millisecond), "ms-"+name)
		b.ReportMetric(float64(counter.calls-calls), "reads-"+name)
	}
	var r *repo.Repository
	var err error
	step("open", func() {
		r, err = repo.Open(b.Context(), counter, repo.OpenOptions{Password: repotest.Password, Clock: system, Tool: "bench"})
	})
	if err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/(1<<20), "MiB-opened")
	step("list", func() { _, err = r.Points() })
	if err != nil {
		b.Fatal(err)
	}
	var session *repo.Session
	step("begin", func() {
		session, err = r.Begin(b.Context(), repo.BeginOptions{VM: "vm", Parents: []holdfast.PointID{last}})
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := session.Close(b.Context(), "measured"); err != nil {
		b.Fatal(err)
	}
	step("compare", func() { err = compare(b.Context(), r, first, last) })
	if err != nil {
		b.Fatal(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return // another system
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			b.ReportMetric(float64(kib)/1024, "MiB-resident")
		}
	}
}

func compare(ctx context.Context, r *repo.Repository, a, b holdfast.PointID) error {
	var disks [2]*repo.DiskReader
	for i, id := range []holdfast.PointID{a, b} {
		point, err := r.OpenPoint(ctx, id)
		if err != nil {
			return err
		}
		if disks[i], err = point.Disk("os"); err != nil {
			return err
		}
	}
	for _, err := range disks[1].Changes(ctx, disks[0]) {
		if err != nil {
			return err
		}
	}
	return nil
}
