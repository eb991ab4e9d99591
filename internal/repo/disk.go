package repo

import (
	"context"
	"iter"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo/scan"
	"github.com/holdfast-backup/holdfast/internal/repo/tree"
)

// Source is the content of a disk.
type Source = scan.Source

// Progress is what has happened since the last call.
type Progress = scan.Progress

// DefaultReaders is a good number of readers for a local source.
func DefaultReaders() int { return scan.DefaultReaders() }

// DiskInput is a disk to be written.
type DiskInput struct {
	LUN       holdfast.LUN
	SizeBytes int64
	// Base is the disk of a parent point that Extents are changes against; nil says that Extents are all that is not zero.
	// It must be no larger than the disk.
	Base     *holdfast.PointDisk
	Extents  iter.Seq2[holdfast.Extent, error] // sorted, not overlapping; Zero ones read as zeros now
	Source   Source
	Readers  int            // chunk groups read and processed at the same time; 0 means DefaultReaders
	Progress func(Progress) // optional; called from several goroutines
}

// DiskBytesMax is the greatest disk that can be written.
const DiskBytesMax = manifest.DiskBytesMax

// DiskOutput is a disk as written. Publish finds its place by LUN.
type DiskOutput struct {
	Root           holdfast.Root
	ReadBytes      int64 // fetched from the source: whole chunks
	NewBytes       int64 // plain bytes of chunks not stored before
	DuplicateBytes int64 // plain bytes of chunks that were stored already
	ZeroBytes      int64 // read, and found to be zeros
	HealedBytes    int64 // part of NewBytes: what was stored before and had been lost with damaged packs
}

