package remote_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// must wants an exit code and texts in what a command wrote.
func (a answer) must(t *testing.T, code int, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.out+a.errs, text) {
			t.Errorf("%q is not in\n%s%s", text, a.out, a.errs)
		}
	}
	if a.code != code {
		t.Errorf("exit %d, expected %d\n%s%s", a.code, code, a.out, a.errs)
	}
}

// TestLogin proves that the token is kept in a file of its user alone, the password nowhere, and that nothing of either is shown.
func TestLogin(t *testing.T) {
	w := newStrangerWorld(t)
	file := w.getenv["HOLDFAST_LOGIN"]
	login := []string{"login", "--server", w.server.URL + "/", "--user", "anna", "--password-file", w.file("password", password+"\r\n"), "--keep"}
	w.run(login...).must(t, 5, "certificate", "--ca FILE")
	w.run(append(login, "--ca", w.certificate())...).must(t, 0, "Signed in to "+w.server.URL+" as anna (operator)")
	if in := body[view.SignIn](w, "POST /sign-in"); in != (view.SignIn{User: "anna", Password: password, Keep: true}) {
		t.Errorf("the server was given %+v", in)
	}
	about, err := os.Stat(file)
	content, _ := os.ReadFile(file)
	if err != nil || about.Mode().Perm() != 0o600 || !strings.Contains(string(content), token) || strings.Contains(string(content), password) {
		t.Errorf("%v, %v: %s", err, about.Mode(), content)
	}
	if err := os.Remove(filepath.Join(w.folder, "tls.crt")); err != nil { // it was taken over
		t.Fatal(err)
	}
	w.run("whoami").must(t, 0, "anna at "+w.server.URL)
	if asked := w.asked("GET /me"); len(asked) != 1 || asked[0].token != "Bearer "+token {
		t.Errorf("%+v", asked)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	w.run("whoami").must(t, 5, "others than you have rights on", "chmod 600")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	w.run("logout").must(t, 0, "Signed out")
	if content, _ := os.ReadFile(file); strings.Contains(string(content), token) || len(w.asked("POST /sign-out")) != 1 {
		t.Errorf("after the sign-out the file holds %s", content)
	}
	w.run("whoami").must(t, 5, "you are not signed in", "holdfast login --server")
}

// TestLogin_Refused proves that a wrong password is told as the server tells it, and that a password is never sent in the clear.
func TestLogin_Refused(t *testing.T) {
	w := newStrangerWorld(t)
	w.set("POST /sign-in", func(out http.ResponseWriter, _ *http.Request) {
		problem(out, http.StatusUnauthorized, holdfast.Errorf(holdfast.KindRefused, "name or password are wrong"))
	})
	file := w.file("password", password)
	w.run("login", "--server", w.server.URL, "--user", "anna", "--password-file", file, "--ca", w.certificate()).must(t, 5, "name or password are wrong")
	for server, hint := range map[string]string{"http://backup.example.com": "in the clear", "backup.example.com:8460": "write it as https://HOST:PORT", "https://x/y": "https://HOST:PORT"} {
		w.run("login", "--server", server, "--user", "anna", "--password-file", file).must(t, 2, hint)
	}
	w.run("login", "--server", w.server.URL, "--user", "anna", "--password-file", filepath.Join(w.folder, "none")).must(t, 2, "password file cannot be read")
	w.run("login", "--server", w.server.URL, "--user", "anna", "--password-file", w.file("empty", "\n")).must(t, 2, "is empty")
	w.run("login", "--server", w.server.URL, "--user", "anna").must(t, 2, "--password-file is missing")
	if _, err := os.Stat(w.getenv["HOLDFAST_LOGIN"]); !os.IsNotExist(err) {
		t.Errorf("a refused sign-in left a file: %v", err)
	}
}

// TestServers proves that the last sign-in is the one that is used, that --server chooses among them, and that a token goes to no server
// but its own.
func TestServers(t *testing.T) {
	first, second := newStrangerWorld(t), newStrangerWorld(t)
	second.getenv = first.getenv
	for _, w := range []*world{first, second} {
		w.run("login", "--server", w.server.URL, "--user", "anna", "--password-file", w.file("password", password), "--ca", w.certificate()).must(t, 0)
	}
	first.run("whoami").must(t, 0, second.server.URL)
	first.run("whoami", "--server", first.server.URL).must(t, 0, first.server.URL)
	stranger := newStrangerWorld(t)
	first.run("whoami", "--server", stranger.server.URL).must(t, 5, "you are not signed in to "+stranger.server.URL)
	if len(stranger.seen) != 0 || len(first.asked("GET /me")) != 1 || len(second.asked("GET /me")) != 1 {
		t.Errorf("asked %v, %v, %v", first.seen, second.seen, stranger.seen)
	}
	first.run("logout").must(t, 0, second.server.URL)
	first.run("whoami").must(t, 5, "nothing says which server to ask", first.server.URL)
	first.server.Close()
	first.run("logout", "--server", first.server.URL).must(t, 0, "the server was not told", "Signed out")
}

// TestBadInput proves that mistakes, and servers that do not answer or do not know somebody, are told with a kind and with what to do.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	w.set("GET /policies/nowhere", holdfast.Errorf(holdfast.KindNotFound, "there is no policy nowhere").WithHint("see: holdfast policy list"))
	w.set("GET /machines", view.List[view.Machine]{Items: []view.Machine{{InventoryVM: holdfast.InventoryVM{ID: vm("twin"), Name: "twin"}}, {InventoryVM: holdfast.InventoryVM{ID: vm("Twin"), Name: "Twin"}}}})
	for line, want := range map[string]struct {
		code  int
		texts string
	}{
		"policy show nowhere":                                          {3, "there is no policy nowhere|holdfast policy list"},
		"policy show":                                                  {2, "needs a NAME"},
		"policy show a b":                                              {2, `"b" is too much`},
		"policy priority nightly first":                                {2, "whole number"},
		"policy export":                                                {2, "NAME of one policy, or --all"},
		"policy export a --all":                                        {2, "NAME of one policy, or --all"},
		"policy remove nightly":                                        {2, "--yes is missing"},
		"policy preview nightly --from 2026-03-01":                     {2, "--from does not go with the name"},
		"policy preview nightly --days 0":                              {2, "0 days cannot be shown"},
		"policy preview policies.yaml":                                 {2, "files are named behind -f"},
		"session list --from yesterday":                                {2, `"yesterday" is not a time|RFC 3339`},
		"session list --from 2026-03-02 --to 2026-03-01":               {2, "--to is not after --from"},
		"session list --state waiting":                                 {2, "--state takes|queued, running, done"},
		"session list --outcome good":                                  {2, "success, warning, stopped, error"},
		"session list --type nightly":                                  {2, "healthCheck"},
		"session list --limit -1":                                      {2, "-1 cannot be listed"},
		"session list --vm twin":                                       {2, "2 machines have the name"},
		"session list --vm nobody":                                     {3, "there is no machine"},
		"session list --vm /subscriptions/x":                           {2, "not an ARM resource id"},
		"session export --format xml":                                  {2, "csv, json"},
		"session export --format csv --json":                           {2, "exclude each other"},
		"point list --kind tape":                                       {2, "snapshot, backup, archive"},
		"point remove":                                                 {2, "needs a ID"},
		"point remove p-1":                                             {2, "--yes is missing"},
		"vm list --azure azure.yaml --gone":                            {2, "--azure and --gone exclude each other"},
		"sla report gold":                                              {2, "--period is missing"},
		"sla report gold --period yearly":                              {2, "daily, weekly, monthly"},
		"sla report gold --period daily --csv --json":                  {2, "exclude each other"},
		"repository add hot":                                           {2, "--url is missing"},
		"repository add hot --url /srv/hot":                            {2, "nothing says what opens|--vault-key"},
		"repository add hot --url /x --unencrypted --tier warm --json": {2, `"field":"tier"`},
		"repository add hot --url /x --vault-key http://x --json":      {2, `"field":"vault-key"`},
		"repository add hot -f FOLDER/policies.yaml":                   {2, "leave the name away"},
		"repository add --url /x -f FOLDER/policies.yaml":              {2, "--url and -f exclude each other"},
		"plan": {2, "-f is missing"}, "plan -f FOLDER/none": {3, "none"},
		"apply -f FOLDER/policies.yaml":               {2, "--yes is missing"},
		"apply -f FOLDER/policies.yaml --json":        {2, "--yes is missing"},
		"policy import -f FOLDER/policies.yaml --yes": {5, `SchedulePolicy \"nightly\" already|--replace`},
		"vm list --limit -1":                          {2, "-1 cannot be listed"},
	} {
		if a := w.run(w.lineOf(line)...); !strings.Contains(line, "--json") {
			a.must(t, want.code, strings.Split(strings.ReplaceAll(want.texts, `\"`, `"`), "|")...)
		} else {
			a.must(t, want.code, strings.Split(want.texts, "|")...)
		}
	}
	for _, changing := range []string{"POST /documents/apply", "DELETE /policies/nightly", "POST /repositories"} {
		if n := len(w.asked(changing)); n > 0 {
			t.Errorf("%s was asked %d times", changing, n)
		}
	}
	for _, r := range w.asked("POST /points/remove") {
		if !strings.Contains(r.body, `"dryRun":true`) {
			t.Errorf("points were removed: %s", r.body)
		}
	}
}

