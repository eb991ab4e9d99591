package seal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/blob/mem"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/keys"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

type fixture struct {
	id    keys.RepositoryID
	ring  *keys.Ring
	codec *seal.Codec
}

func newFixture() fixture {
	id := keys.NewRepositoryID()
	return fixture{id, keys.NewRing(id), seal.NewCodec(1, seal.CompressionDefault, 1<<20)}
}

// payloads compress well, badly and not at all, and are of all sizes that frames have.
func payloads() [][]byte {
	r := rand.New(rand.NewPCG(1, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	return [][]byte{
		{1},
		noise(100), noise(64 << 10), bytes.Repeat([]byte("abc"), 50_000), make([]byte, 1<<20),
		append(noise(30<<10), make([]byte, 2<<10)...), noise(layout.FrameBytesMax), bytes.Repeat([]byte{7}, layout.FrameBytesMax),
	}
}

// build makes a data pack of the payloads, each with one item.
func (f fixture) build(t testing.TB, kind seal.Kind, plain [][]byte) []byte {
	t.Helper()
	w, err := seal.NewWriter(make([]byte, 0, 24<<20), f.ring, seal.NewHeader(kind, f.ring, f.id, holdfast.SessionID{5}))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range plain {
		w.Append(f.codec.Compress(nil, p), len(p), 1, bytes.Repeat([]byte{byte(i)}, seal.ItemsOf(kind)(1)))
	}
	return slices.Clone(w.Finish([]byte("extra")))
}

// Frames come back as they were, from memory and from a store, and the parts of the object fit without a gap.
func TestObject_RoundTrip(t *testing.T) {
	f, want := newFixture(), payloads()
	for _, kind := range []seal.Kind{seal.KindData, seal.KindTree, seal.KindIndex, seal.KindManifest} {
		data := f.build(t, kind, want)
		before := bytes.Clone(data)
		name := layout.Name(kind.ObjectKind(), layout.Sum(data))
		store := mem.New(clock.System{})
		if err := store.Put(t.Context(), name, data, blob.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		fromStore, err := seal.OpenObject(t.Context(), store, name, f.ring, f.codec, int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		object, err := seal.ParseObject(name, data, f.ring, f.codec)
		if err != nil {
			t.Fatal(err)
		}
		if object.Header != fromStore.Header || object.Header.Kind != kind || object.Header.Session != (holdfast.SessionID{5}) || object.Header.Repository != f.id {
			t.Errorf("header %+v", object.Header)
		}
		if len(object.Frames) != len(want) || string(object.Extra) != "extra" || string(fromStore.Extra) != "extra" {
			t.Errorf("%d frames, extra %q", len(object.Frames), object.Extra)
		}
		for i, frame := range object.Frames {
			got, err := object.Opener.Open(nil, bytes.Clone(data[frame.Offset:frame.Offset+int64(frame.Stored)]), frame.Offset, layout.FrameBytesMax)
			if err != nil || !bytes.Equal(got, want[i]) || frame.Plain != len(want[i]) || !bytes.Equal(frame.Data, bytes.Repeat([]byte{byte(i)}, seal.ItemsOf(kind)(1))) {
				t.Errorf("frame %d: %d bytes, %v", i, len(got), err)
			}
		}
		if !bytes.Equal(before, data) {
			t.Error("reading an object in memory changes it")
		}
		if _, err := seal.OpenObject(t.Context(), store, name, f.ring, f.codec, int64(len(data))-1); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("an object over the limit: %v", err)
		}
	}
}

// Incompressible data is kept as it is and costs the overhead alone.
func TestCompress_KeepsWhatDoesNotShrink(t *testing.T) {
	f := newFixture()
	for i, p := range payloads() {
		packed := f.codec.Compress(nil, p)
		if len(packed) > len(p)+1 {
			t.Errorf("payload %d grew from %d to %d bytes", i, len(p), len(packed))
		}
	}
}

// Every flipped bit of the header, the trailer and the directory is refused, and so is every byte that a frame differs in.
func TestObject_EveryBitRefused(t *testing.T) {
	f := newFixture()
	data := f.build(t, seal.KindData, [][]byte{bytes.Repeat([]byte("x"), 1000), []byte("second")})
	open := func() error {
		object, err := seal.ParseObject("data/x", data, f.ring, f.codec)
		if err != nil {
			return err
		}
		for _, frame := range object.Frames {
			if _, err := object.Opener.Open(nil, bytes.Clone(data[frame.Offset:frame.Offset+int64(frame.Stored)]), frame.Offset, layout.FrameBytesMax); err != nil {
				return err
			}
		}
		return nil
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	for bit := range len(data) * 8 {
		data[bit/8] ^= 1 << (bit % 8)
		if err := open(); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Fatalf("bit %d of %d: %v", bit, len(data)*8, err)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	for n := range data {
		if _, err := seal.ParseObject("data/x", data[:n], f.ring, f.codec); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Fatalf("the first %d bytes: %v", n, err)
		}
	}
}

// A frame opens in its place of its object alone: not at another offset, not in another object, not with another ring.
func TestOpener_BindsFrameToItsPlace(t *testing.T) {
	f := newFixture()
	same := [][]byte{bytes.Repeat([]byte("a"), 500), bytes.Repeat([]byte("a"), 500)}
	data, other := f.build(t, seal.KindData, same), f.build(t, seal.KindData, same)
	if bytes.Equal(data, other) {
		t.Error("the same content makes the same object twice")
	}
	object, err := seal.ParseObject("data/x", data, f.ring, f.codec)
	if err != nil {
		t.Fatal(err)
	}
	a, b := object.Frames[0], object.Frames[1]
	if _, err := object.Opener.Open(nil, bytes.Clone(data[a.Offset:a.Offset+int64(a.Stored)]), b.Offset, 1<<20); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a frame opens at another offset: %v", err)
	}
	if _, err := object.Opener.Open(nil, bytes.Clone(other[a.Offset:a.Offset+int64(a.Stored)]), a.Offset, 1<<20); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a frame opens in another object: %v", err)
	}
	if _, err := seal.ParseObject("data/x", data, keys.NewRing(f.id), f.codec); !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("another ring opens the object: %v", err)
	}
	rotated := f.ring.Rotated()
	if _, err := seal.ParseObject("data/x", data, rotated, f.codec); err != nil {
		t.Errorf("a rotated ring does not open an old object: %v", err)
	}
}

// Frames may be sealed in any order and in parallel; Finish waits for all of them.
func TestWriter_SealsInParallel(t *testing.T) {
	f := newFixture()
	w, err := seal.NewWriter(make([]byte, 0, 1<<20), f.ring, seal.NewHeader(seal.KindData, f.ring, f.id, holdfast.SessionID{}))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 50 {
		plaintext := f.codec.Compress(nil, bytes.Repeat([]byte{byte(i)}, 100*i+1))
		r := w.Reserve(len(plaintext), 100*i+1, 1, make([]byte, 32))
		wg.Go(func() { r.Seal(plaintext) })
	}
	data := w.Finish(nil)
	wg.Wait()
	object, err := seal.ParseObject("data/x", data, f.ring, f.codec)
	if err != nil {
		t.Fatal(err)
	}
	for i, frame := range object.Frames {
		got, err := object.Opener.Open(nil, bytes.Clone(data[frame.Offset:frame.Offset+int64(frame.Stored)]), frame.Offset, 1<<20)
		if err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, 100*i+1)) {
			t.Errorf("frame %d: %v", i, err)
		}
	}
}

