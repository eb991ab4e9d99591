package repo

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// PointReader reads a restore point. Safe for concurrent use.
type PointReader struct {
	r     *Repository
	point holdfast.Point
}

// ResolvePoint returns the id of the one visible restore point whose id is, or begins with, what is given. None is
// KindNotFound, several are KindInvalid.
func (r *Repository) ResolvePoint(id holdfast.PointID) (holdfast.PointID, error) {
	return resolvePoint(r.oplog.State(), id, r.URL())
}

// resolvePoint returns the id of the one visible restore point whose id is, or begins with, what is given.
func resolvePoint(state oplog.State, id holdfast.PointID, url string) (holdfast.PointID, error) {
	if state.Point(id) != nil {
		return id, nil
	}
	var matches []holdfast.PointID
	for i := range state.Points {
		if id != "" && strings.HasPrefix(string(state.Points[i].ID), string(id)) {
			matches = append(matches, state.Points[i].ID)
		}
	}
	switch len(matches) {
	case 1:
		return matches[0], nil
	case 0:
		return "", holdfast.Errorf(holdfast.KindNotFound, "there is no restore point %q", id).WithField("point").
			WithHint("list what there is with: holdfast repo points --repo %s", url)
	}
	return "", holdfast.Errorf(holdfast.KindInvalid, "%q is the beginning of %d restore points", id, len(matches)).WithField("point").
		WithHint("write one of them out: %s", matches)
}

// OpenPoint opens a visible restore point, by its id or by a beginning of it as ResolvePoint takes it. A damaged manifest is
// KindCorrupt.
func (r *Repository) OpenPoint(ctx context.Context, id holdfast.PointID) (*PointReader, error) {
	id, err := r.ResolvePoint(id)
	if err != nil {
		return nil, err
	}
	state := r.oplog.State()
	found := state.Point(id)
	if found == nil { // removed since
		return nil, holdfast.Errorf(holdfast.KindNotFound, "the restore point %s has been removed", id).WithField("point")
	}
	point, err := r.readManifest(ctx, *found)
	if err != nil {
		return nil, err
	}
	return &PointReader{r: r, point: point}, nil
}

// Point returns the point as its manifest states it.
func (p *PointReader) Point() holdfast.Point { return p.point }

// Disk returns a reader of one disk. A disk that the point does not have is KindNotFound and names those it has.
func (p *PointReader) Disk(lun holdfast.LUN) (*DiskReader, error) {
	disk, ok := p.point.Disk(lun)
	if !ok {
		var luns []holdfast.LUN
		for _, d := range p.point.Disks {
			luns = append(luns, d.LUN)
		}
		return nil, holdfast.Errorf(holdfast.KindNotFound, "restore point %s has no disk %q", p.point.ID, lun).WithField("disk").
			WithHint("it has: %s", luns)
	}
	top, err := manifest.Top(disk)
	if err != nil {
		return nil, err
	}
	return &DiskReader{r: p.r, disk: disk, top: top, shape: tree.NewShape(disk.SizeBytes, p.r.params)}, nil
}

// DiskReader reads any byte of a disk of a restore point. Safe for concurrent use.
type DiskReader struct {
	r     *Repository
	disk  holdfast.PointDisk
	top   tree.Child
	shape tree.Shape
}

// SizeBytes returns the disk's size.
func (d *DiskReader) SizeBytes() int64 { return d.disk.SizeBytes }

// Root returns the map root that commits to the disk's content.
func (d *DiskReader) Root() holdfast.Root { return d.disk.Root }

// At returns the disk as an io.ReaderAt whose reads end with ctx.
func (d *DiskReader) At(ctx context.Context) io.ReaderAt { return readerAt{ctx, d} }

type readerAt struct {
	ctx context.Context
	d   *DiskReader
}

// ReadAt implements io.ReaderAt.
func (r readerAt) ReadAt(p []byte, offset int64) (int, error) { return r.d.ReadAt(r.ctx, p, offset) }

