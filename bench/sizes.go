package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"text/tabwriter"
)

// sizes measures what the size of chunks does: a full backup, and increments of scattered pages and of runs, each with the change
// list. Frames are 1 MiB, or one chunk where that is larger.
func sizes(ctx context.Context, o options, d disks) error {
	t := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintf(t, "chunk, KiB\tfull, s\tfull, MiB\tpages, s\tpages, MiB\truns, s\truns, MiB\trestore, s\n")
	for _, chunk := range []int{64, 128, 256, 512, 1024} {
		e := ours(o, "chunks of "+strconv.Itoa(chunk)+" KiB", true, "default")
		create := e.create
		e.create = func(e engine, repo string) []string {
			return append(create(e, repo), "--chunk-size", strconv.Itoa(chunk<<10))
		}
		all := results{}
		for range o.rounds {
			if err := oneRound(ctx, o, d, []engine{e}, all); err != nil {
				return err
			}
		}
		of := all[e.name]
		fmt.Fprintf(t, "%d\t%.2f\t%.1f\t%.2f\t%.1f\t%.2f\t%.1f\t%.2f\n", chunk,
			median(of[stepFull], seconds), mib(median(of[stepFull], stored)), median(of[stepPages], seconds), mib(median(of[stepPages], stored)),
			median(of[stepRuns], seconds), mib(median(of[stepRuns], stored)), median(of[stepRestore], seconds))
	}
	return t.Flush()
}
