package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
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

// measureWord, as the first argument, makes this program run one command and say what it took.
const measureWord = "measure-one"

// usage is what the process that runs one command tells.
type usage struct {
	Seconds   float64 `json:"seconds"`
	Processor float64 `json:"processor"`
	PeakBytes int64   `json:"peakBytes"`
}

// measured runs a command to its end and measures it. Whatever it prints is shown only when it fails.
//
// A process of its own, small and fresh, starts the command: the kernel counts what the starting process holds in memory
// into the peak of what it starts, and this one holds a good deal.
func measured(ctx context.Context, c command) (sample, error) {
	program, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	report, told, err := os.Pipe()
	if err != nil {
		return sample{}, err
	}
	defer report.Close()
	cmd := exec.CommandContext(ctx, program, append([]string{measureWord}, c.args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = c.dir
	cmd.ExtraFiles = []*os.File{told}
	before := folderBytes(c.repo)
	out, err := cmd.CombinedOutput()
	told.Close()
	if err != nil {
		return sample{}, fmt.Errorf("%v: %w\n%s", c.args, err, out)
	}
	var took usage
	if err := json.NewDecoder(report).Decode(&took); err != nil {
		return sample{}, fmt.Errorf("%v: this system does not tell what it took: %w", c.args, err)
	}
	return sample{took.Seconds, took.Processor, took.PeakBytes, folderBytes(c.repo) - before}, nil
}

// measureOne is that process: it runs the command and tells on file 3 what it took.
func measureOne(ctx context.Context, args []string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // running the commands it is given is its purpose
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	began := clock.System{}.Now()
	err := cmd.Run()
	took := clock.System{}.Now().Sub(began)
	if err != nil {
		return err
	}
	resources, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("this system does not tell what memory a process took")
	}
	processor := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	report := os.NewFile(reportFile, "report")
	return json.NewEncoder(report).Encode(usage{took.Seconds(), processor.Seconds(), resources.Maxrss << 10})
}

// reportFile is the first file that a process is given beside the standard three.
const reportFile = 3

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