// TestNobodyThere proves what is said when the token has ended, the server is gone, and its answers are none.
func TestNobodyThere(t *testing.T) {
	w := newWorld(t)
	content, _ := os.ReadFile(w.getenv["HOLDFAST_LOGIN"])
	if err := os.WriteFile(w.getenv["HOLDFAST_LOGIN"], []byte(strings.Replace(string(content), token, "another", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	w.run("policy", "list").must(t, 5, "the sign-in to "+w.server.URL+" has ended", "sign in again: holdfast login --server "+w.server.URL+" --user anna")
	w.file("settings/login.json", string(content))
	w.set("GET /policies", func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, "<html>") })
	w.run("policy", "list").must(t, 1, "cannot be read", "same version")
	w.set("GET /policies", func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusBadGateway) })
	w.run("policy", "list").must(t, 1, "502")
	if n := len(w.asked("GET /policies")); n != 6 { // denied, read, and four times unavailable
		t.Errorf("asked %d times", n)
	}
	w.set("GET /policies", holdfast.Errorf(holdfast.KindRefused, "anna may not see policies"))
	w.run("policy", "list").must(t, 5, "anna may not see policies")
	w.server.Close()
	w.run("policy", "list", "--json").must(t, 1, `"kind":"unavailable"`, "does not answer", "holdfast server runs there")
	w.file("settings/login.json", "{")
	w.run("policy", "list").must(t, 2, "is not a file that holdfast login wrote")
}

