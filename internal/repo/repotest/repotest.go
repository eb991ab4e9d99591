// Package repotest helps tests that touch a repository: disks in memory, repositories that are cheap to open, and a check at
// the end of every test that the repository is sound.
package repotest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Password opens every test repository.
const Password = "correct horse battery staple"

// FastKDF is a key derivation cheap enough for tests.
func FastKDF() repo.KDFCost { return repo.KDFCost{Time: 1, MemoryKiB: 8, Threads: 1} }

// Start is when the clocks of tests stand at first.
func Start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// Init makes a repository in store with small chunks and verifies it, at level 2, when the test ends.
func Init(t testing.TB, store blob.Store) *repo.Repository {
	t.Helper()
	r, err := repo.Init(t.Context(), store, repo.InitOptions{
		Password: Password, KDF: FastKDF(), Clock: clock.NewManual(Start()), Tool: "test",
		Parameters: repo.Parameters{ChunkSize: 64 << 10, FrameSize: 256 << 10, FanOut: 8},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			Verify(t, store)
		}
	})
	return r
}

// Open opens the repository in store anew.
func Open(t testing.TB, store blob.Store) *repo.Repository {
	t.Helper()
	r, err := repo.Open(context.WithoutCancel(t.Context()), store, repo.OpenOptions{Password: Password, Clock: clock.NewManual(Start()), Tool: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Verify fails the test unless the repository is sound with and without a key.
func Verify(t testing.TB, store blob.Store) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	for _, o := range []repo.VerifyOptions{{Level: repo.VerifyStored}, {Level: repo.VerifyComplete, Repository: Open(t, store)}} {
		report, err := repo.Verify(ctx, store, o)
		if err != nil {
			t.Fatal(err)
		}
		if !report.OK {
			t.Fatalf("verify at level %d: %+v", o.Level, report)
		}
	}
}

// Disk is disk content in memory that keeps track of what was written since the last Cut. It implements repo.Source.
type Disk struct {
	Data    []byte
	Read    atomic.Int64 // bytes that were read through ReadAt
	changed []holdfast.Extent
}

// NewDisk returns a disk of zeros.
func NewDisk(size int) *Disk { return &Disk{Data: make([]byte, size)} }

// Write overwrites a part of the disk.
func (d *Disk) Write(offset int, p []byte) {
	copy(d.Data[offset:], p)
	d.changed = append(d.changed, holdfast.Extent{Offset: int64(offset), Length: int64(len(p))})
}

// Clear zeroes a part of the disk, as a discard does.
func (d *Disk) Clear(offset, length int) {
	clear(d.Data[offset : offset+length])
	d.changed = append(d.changed, holdfast.Extent{Offset: int64(offset), Length: int64(length), Zero: true})
}

// Grow makes the disk larger.
func (d *Disk) Grow(size int) { d.Data = append(d.Data, make([]byte, size-len(d.Data))...) }

// Scribble makes n random writes of up to most bytes, a few of them zeroing.
func (d *Disk) Scribble(r *rand.Rand, n, most int) {
	for range n {
		length := 512 * (1 + r.IntN(most/512))
		offset := 512 * r.IntN((len(d.Data)-length)/512+1)
		if r.IntN(5) == 0 {
			d.Clear(offset, length)
			continue
		}
		p := make([]byte, length)
		if r.IntN(2) == 0 { // compressible
			for i := range p {
				p[i] = byte(r.IntN(4))
			}
		} else {
			for i := range p {
				p[i] = byte(r.Uint32())
			}
		}
		d.Write(offset, p)
	}
}

// Changes returns what was written since the last Cut, as a change list: sorted, without overlaps, in 512-byte pages.
func (d *Disk) Changes() []holdfast.Extent {
	const page = 512
	pages := map[int64]bool{} // zero?
	for _, e := range d.changed {
		for p := e.Offset / page; p*page < e.End(); p++ {
			whole := p*page >= e.Offset && min((p+1)*page, int64(len(d.Data))) <= e.End()
			pages[p] = e.Zero && (whole || pages[p])
		}
	}
	numbers := make([]int64, 0, len(pages))
	for p := range pages {
		numbers = append(numbers, p)
	}
	slices.Sort(numbers)
	var list []holdfast.Extent
	for _, p := range numbers {
		e := holdfast.Extent{Offset: p * page, Length: min(page, int64(len(d.Data))-p*page), Zero: pages[p]}
		if k := len(list) - 1; k >= 0 && list[k].End() == e.Offset && list[k].Zero == e.Zero {
			list[k].Length += e.Length
			continue
		}
		list = append(list, e)
	}
	return list
}

// Cut forgets the changes so far: a snapshot was taken.
func (d *Disk) Cut() { d.changed = nil }

// Allocated returns all ranges that are not zero, in pages of 4 KiB.
func (d *Disk) Allocated() []holdfast.Extent {
	var list []holdfast.Extent
	for offset := 0; offset < len(d.Data); offset += 4096 {
		p := d.Data[offset:min(offset+4096, len(d.Data))]
		if len(bytes.Trim(p, "\x00")) == 0 {
			continue
		}
		if k := len(list) - 1; k >= 0 && list[k].End() == int64(offset) {
			list[k].Length += int64(len(p))
			continue
		}
		list = append(list, holdfast.Extent{Offset: int64(offset), Length: int64(len(p))})
	}
	return list
}

// ReadAt implements repo.Source.
func (d *Disk) ReadAt(_ context.Context, p []byte, offset int64) error {
	if n := copy(p, d.Data[offset:]); n < len(p) {
		return io.ErrUnexpectedEOF
	}
	d.Read.Add(int64(len(p)))
	return nil
}

// Seq returns a list as a sequence.
func Seq(list []holdfast.Extent) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Backup writes one point of a one-disk machine: against parent where given, in full where not.
func Backup(ctx context.Context, r *repo.Repository, vm string, d *Disk, parent *holdfast.Point) (holdfast.Point, error) {
	return backup(ctx, r, repo.BeginOptions{}, vm, d, parent)
}

// LockedBackup is Backup of a point that is locked for so many days.
func LockedBackup(ctx context.Context, r *repo.Repository, vm string, d *Disk, parent *holdfast.Point, days int) (holdfast.Point, error) {
	until, err := r.RetainFor(ctx, days)
	if err != nil {
		return holdfast.Point{}, err
	}
	return backup(ctx, r, repo.BeginOptions{RetainUntil: until}, vm, d, parent)
}

func backup(ctx context.Context, r *repo.Repository, begin repo.BeginOptions, vm string, d *Disk, parent *holdfast.Point) (holdfast.Point, error) {
	begin.VM = holdfast.ResourceID(vm)
	in := repo.DiskInput{LUN: holdfast.OSDisk, SizeBytes: int64(len(d.Data)), Source: d}
	extents := d.Allocated()
	if parent != nil {
		begin.Parents = []holdfast.PointID{parent.ID}
		base, _ := parent.Disk(holdfast.OSDisk)
		in.Base = &base
		extents = d.Changes()
	}
	in.Extents = Seq(extents)
	s, err := r.Begin(ctx, begin)
	if err != nil {
		return holdfast.Point{}, err
	}
	point, err := finish(ctx, r, s, in, vm, parent)
	if err != nil {
		if closeErr := s.Close(ctx, err.Error()); closeErr != nil {
			err = fmt.Errorf("%w; and closing: %w", err, closeErr)
		}
		return holdfast.Point{}, err
	}
	d.Cut()
	return point, nil
}

func finish(ctx context.Context, r *repo.Repository, s *repo.Session, in repo.DiskInput, vm string, parent *holdfast.Point) (holdfast.Point, error) {
	out, err := s.WriteDisk(ctx, in)
	if err != nil {
		return holdfast.Point{}, err
	}
	published, err := s.Publish(ctx, holdfast.Point{
		VM: holdfast.ResourceID(vm), Name: vm, Time: Start(), Kind: holdfast.PointBackup, Consistency: holdfast.ConsistencyOneDisk,
		Disks: []holdfast.PointDisk{{LUN: in.LUN, Name: vm, SizeBytes: in.SizeBytes, Root: out.Root, ReadBytes: out.ReadBytes, Full: parent == nil}},
	}, nil)
	if err != nil {
		return holdfast.Point{}, err
	}
	p, err := r.OpenPoint(ctx, published.ID)
	if err != nil {
		return holdfast.Point{}, err
	}
	return p.Point(), nil
}

// Buffer is a repo.Target in memory.
type Buffer struct{ Data []byte }

// WriteAt implements repo.Target.
func (b *Buffer) WriteAt(_ context.Context, p []byte, offset int64) error {
	copy(b.Data[offset:], p)
	return nil
}

// Restore reads a whole disk of a point back.
func Restore(ctx context.Context, r *repo.Repository, id holdfast.PointID) ([]byte, error) {
	p, err := r.OpenPoint(ctx, id)
	if err != nil {
		return nil, err
	}
	d, err := p.Disk(holdfast.OSDisk)
	if err != nil {
		return nil, err
	}
	b := &Buffer{Data: make([]byte, d.SizeBytes())}
	return b.Data, d.CopyTo(ctx, b, repo.CopyOptions{})
}
