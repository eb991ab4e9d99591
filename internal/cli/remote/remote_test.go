package remote_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cli/command"
	"github.com/holdfast-backup/holdfast/internal/cli/policies"
	"github.com/holdfast-backup/holdfast/internal/cli/remote"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/view"
)

var update = flag.Bool("update", false, "write the golden transcript anew; read it afterwards")

// What must never be shown.
const (
	password = "correct horse battery"
	token    = "hft_0123456789abcdef"
	secret   = "the password of a repository"
)

var noon = time.Date(2026, time.March, 2, 12, 0, 0, 0, time.UTC)

// world is a server that answers from a table, and a person's folder.
type world struct {
	t       *testing.T
	server  *httptest.Server
	folder  string
	answers string // what somebody types; "" when nobody sits there
	color   bool
	getenv  map[string]string
	hostile bool // every text that the server says tries to move the cursor

	mu     sync.Mutex
	routes map[string]any // METHOD /path below the prefix: a value, or a handler
	seen   []request
}

type request struct {
	what, query, body, token string
}

const prefix = "/api/v1"

// newWorld starts a server and signs in to it.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := newStrangerWorld(t)
	if a := w.run("login", "--server", w.server.URL, "--user", "anna", "--password-file", w.file("password", password+"\n"), "--ca", w.certificate()); a.code != 0 {
		t.Fatalf("login: exit %d\n%s%s", a.code, a.out, a.errs)
	}
	return w
}

// newStrangerWorld starts a server at which nobody has signed in.
func newStrangerWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, folder: t.TempDir(), routes: fixture(), getenv: map[string]string{}}
	w.getenv["HOLDFAST_LOGIN"] = filepath.Join(w.folder, "settings", "login.json")
	w.server = httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
	w.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // some tests break connections
	w.server.StartTLS()
	t.Cleanup(w.server.Close)
	return w
}

func (w *world) file(name, content string) string {
	path := filepath.Join(w.folder, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func (w *world) certificate() string {
	return w.file("tls.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.server.Certificate().Raw})))
}

func (w *world) serve(out http.ResponseWriter, in *http.Request) {
	body, _ := io.ReadAll(in.Body)
	what := in.Method + " " + strings.TrimPrefix(in.URL.EscapedPath(), prefix)
	w.mu.Lock()
	w.seen = append(w.seen, request{what, in.URL.RawQuery, string(body), in.Header.Get("Authorization")})
	answer, ok := w.routes[what]
	w.mu.Unlock()
	if what != "POST /sign-in" && in.Header.Get("Authorization") != "Bearer "+token {
		problem(out, http.StatusUnauthorized, holdfast.Errorf(holdfast.KindRefused, "the token is not valid"))
		return
	}
	switch answer := answer.(type) {
	case func(http.ResponseWriter, *http.Request):
		if !w.hostile {
			answer(out, in)
			return
		}
		recorder := httptest.NewRecorder()
		answer(recorder, in)
		_, _ = out.Write(poisoned(recorder.Body.Bytes()))
		return
	case *holdfast.Error:
		problem(out, map[holdfast.Kind]int{holdfast.KindConflict: 409, holdfast.KindNotFound: 404, holdfast.KindRefused: 403}[answer.Kind], answer)
		return
	}
	if !ok {
		problem(out, http.StatusNotFound, holdfast.Errorf(holdfast.KindNotFound, "there is nothing at %s", what))
		return
	}
	if answer == nil {
		out.WriteHeader(http.StatusNoContent)
		return
	}
	data, err := json.Marshal(answer)
	if err != nil {
		w.t.Error(err)
	}
	if w.hostile {
		data = poisoned(data)
	}
	_, _ = out.Write(data)
}

func problem(out http.ResponseWriter, status int, e *holdfast.Error) {
	out.Header().Set("Content-Type", "application/problem+json")
	out.WriteHeader(status)
	_ = json.NewEncoder(out).Encode(map[string]any{"title": "no", "status": status, "detail": e.Message, "kind": e.Kind, "hint": e.Hint, "field": e.Field})
}

// set changes what the server answers.
func (w *world) set(what string, answer any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.routes[what] = answer
}

// asked returns the requests of a kind.
func (w *world) asked(what string) []request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.seen), func(r request) bool { return r.what != what })
}

