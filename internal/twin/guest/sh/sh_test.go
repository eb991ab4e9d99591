package sh_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/guest/sh"
)

// host is a guest with one script file and one mount that can be frozen.
type host struct {
	files  sh.Files
	frozen map[string]bool
	jobs   []sh.Job
	delays []time.Duration
}

func newHost() *host {
	return &host{files: sh.Files{"/run": {Folder: true}, "/opt/three.sh": {Program: true}}, frozen: map[string]bool{}}
}

func (h *host) Files() sh.Files { return h.files }
func (h *host) Mounts() string {
	return "proc /proc proc rw 0 0\n/dev/sda1 / ext4 rw,relatime 0 0\n/dev/sdb1 /data xfs rw 0 0\n"
}

func (h *host) Program(path string, arguments []string) (sh.Result, bool) {
	if path != "/opt/three.sh" {
		return sh.Result{}, false
	}
	return sh.Result{Output: strings.Join(arguments, "|") + "\n", Errors: "oh\n", Status: 3, Took: time.Minute}, true
}

func (h *host) Freeze(mount string) error {
	if h.frozen[mount] {
		return errors.New("busy")
	}
	h.frozen[mount] = true
	return nil
}

func (h *host) Thaw(mount string) error {
	if !h.frozen[mount] {
		return errors.New("not frozen")
	}
	delete(h.frozen, mount)
	return nil
}

func (h *host) Later(delay time.Duration, job sh.Job) {
	h.jobs, h.delays = append(h.jobs, job), append(h.delays, delay)
}

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// TestRun has a row for each part of the language.
func TestRun(t *testing.T) {
	for name, row := range map[string]struct {
		script, output string
		status         int
	}{
		"quotes":            {`a='x  y'; b="<$a>"; echo "$b" $a 'it'"'"'s' \$a`, "<x  y> x y it's $a\n", 0},
		"status":            {`false; echo $?; true; echo $?`, "1\n0\n", 0},
		"exit":              {`echo a; exit 7; echo b`, "a\n", 7},
		"subshell":          {`a=1; (a=2; echo $a; exit 4); echo $? $a`, "2\n4 1\n", 0},
		"and or":            {`true && echo a || echo b; false && echo c || echo d; ! true || echo e`, "a\nd\ne\n", 0},
		"if":                {"if [ 1 -eq 2 ]; then echo a\nelif [ -n x ]; then echo b; else echo c; fi", "b\n", 0},
		"for":               {`for i in a b "c d"; do echo "<$i>"; done`, "<a>\n<b>\n<c d>\n", 0},
		"while read":        {"while read -r device mount type rest; do case \"$type\" in ext4|xfs) echo \"$device $mount\" ;; *) continue ;; esac; done </proc/mounts", "/dev/sda1 /\n/dev/sdb1 /data\n", 0},
		"case":              {`case "a b" in x) echo x;; *" b") echo y;; esac`, "y\n", 0},
		"substitution":      {`echo "$(echo a; echo b)" $(echo "c   d")`, "a\nb c d\n", 0},
		"files":             {`echo a >/run/f; echo b >>/run/f; cat /run/f; [ -s /run/f ] && wc -c </run/f; tail -c 2 /run/f`, "a\nb\n4\nb\n", 0},
		"mkdir once":        {`mkdir /run/d && echo first; mkdir /run/d 2>/dev/null || echo again; mkdir -p /run/d && echo fine`, "first\nagain\nfine\n", 0},
		"no parent":         {`mkdir /none/d 2>/dev/null`, "", 1},
		"streams":           {`(echo a; nosuch) >/run/o 2>&1; echo $?; cat /run/o`, "127\na\nsh: nosuch: not found\n", 0},
		"program":           {`sh '/opt/three.sh' 'a b' c 2>/dev/null; echo $?`, "a b|c\n3\n", 0},
		"program directly":  {`/opt/three.sh x 2>&1`, "x\noh\n", 3},
		"missing program":   {`sh /opt/none.sh 2>/dev/null`, "", 127},
		"printf":            {`printf '%s\n' 'a %s\n'; printf %s b`, "a %s\\n\nb", 0},
		"conditions":        {`[ -f /opt/three.sh ] && [ ! -d /opt/three.sh ] && [ -x /opt/three.sh ] && [ ! -e /none ] && echo yes`, "yes\n", 0},
		"freeze":            {`fsfreeze -f /data && fsfreeze -f /data 2>/dev/null || echo twice; fsfreeze -u /data && echo thawed`, "twice\nthawed\n", 0},
		"time":              {`a=$(date +%s); sleep 2; b=$(date +%s); sh /opt/three.sh >/dev/null 2>&1; c=$(date +%s); echo $a $b $c`, "1772366400 1772366402 1772366462\n", 0},
		"an endless loop":   {`while true; do :; done`, "", 124},
		"what is not known": {"echo a\ncat x | sort", "", 2},
		"arithmetic":        {`echo $((1+1))`, "", 2},
		"broken":            {`if true; then echo a`, "", 2},
		"comments":          {"# nothing\necho a # b\n\\\necho c", "a\nc\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := sh.Run(newHost(), sh.Job{Script: row.script}, noon())
			if got.Output != row.output || got.Status != row.status {
				t.Errorf("%q, status %d, errors %q; want %q, status %d", got.Output, got.Status, got.Errors, row.output, row.status)
			}
		})
	}
}

