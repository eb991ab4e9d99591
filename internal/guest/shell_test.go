package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// realGuest runs the scripts of the freeze in the shell of this machine, with a list of mounts and an fsfreeze of its own.
type realGuest struct {
	t      *testing.T
	folder string
}

const mounts = `sysfs /sys sysfs rw 0 0
/dev/sda1 / ext4 rw,relatime 0 0
/dev/sda1 /srv/bind ext4 rw 0 0
/dev/sdb1 /data xfs rw,noatime 0 0
/dev/sdb1 /data/again xfs rw 0 0
/dev/mapper/vg-log /data/log ext4 rw 0 0
/dev/sdd1 /with\040space ext4 rw 0 0
/dev/sde1 /readonly ext4 ro,relatime 0 0
/dev/sdf1 /efi vfat rw 0 0
/dev/loop3 /snap/x ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sdg1 /busy ext4 rw 0 0
`

func newRealGuest(t *testing.T) *realGuest {
	t.Helper()
	for _, program := range []string{"sh", "setsid", "mkdir"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("no %s on this machine", program)
		}
	}
	g := &realGuest{t, t.TempDir()}
	// A mount that is frozen is a folder here, so that freezing twice fails as it does for real.
	fsfreeze := `#!/bin/sh
name="` + g.folder + `/frozen$(echo "$2" | tr / _)"
echo "$1 $2" >>"` + g.folder + `/log"
[ "$2" != /busy ] || exit 1
if [ "$1" = -f ]; then exec mkdir "$name"; fi
exec rmdir "$name"
`
	for name, text := range map[string]string{"fsfreeze": fsfreeze, "mounts": mounts} {
		if err := os.WriteFile(filepath.Join(g.folder, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(g.folder, "tickets"), 0o700); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *realGuest) run(script string) (output string, status int) {
	g.t.Helper()
	script = strings.NewReplacer("/run/holdfast", g.folder+"/tickets", "/proc/mounts", g.folder+"/mounts").Replace(script)
	process := exec.CommandContext(g.t.Context(), "sh", "-c", script)
	process.Env = append(os.Environ(), "PATH="+g.folder+":"+os.Getenv("PATH"))
	said, _ := process.CombinedOutput()
	return string(said), process.ProcessState.ExitCode()
}

func (g *realGuest) frozen() []string {
	found, err := filepath.Glob(filepath.Join(g.folder, "frozen_*"))
	if err != nil {
		g.t.Fatal(err)
	}
	for i := range found {
		found[i] = strings.ReplaceAll(strings.TrimPrefix(filepath.Base(found[i]), "frozen"), "_", "/")
	}
	return found
}

// TestScripts_InARealShell: what is frozen and what is not, deepest first; thawed by us, twice without harm; a freeze that
// comes after its thaw does nothing.
func TestScripts_InARealShell(t *testing.T) {
	g := newRealGuest(t)
	output, status := g.run(freezeText("a", time.Minute))
	frozen, left := mountsIn(output)
	if status != 0 || strings.Join(frozen, " ") != "/data/log /data" || strings.Join(left, " ") != `/ /srv/bind /with\040space /busy` {
		t.Fatalf("status %d: %q", status, output)
	}
	if now := g.frozen(); strings.Join(now, " ") != "/data /data/log" {
		t.Errorf("frozen: %v", now)
	}
	for range 2 {
		output, status = g.run(thawText("a"))
		if status != 0 || !strings.HasPrefix(output, "by command\nbegan ") || !strings.HasSuffix(output, "\nunfrozen /data/log\nunfrozen /data\n") || len(g.frozen()) != 0 {
			t.Errorf("status %d: %q, frozen %v", status, output, g.frozen())
		}
	}
	if output, status := g.run(freezeText("a", time.Minute)); status != 3 || len(g.frozen()) != 0 {
		t.Errorf("a freeze after its thaw: status %d, %q", status, output)
	}
	if output, status := g.run(thawText("never frozen")); status != 0 || output[:11] != "by command\n" {
		t.Errorf("a thaw before its freeze: status %d, %q", status, output)
	}
	if output, status := g.run(freezeText("never frozen", time.Minute)); status != 3 || len(g.frozen()) != 0 {
		t.Errorf("a freeze that comes late: status %d, %q", status, output)
	}
}

// TestTimer_InARealShell: the timer thaws though nobody comes, and a thaw that comes later says so.
func TestTimer_InARealShell(t *testing.T) {
	g := newRealGuest(t)
	if output, status := g.run(freezeText("a", 3*time.Second)); status != 0 || len(g.frozen()) != 2 {
		t.Fatalf("status %d: %q", status, output)
	}
	for range 4000 { // about 20 seconds
		if len(g.frozen()) == 0 {
			break
		}
		g.run("sleep 0.005")
	}
	if output, status := g.run(thawText("a")); status != 0 || !strings.HasPrefix(output, "by timer\n") || strings.Contains(output, "unfrozen") || len(g.frozen()) != 0 {
		t.Errorf("status %d: %q, frozen %v", status, output, g.frozen())
	}
}

// TestTimers_InARealShell: a timer whose freeze was thawed leaves a later freeze alone, and a later freeze that somebody
// thawed is known by what its own thaw found.
func TestTimers_InARealShell(t *testing.T) {
	g := newRealGuest(t)
	g.run(freezeText("a", 2*time.Second))
	g.run(thawText("a"))
	if output, status := g.run(freezeText("b", time.Minute)); status != 0 || len(g.frozen()) != 2 {
		t.Fatalf("status %d: %q", status, output)
	}
	g.run("sleep 3") // until the first timer has ended
	if len(g.frozen()) != 2 {
		t.Errorf("frozen: %v", g.frozen())
	}
	g.run("fsfreeze -u /data")
	if output, _ := g.run(thawText("b")); !strings.HasPrefix(output, "by command\n") || !strings.HasSuffix(output, "\nunfrozen /data/log\n") {
		t.Errorf("%q", output)
	}
}
