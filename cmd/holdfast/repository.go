package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/export"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/storage"
)

func (a *app) repoCommand() *cobra.Command {
	return command.Group(a.console, "repo", "Make, look into, check and read repositories",
		`Work on a repository with nothing but its storage and its password: no server and, for local folders, no cloud is needed.`,
		a.repoInit(), a.repoInfo(), a.repoPoints(), a.repoVerify(), a.repoRebuildIndex(), a.repoExport(), a.repoLocks(), a.repoRemove(), a.repoCollect(),
		a.keyCommand(), a.ownerCommand(), a.repoKit())
}

func (a *app) repoInit() *cobra.Command {
	var o repo.InitOptions
	cmd := &cobra.Command{
		Use: "init", Short: "Make a repository", Args: command.NoArguments,
		Example: `  holdfast repo init --repo /backups --password-file secret
  holdfast repo init --repo azblob://shopvault/backups/eu --azure azure.yaml --password-file secret
  holdfast repo init --repo /backups --azure azure.yaml --vault-key https://shop.vault.azure.net/keys/backup`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.initRepository(cmd.Context(), o) },
	}
	a.repoFlags(cmd)
	cmd.Flags().StringVar(&o.VaultKey, "vault-key", "", "instead of a password: URL of an RSA key in Key Vault, with or without its version; needs --azure")
	cmd.Flags().StringVar(&o.Label, "label", "", "name of the first key slot, for people")
	cmd.Flags().BoolVar(&o.Unencrypted, "unencrypted", false, "keep the key beside the data: whoever reads the storage reads the backups")
	cmd.Flags().IntVar(&o.Parameters.ChunkSize, "chunk-size", 0, "bytes of a chunk, a power of two from 65536 to 4194304 (default 131072)")
	return cmd
}

func (a *app) initRepository(ctx context.Context, o repo.InitOptions) error {
	store, err := a.store(ctx)
	if err != nil {
		return err
	}
	if o.VaultKey == "" || a.passwordFile != "" {
		if o.Password, err = a.password(); err != nil {
			return err
		}
	}
	o.Vault = a.vault()
	if err := storage.MustBeEmpty(ctx, store.Objects); err != nil {
		return err
	}
	o.Clock, o.Tool = a.clock, tool()
	r, err := repo.Init(ctx, store.Objects, o)
	if err != nil {
		return err
	}
	return a.tellInfo(ctx, r)
}

func (a *app) repoInfo() *cobra.Command {
	cmd := &cobra.Command{
		Use: "info", Short: "Show what a repository is and holds", Args: command.NoArguments,
		Example: `  holdfast repo info --repo /backups --password-file secret`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := a.openRepository(cmd.Context())
			if err != nil {
				return err
			}
			return a.tellInfo(cmd.Context(), r)
		},
	}
	a.repoFlags(cmd)
	return cmd
}

func (a *app) tellInfo(ctx context.Context, r *repo.Repository) error {
	info, err := r.Info(ctx)
	if err != nil {
		return err
	}
	return a.console.Result(info, func(w io.Writer) error {
		encryption := "AES-256-GCM"
		if !info.Encrypted {
			encryption = "none: the key lies beside the data"
		}
		rows := [][]string{
			{"repository", info.URL},
			{"id", info.ID},
			{"format", fmt.Sprint(info.Format)},
			{"encryption", encryption},
			{"chunks", cli.Bytes(int64(info.ChunkSize))},
			{"machines", fmt.Sprint(info.VMs)},
			{"restore points", fmt.Sprint(info.Points)},
			{"stored by them", cli.Bytes(info.StoredBytes)},
			{"index runs", fmt.Sprint(info.IndexRuns)},
			{"log entries", fmt.Sprint(info.LogEntries)},
			{"every byte read", show.Since(info.ProvenSince)},
		}
		for _, row := range rows {
			if _, err := fmt.Fprintf(w, "%-15s %s\n", row[0], row[1]); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *app) repoPoints() *cobra.Command {
	var vm string
	cmd := &cobra.Command{
		Use: "points", Short: "List the restore points, oldest first", Args: command.NoArguments,
		Example: `  holdfast repo points --repo /backups --password-file secret --vm web-1`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listPoints(cmd.Context(), vm) },
	}
	a.repoFlags(cmd)
	cmd.Flags().StringVar(&vm, "vm", "", "only those of this machine: its name or ARM id")
	return cmd
}

// pointRow is a restore point in the result of `repo points`. Its disks have what those of `backup` have.
type pointRow struct {
	repo.PointSummary
	Damaged bool        `json:"damaged"`
	Disks   []pointDisk `json:"disks"`
}

type pointDisk struct {
	holdfast.PointDisk
	Reason      holdfast.FullReason `json:"reason"`
	SnapshotSKU string              `json:"snapshotSku"`
}

func newPointRow(p repo.PointSummary) pointRow {
	row := pointRow{PointSummary: p, Disks: []pointDisk{}}
	for _, d := range p.Disks {
		disk := pointDisk{PointDisk: d, Reason: d.Reason}
		if d.Snapshot != nil {
			disk.SnapshotSKU = d.Snapshot.SKU
		}
		row.Disks = append(row.Disks, disk)
	}
	return row
}

// state says in a word what a person must know before trusting the point.
func (p pointRow) state() string {
	switch {
	case p.Damaged:
		return "DAMAGED"
	case len(p.Suspect) > 0:
		return "SUSPECT"
	case p.ProvenAt != nil:
		return "read again"
	}
	return ""
}

func (a *app) listPoints(ctx context.Context, vm string) error {
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	all, err := r.Points()
	if err != nil {
		return err
	}
	damaged, err := r.DamagedPoints(ctx)
	if err != nil {
		return err
	}
	points := []pointRow{}
	for _, p := range all {
		if vm == "" || strings.EqualFold(p.Name, vm) || p.VM.Equal(holdfast.ResourceID(vm)) {
			row := newPointRow(p)
			row.Damaged = damaged[p.ID]
			points = append(points, row)
		}
	}
	return a.console.Result(points, func(w io.Writer) error {
		if len(points) == 0 {
			_, err := fmt.Fprintln(w, "no restore points yet")
			return err
		}
		var rows [][]string
		for _, p := range points {
			var size, read int64
			full := 0
			for _, d := range p.Disks {
				size, read = size+d.SizeBytes, read+d.ReadBytes
				if d.Full {
					full++
				}
			}
			how := "changes"
			if full > 0 {
				how = fmt.Sprintf("%d of %d full", full, len(p.Disks))
			}
			rows = append(rows, []string{
				string(p.ID), p.Name, cli.Time(p.Time), fmt.Sprint(len(p.Disks)), cli.Bytes(size), how, cli.Bytes(read), cli.Bytes(p.StoredBytes), p.state(),
			})
		}
		return cli.Table(w, []string{"POINT", "MACHINE", "TIME", "DISKS", "SIZE", "READ HOW", "READ", "STORED", "STATE"}, rows)
	})
}

func (a *app) repoRebuildIndex() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rebuild-index", Short: "Make the index anew from the packs", Args: command.NoArguments,
		Long: `Make the index anew from the packs. The index is a cache: when it is lost or damaged, restoring still works, but duplicates are not
found any more.`,
		Example: `  holdfast repo rebuild-index --repo /backups --password-file secret`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.rebuildIndex(cmd.Context()) },
	}
	a.repoFlags(cmd)
	return cmd
}