// Fits is exact: what fits can be added without the buffer moving, and the object with its directory stays inside it.
func TestWriter_FitsItsBuffer(t *testing.T) {
	f := newFixture()
	const room = 10_000
	w, err := seal.NewWriter(make([]byte, 0, room), f.ring, seal.NewHeader(seal.KindData, f.ring, f.id, holdfast.SessionID{}))
	if err != nil {
		t.Fatal(err)
	}
	frames := 0
	for w.Fits(101, 32, 0) {
		w.Append(seal.Stored(nil, make([]byte, 100)), 100, 1, make([]byte, 32))
		frames++
	}
	size := w.Size()
	data := w.Finish(nil)
	if len(data) != size || size > room || room-size >= 101+16+10+32 || w.Frames() != frames {
		t.Errorf("%d bytes, said %d, of %d", len(data), size, room)
	}
}

// A frame that says it is small and grows is stopped at the limit, before it takes the memory.
func TestOpener_StopsBombs(t *testing.T) {
	f := newFixture()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	bomb := encoder.EncodeAll(make([]byte, 512<<20), []byte{1})
	w, err := seal.NewWriter(make([]byte, 0, 1<<20), f.ring, seal.NewHeader(seal.KindData, f.ring, f.id, holdfast.SessionID{}))
	if err != nil {
		t.Fatal(err)
	}
	w.Append(bomb, 100, 1, make([]byte, 32))
	data := w.Finish(nil)
	object, err := seal.ParseObject("data/x", data, f.ring, f.codec)
	if err != nil {
		t.Fatal(err)
	}
	frame := object.Frames[0]
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = object.Opener.Open(nil, data[frame.Offset:frame.Offset+int64(frame.Stored)], frame.Offset, layout.FrameBytesMax)
	runtime.ReadMemStats(&after)
	if !holdfast.IsKind(err, holdfast.KindCorrupt) {
		t.Errorf("a frame of 512 MiB opens: %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
		t.Errorf("refusing it took %d bytes", used)
	}
}

// A trailer whose parts do not fit the size, in whatever way, is refused before anything is allocated for it.
func TestParseTrailer_Bounds(t *testing.T) {
	trailer := func(directory uint64, stored, frames uint32) []byte {
		b := binary.BigEndian.AppendUint64(nil, directory)
		b = binary.BigEndian.AppendUint32(b, stored)
		return binary.BigEndian.AppendUint32(b, frames)
	}
	if got, err := seal.ParseTrailer(trailer(100, 50, 3), 166); err != nil || got.Directory != 100 || got.Stored != 50 || got.Frames != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []struct {
		b    []byte
		size int64
	}{
		{trailer(100, 50, 3), 167},
		{trailer(100, 50, 3), 165},
		{trailer(100, 50, 6), 166},
		{trailer(63, 50, 0), 129},
		{trailer(math.MaxUint64, 50, 0), 65},
		{trailer(100, layout.DirectoryBytesMax+1, 0), 116 + layout.DirectoryBytesMax + 1},
		{trailer(math.MaxInt64, 50, 0), math.MinInt64 + 65},
		{nil, 100},
	} {
		if got, err := seal.ParseTrailer(bad.b, bad.size); !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Errorf("size %d: %+v, %v", bad.size, got, err)
		}
	}
}

