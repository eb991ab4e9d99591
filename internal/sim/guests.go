package sim

import (
	"bytes"
	"context"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/protect"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
	"github.com/holdfast-backup/holdfast/internal/work"
)

// What guests write at a time, and where: blocks within the first part of their disks.
const (
	blockBytes   = 64 << 10
	blocksAtMost = 64
	blocksAtOnce = 3
)

// guests write into the disks of the twin's machines, out of the product's sight, and remember what every disk held whenever snapshots of
// it were made.
type guests struct {
	control *control.Client
	random  *rand.Rand
	disks   map[string]*content // by the key of the disk's id, as they are now
	held    map[holdfast.PointID]map[string]content
}

// content is what a disk holds: the seed of each block that was written; the rest is zeros.
type content map[int64]uint64

func newGuests(c *control.Client, seed uint64) *guests {
	random := rand.New(rand.NewPCG(seed, 2))
	return &guests{control: c, random: random, disks: map[string]*content{}, held: map[holdfast.PointID]map[string]content{}}
}

// block returns the bytes of a block with a seed.
func block(seed uint64) []byte {
	data := make([]byte, blockBytes)
	random := rand.New(rand.NewPCG(seed, 3))
	for i := 0; i < blockBytes; i += 8 {
		if i%1024 >= 512 { // half of it can be made smaller
			continue
		}
		binary.LittleEndian.PutUint64(data[i:], random.Uint64())
	}
	return data
}

// write lets the guests of all machines write some blocks into each of their disks.
func (g *guests) write(ctx context.Context) error {
	resources, err := g.control.Resources(ctx)
	if err != nil {
		return err
	}
	var disks []string
	for _, r := range resources {
		if r.Type == "Microsoft.Compute/disks" {
			disks = append(disks, r.ID)
		}
	}
	slices.Sort(disks)
	for _, id := range disks {
		key := holdfast.ResourceID(id).Key()
		if g.disks[key] == nil {
			g.disks[key] = &content{}
		}
		for range blocksAtOnce {
			number, seed := g.random.Int64N(blocksAtMost), g.random.Uint64()
			if err := g.control.Write(ctx, id, number*blockBytes, bytes.NewReader(block(seed)), blockBytes); err != nil {
				return err
			}
			(*g.disks[key])[number] = seed
		}
	}
	return nil
}

// remember keeps what the disks of a set hold now.
func (g *guests) remember(set holdfast.SnapshotSet) {
	held := map[string]content{}
	for _, d := range set.Disks {
		key := d.ID.Key()
		held[key] = content{}
		if now := g.disks[key]; now != nil {
			maps.Copy(held[key], *now)
		}
	}
	g.held[set.Point] = held
}

// watch returns flows that let the guests remember what snapshots are made of.
func (g *guests) watch(f protect.Flows) protect.Flows { return &watched{Flows: f, guests: g} }

type watched struct {
	protect.Flows
	guests *guests
}

// MakeSnapshots implements protect.Flows. Guests do not write while snapshots are made, so that what is remembered is what they hold.
func (w *watched) MakeSnapshots(ctx context.Context, o work.MakeOrder) (holdfast.SnapshotSet, []string, error) {
	made, warnings, err := w.Flows.MakeSnapshots(ctx, o)
	if err == nil {
		w.guests.remember(made)
	}
	return made, warnings, err
}