// TestApply proves what a server is given: the files as they are, the version that the plan was made from, and the secrets of this
// machine by their names; after a question, or not at all.
func TestApply(t *testing.T) {
	w := newWorld(t)
	w.getenv["MAIL"], w.getenv["HOOK"] = secret, secret+" too"
	line := w.lineOf("apply -f FOLDER/policies.yaml -f FOLDER/settings.yaml --prune")
	w.file("settings.yaml", `kind: Installation
mail: {server: mail.example.com, from: a@example.com, recipients: [b@example.com], user: a, passwordFrom: {environment: MAIL}}
webhooks: [{url: "https://hooks.example.com/y", secretFrom: {environment: HOOK}}, {url: "https://hooks.example.com/z", secretFrom: {vaultSecret: "https://v.vault.azure.net/secrets/z"}}]
`)
	w.answers = "no\n"
	w.run(line...).must(t, 1, "Put this in force on", "[y/N]", "nothing was changed")
	if len(w.asked("POST /documents/apply")) > 0 {
		t.Fatal("it was put in force without an agreement")
	}
	w.answers, w.color = "Yes\n", true
	w.run(line...).must(t, 0, "Done: 1 created", "HF-CODE-ON-PAPER", "\x1b[32m    +name: hot\x1b[0m", "\x1b[31m    -  keep: 3 days\x1b[0m")
	in := body[view.Proposal](w, "POST /documents/apply")
	want := map[string]string{"repository/hot": secret, "mail": secret, "webhook/https://hooks.example.com/y": secret + " too"}
	if !in.Prune || in.Base == nil || *in.Base != 7 || fmt.Sprint(in.Secrets) != fmt.Sprint(want) || len(in.Files) != 2 || in.Files[0].Data != policiesFile || in.Files[0].Folder != w.folder {
		t.Errorf("the server was given %+v", in)
	}
	for _, r := range w.asked("POST /documents/plan") {
		if strings.Contains(r.body, secret) {
			t.Error("a plan was given secrets")
		}
	}
}

