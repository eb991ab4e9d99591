package machine

import (
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Consistency is what a restore point of a machine claims of its disks, in Azure's words.
type Consistency string

// The consistencies. FileSystemConsistent is never asked for: it is what application consistency becomes in guests whose
// applications cannot be asked.
const (
	CrashConsistent       Consistency = "CrashConsistent"
	ApplicationConsistent Consistency = "ApplicationConsistent"
	FileSystemConsistent  Consistency = "FileSystemConsistent"
)

// CollectionRequest asks for a restore point collection. Its name is chosen before the call.
type CollectionRequest struct {
	ID       holdfast.ResourceID
	SourceID holdfast.ResourceID // the machine
	Location string              // the machine's
	Tags     map[string]string   // also how the collection is known again as ours; points have no tags
}

// Collection is a restore point collection.
type Collection struct {
	ID       holdfast.ResourceID
	SourceID holdfast.ResourceID
	Location string
	Tags     map[string]string
}

// RestorePointRequest asks for a restore point in a collection. Its name is chosen before the call.
type RestorePointRequest struct {
	ID          holdfast.ResourceID
	Consistency Consistency           // CrashConsistent or ApplicationConsistent
	Exclude     []holdfast.ResourceID // disks that are left out
}

// RestorePoint is a restore point of a machine: its disks, captured together.
type RestorePoint struct {
	ID          holdfast.ResourceID
	Consistency Consistency // what it turned out to be
	Created     time.Time
	Failed      bool
	Disks       []PointDisk // the OS disk first, then data disks by LUN
}

// PointDisk is a disk restore point: what one disk held. Its exact size is known when it is opened.
type PointDisk struct {
	ID             holdfast.ResourceID
	LUN            holdfast.LUN
	SourceID       holdfast.ResourceID
	SourceUniqueID string
	FamilyID       string // two of one family can be compared
	SizeGiB        int64  // of the disk, as the machine's description rounds it
	Ready          bool   // it can be read; Ultra and Premium v2 are copied in the background first
	Percent        float64
}

// CrashSet says whether a crash-consistent restore point of the machine without the excluded disks is one instant of its
// guest; if not, why names what stands against it and possible tells a request that Azure accepts without guaranteeing
// anything from one that it refuses.
//
// The rules are those of "Support matrix for VM restore points" (Microsoft Learn, 2026).
func (v VM) CrashSet(size Size, exclude ...holdfast.ResourceID) (why string, possible, guaranteed bool) {
	excluded := map[string]bool{}
	for _, id := range exclude {
		excluded[id.Key()] = true
	}
	if !size.PremiumDisks {
		return "the size " + v.Size + " does not support premium storage", false, false
	}
	data, doubt := 0, ""
	for _, d := range v.Disks {
		if d.ID != "" && excluded[d.ID.Key()] {
			continue
		}
		switch {
		case d.Ephemeral || d.ID == "":
			return "the disk " + d.Name + " is ephemeral or unmanaged", false, false
		case d.MaxShares > 1:
			return "the disk " + d.Name + " is shared", false, false
		case d.SKU == "UltraSSD_LRS" || d.SKU == "PremiumV2_LRS":
			return "the disk " + d.Name + " has SKU " + d.SKU, false, false
		case strings.HasPrefix(d.SecurityType, "ConfidentialVM"):
			return "the machine is a confidential one", false, false
		case strings.EqualFold(d.Caching, "ReadWrite"):
			doubt = "the disk " + d.Name + " has ReadWrite caching"
		}
		if d.LUN != holdfast.OSDisk {
			data++
		}
	}
	if doubt == "" && data > 1 && boosted(v.Size) {
		doubt = "several data disks on the size " + v.Size + " are not captured together"
	}
	return doubt, true, doubt == ""
}

// boosted tells sizes with Azure Boost by their version: from 6 on Intel, from 7 on AMD, whose names bear an "a" behind the
// number of vCPUs.
func boosted(size string) bool {
	name, version, found := strings.Cut(strings.TrimPrefix(size, "Standard_"), "_v")
	version, _, _ = strings.Cut(version, "_")
	number, err := strconv.Atoi(version)
	if !found || err != nil {
		return false
	}
	features := strings.TrimLeft(strings.TrimLeft(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "0123456789-")
	if strings.Contains(features, "a") {
		return number >= 7
	}
	return number >= 6
}
