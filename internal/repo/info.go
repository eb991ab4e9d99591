package repo

import (
	"context"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Info describes a repository for people and scripts.
type Info struct {
	ID          string `json:"id"`
	URL         string `json:"url"`
	Format      int    `json:"format"`
	Encrypted   bool   `json:"encrypted"`
	ChunkSize   int    `json:"chunkSize"` // bytes
	FrameSize   int    `json:"frameSize"` // bytes
	FanOut      int    `json:"fanOut"`
	Owner       string `json:"owner"` // installation that owns the repository, "" for nobody
	VMs         int    `json:"vms"`
	Points      int    `json:"points"`
	StoredBytes int64  `json:"storedBytes"` // added to the store by the visible points
	IndexRuns   int    `json:"indexRuns"`
	LogEntries  uint64 `json:"logEntries"`
	// ProvenSince is the instant since which every stored byte has been read again; absent while a part never was.
	ProvenSince *time.Time `json:"provenSince,omitempty"`
}

// Info sums up the state read last.
func (r *Repository) Info(ctx context.Context) (Info, error) {
	state := r.oplog.State()
	encrypted, err := r.access.Encrypted(ctx)
	if err != nil {
		return Info{}, err
	}
	points, err := r.Points()
	if err != nil {
		return Info{}, err
	}
	info := Info{
		ID: r.ID(), URL: r.URL(), Format: layout.FormatVersion, Encrypted: encrypted, ChunkSize: r.params.ChunkSize, FrameSize: r.params.FrameSize,
		FanOut: r.params.FanOut, Owner: state.Owner, Points: len(points), IndexRuns: len(state.Runs), LogEntries: state.Next,
		ProvenSince: r.ProvenSince(),
	}
	var vms []string
	for _, p := range points {
		vms = append(vms, p.VM.Key())
		info.StoredBytes += p.StoredBytes
	}
	slices.Sort(vms)
	info.VMs = len(slices.Compact(vms))
	return info, nil
}
