package seal_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/seal"
)

// A pack that grows moves into larger memory while its frames are still being sealed: all of them come back, nothing fits at the end that
// is beyond the whole size, and memory of that size is handed out again. A pack that stays small takes a small part of it.
func TestBuffers_PacksMove(t *testing.T) {
	f, buffers := newFixture(), seal.NewBuffers(1<<20)
	writer := func() *seal.Writer {
		w, err := seal.NewWriter(buffers.Get(0), f.ring, seal.NewHeader(seal.KindData, f.ring, f.id, holdfast.SessionID{5}))
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	small := writer()
	buffers.Fit(small, 300<<10, 32)
	small.Append(make([]byte, 300<<10), 300<<10, 1, make([]byte, 32))
	if small.Room() > 1<<20 {
		t.Errorf("a small pack takes %d bytes of memory", small.Room())
	}
	buffers.Put(small.Finish(nil))

	random, w := rand.NewChaCha8([32]byte{1}), writer()
	var plain [][]byte
	var sealing sync.WaitGroup
	rooms := map[int]bool{}
	for {
		payload := make([]byte, 1+random.Uint64()%(300<<10))
		_, _ = random.Read(payload) // it never fails
		stored := seal.Stored(nil, payload)
		if !buffers.Fit(w, len(stored), 32) {
			break
		}
		plain = append(plain, payload)
		r := w.Reserve(len(stored), len(payload), 1, make([]byte, 32))
		sealing.Go(func() { r.Seal(stored) })
		rooms[w.Room()] = true
	}
	sealing.Wait()
	data := w.Finish(nil)
	if len(rooms) < 3 || cap(data) != buffers.Size() || len(data) < layout.PackBytesTarget {
		t.Errorf("%d bytes in memory of %v bytes", len(data), rooms)
	}
	mustHold(t, f, data, plain)
	buffers.Put(data)
	if again := buffers.Get(0); cap(again) != buffers.Size() || &again[:1][0] != &data[0] {
		t.Error("the memory of a whole pack is not used again")
	}
	if run := buffers.Get(9 << 20); cap(run) < 9<<20 {
		t.Errorf("%d bytes were asked for, %d came", 9<<20, cap(run))
	}
}

// Nothing moves while a frame is being sealed.
func TestWriter_MoveWaits(t *testing.T) {
	f := newFixture()
	w, err := seal.NewWriter(make([]byte, 0, 2000), f.ring, seal.NewHeader(seal.KindData, f.ring, f.id, holdfast.SessionID{5}))
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Repeat([]byte("plain"), 200)
	r := w.Reserve(len(plain)+1, len(plain), 1, make([]byte, 32))
	moved := make(chan struct{})
	go func() {
		defer close(moved)
		w.Move(make([]byte, 0, 4000))
	}()
	for range 10_000 {
		runtime.Gosched()
		select {
		case <-moved:
			t.Fatal("it moved")
		default:
		}
	}
	r.Seal(seal.Stored(nil, plain))
	<-moved
	mustHold(t, f, w.Finish(nil), [][]byte{plain})
}

// mustHold opens all frames of an object and compares them.
func mustHold(t *testing.T, f fixture, data []byte, plain [][]byte) {
	t.Helper()
	object, err := seal.ParseObject("data/x", data, f.ring, f.codec)
	if err != nil || len(object.Frames) != len(plain) {
		t.Fatalf("%d frames were written: %v", len(plain), err)
	}
	for i, frame := range object.Frames {
		got, err := object.Opener.Open(nil, bytes.Clone(data[frame.Offset:frame.Offset+int64(frame.Stored)]), frame.Offset, layout.FrameBytesMax)
		if err != nil || !bytes.Equal(got, plain[i]) {
			t.Fatalf("frame %d of %d differs: %v", i, len(plain), err)
		}
	}
}

// An encoder's memory follows the size of frames: left to choose, it takes 16 MiB for each processor.
func BenchmarkCodec_First(b *testing.B) {
	for _, size := range []int{256 << 10, 1 << 20, layout.FrameBytesMax} {
		payload := bytes.Repeat([]byte("abcdefg "), size/8)
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				seal.NewCodec(1, seal.CompressionDefault, size).Compress(nil, payload)
			}
		})
	}
}
