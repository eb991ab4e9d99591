package powershell_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/guest/powershell"
	"github.com/holdfast-backup/holdfast/internal/twin/guest/sh"
)

type host struct{ files sh.Files }

func (h host) Files() sh.Files { return h.files }

func (h host) Program(path string, arguments []string) (sh.Result, bool) {
	if path != `C:\s\three.cmd` {
		return sh.Result{}, false
	}
	return sh.Result{Output: strings.Join(arguments, "|"), Errors: " oh", Status: -3, Took: time.Minute}, true
}

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// TestRun has a row for each form that is known, and for what is not.
func TestRun(t *testing.T) {
	for name, row := range map[string]struct{ script, output, errors string }{
		"texts":     {"$a = 'it''s'\n$b = \"$a here\"\nWrite-Output $b", "it's here\r\n", ""},
		"if":        {"if (Test-Path -LiteralPath 'C:\\none') {\nWrite-Output 'a'\n} else {\nif (-not (Test-Path -LiteralPath 'C:\\none')) {\nWrite-Output 'b'\n}\n}", "b\r\n", ""},
		"program":   {"& 'C:\\s\\three.cmd' 'a b' c *> \"C:\\out\"\n$r = Get-Content -Raw -LiteralPath 'C:\\out'\nWrite-Output $r\nWrite-Output $LASTEXITCODE", "a b|c oh\r\n-3\r\n", ""},
		"by script": {"& powershell.exe -NoProfile -ExecutionPolicy RemoteSigned -File 'C:\\s\\three.cmd' x *> 'C:\\out'\nWrite-Output $LASTEXITCODE", "-3\r\n", ""},
		"content":   {"Set-Content -LiteralPath 'C:\\f' -Value 'one'\n$v = Get-Content -TotalCount 1 -LiteralPath 'C:\\f'\nWrite-Output \"<$v>\"", "<one>\r\n", ""},
		"tail":      {"$a = 'abcdef'\n$n = $a.Length\nif ($n -gt 4) { $a = $a.Substring($a.Length - 4) }\nWrite-Output \"$n $a\"", "6 cdef\r\n", ""},
		"folders":   {"New-Item -ItemType Directory -Path 'C:\\d' | Out-Null\nNew-Item -ItemType Directory -Force -Path 'C:\\d' | Out-Null\nWrite-Output 'x'\nNew-Item -ItemType Directory -Path 'C:\\d' | Out-Null", "x\r\n", "already exists"},
		"unknown":   {"Write-Output 'a'\nRemove-Item C:\\", "", "line 2"},
		"no such":   {"& 'C:\\none.exe' *> 'C:\\out'", "", "not recognized"},
		"open":      {"if (Test-Path -LiteralPath 'C:\\s') {\nWrite-Output 'a'", "", "closing brace"},
	} {
		t.Run(name, func(t *testing.T) {
			got := powershell.Run(host{sh.Files{`C:\s\three.cmd`: {Program: true}}}, row.script, noon())
			if got.Output != row.output || !strings.Contains(got.Errors, row.errors) || (got.Errors == "") != (row.errors == "") {
				t.Errorf("%+v; want %q and %q", got, row.output, row.errors)
			}
		})
	}
}

// TestRun_Forget removes folders that are old.
func TestRun_Forget(t *testing.T) {
	h := host{sh.Files{`C:\h\old`: {Folder: true, Changed: noon().Add(-25 * time.Hour)}, `C:\h\new`: {Folder: true, Changed: noon()}}}
	powershell.Run(h, `Get-ChildItem -LiteralPath 'C:\h' | Where-Object { $_.LastWriteTime -lt (Get-Date).AddDays(-1) } | Remove-Item -Recurse -Force`, noon())
	if len(h.files) != 1 || !h.files[`C:\h\new`].Folder {
		t.Errorf("%v", h.files)
	}
}

// FuzzRun proves that no script brings the interpreter down.
func FuzzRun(f *testing.F) {
	for _, seed := range []string{"& *> x", "$a = ", "if (x) {", "}", "$a = $a.Substring($a.Length - 4)", "Write-Output '"} {
		f.Add(seed)
	}
	f.Fuzz(func(_ *testing.T, script string) { powershell.Run(host{sh.Files{}}, script, noon()) })
}
