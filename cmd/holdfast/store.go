package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob/blobtest"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/image"
)

func (a *app) imageCommand() *cobra.Command {
	config := image.Config{Clock: a.clock}
	var since, lockFor string
	backup := &cobra.Command{
		Use: "backup FILE", Short: "Back up a raw disk image as a one-disk machine",
		Long: `Back up a raw disk image, or a block device, as a one-disk machine. A file has no change list of its own: all that is not a hole is read, and
what is stored already is found by its content. Who knows what changed since a restore point (from a hypervisor's dirty bitmap, say) gives it
with --changes: lines of offset and length in bytes. Then only that is read, and the rest is taken from the point, unseen.`,
		Example: `  holdfast image backup --repo /backups --password-file secret --name router router.img
  holdfast image backup --repo /backups --password-file secret --name router --since 20261122-211606 --changes ranges.txt router.img`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return holdfast.Errorf(holdfast.KindInvalid, "one image is backed up at a time, %d were named", len(args)).WithField("file").
					WithHint("write: holdfast image backup --repo URL --name NAME FILE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			config.File, config.Since = args[0], holdfast.PointID(since)
			return a.backupImage(cmd.Context(), config, lockFor)
		},
	}
	a.repoFlags(backup)
	a.writeFlags(backup)
	lockFlag(backup, &lockFor)
	backup.Flags().StringVar(&config.Name, "name", "", "name under which the repository knows the machine")
	backup.Flags().StringVar(&config.Changes, "changes", "", "file with the ranges that changed: lines of offset and length in bytes")
	backup.Flags().StringVar(&since, "since", "", "restore point that --changes counts from")
	command.Required(backup, "repo", "name")
	return command.Group(a.console, "image", "Back up disk images", "", backup)
}

func (a *app) backupImage(ctx context.Context, config image.Config, lockFor string) error {
	if err := config.Check(); err != nil {
		return err
	}
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	if config.RetainUntil, err = retainUntil(ctx, r, lockFor); err != nil {
		return err
	}
	began := a.clock.Now()
	progress := a.console.NewProgress(a.clock)
	config.Repository = r
	config.Progress = func(position, size int64) { progress.Bar(config.Name, size).At(position) }
	result, err := image.Backup(ctx, config)
	progress.Wait(err)
	if err != nil {
		return err
	}
	result.StoredBytes = a.added.Bytes(wrap.OpPut)
	return a.console.Result(result, func(w io.Writer) error { return tellBackup(w, result, a.clock.Now().Sub(began)) })
}

