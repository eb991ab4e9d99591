package guest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azure/azuretest"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/machine"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

const (
	before    = "/opt/before.sh"
	after     = "/opt/after.sh"
	freezeFor = 30 * time.Second
	marked    = "marked by a script"
)

// database has scripts that leave a mark on the OS disk, each at its place.
func database(codeBefore, codeAfter int) estate.VirtualMachine {
	script := func(path string, code int, offset int64) estate.GuestScript {
		return estate.GuestScript{Path: path, ExitCode: code, EchoArguments: true, Effect: estate.GuestEffect{Disk: "db-os", Offset: offset, Text: marked}}
	}
	return estate.VirtualMachine{
		Name: "db", ResourceGroup: azuretest.Group, Subnet: "shop-net/front", Size: "Standard_D4s_v5", OS: "Linux",
		OSDisk:    estate.Disk{Name: "db-os", SizeGiB: 4, SKU: "Premium_LRS"},
		DataDisks: []estate.Disk{{LUN: 0, Name: "db-data", SizeGiB: 4, SKU: "Premium_LRS"}, {LUN: 1, Name: "db-log", SizeGiB: 4, SKU: "Premium_LRS"}},
		Guest: estate.Guest{
			Mounts:  []estate.GuestMount{{Disk: "db-data", Path: "/data"}},
			Scripts: []estate.GuestScript{script(before, codeBefore, 0), script(after, codeAfter, 1<<20)},
		},
	}
}

func work() guest.Work {
	return guest.Work{
		Machine:    machine.VM{ID: azuretest.Machine("db"), Name: "db", OS: "Linux", Power: "running"},
		Processing: holdfast.GuestProcessing{Linux: holdfast.GuestScripts{Before: holdfast.Script{Path: before, Arguments: "%instanceName% of %policyName%"}, After: holdfast.Script{Path: after}}},
		Name:       "attempt 1", PolicyName: "daily", FreezeFor: freezeFor,
	}
}

// trial is a flow in a cloud, and what its snapshot saw.
type trial struct {
	t     *testing.T
	cloud *azuretest.Cloud
	flow  *guest.Flow

	taken  int
	frozen []string // when the snapshot was taken
	fails  error    // what the snapshot ends with
}

func newTrial(t *testing.T, vm estate.VirtualMachine, change ...func(*azure.Options)) *trial {
	t.Helper()
	c := azuretest.Start(t, azuretest.Estate(vm), azuretest.Options{})
	flow, err := guest.New(guest.Config{Commands: c.Client(t, change...)})
	if err != nil {
		t.Fatal(err)
	}
	return &trial{t: t, cloud: c, flow: flow}
}

func (tr *trial) snapshot(context.Context) error {
	tr.taken++
	tr.frozen = tr.frozenIn(0)
	return tr.fails
}

// frozenIn tells what is frozen when so much time has passed.
func (tr *trial) frozenIn(ahead time.Duration) []string {
	tr.t.Helper()
	frozen, err := tr.cloud.Guests.Frozen(string(azuretest.Machine("db")), time.Now().Add(ahead))
	if err != nil {
		tr.t.Fatal(err)
	}
	return frozen
}

// marks tells which scripts ran.
func (tr *trial) marks() (before, after bool) {
	content := tr.cloud.Content(tr.t, azuretest.Disk("db-os"))
	return strings.HasPrefix(content.Blocks[0], marked), strings.HasPrefix(content.Blocks[1<<20], marked)
}

// TestAround_TheRoad: scripts in their order with their arguments, the snapshot inside of the freeze, and guests that can
// write again.
func TestAround_TheRoad(t *testing.T) {
	tr := newTrial(t, database(0, 0))
	result, err := tr.flow.Around(t.Context(), work(), func(ctx context.Context) error {
		if begun, ended := tr.marks(); !begun || ended {
			t.Errorf("scripts at the snapshot: before %t, after %t", begun, ended)
		}
		if err := tr.cloud.TryWrite(azuretest.Disk("db-data"), []byte("x"), 0); !holdfast.IsKind(err, holdfast.KindConflict) {
			t.Errorf("a write to a frozen disk: %v", err)
		}
		return tr.snapshot(ctx)
	})
	if err != nil || !result.Taken || len(result.Warnings) > 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	want := []string{"/data", "/disks/db-log"}
	if freeze := result.Freeze; !freeze.Held || freeze.By != guest.ThawedByUs || freeze.Took > time.Minute || !slices.Equal(slices.Sorted(slices.Values(freeze.Frozen)), want) ||
		!slices.Equal(freeze.Left, []string{"/"}) || !slices.Equal(tr.frozen, want) {
		t.Errorf("%+v; frozen at the snapshot: %v", freeze, tr.frozen)
	}
	if result.Before.Output != "db\nof\ndaily\n" || !result.After.Ran {
		t.Errorf("%+v, %+v", result.Before, result.After)
	}
	if _, ended := tr.marks(); !ended || len(tr.frozenIn(0)) > 0 {
		t.Errorf("after: %t, frozen %v", ended, tr.frozenIn(0))
	}
}

