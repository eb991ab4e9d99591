package main

import (
	"context"
	"crypto/sha512"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"text/tabwriter"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-backup/holdfast"
)

// kernels measures what a repository could be built of, alone, on the disk's own data: rates are MiB of disk data a second on all
// cores, and what compression leaves.
func kernels(ctx context.Context, d disks) error {
	ranges, err := dataRanges(d.base)
	if err != nil {
		return err
	}
	f, err := os.Open(d.base)
	if err != nil {
		return err
	}
	defer f.Close()
	t := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintf(t, "kernel\tMiB/s\tleft\n")
	all := worker{file: f, frames: framesOf(ranges)}
	if _, err := all.each(ctx, func() kernel { return func([]byte) {} }); err != nil { // into the page cache
		return err
	}
	var left atomic.Int64
	for _, k := range candidates(&left) {
		work := all
		if k.frame > 0 {
			work.frames = cut(all.frames, k.frame)
		}
		left.Store(0)
		took, err := work.each(ctx, k.kernel)
		if err != nil {
			return err
		}
		fmt.Fprintf(t, "%s\t%.0f\t", k.name, mib(d.allocated)/took)
		if n := left.Load(); n > 0 {
			fmt.Fprintf(t, "%.1f %%", 100*float64(n)/float64(d.allocated))
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// candidate is one kernel to measure, on frames of at most so many bytes; 0 for 1 MiB.
type candidate struct {
	name   string
	frame  int64
	kernel func() kernel
}

func candidates(left *atomic.Int64) []candidate {
	list := []candidate{
		{"read alone", 0, func() kernel { return func([]byte) {} }},
		{"HMAC-SHA-256 of 128 KiB", 0, hashKernel},
		{"SHA-512", 0, func() kernel { return func(frame []byte) { sha512.Sum512(frame) } }},
		{"AES-256-GCM", 0, sealKernel},
	}
	for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault, zstd.SpeedBetterCompression, zstd.SpeedBestCompression} {
		list = append(list, candidate{"zstd " + level.String() + ", frames of 1 MiB", 0, func() kernel { return zstdKernel(level, left) }})
	}
	for _, kib := range []int64{64, 128, 256, 512} {
		list = append(list, candidate{fmt.Sprintf("zstd default, frames of %d KiB", kib), kib << 10, func() kernel { return zstdKernel(zstd.SpeedDefault, left) }})
	}
	return append(list, candidate{"zstd default, of noise", 0, func() kernel { return noiseKernel(left) }})
}

func cut(parts []holdfast.Extent, size int64) []holdfast.Extent {
	var out []holdfast.Extent
	for _, p := range parts {
		for ; p.Length > 0; p.Offset, p.Length = p.Offset+size, p.Length-size {
			out = append(out, holdfast.Extent{Offset: p.Offset, Length: min(size, p.Length)})
		}
	}
	return out
}

func zstdKernel(level zstd.EncoderLevel, left *atomic.Int64) kernel {
	encoder, target := newEncoder(level), []byte(nil)
	return func(frame []byte) {
		target = encoder.EncodeAll(frame, target[:0])
		left.Add(int64(len(target)))
	}
}

// noiseKernel compresses what cannot be compressed, as often as there are frames.
func noiseKernel(left *atomic.Int64) kernel {
	encoder, target, noise := newEncoder(zstd.SpeedDefault), []byte(nil), make([]byte, frameBytes)
	_, _ = rand.NewChaCha8([32]byte{9}).Read(noise) // never fails
	return func(frame []byte) {
		target = encoder.EncodeAll(noise[:len(frame)], target[:0])
		left.Add(int64(len(target)))
	}
}