// TestApply_Again proves that what is in force already is not asked about, and that its secrets need not be on this machine.
func TestApply_Again(t *testing.T) {
	w := newWorld(t)
	same := view.Plan{Base: 8, Changes: []view.Change{{Kind: "Repository", Name: "hot", Verb: view.Unchanged, Version: 1}}, Coverage: []view.Coverage{}, Notes: []string{}}
	w.set("POST /documents/plan", same)
	w.set("POST /documents/apply", view.Applied{Plan: same, Repositories: []view.Connected{}})
	line := w.lineOf("apply -f FOLDER/policies.yaml")
	w.run(append(line, "--secrets")...).must(t, 0, "Nothing to do")
	if in := body[view.Proposal](w, "POST /documents/apply"); in.Secrets["repository/hot"] != secret {
		t.Errorf("%+v", in.Secrets)
	}
	if err := os.Remove(filepath.Join(w.folder, "repository-password")); err != nil {
		t.Fatal(err)
	}
	w.run(line...).must(t, 0, "Nothing to do")
	w.run("plan", "-f", filepath.Join(w.folder, "policies.yaml"), "--exit-code").must(t, 0, "Nothing would be changed")
	w.set("POST /documents/plan", plan())
	w.run(append(line, "--yes")...).must(t, 2, "a secret of Repository hot is not found", "handed to the server")
	w.lineOf("")
	w.set("POST /documents/apply", holdfast.Errorf(holdfast.KindConflict, "the documents have another version"))
	w.run(append(line, "--yes")...).must(t, 5, "another version", "run the command again")
	if n := len(w.asked("POST /documents/apply")); n != 2 {
		t.Errorf("it was applied %d times", n)
	}
}

// TestRepositoryAdd proves that flags and a file come to the same document, and that the password goes beside it.
func TestRepositoryAdd(t *testing.T) {
	for line, want := range map[string][]string{
		"repository add cold --url azblob://vault/b/cold --region westeurope --tier cool --redundancy ZRS --immutable --password-file FOLDER/repository-password": {
			"name: cold", "azblob://vault/b/cold", "region: westeurope", "tier: cool", "redundancy: ZRS", "immutable: true", "repository-password",
		},
		"repository add cold --url /srv/cold": {"environment: HOLDFAST_REPO_PASSWORD"},
		"repository add -f FOLDER/one.yaml":   {"name: one"},
	} {
		w := newWorld(t)
		w.getenv["HOLDFAST_REPO_PASSWORD"] = secret
		w.file("one.yaml", "kind: Repository\nname: one\nurl: /srv/one\npasswordFrom: {file: repository-password}\n")
		w.run(w.lineOf(line)...).must(t, 0, "HF-CODE-ON-PAPER")
		in := body[view.AddRepository](w, "POST /repositories")
		if in.Password != secret || strings.Contains(in.Document.Data, secret) || slices.ContainsFunc(want, func(text string) bool { return !strings.Contains(in.Document.Data, text) }) {
			t.Errorf("%s: the server was given %+v", line, in)
		}
	}
}

