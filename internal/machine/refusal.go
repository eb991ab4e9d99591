package machine

import (
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// Reader is who would read a disk.
type Reader struct {
	PrivateAccess bool // it reaches the private endpoints of disk access objects
}

// Refusal is why a disk cannot be backed up.
type Refusal struct {
	Kind holdfast.Kind // what a backup that meets the disk ends with
	Why  string        // goes on from the disk's name: "is a shared disk …"
	Hint string        // what to do about it
}

// Refusal says whether a disk, as Azure described it, cannot be exported, or not in a form that is kept here.
func (d Disk) Refusal(reader Reader) (refusal Refusal, refused bool) {
	if refusal, refused := d.SnapshotRefusal(); refused {
		return refusal, true
	}
	private := strings.EqualFold(d.NetworkAccess, "AllowPrivate") || strings.EqualFold(d.PublicAccess, "Disabled")
	switch {
	case strings.EqualFold(d.NetworkAccess, "DenyAll"):
		return refuse(holdfast.KindRefused, "may not be exported (networkAccessPolicy is DenyAll)",
			"set its networkAccessPolicy to AllowAll, or to AllowPrivate where Holdfast runs beside a private endpoint")
	case private && !reader.PrivateAccess:
		return refuse(holdfast.KindRefused, "may be exported through a private endpoint only (networkAccessPolicy is AllowPrivate)",
			"run Holdfast in a network that reaches the disk access object, or set networkAccessPolicy to AllowAll")
	case strings.EqualFold(d.DataAccessAuthMode, "AzureActiveDirectory"):
		return refuse(holdfast.KindRefused, "wants a sign-in for every read (dataAccessAuthMode is AzureActiveDirectory)",
			"set its dataAccessAuthMode to None")
	case d.LogicalSectorBytes == 4096:
		return refuse(holdfast.KindInvalid, "has sectors of 4096 bytes, which Azure exports as VHDX",
			"use a disk with logicalSectorSize 512")
	case strings.HasPrefix(d.SecurityType, "ConfidentialVM"):
		return refuse(holdfast.KindInvalid, "belongs to a confidential machine, whose content does not leave it",
			"protect such machines with snapshots alone")
	}
	return Refusal{}, false
}

// SnapshotRefusal says whether a disk, as Azure described it, cannot even be snapshotted so that something could be restored from
// it. What a snapshot holds need not be readable from outside.
func (d Disk) SnapshotRefusal() (refusal Refusal, refused bool) {
	switch {
	case d.Ephemeral:
		return refuse(holdfast.KindInvalid, "is an ephemeral OS disk, which has no snapshots",
			"move the machine to a managed OS disk, or protect what it stores elsewhere")
	case d.ID == "":
		return refuse(holdfast.KindInvalid, "is not a managed disk", "convert the machine to managed disks")
	case d.MaxShares > 1:
		return refuse(holdfast.KindInvalid, "is a shared disk (maxShares > 1), which is written by several machines",
			"set maxShares to 1, or detach the disk and protect its content from inside the cluster")
	case d.State == "ReadyToUpload", d.State == "ActiveUpload":
		return refuse(holdfast.KindConflict, "is still being uploaded", "finish or cancel the upload, then try again")
	}
	return Refusal{}, false
}

func refuse(kind holdfast.Kind, why, hint string) (Refusal, bool) {
	return Refusal{kind, why, hint}, true
}
