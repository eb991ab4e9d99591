// Package e2e drives the built program as a person or a script does: processes, files, exit codes, JSON. Everything outside a
// process is a call to the twin, so a process can be killed at any of them.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
	"github.com/holdfast-backup/holdfast/test/programtest"
)

// program is the path of the built program, set by TestMain before any test runs.
var program string

func TestMain(m *testing.M) { programtest.Main(m, &program) }

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	password     = "a password for tests"
)

// world is a running twin and what a user of it has at hand.
type world struct {
	t      *testing.T
	dir    string // work folder
	twin   *twin.Twin
	guests *control.Client
	repo   string // address of the repository
}

// newWorld starts a twin with an estate.
func newWorld(t *testing.T, estate string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.repo = filepath.Join(w.dir, "repository")
	file := filepath.Join(w.dir, "estate.yaml")
	must(t, os.WriteFile(file, []byte(estate), 0o600))
	var err error
	w.twin, err = twin.Start(t.Context(), twin.Config{
		Dir: filepath.Join(w.dir, "twin"), EstateFile: file, // An old disk endpoint: the product has to speak a version that all of them know.
		Options: twin.Options{RateLimitsOff: true, SnapshotRateOff: true, DiskVersion: "2023-11-03"},
	})
	must(t, err)
	t.Cleanup(func() { must(t, w.twin.Close(context.Background())) })
	w.guests, err = control.Dial(filepath.Join(w.dir, "twin"))
	must(t, err)
	t.Cleanup(w.guests.Close)
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	programtest.Must(t, err)
}

// answer is what a process left behind.
type answer struct {
	code   int
	out    []byte
	errors string
}

// command prepares a process with the environment of a user of this world.
func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "HOLDFAST_REPO_PASSWORD="+password)
	if w.twin != nil { // some commands need no cloud
		cmd.Env = append(cmd.Env, "HOLDFAST_AZURE="+w.twin.Endpoints().AzureFile)
	}
	return cmd
}

// run runs a command to its end.
func (w *world) run(args ...string) answer {
	w.t.Helper()
	var out, errs bytes.Buffer
	cmd := w.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return answer{code: cmd.ProcessState.ExitCode(), out: out.Bytes(), errors: errs.String()}
}

// do runs a command that must succeed and decodes its JSON.
func (w *world) do(into any, args ...string) {
	w.t.Helper()
	a := w.run(append(args, "--json")...)
	if a.code != 0 {
		w.t.Fatalf("holdfast %s: exit %d\n%s\n%s", strings.Join(args, " "), a.code, a.out, a.errors)
	}
	if into != nil {
		w.decode(a, into)
	}
}

// decode reads the one JSON value, which stands on the last line.
func (w *world) decode(a answer, into any) {
	w.t.Helper()
	lines := strings.Split(strings.TrimSuffix(string(a.out), "\n"), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), into); err != nil {
		w.t.Fatalf("not JSON: %v\n%s", err, a.out)
	}
}

func vmID(name string) string {
	return string(holdfast.NewResourceID(subscription, "shop", "Microsoft.Compute/virtualMachines", name))
}

func diskID(name string) string {
	return string(holdfast.NewResourceID(subscription, "shop", "Microsoft.Compute/disks", name))
}

// backupResult is the contract of `backup --json`.
type backupResult struct {
	Point       string       `json:"point"`
	VM          string       `json:"vm"`
	ReadBytes   int64        `json:"readBytes"`
	StoredBytes int64        `json:"storedBytes"`
	Disks       []diskResult `json:"disks"`
}

type diskResult struct {
	LUN         string `json:"lun"`
	Name        string `json:"name"`
	SizeBytes   int64  `json:"sizeBytes"`
	Root        string `json:"root"`
	ReadBytes   int64  `json:"readBytes"`
	Full        bool   `json:"full"`
	Reason      string `json:"reason"`
	SnapshotSKU string `json:"snapshotSku"`
}

func (w *world) backup(vm string) backupResult {
	w.t.Helper()
	var result backupResult
	w.do(&result, "backup", "--repo", w.repo, "--vm", vmID(vm))
	return result
}

// write writes into a disk as its guest would.
func (w *world) write(disk string, offset int64, content []byte) {
	w.t.Helper()
	must(w.t, w.guests.Write(w.t.Context(), diskID(disk), offset, bytes.NewReader(content), int64(len(content))))
}

// snapshot is the content of a disk at one moment, kept by the test.
func (w *world) snapshot(disk string) string {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), disk+".img")
	_, err := w.guests.ReadFile(w.t.Context(), diskID(disk), file)
	must(w.t, err)
	return file
}

// mustExport exports a disk of a point and compares it with what the disk held. Another repository than the world's may be named.
func (w *world) mustExport(point, lun, want string, elsewhere ...string) {
	w.t.Helper()
	repository := w.repo
	for _, address := range elsewhere {
		repository = address
	}
	out := filepath.Join(w.t.TempDir(), "export.img")
	w.do(nil, "repo", "export", "--repo", repository, "--point", point, "--disk", lun, "--out", out)
	programtest.MustBeEqual(w.t, out, want)
	must(w.t, os.Remove(out))
}

// mustNotLeak checks that nothing is left in the cloud but one base snapshot for each of the disks named, without a SAS.
func (w *world) mustNotLeak(protected ...string) {
	w.t.Helper()
	var resources []struct {
		ID        string            `json:"id"`
		Type      string            `json:"type"`
		Tags      map[string]string `json:"tags"`
		SKU       string            `json:"sku"`
		Location  string            `json:"location"`
		ActiveSAS int               `json:"activeSas"`
	}
	w.do(&resources, "twin", "resources", "--dir", filepath.Join(w.dir, "twin"))
	snapshots := 0
	for _, r := range resources {
		if r.ActiveSAS != 0 {
			w.t.Errorf("%s has %d active SAS", r.ID, r.ActiveSAS)
		}
		if strings.EqualFold(r.Type, "Microsoft.Compute/snapshots") {
			snapshots++
			if r.SKU != "Standard_ZRS" {
				w.t.Errorf("snapshot %s in a region with zones is %s", r.ID, r.SKU)
			}
		}
	}
	if snapshots != len(protected) {
		w.t.Errorf("%d snapshots are left for %d protected disks", snapshots, len(protected))
		for _, r := range resources {
			w.t.Log(r.Type, r.ID, r.Tags)
		}
	}
}

// eventually polls a condition with a bound.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(60 * time.Second)
	defer timeout.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("%s did not happen", what)
		}
	}
}
