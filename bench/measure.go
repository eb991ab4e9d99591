package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/clock"
)

// sample is what one whole command took.
type sample struct {
	seconds float64
	cpu     float64 // seconds of processor time, user and system
	peak    int64   // bytes of memory at the most
	stored  int64   // bytes that its repository grew by
}

// measured runs a command to its end and measures it. Whatever it prints is shown only when it fails.
func measured(ctx context.Context, c command) (sample, error) {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = c.dir
	before := folderBytes(c.repo)
	began := clock.System{}.Now()
	out, err := cmd.CombinedOutput()
	took := clock.System{}.Now().Sub(began)
	if err != nil {
		return sample{}, fmt.Errorf("%v: %w\n%s", c.args, err, out)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return sample{}, fmt.Errorf("%v: this system does not tell what memory it took", c.args)
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return sample{took.Seconds(), cpu.Seconds(), usage.Maxrss << 10, folderBytes(c.repo) - before}, nil
}

// folderBytes adds up the files below a folder; one that is not there has none.
func folderBytes(folder string) int64 {
	total := int64(0)
	_ = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error { // what cannot be read is not there
		if err != nil || entry.IsDir() {
			return nil
		}
		if info, err := entry.Info(); err == nil {
			total += info.Size()
		}
		return nil
	})
	return total
}

// median returns the middle of what pick takes from samples.
func median[T cmp.Ordered](samples []sample, pick func(sample) T) T {
	values := make([]T, 0, len(samples))
	for _, s := range samples {
		values = append(values, pick(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func seconds(s sample) float64 { return s.seconds }
func cpu(s sample) float64     { return s.cpu }
func peak(s sample) int64      { return s.peak }
func stored(s sample) int64    { return s.stored }
