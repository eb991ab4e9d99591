// Package guest is the flow around a snapshot inside the guest: a script before it, a freeze of filesystems while it is
// taken, a script after it, as a policy's guest processing says.
//
// It promises that a guest is never left frozen. The freeze starts a timer in the guest before it freezes anything, and
// the timer thaws whatever became of us; the thaw is asked for whatever the snapshot came to, may be asked for any number
// of times, and keeps a freeze that arrives late from happening. It promises to claim a freeze only for a snapshot that lay
// inside of it: when the thaw came from the timer, or nobody knows from whom, nothing is claimed. The script after the
// snapshot runs whenever the one before it may have run.
//
// It must never freeze the filesystem that the VM agent itself lives on, since then no thaw would reach the guest: what
// lies on the disk of /, /usr, /var, /tmp and their like is left as it is, and named as such. It must never let a name, a
// path or an argument become part of a script's language.
package guest

import (
	"context"
	"log/slog"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// Commands run something in a guest, once for each ticket however often they are asked.
type Commands interface {
	Run(ctx context.Context, command machine.Command) (machine.CommandResult, error)
}

// Limits.
const (
	// commandWait is how long commands of others are waited for; Azure lets one run for 90 minutes, and a snapshot that
	// waits for that is late.
	commandWait = 10 * time.Minute
	// cleanupTime bounds what is done after the caller has given up.
	cleanupTime = 15 * time.Minute
	// thawsMax is how often a thaw is asked for under a new ticket. The timer is what helps after that.
	thawsMax = 3
	// FreezeMin and FreezeMax bound the timer. Commands take about 20 seconds each; applications do not bear minutes well.
	FreezeMin = time.Second
	FreezeMax = 10 * time.Minute
)

// Config says what a Flow needs; Log may be nil.
type Config struct {
	Commands Commands
	Log      *slog.Logger
}

// Flow runs scripts around snapshots. Safe for concurrent use.
type Flow struct {
	commands Commands
	log      *slog.Logger
}

// New makes a flow.
func New(config Config) (*Flow, error) {
	if config.Commands == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "guest processing needs something that runs commands")
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Flow{commands: config.Commands, log: config.Log}, nil
}

// Work is a snapshot that is going to be taken of a machine.
type Work struct {
	Machine    machine.VM
	Processing holdfast.GuestProcessing
	PolicyID   string
	PolicyName string
	// Name is that of this attempt, such as a session, a machine and an epoch. An attempt that is made again has another
	// one: under the same name nothing runs twice, and a freeze is not renewed.
	Name        string
	FeedsBackup bool          // a backup will be read from the snapshot
	FreezeFor   time.Duration // the timer of the freeze; 0: nothing is frozen. Linux only
}

// Result is what happened in the guest.
type Result struct {
	Before   ScriptResult
	After    ScriptResult
	Freeze   FreezeResult
	Taken    bool     // the snapshot was taken, and without an error
	Warnings []string // in order; what the policy forgives, and what was left undone with the reason
}

// ScriptResult is what became of a script.
type ScriptResult struct {
	Path     string // "" when there was none to run
	Ran      bool   // it ran to its end
	Missing  bool   // there is no such file in the guest
	ExitCode int
	Output   string // the end of it
}

// Thawer is who ended a freeze.
type Thawer string

// The thawers. ThawedUnknown means that no answer came; the timer has ended the freeze, or will.
const (
	ThawedByUs    Thawer = "us"
	ThawedByTimer Thawer = "timer"
	ThawedUnknown Thawer = "unknown"
)

// FreezeResult is what became of the freeze.
type FreezeResult struct {
	Frozen []string      // mount points
	Left   []string      // mount points of disks that were not frozen
	Took   time.Duration // from the freeze to the thaw, by the guest's clock, in whole seconds; 0 when that is not known
	By     Thawer        // "" when nothing was to be frozen
	// Held says that what stands in Frozen was frozen from before the snapshot until after it.
	Held bool
}

// Around takes a snapshot with what the plan says around it. snapshot is called once, and not at all when the script
// before it failed in a way that the policy does not forgive. An error of the snapshot outranks one of the script after
// it, which then is a warning; Result.Taken tells whether a snapshot stands beside an error.
func (f *Flow) Around(ctx context.Context, work Work, snapshot func(ctx context.Context) error) (Result, error) {
	plan, err := Decide(work)
	if err != nil {
		return Result{}, err
	}
	r := &round{flow: f, work: work, plan: plan, result: Result{Warnings: plan.Skipped}}
	began, err := r.script(ctx, plan.Before, "before", &r.result.Before)
	if err == nil {
		err = r.inFreeze(ctx, snapshot)
		r.result.Taken = err == nil
	}
	if !began && !r.result.Taken {
		return r.result, err // nothing happened in the guest that would have to be undone
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	_, afterErr := r.script(cleanup, plan.After, "after", &r.result.After)
	if err != nil && afterErr != nil {
		r.warn(ctx, afterErr.Error())
		return r.result, err
	}
	if err == nil {
		err = afterErr
	}
	return r.result, err
}

// round is one run of Around.
type round struct {
	flow   *Flow
	work   Work
	plan   Plan
	result Result
}

// inFreeze takes the snapshot inside the freeze that the plan asks for.
func (r *round) inFreeze(ctx context.Context, snapshot func(ctx context.Context) error) error {
	if r.plan.FreezeFor == 0 {
		return snapshot(ctx)
	}
	frozen := r.freeze(ctx)
	defer func() { r.thaw(ctx, frozen) }()
	return snapshot(ctx)
}

func (r *round) warn(ctx context.Context, text string) {
	r.result.Warnings = append(r.result.Warnings, text)
	r.flow.log.WarnContext(ctx, "guest processing", "machine", string(r.work.Machine.ID), "warning", text)
}

func (r *round) command(step string) machine.Command {
	return machine.Command{Machine: r.work.Machine.ID, OS: r.work.Machine.OS, Ticket: ticket(r.work.Name, step), Wait: commandWait}
}