// TestAround_ScriptsThatFail: what the policy forgives is a warning, and what it does not is an error; then no snapshot is
// taken, or it stands beside the error. What the script before began is ended by the one after it.
func TestAround_ScriptsThatFail(t *testing.T) {
	for name, row := range map[string]struct {
		before, after int
		change        func(*guest.Work)
		kind          holdfast.Kind // "": no error
		taken         int
		ended         bool // the script after ran
		warnings      int
	}{
		"before":           {3, 0, func(*guest.Work) {}, holdfast.KindConflict, 0, true, 0},
		"before, forgiven": {3, 0, func(w *guest.Work) { w.Processing.IgnoreExitCodes = true }, "", 1, true, 1},
		"after":            {0, 4, func(*guest.Work) {}, holdfast.KindConflict, 1, true, 0},
		"after, forgiven":  {0, 4, func(w *guest.Work) { w.Processing.IgnoreExitCodes = true }, "", 1, true, 1},
		"both":             {3, 4, func(*guest.Work) {}, holdfast.KindConflict, 0, true, 1},
		"before missing":   {0, 0, func(w *guest.Work) { w.Processing.Linux.Before.Path = "/none.sh" }, holdfast.KindNotFound, 0, false, 0},
		"before missing, forgiven": {0, 0, func(w *guest.Work) {
			w.Processing.Linux.Before.Path, w.Processing.IgnoreMissingScripts = "/none.sh", true
		}, "", 1, true, 1},
		"a code is not a miss":      {3, 0, func(w *guest.Work) { w.Processing.IgnoreMissingScripts = true }, holdfast.KindConflict, 0, true, 0},
		"a miss is not a code":      {0, 0, func(w *guest.Work) { w.Processing.Linux.Before.Path, w.Processing.IgnoreExitCodes = "/none.sh", true }, holdfast.KindNotFound, 0, false, 0},
		"a path that nobody can be": {0, 0, func(w *guest.Work) { w.Processing.Linux.Before.Path = "none.sh" }, holdfast.KindInvalid, 0, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			tr, w := newTrial(t, database(row.before, row.after)), work()
			w.FreezeFor = 0
			row.change(&w)
			result, err := tr.flow.Around(t.Context(), w, tr.snapshot)
			_, ended := tr.marks()
			if holdfast.KindOf(err) != row.kind || tr.taken != row.taken || result.Taken != (row.taken == 1) || ended != row.ended || len(result.Warnings) != row.warnings {
				t.Errorf("%v; taken %d, after ran %t, %+v", err, tr.taken, ended, result)
			}
		})
	}
}

// TestAround_SnapshotFails: the guest is thawed and the script after it runs; the snapshot's error is what is told.
func TestAround_SnapshotFails(t *testing.T) {
	tr := newTrial(t, database(0, 4))
	tr.fails = errors.New("no snapshot")
	result, err := tr.flow.Around(t.Context(), work(), tr.snapshot)
	_, ended := tr.marks()
	if !errors.Is(err, tr.fails) || result.Taken || !ended || len(tr.frozenIn(0)) > 0 || len(result.Warnings) != 1 {
		t.Errorf("%v, %+v, after ran %t, frozen %v", err, result, ended, tr.frozenIn(0))
	}
}

// TestAround_CallerGivesUp inside of the freeze: the guest is thawed all the same.
func TestAround_CallerGivesUp(t *testing.T) {
	tr := newTrial(t, database(0, 0))
	ctx, cancel := context.WithCancel(t.Context())
	_, err := tr.flow.Around(ctx, work(), func(ctx context.Context) error {
		cancel()
		return ctx.Err()
	})
	_, ended := tr.marks()
	if !errors.Is(err, context.Canceled) || !ended || len(tr.frozenIn(0)) > 0 {
		t.Errorf("%v, after ran %t, frozen %v", err, ended, tr.frozenIn(0))
	}
}

// TestAround_SnapshotOutlivesTheTimer: the guest thaws itself, and nothing is claimed of the snapshot.
func TestAround_SnapshotOutlivesTheTimer(t *testing.T) {
	tr, w := newTrial(t, database(0, 0)), work()
	w.FreezeFor = time.Second
	result, err := tr.flow.Around(t.Context(), w, func(ctx context.Context) error {
		for len(tr.frozenIn(0)) > 0 && ctx.Err() == nil {
			continue // the timer of the guest runs on the clock of this machine
		}
		return ctx.Err()
	})
	if err != nil || result.Freeze.Held || result.Freeze.By != guest.ThawedByTimer || len(result.Freeze.Frozen) != 2 || len(result.Warnings) != 1 {
		t.Errorf("%+v, %v", result, err)
	}
}

