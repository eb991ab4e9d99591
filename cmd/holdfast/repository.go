package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/export"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

func (a *app) repoCommand() *cobra.Command {
	return a.group("repo", "Make, look into, check and read repositories",
		`Work on a repository with nothing but its storage and its password: no server and, for local folders, no cloud is needed.`,
		a.repoInit(), a.repoInfo(), a.repoPoints(), a.repoVerify(), a.repoRebuildIndex(), a.repoExport(), a.repoLocks(), a.repoRemove(), a.repoCollect())
}

func (a *app) repoInit() *cobra.Command {
	var o repo.InitOptions
	cmd := &cobra.Command{
		Use: "init", Short: "Make a repository", Args: noArguments,
		Example: `  holdfast repo init --repo /backups --password-file secret
  holdfast repo init --repo azblob://shopvault/backups/eu --azure azure.yaml --password-file secret`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.initRepository(cmd.Context(), o) },
	}
	a.repoFlags(cmd)
	cmd.Flags().BoolVar(&o.Unencrypted, "unencrypted", false, "keep the key beside the data: whoever reads the storage reads the backups")
	cmd.Flags().IntVar(&o.Parameters.ChunkSize, "chunk-size", 0, "bytes of a chunk, a power of two from 65536 to 4194304 (default 131072)")
	return cmd
}

func (a *app) initRepository(ctx context.Context, o repo.InitOptions) error {
	store, err := a.store(ctx)
	if err != nil {
		return err
	}
	if o.Password, err = a.password(); err != nil {
		return err
	}
	if err := mustBeEmpty(ctx, store); err != nil {
		return err
	}
	o.Clock, o.Tool = a.clock, tool()
	r, err := repo.Init(ctx, store.objects, o)
	if err != nil {
		return err
	}
	return a.tellInfo(ctx, r)
}

// logFolder shows that a repository is there, which repo.Init refuses by itself; keysFolder holds what an interrupted one left.
const logFolder, keysFolder = "log/", "keys/"

// mustBeEmpty refuses a place with other things in it: they would be taken for damage, and for parts of a backup.
func mustBeEmpty(ctx context.Context, store openStore) error {
	for _, err := range store.objects.List(ctx, logFolder) {
		return err
	}
	for object, err := range store.objects.List(ctx, "") {
		if err != nil {
			return err
		}
		if !strings.HasPrefix(object.Name, keysFolder) {
			return holdfast.Errorf(holdfast.KindInvalid, "%s is not empty: %s is there", store.objects.URL(), object.Name).WithField("repo").
				WithHint("name an empty folder, or one that does not exist yet")
		}
	}
	return nil
}

func (a *app) repoInfo() *cobra.Command {
	cmd := &cobra.Command{
		Use: "info", Short: "Show what a repository is and holds", Args: noArguments,
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
		Use: "points", Short: "List the restore points, oldest first", Args: noArguments,
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
	Disks []pointDisk `json:"disks"`
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

func (a *app) listPoints(ctx context.Context, vm string) error {
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	all, err := r.Points()
	if err != nil {
		return err
	}
	points := []pointRow{}
	for _, p := range all {
		if vm == "" || strings.EqualFold(p.Name, vm) || p.VM.Equal(holdfast.ResourceID(vm)) {
			points = append(points, newPointRow(p))
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
				string(p.ID), p.Name, cli.Time(p.Time), fmt.Sprint(len(p.Disks)), cli.Bytes(size), how, cli.Bytes(read), cli.Bytes(p.StoredBytes),
			})
		}
		return cli.Table(w, []string{"POINT", "MACHINE", "TIME", "DISKS", "SIZE", "READ HOW", "READ", "STORED"}, rows)
	})
}

func (a *app) repoVerify() *cobra.Command {
	var level int
	cmd := &cobra.Command{
		Use: "verify", Short: "Check a repository for damage", Args: noArguments,
		Long: `Check a repository for damage. Level 1 reads all stored bytes and needs no password; level 2 decrypts everything and follows
every restore point to its last chunk. Without --level: 2 when the password is given, else 1. The exit code is 4 when damage is found.`,
		Example: `  holdfast repo verify --repo /backups --password-file secret
  holdfast repo verify --repo /backups --level 1`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.verify(cmd.Context(), repo.VerifyLevel(level)) },
	}
	a.repoFlags(cmd)
	cmd.Flags().IntVar(&level, "level", 0, "1: stored bytes, 2: everything")
	return cmd
}

