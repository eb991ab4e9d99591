// Package service drives the server as a person or a script does: processes, files, exit codes, JSON. The twin runs in the test, so that
// servers can be killed and the world looked at without their help.
package service

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
	"github.com/holdfast-backup/holdfast/internal/view"
	"github.com/holdfast-backup/holdfast/test/programtest"
)

// program is the path of the built program, set by TestMain before any test runs.
var program string

func TestMain(m *testing.M) { programtest.Main(m, &program) }

const subscription = "11111111-1111-1111-1111-111111111111"

func must(t testing.TB, err error) {
	t.Helper()
	programtest.Must(t, err)
}

// world is a running twin and what a user of it has at hand.
type world struct {
	t      *testing.T
	dir    string
	twin   *twin.Twin
	guests *control.Client
}

func newWorld(t *testing.T, estate string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	file := filepath.Join(w.dir, "estate.yaml")
	must(t, os.WriteFile(file, []byte(estate), 0o600))
	var err error
	w.twin, err = twin.Start(t.Context(), twin.Config{
		Dir: filepath.Join(w.dir, "twin"), EstateFile: file, Options: twin.Options{RateLimitsOff: true, SnapshotRateOff: true},
	})
	must(t, err)
	t.Cleanup(func() { must(t, w.twin.Close(context.Background())) })
	w.guests, err = control.Dial(filepath.Join(w.dir, "twin"))
	must(t, err)
	t.Cleanup(w.guests.Close)
	return w
}

// estateOf is machines with two disks each.
func estateOf(machines ...string) string {
	var b strings.Builder
	b.WriteString("subscriptions:\n  - {id: " + subscription + ", name: production}\n")
	b.WriteString("resourceGroups:\n  - {name: shop, subscription: production, location: westeurope}\n")
	b.WriteString("networks:\n  - {name: net, resourceGroup: shop, addressPrefix: 10.1.0.0/16, subnets: [{name: front, addressPrefix: 10.1.1.0/24}]}\n")
	b.WriteString("virtualMachines:\n")
	for _, name := range machines {
		fmt.Fprintf(&b, "  - name: %s\n    resourceGroup: shop\n    size: Standard_D4s_v5\n    os: Linux\n    subnet: net/front\n", name)
		fmt.Fprintf(&b, "    osDisk: {name: %s-os, sizeGiB: 4, sku: Premium_LRS}\n    dataDisks: [{lun: 0, name: %s-data, sizeGiB: 8, sku: StandardSSD_LRS}]\n", name, name)
	}
	return b.String()
}

// process is a server or a worker.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan error

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// start starts a process and waits until it says that it is ready.
func (w *world) start(args ...string) *process {
	w.t.Helper()
	p := &process{t: w.t, cmd: exec.Command(program, args...), done: make(chan error, 1)}
	p.cmd.Dir, p.cmd.Stderr, p.cmd.Env = w.dir, p, w.environment()
	out, err := p.cmd.StdoutPipe()
	must(w.t, err)
	must(w.t, p.cmd.Start())
	ready := make(chan struct{})
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			_, _ = p.Write(append(lines.Bytes(), '\n'))
			if lines.Text() == "ready" {
				close(ready)
			}
		}
		p.done <- p.cmd.Wait()
	}()
	w.t.Cleanup(p.kill)
	select {
	case <-ready:
	case err := <-p.done:
		p.done <- err
		w.t.Fatalf("holdfast %s ended: %v\n%s", strings.Join(args, " "), err, p.logged())
	case <-time.After(time.Minute):
		w.t.Fatalf("holdfast %s is not ready after a minute\n%s", strings.Join(args, " "), p.logged())
	}
	return p
}

// kill ends a process as the power does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	p.done <- <-p.done
}

// stop ends a process as its owner does.
func (p *process) stop() {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(os.Interrupt))
	err := <-p.done
	p.done <- err
	if err != nil {
		p.t.Errorf("%v\n%s", err, p.logged())
	}
}

func (w *world) environment() []string {
	return append(os.Environ(), "HOLDFAST_LOGIN="+filepath.Join(w.dir, "login.json"), "HOLDFAST_REPO_PASSWORD=correct horse battery staple", "HOLDFAST_AZURE="+w.twin.Endpoints().AzureFile)
}