// body reads the body of the only request of a kind.
func body[T any](w *world, what string) (in T) {
	w.t.Helper()
	requests := w.asked(what)
	if len(requests) != 1 {
		w.t.Fatalf("%s was asked %d times", what, len(requests))
	}
	if err := json.Unmarshal([]byte(requests[0].body), &in); err != nil {
		w.t.Fatal(err)
	}
	return in
}

type answer struct {
	code      int
	out, errs string
}

func (w *world) run(args ...string) answer { return w.runIn(w.t.Context(), args...) }

// runIn carries out a command line as the program does.
func (w *world) runIn(ctx context.Context, args ...string) answer {
	w.t.Helper()
	var out, errs bytes.Buffer
	console := &cli.Console{Out: &out, Err: &errs, JSON: slices.Contains(args, "--json")}
	getenv := func(name string) string { return w.getenv[name] }
	cloud := &cobra.Command{Use: "list", Short: "List", Example: "  holdfast vm list --azure azure.yaml", Args: command.NoArguments, RunE: func(*cobra.Command, []string) error {
		_, err := fmt.Fprintln(&out, "the cloud was asked")
		return err
	}}
	command.AzureFlag(cloud, new(string))
	root := command.Group(console, "holdfast", "Backup", "", command.Group(console, "vm", "Look at virtual machines", "", cloud))
	virtual := clock.NewVirtual(noon)
	root.AddCommand(policies.New(policies.Config{Console: console, Clock: virtual, Getenv: getenv})...)
	config := remote.Config{Console: console, Clock: virtual, Getenv: getenv, Color: w.color}
	if w.answers != "" {
		config.Answers = strings.NewReader(w.answers)
	}
	remote.Join(root, config)
	root.SilenceUsage, root.SilenceErrors = true, true
	root.PersistentFlags().BoolVar(&console.JSON, "json", false, "")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return command.FlagError(err) })
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&errs)
	cmd, err := root.ExecuteContextC(ctx)
	code := cli.ExitCode(err)
	if err != nil && !command.Told(err) {
		code = console.Fail(command.Explained(cmd, err))
	}
	a := answer{code, out.String(), errs.String()}
	for _, hidden := range []string{password, token, secret} {
		if strings.Contains(a.out+a.errs, hidden) {
			w.t.Errorf("holdfast %s shows a secret:\n%s%s", strings.Join(args, " "), a.out, a.errs)
		}
	}
	return a
}

// transcript are command lines that stand for all commands; FOLDER is the person's.
func transcript() []string {
	return []string{
		"whoami", "plan -f FOLDER/policies.yaml", "plan -f FOLDER/policies.yaml --exit-code", "apply -f FOLDER/policies.yaml --yes",
		"policy list", "policy show nightly", "policy run nightly", "policy run nightly --wait", "policy stop nightly", "policy enable nightly", "policy disable nightly",
		"policy priority nightly 2", "policy clone nightly copy", "policy export nightly", "policy export --all", "policy import -f FOLDER/policies.yaml --replace --yes", "policy remove nightly --yes",
		"session list", "session show s-1", "session log s-1", "session watch s-1", "session stop s-2", "session stats", "session export", "session export --format json",
		"vm list", "vm discover", "vm snapshot web-1", "vm snapshot web-1 --wait",
		"point list", "point remove p-1 --dry-run", "point remove p-1 --yes",
		"sla report gold --period daily", "sla report gold --period daily --csv",
		"repository list", "repository show hot", "repository add hot --url /srv/hot --password-file FOLDER/password", "repository remove hot --yes",
		"notify test", "notify test --to anna@example.com", "logout",
	}
}

const policiesFile = `kind: Repository
name: hot
url: /srv/hot
passwordFrom: {file: repository-password}
---
kind: SchedulePolicy
name: nightly
sources: {all: true}
`

func (w *world) lineOf(line string) []string {
	w.file("policies.yaml", policiesFile)
	w.file("repository-password", secret+"\n")
	return strings.Fields(strings.ReplaceAll(line, "FOLDER", w.folder))
}

