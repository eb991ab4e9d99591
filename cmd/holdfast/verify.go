package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/storage"
)

// verifyFlags are what repo verify may be told.
type verifyFlags struct {
	level  int
	within string
	dryRun bool
	price  repo.Price
}

// readPrice is what Azure's hot tier takes for 10,000 reads, in US dollars: retail, November 2026.
const readPrice = 0.004

func (a *app) repoVerify() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use: "verify", Short: "Check a repository for damage", Args: command.NoArguments,
		Long: `Check a repository for damage. Level 1 reads all stored bytes and needs no password; level 2 decrypts everything and follows
every restore point to its last chunk. Without --level: 2 when the password is given, else 1. With the password the log keeps what was
proven, and the next backups heal what is damaged. The exit code is 4 when damage is found.

With --within, run once a day, it reads the share that is due, so that every stored byte is read within that time (level 1). Days that were missed
are made up. --dry-run shows the share and its cost, and reads none of it.`,
		Example: `  holdfast repo verify --repo /backups --password-file secret
  holdfast repo verify --repo /backups --level 1
  holdfast repo verify --repo /backups --password-file secret --within 30d
  holdfast repo verify --repo azblob://shopvault/backups/eu --azure azure.yaml --password-file secret --within 30d --dry-run`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.verify(cmd.Context(), f) },
	}
	a.repoFlags(cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.level, "level", 0, "1: stored bytes, 2: everything")
	flags.StringVar(&f.within, "within", "", "read the share that is due today, so that every byte is read within that many days, such as 30d")
	flags.BoolVar(&f.dryRun, "dry-run", false, "with --within: show what is due and what it costs, and read none of it")
	flags.Float64Var(&f.price.TenThousandReads, "read-price", readPrice, "price of 10,000 read requests, for the cost of a share")
	flags.Float64Var(&f.price.GiBOut, "egress-price", 0, "price of a GiB that leaves the storage's region, for the cost of a share")
	return cmd
}

func (a *app) verify(ctx context.Context, f verifyFlags) error {
	if f.level < 0 || repo.VerifyLevel(f.level) > repo.VerifyComplete {
		return holdfast.Errorf(holdfast.KindInvalid, "level %d is not known", f.level).WithField("level").WithHint("give --level 1 or --level 2")
	}
	if f.within != "" {
		return a.verifyShare(ctx, f)
	}
	if f.dryRun {
		return holdfast.Errorf(holdfast.KindInvalid, "--dry-run plans a share, and goes with --within").WithField("dry-run").WithHint("add --within 30d")
	}
	store, err := a.store(ctx)
	if err != nil {
		return err
	}
	o := repo.VerifyOptions{Level: repo.VerifyLevel(f.level), Clock: a.clock}
	if o.Repository, err = a.openForVerify(ctx, store, o.Level); err != nil {
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
	report, err := repo.Verify(ctx, store.Objects, o)
	progress.Wait(err)
	if err != nil {
		return err
	}
	return a.tellVerification(show.Verification{Report: report, Proof: record(ctx, o.Repository, report)})
}

// record keeps what was found in the log. What was found counts whether that succeeds or not.
func record(ctx context.Context, r *repo.Repository, report repo.Report) show.Proof {
	if r == nil {
		return show.Proof{Reason: "without the password nothing can be written to the log"}
	}
	recorded, err := r.RecordProof(ctx, report)
	if err != nil {
		return show.Proof{Reason: err.Error(), Since: r.ProvenSince()}
	}
	return show.Proof{Recorded: true, Since: recorded.Since}
}

// verifyShare does today's share of a rotation.
func (a *app) verifyShare(ctx context.Context, f verifyFlags) error {
	digits, ok := strings.CutSuffix(f.within, "d")
	days, err := strconv.Atoi(digits)
	if !ok || err != nil || days < 1 || days > int(repo.WithinMax/(24*time.Hour)) {
		return holdfast.Errorf(holdfast.KindInvalid, "%q is not a number of days", f.within).WithField("within").
			WithHint("write whole days with a d, from 1d to %dd", int(repo.WithinMax/(24*time.Hour)))
	}
	if repo.VerifyLevel(f.level) == repo.VerifyComplete {
		return holdfast.Errorf(holdfast.KindInvalid, "a share is read at level 1").WithField("level").WithHint("leave --level away, or leave --within away")
	}
	r, err := a.openRepository(ctx)
	if err != nil {
		return err
	}
	progress := a.console.NewProgress(a.clock)
	bar := progress.Bar("verify", 0)
	share, err := r.VerifyShare(ctx, repo.ShareOptions{
		Within: time.Duration(days) * 24 * time.Hour, DryRun: f.dryRun, Progress: func(_ int, bytes int64) { bar.Add(bytes) },
	})
	progress.Wait(err)
	if err != nil {
		return err
	}
	load := share.Plan.Due
	load.Requests += share.Overhead
	result := show.Verification{Report: share.Report, Share: &show.Share{
		Days: days, DryRun: f.dryRun, Plan: share.Plan, Overhead: share.Overhead, Cost: f.price.Of(load),
	}}
	if f.dryRun {
		result.Proof = show.Proof{Reason: "nothing was read", Since: r.ProvenSince()}
	} else {
		result.Proof = record(ctx, r, share.Report)
	}
	return a.tellVerification(result)
}

func (a *app) tellVerification(result show.Verification) error {
	err := a.console.Result(result, result.Tell)
	if err == nil && !result.OK {
		return command.ErrDamageTold
	}
	return err
}

// openForVerify opens the repository where that is possible and wanted. Without a password, or when damage prevents opening,
// verification goes on without a key.
func (a *app) openForVerify(ctx context.Context, store storage.Store, level repo.VerifyLevel) (*repo.Repository, error) {
	password, err := a.password()
	if err != nil {
		return nil, err
	}
	o := repo.OpenOptions{Password: password, Installation: a.installation(), Clock: a.clock, Tool: tool(), Log: a.log()}
	if level != repo.VerifyStored { // which asks no key
		o.Vault = a.vault()
	}
	r, err := repo.Open(ctx, store.Objects, o)
	switch {
	case err == nil:
		return r, nil
	case level != repo.VerifyComplete && holdfast.IsKind(err, holdfast.KindCorrupt):
		a.console.Note("Warning: the repository cannot be opened (%v); checking stored bytes without a key", err)
		return nil, nil
	case level != repo.VerifyComplete && holdfast.IsKind(err, holdfast.KindWrongKey) && password == "":
		return nil, nil
	case level != repo.VerifyComplete && holdfast.IsKind(err, holdfast.KindRefused) && password == "":
		a.console.Note("Warning: the vault does not open the repository (%v); checking stored bytes without a key", err)
		return nil, nil
	}
	return nil, withOpenHint(err, store.Objects.URL())
}
