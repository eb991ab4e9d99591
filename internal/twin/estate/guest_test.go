package estate_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
)

const guestEstate = `
subscriptions: [{id: 11111111-1111-1111-1111-111111111111, name: production}]
resourceGroups: [{name: shop, subscription: production, location: westeurope}]
virtualMachines:
  - name: db
    resourceGroup: shop
    size: Standard_D4s_v5
    os: OS
    osDisk: {name: db-os, sizeGiB: 32}
    dataDisks: [{lun: 0, name: db-data, sizeGiB: 4}, {lun: 1, name: db-log, sizeGiB: 4}]
    guest: GUEST
`

func guestOf(system, guest string) string {
	return strings.NewReplacer("OS\n", system+"\n", "GUEST", guest).Replace(guestEstate)
}

// TestGuest_AcceptsEveryDeclarableProperty for both systems.
func TestGuest_AcceptsEveryDeclarableProperty(t *testing.T) {
	e, err := parse(t, guestOf("Linux", `{noAgent: true, snapshotScripts: true, mounts: [{disk: db-data, path: /data}],
      scripts: [{path: /opt/a.sh, exitCode: 255, durationMs: 20, output: done, outputBytes: 9000, errors: oh, echoArguments: true, effect: {disk: db-data, offset: 512, text: x}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	g := e.VirtualMachines[0].Guest
	if !g.NoAgent || !g.SnapshotScripts || g.Mounts[0].Path != "/data" || g.Scripts[0].ExitCode != 255 || g.Scripts[0].Effect.Offset != 512 {
		t.Errorf("%+v", g)
	}
	if _, err := parse(t, guestOf("Windows", `{vss: failing, scripts: [{path: 'C:\scripts\before run.ps1', exitCode: -1}, {path: 'D:\b.cmd'}]}`)); err != nil {
		t.Error(err)
	}
}

// TestGuest_RefusesAndNamesTheField has a row for each rule.
func TestGuest_RefusesAndNamesTheField(t *testing.T) {
	for _, c := range []struct{ system, guest, field, says string }{
		{"Linux", "{agent: false}", "guest.agent", "unknown field"},
		{"Linux", "{vss: working}", "guest.vss", "only Windows"},
		{"Windows", "{vss: broken}", "guest.vss", "working or failing"},
		{"Windows", "{snapshotScripts: true}", "guest.snapshotScripts", "only Linux"},
		{"Windows", `{mounts: [{disk: db-data, path: 'E:\'}]}`, "guest.mounts", "only Linux"},
		{"Linux", "{mounts: [{disk: db-os, path: /data}]}", "guest.mounts[0].disk", "db-data, db-log"},
		{"Linux", "{mounts: [{disk: db-data, path: /}]}", "guest.mounts[0].path", "mounted at /"},
		{"Linux", "{mounts: [{disk: db-data, path: /a}, {disk: db-log, path: /a}]}", "guest.mounts[1]", "already"},
		{"Linux", `{scripts: [{path: 'C:\a.ps1'}]}`, "guest.scripts[0].path", "/opt/before.sh"},
		{"Windows", `{scripts: [{path: 'C:\a.sh'}]}`, "guest.scripts[0].path", "ps1"},
		{"Windows", `{scripts: [{path: 'C:\a.cmd'}, {path: 'c:\A.CMD'}]}`, "guest.scripts[1].path", "already"},
		{"Linux", "{scripts: [{path: /a.sh, exitCode: 256}]}", "guest.scripts[0].exitCode", "0 to 255"},
		{"Linux", "{scripts: [{path: /a.sh, durationMs: -1}]}", "guest.scripts[0].durationMs", "out of range"},
		{"Linux", "{scripts: [{path: /a.sh, outputBytes: 2000000}]}", "guest.scripts[0].outputBytes", "out of range"},
		{"Linux", "{scripts: [{path: /a.sh, effect: {disk: other, text: x}}]}", "guest.scripts[0].effect.disk", "db-os, db-data"},
		{"Linux", "{scripts: [{path: /a.sh, effect: {disk: db-data}}]}", "guest.scripts[0].effect.text", "missing"},
		{"Linux", "{scripts: [{path: /a.sh, effect: {disk: db-data, text: xx, offset: 4294967295}}]}", "guest.scripts[0].effect.offset", "does not fit"},
	} {
		_, err := parse(t, guestOf(c.system, c.guest))
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Kind != holdfast.KindInvalid || e.Field != "virtualMachines[0]."+c.field || !strings.Contains(e.Error()+e.Hint, c.says) {
			t.Errorf("%s: %v, want %s and %q", c.guest, err, c.field, c.says)
		}
	}
}
