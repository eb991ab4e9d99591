// Package seal is the container that data packs, tree packs, index runs and manifests share: a header, sealed frames without
// gaps, a sealed directory and a trailer. The bytes are specified in doc/format.md §5.
//
// A Writer builds one object in a buffer it is given; frames may be sealed in parallel. A reader opens frames by offset and
// stored length, which is all that a hint or the index knows, or walks the directory. Nothing here touches storage.
package seal

import (
	"crypto/cipher"
	"encoding/binary"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
)

// Sizes of the container's parts, in bytes.
const (
	HeaderSize   = 64
	TrailerSize  = 16
	Overhead     = 1 + tagSize // codec byte and authentication tag of a frame
	tagSize      = 16
	recordSize   = 10
	versionOne   = 1
	randomOffset = 48
)

// Kind is the kind of a sealed object.
type Kind byte

// The kinds of sealed object.
const (
	KindData     Kind = 1
	KindTree     Kind = 2
	KindTableRun Kind = 3 // an index run with a pack table: read, and not written any more
	KindManifest Kind = 4
	KindIndex    Kind = 5
)

// ObjectKind returns the kind of name that goes with k, Foreign for an unknown one.
func (k Kind) ObjectKind() layout.Kind {
	switch k {
	case KindData:
		return layout.DataPack
	case KindTree:
		return layout.TreePack
	case KindIndex, KindTableRun:
		return layout.IndexRun
	case KindManifest:
		return layout.Manifest
	}
	return layout.Foreign
}

// Header is the clear beginning of a sealed object. It is associated data of every frame.
type Header struct {
	Kind       Kind
	Generation uint32
	Repository keys.RepositoryID
	Session    holdfast.SessionID
	Random     [16]byte
}

// NewHeader draws the random bytes of a new object.
func NewHeader(kind Kind, ring *keys.Ring, repository keys.RepositoryID, session holdfast.SessionID) Header {
	return Header{Kind: kind, Generation: ring.Current(), Repository: repository, Session: session, Random: [16]byte(keys.Random(16))}
}

// Encode returns the header's bytes.
func (h Header) Encode() [HeaderSize]byte {
	var b [HeaderSize]byte
	copy(b[:4], magic)
	b[4] = versionOne
	b[5] = byte(h.Kind)
	binary.BigEndian.PutUint32(b[8:], h.Generation)
	copy(b[16:], h.Repository[:])
	copy(b[32:], h.Session[:])
	copy(b[randomOffset:], h.Random[:])
	return b
}

const magic = "HFST"

// ParseHeader reads the first HeaderSize bytes of an object. Anything but a version 1 header of a known kind is KindCorrupt.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize || string(b[:4]) != magic {
		return Header{}, corrupt("it does not begin like a sealed object")
	}
	if b[4] != versionOne || Kind(b[5]).ObjectKind() == layout.Foreign {
		return Header{}, corrupt("its container version %d, kind %d is unknown", b[4], b[5])
	}
	for _, i := range []int{6, 7, 12, 13, 14, 15} {
		if b[i] != 0 {
			return Header{}, corrupt("a reserved byte of its header is set")
		}
	}
	return Header{
		Kind: Kind(b[5]), Generation: binary.BigEndian.Uint32(b[8:]),
		Repository: keys.RepositoryID(b[16:32]), Session: holdfast.SessionID(b[32:48]), Random: [16]byte(b[randomOffset:HeaderSize]),
	}, nil
}

// Opener opens the frames of one object. Safe for concurrent use.
type Opener struct {
	aead   cipher.AEAD
	header [HeaderSize]byte
	codec  *Codec
}

// NewOpener prepares to open frames of the object that begins with header.
func NewOpener(ring *keys.Ring, header Header, codec *Codec) (*Opener, error) {
	aead, err := ring.ObjectCipher(header.Generation, header.Random[:])
	if err != nil {
		return nil, err
	}
	return &Opener{aead: aead, header: header.Encode(), codec: codec}, nil
}

