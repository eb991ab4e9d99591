package export

import (
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// pacedBlobsMax is how many blobs the pacer watches; beyond it starts afresh, which gives each blob one second's worth.
const pacedBlobsMax = 4096

// pacer limits each blob by two buckets that hold one second's worth. A request passes while its bucket is not empty and
// may overdraw it, so that one larger than the bucket passes too and is paid for by those after it.
type pacer struct {
	limit Pacing
	clock clock.Clock

	mu    sync.Mutex
	blobs map[vdisk.ID]*buckets // guarded by mu
}

type buckets struct {
	filled          time.Time
	requests, bytes float64
}

func newPacer(limit Pacing, c clock.Clock) *pacer {
	return &pacer{limit: limit, clock: c, blobs: map[vdisk.ID]*buckets{}}
}

// admit counts a request and reports whether the blob bears it.
func (p *pacer) admit(blob vdisk.ID) bool {
	if p.limit.RequestsPerSecond <= 0 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.refill(blob)
	if b.requests < 1 {
		return false
	}
	b.requests--
	return true
}

// spend counts bytes and reports whether the blob bears them.
func (p *pacer) spend(blob vdisk.ID, bytes int64) bool {
	if p.limit.BytesPerSecond <= 0 {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.refill(blob)
	if b.bytes <= 0 {
		return false
	}
	b.bytes -= float64(bytes)
	return true
}

// refill returns the blob's buckets as they are now. The caller holds mu.
func (p *pacer) refill(blob vdisk.ID) *buckets {
	now := p.clock.Now()
	b, known := p.blobs[blob]
	if !known {
		if len(p.blobs) >= pacedBlobsMax {
			clear(p.blobs)
		}
		b = &buckets{filled: now, requests: max(p.limit.RequestsPerSecond, 1), bytes: p.limit.BytesPerSecond}
		p.blobs[blob] = b
		return b
	}
	seconds := max(now.Sub(b.filled).Seconds(), 0)
	b.filled = now
	b.requests = min(b.requests+seconds*p.limit.RequestsPerSecond, max(p.limit.RequestsPerSecond, 1))
	b.bytes = min(b.bytes+seconds*p.limit.BytesPerSecond, p.limit.BytesPerSecond)
	return b
}
