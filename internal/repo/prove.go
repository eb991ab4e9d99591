package repo

import (
	"context"
	"iter"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo/ledger"
	"github.com/holdfast-backup/holdfast/internal/repo/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/shadow"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

// VerifyLevel is how deep a verification goes; the proof levels of a restore point.
type VerifyLevel = verify.Level

// The levels that need nothing but the store.
const (
	VerifyStored   = verify.Stored   // stored bytes re-hashed, the log folded anew; needs no key
	VerifyComplete = verify.Complete // everything decrypted, every chunk of every point present and authentic; needs a key
)

// Report is what a verification found.
type Report = verify.Report

// ObjectProblem names an object and what is wrong with it.
type ObjectProblem = verify.ObjectProblem

// VerifyOptions tell what to check.
type VerifyOptions struct {
	Level      VerifyLevel
	Repository *Repository // the open repository for level 2, and to name VMs; nil verifies without a key
	Clock      clock.Clock
	Progress   func(objects int, bytes int64) // optional; called from several goroutines with what was checked since the last call
}

// Verify checks a repository: the log from its first entry, every object in the folder and every object that should be
// there, and at level 2 the content of every restore point. It returns an error only when it could not check; damage is in
// the report. It changes nothing: RecordProof keeps what was found.
func Verify(ctx context.Context, store blob.Store, o VerifyOptions) (Report, error) {
	if o.Level == VerifyComplete && o.Repository == nil {
		return Report{}, holdfast.Errorf(holdfast.KindWrongKey, "level 2 decrypts, so it needs the repository's password").WithHint("give the password, or verify at level 1")
	}
	store, err := shadow.Open(ctx, store, oplog.ProvesItself)
	if err != nil {
		return Report{}, err
	}
	return verifyThrough(ctx, store, o.inner(), o.now())
}

// verifyThrough runs a verification of a store that is seen through.
func verifyThrough(ctx context.Context, store blob.Store, o verify.Options, began time.Time) (Report, error) {
	report, err := verify.Run(ctx, store, o)
	report.Shadowed, report.Began = shadow.In(store), began
	return report, err
}

// now tells the time for the record of a proof; without a clock nobody asks.
func (o VerifyOptions) now() time.Time {
	switch {
	case o.Clock != nil:
		return o.Clock.Now()
	case o.Repository != nil:
		return o.Repository.clock.Now()
	}
	return time.Time{}
}

func (o VerifyOptions) inner() verify.Options {
	inner := verify.Options{Level: o.Level, Progress: o.Progress}
	if o.Repository != nil {
		inner.Key = o.Repository.verifyKey()
	}
	return inner
}

// verifyKey lends what a verification with the key needs.
func (r *Repository) verifyKey() *verify.Key {
	return &verify.Key{
		Ring: r.ring, Codec: r.codec, Hasher: r.hasher, Repository: r.id, Parameters: r.params, Nodes: r, Manifest: r.decodeManifest, Top: manifest.Top,
		Machine: func(p oplog.PointState) (holdfast.ResourceID, error) {
			sum, err := r.openSummary(p.ID, p.Summary)
			return sum.VM, err
		},
		Places: r.places, Runs: r.checkRuns,
	}
}

// checkRuns opens all blocks of the live index runs and reports damaged ones.
func (r *Repository) checkRuns(ctx context.Context, state oplog.State, report func(name string, err error)) error {
	for i, name := range state.Runs {
		run, err := r.runs.reader.MustOpen(ctx, aboutRun(name, state.AboutRun(i)))
		if err == nil {
			err = run.Check(ctx)
		}
		if isDamage(err) {
			report(name, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Plan is what a share of verification reads, and how things stand.
type Plan = ledger.Plan

// Load is an amount of stored objects, and what it takes to read them.
type Load = ledger.Load

// Price is what reading costs.
type Price = ledger.Price

// ShareOptions say how often every stored byte is to be read.
type ShareOptions struct {
	Within   time.Duration // every stored byte at least once in this time; a day or more
	DryRun   bool          // read the log and the lists, look for all objects, and read none of them
	Progress func(objects int, bytes int64)
}

// Share is what VerifyShare did or would do.
type Share struct {
	Report
	Plan     Plan  `json:"plan"`
	Overhead int64 `json:"overheadRequests"` // for the log, the lists and the look for all objects, besides Plan.Due.Requests
}

// WithinMax bounds the time in which every byte is to be read.
const WithinMax = 3660 * ledger.Day

// VerifyShare is Verify at level 1 for the share that is due today, so that every stored byte is read within a time (doc/format.md §6.6).
// Run once a day it keeps that promise; days that were missed are made up. The log is read whole, every object is looked for. It
// changes nothing: RecordProof keeps what was found, and without that the next share is the same one.
func (r *Repository) VerifyShare(ctx context.Context, o ShareOptions) (Share, error) {
	if o.Within < ledger.Day || o.Within > WithinMax {
		return Share{}, holdfast.Errorf(holdfast.KindInvalid, "every byte within %v cannot be promised", o.Within).WithField("within").
			WithHint("give a number of days from 1 to %d, such as 30d", int(WithinMax/ledger.Day))
	}
	store, err := shadow.Open(ctx, r.store.Store, oplog.ProvesItself)
	if err != nil {
		return Share{}, err
	}
	var share Share
	began := r.clock.Now()
	inner := VerifyOptions{Level: VerifyStored, Repository: r, Progress: o.Progress}.inner()
	inner.Choose = func(state oplog.State, stored *ledger.Inventory) []ledger.Range {
		share.Plan = ledger.Today(state.Proven, stored, began, o.Within)
		if o.DryRun {
			return []ledger.Range{}
		}
		return share.Plan.Ranges
	}
	share.Report, err = verifyThrough(ctx, store, inner, began)
	share.Overhead = share.Requests
	if !o.DryRun {
		share.Overhead -= share.Plan.Due.Requests
	}
	return share, err
}

// RootOf computes the root that content with the disk's size has, to compare it with Root.
func (d *DiskReader) RootOf(ctx context.Context, extents iter.Seq2[holdfast.Extent, error], source Source) (holdfast.Root, error) {
	return d.r.RootOf(ctx, RootInput{SizeBytes: d.disk.SizeBytes, Extents: extents, Source: source})
}

// Verify is the function Verify for an open repository.
func (r *Repository) Verify(ctx context.Context, level VerifyLevel) (Report, error) {
	return Verify(ctx, r.store.Store, VerifyOptions{Level: level, Repository: r, Clock: r.clock})
}
