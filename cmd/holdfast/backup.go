package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob/wrap"
	"github.com/holdfast-backup/holdfast/internal/capture"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/restore"
)

func (a *app) backupCommand() *cobra.Command {
	var vm, lockFor, audit string
	var full bool
	cmd := &cobra.Command{
		Use: "backup", Short: "Back up one virtual machine, now", Args: command.NoArguments,
		Long: `Back up one virtual machine, now: snapshot every disk, read what changed since the last restore point, store what is new,
publish. The command ends with 0 only when the restore point is durable. It may be stopped or killed at any moment; running it
again puts everything in order first.

When the restore point is durable, a part of what Azure calls unchanged is read and compared (--audit), going round the disk from one backup to the
next. If a change list turns out wrong, the result says since when, and the next backup reads that disk in full.`,
		Example: `  holdfast backup --azure azure.yaml --repo /backups --password-file secret \
    --vm /subscriptions/…/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web-1
  holdfast backup --azure azure.yaml --repo azblob://shopvault/locked/eu --password-file secret --lock-for 30d \
    --vm /subscriptions/…/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web-1`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rule, err := parseAudit(audit)
			if err != nil {
				return err
			}
			return a.backup(cmd.Context(), vm, lockFor, capture.Options{Full: full, Audit: rule})
		},
	}
	a.repoFlags(cmd)
	a.writeFlags(cmd)
	cmd.Flags().StringVar(&vm, "vm", "", "ARM id of the virtual machine")
	lockFlag(cmd, &lockFor)
	cmd.Flags().BoolVar(&full, "full", false, "read every disk in full, even where the changes are known")
	cmd.Flags().StringVar(&audit, "audit", "", "check the change lists on this share of the data, such as 1/10, 5% or 1, or off (default: 1/30 for each day since the last check)")
	command.Required(cmd, "repo", "vm")
	return cmd
}

func (a *app) backup(ctx context.Context, vm, lockFor string, o capture.Options) error {
	id, err := parseVM(vm)
	if err != nil {
		return err
	}
	client, err := a.azureClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	if o.RetainUntil, err = retainUntil(ctx, r, lockFor); err != nil {
		return err
	}
	began := a.clock.Now()
	progress := a.console.NewProgress(a.clock)
	show, tell := showCapture(progress), a.stages(map[string]string{
		string(capture.StageSnapshot): "Taking a snapshot of every disk.", string(capture.StageCopy): "Waiting for Azure to make the snapshots readable.",
		string(capture.StageRead): "Reading the disks.",
	})
	flow, err := capture.New(capture.Config{Source: client, Repository: r, Clock: a.clock, Log: a.log(), Progress: func(p capture.Progress) {
		tell(string(p.Stage))
		show(p)
	}})
	if err != nil {
		return err
	}
	result, err := flow.Run(ctx, id, o)
	progress.Wait(err)
	if err != nil {
		return err
	}
	result.StoredBytes = a.added.Bytes(wrap.OpPut)
	for _, warning := range result.Warnings {
		a.console.Note("Note: %s.", warning)
	}
	return a.console.Result(result, func(w io.Writer) error { return tellBackup(w, result, a.clock.Now().Sub(began)) })
}

// parseAudit reads --audit: off, a fraction, a percentage or a number over 0 up to 1.
func parseAudit(text string) (capture.Audit, error) {
	wrong := holdfast.Errorf(holdfast.KindInvalid, "%q is not a share of the data", text).WithField("audit").WithHint("write 1/30, 5%%, 0.05 or 1 for all, or off")
	switch text {
	case "":
		return capture.Audit{}, nil
	case "off":
		return capture.Audit{Off: true}, nil
	}
	number, divisor := text, 1.0
	if above, below, ok := strings.Cut(text, "/"); ok {
		d, err := strconv.ParseFloat(below, 64)
		if err != nil {
			return capture.Audit{}, wrong
		}
		number, divisor = above, d
	} else if percent, ok := strings.CutSuffix(text, "%"); ok {
		number, divisor = percent, 100
	}
	value, err := strconv.ParseFloat(number, 64)
	share := value / divisor
	if err != nil || !(share > 0 && share <= 1) {
		return capture.Audit{}, wrong
	}
	return capture.Audit{Share: share}, nil
}

// stages returns a function that says, once for each stage of a run, what is going on. It may be called from any goroutine.
func (a *app) stages(texts map[string]string) func(stage string) {
	var mu sync.Mutex
	return func(stage string) {
		mu.Lock()
		defer mu.Unlock()
		if text, ok := texts[stage]; ok {
			delete(texts, stage)
			a.console.Note("%s", text)
		}
	}
}

func parseVM(s string) (holdfast.ResourceID, error) {
	id, err := holdfast.ParseResourceID(s)
	if err != nil {
		return "", holdfast.Errorf(holdfast.KindInvalid, "%q is not the ARM id of a virtual machine", s).WithField("vm").
			WithHint("take it from: holdfast vm list --azure FILE")
	}
	return id, nil
}

func showCapture(progress *cli.Progress) func(capture.Progress) {
	return func(p capture.Progress) {
		if p.Stage == capture.StageRead && p.Name != "" {
			progress.Bar(p.Name, p.SizeBytes).At(p.Offset)
		}
	}
}

