package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// ceiling is what the work inside a backup takes alone, on the same data and all cores, in seconds.
type ceiling struct {
	data                        int64 // bytes of the disk that are not holes
	hash, compress, seal, chain float64
	open                        float64 // decrypt and decompress
	read, write                 float64 // plain, sequential; write is synced
}

const frameBytes = 1 << 20

// ceilings measures them. The data is read once before, so that all find it in the page cache.
func ceilings(ctx context.Context, d disks) (ceiling, error) {
	ranges, err := dataRanges(d.base)
	if err != nil {
		return ceiling{}, err
	}
	f, err := os.Open(d.base)
	if err != nil {
		return ceiling{}, err
	}
	defer f.Close()
	work := worker{file: f, frames: framesOf(ranges)}
	if _, err := work.each(ctx, func() kernel { return func([]byte) {} }); err != nil {
		return ceiling{}, err
	}
	c := ceiling{data: d.allocated}
	var left atomic.Int64
	packed := &packedFrames{}
	for _, m := range []struct {
		into   *float64
		kernel func() kernel
	}{
		{&c.read, func() kernel { return func([]byte) {} }},
		{&c.hash, hashKernel},
		{&c.compress, func() kernel { return zstdKernel(zstd.SpeedDefault, &left) }},
		{&c.seal, sealKernel},
		{&c.chain, func() kernel { return chainKernel(packed) }},
	} {
		if *m.into, err = work.each(ctx, m.kernel); err != nil {
			return c, err
		}
	}
	if c.open, err = packed.open(ctx); err != nil {
		return c, err
	}
	c.write, err = writeAll(d)
	return c, err
}

func framesOf(ranges []holdfast.Extent) []holdfast.Extent {
	var frames []holdfast.Extent
	for _, r := range ranges {
		for offset := r.Offset; offset < r.End(); {
			next := min((offset/frameBytes+1)*frameBytes, r.End())
			frames = append(frames, holdfast.Extent{Offset: offset, Length: next - offset})
			offset = next
		}
	}
	return frames
}

// kernel does one thing to a frame. Each goroutine has one of its own.
type kernel func(frame []byte)

type worker struct {
	file   *os.File
	frames []holdfast.Extent
}

// each runs a kernel over all frames on all cores and returns the seconds it took, reading from the page cache included.
func (w worker) each(ctx context.Context, fresh func() kernel) (float64, error) {
	return eachPart(ctx, w.file, w.frames, runtime.GOMAXPROCS(0), func() partTask {
		run := fresh()
		return func(_ context.Context, _ holdfast.Extent, data []byte) error {
			run(data)
			return nil
		}
	})
}

// partTask does something with a part of a file. Each goroutine has one of its own.
type partTask func(ctx context.Context, part holdfast.Extent, data []byte) error

// eachPart hands parts of a file to so many goroutines and returns the seconds that they took, reading included.
func eachPart(ctx context.Context, file *os.File, parts []holdfast.Extent, goroutines int, fresh func() partTask) (float64, error) {
	longest := int64(0)
	for _, part := range parts {
		longest = max(longest, part.Length)
	}
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	began := clock.System{}.Now()
	for range goroutines {
		g.Go(func() error {
			do, buffer := fresh(), make([]byte, longest)
			for i := next.Add(1) - 1; i < int64(len(parts)) && gctx.Err() == nil; i = next.Add(1) - 1 {
				data := buffer[:parts[i].Length]
				if _, err := file.ReadAt(data, parts[i].Offset); err != nil {
					return err
				}
				if err := do(gctx, parts[i], data); err != nil {
					return err
				}
			}
			return gctx.Err()
		})
	}
	err := g.Wait()
	return clock.System{}.Now().Sub(began).Seconds(), err
}

func hashKernel() kernel {
	mac := hmac.New(sha256.New, make([]byte, 32))
	sum := make([]byte, 0, 32)
	return func(frame []byte) { hashChunks(mac, sum, frame) }
}

func hashChunks(mac hash.Hash, sum, frame []byte) {
	for len(frame) > 0 {
		chunk := frame[:min(len(frame), chunkBytes)]
		mac.Reset()
		mac.Write(chunk)
		mac.Sum(sum)
		frame = frame[len(chunk):]
	}
}

func newEncoder(level zstd.EncoderLevel) *zstd.Encoder {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	holdfast.Invariant(err == nil, "the encoder's options are valid: %v", err)
	return encoder
}