// TestLists_Pages proves that a list is one whatever pages it comes in, up to a limit, and that a list without an end is refused.
func TestLists_Pages(t *testing.T) {
	w := newWorld(t)
	w.set("GET /points", func(out http.ResponseWriter, in *http.Request) {
		page := view.List[view.Point]{}
		var first, limit int
		_, _ = fmt.Sscan(in.URL.Query().Get("limit"), &limit)
		_, _ = fmt.Sscan(in.URL.Query().Get("after"), &first)
		for n := first + 1; n <= min(first+limit, first+3, 8); n++ {
			p := pointView()
			p.ID = holdfast.PointID(fmt.Sprint("p-", n))
			page.Items, page.Next = append(page.Items, p), fmt.Sprint(n)
		}
		if page.Next == "8" {
			page.Next = ""
		}
		_, _ = out.Write(encoded(page))
	})
	for limit, want := range map[string]int{"0": 8, "8": 8, "9": 8, "7": 7, "3": 3, "4": 4, "1": 1} {
		a := w.run("point", "list", "--limit", limit, "--vm", "web-1", "--kind", "backup,archive", "--policy", "nightly", "--repository", "hot", "--all")
		if n := strings.Count(a.out, "\np-"); n != want || strings.Contains(a.errs, "There are more") != (want < 8) {
			t.Errorf("--limit %s: %d points\n%s%s", limit, n, a.out, a.errs)
		}
	}
	if asked := w.asked("GET /points"); !strings.Contains(asked[0].query, "kind=backup&kind=archive") || !strings.Contains(asked[0].query, "policy=nightly&removed=true&repository=hot&vm=web-1") {
		t.Errorf("asked for %s", asked[0].query)
	}
	w.set("GET /points", view.List[view.Point]{Items: []view.Point{pointView()}, Next: "1"})
	w.run("point", "list", "--limit", "0").must(t, 1, "does not end")
	for what, line := range map[string]string{"GET /points": "point list", "GET /sessions": "session list", "GET /policies": "policy list", "GET /repositories": "repository list", "GET /machines": "vm list"} {
		w.set(what, fixed[int]())
		w.run(strings.Fields(line)...).must(t, 0, "holdfast ")
		if a := w.run(append(strings.Fields(line), "--json")...); a.out != "[]\n" {
			t.Errorf("%s: %s", line, a.out)
		}
	}
}

// TestFilters proves that sessions are asked for as the flags say.
func TestFilters(t *testing.T) {
	w := newWorld(t)
	w.run("session", "list", "--policy", "nightly", "--vm", "web-1", "--state", "done", "--outcome", "error,warning", "--type", "policy", "--from", "2026-03-01", "--to", "2026-03-02T02:00:00+02:00", "--limit", "5").must(t, 0)
	want := "from=2026-03-01T00%3A00%3A00Z&limit=5&outcome=error&outcome=warning&policy=nightly&state=done&to=2026-03-02T00%3A00%3A00Z&type=policy&vm=%2Fsubscriptions%2Fs%2FresourceGroups%2Fshop%2Fproviders%2FMicrosoft.Compute%2FvirtualMachines%2Fweb-1"
	if got := w.asked("GET /sessions")[0].query; got != want {
		t.Errorf("asked for %s", got)
	}
	w.run("sla", "report", "gold", "--period", "weekly", "--from", "2026-01-01").must(t, 0)
	if got := w.asked("GET /policies/gold/sla")[0].query; got != "from=2026-01-01&period=weekly" {
		t.Errorf("asked for %s", got)
	}
}

// TestExport_BrokenOff proves that half a list is not taken for a whole one.
func TestExport_BrokenOff(t *testing.T) {
	w := newWorld(t)
	w.set("GET /sessions/export", func(out http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(out, "session,vm\n")
		_ = http.NewResponseController(out).Flush()
		panic(http.ErrAbortHandler)
	})
	w.run("session", "export").must(t, 1, "broke off")
}