func tellBackup(w io.Writer, result capture.Result, took time.Duration) error {
	if _, err := fmt.Fprintf(w, "Restore point %s of %s (%s)\n\n", result.Point, strings.TrimPrefix(result.VM.Name(), image.Scheme), cli.Time(result.Time)); err != nil {
		return err
	}
	var rows [][]string
	for _, d := range result.Disks {
		how := "changes"
		if d.Full {
			how = "full: " + string(d.Reason)
		}
		rows = append(rows, []string{string(d.LUN), d.Name, cli.Bytes(d.SizeBytes), how, cli.Bytes(d.ReadBytes), cli.Bytes(d.NewBytes)})
	}
	if err := cli.Table(w, []string{"LUN", "DISK", "SIZE", "READ HOW", "READ", "NEW"}, rows); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "\nread %s, stored %s, in %s\n", cli.Bytes(result.ReadBytes), cli.Bytes(result.StoredBytes), cli.Took(took)); err != nil {
		return err
	}
	if result.HealedBytes > 0 {
		if _, err := fmt.Fprintf(w, "healed %s that had been lost: older restore points find it again\n", cli.Bytes(result.HealedBytes)); err != nil {
			return err
		}
	}
	if result.AuditedBytes > 0 {
		if _, err := fmt.Fprintf(w, "compared %s of what was called unchanged\n", cli.Bytes(result.AuditedBytes)); err != nil {
			return err
		}
	}
	if result.LockedUntil.IsZero() {
		return nil
	}
	_, err := fmt.Fprintf(w, "nobody can remove it before %s (%d locks of earlier objects were moved)\n", cli.Time(result.LockedUntil), result.LocksRenewed)
	return err
}

func (a *app) restoreCommand() *cobra.Command {
	return command.Group(a.console, "restore", "Restore virtual machines", "", a.restoreVMCommand())
}

func (a *app) restoreVMCommand() *cobra.Command {
	var request restore.Request
	var point, subnet string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "vm", Short: "Restore a virtual machine under a new name", Args: command.NoArguments,
		Long: `Restore a virtual machine under a new name. Its disks are called NAME-os and NAME-lunN. Every disk is read back and compared with
the restore point before the machine is created. What was made is removed again if something fails.`,
		Example: `  holdfast restore vm --azure azure.yaml --repo /backups --password-file secret \
    --point 20260301-120000-1a2b3c4d --name web-1-restored --resource-group shop`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			request.Point, request.Subnet = holdfast.PointID(point), holdfast.ResourceID(subnet)
			return a.restoreVM(cmd.Context(), request, dryRun)
		},
	}
	a.repoFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&point, "point", "", "id of the restore point, or the beginning of one")
	flags.StringVar(&request.Name, "name", "", "name of the new machine")
	flags.StringVar(&request.ResourceGroup, "resource-group", "", "resource group for it: a name in the source's subscription, or an id")
	flags.StringVar(&subnet, "subnet", "", "id of the subnet (default: the source's)")
	flags.StringVar(&request.Size, "size", "", "size of the new machine (default: the source's)")
	flags.BoolVar(&dryRun, "dry-run", false, "show what would be done, and do nothing")
	command.Required(cmd, "repo", "point", "name", "resource-group")
	return cmd
}

func (a *app) restoreVM(ctx context.Context, request restore.Request, dryRun bool) error {
	if request.Subnet != "" {
		if _, err := holdfast.ParseResourceID(string(request.Subnet)); err != nil {
			return holdfast.Errorf(holdfast.KindInvalid, "%q is not the id of a subnet", request.Subnet).WithField("subnet").
				WithHint("write it as /subscriptions/…/virtualNetworks/NAME/subnets/NAME")
		}
	}
	client, err := a.azureClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	if request.Point, err = r.ResolvePoint(request.Point); err != nil {
		return err
	}
	began := a.clock.Now()
	progress := a.console.NewProgress(a.clock)
	show, tell := showRestore(progress), a.stages(map[string]string{
		string(restore.StageCreate): "Creating the disks.", string(restore.StageWrite): "Writing them.",
		string(restore.StageProve): "Reading them back, to compare them with the restore point.", string(restore.StageMachine): "Creating the machine.",
	})
	flow, err := restore.New(restore.Config{Cloud: client, Repository: r, Clock: a.clock, Log: a.log(), Progress: func(p restore.Progress) {
		tell(string(p.Stage))
		show(p)
	}})
	if err != nil {
		return err
	}
	plan, err := flow.Plan(ctx, request)
	if err != nil {
		return err
	}
	if dryRun {
		return a.console.Result(plan, func(w io.Writer) error { return cli.Lines(w, plan.Lines()) })
	}
	result, err := flow.Run(ctx, plan)
	progress.Wait(err)
	if err != nil {
		return err
	}
	return a.console.Result(result, func(w io.Writer) error { return tellRestore(w, result, a.clock.Now().Sub(began)) })
}

func showRestore(progress *cli.Progress) func(restore.Progress) {
	return func(p restore.Progress) {
		if p.Name == "" || p.Bytes == 0 {
			return
		}
		switch p.Stage {
		case restore.StageWrite:
			progress.Bar(p.Name+" write", 0).Add(p.Bytes)
		case restore.StageProve:
			progress.Bar(p.Name+" prove", 0).Add(p.Bytes)
		case restore.StageCreate, restore.StageMachine:
		}
	}
}

func tellRestore(w io.Writer, result restore.Result, took time.Duration) error {
	if _, err := fmt.Fprintf(w, "Restored %s\n\n", result.VM); err != nil {
		return err
	}
	var rows [][]string
	for _, d := range result.Disks {
		proof := "equal"
		if !d.Equal {
			proof = "DIFFERENT"
		}
		rows = append(rows, []string{string(d.LUN), d.ID.Name(), cli.Bytes(d.Bytes), proof})
	}
	if err := cli.Table(w, []string{"LUN", "DISK", "WRITTEN", "READ BACK"}, rows); err != nil {
		return err
	}
	for _, note := range result.Notes {
		if _, err := fmt.Fprintf(w, "note: %s\n", note); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\nin %s\n", cli.Took(took))
	return err
}
