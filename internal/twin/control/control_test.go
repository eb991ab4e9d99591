package control_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/keyvault"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

const (
	diskID   = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d"
	diskSize = 64 << 30
)

type fixture struct {
	dir      string
	client   *control.Client
	volumes  *vdisk.Store
	volume   vdisk.ID
	engine   *fault.Engine
	settings control.Settings
	deleted  []string
	resized  int64
	server   *httptest.Server
	vaults   []string // what was asked of the key vaults
	frozen   bool     // the guest
	asked    string   // about which guest, and when
}

// Apply implements control.Vaults.
func (f *fixture) Apply(vault, key string, change keyvault.Change) error {
	f.vaults = append(f.vaults, vault+"/"+key+" "+string(change))
	return nil
}

// Permit implements control.Vaults.
func (f *fixture) Permit(vault string, permissions []string) error {
	f.vaults = append(f.vaults, vault+" "+strings.Join(permissions, "+"))
	return nil
}

// Changes of keys and permissions reach the vaults as they were asked for.
func TestClient_Vaults(t *testing.T) {
	f := start(t)
	if err := f.client.ChangeKey(t.Context(), "shop", "backup", keyvault.Disable); err != nil {
		t.Error(err)
	}
	if err := f.client.Permit(t.Context(), "shop", []string{"get", "unwrapKey"}); err != nil {
		t.Error(err)
	}
	if got := strings.Join(f.vaults, ", "); got != "shop/backup disable, shop get+unwrapKey" {
		t.Errorf("the vaults were asked for %s", got)
	}
}

// Write implements control.Guests: the fixture's guest is frozen when the test says so.
func (f *fixture) Write(disk string, write func() error) error {
	if f.frozen {
		return holdfast.Errorf(holdfast.KindConflict, "the filesystem on %s is frozen", disk)
	}
	return write()
}

func (f *fixture) Frozen(machine string, at time.Time) ([]string, error) {
	f.asked = machine + " in " + time.Until(at).Round(time.Minute).String()
	return []string{"/data"}, nil
}

// TestGuests: what a frozen guest refuses is refused, writes and discards alike, and its mount points are told.
func TestGuests(t *testing.T) {
	f := start(t)
	f.frozen = true
	for _, err := range []error{f.client.Write(t.Context(), diskID, 0, strings.NewReader("x"), 1), f.client.Zero(t.Context(), diskID, 0, 512)} {
		if !holdfast.IsKind(err, holdfast.KindConflict) {
			t.Errorf("%v", err)
		}
	}
	if frozen, err := f.client.Frozen(t.Context(), "web-1", time.Hour); err != nil || len(frozen) != 1 || f.asked != "web-1 in 1h0m0s" {
		t.Errorf("%v, %v, asked for %s", frozen, err, f.asked)
	}
}