// hostileDirectory seals arbitrary bytes as a directory of one object, as somebody who holds the key could.
func (f fixture) hostileDirectory(plain []byte, frames int) (object []byte) {
	header := seal.NewHeader(seal.KindData, f.ring, f.id, holdfast.SessionID{})
	clear := header.Encode()
	aead, err := f.ring.ObjectCipher(header.Generation, header.Random[:])
	if err != nil {
		panic(err)
	}
	var nonce [12]byte
	binary.BigEndian.PutUint64(nonce[4:], seal.HeaderSize)
	stored := aead.Seal(nil, nonce[:], append([]byte{0}, plain...), clear[:])
	object = append(clear[:], stored...)
	object = binary.BigEndian.AppendUint64(object, seal.HeaderSize)
	object = binary.BigEndian.AppendUint32(object, uint32(len(stored)))
	return binary.BigEndian.AppendUint32(object, uint32(frames))
}

// No directory, even one that authenticates, makes the reader panic, or allocate more than a little per byte of it.
func FuzzDirectory(f *testing.F) {
	fix := newFixture()
	f.Add([]byte{}, 0)
	f.Add([]byte{0, 0, 0, 17, 0, 0, 0, 1, 0, 1}, 1)
	f.Add(bytes.Repeat([]byte{0xff}, 100), 3)
	f.Add(bytes.Repeat([]byte{0}, 400), 40)
	f.Fuzz(func(t *testing.T, plain []byte, frames int) {
		object, err := seal.ParseObject("data/x", fix.hostileDirectory(plain, frames), fix.ring, fix.codec)
		if err != nil {
			if !holdfast.IsKind(err, holdfast.KindCorrupt) {
				t.Error(err)
			}
			return
		}
		if len(object.Frames) != 0 { // there is no room for frames before the directory
			t.Errorf("frames %+v", object.Frames)
		}
	})
}

