package seal

import "github.com/holdfast-backup/holdfast/internal/repo/layout"

// Buffers is memory for packs that is used again: fresh memory of that size takes longer to get than to fill. Unlike a sync.Pool it
// keeps what it has when garbage is collected. A pack that stays small, as those of most increments do, never takes the whole size: it
// begins in little memory and moves. Safe for concurrent use.
type Buffers struct {
	size int
	free chan []byte // of the whole size
}

// The sizes of pack buffers before the whole one: so what is moved is less than a third of a whole pack.
const (
	firstBytes  = 1 << 20
	secondBytes = 4 << 20
)

// keptMax is how many buffers are kept: a session fills and stores three packs of chunks at the same time.
const keptMax = 3

// NewBuffers returns buffers for packs of frames of up to so many plain bytes.
func NewBuffers(frameSize int) *Buffers {
	const directoryBytes = 2 << 20
	return &Buffers{size: layout.PackBytesTarget + frameSize + directoryBytes, free: make(chan []byte, keptMax)}
}

// Size returns the bytes that a buffer of the whole size holds.
func (b *Buffers) Size() int { return b.size }

// Get returns an empty buffer of at least so many bytes, which are no more than Size.
func (b *Buffers) Get(atLeast int) []byte {
	select {
	case buffer := <-b.free:
		return buffer
	default:
	}
	for _, size := range []int{firstBytes, secondBytes} {
		if atLeast <= size && size < b.size {
			return make([]byte, 0, size)
		}
	}
	return make([]byte, 0, b.size)
}

// Fit moves a pack into larger buffers until a frame fits, and reports whether it does.
func (b *Buffers) Fit(w *Writer, plaintext, items int) bool {
	for !w.Fits(plaintext, items, 0) {
		if w.Room() >= b.size {
			return false
		}
		w.Move(b.Get(w.Room() + 1))
	}
	return true
}

// Put takes a buffer back.
func (b *Buffers) Put(buffer []byte) {
	if cap(buffer) < b.size {
		return
	}
	select {
	case b.free <- buffer:
	default: // several sessions at once had more
	}
}