// Open authenticates and decompresses the frame stored at offset. The result is appended to target[:0] where it fits.
// Stored bytes are overwritten. A frame that does not authenticate, or that grows beyond limit, is KindCorrupt.
func (o *Opener) Open(target, stored []byte, offset int64, limit int) ([]byte, error) {
	nonce := frameNonce(offset)
	plain, err := o.aead.Open(stored[:0], nonce[:], stored, o.header[:])
	if err != nil {
		return nil, corrupt("the frame at offset %d does not authenticate", offset)
	}
	if len(plain) == 0 {
		return nil, corrupt("the frame at offset %d is empty", offset)
	}
	return o.codec.decode(target[:0], plain[0], plain[1:], limit)
}

func frameNonce(offset int64) [12]byte {
	var nonce [12]byte
	binary.BigEndian.PutUint64(nonce[4:], uint64(offset))
	return nonce
}

func corrupt(format string, args ...any) error {
	return holdfast.Errorf(holdfast.KindCorrupt, format, args...)
}

// Codec bytes of a frame.
const (
	codecStored = 0
	codecZstd   = 1
)

// Codec compresses and decompresses frames. Safe for concurrent use; shared by everything that opens one repository.
type Codec struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder
}

// Compression is how much effort the writer spends; readers need not know. The zero value is CompressionDefault.
type Compression string

// The efforts. On a disk of files CompressionBetter stores some 2 % less than the default in twice the time, and
// CompressionFast some 5 % more in two thirds of it (doc/performance.md).
const (
	CompressionFast    Compression = "fast"
	CompressionDefault Compression = "default"
	CompressionBetter  Compression = "better"
)

func (c Compression) level() zstd.EncoderLevel {
	switch c {
	case CompressionFast:
		return zstd.SpeedFastest
	case CompressionBetter:
		return zstd.SpeedBetterCompression
	case CompressionDefault:
	}
	return zstd.SpeedDefault
}

// NewCodec returns a codec with the given parallelism and compression for payloads of up to frameSize bytes.
func NewCodec(concurrency int, c Compression, frameSize int) *Codec {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(c.level()), zstd.WithEncoderConcurrency(concurrency), zstd.WithEncoderCRC(false),
		zstd.WithWindowSize(window(frameSize)))
	holdfast.Invariant(err == nil, "the zstd encoder's options are valid: %v", err)
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(concurrency), zstd.WithDecoderMaxMemory(layout.FrameBytesMax), zstd.WithDecodeAllCapLimit(false))
	holdfast.Invariant(err == nil, "the zstd decoder's options are valid: %v", err)
	return &Codec{encoder: encoder, decoder: decoder}
}

// window returns how far back an encoder looks: over a whole frame, there is nothing beyond. It has twice that in memory, and would take
// 16 MiB if it were left to choose. Below 128 KiB its blocks would become smaller.
func window(frameSize int) int {
	return max(1<<bits.Len(uint(frameSize-1)), 128<<10)
}

// Compress returns the frame's plaintext: codec byte and payload, in target's memory where it fits. A payload that does
// not shrink by at least 1/32 is kept as it is.
func (c *Codec) Compress(target, payload []byte) []byte {
	target = append(target[:0], codecZstd)
	target = c.encoder.EncodeAll(payload, target)
	if len(target)-1 <= len(payload)-len(payload)/32 {
		return target
	}
	return Stored(target, payload)
}

// Stored returns the frame's plaintext for a payload kept as it is.
func Stored(target, payload []byte) []byte {
	target = append(target[:0], codecStored)
	return append(target, payload...)
}

func (c *Codec) decode(target []byte, codec byte, payload []byte, limit int) ([]byte, error) {
	switch codec {
	case codecStored:
		if len(payload) > limit {
			return nil, corrupt("a frame holds %d bytes, more than %d", len(payload), limit)
		}
		return append(target, payload...), nil
	case codecZstd:
		plain, err := c.decoder.DecodeAll(payload, target)
		if err != nil {
			return nil, corrupt("a frame does not decompress: %v", err)
		}
		if len(plain) > limit {
			return nil, corrupt("a frame holds %d bytes, more than %d", len(plain), limit)
		}
		return plain, nil
	}
	return nil, corrupt("a frame has the unknown codec %d", codec)
}

