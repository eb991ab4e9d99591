package sim

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Proof is what was found at the end of a simulation.
type Proof struct {
	Points    int      `json:"points"`    // backups and archives that were read
	Disks     int      `json:"disks"`     // of them
	Snapshots int      `json:"snapshots"` // that exist, each one of a point that is written down
	Wrong     []string `json:"wrong"`     // sentences; empty when all is well
}

// Prove reads every restore point and compares it with what its disks held, and every resource of the twin with what is written down.
func (s *Simulation) Prove(ctx context.Context) (Proof, error) {
	proof := Proof{Wrong: []string{}}
	var points []store.Point
	err := s.db.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		points, err = store.Points(ctx, q, store.PointFilter{States: []store.PointState{store.PointMaking, store.PointKept, store.PointRemoving}, Temporary: true}, store.Page{})
		return err
	})
	if err != nil {
		return proof, err
	}
	byID := map[holdfast.PointID]store.Point{}
	for _, p := range points {
		byID[p.ID] = p
		if p.State != store.PointKept {
			proof.Wrong = append(proof.Wrong, fmt.Sprintf("the %s %s is still %s", p.Kind, p.ID, p.State))
		}
	}
	for _, p := range points {
		if p.State != store.PointKept || p.Kind == holdfast.PointSnapshot {
			continue
		}
		if err := s.provePoint(ctx, p, &proof); err != nil {
			return proof, err
		}
	}
	return proof, s.proveCloud(ctx, points, &proof)
}

// provePoint reads one backup or archive.
func (s *Simulation) provePoint(ctx context.Context, p store.Point, proof *Proof) error {
	r, err := s.repositories.Open(ctx, p.Repository)
	if err != nil {
		return err
	}
	if err := r.Refresh(ctx); err != nil {
		return err
	}
	reader, err := r.OpenPoint(ctx, p.ID)
	if err != nil {
		proof.Wrong = append(proof.Wrong, fmt.Sprintf("the %s %s cannot be opened: %v", p.Kind, p.ID, err))
		return nil
	}
	proof.Points++
	held, known := s.guests.heldBy(reader.Point())
	if !known {
		proof.Wrong = append(proof.Wrong, fmt.Sprintf("the %s %s was read from snapshots that nobody remembers", p.Kind, p.ID))
		return nil
	}
	for _, d := range reader.Point().Disks {
		proof.Disks++
		if err := compare(ctx, reader, d, held[d.ID.Key()]); err != nil {
			proof.Wrong = append(proof.Wrong, fmt.Sprintf("the disk %s of the %s %s of %s: %v", d.Name, p.Kind, p.ID, p.VM.Name(), err))
		}
	}
	return nil
}

// heldBy returns what the disks of a point held when its snapshots were made.
func (g *guests) heldBy(point holdfast.Point) (map[string]content, bool) {
	for _, d := range point.Disks {
		if d.Snapshot == nil {
			continue
		}
		for id, held := range g.held {
			if strings.Contains(d.Snapshot.ID.Name(), string(id)) {
				return held, true
			}
		}
	}
	return nil, false
}

// compare reads a disk of a point and holds it against what it should be.
func compare(ctx context.Context, reader *repo.PointReader, d holdfast.PointDisk, want content) error {
	disk, err := reader.Disk(d.LUN)
	if err != nil {
		return err
	}
	c := &comparison{want: want, seen: map[int64]bool{}}
	if err := disk.CopyTo(ctx, c, repo.CopyOptions{Workers: 1}); err != nil {
		return err
	}
	if len(c.seen) != len(want) {
		return holdfast.Errorf(holdfast.KindCorrupt, "%d blocks of %d are there", len(c.seen), len(want))
	}
	return nil
}

// comparison takes what is read of a disk.
type comparison struct {
	want content

	mu   sync.Mutex
	seen map[int64]bool // guarded by mu
}

// WriteAt implements repo.Target.
func (c *comparison) WriteAt(_ context.Context, p []byte, offset int64) error {
	for at := int64(0); at < int64(len(p)); at += blockBytes {
		number := (offset + at) / blockBytes
		got, want := p[at:min(at+blockBytes, int64(len(p)))], make([]byte, blockBytes)
		seed, written := c.want[number]
		if written {
			want = block(seed)
			c.mu.Lock()
			c.seen[number] = true
			c.mu.Unlock()
		}
		if !bytes.Equal(got, want[:len(got)]) {
			return holdfast.Errorf(holdfast.KindCorrupt, "the bytes at %d are not what the disk held", offset+at)
		}
	}
	return nil
}

// proveCloud compares the snapshots of the twin with those that are written down.
func (s *Simulation) proveCloud(ctx context.Context, points []store.Point, proof *Proof) error {
	known := map[string]bool{}
	for _, p := range points {
		if p.Kind != holdfast.PointSnapshot {
			continue
		}
		set, err := p.Set()
		if err != nil {
			return err
		}
		for _, id := range set.Snapshots() {
			known[id.Key()] = true
		}
	}
	resources, err := s.control.Resources(ctx)
	if err != nil {
		return err
	}
	for _, r := range resources {
		if r.ActiveSAS > 0 {
			proof.Wrong = append(proof.Wrong, "access to "+r.ID+" is still open")
		}
		if r.Type != "Microsoft.Compute/snapshots" {
			continue
		}
		proof.Snapshots++
		key := holdfast.ResourceID(r.ID).Key()
		if !known[key] {
			proof.Wrong = append(proof.Wrong, "nobody knows the snapshot "+r.ID)
		}
		delete(known, key)
	}
	for id := range known {
		proof.Wrong = append(proof.Wrong, "the snapshot "+id+" is written down and does not exist")
	}
	return nil
}
