package service

import (
	"context"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// TestBadInput goes through what people do wrong with a server that runs: each is told, and nothing is changed.
func TestBadInput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, estateOf("vm-1"))
	address := freePort(t)
	w.server(address)
	w.apply(nightly)
	w.do(nil, "policy", "run", "nightly", "--wait")
	before := len(w.points())

	w.mustRefuse(5, "wrong", "login", "--server", "https://"+address, "--user", "admin", "--password-file", "documents.yaml", "--ca", "data/tls.crt")
	w.mustRefuse(5, "--ca FILE", "login", "--server", "https://"+address, "--user", "admin", "--password-file", "data/admin-password")
	w.mustRefuse(1, "holdfast server runs there", "login", "--server", "https://"+freePort(t), "--user", "admin", "--password-file", "data/admin-password")
	w.mustRefuse(5, "two servers share a database on PostgreSQL alone", "server", "--data-dir", "data", "--azure", w.twin.Endpoints().AzureFile, "--listen", freePort(t))
	w.mustRefuse(3, `no policy "weekly"`, "policy", "run", "weekly")
	w.mustRefuse(3, "holdfast vm list", "vm", "snapshot", "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/x/providers/Microsoft.Compute/virtualMachines/vm-9")
	w.mustRefuse(3, "holdfast point list", "point", "remove", "20260101-000000-00000000", "--yes")
	w.mustRefuse(5, "nightly", "repository", "remove", "local", "--yes")
	must(t, os.WriteFile(filepath.Join(w.dir, "bad.yaml"), []byte("kind: SchedulePolicy\nname: other\nsources: {regions: [westeurope], all: true}\ndaily:\n  backups: {hours: [25], keep: 14 days, repository: nowhere}\n"), 0o600))
	w.mustRefuse(2, "bad.yaml:5", "apply", "-f", "bad.yaml", "--yes")
	must(t, os.WriteFile(filepath.Join(w.dir, "pruned.yaml"), []byte(strings.SplitN(nightly, "---\n", 2)[1]), 0o600))
	w.mustRefuse(2, "local", "apply", "-f", "pruned.yaml", "--prune", "--yes")

	must(t, os.WriteFile(filepath.Join(w.dir, "moved.yaml"), []byte(strings.Replace(nightly, "url: backups", "url: elsewhere", 1)), 0o600))
	w.mustRefuse(3, "copy its storage there first", "apply", "-f", "moved.yaml", "--yes")

	if after := len(w.points()); after != before {
		t.Errorf("%d points, %d before", after, before)
	}
	must(t, os.WriteFile(filepath.Join(w.dir, "login.json"), []byte(strings.ReplaceAll(read(t, w, "login.json"), "hft_", "hft_x")), 0o600))
	w.mustRefuse(5, "sign in again", "session", "list")
}

func read(t *testing.T, w *world, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, file))
	must(t, err)
	return string(data)
}

// TestBadInput_OwnedByAnother has two installations on one repository: the second one is refused, and told what to do.
func TestBadInput_OwnedByAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, estateOf("vm-1"))
	first := w.server(freePort(t))
	w.apply(nightly)
	first.stop()
	must(t, os.Rename(filepath.Join(w.dir, "data"), filepath.Join(w.dir, "old")))
	must(t, os.Remove(filepath.Join(w.dir, "login.json")))
	w.server(freePort(t))
	w.mustRefuse(5, "holdfast repo owner take-over", "apply", "-f", "documents.yaml", "--yes")
	var policies []view.Policy
	w.do(&policies, "policy", "list")
	if len(policies) != 0 {
		t.Errorf("%d policies after a refusal", len(policies))
	}
}

// TestBadInput_NewerDatabase proves that a database which a newer program made is left as it is.
func TestBadInput_NewerDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, estateOf("vm-1"))
	must(t, os.MkdirAll(filepath.Join(w.dir, "data"), 0o700))
	files := fstest.MapFS{"0099_future.sql": {Data: []byte("-- +goose Up\nCREATE TABLE future (a TEXT NOT NULL PRIMARY KEY);\n-- +goose Down\n")}}
	must(t, fs.WalkDir(store.Migrations(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(store.Migrations(), path)
		files[path] = &fstest.MapFile{Data: data}
		return err
	}))
	db, err := database.Open(t.Context(), "sqlite://"+filepath.Join(w.dir, "data", "holdfast.db"), database.Options{Migrations: files})
	must(t, err)
	must(t, db.Close())
	w.mustRefuse(2, "newer", "server", "--data-dir", "data", "--azure", w.twin.Endpoints().AzureFile, "--listen", freePort(t))
}

