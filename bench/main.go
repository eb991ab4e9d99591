// Command bench compares Holdfast with other backup engines on one realistic disk: the same bytes, one run, step by step in turns.
//
// It prints ratios, not verdicts. Peers are restic, and borg and kopia where their programs are found or named. Each round
// gives every engine a fresh repository; the order of engines turns with the round, so that none has the warm cache always.
// The ceilings (hash, zstd, AES alone on the same data, all cores; plain reading and writing) are measured in the same run.
//
//	go run ./bench -dir /var/tmp/bench -data 4GiB -disk 16GiB -rounds 3
//	go run ./bench -dir /var/tmp/bench -mode sizes     # what the size of chunks does to full backups and increments
//	go run ./bench -dir /var/tmp/bench -mode kernels   # hash, compression and cipher alone
//	go run ./bench -dir /var/tmp/bench -mode road      # a VM of the twin, through the SDK, and back
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// options are what a person asks for.
type options struct {
	dir      string
	data     int64 // bytes of files on the disk
	disk     int64 // bytes of the disk
	rounds   int
	mode     string // peers, sizes, kernels or road
	holdfast string
	sources  []string
	engines  []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 1 && args[0] == measureWord {
		return measureOne(ctx, args[1:])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return err
	}
	if o.holdfast == "" {
		o.holdfast = filepath.Join(o.dir, "holdfast")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", o.holdfast, "./cmd/holdfast")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("holdfast cannot be built (run this in the project's folder, or give -holdfast): %w\n%s", err, out)
		}
	}
	disks, err := prepareDisks(ctx, o)
	if err != nil {
		return err
	}
	switch o.mode {
	case "sizes":
		return sizes(ctx, o, disks)
	case "kernels":
		return kernels(ctx, disks)
	}
	limits, err := ceilings(ctx, disks)
	if err != nil {
		return err
	}
	if o.mode == "road" {
		return road(ctx, o, disks, limits)
	}
	return compare(ctx, o, disks, limits)
}

func parse(args []string) (options, error) {
	var o options
	var data, disk, sources, engines string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.dir, "dir", filepath.Join(os.TempDir(), "holdfast-bench"), "folder for the disk and the repositories; wants three times -data")
	flags.StringVar(&data, "data", "4GiB", "bytes of files to fill the disk with")
	flags.StringVar(&disk, "disk", "16GiB", "bytes of the disk")
	flags.IntVar(&o.rounds, "rounds", 3, "how often everything is measured")
	flags.StringVar(&o.mode, "mode", "peers", "what to measure: peers, sizes (of chunks), kernels (hash, compression, cipher) or road (through the simulated Azure)")
	flags.StringVar(&o.holdfast, "holdfast", "", "program to measure; built from this folder when not given")
	flags.StringVar(&sources, "sources", "/usr", "folders, separated by commas, whose files fill the disk")
	flags.StringVar(&engines, "engines", "", "engines to measure, separated by commas; all that are found when not given")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var err error
	if o.data, err = bytesOf(data); err == nil {
		o.disk, err = bytesOf(disk)
	}
	switch {
	case err != nil:
		return o, err
	case o.data > o.disk*4/5:
		return o, errors.New("-data must leave a fifth of -disk free for the filesystem")
	case !slices.Contains([]string{"peers", "sizes", "kernels", "road"}, o.mode):
		return o, fmt.Errorf("-mode %q is not one of peers, sizes, kernels, road", o.mode)
	case o.rounds < 1:
		return o, errors.New("-rounds must be 1 or more")
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	o.sources = strings.Split(sources, ",")
	if engines != "" {
		o.engines = strings.Split(engines, ",")
	}
	return o, nil
}

// bytesOf reads 123, 4MiB or 16GiB.
func bytesOf(text string) (int64, error) {
	factor := int64(1)
	for suffix, f := range map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, factor = rest, f
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is not a size: write 512MiB or 4GiB", text)
	}
	return n * factor, nil
}