func start(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{dir: t.TempDir()}
	var err error
	if f.volumes, err = vdisk.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	volume, err := f.volumes.Create(diskSize)
	if err != nil {
		t.Fatal(err)
	}
	f.volume = volume.ID
	if f.engine, err = fault.New(fault.Plan{}, clock.System{}); err != nil {
		t.Fatal(err)
	}
	server, err := control.NewServer(control.Config{
		Token: "token", Clock: clock.System{}, Guests: f, Volumes: f.volumes, Faults: f.engine,
		Volume: func(id string) (vdisk.ID, error) {
			if id != diskID {
				return "", holdfast.Errorf(holdfast.KindNotFound, "no disk is called %s", id).WithHint("look").WithField("disk")
			}
			return f.volume, nil
		},
		Resize: func(_ string, sizeGiB int64) error { f.resized = sizeGiB; return nil },
		Delete: func(id string) error { f.deleted = append(f.deleted, id); return nil },
		Resources: func() ([]control.Resource, error) {
			return []control.Resource{{ID: diskID, Tags: map[string]string{"a": "b"}, ActiveSAS: 2}}, nil
		},
		Apply:  func(s control.Settings) error { f.settings = s; return nil },
		Vaults: f,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.server = httptest.NewTLSServer(server.Handler())
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.server.Certificate().Raw})
	if err := os.WriteFile(filepath.Join(f.dir, control.CAFile), ca, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := control.WriteAccess(f.dir, control.Access{URL: f.server.URL, Token: "token"}); err != nil {
		t.Fatal(err)
	}
	if f.client, err = control.Dial(f.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.client.Close()
		f.server.Close()
		if err := f.volumes.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestDisk_WhatIsWrittenIsReadOutSparsely(t *testing.T) {
	f := start(t)
	content := bytes.Repeat([]byte("guest data! "), 300_000) // over several frames
	if err := f.client.Write(t.Context(), diskID, 40<<30+100, bytes.NewReader(content), int64(len(content))); err != nil {
		t.Fatal(err)
	}
	if err := f.client.Write(t.Context(), diskID, 0, strings.NewReader("first"), 5); err != nil {
		t.Fatal(err)
	}
	if err := f.client.Write(t.Context(), diskID, diskSize-4, strings.NewReader("last"), 4); err != nil {
		t.Fatal(err)
	}
	if err := f.client.Zero(t.Context(), diskID, 40<<30+1000, 512); err != nil {
		t.Fatal(err)
	}
	copy(content[900:], make([]byte, 512))

	file := filepath.Join(t.TempDir(), "disk.raw")
	size, err := f.client.ReadFile(t.Context(), diskID, file)
	if err != nil || size != diskSize {
		t.Fatalf("size %d, %v", size, err)
	}
	raw, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	for offset, want := range map[int64]string{0: "first\x00", 40<<30 + 100: string(content), diskSize - 4: "last", 1 << 30: "\x00\x00"} {
		got := make([]byte, len(want))
		if _, err := raw.ReadAt(got, offset); err != nil || string(got) != want {
			t.Errorf("at %d: the content differs (%v)", offset, err)
		}
	}
	if found, err := raw.Stat(); err != nil || found.Size() != diskSize {
		t.Errorf("size %d, want exactly the disk's", found.Size())
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDisk_RefusesWhatDoesNotFit(t *testing.T) {
	f := start(t)
	for name, c := range map[string]struct {
		err  error
		kind holdfast.Kind
	}{
		"beyond the end":  {f.client.Write(t.Context(), diskID, diskSize-3, strings.NewReader("last"), 4), holdfast.KindInvalid},
		"negative offset": {f.client.Write(t.Context(), diskID, -1, strings.NewReader("x"), 1), holdfast.KindInvalid},
		"zero beyond":     {f.client.Zero(t.Context(), diskID, 1, diskSize), holdfast.KindInvalid},
		"huge length":     {f.client.Zero(t.Context(), diskID, 1<<62, 1<<62), holdfast.KindInvalid},
		"unknown disk":    {f.client.Zero(t.Context(), "/nope", 0, 1), holdfast.KindNotFound},
		"short content":   {f.client.Write(t.Context(), diskID, 0, strings.NewReader("abc"), 4), holdfast.KindUnavailable},
		"negative size":   {f.client.Resize(t.Context(), diskID, -1), holdfast.KindInvalid},
		"unknown to read": {readError(t, f, "/nope"), holdfast.KindNotFound},
		"nothing at all":  {f.client.Write(t.Context(), diskID, 0, strings.NewReader(""), 0), ""},
	} {
		if holdfast.KindOf(c.err) != c.kind {
			t.Errorf("%s: got %v, want kind %q", name, c.err, c.kind)
		}
	}
}

func readError(t *testing.T, f *fixture, id string) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk.raw")
	_, err := f.client.ReadFile(t.Context(), id, file)
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 0 {
		t.Errorf("a failed read left %v", left)
	}
	return err
}

func TestDisk_ASnapshotCanBeReadButNotWritten(t *testing.T) {
	f := start(t)
	if err := f.client.Write(t.Context(), diskID, 0, strings.NewReader("frozen"), 6); err != nil {
		t.Fatal(err)
	}
	snapshot, err := f.volumes.Snapshot(f.volume)
	if err != nil {
		t.Fatal(err)
	}
	f.volume = snapshot.ID
	if err := f.client.Write(t.Context(), diskID, 0, strings.NewReader("x"), 1); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Fatalf("a write into a snapshot: %v", err)
	}
	file := filepath.Join(t.TempDir(), "disk.raw")
	if _, err := f.client.ReadFile(t.Context(), diskID, file); err != nil {
		t.Fatal(err)
	}
}

func TestErrors_CrossTheWireWhole(t *testing.T) {
	f := start(t)
	var problem *holdfast.Error
	if err := f.client.Zero(t.Context(), "/nope", 0, 1); !errors.As(err, &problem) || problem.Hint != "look" || problem.Field != "disk" || problem.Message != "no disk is called /nope" {
		t.Fatalf("got %#v", err)
	}
}

func TestRead_AStreamThatBreaksOffIsAnError(t *testing.T) {
	f := start(t)
	if err := f.client.Write(t.Context(), diskID, 0, strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
	f.server.Config.Handler = cutShort(f.server.Config.Handler)
	if _, err := f.client.ReadFile(t.Context(), diskID, filepath.Join(t.TempDir(), "x")); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Fatalf("got %v", err)
	}
}

// cutShort leaves out the last frame of an answer.
func cutShort(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := httptest.NewRecorder()
		next.ServeHTTP(recorder, r)
		maps.Copy(w.Header(), recorder.Header())
		_, _ = io.CopyN(w, recorder.Body, int64(recorder.Body.Len()-16))
	})
}

func TestResources_ResizeDeleteAndSettingsReachTheTwin(t *testing.T) {
	f := start(t)
	resources, err := f.client.Resources(t.Context())
	if err != nil || len(resources) != 1 || resources[0].ActiveSAS != 2 || resources[0].Tags["a"] != "b" {
		t.Fatalf("resources %+v, %v", resources, err)
	}
	if err := f.client.Resize(t.Context(), diskID, 128); err != nil || f.resized != 128 {
		t.Fatalf("resized to %d, %v", f.resized, err)
	}
	if err := f.client.Delete(t.Context(), diskID); err != nil || !reflect.DeepEqual(f.deleted, []string{diskID}) {
		t.Fatalf("deleted %v, %v", f.deleted, err)
	}
	off, late := false, int64(60000)
	want := control.Settings{Limits: &off, LatenessMs: &late}
	if err := f.client.Apply(t.Context(), want); err != nil || !reflect.DeepEqual(f.settings, want) {
		t.Fatalf("settings %+v, %v", f.settings, err)
	}
	late = -1
	if err := f.client.Apply(t.Context(), want); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Fatalf("negative lateness: %v", err)
	}
}