// Frame is a frame's place in its object, as the directory states it.
type Frame struct {
	Offset int64
	Stored int // bytes in the object
	Plain  int // bytes of the payload
	Items  int
	Data   []byte // the items' bytes
}

// Writer builds one sealed object. Reserve and Finish belong to one goroutine at a time; Seal calls of different frames
// may run in parallel.
type Writer struct {
	header  Header
	clear   [HeaderSize]byte
	aead    cipher.AEAD
	buffer  []byte
	records []byte
	frames  int
	pending sync.WaitGroup
}

// NewWriter starts an object in buffer, whose capacity bounds the object: Fits tells when it is full. Move gives it a larger one.
func NewWriter(buffer []byte, ring *keys.Ring, header Header) (*Writer, error) {
	aead, err := ring.ObjectCipher(header.Generation, header.Random[:])
	if err != nil {
		return nil, err
	}
	clear := header.Encode()
	return &Writer{header: header, clear: clear, aead: aead, buffer: append(buffer[:0], clear[:]...)}, nil
}

// Room returns the bytes that the object may have in its buffer.
func (w *Writer) Room() int { return cap(w.buffer) }

// Move makes the object go on in another, larger buffer. It waits for the frames that are being sealed.
func (w *Writer) Move(buffer []byte) {
	w.pending.Wait()
	w.buffer = append(buffer[:0], w.buffer...)
}

// Size returns the bytes that the object has so far, directory and trailer included.
func (w *Writer) Size() int {
	return len(w.buffer) + len(w.records) + Overhead + TrailerSize
}

// Frames returns the number of frames reserved so far.
func (w *Writer) Frames() int { return w.frames }

// Fits reports whether a frame with that much plaintext and item bytes still fits the buffer, with room for extra
// directory bytes.
func (w *Writer) Fits(plaintext, items, extra int) bool {
	return w.Size()+plaintext+tagSize+recordSize+items+extra <= cap(w.buffer)
}

// Reservation is the place of a frame that is still to be sealed.
type Reservation struct {
	Offset int64
	Stored int
	w      *Writer
	place  []byte // the frame's part of the buffer
}

// Reserve gives the next frame its place. plaintext is the length of what Seal will get, plain the length of the payload
// before compression; items is the frame's directory data, count its number of items. The frame must fit.
func (w *Writer) Reserve(plaintext, plain, count int, items []byte) Reservation {
	holdfast.Invariant(w.Fits(plaintext, len(items), 0), "a frame of %d bytes does not fit a pack with %d of %d bytes used", plaintext, w.Size(), cap(w.buffer))
	start := len(w.buffer)
	w.buffer = w.buffer[:start+plaintext+tagSize]
	r := Reservation{Offset: int64(start), Stored: plaintext + tagSize, w: w, place: w.buffer[start:start:len(w.buffer)]}
	w.records = binary.BigEndian.AppendUint32(w.records, uint32(r.Stored))
	w.records = binary.BigEndian.AppendUint32(w.records, uint32(plain))
	w.records = binary.BigEndian.AppendUint16(w.records, uint16(count))
	w.records = append(w.records, items...)
	w.frames++
	w.pending.Add(1)
	return r
}

// Seal encrypts the frame's plaintext, as Compress or Stored made it, into its place.
func (r Reservation) Seal(plaintext []byte) {
	defer r.w.pending.Done()
	holdfast.Invariant(len(plaintext)+tagSize == r.Stored, "a frame of %d bytes was reserved for %d", r.Stored, len(plaintext))
	nonce := frameNonce(r.Offset)
	r.w.aead.Seal(r.place, nonce[:], plaintext, r.w.clear[:])
}

// Append reserves and seals in one step.
func (w *Writer) Append(plaintext []byte, plain, count int, items []byte) Reservation {
	r := w.Reserve(len(plaintext), plain, count, items)
	r.Seal(plaintext)
	return r
}