// WriteDisk reads what the extents name, stores the chunks that are new and maps the disk. Chunks are read whole, so an
// extent that covers a part of a chunk reads all of it. After an error the session can only be closed.
func (s *Session) WriteDisk(ctx context.Context, in DiskInput) (DiskOutput, error) {
	if err := checkSize(in.SizeBytes); err != nil {
		return DiskOutput{}, err
	}
	if in.Base != nil && !s.bases[in.Base.Root] {
		return DiskOutput{}, holdfast.Errorf(holdfast.KindInternal, "disk %s is written against a disk that no parent of the session has", in.LUN)
	}
	caller := ctx
	endSession := context.AfterFunc(caller, func() { s.fail(context.Cause(caller)) }) // frees who waits for the session
	defer endSession()
	ctx, cancel := context.WithCancelCause(caller)
	defer cancel(nil)
	endDisk := context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })
	defer endDisk()

	lost, err := s.losses(ctx, in.LUN, in.Base)
	if err != nil {
		s.fail(err)
		return DiskOutput{}, context.Cause(s.ctx)
	}
	base, err := baseOf(in)
	if err != nil {
		return DiskOutput{}, err
	}
	out, err := s.scanner().Run(ctx, scan.Input{
		SizeBytes: in.SizeBytes, Base: base, Lost: lost, Extents: in.Extents, Source: in.Source, Readers: in.Readers, Progress: in.Progress,
	})
	if err != nil {
		if in.Base != nil && isDamage(err) && s.ctx.Err() == nil {
			err = &BaseDamaged{in.LUN, err}
		}
		s.fail(err) // unless something else failed before, which then is the reason
		return DiskOutput{}, context.Cause(s.ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disks[in.LUN] = writtenDisk{out.Top, base, out.Root, in.SizeBytes}
	return DiskOutput{
		Root: out.Root, ReadBytes: out.Read, NewBytes: out.Fresh, DuplicateBytes: out.Duplicate, ZeroBytes: out.Zero, HealedBytes: out.Healed,
	}, nil
}

// baseOf returns the map that a disk is written against.
func baseOf(in DiskInput) (tree.Base, error) {
	if in.Base == nil {
		return tree.Base{}, nil
	}
	if in.Base.SizeBytes > in.SizeBytes {
		return tree.Base{}, holdfast.Errorf(holdfast.KindInvalid, "the disk shrank from %d to %d bytes: it must be read in full", in.Base.SizeBytes, in.SizeBytes)
	}
	top, err := manifest.Top(*in.Base)
	return tree.Base{Top: top, SizeBytes: in.Base.SizeBytes}, err
}

func (s *Session) scanner() scan.Scanner {
	return scan.Scanner{
		Parameters: s.r.params, Hasher: s.r.hasher, Nodes: tree.Nodes{Source: s.r, Sink: s.nodes, Hasher: s.r.hasher},
		NewKeeper: func() scan.Keeper { return (&chunkKeeper{s: s}).keep },
	}
}

func checkSize(bytes int64) error {
	if bytes <= 0 || bytes > DiskBytesMax {
		return holdfast.Errorf(holdfast.KindInvalid, "a disk of %d bytes cannot be mapped: 1 to %d are possible", bytes, int64(DiskBytesMax))
	}
	return nil
}

// chunkKeeper stores what is new of groups. It has its own memory, which one worker uses again for each group.
type chunkKeeper struct {
	s               *Session
	payload, packed []byte
	ids             []chunk.ID
	slots           []int
}

// keep is a scan.Keeper.
func (k *chunkKeeper) keep(ctx context.Context, g *scan.Group) error {
	k.ids, k.payload, k.slots = k.ids[:0], k.payload[:0], k.slots[:0]
	for i := range g.Children {
		if g.Children[i].ID.IsHole() {
			continue
		}
		if err := k.sort(ctx, g, i); err != nil {
			return err
		}
	}
	if len(k.ids) == 0 {
		return nil
	}
	k.packed = k.s.r.codec.Compress(k.packed, k.payload)
	places, err := k.s.chunks.Add(k.packed, len(k.payload), k.ids)
	if err != nil {
		return err
	}
	k.s.remember(k.ids, places)
	for slot, i := range k.slots {
		g.Children[i].Place = &places[slot]
	}
	return nil
}

// sort takes a chunk among those to be stored, unless it is stored already.
func (k *chunkKeeper) sort(ctx context.Context, g *scan.Group, i int) error {
	child, content := &g.Children[i], g.Chunk(i)
	place, err := k.s.find(ctx, child.ID)
	if err != nil {
		return err
	}
	if place != nil {
		child.Place = place
		g.Counts.Duplicate += int64(len(content))
		return nil
	}
	if was, err := k.s.finder.wasStored(ctx, child.ID); err != nil {
		return err
	} else if was {
		g.Counts.Healed += int64(len(content))
		k.s.healed.Store(true)
	}
	k.ids = append(k.ids, child.ID)
	k.slots = append(k.slots, i)
	k.payload = append(k.payload, content...)
	g.Counts.Fresh += int64(len(content))
	return nil
}

// RootInput is disk content whose map root is wanted.
type RootInput struct {
	SizeBytes int64
	Extents   iter.Seq2[holdfast.Extent, error] // all that may be other than zeros
	Source    Source
	Readers   int
	Progress  func(Progress)
}

// RootOf computes the map root of any content. It stores nothing: equal roots prove equal disks.
func (r *Repository) RootOf(ctx context.Context, in RootInput) (holdfast.Root, error) {
	if err := checkSize(in.SizeBytes); err != nil {
		return holdfast.Root{}, err
	}
	out, err := scan.Scanner{
		Parameters: r.params, Hasher: r.hasher, Nodes: tree.Nodes{Source: r, Sink: nowhere{}, Hasher: r.hasher},
		NewKeeper: func() scan.Keeper { return func(context.Context, *scan.Group) error { return nil } },
	}.Run(ctx, scan.Input{SizeBytes: in.SizeBytes, Extents: in.Extents, Source: in.Source, Readers: in.Readers, Progress: in.Progress})
	return out.Root, err
}

// nowhere is a sink for trees of which only the root is wanted.
type nowhere struct{}

// Put implements tree.Sink.
func (nowhere) Put(context.Context, chunk.ID, *tree.Node) (*chunk.Place, error) { return nil, nil }