// ReadAt reads like io.ReaderAt. What it returns has been authenticated.
func (d *DiskReader) ReadAt(ctx context.Context, p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, holdfast.Errorf(holdfast.KindInvalid, "the offset %d is negative", offset)
	}
	want := min(int64(len(p)), max(0, d.disk.SizeBytes-offset))
	target := p[:want]
	clear(target)
	chunkSize := int64(d.shape.ChunkSize)
	for c, err := range tree.Leaves(ctx, d.shape, d.top, offset/chunkSize, (offset+want+chunkSize-1)/chunkSize, d.r) {
		if err != nil {
			return 0, err
		}
		data, err := d.chunk(ctx, c)
		if err != nil {
			return 0, err
		}
		at := c.Number*chunkSize - offset
		copy(target[max(0, at):], data[min(int64(len(data)), max(0, -at)):])
	}
	if want < int64(len(p)) {
		return int(want), io.EOF
	}
	return int(want), nil
}

// chunk returns the content of one chunk, through the frame cache.
func (d *DiskReader) chunk(ctx context.Context, c tree.Change) (data []byte, err error) {
	err = d.r.fetch(ctx, c.Child.ID, c.Child.Place, func(place *chunk.Place) error {
		plain, err := d.r.frames.Get(ctx, frameKey{place.Pack.Name(), place.Offset}, func() ([]byte, error) {
			plain, _, err := d.r.readFrame(ctx, place, nil, nil)
			return plain, err
		})
		if err == nil {
			data, err = d.slot(plain, place, c)
		}
		return err
	})
	return data, err
}

// slot cuts a chunk out of a frame and checks that it is the one that is wanted.
func (d *DiskReader) slot(plain []byte, place *chunk.Place, c tree.Change) ([]byte, error) {
	chunkSize := d.shape.ChunkSize
	want := int(min(int64(chunkSize), d.disk.SizeBytes-c.Number*int64(chunkSize)))
	start := place.Slot * chunkSize
	if start+want > len(plain) || d.r.hasher.Chunk(plain[start:start+want]) != c.Child.ID {
		return nil, seal.Damaged(place.Pack.Name(), holdfast.Errorf(holdfast.KindCorrupt, "the frame at offset %d does not hold the chunk it should hold", place.Offset))
	}
	return plain[start : start+want], nil
}

// Extents yields the ranges that are stored, in order and merged. What is between them reads as zeros.
func (d *DiskReader) Extents(ctx context.Context) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		var held holdfast.Extent
		chunkSize := int64(d.shape.ChunkSize)
		for c, err := range tree.Leaves(ctx, d.shape, d.top, 0, d.shape.Chunks(), d.r) {
			if err != nil {
				yield(holdfast.Extent{}, err)
				return
			}
			offset := c.Number * chunkSize
			length := min(chunkSize, d.disk.SizeBytes-offset)
			if held.Length > 0 && held.End() == offset {
				held.Length += length
				continue
			}
			if held.Length > 0 && !yield(held, nil) {
				return
			}
			held = holdfast.Extent{Offset: offset, Length: length}
		}
		if held.Length > 0 {
			yield(held, nil)
		}
	}
}

// Changes yields the ranges in which the disk differs from another one, in order and merged; those that read as zeros now are marked.
// Beyond its end the other one counts as zeros. Nodes are read where the two differ, and nowhere else.
func (d *DiskReader) Changes(ctx context.Context, since *DiskReader) iter.Seq2[holdfast.Extent, error] {
	return func(yield func(holdfast.Extent, error) bool) {
		var held holdfast.Extent
		chunkSize := int64(d.shape.ChunkSize)
		for c, err := range tree.Diff(ctx, tree.Disk{Top: d.top, Shape: d.shape}, tree.Disk{Top: since.top, Shape: since.shape}, d.r) {
			if err != nil {
				yield(holdfast.Extent{}, err)
				return
			}
			next := holdfast.Extent{Offset: c.Number * chunkSize, Zero: c.Child.ID.IsHole()}
			next.Length = min(chunkSize, d.disk.SizeBytes-next.Offset)
			if held.Length > 0 && held.End() == next.Offset && held.Zero == next.Zero {
				held.Length += next.Length
				continue
			}
			if held.Length > 0 && !yield(held, nil) {
				return
			}
			held = next
		}
		if held.Length > 0 {
			yield(held, nil)
		}
	}
}

// Target takes the content of a disk.
type Target interface {
	// WriteAt writes p at offset. It is called from several goroutines; p is not kept.
	WriteAt(ctx context.Context, p []byte, offset int64) error
}

// CopyOptions tune CopyTo.
type CopyOptions struct {
	Workers  int               // frames read at the same time; 0 means DefaultReaders
	Progress func(bytes int64) // optional; called from several goroutines with bytes written since the last call
}