// Finish waits for all frames, writes directory and trailer and returns the object's bytes, which live in the buffer.
// extra follows the frame records in the directory.
func (w *Writer) Finish(extra []byte) []byte {
	w.pending.Wait()
	offset := int64(len(w.buffer))
	plaintext := append(append([]byte{codecStored}, w.records...), extra...)
	nonce := frameNonce(offset)
	w.buffer = w.aead.Seal(w.buffer, nonce[:], plaintext, w.clear[:])
	stored := int64(len(w.buffer)) - offset
	w.buffer = binary.BigEndian.AppendUint64(w.buffer, uint64(offset))
	w.buffer = binary.BigEndian.AppendUint32(w.buffer, uint32(stored))
	w.buffer = binary.BigEndian.AppendUint32(w.buffer, uint32(w.frames))
	return w.buffer
}

// Trailer says where an object's directory is.
type Trailer struct {
	Directory int64 // offset
	Stored    int
	Frames    int
}

// Items returns how many items the directory of a pack has, which its length tells: each is an id of 32 bytes.
func (t Trailer) Items() int64 {
	return max(0, int64(t.Stored-Overhead)-int64(t.Frames)*recordSize) / 32
}

// ParseTrailer reads the last TrailerSize bytes of an object of the given size and checks that the parts fit without a gap.
func ParseTrailer(b []byte, size int64) (Trailer, error) {
	if len(b) != TrailerSize || size < HeaderSize+Overhead+TrailerSize {
		return Trailer{}, corrupt("it is too short to be a sealed object")
	}
	t := Trailer{
		Directory: int64(binary.BigEndian.Uint64(b)), Stored: int(binary.BigEndian.Uint32(b[8:])), Frames: int(binary.BigEndian.Uint32(b[12:])),
	}
	if t.Directory < HeaderSize || t.Stored > layout.DirectoryBytesMax || t.Directory != size-TrailerSize-int64(t.Stored) ||
		t.Frames > t.Stored/recordSize {
		return Trailer{}, corrupt("its trailer does not fit its size")
	}
	return t, nil
}

// Directory opens the directory and returns the frames' places and the extra bytes. Stored bytes are overwritten.
func (o *Opener) Directory(stored []byte, t Trailer, itemSize func(items int) int) (frames []Frame, extra []byte, err error) {
	rest, err := o.Open(nil, stored, t.Directory, layout.DirectoryBytesMax)
	if err != nil {
		return nil, nil, err
	}
	frames = make([]Frame, 0, t.Frames)
	offset := int64(HeaderSize)
	for range t.Frames {
		if len(rest) < recordSize {
			return nil, nil, corrupt("its directory is cut short")
		}
		f := Frame{
			Offset: offset, Stored: int(binary.BigEndian.Uint32(rest)), Plain: int(binary.BigEndian.Uint32(rest[4:])),
			Items: int(binary.BigEndian.Uint16(rest[8:])),
		}
		data := itemSize(f.Items)
		if f.Stored < Overhead || f.Plain > layout.FrameBytesMax || len(rest)-recordSize < data {
			return nil, nil, corrupt("a frame record of its directory is out of bounds")
		}
		f.Data = rest[recordSize : recordSize+data]
		rest = rest[recordSize+data:]
		offset += int64(f.Stored)
		frames = append(frames, f)
	}
	if offset != t.Directory {
		return nil, nil, corrupt("its frames do not add up to its directory's offset")
	}
	return frames, rest, nil
}

// ItemsOf returns the item size function for a kind: how many directory bytes a frame's items take.
func ItemsOf(kind Kind) func(items int) int {
	switch kind {
	case KindData, KindTree:
		return func(items int) int { return items * 32 }
	case KindTableRun:
		return func(int) int { return 64 }
	case KindIndex:
		return func(items int) int { return min(items, 1) * 8 }
	case KindManifest:
	}
	return func(int) int { return 0 }
}