// brokenWatch is a watch whose first connection breaks after two lines; whoever comes again gets the third, and the end.
func brokenWatch(out http.ResponseWriter, in *http.Request) {
	after := in.URL.Query().Get("after")
	if after == "2" {
		events(logLines(3, 3), shares(session("s-1", holdfast.OutcomeWarning)))(out, in)
		return
	}
	events(logLines(1, 2), shares(session("s-1", "")))(out, in)
	_ = http.NewResponseController(out).Flush()
	panic(http.ErrAbortHandler)
}

// TestWatch_BrokenConnection proves that a watch goes on where it was: each line is there once, and the end is told.
func TestWatch_BrokenConnection(t *testing.T) {
	w := newWorld(t)
	w.set("GET /sessions/s-1/watch", brokenWatch)
	a := w.run("session", "watch", "s-1")
	a.must(t, 0, "state        warning")
	for n := 1; n <= 3; n++ {
		if strings.Count(a.out, fmt.Sprint("step ", n)) != 1 {
			t.Errorf("step %d:\n%s", n, a.out)
		}
	}
	a = w.run("session", "watch", "s-1", "--json")
	lines := strings.Split(strings.TrimSpace(a.out), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], `{"line":`) || !strings.HasPrefix(lines[4], `{"session":{"id":"s-1"`) || !strings.Contains(lines[4], `"outcome":"warning"`) {
		t.Errorf("%s", a.out)
	}
	w.set("GET /sessions/s-1/watch", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	w.run("session", "watch", "s-1").must(t, 1, "does not answer")
}

// TestWatch_Progress proves that people are told how far each machine is.
func TestWatch_Progress(t *testing.T) {
	w := newWorld(t)
	times := 0
	w.set("GET /sessions/s-1/watch", func(out http.ResponseWriter, in *http.Request) {
		if times++; times > 8 { // each new connection takes a second
			watched("s-1", holdfast.OutcomeSuccess)(out, in)
			return
		}
		s := shares(session("s-1", ""))
		s.Machines[0].Progress.Done = int64(times) << 28
		events(nil, s)(out, in)
	})
	for _, line := range []string{"session watch s-1", "policy run nightly --wait"} {
		times = 0
		if a := w.run(strings.Fields(line)...); a.code != 0 || !strings.Contains(a.errs, "web-1 read: 1.50 GiB of 4.00 GiB (37 %)\n") {
			t.Errorf("%s: exit %d\n%s", line, a.code, a.errs)
		}
	}
}

// TestLog_OutOfOrder proves that a log whose numbers do not rise is refused: its pages would never end.
func TestLog_OutOfOrder(t *testing.T) {
	w := newWorld(t)
	w.set("GET /sessions/s-1/log", fixed(logLines(1, 2)...))
	w.run("session", "log", "s-1").must(t, 1, "not in order")
}

// TestWait proves that the exit code of commands that wait is that of the sessions, and that who ends the command is told that they go on.
func TestWait(t *testing.T) {
	for outcome, code := range map[holdfast.Outcome]int{holdfast.OutcomeSuccess: 0, holdfast.OutcomeWarning: 0, holdfast.OutcomeError: 1, holdfast.OutcomeStopped: 1} {
		w := newWorld(t)
		w.set("POST /policies/nightly/run", view.Started{Sessions: []holdfast.Session{session("s-1", ""), session("s-4", "")}})
		w.set("GET /sessions/s-4/watch", watched("s-4", outcome))
		w.set("GET /sessions/s-1/watch", watched("s-1", holdfast.OutcomeSuccess))
		w.run("policy", "run", "nightly", "--wait").must(t, code, string(outcome), "slow today", "s-1", "s-4")
		w.run("session", "watch", "s-4").must(t, code, string(outcome))
		w.run("session", "watch", "s-4", "--json").must(t, code, string(outcome))
		w.run("vm", "snapshot", "web-1", "--wait").must(t, code, string(outcome))
	}
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.set("GET /sessions/s-1/watch", func(out http.ResponseWriter, in *http.Request) {
		events(nil, shares(session("s-1", "")))(out, in)
		_ = http.NewResponseController(out).Flush()
		cancel()
		<-in.Context().Done()
	})
	w.runIn(ctx, "policy", "run", "nightly", "--wait").must(t, 1, "stopped", "The session s-1 goes on; to end it, run: holdfast session stop s-1")
}

