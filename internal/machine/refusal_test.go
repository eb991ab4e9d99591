package machine_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// TestDisk_Refusal has a row for each sort of disk that cannot be backed up, and for what looks like one. "" means that it can be.
func TestDisk_Refusal(t *testing.T) {
	managed := machine.Disk{ID: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d", MaxShares: 1, LogicalSectorBytes: 512, State: "Attached"}
	with := func(change func(*machine.Disk)) machine.Disk {
		d := managed
		change(&d)
		return d
	}
	inside := machine.Reader{PrivateAccess: true}
	for _, c := range []struct {
		name   string
		disk   machine.Disk
		reader machine.Reader
		want   holdfast.Kind
	}{
		{"plain", managed, machine.Reader{}, ""},
		{"ephemeral", with(func(d *machine.Disk) { d.Ephemeral, d.ID = true, "" }), inside, holdfast.KindInvalid},
		{"unmanaged", with(func(d *machine.Disk) { d.ID = "" }), inside, holdfast.KindInvalid},
		{"shared", with(func(d *machine.Disk) { d.MaxShares = 2 }), inside, holdfast.KindInvalid},
		{"denied", with(func(d *machine.Disk) { d.NetworkAccess = "denyall" }), inside, holdfast.KindRefused},
		{"private", with(func(d *machine.Disk) { d.NetworkAccess = "AllowPrivate" }), machine.Reader{}, holdfast.KindRefused},
		{"private, from inside", with(func(d *machine.Disk) { d.NetworkAccess = "AllowPrivate" }), inside, ""},
		{"not public", with(func(d *machine.Disk) { d.PublicAccess = "Disabled" }), machine.Reader{}, holdfast.KindRefused},
		{"not public, from inside", with(func(d *machine.Disk) { d.PublicAccess = "Disabled" }), inside, ""},
		{"signed in, from inside", with(func(d *machine.Disk) { d.NetworkAccess, d.DataAccessAuthMode = "AllowPrivate", "AzureActiveDirectory" }), inside, holdfast.KindRefused},
		{"no sign-in", with(func(d *machine.Disk) { d.DataAccessAuthMode = "None" }), machine.Reader{}, ""},
		{"large sectors", with(func(d *machine.Disk) { d.LogicalSectorBytes = 4096 }), machine.Reader{}, holdfast.KindInvalid},
		{"confidential", with(func(d *machine.Disk) { d.SecurityType = "ConfidentialVM_DiskEncryptedWithPlatformKey" }), machine.Reader{}, holdfast.KindInvalid},
		{"trusted launch", with(func(d *machine.Disk) { d.SecurityType = "TrustedLaunch" }), machine.Reader{}, ""},
		{"upload begins", with(func(d *machine.Disk) { d.State = "ReadyToUpload" }), machine.Reader{}, holdfast.KindConflict},
		{"upload goes on", with(func(d *machine.Disk) { d.State = "ActiveUpload" }), machine.Reader{}, holdfast.KindConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			refusal, refused := c.disk.Refusal(c.reader)
			if refused != (c.want != "") || refusal.Kind != c.want || refused && (refusal.Why == "" || refusal.Hint == "") {
				t.Errorf("refused: %t, %+v; want %q", refused, refusal, c.want)
			}
		})
	}
}

// TestDisk_SnapshotRefusal proves that a disk whose content may not leave it can still be snapshotted, and that all that refuses a
// snapshot refuses a backup.
func TestDisk_SnapshotRefusal(t *testing.T) {
	const id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d"
	for _, d := range []machine.Disk{
		{ID: id}, {ID: id, NetworkAccess: "DenyAll"}, {ID: id, PublicAccess: "Disabled"}, {ID: id, LogicalSectorBytes: 4096}, {ID: id, SecurityType: "ConfidentialVM_VMGuestStateOnly"},
	} {
		if refusal, refused := d.SnapshotRefusal(); refused {
			t.Errorf("%+v: %+v", d, refusal)
		}
	}
	for _, d := range []machine.Disk{{ID: id, Ephemeral: true}, {}, {ID: id, MaxShares: 2}, {ID: id, State: "ReadyToUpload"}, {ID: id, State: "ActiveUpload"}} {
		one, refused := d.SnapshotRefusal()
		if other, also := d.Refusal(machine.Reader{PrivateAccess: true}); !refused || !also || one != other {
			t.Errorf("%+v: %+v, %+v", d, one, other)
		}
	}
}