func TestFaults_SetCountsCallsAndClear(t *testing.T) {
	f := start(t)
	plan := fault.Plan{Seed: 7, Rules: []fault.Rule{{On: fault.Disk, Method: "GET", Calls: []int{2}, Fault: fault.Error}}}
	if err := f.client.SetFaults(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	if got, err := f.client.Faults(t.Context()); err != nil || !reflect.DeepEqual(got, plan) {
		t.Fatalf("plan %+v, %v", got, err)
	}
	handler := f.engine.Middleware(fault.Disk, http.NotFoundHandler())
	for range 2 {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/md-1", nil))
	}
	if counts, err := f.client.FaultCounts(t.Context()); err != nil || !reflect.DeepEqual(counts, []fault.Count{{Matched: 2, Fired: 1}}) {
		t.Fatalf("counts %+v, %v", counts, err)
	}
	transcript, err := f.client.Calls(t.Context(), 1)
	if err != nil || transcript.Mark != 2 || len(transcript.Calls) != 1 || transcript.Calls[0].Fault != fault.Error {
		t.Fatalf("transcript %+v, %v", transcript, err)
	}
	if next, err := f.client.Calls(t.Context(), transcript.Mark); err != nil || next.Mark != 2 || len(next.Calls) != 0 {
		t.Fatalf("nothing new: %+v, %v", next, err)
	}
	bad := fault.Plan{Rules: []fault.Rule{{Fault: "explode"}}}
	var problem *holdfast.Error
	if err := f.client.SetFaults(t.Context(), bad); !errors.As(err, &problem) || problem.Field != "rules[0].fault" {
		t.Fatalf("bad plan: %v", err)
	}
	if err := f.client.SetFaults(t.Context(), fault.Plan{}); err != nil || len(f.engine.Plan().Rules) != 0 {
		t.Fatalf("clear: %v", err)
	}
}

func TestDial_WrongTokenAndNoTwin(t *testing.T) {
	f := start(t)
	if err := control.WriteAccess(f.dir, control.Access{URL: f.server.URL, Token: "guess"}); err != nil {
		t.Fatal(err)
	}
	found, err := os.Stat(filepath.Join(f.dir, control.AccessFile))
	if err != nil || found.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", found.Mode(), err)
	}
	client, err := control.Dial(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Resources(t.Context()); !holdfast.IsKind(err, holdfast.KindRefused) {
		t.Fatalf("wrong token: %v", err)
	}
	f.server.Close()
	if _, err := client.Resources(t.Context()); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Fatalf("nobody listens: %v", err)
	}
	if err := control.RemoveAccess(f.dir); err != nil {
		t.Fatal(err)
	}
	if err := control.RemoveAccess(f.dir); err != nil {
		t.Fatalf("removing twice: %v", err)
	}
	if _, err := control.Dial(f.dir); !holdfast.IsKind(err, holdfast.KindUnavailable) {
		t.Fatalf("no twin: %v", err)
	}
}