func newAEAD() cipher.AEAD {
	block, err := aes.NewCipher(make([]byte, 32))
	holdfast.Invariant(err == nil, "a key of 32 bytes is a key: %v", err)
	aead, err := cipher.NewGCM(block)
	holdfast.Invariant(err == nil, "AES has GCM: %v", err)
	return aead
}

func sealKernel() kernel {
	aead, target := newAEAD(), []byte(nil)
	return func(frame []byte) { target = aead.Seal(target[:0], make([]byte, 12), frame, nil) }
}

// chainKernel does what no backup can do without: hash, compress, encrypt. What it made is kept for open.
func chainKernel(keep *packedFrames) kernel {
	mac, encoder, aead := hmac.New(sha256.New, make([]byte, 32)), newEncoder(zstd.SpeedDefault), newAEAD()
	sum, packed, sealed := make([]byte, 0, 32), []byte(nil), []byte(nil)
	return func(frame []byte) {
		hashChunks(mac, sum, frame)
		packed = encoder.EncodeAll(frame, packed[:0])
		sealed = aead.Seal(sealed[:0], make([]byte, 12), packed, nil)
		keep.add(sealed)
	}
}

// packedFrames samples sealed frames: one in keepOneIn is kept and opened again as often.
type packedFrames struct {
	count atomic.Int64
	kept  [1 << 12]atomic.Pointer[[]byte]
}

const keepOneIn = 16

func (p *packedFrames) add(sealed []byte) {
	n := p.count.Add(1) - 1
	if n%keepOneIn != 0 || n/keepOneIn >= int64(len(p.kept)) {
		return
	}
	own := append([]byte(nil), sealed...)
	p.kept[n/keepOneIn].Store(&own)
}

// open decrypts and decompresses as many frames as were sealed.
func (p *packedFrames) open(ctx context.Context) (float64, error) {
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	began := clock.System{}.Now()
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			aead, plain, frame := newAEAD(), []byte(nil), []byte(nil)
			decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
			if err != nil {
				return err
			}
			defer decoder.Close()
			for i := next.Add(1) - 1; i < p.count.Load() && gctx.Err() == nil; i = next.Add(1) - 1 {
				sealed := p.kept[i/keepOneIn%int64(len(p.kept))].Load()
				if sealed == nil {
					continue
				}
				if plain, err = aead.Open(plain[:0], make([]byte, 12), *sealed, nil); err != nil {
					return err
				}
				if frame, err = decoder.DecodeAll(plain, frame[:0]); err != nil {
					return err
				}
			}
			return gctx.Err()
		})
	}
	err := g.Wait()
	return clock.System{}.Now().Sub(began).Seconds(), err
}

// writeAll writes as many bytes as the disk has data, one after the other, and syncs.
func writeAll(d disks) (took float64, err error) {
	f, err := os.CreateTemp("", "holdfast-bench-write-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	source, err := os.Open(d.base)
	if err != nil {
		return 0, err
	}
	defer source.Close()
	ranges, err := dataRanges(d.base)
	if err != nil {
		return 0, err
	}
	buffer := make([]byte, frameBytes)
	began := clock.System{}.Now()
	for _, frame := range framesOf(ranges) {
		part := buffer[:frame.Length]
		if _, err := source.ReadAt(part, frame.Offset); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if _, err := f.Write(part); err != nil {
			return 0, err
		}
	}
	err = f.Sync()
	return clock.System{}.Now().Sub(began).Seconds(), err
}

// tell prints the ceilings, and how near a full backup and a restore come.
func (c ceiling) tell(w io.Writer, full, restore float64) error {
	rate := func(seconds float64) float64 { return mib(c.data) / seconds }
	_, err := fmt.Fprintf(w, `
ceilings on %d cores, MiB/s of disk data: hash %.0f, zstd %.0f, AES-GCM %.0f, all three %.0f; decrypt and decompress %.0f; read %.0f, write and sync %.0f
full backup: %.0f %% of hash + zstd + AES alone; restore: %.0f %% of decrypt + decompress alone, %.0f %% of plain writing
`, runtime.GOMAXPROCS(0), rate(c.hash), rate(c.compress), rate(c.seal), rate(c.chain), rate(c.open), rate(c.read), rate(c.write),
		100*c.chain/full, 100*c.open/restore, 100*c.write/restore)
	return err
}