// CopyTo writes all stored ranges of the disk to a target that reads as zeros so far. Writes come in any order, begin and end at
// chunk boundaries (or the disk's end), and are no longer than a frame. Every chunk is checked against its id first.
func (d *DiskReader) CopyTo(ctx context.Context, target Target, o CopyOptions) error {
	workers := o.Workers
	if workers <= 0 {
		workers = DefaultReaders()
	}
	g, gctx := errgroup.WithContext(ctx)
	frames := make(chan []tree.Change, workers)
	g.Go(func() error {
		defer close(frames)
		return d.byFrame(gctx, frames)
	})
	for range workers {
		g.Go(func() error {
			c := copier{d: d, target: target, progress: o.Progress}
			for frame := range frames {
				if err := c.copy(gctx, frame); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// heldChunksMax bounds a group of chunks: a disk may hold the same chunk over and over.
const heldChunksMax = 256

// byFrame groups the disk's chunks so that neighbours in one frame come together.
func (d *DiskReader) byFrame(ctx context.Context, out chan<- []tree.Change) error {
	var held []tree.Change
	flush := func() error {
		if len(held) == 0 {
			return nil
		}
		select {
		case out <- slices.Clone(held):
			held = held[:0]
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for c, err := range tree.Leaves(ctx, d.shape, d.top, 0, d.shape.Chunks(), d.r) {
		if err != nil {
			return err
		}
		if c.Child.Place, err = d.r.whereNow(ctx, c.Child.ID, c.Child.Place); err != nil {
			return err
		}
		if len(held) > 0 && (len(held) >= heldChunksMax || !sameFrame(held[0].Child.Place, c.Child.Place)) {
			if err := flush(); err != nil {
				return err
			}
		}
		held = append(held, c)
	}
	return flush()
}

func sameFrame(a, b *chunk.Place) bool {
	return a != nil && b != nil && a.Offset == b.Offset && a.Pack.Name() == b.Pack.Name()
}

// copier is one worker of CopyTo with its memory.
type copier struct {
	d             *DiskReader
	target        Target
	progress      func(int64)
	plain, stored []byte
}

// copy writes the chunks of one frame. If the frame cannot be used, each chunk is looked for elsewhere.
func (c *copier) copy(ctx context.Context, chunks []tree.Change) error {
	place := chunks[0].Child.Place
	var err error
	if place != nil {
		c.plain, c.stored, err = c.d.r.readFrame(ctx, place, c.plain, c.stored)
	}
	if errors.Is(err, blob.ErrNotFound) {
		c.d.r.learnMoved(ctx)
	}
	if place == nil || isDamage(err) {
		return c.copySingly(ctx, chunks)
	}
	if err != nil {
		return err
	}
	for len(chunks) > 0 {
		run, err := c.run(chunks)
		if isDamage(err) {
			return c.copySingly(ctx, chunks)
		}
		if err != nil {
			return err
		}
		chunkSize := int64(c.d.shape.ChunkSize)
		start := int64(chunks[0].Child.Place.Slot) * chunkSize
		offset := chunks[0].Number * chunkSize
		length := min(int64(run)*chunkSize, c.d.disk.SizeBytes-offset)
		if err := c.write(ctx, c.plain[start:start+length], offset); err != nil {
			return err
		}
		chunks = chunks[run:]
	}
	return nil
}

// run returns how many of the chunks follow one another both on the disk and in the frame, all checked.
func (c *copier) run(chunks []tree.Change) (int, error) {
	for i, next := range chunks {
		if i > 0 && (next.Number != chunks[i-1].Number+1 || next.Child.Place.Slot != chunks[i-1].Child.Place.Slot+1) {
			return i, nil
		}
		if _, err := c.d.slot(c.plain, next.Child.Place, next); err != nil {
			return 0, err
		}
	}
	return len(chunks), nil
}

func (c *copier) copySingly(ctx context.Context, chunks []tree.Change) error {
	for _, one := range chunks {
		data, err := c.d.chunk(ctx, one)
		if err != nil {
			return err
		}
		if err := c.write(ctx, data, one.Number*int64(c.d.shape.ChunkSize)); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) write(ctx context.Context, p []byte, offset int64) error {
	if err := c.target.WriteAt(ctx, p, offset); err != nil {
		return err
	}
	if c.progress != nil {
		c.progress(int64(len(p)))
	}
	return nil
}
