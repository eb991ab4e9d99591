// Package pack gathers what a session writes into packs: sealed frames of chunks, and tree nodes, which wait until the packs that
// they point to have names.
//
// It promises that memory is bounded (a few packs of each kind, and a queue of nodes), that nobody waits for ever, and that a pack is
// announced only when it is stored. It must never decide what is worth storing: that is the session's.
package pack

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

const (
	// packsMax is how many packs of one kind a session fills and stores at the same time.
	packsMax = 3
	// itemsMax closes a pack that compresses extremely well, so that what waits for its name stays bounded.
	itemsMax = 32 << 10
)

// Item is a chunk or a node in a pack.
type Item struct {
	ID     chunk.ID
	Offset uint32 // of the frame in the pack
	Stored uint32 // bytes of the frame
	Slot   uint16
}

// Options say for whom packs are made.
type Options struct {
	Buffers    *seal.Buffers
	Ring       *keys.Ring
	Repository keys.RepositoryID
	Session    holdfast.SessionID
	// Put stores a pack and returns its name.
	Put func(ctx context.Context, kind layout.Kind, data []byte) (string, error)
	// Stored is called once for each stored pack, from any goroutine.
	Stored func(name string, items []Item) error
	// Failed is called when something cannot be stored, from any goroutine.
	Failed func(error)
}

// Packer gathers sealed frames of one kind into packs and stores them. Safe for concurrent use.
type Packer struct {
	o       Options
	kind    seal.Kind
	room    chan struct{} // one token per pack that may be in memory
	uploads *errgroup.Group
	ctx     context.Context // ends when an upload fails or the session does

	mu      sync.Mutex // guards current
	current *openPack
}

type openPack struct {
	ref   *chunk.PackRef
	w     *seal.Writer
	items []Item
}

// New returns a packer of one kind. It works until ctx ends.
func New(ctx context.Context, kind seal.Kind, o Options) *Packer {
	p := &Packer{o: o, kind: kind, room: make(chan struct{}, packsMax)}
	p.uploads, p.ctx = errgroup.WithContext(ctx)
	return p
}

// Add puts one frame into the current pack. plaintext is what Codec.Compress returned, plain the length before it; ids
// are the frame's items in order of slot. The returned places are known by pack reference until the pack is stored.
func (p *Packer) Add(plaintext []byte, plain int, ids []chunk.ID) ([]chunk.Place, error) {
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
		pack.items = append(pack.items, Item{ID: id, Offset: uint32(reservation.Offset), Stored: uint32(reservation.Stored), Slot: uint16(slot)})
	}
	p.mu.Unlock()
	reservation.Seal(plaintext)
	return places, nil
}

// here returns the reference of the pack that the next frame of that size goes into.
func (p *Packer) here(plaintext int) (*chunk.PackRef, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pack, err := p.packFor(plaintext, len(chunk.ID{}), 1)
	if err != nil {
		return nil, err
	}
	return pack.ref, nil
}

// packFor returns a pack with room, closing a full one. The caller holds mu.
func (p *Packer) packFor(plaintext, items, count int) (*openPack, error) {
	if c := p.current; c != nil && (c.w.Size() >= layout.PackBytesTarget || len(c.items)+count > itemsMax || !p.o.Buffers.Fit(c.w, plaintext, items)) {
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
	w, err := seal.NewWriter(p.o.Buffers.Get(0), p.o.Ring, seal.NewHeader(p.kind, p.o.Ring, p.o.Repository, p.o.Session))
	if err != nil {
		return nil, err
	}
	p.o.Buffers.Fit(w, plaintext, items)
	p.current = &openPack{ref: chunk.NewPackRef(), w: w}
	return p.current, nil
}

// close hands the current pack to an upload of its own. The caller holds mu.
func (p *Packer) close() {
	pack := p.current
	p.current = nil
	if pack == nil {
		return
	}
	p.uploads.Go(func() error {
		err := p.upload(pack)
		if err != nil {
			p.o.Failed(err)
		}
		return err
	})
}

func (p *Packer) upload(pack *openPack) error {
	data := pack.w.Finish(nil)
	name, err := p.o.Put(p.ctx, p.kind.ObjectKind(), data)
	p.o.Buffers.Put(data)
	<-p.room
	if err != nil {
		return err
	}
	if err := p.o.Stored(name, pack.items); err != nil {
		return err
	}
	pack.ref.Resolve(name)
	return nil
}

// Rotate closes the current pack early, because somebody waits for its name.
func (p *Packer) Rotate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
}

// Flush stores what is open and waits until all packs are stored. Nothing may be added afterwards.
func (p *Packer) Flush() error {
	p.Rotate()
	return p.uploads.Wait()
}

// Wait waits for the uploads of a session that has ended for a reason of its own.
func (p *Packer) Wait() { _ = p.uploads.Wait() } // the session knows why
