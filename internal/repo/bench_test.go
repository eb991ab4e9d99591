package repo_test

import (
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// The benchmarks work on a disk of this size, in a local folder without syncs, so that the work is measured and not the device.
const benchDiskBytes = 256 << 20

// guestData is what disks hold: text of a small vocabulary that compresses, and noise that does not, in files of up to 1 MiB.
var guestData = sync.OnceValue(func() []byte {
	random := rand.New(rand.NewChaCha8([32]byte{1}))
	data := make([]byte, 0, benchDiskBytes+(1<<20))
	for len(data) < benchDiskBytes {
		length := 4<<10 + random.IntN(1<<20)
		if random.IntN(3) == 0 {
			noise := make([]byte, length)
			for i := range noise {
				noise[i] = byte(random.Uint32())
			}
			data = append(data, noise...)
			continue
		}
		for end := len(data) + length; len(data) < end; {
			data = append(strconv.AppendUint(data, random.Uint64N(50_000)*random.Uint64N(9), 36), ' ')
		}
	}
	return data[:benchDiskBytes]
})

func benchRepository(b *testing.B) (*repo.Repository, blob.Store) {
	b.Helper()
	store, err := file.Open(b.TempDir(), file.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	r, err := repo.Init(b.Context(), store, repo.InitOptions{Password: repotest.Password, KDF: repotest.FastKDF(), Clock: clock.System{}})
	if err != nil {
		b.Fatal(err)
	}
	return r, store
}

func benchBackup(b *testing.B, r *repo.Repository, d *repotest.Disk, parent *holdfast.Point) holdfast.Point {
	b.Helper()
	point, err := repotest.Backup(b.Context(), r, "vm", d, parent)
	if err != nil {
		b.Fatal(err)
	}
	return point
}

// A full backup of a disk that no repository has seen.
func BenchmarkBackup_Full(b *testing.B) {
	d := &repotest.Disk{Data: guestData()}
	b.SetBytes(benchDiskBytes)
	for b.Loop() {
		b.StopTimer()
		r, _ := benchRepository(b)
		b.StartTimer()
		benchBackup(b, r, d, nil)
	}
}

// A full read of a disk of which everything is stored.
func BenchmarkBackup_KnownContent(b *testing.B) {
	r, _ := benchRepository(b)
	d := &repotest.Disk{Data: guestData()}
	benchBackup(b, r, d, nil)
	b.SetBytes(benchDiskBytes)
	for b.Loop() {
		benchBackup(b, r, d, nil)
	}
}

// An increment of one page in each of 1 % of the chunks; MB/s are those of the chunks that change.
func BenchmarkBackup_Increment(b *testing.B) {
	r, _ := benchRepository(b)
	d := &repotest.Disk{Data: append([]byte(nil), guestData()...)}
	point := benchBackup(b, r, d, nil)
	chunks := benchDiskBytes / r.Parameters().ChunkSize
	random := rand.New(rand.NewChaCha8([32]byte{2}))
	b.SetBytes(int64(chunks / 100 * r.Parameters().ChunkSize))
	page := make([]byte, 4<<10)
	for b.Loop() {
		b.StopTimer()
		d.Cut()
		for range chunks / 100 {
			for i := range page {
				page[i] = byte(random.Uint32())
			}
			d.Write(random.IntN(chunks)*r.Parameters().ChunkSize, page)
		}
		b.StartTimer()
		point = benchBackup(b, r, d, &point)
	}
}

// discard is a target that keeps nothing.
type discard struct{}

// WriteAt implements repo.Target.
func (discard) WriteAt(context.Context, []byte, int64) error { return nil }

// All content of a point, checked chunk by chunk, to a target that costs nothing.
func BenchmarkRestore(b *testing.B) {
	r, _ := benchRepository(b)
	disk := benchDisk(b, r, benchBackup(b, r, &repotest.Disk{Data: guestData()}, nil))
	b.SetBytes(benchDiskBytes)
	for b.Loop() {
		if err := disk.CopyTo(b.Context(), discard{}, repo.CopyOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func benchDisk(b *testing.B, r *repo.Repository, point holdfast.Point) *repo.DiskReader {
	b.Helper()
	reader, err := r.OpenPoint(b.Context(), point.ID)
	if err != nil {
		b.Fatal(err)
	}
	disk, err := reader.Disk(point.Disks[0].LUN)
	if err != nil {
		b.Fatal(err)
	}
	return disk
}

// One page at a random place, caches cold: a repository opened anew has none of its own.
func BenchmarkRandomRead_Cold(b *testing.B) {
	r, store := benchRepository(b)
	point := benchBackup(b, r, &repotest.Disk{Data: guestData()}, nil)
	random := rand.New(rand.NewChaCha8([32]byte{3}))
	page := make([]byte, 4<<10)
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		disk := benchDisk(b, repotest.Open(b, store), point)
		b.StartTimer()
		before := b.Elapsed()
		if _, err := disk.At(b.Context()).ReadAt(page, random.Int64N(benchDiskBytes-4<<10)); err != nil && err != io.EOF {
			b.Fatal(err)
		}
		took = append(took, b.Elapsed()-before)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// Verification: of stored bytes without a key, and of all content with one. The hash alone, on all cores, is the ceiling of the first.
func BenchmarkVerify(b *testing.B) {
	r, store := benchRepository(b)
	benchBackup(b, r, &repotest.Disk{Data: guestData()}, nil)
	b.Run("hash alone", func(b *testing.B) {
		data, cores := make([]byte, 16<<20), runtime.GOMAXPROCS(0)
		b.SetBytes(int64(cores * len(data)))
		for b.Loop() {
			var group sync.WaitGroup
			for range cores {
				group.Go(func() { sha256.Sum256(data) })
			}
			group.Wait()
		}
	})
	for name, o := range map[string]repo.VerifyOptions{"level1": {Level: 1}, "level2": {Level: 2, Repository: r}} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(r.BytesAdded())
			for b.Loop() {
				report, err := repo.Verify(b.Context(), store, o)
				if err != nil || !report.OK {
					b.Fatalf("%v: %+v", err, report)
				}
			}
		})
	}
}