// TestTranscript holds what each command shows, to people and to scripts, against the golden transcript; and that each has a help text
// with examples.
func TestTranscript(t *testing.T) {
	var all strings.Builder
	for _, line := range transcript() {
		for _, form := range []string{"", " --json"} {
			if strings.HasSuffix(line, "--csv") && form != "" || line == "session export" && form != "" {
				continue
			}
			w := newWorld(t)
			a := w.run(w.lineOf(line + form)...)
			text := strings.NewReplacer(w.server.URL, "https://SERVER", w.folder, "FOLDER").Replace(a.out + strings.ReplaceAll("\n"+a.errs, "\n", "\n! "))
			fmt.Fprintf(&all, "$ holdfast %s\n%s\n(exit %d)\n\n", line+form, strings.TrimRight(strings.ReplaceAll(text, "\n! \n", "\n"), "\n! "), a.code)
			mustBeJSON(t, line+form, a)
		}
	}
	got := regexp.MustCompile(` +\n`).ReplaceAllString(all.String(), "\n")
	file := filepath.Join("testdata", "transcript.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the transcript differs from %s at\n%s", file, difference(got, string(want)))
	}
}

// difference shows where two texts part.
func difference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			return fmt.Sprintf("line %d: %q\nexpected %q", i+1, a[i], strings.Join(b[min(i, len(b)):min(i+1, len(b))], ""))
		}
	}
	return "the end"
}

// mustBeJSON wants values and no null in standard output of a command line with --json: one line, but where lines are events.
func mustBeJSON(t *testing.T, line string, a answer) {
	t.Helper()
	if !strings.HasSuffix(line, "--json") {
		return
	}
	lines := strings.Split(strings.TrimSuffix(a.out, "\n"), "\n")
	if len(lines) != 1 && !strings.HasPrefix(line, "session watch") {
		t.Errorf("%s: standard output has %d lines", line, len(lines))
	}
	for _, text := range lines {
		if !json.Valid([]byte(text)) || strings.Contains(text, ":null") {
			t.Errorf("%s: %s", line, text)
		}
	}
}

// TestHelp proves that each command says what it is for, with an example that begins with its own name.
func TestHelp(t *testing.T) {
	w := newWorld(t)
	for _, line := range transcript() {
		names := strings.Fields(line)
		if names = names[:min(2, len(names))]; strings.HasPrefix(names[len(names)-1], "-") {
			names = names[:1]
		}
		if a := w.run(append(slices.Clone(names), "--help")...); a.code != 0 || !strings.Contains(a.out, "Examples:\n  holdfast "+names[0]) || !strings.Contains(a.out, "--server") {
			t.Errorf("%s: exit %d\n%s", line, a.code, a.out)
		}
	}
}

// poisoned makes every text of an answer one that moves the cursor, but for words and times that the client has to understand.
func poisoned(data []byte) []byte {
	keep := regexp.MustCompile(`^([DWMY]*|daily|weekly|monthly|create|update|remove|unchanged|queued|running|done|[sp]-\d|\d{4}-\d\d-\d\d.*)$`)
	text := regexp.MustCompile(`:"((?:[^"\\]|\\.)*)"`).ReplaceAllStringFunc(string(data), func(field string) string {
		if value := field[2 : len(field)-1]; !keep.MatchString(value) {
			return `:"` + value + `\u001b[2J\u202e\n\u0007` + `"`
		}
		return field
	})
	return []byte(text)
}

// TestHostileServer proves that whatever a server says reaches a terminal as text.
func TestHostileServer(t *testing.T) {
	for _, line := range transcript() {
		if strings.Contains(line, "export") || strings.Contains(line, "--csv") {
			continue // what is for other programs is as it was written, but on a terminal
		}
		w := newWorld(t)
		w.hostile = true
		if a := w.run(w.lineOf(line)...); strings.ContainsAny(a.out+a.errs, "\x1b\u202e\a") || !strings.Contains(line, "remove") && !strings.Contains(a.out+a.errs, `\x1b`) && hasTexts(line) {
			t.Errorf("%s: exit %d\n%q\n%q", line, a.code, a.out, a.errs)
		}
	}
}

// hasTexts reports whether a command shows texts of the server.
func hasTexts(line string) bool {
	return !slices.Contains([]string{"vm discover", "vm snapshot web-1", "policy stop nightly", "session stop s-2", "session stats", "logout"}, line)
}

func fixed[T any](items ...T) view.List[T] { return view.List[T]{Items: items} }
