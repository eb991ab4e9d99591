package capture

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// The tags of our snapshots. Those that a backup makes for itself bear the repository's; those of a snapshot point bear the point's,
// and enough beside it to know the point again when nothing but the cloud is left. Never both: the one is rotated by backups, the
// other removed with its point.
const (
	tagRepository = "holdfast-repository"
	tagPoint      = "holdfast-point"
	tagPolicy     = "holdfast-policy"
	tagSession    = "holdfast-session"
	tagMachine    = "holdfast-vm"
	tagKind       = "holdfast-kind" // snapshot or temporary
	tagFlags      = "holdfast-flags"
	tagSlot       = "holdfast-slot"
	tagLUN        = "holdfast-lun"
	tagDisks      = "holdfast-disks" // how many the set has

	tagPrefix = "holdfast-" // whatever begins so is ours, and is neither copied from disks nor given by policies

	kindTemporary = "temporary"
)

// Azure's limits of tags.
const (
	tagsMax         = 50
	tagNameCharsMax = 512
	tagCharsMax     = 256
)

// tagOf returns the value of a tag. Azure does not tell names apart by case.
func tagOf(tags map[string]string, name string) string {
	if value, ok := tags[name]; ok {
		return value
	}
	for found, value := range tags {
		if strings.EqualFold(found, name) {
			return value
		}
	}
	return ""
}

// machineTag is the machine's id, or, when Azure does not take it, its name.
func machineTag(id holdfast.ResourceID, name string) string {
	if utf8.RuneCountInString(string(id)) > tagCharsMax {
		return name
	}
	return string(id)
}

// tagsFor returns the tags of one snapshot of a set: ours, those that the policy gives, and as many of the disk's as there is room
// for. Ours go first and cannot be replaced. dropped is how many of the disk's had no room.
func tagsFor(set holdfast.SnapshotSet, d machine.Disk, disks int, o SnapshotOptions) (tags map[string]string, dropped int) {
	tags = map[string]string{
		tagPoint: string(set.Point), tagMachine: machineTag(set.VM, set.Name), tagKind: string(holdfast.PointSnapshot),
		tagLUN: string(d.LUN), tagDisks: strconv.Itoa(disks),
	}
	if set.Temporary {
		tags[tagKind] = kindTemporary
	}
	if set.Session != "" {
		tags[tagSession] = string(set.Session)
	}
	if set.Policy != "" {
		tags[tagPolicy] = set.Policy
	}
	if set.Flags != 0 {
		tags[tagFlags] = set.Flags.String()
	}
	if !set.Slot.IsZero() {
		tags[tagSlot] = set.Slot.UTC().Format(time.RFC3339)
	}
	taken := map[string]bool{}
	for _, tag := range o.Tags {
		tags[tag.Name] = tag.Value
		taken[strings.ToLower(tag.Name)] = true
	}
	if !o.CopyTags {
		return tags, 0
	}
	for _, name := range slices.Sorted(maps.Keys(d.Tags)) {
		switch {
		case ourTag(name) || taken[strings.ToLower(name)]:
		case len(tags) == tagsMax:
			dropped++
		default:
			tags[name] = d.Tags[name]
		}
	}
	return tags, dropped
}

func ourTag(name string) bool { return strings.HasPrefix(strings.ToLower(name), tagPrefix) }

// checkTags refuses what Azure would refuse, and what could be taken for a tag of ours.
func checkTags(tags []holdfast.Tag) error {
	if len(tags) > holdfast.MaxSnapshotTags {
		return wrongTags("%d tags are given to snapshots", len(tags))
	}
	seen := map[string]bool{}
	for _, tag := range tags {
		name := strings.ToLower(tag.Name)
		switch {
		case name == "" || utf8.RuneCountInString(tag.Name) > tagNameCharsMax || utf8.RuneCountInString(tag.Value) > tagCharsMax:
			return wrongTags("the tag %.60q has no name, or is too long", tag.Name)
		case ourTag(tag.Name):
			return wrongTags("the tag %q could be taken for one by which Holdfast knows its own snapshots", tag.Name)
		case seen[name]:
			return wrongTags("the tag %q is given twice", tag.Name)
		}
		seen[name] = true
	}
	return nil
}

func wrongTags(format string, args ...any) error {
	return holdfast.Errorf(holdfast.KindInvalid, format, args...).WithField("tags").
		WithHint("give up to %d tags, each name once, that do not begin with %s, with values of up to %d characters", holdfast.MaxSnapshotTags, tagPrefix, tagCharsMax)
}
