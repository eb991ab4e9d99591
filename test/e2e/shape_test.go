package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/azure"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
)

// in gives the world to a subtest: failures are the subtest's, and so is the repository.
func (w *world) in(t *testing.T) *world {
	t.Helper()
	own := *w
	own.t, own.repo = t, filepath.Join(t.TempDir(), "repository")
	return &own
}

// runWith runs a command with variables set besides, or set to "".
func (w *world) runWith(variables []string, args ...string) answer {
	w.t.Helper()
	var out, errs bytes.Buffer
	cmd := w.command(args...)
	cmd.Env = append(cmd.Env, variables...) // of two values the later one counts
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return answer{code: cmd.ProcessState.ExitCode(), out: out.Bytes(), errors: errs.String()}
}

// value runs a command with --json that must succeed, and checks what holds for every result: standard output is one JSON value on
// one line, fields are camelCase, nothing is null, times are in UTC; standard error holds no JSON.
func (w *world) value(args ...string) any {
	w.t.Helper()
	a := w.run(append(args, "--json")...)
	if a.code != 0 {
		w.t.Fatalf("holdfast %s: exit %d\n%s\n%s", strings.Join(args, " "), a.code, a.out, a.errors)
	}
	return oneValue(w.t, a)
}

// object is value for a command whose result is an object.
func (w *world) object(args ...string) map[string]any {
	w.t.Helper()
	v, ok := w.value(args...).(map[string]any)
	if !ok {
		w.t.Fatalf("holdfast %s: the result is no object", strings.Join(args, " "))
	}
	return v
}

func oneValue(t *testing.T, a answer) any {
	t.Helper()
	if n := bytes.Count(a.out, []byte("\n")); n != 1 || !bytes.HasSuffix(a.out, []byte("\n")) {
		t.Errorf("standard output has %d lines, not one:\n%s", n, a.out)
	}
	if strings.Contains(a.errors, `{"`) {
		t.Errorf("there is JSON on standard error:\n%s", a.errors)
	}
	var v any
	if err := json.Unmarshal(a.out, &v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, a.out)
	}
	checkHouseRules(t, "", v)
	return v
}

var (
	camelCase = regexp.MustCompile(`^[a-z][a-zA-Z0-9]*$`)
	instant   = regexp.MustCompile(`^\d{4}-\d\d-\d\d[T ]\d\d:\d\d`)
)

func checkHouseRules(t *testing.T, at string, v any) {
	t.Helper()
	switch v := v.(type) {
	case nil:
		t.Errorf("%s is null", at)
	case map[string]any:
		for name, field := range v {
			if !camelCase.MatchString(name) && !strings.HasSuffix(at, ".tags") {
				t.Errorf("%s.%s is not camelCase", at, name)
			}
			checkHouseRules(t, at+"."+name, field)
		}
	case []any:
		for i, item := range v {
			checkHouseRules(t, fmt.Sprintf("%s[%d]", at, i), item)
		}
	case string:
		if instant.MatchString(v) {
			if _, err := time.Parse(time.RFC3339Nano, v); err != nil || !strings.HasSuffix(v, "Z") {
				t.Errorf("%s is %q, not a time of RFC 3339 in UTC", at, v)
			}
		}
	}
}

// mustHave checks the fields of an object and their types. The list is complete, unless it ends with "…".
func mustHave(t *testing.T, what string, v any, list string) map[string]any {
	t.Helper()
	object, ok := v.(map[string]any)
	if !ok {
		t.Fatalf("%s is %T, not an object", what, v)
	}
	list, open := strings.CutSuffix(list, "…")
	want := map[string]string{}
	words := strings.Fields(list)
	for i := 0; i < len(words); i += 2 {
		want[words[i]] = words[i+1]
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got := typeOf(object[name]); got != want[name] {
			t.Errorf("%s: %s is %s, not %s", what, name, got, want[name])
		}
	}
	for name := range object {
		if _, ok := want[name]; !ok && !open {
			t.Errorf("%s: %s is not documented", what, name)
		}
	}
	return object
}

func typeOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "bool"
	case []any:
		return "list"
	case map[string]any:
		return "object"
	}
	return "missing"
}

// listOf returns the items of a field.
func listOf(t *testing.T, object map[string]any, field string, atLeast int) []any {
	t.Helper()
	items, _ := object[field].([]any)
	if len(items) < atLeast {
		t.Fatalf("%s has %d items, not %d", field, len(items), atLeast)
	}
	return items
}

// refusal is how a command must fail.
type refusal struct {
	code  int
	kind  string
	field string   // "" where no input is at fault
	words []string // what a person needs to read, in the message or the hint
}

