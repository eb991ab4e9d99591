package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/holdfast-backup/holdfast/internal/clock"
)

const (
	roadSubscription = "11111111-1111-1111-1111-111111111111"
	roadGroup        = "/subscriptions/" + roadSubscription + "/resourceGroups/shop"
	roadVM           = roadGroup + "/providers/Microsoft.Compute/virtualMachines/web-1"
	roadDisk         = roadGroup + "/providers/Microsoft.Compute/disks/web-1-os"
	roadAccount      = "shopvault"
	roadContainer    = "backups"
)

// road measures the whole way: a VM of the twin whose disk is the filesystem, exported over HTTP through the SDK into a folder and
// into the twin's blob service, and back, with what the twin alone can serve and take as the ceiling.
func road(ctx context.Context, o options, d disks, limits ceiling) error {
	t := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	fmt.Fprintf(t, "step\ts\tMiB/s of disk data\tof the twin alone\n")
	row := func(name string, took, ceiling float64) {
		fmt.Fprintf(t, "%s\t%.2f\t%.0f", name, took, mib(d.allocated)/took)
		if ceiling > 0 {
			fmt.Fprintf(t, "\t%.0f %%", 100*ceiling/took)
		}
		fmt.Fprintln(t)
	}
	for range o.rounds {
		if err := oneJourney(ctx, o, d, row); err != nil {
			return err
		}
	}
	fmt.Fprintf(t, "hash, zstd and AES-GCM alone\t%.2f\t%.0f\n", limits.chain, mib(d.allocated)/limits.chain)
	return t.Flush()
}

func oneJourney(ctx context.Context, o options, d disks, row func(name string, took, ceiling float64)) (err error) {
	place, err := os.MkdirTemp(o.dir, "road-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(place) // of our own making
	stop, err := startTwin(ctx, o, d, place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	guest, err := newVisitor(ctx, place)
	if err != nil {
		return err
	}
	serve, err := guest.serves(ctx, d)
	if err != nil {
		return err
	}
	row("the twin serves the snapshot", serve, 0)
	take, err := guest.takes(ctx, o, d)
	if err != nil {
		return err
	}
	row("the twin takes an upload disk", take, 0)
	for _, repo := range []struct{ name, url string }{
		{"a folder", filepath.Join(place, "repo")}, {"the twin's blobs", "azblob://" + roadAccount + "/" + roadContainer + "/bench"},
	} {
		if err := (journey{o, place, serve, take, row}).backAndForth(ctx, repo.name, repo.url); err != nil {
			return err
		}
	}
	return nil
}

// journey is what the ways through the twin share.
type journey struct {
	o           options
	place       string
	serve, take float64 // seconds that the twin alone takes
	row         func(name string, took, ceiling float64)
}

// backAndForth backs the VM up into a repository and restores it from there.
func (j journey) backAndForth(ctx context.Context, name, url string) error {
	run := func(args ...string) (sample, error) {
		return measured(ctx, command{
			args: append([]string{j.o.holdfast}, append(args, "--repo", url)...), dir: j.place,
			env: []string{"HOLDFAST_REPO_PASSWORD=" + password, "HOLDFAST_AZURE=" + filepath.Join(j.place, "twin", "azure.yaml"), "HOME=" + j.place},
		})
	}
	if _, err := run("repo", "init"); err != nil {
		return err
	}
	s, err := run("backup", "--vm", roadVM)
	if err != nil {
		return err
	}
	j.row("backup into "+name, s.seconds, j.serve)
	s, err = run("restore", "vm", "--point", "2", "--name", "again-"+filepath.Base(url), "--resource-group", "shop")
	if err != nil {
		return err
	}
	j.row("restore from "+name+", read back and compared", s.seconds, j.take)
	return nil
}

// startTwin starts the twin with one VM and waits until it is ready. stop ends it.
func startTwin(ctx context.Context, o options, d disks, place string) (stop func() error, err error) {
	if err := os.Link(d.base, filepath.Join(place, "base.img")); err != nil {
		return nil, err
	}
	estate := fmt.Sprintf(`
subscriptions: [{id: %s, name: production}]
resourceGroups: [{name: shop, subscription: production, location: westeurope}]
networks: [{name: net, resourceGroup: shop, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}]}]
storageAccounts: [{name: %s, resourceGroup: shop, containers: [{name: %s}]}]
virtualMachines:
  - {name: web-1, resourceGroup: shop, size: Standard_D4s_v5, os: Linux, subnet: net/front, osDisk: {name: web-1-os, sizeGiB: %d, sku: Premium_LRS, image: base.img}}
`, roadSubscription, roadAccount, roadContainer, o.disk>>30)
	file := filepath.Join(place, "estate.yaml")
	if err := os.WriteFile(file, []byte(estate), 0o600); err != nil {
		return nil, err
	}
	twin := exec.CommandContext(ctx, o.holdfast, "twin", "serve", "--dir", filepath.Join(place, "twin"), "--estate", file, "--no-rate-limits")
	var said strings.Builder
	twin.Stderr = &said
	twin.Stdout = &said
	if err := twin.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- twin.Wait() }()
	stop = func() error { return errors.Join(twin.Process.Signal(syscall.SIGTERM), <-ended) }
	for {
		if _, err := os.Stat(filepath.Join(place, "twin", "azure.yaml")); err == nil {
			return stop, nil
		}
		select {
		case err := <-ended:
			return nil, fmt.Errorf("the twin ended: %w\n%s", err, said.String())
		default:
		}
		if err := (clock.System{}).Sleep(ctx, pollEvery); err != nil {
			return nil, errors.Join(err, stop())
		}
	}
}