// answer is what a process left behind.
type answer struct {
	code   int
	out    []byte
	errors string
}

func (w *world) run(args ...string) answer {
	w.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = w.dir, w.environment(), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return answer{code: cmd.ProcessState.ExitCode(), out: out.Bytes(), errors: errs.String()}
}

// do runs a command that must succeed, and decodes its JSON.
func (w *world) do(into any, args ...string) {
	w.t.Helper()
	a := w.run(append(args, "--json")...)
	if a.code != 0 {
		w.t.Fatalf("holdfast %s: exit %d\n%s\n%s", strings.Join(args, " "), a.code, a.out, a.errors)
	}
	if into == nil {
		return
	}
	lines := bytes.Split(bytes.TrimSpace(a.out), []byte("\n"))
	if err := json.Unmarshal(lines[len(lines)-1], into); err != nil {
		w.t.Fatalf("holdfast %s: %v\n%s", strings.Join(args, " "), err, a.out)
	}
}

// mustRefuse runs a command that must fail with an exit code, and say something.
func (w *world) mustRefuse(code int, says string, args ...string) {
	w.t.Helper()
	a := w.run(args...)
	if a.code != code || !strings.Contains(a.errors, says) {
		w.t.Errorf("holdfast %s: exit %d, want %d and %q\n%s%s", strings.Join(args, " "), a.code, code, says, a.out, a.errors)
	}
}

// freePort is an address that nobody listens at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// server starts a server with a data folder of its own, and signs in at the first start.
func (w *world) server(address string, more ...string) *process {
	w.t.Helper()
	p := w.start(append([]string{"server", "--data-dir", "data", "--azure", w.twin.Endpoints().AzureFile, "--listen", address}, more...)...)
	if _, err := os.Stat(filepath.Join(w.dir, "login.json")); os.IsNotExist(err) {
		w.do(nil, "login", "--server", "https://"+address, "--user", "admin", "--password-file", "data/admin-password", "--ca", "data/tls.crt")
	}
	return p
}

// apply makes documents the ones in force.
func (w *world) apply(documents string) {
	w.t.Helper()
	file := filepath.Join(w.dir, "documents.yaml")
	must(w.t, os.WriteFile(file, []byte(documents), 0o600))
	w.do(nil, "apply", "-f", file, "--yes")
}

func diskID(name string) string {
	return string(holdfast.NewResourceID(subscription, "shop", "Microsoft.Compute/disks", name))
}

// write writes into a disk as its guest would.
func (w *world) write(disk string, offset int64, content []byte) {
	w.t.Helper()
	must(w.t, w.guests.Write(w.t.Context(), diskID(disk), offset, bytes.NewReader(content), int64(len(content))))
}

// points are the restore points that there are.
func (w *world) points(more ...string) []view.Point {
	w.t.Helper()
	var all []view.Point
	w.do(&all, append([]string{"point", "list"}, more...)...)
	return all
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	const pause, tries = 100 * time.Millisecond, 1200
	for range tries {
		if so() {
			return
		}
		must(t, clock.System{}.Sleep(t.Context(), pause))
	}
	t.Fatalf("after %v it is not so: %s", tries*pause, what)
}

// mustBeInOrder holds the cloud against what is written down: every snapshot is one of a point, and nobody has access to one.
func (w *world) mustBeInOrder() {
	w.t.Helper()
	known := map[string]bool{}
	for _, p := range w.points() {
		if p.State != "kept" {
			w.t.Errorf("the %s %s is %s", p.Kind, p.ID, p.State)
		}
		if p.Kind == holdfast.PointSnapshot {
			known[string(p.ID)] = true
		}
	}
	resources, err := w.guests.Resources(w.t.Context())
	must(w.t, err)
	seen := map[string]bool{}
	for _, r := range resources {
		if r.ActiveSAS > 0 {
			w.t.Errorf("access to %s is still open", r.ID)
		}
		if r.Type != "Microsoft.Compute/snapshots" {
			continue
		}
		found := false
		for id := range known {
			if strings.Contains(r.ID, id) {
				seen[id], found = true, true
			}
		}
		if !found {
			w.t.Errorf("nobody knows the snapshot %s", r.ID)
		}
	}
	for id := range known {
		if !seen[id] {
			w.t.Errorf("the snapshot point %s has no snapshot", id)
		}
	}
}
