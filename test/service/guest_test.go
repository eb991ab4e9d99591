package service

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// guestEstate is a database server on two disks in which scripts run.
const guestEstate = `subscriptions:
  - {id: ` + subscription + `, name: production}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope}
virtualMachines:
  - name: db-1
    resourceGroup: shop
    size: Standard_D4s_v5
    os: Linux
    osDisk: {name: db-1-os, sizeGiB: 4, sku: Premium_LRS}
    dataDisks: [{lun: 0, name: db-1-data, sizeGiB: 8, sku: Premium_LRS}]
    guest:
      mounts: [{disk: db-1-data, path: /var/lib/postgresql}]
      scripts:
        - {path: /opt/before.sh, durationMs: 10, output: "checkpoint written", effect: {disk: db-1-data, offset: 1048576, text: checkpoint}}
        - {path: /opt/after.sh, exitCode: 1, errors: "nothing to release"}
`

// TestGuest_Scripts runs the scripts of a policy around a snapshot: what the one before it did is in the backup, a failure fails the machine or, where
// the policy forgives it, is a warning, and no guest is left frozen.
func TestGuest_Scripts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, guestEstate)
	w.server(freePort(t))
	for _, c := range []struct {
		name, guest, says string
		outcome           holdfast.Outcome
	}{
		{"before", "{linux: {before: {path: /opt/before.sh}}}", "", holdfast.OutcomeSuccess},
		{"after fails", "{linux: {before: {path: /opt/before.sh}, after: {path: /opt/after.sh}}}", "after.sh", holdfast.OutcomeError},
		{"after is forgiven", "{ignoreExitCodes: true, linux: {after: {path: /opt/after.sh}}}", "after.sh", holdfast.OutcomeWarning},
		{"missing", "{linux: {before: {path: /opt/nowhere.sh}}}", "nowhere.sh", holdfast.OutcomeError},
		{"missing is forgiven", "{ignoreMissingScripts: true, linux: {before: {path: /opt/nowhere.sh}}}", "nowhere.sh", holdfast.OutcomeWarning},
		{"frozen", "{applicationConsistent: true, linux: {before: {path: /opt/before.sh}}}", "one by one", holdfast.OutcomeWarning},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.write("db-1-data", 1<<20, bytes.Repeat([]byte{0}, len("checkpoint")))
			w.apply(nightly + "guest: " + c.guest + "\n")
			before := len(w.points("--kind", "backup"))
			w.run("policy", "run", "nightly", "--wait")
			var all []view.Session
			w.do(&all, "session", "list", "--limit", "1")
			var one view.Session
			w.do(&one, "session", "show", string(all[0].ID))
			if m := one.Machines[0]; m.Outcome != c.outcome || !strings.Contains(m.Message, c.says) {
				t.Errorf("%s: %s", m.Outcome, m.Message)
			}
			made := len(w.points("--kind", "backup")) - before
			if want := map[bool]int{true: 0, false: 1}[c.outcome == holdfast.OutcomeError]; made != want {
				t.Errorf("%d backups were made", made)
			}
			if strings.Contains(c.guest, "before.sh") && made == 1 {
				w.mustHoldCheckpoint(t)
			}
			frozen, err := w.guests.Frozen(t.Context(), string(holdfast.NewResourceID(subscription, "shop", "Microsoft.Compute/virtualMachines", "db-1")), 0)
			must(t, err)
			if len(frozen) > 0 {
				t.Errorf("%v are frozen", frozen)
			}
		})
	}
	w.mustBeInOrder()
}

// mustHoldCheckpoint looks for what the script before the snapshot wrote in the newest backup.
func (w *world) mustHoldCheckpoint(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	w.do(nil, "repo", "export", "--repo", filepath.Join(w.dir, "backups"), "--point", string(w.points("--kind", "backup")[0].ID), "--disk", "0", "--out", file)
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	text := make([]byte, len("checkpoint"))
	_, err = f.ReadAt(text, 1<<20)
	must(t, err)
	if string(text) != "checkpoint" {
		t.Errorf("the backup holds %q", text)
	}
}