// TestRun_Background proves that a background command does what comes before its sleep at once, and hands the rest over.
func TestRun_Background(t *testing.T) {
	h := newHost()
	got := sh.Run(h, sh.Job{Script: `sleep 5
setsid sh -c 'mkdir "$1/armed"; sleep "$2"; fsfreeze -u /data; echo timer >"$1/by"' timer /run 60 </dev/null >/dev/null 2>&1 &
[ -d /run/armed ] && fsfreeze -f /data; echo $?`}, noon())
	if got.Output != "0\n" || got.Took != 5*time.Second || len(h.jobs) != 1 || h.delays[0] != 65*time.Second || !h.frozen["/data"] {
		t.Fatalf("%+v; jobs %v after %v; frozen %v", got, h.jobs, h.delays, h.frozen)
	}
	sh.Run(h, h.jobs[0], noon().Add(h.delays[0]))
	if text, _ := h.files.Read("/run/by"); text != "timer\n" || h.frozen["/data"] {
		t.Errorf("%q, frozen %v", text, h.frozen)
	}
	if got := sh.Run(newHost(), sh.Job{Script: "sleep 5 &"}, noon()); got.Status != 2 {
		t.Errorf("another background command: %+v", got)
	}
}

// TestRun_Find forgets what is old and keeps what is new.
func TestRun_Find(t *testing.T) {
	h := newHost()
	h.files["/run/h"] = sh.File{Folder: true}
	h.files["/run/h/old"] = sh.File{Folder: true, Changed: noon().Add(-2 * time.Hour)}
	h.files["/run/h/old/status"] = sh.File{Text: "x", Changed: noon()}
	h.files["/run/h/new"] = sh.File{Folder: true, Changed: noon()}
	sh.Run(h, sh.Job{Script: "find /run/h -mindepth 1 -maxdepth 1 -mmin +60 -exec rm -rf {} +"}, noon())
	if _, there := h.files["/run/h/old/status"]; there || !h.files["/run/h/new"].Folder {
		t.Errorf("%v", h.files)
	}
}

// FuzzRun proves that no script brings the interpreter down.
func FuzzRun(f *testing.F) {
	for _, seed := range []string{`echo "$(x)" ; if`, `case a in`, `for i in`, "while read a; do echo; done </proc/mounts", `( ( `, `a=$`, `[ ]`, "mkdir", "tail -c", `"$1"`} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, script string) {
		sh.Run(newHost(), sh.Job{Script: script, Parameters: []string{"x"}}, noon())
	})
}