// TestVMList_Whom proves who is asked: the cloud where one is given, else the server.
func TestVMList_Whom(t *testing.T) {
	w := newWorld(t)
	w.run("vm", "list").must(t, 0, "its tag env is prod")
	w.run("vm", "list", "--azure", "azure.yaml").must(t, 0, "the cloud was asked")
	w.getenv["HOLDFAST_AZURE"] = "azure.yaml"
	w.run("vm", "list").must(t, 0, "the cloud was asked")
	w.run("vm", "list", "--gone").must(t, 0, "its tag env is prod")
	w.run("vm", "list", "--server", w.server.URL, "--unprotected", "--search", "web").must(t, 0, "its tag env is prod")
	if got := w.asked("GET /machines")[2].query; got != "limit=500&search=web&unprotected=true" {
		t.Errorf("asked for %s", got)
	}
	stranger := newStrangerWorld(t)
	stranger.run("vm", "list", "--json").must(t, 2, `"field":"azure"`, "--azure is missing", "holdfast login")
}

// TestPreview proves that the server's preview of a policy looks as one of documents does, event by event and drawn; and that one that
// cannot go on is told as a failure.
func TestPreview(t *testing.T) {
	w := newWorld(t)
	for _, args := range [][]string{{"--days", "10"}, {"--days", "10", "--json"}} {
		offline := w.run(append([]string{"policy", "preview", "-f", "../../../examples/policies", "--inventory", w.file("inventory.json", machines), "--from", "2026-03-02"}, args...)...)
		offline.must(t, 0, "gold of the shop")
		w.set("GET /policies/nightly/preview", exampleSummary(t, 10))
		w.set("GET /policies/nightly/preview/events", func(out http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(out, offline.out) })
		if a := w.run(append([]string{"policy", "preview", "nightly"}, args...)...); a.out != offline.out || a.code != 0 {
			t.Errorf("%v: exit %d\n%s%s\nexpected\n%s", args, a.code, a.out, a.errs, offline.out)
		}
	}
	if got := w.asked("GET /policies/nightly/preview/events")[0].query; got != "days=10" {
		t.Errorf("asked for %s", got)
	}
	w.set("GET /policies/nightly/preview/events", func(out http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(out, `{"event":"run"}`+"\n"+`{"error":{"kind":"conflict","detail":"the documents were changed"}}`+"\n")
	})
	w.run("policy", "preview", "nightly", "--json").must(t, 5, `{"event":"run"}`+"\n", `"message":"the documents were changed"`)
}

const machines = `{"at":"2026-03-02T00:00:00Z","zonal":[],"vms":[{"id":"/subscriptions/s/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web-1","name":"web-1","region":"westeurope","tags":{"env":"prod"},
	"disks":[{"lun":"os","name":"web-1-os","sizeBytes":4294967296}]}]}`

// exampleSummary is a preview of the examples.
func exampleSummary(t *testing.T, days int) preview.Summary {
	t.Helper()
	files, err := document.Load("../../../examples/policies")
	if err != nil {
		t.Fatal(err)
	}
	in := preview.Input{Assumptions: cost.DefaultAssumptions()}
	if in.Documents, _, err = document.Read(files...); err != nil {
		t.Fatal(err)
	}
	if in.Prices, err = cost.BuiltIn(); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(machines), &in.Inventory); err != nil {
		t.Fatal(err)
	}
	from := time.Date(2026, time.March, 2, 0, 0, 0, 0, time.UTC)
	p, err := preview.New(in, from)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range p.Run(from.AddDate(0, 0, days)) {
		if err != nil {
			t.Fatal(err)
		}
	}
	return p.Summary()
}