// TestAround_SomebodyElseThaws: nothing is claimed of the snapshot.
func TestAround_SomebodyElseThaws(t *testing.T) {
	tr := newTrial(t, database(0, 0))
	result, err := tr.flow.Around(t.Context(), work(), func(ctx context.Context) error {
		_, err := tr.cloud.Client(t).Run(ctx, machine.Command{Machine: azuretest.Machine("db"), OS: "Linux", Ticket: "somebody", Script: "fsfreeze -u /data"})
		return err
	})
	if err != nil || result.Freeze.Held || result.Freeze.By != guest.ThawedByUs || len(result.Warnings) != 1 {
		t.Errorf("%+v, %v", result, err)
	}
}

// TestAround_GuestsThatCannotFreeze: no agent, only one disk. The snapshot is taken, and nothing is claimed.
func TestAround_GuestsThatCannotFreeze(t *testing.T) {
	silent, small := database(0, 0), database(0, 0)
	silent.Guest.NoAgent = true
	small.DataDisks, small.Guest.Mounts = nil, nil
	for name, vm := range map[string]estate.VirtualMachine{"no agent": silent, "one disk": small} {
		tr, w := newTrial(t, vm), work()
		w.Processing = holdfast.GuestProcessing{}
		result, err := tr.flow.Around(t.Context(), w, tr.snapshot)
		if err != nil || !result.Taken || result.Freeze.Held || len(result.Warnings) == 0 {
			t.Errorf("%s: %+v, %v", name, result, err)
		}
	}
}

// TestAround_AnyCallGoesWrong proves for each call to Azure, with each sort of trouble, that the guest is thawed when the
// flow returns, or by its timer where every thaw was in vain; and that a freeze is claimed only for a snapshot in it.
func TestAround_AnyCallGoesWrong(t *testing.T) {
	calls := newTrial(t, database(0, 0))
	good := calls.cloud.Calls(func() {
		if _, err := calls.flow.Around(t.Context(), work(), calls.snapshot); err != nil {
			t.Fatal(err)
		}
	})
	troubles := []fault.Rule{
		{Fault: fault.Lost},
		{Fault: fault.Lost, AfterEffect: true},
		{Fault: fault.Error},
		{Fault: fault.Error, AfterEffect: true},
		{Fault: fault.FailOperation},
		{Fault: fault.FailOperation, AfterEffect: true},
		{Fault: fault.Error, Status: 403, Code: "AuthorizationFailed"},
	}
	for _, trouble := range troubles {
		tr := newTrial(t, database(0, 0))
		for call := 1; call <= good; call++ {
			tr.taken, trouble.On, trouble.Calls = 0, fault.ARM, []int{call}
			if err := tr.cloud.Faults.Set(fault.Plan{Rules: []fault.Rule{trouble}}); err != nil {
				t.Fatal(err)
			}
			w, name := work(), fmt.Sprintf("%s %t %d at call %d", trouble.Fault, trouble.AfterEffect, trouble.Status, call)
			w.Name = name
			result, err := tr.flow.Around(t.Context(), w, tr.snapshot)
			if frozen := tr.frozenIn(0); len(frozen) > 0 && len(result.Warnings) == 0 {
				t.Errorf("%s: frozen %v, and nobody is told: %+v, %v", name, frozen, result, err)
			}
			if frozen := tr.frozenIn(freezeFor); len(frozen) > 0 {
				t.Errorf("%s: the guest stays frozen: %v; %+v, %v", name, frozen, result, err)
			}
			if result.Freeze.Held && len(tr.frozen) != 2 || err == nil && tr.taken != 1 || tr.taken > 1 {
				t.Errorf("%s: %+v; the snapshot (%d) saw %v frozen; %v", name, result, tr.taken, tr.frozen, err)
			}
			tr.await()
		}
	}
}

// await lets a freeze that only its timer ends pass, by restarting the machine, which forgets it.
func (tr *trial) await() {
	tr.t.Helper()
	if err := tr.cloud.Faults.Set(fault.Plan{}); err != nil {
		tr.t.Fatal(err)
	}
	if len(tr.frozenIn(0)) > 0 {
		tr.cloud.Restart(tr.t, azuretest.Machine("db"))
	}
}

// TestAround_TheProcessDies at each call: whatever was frozen is thawed when the timer ends, though nobody comes back.
func TestAround_TheProcessDies(t *testing.T) {
	for call, frozenOnce := 1, false; ; call++ {
		life := azuretest.NewLife(call)
		tr := newTrial(t, database(0, 0), azuretest.Wrapped(func(next http.RoundTripper) http.RoundTripper { return life.Transport(next) }))
		w := work()
		w.Processing = holdfast.GuestProcessing{} // the freeze alone
		_, _ = tr.flow.Around(t.Context(), w, tr.snapshot)
		frozenOnce = frozenOnce || len(tr.frozenIn(0)) > 0
		if frozen := tr.frozenIn(freezeFor); len(frozen) > 0 {
			t.Errorf("died at call %d: the guest stays frozen: %v", call, frozen)
		}
		if !life.Ended() {
			if !frozenOnce {
				t.Error("no death left anything frozen, so that the timer was not needed: nothing was proven")
			}
			return
		}
	}
}
