package collect

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/chunk"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// packer writes packs of one kind, one after the other.
type packer struct {
	p       *Plan
	kind    seal.Kind
	buffers *seal.Buffers
	w       *seal.Writer
	ref     *chunk.PackRef
	items   int
	places  []Located // all that was written; names are known once all packs are stored
	bytes   int64     // stored
}

const packItemsMax = 32 << 10

func newPacker(p *Plan, kind seal.Kind) *packer {
	return &packer{p: p, kind: kind, buffers: seal.NewBuffers(layout.FrameBytesMax)}
}

// here returns the pack that the next frame goes into, if it is no larger than a node.
func (k *packer) here(ctx context.Context) (*chunk.PackRef, error) {
	err := k.room(ctx, layout.NodeBytesMax+1, 1)
	return k.ref, err
}

// room makes sure that a frame of that size fits the current seal.
func (k *packer) room(ctx context.Context, plaintext, items int) error {
	if k.w != nil && k.w.Size() < layout.PackBytesTarget && k.items+items <= packItemsMax && k.buffers.Fit(k.w, plaintext, 32*items) {
		return nil
	}
	if err := k.finish(ctx); err != nil {
		return err
	}
	w, err := seal.NewWriter(k.buffers.Get(0), k.p.c.Ring, seal.NewHeader(k.kind, k.p.c.Ring, k.p.c.ID, k.p.session))
	if err != nil {
		return err
	}
	k.buffers.Fit(w, plaintext, 32*items)
	k.w, k.ref, k.items = w, chunk.NewPackRef(), 0
	return nil
}

// add writes one frame: plaintext is what Codec.Compress or seal.Stored returned, plain the length before it.
func (k *packer) add(ctx context.Context, plaintext []byte, plain int, ids []chunk.ID) ([]chunk.Place, error) {
	if err := k.room(ctx, len(plaintext), len(ids)); err != nil {
		return nil, err
	}
	items := make([]byte, 0, 32*len(ids))
	for i := range ids {
		items = append(items, ids[i][:]...)
	}
	r := k.w.Append(plaintext, plain, len(ids), items)
	places := make([]chunk.Place, len(ids))
	for slot, id := range ids {
		places[slot] = chunk.Place{Pack: k.ref, Offset: r.Offset, Stored: r.Stored, Slot: slot}
		k.places = append(k.places, Located{id, places[slot]})
	}
	k.items += len(ids)
	k.bytes += int64(r.Stored)
	return places, nil
}

// finish stores the current seal. Its name is known afterwards.
func (k *packer) finish(ctx context.Context) error {
	if k.w == nil {
		return nil
	}
	data := k.w.Finish(nil)
	name := layout.Name(k.kind.ObjectKind(), layout.Sum(data))
	if err := k.p.c.Store.Put(ctx, name, data, blob.PutOptions{}); err != nil && !errors.Is(err, blob.ErrExists) {
		return err
	}
	k.buffers.Put(data)
	k.ref.Resolve(name)
	k.w, k.ref = nil, nil
	return nil
}
