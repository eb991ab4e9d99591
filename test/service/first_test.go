package service

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
)

// TestFirstUse runs the five commands of the README, as they stand there but for the port.
func TestFirstUse(t *testing.T) {
	t.Parallel()
	lines := fiveCommands(t)
	w := &world{t: t, dir: t.TempDir()}
	must(t, os.CopyFS(filepath.Join(w.dir, "examples"), os.DirFS("../../examples")))
	address := freePort(t)
	_, port, _ := strings.Cut(address, ":")
	run := func(line string) *exec.Cmd {
		line = strings.ReplaceAll(strings.TrimSuffix(line, " &"), "8460", port)
		line = strings.Replace(line, "holdfast server", "holdfast server --listen "+address, 1)
		cmd := exec.Command("bash", "-c", "exec "+line)
		cmd.Dir = w.dir
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "HOLDFAST_LOGIN="+filepath.Join(w.dir, "login.json"))
		return cmd
	}
	there := func(file string) func() bool {
		return func() bool { _, err := os.Stat(filepath.Join(w.dir, file)); return err == nil }
	}
	for i, awaited := range []string{"twin/azure.yaml", "data/admin-password"} {
		cmd := run(lines[i])
		must(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Signal(os.Interrupt) // it may have ended
			_ = cmd.Wait()
		})
		eventually(t, lines[i]+" is ready", there(awaited))
	}
	for _, line := range lines[2:] {
		if out, err := run(line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	out, err := run("holdfast point list").Output()
	must(t, err)
	for _, kind := range []holdfast.PointKind{holdfast.PointSnapshot, holdfast.PointBackup} {
		if !strings.Contains(string(out), string(kind)) {
			t.Errorf("there is no %s:\n%s", kind, out)
		}
	}
}

// fiveCommands reads them in the README.
func fiveCommands(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile("../../README.md")
	must(t, err)
	_, rest, found := strings.Cut(string(data), "## A protected machine in five commands\n")
	if !found {
		t.Fatal("the README has no such part")
	}
	blocks := strings.Split(rest, "```")
	const second = 3 // the first one builds the program
	lines := strings.Split(strings.TrimSpace(strings.TrimPrefix(blocks[second], "sh")), "\n")
	if len(lines) != 5 {
		t.Fatalf("there are %d commands: %q", len(lines), lines)
	}
	return lines
}
