// Package restore builds a virtual machine, or single disks, from a restore point, and proves that every byte is the one
// that was backed up.
//
// What it promises:
//
//   - When Run returns without error, the machine exists, and each of its disks was read back from Azure and compared with
//     the root that the restore point states.
//   - When Run returns an error, or is stopped, what it made is gone, or named in the error.
//   - A process that dies leaves resources whose names follow from the plan and whose tag says that they are unfinished. The
//     next Run of a plan with these names removes them first. When only the very end was missing, it finishes instead: a
//     machine is created only after its disks are proven.
//
// What it must never do: touch a resource that does not bear the tag of an unfinished restore, take over a name that is
// held by somebody else, write a disk's SAS anywhere, or carry what it does not know into the new machine (bodies are built
// from allow-lists).
//
// Rules of the platform: upload of fixed VHDs (compute documentation, disks API 2026-03-02), virtual machines from
// specialised disks (compute API 2026-04-01).
package restore

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Flow restores from one repository into one cloud. Its methods may be called for different names at once.
type Flow struct{ config Config }

// Target is what the flow changes. Package azure implements it; its documentation says what holds after errors.
type Target interface {
	Resource(ctx context.Context, id holdfast.ResourceID) (machine.Resource, error)
	Put(ctx context.Context, id holdfast.ResourceID, body json.RawMessage) error
	SetTags(ctx context.Context, id holdfast.ResourceID, tags map[string]string) error
	Delete(ctx context.Context, id holdfast.ResourceID) error
	OpenUpload(ctx context.Context, disk holdfast.ResourceID, sizeBytes int64) (machine.Upload, error)
	OpenDisk(ctx context.Context, disk holdfast.ResourceID, sizeBytes int64) (machine.Content, error)
}

// Surroundings is what planning asks about the place that a machine is restored to.
type Surroundings interface {
	GroupLocation(ctx context.Context, subscription, group string) (string, error)
	Size(ctx context.Context, subscription, location, name string) (machine.Size, error)
	Usages(ctx context.Context, subscription, location string) ([]machine.Usage, error)
	Locks(ctx context.Context, subscription string) ([]machine.Lock, error)
}

// Cloud is both; *azure.Client is one.
type Cloud interface {
	Target
	Surroundings
}

// Config says what to work with. Cloud and Repository are required.
type Config struct {
	Cloud       Cloud
	Repository  *repo.Repository
	Clock       clock.Clock
	Log         *slog.Logger
	Progress    func(Progress) // may be called from any goroutine; nil for none
	DisksAtOnce int            // disks written at the same time; 4 by default
	Workers     int            // concurrent writes and reads per disk; 8 by default
}

// Progress is one step forward for one disk. Bytes are deltas.
type Progress struct {
	Stage     Stage
	LUN       holdfast.LUN // "" when the stage concerns the whole machine
	Name      string
	SizeBytes int64 // of the disk
	Bytes     int64 // written, or read back
}

// Stage names a part of a run.
type Stage string

// The stages of a run.
const (
	StageCreate  Stage = "create"
	StageWrite   Stage = "write"
	StageProve   Stage = "prove"
	StageMachine Stage = "machine"
)

// Result is what was restored. Its JSON form is the contract of `holdfast restore vm --json`.
type Result struct {
	VM    holdfast.ResourceID `json:"vm,omitempty"` // "" when disks alone were restored
	Disks []DiskResult        `json:"disks"`
	Notes []string            `json:"notes"` // what could not be carried over, in sentences for a person; never nil
}

// DiskResult is one restored disk.
type DiskResult struct {
	ID    holdfast.ResourceID `json:"id"`
	LUN   holdfast.LUN        `json:"lun"`
	Bytes int64               `json:"bytes"` // written; what reads as zeros is not
	Equal bool                `json:"equal"` // read back, and the same as was backed up
}

// New checks the configuration.
func New(config Config) (*Flow, error) {
	if config.Cloud == nil || config.Repository == nil {
		return nil, holdfast.Errorf(holdfast.KindInternal, "restore needs a cloud and a repository")
	}
	if config.Clock == nil {
		config.Clock = clock.System{}
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	if config.Progress == nil {
		config.Progress = func(Progress) {}
	}
	if config.DisksAtOnce == 0 {
		config.DisksAtOnce = 4
	}
	if config.Workers == 0 {
		config.Workers = 8
	}
	return &Flow{config: config}, nil
}

// Run carries out a plan, whatever an earlier run of it left behind.
func (f *Flow) Run(ctx context.Context, plan Plan) (Result, error) {
	r, err := f.newRun(plan)
	if err != nil {
		return Result{}, err
	}
	finished, err := r.clear(ctx)
	if err != nil {
		return Result{}, err
	}
	if !finished {
		if err := r.carryOut(ctx); err != nil {
			return Result{}, r.undo(ctx, err)
		}
	}
	r.finish(ctx)
	return r.result(), nil
}

// carryOut are the steps that are undone together when one of them fails.
func (r *run) carryOut(ctx context.Context) error {
	if err := r.restoreDisks(ctx); err != nil {
		return err
	}
	if r.plan.VM == nil {
		return nil
	}
	r.flow.config.Progress(Progress{Stage: StageMachine, Name: r.plan.VM.ID.Name()})
	if err := r.put(ctx, *r.plan.NIC); err != nil {
		return err
	}
	return r.put(ctx, *r.plan.VM)
}