// mustRefuse runs a command that must fail, as a script does and as a person does, and checks that both are told the same:
// what happened, what to do next, and by the exit code what sort of failure it is.
func (w *world) mustRefuse(want refusal, args ...string) {
	w.t.Helper()
	w.mustRefuseWith(nil, want, args...)
}

func (w *world) mustRefuseWith(variables []string, want refusal, args ...string) {
	w.t.Helper()
	a := w.runWith(variables, append(args, "--json")...)
	told := checkRefusal(w.t, a, want, strings.Join(args, " "))
	people := w.runWith(variables, args...)
	if people.code != want.code {
		w.t.Errorf("holdfast %s: exit %d with JSON, %d without", strings.Join(args, " "), a.code, people.code)
	}
	if len(people.out) > 0 {
		w.t.Errorf("holdfast %s: a failure wrote to standard output: %s", strings.Join(args, " "), people.out)
	}
	// Names of temporary files and trace ids differ between two runs, so only the beginning is compared.
	if !strings.Contains(people.errors, "Error: "+told[:min(16, len(told))]) {
		w.t.Errorf("holdfast %s: a script reads %q, a person %q", strings.Join(args, " "), told, people.errors)
	}
}

// checkRefusal checks an error in JSON and returns its message.
func checkRefusal(t *testing.T, a answer, want refusal, what string) string {
	t.Helper()
	result := mustHave(t, what, oneValue(t, a), "error object")
	failure := mustHave(t, what, result["error"], "kind string message string hint string field string")
	message, hint := failure["message"].(string), failure["hint"].(string)
	if a.code != want.code || failure["kind"] != want.kind || failure["field"] != want.field {
		t.Errorf("holdfast %s: exit %d, kind %v, field %q; expected %d, %s, %q\n%s\n%s",
			what, a.code, failure["kind"], failure["field"], want.code, want.kind, want.field, message, hint)
	}
	if hint == "" {
		t.Errorf("holdfast %s: %q does not say what to do", what, message)
	}
	if strings.ContainsAny(message+hint, "\n\r\t") || strings.Contains(message, "-----") {
		t.Errorf("holdfast %s: the message is not one line: %q", what, message)
	}
	for _, word := range want.words {
		if !strings.Contains(message+" "+hint, word) {
			t.Errorf("holdfast %s: %q → %q does not mention %q", what, message, hint, word)
		}
	}
	return message
}

// mustNotChange runs f and checks that the cloud and the repository are as they were before: the same resources with the same
// tags, no SAS, the same objects.
func (w *world) mustNotChange(f func()) {
	w.t.Helper()
	cloud, stored := w.resources(), files(w.t, w.repo)
	f()
	if after := w.resources(); !slices.Equal(cloud, after) {
		w.t.Errorf("the cloud changed:\n%s", difference(cloud, after))
	}
	if after := files(w.t, w.repo); !slices.Equal(stored, after) {
		w.t.Errorf("the repository changed:\n%s", difference(stored, after))
	}
}

// resources describes all that exists in the cloud, a line each.
func (w *world) resources() []string {
	w.t.Helper()
	all, err := w.guests.Resources(w.t.Context())
	must(w.t, err)
	var lines []string
	for _, r := range all {
		lines = append(lines, describe(r))
	}
	return lines
}

func describe(r control.Resource) string {
	return fmt.Sprintf("%s %s %s %v, %d SAS", r.ID, r.SKU, r.Location, r.Tags, r.ActiveSAS)
}

// files lists the files below a folder with their sizes; none where there is no folder.
func files(t *testing.T, folder string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		names = append(names, fmt.Sprintf("%s %d", path, info.Size()))
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return names
}

// storedBytes is the size of all files below a folder.
func storedBytes(t *testing.T, folder string) int64 {
	t.Helper()
	var sum int64
	for _, line := range files(t, folder) {
		var n int64
		_, err := fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n)
		must(t, err)
		sum += n
	}
	return sum
}

func difference(before, after []string) string {
	var b strings.Builder
	for _, line := range before {
		if !slices.Contains(after, line) {
			fmt.Fprintln(&b, "gone:", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			fmt.Fprintln(&b, "new: ", line)
		}
	}
	return b.String()
}

// client speaks to the twin through the SDK.
func (w *world) client() *azure.Client {
	w.t.Helper()
	config, err := azureconfig.Read(w.twin.Endpoints().AzureFile)
	must(w.t, err)
	client, err := azure.New(config, azure.Options{})
	must(w.t, err)
	w.t.Cleanup(client.CloseIdleConnections)
	return client
}

// tool skips the test where a program is missing, and fails it where that must not be.
func tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		needs(t, name+" is missing")
	}
}

// needs skips the test for a reason, and fails it where HOLDFAST_REQUIRE_TOOLS says that nothing may be missing.
func needs(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("HOLDFAST_REQUIRE_TOOLS") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}
