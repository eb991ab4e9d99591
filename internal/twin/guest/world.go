package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/compute/facts"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/guest/sh"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// world is what a guest is and holds, as it is kept in the state.
type world struct {
	Declared estate.Guest      `json:"declared"`
	Boot     string            `json:"boot"`               // of which what follows is true
	Files    sh.Files          `json:"files"`              // of scripts; those below /run go with the boot
	Frozen   map[string]string `json:"frozen,omitempty"`   // mount points, and the disk below each
	Jobs     []job             `json:"jobs,omitempty"`     // what goes on in the background
	Command  string            `json:"command,omitempty"`  // the boot in which a command runs
	Fallback int               `json:"fallback,omitempty"` // attempts that will be consistent for filesystems alone
}

// job is the rest of a background command.
type job struct {
	Due time.Time `json:"due"`
	sh.Job
}

// host is a world while a script runs in it.
type host struct {
	*world
	now     time.Time
	mounts  []mount
	effects []effect // what script files wrote to disks
}

// mount is a filesystem of a guest.
type mount struct {
	disk string // its resource id
	path string
}

type effect struct {
	disk   string
	offset int64
	text   string
}

const documentPrefix = "guest/"

func documentID(machine *state.Document) string {
	return documentPrefix + machine.Body.Text("properties.vmId")
}

// load returns a machine's guest as it is at a moment: since the last look its boot may have changed and jobs come due.
func load(view *state.View, machine *state.Document, now time.Time) (*host, error) {
	w := &world{}
	if doc := view.Get(documentID(machine)); doc != nil {
		if err := json.Unmarshal([]byte(doc.Hidden.Text("world")), w); err != nil {
			return nil, holdfast.Wrap(holdfast.KindInternal, err, "the guest of %s cannot be read", machine.ID)
		}
	}
	boot, running := facts.Running(machine)
	if w.Boot != boot {
		w.reboot(boot)
	}
	h := &host{world: w, now: now, mounts: mountsOf(machine, w.Declared)}
	if running {
		h.advance(now)
	}
	return h, nil
}

// reboot forgets what a guest holds in memory, and makes its script files.
func (w *world) reboot(boot string) {
	w.Boot, w.Frozen, w.Jobs = boot, nil, nil
	if w.Files == nil {
		w.Files = sh.Files{}
	}
	maps.DeleteFunc(w.Files, func(path string, _ sh.File) bool { return strings.HasPrefix(path, "/run/") })
	for _, folder := range []string{"/run", "/tmp"} {
		w.Files[folder] = sh.File{Folder: true}
	}
	for _, s := range w.Declared.Scripts {
		w.Files[s.Path] = sh.File{Program: true}
	}
}

// save keeps the guest.
func (h *host) save(tx *state.Tx, machine *state.Document) error {
	text, err := json.Marshal(h.world)
	if err != nil {
		return holdfast.Wrap(holdfast.KindInternal, err, "the guest of %s cannot be written", machine.ID)
	}
	doc := &state.Document{ID: documentID(machine), Hidden: state.Object{}}
	doc.Hidden.Set("world", string(text))
	tx.Put(doc)
	return nil
}

// advance runs the jobs that have come due, each at its own time.
func (h *host) advance(now time.Time) {
	for {
		slices.SortStableFunc(h.Jobs, func(a, b job) int { return a.Due.Compare(b.Due) })
		if len(h.Jobs) == 0 || h.Jobs[0].Due.After(now) {
			h.now = now
			return
		}
		next := h.Jobs[0]
		h.Jobs, h.now = h.Jobs[1:], next.Due
		sh.Run(h, next.Job, next.Due)
	}
}

// mountsOf lists the filesystems of a machine: the OS disk at the root, data disks where the estate says, else below
// /disks.
func mountsOf(machine *state.Document, declared estate.Guest) []mount {
	var mounts []mount
	for i, reference := range facts.DiskReferences(machine.Body) {
		m := mount{disk: reference.Text("managedDisk.id"), path: "/disks/" + reference.Text("name")}
		if i == 0 {
			m.path = "/"
		}
		for _, other := range declared.Mounts {
			if strings.EqualFold(other.Disk, reference.Text("name")) {
				m.path = other.Path
			}
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// Files implements sh.Host.
func (h *host) Files() sh.Files { return h.world.Files }

// Mounts implements sh.Host.
func (h *host) Mounts() string {
	var text strings.Builder
	text.WriteString("proc /proc proc rw,nosuid 0 0\ntmpfs /run tmpfs rw,nosuid 0 0\n")
	for i, m := range h.mounts {
		fmt.Fprintf(&text, "/dev/sd%c1 %s ext4 rw,relatime 0 0\n", 'a'+i, m.path)
	}
	return text.String()
}

func (h *host) mounted(path string) (mount, bool) {
	i := slices.IndexFunc(h.mounts, func(m mount) bool { return m.path == path })
	if i < 0 {
		return mount{}, false
	}
	return h.mounts[i], true
}

// Freeze implements sh.Host.
func (h *host) Freeze(path string) error {
	m, found := h.mounted(path)
	switch {
	case !found:
		return errors.New("not a mount point of a filesystem")
	case h.Frozen[path] != "":
		return errors.New("freeze failed: Device or resource busy")
	}
	if h.Frozen == nil {
		h.Frozen = map[string]string{}
	}
	h.Frozen[path] = m.disk
	return nil
}

// Thaw implements sh.Host.
func (h *host) Thaw(path string) error {
	if h.Frozen[path] == "" {
		return errors.New("unfreeze failed: Invalid argument")
	}
	delete(h.Frozen, path)
	return nil
}

// Later implements sh.Host.
func (h *host) Later(delay time.Duration, later sh.Job) {
	h.Jobs = append(h.Jobs, job{Due: h.now.Add(delay), Job: later})
}

// Program implements sh.Host.
func (h *host) Program(path string, arguments []string) (sh.Result, bool) {
	i := slices.IndexFunc(h.Declared.Scripts, func(s estate.GuestScript) bool { return s.Path == path })
	if i < 0 {
		return sh.Result{}, false
	}
	script := h.Declared.Scripts[i]
	took := time.Duration(script.DurationMs) * time.Millisecond
	text := script.Output
	if script.EchoArguments {
		text += strings.Join(arguments, "\n") + "\n"
	}
	if missing := script.OutputBytes - len(text); missing > 0 {
		text += strings.Repeat("x", missing)
	}
	result := sh.Result{Output: text, Errors: script.Errors, Status: script.ExitCode, Took: took}
	if script.Effect.Disk == "" {
		return result, true
	}
	disk := ""
	for _, m := range h.mounts {
		if strings.EqualFold(m.disk[strings.LastIndex(m.disk, "/")+1:], script.Effect.Disk) {
			disk = m.disk
		}
	}
	if h.isFrozen(disk) {
		// A program that writes to a frozen filesystem hangs there. One that hangs for ever helps nobody: it fails.
		result.Status, result.Errors = 1, "the filesystem of "+script.Effect.Disk+" is frozen\n"
		return result, true
	}
	h.effects = append(h.effects, effect{disk: disk, offset: script.Effect.Offset, text: script.Effect.Text})
	return result, true
}

func (h *host) isFrozen(disk string) bool {
	for _, frozen := range h.Frozen {
		if strings.EqualFold(frozen, disk) {
			return true
		}
	}
	return false
}