// No bytes make the parsers of header and trailer panic; what they accept comes back in the same bytes.
func FuzzObject(f *testing.F) {
	fix := newFixture()
	f.Add(fix.build(f, seal.KindData, [][]byte{{1, 2, 3}}))
	f.Add(fix.build(f, seal.KindManifest, nil))
	f.Add([]byte("HFST"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if h, err := seal.ParseHeader(data); err == nil {
			if again := h.Encode(); !bytes.Equal(again[:], data[:seal.HeaderSize]) {
				t.Error("the header changes when it is encoded again")
			}
		}
		if len(data) >= seal.TrailerSize {
			_, _ = seal.ParseTrailer(data[len(data)-seal.TrailerSize:], int64(len(data)))
		}
		_, err := seal.ParseObject("data/x", data, fix.ring, fix.codec)
		if err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) {
			t.Error(err)
		}
	})
}

// No frame content, even one that authenticates, makes the decompressor panic or give more than the limit.
func FuzzFrame(f *testing.F) {
	fix := newFixture()
	f.Add(fix.codec.Compress(nil, bytes.Repeat([]byte("a"), 1000)))
	f.Add([]byte{0, 1, 2})
	f.Add([]byte{1, 0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		if len(plaintext) == 0 {
			return
		}
		w, err := seal.NewWriter(make([]byte, 0, len(plaintext)+1024), fix.ring, seal.NewHeader(seal.KindData, fix.ring, fix.id, holdfast.SessionID{}))
		if err != nil {
			t.Fatal(err)
		}
		w.Append(plaintext, 1, 1, make([]byte, 32))
		data := w.Finish(nil)
		object, err := seal.ParseObject("data/x", data, fix.ring, fix.codec)
		if err != nil {
			t.Fatal(err)
		}
		frame := object.Frames[0]
		plain, err := object.Opener.Open(nil, data[frame.Offset:frame.Offset+int64(frame.Stored)], frame.Offset, 1<<16)
		if err != nil && !holdfast.IsKind(err, holdfast.KindCorrupt) || len(plain) > 1<<16 {
			t.Errorf("%d bytes, %v", len(plain), err)
		}
	})
}

// The greatest effort stores less, and what any effort wrote is zstd like any other.
func TestCodec_Compressions(t *testing.T) {
	var payload []byte
	words := rand.New(rand.NewPCG(2, 2))
	for len(payload) < 1<<20 {
		payload = fmt.Appendf(payload, "2026-11-22T%02d:%02d:07Z user=%d path=/var/lib/shop/%x/%d status=%d\n",
			words.IntN(24), words.IntN(60), words.IntN(700), words.Uint32(), words.IntN(90), 200+words.IntN(3))
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	sizes := map[seal.Compression]int{}
	for _, c := range []seal.Compression{seal.CompressionFast, seal.CompressionDefault, seal.CompressionBetter} {
		packed := seal.NewCodec(1, c, 1<<20).Compress(nil, payload)
		sizes[c] = len(packed)
		plain, err := decoder.DecodeAll(packed[1:], nil)
		if err != nil || !bytes.Equal(plain, payload) {
			t.Errorf("%s does not come back: %v", c, err)
		}
	}
	if better := sizes[seal.CompressionBetter]; better >= sizes[seal.CompressionDefault] || better >= sizes[seal.CompressionFast] {
		t.Errorf("the efforts stored %v bytes", sizes)
	}
}
