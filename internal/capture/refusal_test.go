package capture_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/azuretest"
	"github.com/holdfast-backup/holdfast/internal/capture"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
)

func asError(err error, target **holdfast.Error) bool { return errors.As(err, target) }

// refused runs a backup that must be refused: the error has the kind and names what stands in the way, says what to do,
// and nothing is left in the cloud or waiting in the log.
func (w *world) refused(kind holdfast.Kind, names ...string) {
	w.t.Helper()
	before := w.Snapshots(w.t)
	_, err := w.process(w.t.Context(), nil, capture.Options{})
	var e *holdfast.Error
	if !asError(err, &e) || e.Kind != kind {
		w.t.Fatalf("%v (%s), want %s", err, holdfast.KindOf(err), kind)
	}
	for _, name := range names {
		if !strings.Contains(e.Message, name) {
			w.t.Errorf("%q does not name %q", e.Message, name)
		}
	}
	if e.Hint == "" {
		w.t.Errorf("%q comes without a hint", e.Message)
	}
	if after := w.Snapshots(w.t); strings.Join(after, " ") != strings.Join(before, " ") {
		w.t.Errorf("snapshots before %v, after %v", before, after)
	}
	w.checkQuiet()
}

// TestRun_UnsupportedDisks proves that disks that cannot be exported are refused by name before anything is made.
func TestRun_UnsupportedDisks_AreRefusedByName(t *testing.T) {
	data := func(d estate.Disk) func(*estate.VirtualMachine) {
		return func(vm *estate.VirtualMachine) {
			d.LUN, d.Name, d.SizeGiB = 3, "odd", 16
			vm.DataDisks = append(vm.DataDisks, d)
		}
	}
	for name, c := range map[string]struct {
		change func(*estate.VirtualMachine)
		kind   holdfast.Kind
		names  string
	}{
		"ephemeral":    {func(vm *estate.VirtualMachine) { vm.OSDisk.Ephemeral = true }, holdfast.KindInvalid, "tiny-os"},
		"DenyAll":      {data(estate.Disk{SKU: "Premium_LRS", NetworkAccessPolicy: "DenyAll"}), holdfast.KindRefused, "odd"},
		"AllowPrivate": {data(estate.Disk{SKU: "Premium_LRS", NetworkAccessPolicy: "AllowPrivate"}), holdfast.KindRefused, "odd"},
		"shared":       {data(estate.Disk{SKU: "Premium_LRS", Shared: true}), holdfast.KindInvalid, "odd"},
		"4096 sectors": {data(estate.Disk{SKU: "UltraSSD_LRS", LogicalSectorBytes: 4096}), holdfast.KindInvalid, "odd"},
	} {
		t.Run(name, func(t *testing.T) {
			vm := tiny()
			vm.Zone = "1"
			c.change(&vm)
			newWorld(t, vm, azuretest.Options{}).refused(c.kind, c.names, "tiny")
		})
	}
}

// TestRun_UnknownMachine proves that a machine that does not exist is not found, and one of another type is invalid.
func TestRun_UnknownMachine_IsNotFound(t *testing.T) {
	w := newWorld(t, tiny(), azuretest.Options{})
	w.vm = azuretest.Machine("nobody")
	w.refused(holdfast.KindNotFound, "nobody")
	w.vm = azuretest.Disk("tiny-os")
	w.refused(holdfast.KindInvalid, "tiny-os")
}

// TestRun_Locks proves that a lock on the place of the snapshots, or on the base, is refused before anything is made, and
// that a lock on the machine itself does not matter.
func TestRun_Locks_AreRefusedBeforeAnythingIsMade(t *testing.T) {
	for name, c := range map[string]struct {
		lock    estate.Lock
		refused bool
	}{
		"read-only group":         {estate.Lock{Scope: "shop", Level: "ReadOnly"}, true},
		"group without deletion":  {estate.Lock{Scope: "shop", Level: "CanNotDelete"}, true},
		"machine without changes": {estate.Lock{Scope: "shop/tiny", Level: "ReadOnly"}, false},
		"other group":             {estate.Lock{Scope: "lab", Level: "ReadOnly"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := azuretest.Estate(tiny())
			e.Locks = append(e.Locks, c.lock)
			w := newWorldOf(t, e, tiny(), azuretest.Options{})
			if c.refused {
				w.refused(holdfast.KindRefused, "lock", c.lock.Scope)
				return
			}
			w.check(w.backup(capture.Options{}))
		})
	}
}

// TestRun_LockedBase proves that a lock on the base snapshot is refused, and that the backup goes on once it is gone.
func TestRun_LockedBase_IsRefusedAndGoesOnWithoutTheLock(t *testing.T) {
	w := newWorld(t, tiny(), azuretest.Options{})
	w.backup(capture.Options{})
	lock := w.Lock(t, holdfast.ResourceID(w.Snapshots(t)[0]), "CanNotDelete")
	w.refused(holdfast.KindRefused, "lock", "snapshot")
	w.Unlock(t, lock)
	w.check(w.backup(capture.Options{}))
}
