package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/twin"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
)

func (a *app) twinCommand() *cobra.Command {
	disk := command.Group(a.console, "disk", "Write and read disks as their guests would", "", a.twinDiskWrite(), a.twinDiskRead())
	return command.Group(a.console, "twin", "A simulated Azure on this machine",
		`The twin is a simulated Azure: ARM, Entra, managed-disk data and Blob over real HTTP on loopback, with the platform's rules and its bad
manners. Holdfast, Microsoft's SDKs and other clients work against it.`,
		a.twinServe(), disk, a.twinResources())
}

func (a *app) twinServe() *cobra.Command {
	var config twin.Config
	var snapshotRate bool
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve a twin until it is stopped", Args: command.NoArguments,
		Long: `Serve a twin until it is stopped. It prints "ready" when it answers, and writes DIR/azure.yaml, which --azure takes. Ports, credentials
and all state stay the same in DIR across restarts.`,
		Example: `  holdfast twin serve --dir twin --estate estate.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config.Options.SnapshotRateOff = !snapshotRate
			return a.serveTwin(cmd.Context(), config)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&config.Dir, "dir", "", "folder of the twin's state")
	flags.StringVar(&config.EstateFile, "estate", "", "file that declares what exists; for an empty folder, or the same file again")
	flags.StringVar(&config.ARMAddr, "arm", "", "loopback address of ARM and Entra (default: as before, or any free port)")
	flags.StringVar(&config.DataAddr, "data", "", "loopback address of disk and blob data (default: likewise)")
	flags.StringVar(&config.FaultFile, "faults", "", "file that says what goes wrong")
	flags.BoolVar(&config.DataTLS, "data-tls", false, "SAS URLs of disks begin with https")
	flags.BoolVar(&config.Options.RateLimitsOff, "no-rate-limits", false, "no token buckets at ARM and Resource Graph")
	flags.BoolVar(&snapshotRate, "snapshot-rate", false, "refuse more than 7 snapshots of a disk in 5 minutes, as Azure does")
	flags.StringVar(&config.Options.DiskVersion, "disk-version", "", "newest x-ms-version that disk endpoints accept (default: the newest there is)")
	command.Required(cmd, "dir")
	return cmd
}

func (a *app) serveTwin(ctx context.Context, config twin.Config) error {
	config.Clock, config.Log = a.clock, a.log()
	t, err := twin.Start(ctx, config)
	if err != nil {
		return err
	}
	endpoints := t.Endpoints()
	a.console.Note("ARM and Entra  %s", endpoints.ResourceManager)
	a.console.Note("disks, blobs   %s", endpoints.Data)
	a.console.Note("for --azure    %s", endpoints.AzureFile)
	ready := struct {
		Ready     bool   `json:"ready"`
		AzureFile string `json:"azureFile"`
	}{true, endpoints.AzureFile}
	err = a.console.Result(ready, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, "ready")
		return err
	})
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, t.Close(context.WithoutCancel(ctx)))
}

func (a *app) twinDiskWrite() *cobra.Command {
	var dir, disk, source string
	var offset int64
	cmd := &cobra.Command{
		Use: "write", Short: "Write a file's bytes into a disk", Args: command.NoArguments,
		Example: `  holdfast twin disk write --dir twin --disk ID --offset 1048576 --file block.bin`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.writeTwinDisk(cmd.Context(), dir, disk, offset, source)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", "", "folder of a running twin")
	flags.StringVar(&disk, "disk", "", "ARM id of the disk")
	flags.Int64Var(&offset, "offset", 0, "where to write, in bytes")
	flags.StringVar(&source, "file", "", "file whose bytes are written; - is standard input")
	command.Required(cmd, "dir", "disk", "file")
	return cmd
}

func (a *app) writeTwinDisk(ctx context.Context, dir, disk string, offset int64, source string) error {
	client, err := control.Dial(dir)
	if err != nil {
		return err
	}
	defer client.Close()
	var content io.Reader = os.Stdin
	length := int64(-1)
	if source != "-" {
		f, err := os.Open(source)
		if err != nil {
			return holdfast.Wrap(holdfast.KindInvalid, err, "the file cannot be read").WithField("file")
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		content, length = f, info.Size()
	}
	if length < 0 {
		all, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		content, length = strings.NewReader(string(all)), int64(len(all))
	}
	if err := client.Write(ctx, disk, offset, content, length); err != nil {
		return err
	}
	result := struct {
		Disk   string `json:"disk"`
		Offset int64  `json:"offset"`
		Bytes  int64  `json:"bytes"`
	}{disk, offset, length}
	return a.console.Result(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d bytes written at %d\n", length, offset)
		return err
	})
}

func (a *app) twinDiskRead() *cobra.Command {
	var dir, disk, out string
	cmd := &cobra.Command{
		Use: "read", Short: "Read a disk out into a sparse raw file", Args: command.NoArguments,
		Example: `  holdfast twin disk read --dir twin --disk ID --out disk.img`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.readTwinDisk(cmd.Context(), dir, disk, out) },
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", "", "folder of a running twin")
	flags.StringVar(&disk, "disk", "", "ARM id of the disk or snapshot")
	flags.StringVar(&out, "out", "", "file to write")
	command.Required(cmd, "dir", "disk", "out")
	return cmd
}

func (a *app) readTwinDisk(ctx context.Context, dir, disk, out string) error {
	client, err := control.Dial(dir)
	if err != nil {
		return err
	}
	defer client.Close()
	size, err := client.ReadFile(ctx, disk, out)
	if err != nil {
		return err
	}
	result := struct {
		Disk      string `json:"disk"`
		File      string `json:"file"`
		SizeBytes int64  `json:"sizeBytes"`
	}{disk, out, size}
	return a.console.Result(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s\n", out, cli.Bytes(size))
		return err
	})
}

func (a *app) twinResources() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "resources", Short: "List every resource that exists", Args: command.NoArguments,
		Long:    `List every resource that exists, with its active SAS: what a leak check looks at.`,
		Example: `  holdfast twin resources --dir twin`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listTwinResources(cmd.Context(), dir) },
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder of a running twin")
	command.Required(cmd, "dir")
	return cmd
}

func (a *app) listTwinResources(ctx context.Context, dir string) error {
	client, err := control.Dial(dir)
	if err != nil {
		return err
	}
	defer client.Close()
	resources, err := client.Resources(ctx)
	if err != nil {
		return err
	}
	if resources == nil {
		resources = []control.Resource{}
	}
	return a.console.Result(resources, func(w io.Writer) error {
		var rows [][]string
		for _, r := range resources {
			rows = append(rows, []string{r.Type, r.Location, r.SKU, fmt.Sprint(r.ActiveSAS), r.ID})
		}
		return cli.Table(w, []string{"TYPE", "LOCATION", "SKU", "SAS", "ID"}, rows)
	})
}