func (a *app) storageCommand() *cobra.Command {
	check := &cobra.Command{
		Use: "check", Short: "Run the conformance suite against a store", Args: command.NoArguments,
		Long: `Run the conformance suite against a store: does it keep the promises that a repository rests on? Objects are made under a folder of their own
and removed again.`,
		Example: `  holdfast storage check --repo /backups
  holdfast storage check --repo azblob://shopvault/backups/eu --azure azure.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.checkStorage(cmd.Context()) },
	}
	a.repoFlags(check)
	return command.Group(a.console, "storage", "Check object stores", "", check)
}

// checkRow is one rule in the result of `storage check`.
type checkRow struct {
	Name    string           `json:"name"`
	Rule    string           `json:"rule"`
	Outcome blobtest.Outcome `json:"outcome"`
	Detail  string           `json:"detail,omitempty"`
}

func (a *app) checkStorage(ctx context.Context) error {
	store, err := a.store(ctx)
	if err != nil {
		return err
	}
	o := blobtest.Options{
		Remover: store.Remover, Locker: store.Locker, Versioned: store.Versioned, Clock: a.clock,
		Prefix: "storage-check-" + a.clock.Now().UTC().Format("20060102-150405"),
		Done:   a.tellCheck,
	}
	checks, err := blobtest.Run(ctx, store.Objects, o)
	if store.Local != nil {
		err = errors.Join(err, store.Local.RemoveFolders(o.Prefix))
	}
	if err != nil {
		return err
	}
	result := struct {
		OK     bool       `json:"ok"`
		URL    string     `json:"url"`
		Checks []checkRow `json:"checks"`
	}{blobtest.Broken(checks) == nil, store.Objects.URL(), []checkRow{}}
	counts := map[blobtest.Outcome]int{}
	for _, c := range checks {
		counts[c.Outcome]++
		result.Checks = append(result.Checks, checkRow{c.Name, c.Rule, c.Outcome, c.Detail})
	}
	if err := a.console.Result(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "\n%s: %d rules kept, %d broken, %d not checked\n", result.URL, counts[blobtest.Passed], counts[blobtest.Failed], counts[blobtest.Skipped])
		return err
	}); err != nil {
		return err
	}
	if !result.OK {
		return command.ErrTold
	}
	return nil
}

// tellCheck tells one rule as soon as it is known: for people it is a part of the result, beside JSON it is progress.
func (a *app) tellCheck(c blobtest.Check) {
	line := fmt.Sprintf("%-8s %s", c.Outcome, c.Rule)
	if c.Detail != "" {
		line += " (" + c.Detail + ")"
	}
	if a.console.JSON {
		a.console.Note("%s", line)
		return
	}
	_, _ = fmt.Fprintln(a.console.Out, line) // a closed output shows in the summary
}

func (a *app) vmCommand() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Short: "List the virtual machines that the account sees", Args: command.NoArguments,
		Example: `  holdfast vm list --azure azure.yaml`,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.listVMs(cmd.Context()) },
	}
	a.azureFlag(list)
	return command.Group(a.console, "vm", "Look at virtual machines", "", list)
}

// vmRow is a machine in the result of `vm list`.
type vmRow struct {
	ID            holdfast.ResourceID `json:"id"`
	Name          string              `json:"name"`
	ResourceGroup string              `json:"resourceGroup"`
	Location      string              `json:"location"`
	Zone          string              `json:"zone"`
	Size          string              `json:"size"`
	OS            string              `json:"os"`
	PowerState    string              `json:"powerState"`
	Tags          map[string]string   `json:"tags"`
	Disks         []vmDisk            `json:"disks"`
}

type vmDisk struct {
	LUN  holdfast.LUN        `json:"lun"`
	Name string              `json:"name"`
	ID   holdfast.ResourceID `json:"id"`
}

func (a *app) listVMs(ctx context.Context) error {
	client, err := a.azureClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	machines, err := client.Machines(ctx)
	if err != nil {
		return err
	}
	rows := []vmRow{}
	for _, vm := range machines {
		row := vmRow{
			ID: vm.ID, Name: vm.Name, ResourceGroup: vm.ID.ResourceGroup(), Location: vm.Location, Zone: vm.Zone, Size: vm.Size, OS: vm.OS,
			PowerState: vm.Power, Tags: vm.Tags, Disks: []vmDisk{},
		}
		if row.Tags == nil {
			row.Tags = map[string]string{}
		}
		for _, d := range vm.Disks {
			row.Disks = append(row.Disks, vmDisk{d.LUN, d.Name, d.ID})
		}
		rows = append(rows, row)
	}
	return a.console.Result(rows, func(w io.Writer) error {
		if len(rows) == 0 {
			_, err := fmt.Fprintln(w, "the account sees no virtual machines")
			return err
		}
		var cells [][]string
		for _, r := range rows {
			cells = append(cells, []string{r.Name, r.ResourceGroup, r.Location, r.Zone, r.Size, r.OS, r.PowerState, fmt.Sprint(len(r.Disks)), string(r.ID)})
		}
		return cli.Table(w, []string{"NAME", "GROUP", "LOCATION", "ZONE", "SIZE", "OS", "STATE", "DISKS", "ID"}, cells)
	})
}