func (a *app) verify(ctx context.Context, level repo.VerifyLevel) error {
	if level < 0 || level > repo.VerifyComplete {
		return holdfast.Errorf(holdfast.KindInvalid, "level %d is not known", level).WithField("level").WithHint("give --level 1 or --level 2")
	}
	store, err := a.store(ctx)
	if err != nil {
		return err
	}
	o := repo.VerifyOptions{Level: level, Clock: a.clock}
	if o.Repository, err = a.openForVerify(ctx, store, level); err != nil {
		return err
	}
	if o.Level == 0 {
		o.Level = repo.VerifyStored
		if o.Repository != nil {
			o.Level = repo.VerifyComplete
		}
	}
	progress := a.console.NewProgress(a.clock)
	bar := progress.Bar("verify", 0)
	o.Progress = func(_ int, bytes int64) { bar.Add(bytes) }
	report, err := repo.Verify(ctx, store.objects, o)
	progress.Wait(err)
	if err != nil {
		return err
	}
	if err := a.console.Result(report, func(w io.Writer) error { return tellReport(w, report) }); err != nil {
		return err
	}
	if !report.OK {
		return errDamageTold
	}
	return nil
}

// openForVerify opens the repository where that is possible and wanted. Without a password, or when damage prevents opening,
// verification goes on without a key.
func (a *app) openForVerify(ctx context.Context, store openStore, level repo.VerifyLevel) (*repo.Repository, error) {
	password, err := a.password()
	if err != nil {
		return nil, err
	}
	r, err := repo.Open(ctx, store.objects, repo.OpenOptions{Password: password, Clock: a.clock, Tool: tool(), Log: a.log()})
	switch {
	case err == nil:
		return r, nil
	case level != repo.VerifyComplete && holdfast.IsKind(err, holdfast.KindCorrupt):
		a.console.Note("Warning: the repository cannot be opened (%v); checking stored bytes without a key", err)
		return nil, nil
	case level != repo.VerifyComplete && holdfast.IsKind(err, holdfast.KindWrongKey) && password == "":
		return nil, nil
	}
	return nil, withOpenHint(err, store.objects.URL())
}

func tellReport(w io.Writer, report repo.Report) error {
	verdict := "The repository is sound"
	if !report.OK {
		verdict = "The repository is damaged"
	}
	if _, err := fmt.Fprintf(w, "%s: %d objects, %s, checked at level %d\n", verdict, report.Checked, cli.Bytes(report.Bytes), report.Level); err != nil {
		return err
	}
	if report.Orphans > 0 {
		if _, err := fmt.Fprintf(w, "%d objects belong to no restore point: leftovers of runs that died or still work\n", report.Orphans); err != nil {
			return err
		}
	}
	if len(report.Shadowed) > 0 {
		_, err := fmt.Fprintf(w, "Somebody overwrote or deleted %d objects; their older versions are whole and answer in their place. The first: %s\n", len(report.Shadowed), report.Shadowed[0])
		if err != nil {
			return err
		}
	}
	for _, o := range report.Objects {
		if _, err := fmt.Fprintf(w, "damaged  %s: %s\n", o.Name, o.Problem); err != nil {
			return err
		}
	}
	for _, id := range report.Points {
		if _, err := fmt.Fprintf(w, "hit      restore point %s\n", id); err != nil {
			return err
		}
	}
	for _, vm := range report.VMs {
		if _, err := fmt.Fprintf(w, "hit      machine %s\n", vm); err != nil {
			return err
		}
	}
	if report.OK {
		return nil
	}
	return tellLines(w, whatToDo(report))
}

// whatToDo says what a person can do about damage.
func whatToDo(report repo.Report) []string {
	var lines []string
	if len(report.Points) > 0 {
		lines = append(lines, "Restore points that are not named are unhurt.")
	}
	for _, o := range report.Objects {
		if strings.HasPrefix(o.Name, "data/") || strings.HasPrefix(o.Name, "tree/") || strings.HasPrefix(o.Name, "index/") {
			return append(lines, "Bring the damaged objects back from a copy of the storage if there is one. Else move those in data and tree out of the repository",
				"and run: holdfast repo rebuild-index. The next full backup (--full) then writes lost parts again where the source still has them.")
		}
	}
	return append(lines, "Bring the damaged objects back from a copy of the storage if there is one.")
}

func (a *app) repoRebuildIndex() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rebuild-index", Short: "Make the index anew from the packs", Args: noArguments,
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
		return errDamageTold
	}
	return nil
}

func (a *app) repoExport() *cobra.Command {
	var point, disk, out, format string
	var force bool
	cmd := &cobra.Command{
		Use: "export", Short: "Write a disk of a restore point to a file", Args: noArguments,
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
	required(cmd, "repo", "point", "disk", "out")
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
