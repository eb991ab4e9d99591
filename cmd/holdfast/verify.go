package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/repo"
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
		Use: "verify", Short: "Check a repository for damage", Args: noArguments,
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

// verification is the result of repo verify.
type verification struct {
	repo.Report
	Proof proofResult  `json:"proof"`
	Share *shareResult `json:"share,omitempty"`
}

// proofResult tells what the log keeps of the verification.
type proofResult struct {
	Recorded bool       `json:"recorded"`
	Reason   string     `json:"reason"`          // why nothing was recorded
	Since    *time.Time `json:"since,omitempty"` // every stored byte has been read since then; absent while a part never was
}

// shareResult tells about the share of --within.
type shareResult struct {
	Days     int       `json:"days"`
	DryRun   bool      `json:"dryRun"`
	Plan     repo.Plan `json:"plan"`
	Overhead int64     `json:"overheadRequests"`
	Cost     float64   `json:"cost"` // of the share, by the prices given
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
	report, err := repo.Verify(ctx, store.objects, o)
	progress.Wait(err)
	if err != nil {
		return err
	}
	return a.tellVerification(verification{Report: report, Proof: record(ctx, o.Repository, report)})
}

// record keeps what was found in the log. What was found counts whether that succeeds or not.
func record(ctx context.Context, r *repo.Repository, report repo.Report) proofResult {
	if r == nil {
		return proofResult{Reason: "without the password nothing can be written to the log"}
	}
	recorded, err := r.RecordProof(ctx, report)
	if err != nil {
		return proofResult{Reason: err.Error(), Since: r.ProvenSince()}
	}
	return proofResult{Recorded: true, Since: recorded.Since}
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
	result := verification{Report: share.Report, Share: &shareResult{
		Days: days, DryRun: f.dryRun, Plan: share.Plan, Overhead: share.Overhead, Cost: f.price.Of(load),
	}}
	if f.dryRun {
		result.Proof = proofResult{Reason: "nothing was read", Since: r.ProvenSince()}
	} else {
		result.Proof = record(ctx, r, share.Report)
	}
	return a.tellVerification(result)
}

func (a *app) tellVerification(result verification) error {
	err := a.console.Result(result, func(w io.Writer) error {
		if err := tellReport(w, result); err != nil {
			return err
		}
		return tellProof(w, result)
	})
	if err == nil && !result.OK {
		return errDamageTold
	}
	return err
}

// tellProof says what is proven by now, and what the share cost.
func tellProof(w io.Writer, result verification) error {
	var lines []string
	if s := result.Share; s != nil {
		lines = append(lines, fmt.Sprintf("Every byte within %d days: %s of %s due now, %d objects, %d requests and %d for the log and the lists, at a price of %.4f",
			s.Days, cli.Bytes(s.Plan.Due.Bytes), cli.Bytes(s.Plan.Stored.Bytes), s.Plan.Due.Objects, s.Plan.Due.Requests, s.Overhead, s.Cost))
		if s.Plan.Overdue.Objects > 0 {
			lines = append(lines, fmt.Sprintf("Overdue: %s in %d objects were read longer ago than that", cli.Bytes(s.Plan.Overdue.Bytes), s.Plan.Overdue.Objects))
		}
		if s.Plan.Never.Objects > 0 {
			lines = append(lines, fmt.Sprintf("Not yet read since they were written: up to %s in %d objects", cli.Bytes(s.Plan.Never.Bytes), s.Plan.Never.Objects))
		}
	}
	if !result.Proof.Recorded {
		lines = append(lines, "Nothing was recorded: "+result.Proof.Reason)
	}
	if result.OK && result.Proof.Since != nil {
		lines = append(lines, "Every byte was read "+sinceText(result.Proof.Since))
	}
	return cli.Lines(w, lines)
}

// sinceText says since when every byte has been read.
func sinceText(since *time.Time) string {
	if since == nil {
		return "not yet"
	}
	return "since " + cli.Time(*since)
}

// openForVerify opens the repository where that is possible and wanted. Without a password, or when damage prevents opening,
// verification goes on without a key.
func (a *app) openForVerify(ctx context.Context, store openStore, level repo.VerifyLevel) (*repo.Repository, error) {
	password, err := a.password()
	if err != nil {
		return nil, err
	}
	o := repo.OpenOptions{Password: password, Installation: a.installation(), Clock: a.clock, Tool: tool(), Log: a.log()}
	if level != repo.VerifyStored { // which asks no key
		o.Vault = a.vault()
	}
	r, err := repo.Open(ctx, store.objects, o)
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
	return nil, withOpenHint(err, store.objects.URL())
}

func tellReport(w io.Writer, result verification) error {
	report := result.Report
	verdict := "The repository is sound"
	if !report.OK {
		verdict = "The repository is damaged"
	}
	if _, err := fmt.Fprintf(w, "%s: %d objects, %s, checked at level %d\n", verdict, report.Checked, cli.Bytes(report.Bytes), report.Level); err != nil {
		return err
	}
	if report.Orphans > 0 {
		if _, err := fmt.Fprintf(w, "needed by no restore point, left by runs that died or still work: %d\n", report.Orphans); err != nil {
			return err
		}
	}
	if len(report.Shadowed) > 0 {
		_, err := fmt.Fprintf(w, "Somebody overwrote or deleted %d objects; their older versions are whole and answer in their place. The first: %s\n", len(report.Shadowed), report.Shadowed[0])
		if err != nil {
			return err
		}
	}
	for _, name := range report.Healed {
		if _, err := fmt.Fprintf(w, "healed   %s: it is damaged, and nothing needs it any more\n", name); err != nil {
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
	return cli.Lines(w, whatToDo(report, result.Proof.Recorded || report.State.Damage != ""))
}

// whatToDo says what a person can do about damage.
func whatToDo(report repo.Report, recorded bool) []string {
	var lines []string
	if len(report.Points) > 0 {
		lines = append(lines, "Restore points that are not named are unhurt.")
	}
	for _, o := range report.Objects {
		if strings.HasPrefix(o.Name, "data/") || strings.HasPrefix(o.Name, "tree/") {
			lines = append(lines, "The next backup of each machine that is hit writes again what its disks still hold; older restore points are whole again then.")
			if !recorded {
				lines = append(lines, "It has to be told: verify once with the password, so that the damage is recorded.")
			}
			break
		}
	}
	if slices.ContainsFunc(report.Objects, func(o repo.ObjectProblem) bool { return strings.HasPrefix(o.Name, "index/") }) {
		lines = append(lines, "Make the index anew with: holdfast repo rebuild-index.")
	}
	return append(lines, "Bring the damaged objects back from a copy of the storage if there is one.")
}
