package service

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/view"
	"github.com/holdfast-backup/holdfast/test/programtest"
)

const nightly = `kind: Repository
name: local
url: backups
passwordFrom: {environment: HOLDFAST_REPO_PASSWORD}
---
kind: SchedulePolicy
name: nightly
sources: {regions: [westeurope], all: true}
retries: 5
daily:
  snapshots: {hours: [22], keep: 2}
  backups: {hours: [22], keep: 14 days, repository: local}
`

// kills is how often the server is killed: as often as the promise says, and less where time is short.
func kills() int {
	if testing.Short() {
		return 10
	}
	return 30
}

// TestServer_Killed kills the server again and again while sessions run. The next one goes on where it stood: in the end every session has
// ended, every point is whole, and nothing is left in the cloud that nobody knows.
func TestServer_Killed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, estateOf("vm-1", "vm-2", "vm-3"))
	address := freePort(t)
	random := rand.New(rand.NewPCG(1, 2))
	server := w.server(address)
	w.apply(nightly)
	met := 0
	for round := range kills() {
		for _, disk := range []string{"vm-1-os", "vm-2-data", "vm-3-os"} {
			w.write(disk, random.Int64N(1000)<<16, bytes.Repeat([]byte{byte(round + 1)}, 1<<16))
		}
		w.run("policy", "run", "nightly") // machines that are in work already are left out
		must(t, clock.System{}.Sleep(t.Context(), time.Duration(random.IntN(1200))*time.Millisecond))
		server.kill()
		server = w.server(address)
		if len(w.open()) > 0 {
			met++
		}
	}
	if met < kills()/3 {
		t.Errorf("only %d of %d kills met a session at work", met, kills())
	}
	w.allEnd()
	var started view.Started
	w.do(&started, "policy", "run", "nightly")
	w.allEnd()
	w.mustBeInOrder()
	w.mustRestore()
	server.stop()
}

// open are the sessions that have not ended.
func (w *world) open() (open []view.Session) {
	w.t.Helper()
	w.do(&open, "session", "list", "--state", "queued", "--state", "running")
	return open
}

// allEnd waits until no session is open, and looks at what each came to.
func (w *world) allEnd() {
	w.t.Helper()
	eventually(w.t, "all sessions have ended", func() bool { return len(w.open()) == 0 })
	var all []view.Session
	w.do(&all, "session", "list")
	for _, s := range all {
		if s.Outcome == holdfast.OutcomeError {
			var one view.Session
			w.do(&one, "session", "show", string(s.ID))
			for _, m := range one.Machines {
				if m.Outcome == holdfast.OutcomeError {
					w.t.Errorf("the session %s failed for %s: %s", s.ID, m.VM.Name(), m.Message)
				}
			}
		}
	}
}

// mustRestore reads backups with nothing but the storage and its password, and compares the newest one of each machine with its disks.
func (w *world) mustRestore() {
	w.t.Helper()
	newest := map[string]view.Point{}
	for _, p := range w.points("--kind", "backup") {
		if p.Created.After(newest[p.Name].Created) {
			newest[p.Name] = p
		}
	}
	if len(newest) == 0 {
		w.t.Error("there is no backup")
	}
	for name, p := range newest {
		for lun, disk := range map[string]string{"os": name + "-os", "0": name + "-data"} {
			w.t.Run(fmt.Sprintf("%s/%s", name, lun), func(t *testing.T) {
				want, got := filepath.Join(t.TempDir(), "want"), filepath.Join(t.TempDir(), "got")
				_, err := w.guests.ReadFile(t.Context(), diskID(disk), want)
				must(t, err)
				w.do(nil, "repo", "export", "--repo", filepath.Join(w.dir, "backups"), "--point", string(p.ID), "--disk", lun, "--out", got)
				programtest.MustBeEqual(t, got, want)
			})
		}
	}
}