// TestDiskFull lets the disk of a repository run full in the middle of a session: the machine fails with a reason, the server goes on, and once there is
// room the next session makes its point.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, estateOf("vm-1"))
	small := filepath.Join(w.dir, "backups")
	must(t, os.Mkdir(small, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small).CombinedOutput(); err != nil {
		t.Skipf("only root can make a small disk: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", small).Run() })
	w.server(freePort(t))
	w.apply(nightly)
	incompressible, err := os.ReadFile(program) // there is no room for its first megabytes
	must(t, err)
	w.write("vm-1-os", 0, incompressible[:8<<20])
	if a := w.run("policy", "run", "nightly", "--wait"); a.code == 0 {
		t.Errorf("a full disk made a backup\n%s", a.out)
	}
	var all []view.Session
	w.do(&all, "session", "list")
	var one view.Session
	w.do(&one, "session", "show", string(all[0].ID))
	if m := one.Machines[0]; !strings.Contains(m.Message+m.Hint, "space") {
		t.Errorf("%q, %q", m.Message, m.Hint)
	}
	must(t, exec.Command("mount", "-o", "remount,size=64m", small).Run())
	w.do(nil, "policy", "run", "nightly", "--wait")
	w.mustBeInOrder()
	w.mustRestore()
}

// TestPostgreSQL_GoneAndBack cuts the way to the database while the server runs: it says so, waits, and goes on when it is back.
func TestPostgreSQL_GoneAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, estateOf("vm-1", "vm-2"))
	way := newWay(t, databasetest.PostgreSQL(t))
	server := w.server(freePort(t), "--database", way.url)
	w.apply(nightly)
	w.do(nil, "policy", "run", "nightly", "--wait")
	before := len(w.points())
	way.cut()
	if a := w.run("policy", "list"); a.code == 0 {
		t.Errorf("a server without its database answered\n%s", a.out)
	}
	eventually(t, "the server says that it cannot decide", func() bool { return strings.Contains(server.logged(), "nothing could be decided") })
	way.mend()
	eventually(t, "the server goes on", func() bool { return w.run("policy", "run", "nightly", "--wait").code == 0 && len(w.points()) > before })
	w.allEnd()
	w.mustBeInOrder()
	w.mustRestore()
	server.stop()
}

// way is a way to a database that can be cut.
type way struct {
	url      string
	socket   string
	listener net.Listener

	mu    sync.Mutex
	open  bool              // guarded by mu
	conns map[net.Conn]bool // guarded by mu
}

func newWay(t *testing.T, database string) *way {
	t.Helper()
	u, err := url.Parse(database)
	must(t, err)
	q := u.Query()
	w := &way{socket: filepath.Join(q.Get("host"), ".s.PGSQL.5432"), open: true, conns: map[net.Conn]bool{}}
	w.listener, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = w.listener.Close(); w.cut() })
	q.Del("host")
	q.Set("sslmode", "disable")
	u.Host, u.RawQuery = w.listener.Addr().String(), q.Encode()
	w.url = u.String()
	go w.serve(t.Context())
	return w
}

func (w *way) serve(ctx context.Context) {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		open := w.open
		if open {
			w.conns[client] = true
		}
		w.mu.Unlock()
		if !open {
			_ = client.Close()
			continue
		}
		var d net.Dialer
		server, err := d.DialContext(ctx, "unix", w.socket)
		if err != nil {
			_ = client.Close()
			continue
		}
		go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
		go func() { _, _ = io.Copy(client, server); _ = client.Close() }()
	}
}

func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = false
	for c := range w.conns {
		_ = c.Close()
	}
	clear(w.conns)
}

func (w *way) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open = true
}
