package command_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/command"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

const ticket = "ticket-0001"

// run carries a command into this machine, with a folder of its own in place of /run/holdfast, and reads what a platform
// that keeps the last 4,096 bytes would bring back.
func run(t *testing.T, folder string, c machine.Command) (machine.CommandResult, error) {
	t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh on this machine")
	}
	c.OS, c.Ticket = "Linux", ticket
	_, script, err := command.Wrap(c)
	if err != nil {
		t.Fatal(err)
	}
	process := exec.CommandContext(t.Context(), shell, "-c", strings.ReplaceAll(script, "/run/holdfast", folder))
	var out, errs bytes.Buffer
	process.Stdout, process.Stderr = &out, &errs
	if err := process.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("%v: %s", err, errs.String())
	}
	said := out.String()
	return command.Read(c, []string{"Enable succeeded: \n[stdout]\n" + said[max(0, len(said)-4096):] + "\n[stderr]\n"})
}

func file(t *testing.T, mode os.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "it's a script.sh")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWrap_InARealShell proves that exit code, output and arguments come through, in the shell of this machine.
func TestWrap_InARealShell(t *testing.T) {
	hostile := []string{"a b", "it's", `"; exit 9; "`, "$(exit 9)", "`exit 9`", "*", "", `\`, "-n", "ö"}
	for name, row := range map[string]struct {
		command machine.Command
		want    machine.CommandResult
	}{
		"a text":          {machine.Command{Script: "echo said; echo oh >&2; exit 7"}, machine.CommandResult{Status: 7, Output: "said\noh\n", OutputBytes: 8}},
		"no output":       {machine.Command{Script: "true"}, machine.CommandResult{}},
		"no line break":   {machine.Command{Script: "printf x"}, machine.CommandResult{Output: "x", OutputBytes: 1}},
		"a forged end":    {machine.Command{Script: "echo 'holdfast " + ticket + " 0 5'; exit 3"}, machine.CommandResult{Status: 3, Output: "holdfast " + ticket + " 0 5\n", OutputBytes: 25}},
		"a file":          {machine.Command{File: file(t, 0o600, "exit 5")}, machine.CommandResult{Status: 5}},
		"a program":       {machine.Command{File: file(t, 0o700, "#!/bin/sh\nexit 6")}, machine.CommandResult{Status: 6}},
		"missing":         {machine.Command{File: "/none/such.sh"}, machine.CommandResult{Missing: true}},
		"status 127":      {machine.Command{File: file(t, 0o600, "exit 127")}, machine.CommandResult{Status: 127}},
		"hostile":         {machine.Command{File: file(t, 0o600, `for a in "$@"; do printf '%s|' "$a"; done`), Arguments: hostile}, machine.CommandResult{Output: strings.Join(hostile, "|") + "|", OutputBytes: len(strings.Join(hostile, "|")) + 1}},
		"broken language": {machine.Command{File: file(t, 0o600, "if")}, machine.CommandResult{Status: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := run(t, filepath.Join(t.TempDir(), "tickets"), row.command)
			if name == "broken language" {
				row.want.Output, row.want.OutputBytes = got.Output, got.OutputBytes // the shell's own words
			}
			if err != nil || got != row.want {
				t.Errorf("%+v, %v; want %+v", got, err, row.want)
			}
		})
	}
}

// TestWrap_LongOutput is cut to its end before the platform cuts, and its length is told.
func TestWrap_LongOutput(t *testing.T) {
	got, err := run(t, t.TempDir(), machine.Command{Script: `i=0; while [ $i -lt 2000 ]; do echo "line $i"; i=$((i+1)); done; exit 4`})
	if err != nil || got.Status != 4 || len(got.Output) != 3000 || got.OutputBytes != 18890 || !strings.HasSuffix(got.Output, "\nline 1999\n") {
		t.Errorf("status %d, %d of %d bytes, %v", got.Status, len(got.Output), got.OutputBytes, err)
	}
}

// TestWrap_RunsATicketOnce: sent again, the guest tells how the first time ended; a first time without an end is told.
func TestWrap_RunsATicketOnce(t *testing.T) {
	folder, counter := t.TempDir(), filepath.Join(t.TempDir(), "counter")
	c := machine.Command{Script: "echo x >>'" + counter + "'; wc -c <'" + counter + "'; exit 2"}
	for range 3 {
		if got, err := run(t, folder, c); err != nil || got.Status != 2 || strings.TrimSpace(got.Output) != "2" {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if err := os.Remove(filepath.Join(folder, ticket, "status")); err != nil {
		t.Fatal(err)
	}
	var begun *command.Begun
	if _, err := run(t, folder, c); !errors.As(err, &begun) {
		t.Errorf("%v", err)
	}
}

// TestWrap_Refusals: what cannot be carried safely is refused.
func TestWrap_Refusals(t *testing.T) {
	for name, c := range map[string]machine.Command{
		"no system":                {OS: "Plan9", Ticket: ticket, Script: "true"},
		"a bad ticket":             {OS: "Linux", Ticket: "a b; rm", Script: "true"},
		"nothing":                  {OS: "Linux", Ticket: ticket},
		"both":                     {OS: "Linux", Ticket: ticket, Script: "true", File: "/a.sh"},
		"a relative path":          {OS: "Linux", Ticket: ticket, File: "a.sh"},
		"a line break":             {OS: "Linux", Ticket: ticket, File: "/a.sh", Arguments: []string{"a\nb"}},
		"a text in Windows":        {OS: "Windows", Ticket: ticket, Script: "dir"},
		"a shell script":           {OS: "Windows", Ticket: ticket, File: `C:\a.sh`},
		"no drive":                 {OS: "Windows", Ticket: ticket, File: `\a.ps1`},
		"a quote":                  {OS: "Windows", Ticket: ticket, File: `C:\a.ps1`, Arguments: []string{`a"b`}},
		"an operator of cmd.exe":   {OS: "Windows", Ticket: ticket, File: `C:\a.bat`, Arguments: []string{"a&calc"}},
		"a backslash at the end":   {OS: "Windows", Ticket: ticket, File: `C:\a.exe`, Arguments: []string{`C:\`}},
		"too many":                 {OS: "Linux", Ticket: ticket, File: "/a.sh", Arguments: make([]string, 65)},
		"more than a script holds": {OS: "Linux", Ticket: ticket, Script: strings.Repeat("x", 65<<10)},
	} {
		if _, _, err := command.Wrap(c); !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ending := range []string{"exe", "BAT", "cmd", "wsf", "js", "vbs", "ps1"} {
		if id, script, err := command.Wrap(machine.Command{OS: "Windows", Ticket: ticket, File: `C:\a b\it's.` + ending, Arguments: []string{"x'y"}}); err != nil || id != "RunPowerShellScript" || !strings.Contains(script, `'C:\a b\it''s.`+ending+`'`) {
			t.Errorf("%s: %v", ending, err)
		}
	}
}

// FuzzRead proves that no answer brings the reader down, or is taken for an end that it does not bear.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{"", "holdfast " + ticket + " 0 0", "\nholdfast " + ticket + " missing 0\n", "x\nholdfast " + ticket + " begun 1", "[stdout]\nholdfast " + ticket + " 3 x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, message string) {
		got, err := command.Read(machine.Command{Ticket: ticket}, []string{message})
		if err == nil && !strings.Contains(message, "holdfast "+ticket+" ") {
			t.Errorf("%+v out of nothing", got)
		}
		if err == nil && !got.Missing && !strings.Contains(strings.ReplaceAll(message, "+", ""), strconv.Itoa(max(got.Status, -got.Status))) && got.Status != 0 {
			t.Errorf("status %d out of %q", got.Status, message)
		}
	})
}
