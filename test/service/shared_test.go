package service

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/database/databasetest"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// TestShared_ServersAndWorkers has two servers and three workers on one PostgreSQL database. One server and one worker are killed while sessions run;
// the others do what they left.
func TestShared_ServersAndWorkers(t *testing.T) {
	t.Parallel()
	url := databasetest.PostgreSQL(t)
	w := newWorld(t, estateOf("vm-1", "vm-2", "vm-3", "vm-4", "vm-5", "vm-6"))
	one := w.server(freePort(t), "--database", url, "--queues", "control,messages")
	must(t, os.MkdirAll(filepath.Join(w.dir, "second"), 0o700))
	keys, err := os.ReadFile(filepath.Join(w.dir, "data", "seal.keys"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(w.dir, "second", "seal.keys"), keys, 0o600))
	second := freePort(t)
	two := w.start("server", "--data-dir", "second", "--azure", w.twin.Endpoints().AzureFile, "--listen", second, "--database", url, "--queues", "control,messages")
	var workers []*process
	for range 3 {
		workers = append(workers, w.start("worker", "--database", url, "--keys", "data/seal.keys", "--azure", w.twin.Endpoints().AzureFile, "--queues", "westeurope", "--at-once", "2"))
	}
	w.apply(nightly)
	for round := range 6 {
		w.write("vm-1-os", int64(round)<<20, bytes.Repeat([]byte{byte(round + 1)}, 1<<16))
		w.write("vm-6-data", int64(round)<<20, bytes.Repeat([]byte{byte(round + 7)}, 1<<16))
		var started view.Started
		w.do(&started, "policy", "run", "nightly")
		switch round {
		case 1:
			workers[0].kill()
		case 3:
			one.kill()
			must(t, os.Remove(filepath.Join(w.dir, "login.json")))
			w.do(nil, "login", "--server", "https://"+second, "--user", "admin", "--password-file", "data/admin-password", "--ca", "second/tls.crt")
		}
		w.allEnd()
	}
	w.mustBeInOrder()
	w.mustRestore()
	if found := len(w.points("--kind", "backup")); found < 6*5 {
		t.Errorf("%d backups of 6 machines in 6 rounds", found)
	}
	workers[1].stop()
	two.stop()
}
