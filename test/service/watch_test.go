package service

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// TestWatch_AndStop watches a session at work: its progress is told with what remains, it is stopped in the middle, ends as stopped within seconds, and
// leaves nothing. The next session makes the point.
func TestWatch_AndStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t, estateOf("vm-1"))
	w.server(freePort(t))
	w.apply(nightly)
	for block := range int64(12) {
		w.write("vm-1-data", block<<29, bytes.Repeat([]byte{byte(block + 1)}, 1<<20))
	}
	engine := w.twin.Faults()
	must(t, engine.Set(fault.Plan{Rules: []fault.Rule{{On: fault.Disk, Method: "GET", Fault: fault.Slow, DelayMs: 2500}}}))
	var started view.Started
	w.do(&started, "policy", "run", "nightly")
	id := string(started.Sessions[0].ID)
	watch := exec.Command(program, "session", "watch", id, "--json")
	watch.Dir, watch.Env = w.dir, w.environment()
	out, err := watch.StdoutPipe()
	must(t, err)
	must(t, watch.Start())
	progressed, stopped := false, false
	var last string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		if !strings.Contains(last, `"progress"`) || stopped {
			continue
		}
		progressed = strings.Contains(last, `"stage":"read"`) || progressed
		if progressed {
			w.do(nil, "session", "stop", id)
			stopped = true
		}
	}
	_ = watch.Wait() // its exit code says that the session was stopped
	if !progressed {
		t.Errorf("no progress was told; the last line: %s", last)
	}
	must(t, engine.Set(fault.Plan{}))
	var one view.Session
	w.do(&one, "session", "show", id)
	if one.Outcome != holdfast.OutcomeStopped || one.Machines[0].Outcome != holdfast.OutcomeStopped {
		t.Errorf("%s, %+v", one.Outcome, one.Machines[0])
	}
	if !json.Valid([]byte(last)) {
		t.Errorf("the last line is no JSON: %s", last)
	}
	if made := w.points("--kind", "backup"); len(made) != 0 {
		t.Errorf("a session that was stopped made %+v", made)
	}
	w.do(nil, "policy", "run", "nightly", "--wait")
	w.mustBeInOrder()
	w.mustRestore()
}
