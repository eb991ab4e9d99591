package repo

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/index"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

const (
	// packBuffersMax is how many packs of one kind a session fills and stores at the same time.
	packBuffersMax = 3
	// packItemsMax closes a pack that compresses extremely well, so that what waits for its name stays bounded.
	packItemsMax = 32 << 10
)

// packBuffers is memory for packs that is used again: fresh memory of that size takes longer to get than to fill. Unlike a
// sync.Pool it keeps what it has when garbage is collected.
type packBuffers struct {
	size int // bytes: the target, one more frame of the greatest size, and a directory
	free chan []byte
}

func newPackBuffers(frameSize int) *packBuffers {
	return &packBuffers{size: layout.PackBytesTarget + frameSize + 2<<20, free: make(chan []byte, packBuffersMax)}
}

func (b *packBuffers) get() []byte {
	select {
	case buffer := <-b.free:
		return buffer
	default:
		return make([]byte, 0, b.size)
	}
}

func (b *packBuffers) put(buffer []byte) {
	select {
	case b.free <- buffer:
	default: // several sessions at once had more
	}
}

// packer gathers sealed frames of one kind into packs and stores them. Safe for concurrent use.
type packer struct {
	r       *Repository
	kind    seal.Kind
	session holdfast.SessionID
	stored  func(name string, entries []index.Entry) error // called once per stored pack, from any goroutine
	failed  func(error)                                    // called when a pack cannot be stored, from any goroutine
	room    chan struct{}                                  // one token per pack that may be in memory
	uploads *errgroup.Group
	ctx     context.Context // ends when an upload fails or the session does

	mu      sync.Mutex // guards current
	current *openPack
}

type openPack struct {
	ref     *chunk.PackRef
	w       *seal.Writer
	buffer  []byte
	entries []index.Entry
}

func newPacker(s *Session, kind seal.Kind) *packer {
	p := &packer{r: s.r, kind: kind, session: s.id, stored: s.packStored, failed: s.fail, room: make(chan struct{}, packBuffersMax)}
	p.uploads, p.ctx = errgroup.WithContext(s.ctx)
	return p
}

// add puts one frame into the current pack. plaintext is what Codec.Compress returned, plain the length before it; ids
// are the frame's items in order of slot. The returned places are known by pack reference until the pack is stored.
func (p *packer) add(plaintext []byte, plain int, ids []chunk.ID) ([]chunk.Place, error) {
	items := make([]byte, 0, len(ids)*len(chunk.ID{}))
	for i := range ids {
		items = append(items, ids[i][:]...)
	}
	p.mu.Lock()
	pack, err := p.packFor(len(plaintext), len(items), len(ids))
	if err != nil {
		p.mu.Unlock()
		return nil, err
	}
	reservation := pack.w.Reserve(len(plaintext), plain, len(ids), items)
	places := make([]chunk.Place, len(ids))
	for slot, id := range ids {
		places[slot] = chunk.Place{Pack: pack.ref, Offset: reservation.Offset, Stored: reservation.Stored, Slot: slot}
		pack.entries = append(pack.entries, index.Entry{ID: id, Offset: uint32(reservation.Offset), Stored: uint32(reservation.Stored), Slot: uint16(slot)})
	}
	p.mu.Unlock()
	reservation.Seal(plaintext)
	return places, nil
}

// here returns the reference of the pack that the next frame of that size goes into.
func (p *packer) here(plaintext int) (*chunk.PackRef, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pack, err := p.packFor(plaintext, len(chunk.ID{}), 1)
	if err != nil {
		return nil, err
	}
	return pack.ref, nil
}

// packFor returns a pack with room, closing a full one. The caller holds mu.
func (p *packer) packFor(plaintext, items, count int) (*openPack, error) {
	if c := p.current; c != nil && (!c.w.Fits(plaintext, items, 0) || c.w.Size() >= layout.PackBytesTarget || len(c.entries)+count > packItemsMax) {
		p.close()
	}
	if p.current != nil {
		return p.current, nil
	}
	if p.ctx.Err() != nil { // an upload failed: nothing is worth being read any more
		return nil, context.Cause(p.ctx)
	}
	select {
	case p.room <- struct{}{}:
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	}
	buffer := p.r.packBuffers.get()
	w, err := seal.NewWriter(buffer, p.r.ring, seal.NewHeader(p.kind, p.r.ring, p.r.id, p.session))
	if err != nil {
		return nil, err
	}
	p.current = &openPack{ref: chunk.NewPackRef(), w: w, buffer: buffer}
	return p.current, nil
}

// close hands the current pack to an upload of its own. The caller holds mu.
func (p *packer) close() {
	pack := p.current
	p.current = nil
	if pack == nil {
		return
	}
	p.uploads.Go(func() error {
		err := p.upload(pack)
		if err != nil {
			p.failed(err)
		}
		return err
	})
}

func (p *packer) upload(pack *openPack) error {
	name, err := p.r.put(p.ctx, p.kind.ObjectKind(), pack.w.Finish(nil))
	p.r.packBuffers.put(pack.buffer)
	<-p.room
	if err != nil {
		return err
	}
	if err := p.stored(name, pack.entries); err != nil {
		return err
	}
	pack.ref.Resolve(name)
	return nil
}

// rotate closes the current pack early, because somebody waits for its name.
func (p *packer) rotate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
}

// flush stores what is open and waits until all packs are stored. Nothing may be added afterwards.
func (p *packer) flush() error {
	p.rotate()
	return p.uploads.Wait()
}