func (a *app) rebuildIndex(ctx context.Context) error {
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	result, err := r.RebuildIndex(ctx, nil)
	if err != nil {
		return err
	}
	if result.Damaged == nil {
		result.Damaged = []string{}
	}
	if err := a.console.Result(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d entries from %d packs in %d runs; %d old runs dropped\n", result.Entries, result.Packs, result.Runs, result.Dropped)
		for _, name := range result.Damaged {
			if err == nil {
				_, err = fmt.Fprintf(w, "damaged  %s\n", name)
			}
		}
		return err
	}); err != nil {
		return err
	}
	if len(result.Damaged) > 0 {
		return command.ErrDamageTold
	}
	return nil
}

func (a *app) repoExport() *cobra.Command {
	var point, disk, out, format string
	var force bool
	cmd := &cobra.Command{
		Use: "export", Short: "Write a disk of a restore point to a file", Args: command.NoArguments,
		Long: `Write a disk of a restore point to a sparse file, without any cloud: raw (the bare disk content), or vhd (a fixed VHD that qemu-img
and Azure read).`,
		Example: `  holdfast repo export --repo /backups --password-file secret --point 20260301-120000-1a2b3c4d --disk os --out web-1.img
  holdfast repo export --repo /backups --password-file secret --point 2026 --disk 0 --out data.vhd --format vhd`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.export(cmd.Context(), point, disk, export.Options{File: out, Format: export.Format(format), Force: force, Clock: a.clock})
		},
	}
	a.repoFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&point, "point", "", "id of the restore point, or the beginning of one")
	flags.StringVar(&disk, "disk", "", "os, or the LUN of a data disk")
	flags.StringVar(&out, "out", "", "file to write")
	flags.StringVar(&format, "format", string(export.Raw), "raw or vhd")
	flags.BoolVar(&force, "force", false, "replace a file that exists")
	command.Required(cmd, "repo", "point", "disk", "out")
	return cmd
}

func (a *app) export(ctx context.Context, point, disk string, o export.Options) error {
	if err := o.Check(); err != nil {
		return err
	}
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	p, err := r.OpenPoint(ctx, holdfast.PointID(point))
	if err != nil {
		return err
	}
	d, err := p.Disk(holdfast.LUN(strings.ToLower(disk)))
	if err != nil {
		return err
	}
	damaged, err := r.DamagedPoints(ctx)
	if err != nil {
		return err
	}
	if damaged[p.Point().ID] { // other disks than the one that was hit can still be written
		a.console.Note("Warning: the restore point %s is damaged; if this disk is hit, nothing will be written.", p.Point().ID)
	}
	progress := a.console.NewProgress(a.clock)
	bar := progress.Bar("export", 0)
	o.Progress = bar.Add
	result, err := export.Run(ctx, d, o)
	progress.Wait(err)
	if err != nil {
		return err
	}
	result.Point, result.Disk = p.Point().ID, holdfast.LUN(strings.ToLower(disk))
	return a.console.Result(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s of %s written, content proven by root %s\n", result.File, cli.Bytes(result.WrittenBytes), cli.Bytes(result.SizeBytes), result.Root)
		return err
	})
}
