// Package command writes the scripts that carry a command into a guest, and reads what they bring back. Run Command tells
// the last 4,096 bytes of what a script said and not how it ended, has no name by which a request could be looked up, and
// may be asked twice when an answer got lost. So each command goes in a wrapper that
//
//   - runs it at most once under its ticket, in each boot of a Linux guest: making the ticket's folder is the claim;
//   - keeps its output and exit code in that folder, and tells the kept ones whenever it is asked again;
//   - cuts the output by itself, well below the platform's limit, and ends with one line that bears the ticket, the exit
//     code and how long the output was, so that a cut, a sample script or a forged line is noticed.
//
// It must never let a name, a path or an argument become part of the script's language.
//
// On Linux the folder is below /run, which no restart survives and which is no disk, so that a frozen filesystem does not
// stop it. Sources: "Run scripts in your Linux VM by using action Run Commands", and the same page for Windows (Microsoft
// Learn, 2026); what scripts print arrives as users show it in reports to Azure/azure-cli.
package command

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// Limits.
const (
	// keptBytes is how much of the output comes back. The platform cuts at 4,096 bytes; ours must not be cut by it.
	keptBytes = 3000
	// scriptBytesMax bounds what is sent; the platform's own limit is not documented, ARM takes 4 MiB.
	scriptBytesMax = 64 << 10
	argumentsMax   = 64
)

// The sorts of Windows programs, by their ending, and what runs each.
var windowsRunners = map[string]string{
	".exe": "& $program", ".bat": "& $program", ".cmd": "& $program",
	".ps1": "& powershell.exe -NoProfile -NonInteractive -ExecutionPolicy RemoteSigned -File $program",
	".wsf": "& cscript.exe //NoLogo //B $program", ".js": "& cscript.exe //NoLogo //B $program", ".vbs": "& cscript.exe //NoLogo //B $program",
}

var (
	tickets      = regexp.MustCompile(`^[A-Za-z0-9-]{8,64}$`)
	windowsPaths = regexp.MustCompile(`^[A-Za-z]:\\[^"<>|*?\x00-\x1f]+$`)
)

// Wrap returns the script that carries a command, and the id of the Run Command that takes it.
func Wrap(c machine.Command) (id, script string, err error) {
	if err := check(c); err != nil {
		return "", "", err
	}
	if c.OS == "Windows" {
		script, err = wrapWindows(c)
		return "RunPowerShellScript", script, err
	}
	return "RunShellScript", wrapLinux(c), nil
}

func check(c machine.Command) error {
	invalid := func(field, format string, args ...any) *holdfast.Error {
		return holdfast.Errorf(holdfast.KindInvalid, format, args...).WithField(field)
	}
	switch {
	case c.OS != "Linux" && c.OS != "Windows":
		return invalid("os", "commands run in Linux and Windows guests, not in %q", c.OS)
	case !tickets.MatchString(c.Ticket):
		return invalid("ticket", "the ticket %q is not accepted", c.Ticket).WithHint("8 to 64 letters, digits and '-'")
	case (c.File == "") == (c.Script == ""):
		return invalid("file", "a command is either a file or a text")
	case c.Script != "" && c.OS == "Windows":
		return invalid("script", "texts run in Linux guests alone")
	case len(c.Script) > scriptBytesMax:
		return invalid("script", "the script has %d bytes; accepted: up to %d", len(c.Script), scriptBytesMax)
	case len(c.Arguments) > argumentsMax:
		return invalid("arguments", "%d arguments; accepted: up to %d", len(c.Arguments), argumentsMax)
	}
	for _, text := range append([]string{c.File}, c.Arguments...) {
		if strings.ContainsAny(text, "\x00\r\n") {
			return invalid("arguments", "%q holds a line break", text)
		}
	}
	if c.OS == "Linux" && c.File != "" && !strings.HasPrefix(c.File, "/") {
		return invalid("file", "%q is no path in a Linux guest", c.File).WithHint("write it from the root, such as /opt/before.sh")
	}
	return nil
}

// wrapLinux writes for sh. The last line is the answer.
func wrapLinux(c machine.Command) string {
	body := c.Script
	if c.File != "" {
		body = "program=" + quoteShell(c.File) + `
if [ ! -f "$program" ]; then echo missing >"$directory/missing"; exit 0; fi
if [ -x "$program" ]; then "$program"` + argumentsShell(c.Arguments) + `; exit $?; fi
sh "$program"` + argumentsShell(c.Arguments)
	}
	return strings.NewReplacer("TICKET", c.Ticket, "KEPT", strconv.Itoa(keptBytes), "BODY", body).Replace(`umask 077
mkdir -p /run/holdfast
find /run/holdfast -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} +
directory='/run/holdfast/TICKET'
if mkdir "$directory" 2>/dev/null; then
(
BODY
) >"$directory/output" 2>&1
echo $? >"$directory/status"
fi
status=begun
bytes=0
if [ -s "$directory/status" ]; then status=$(cat "$directory/status"); fi
if [ -s "$directory/missing" ]; then status=missing; fi
if [ -f "$directory/output" ]; then
bytes=$(wc -c <"$directory/output")
tail -c KEPT "$directory/output"
fi
echo
echo "holdfast TICKET $status" $bytes`)
}

// quoteShell makes one word of a text for sh.
func quoteShell(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func argumentsShell(arguments []string) string {
	var all strings.Builder
	for _, a := range arguments {
		all.WriteString(" " + quoteShell(a))
	}
	return all.String()
}

// wrapWindows writes for PowerShell 5.1. What goes through cmd.exe, or through the way in which that PowerShell hands
// arguments on, cannot be quoted so that nothing is misread; such arguments are refused.
func wrapWindows(c machine.Command) (string, error) {
	ending := strings.ToLower(path.Ext(strings.ReplaceAll(c.File, `\`, "/")))
	runner, known := windowsRunners[ending]
	if !known || !windowsPaths.MatchString(c.File) {
		return "", holdfast.Errorf(holdfast.KindInvalid, "%q is no program for a Windows guest", c.File).WithField("file").
			WithHint(`write it as C:\folder\name.ps1; exe, bat, cmd, wsf, js, vbs and ps1 run`)
	}
	refused := `"`
	if ending == ".bat" || ending == ".cmd" {
		refused = `"&|<>^%!()`
	}
	for _, a := range c.Arguments {
		if strings.ContainsAny(a, refused) || strings.HasSuffix(a, `\`) {
			return "", holdfast.Errorf(holdfast.KindInvalid, "the argument %q cannot be handed to %s as it is", a, c.File).WithField("arguments").
				WithHint("leave out %s and a backslash at the end, or put the value into the script", refused)
		}
	}
	var arguments strings.Builder
	for _, a := range c.Arguments {
		arguments.WriteString(" " + quotePowerShell(a))
	}
	return strings.NewReplacer("TICKET", c.Ticket, "KEPT", strconv.Itoa(keptBytes), "PROGRAM", quotePowerShell(c.File), "RUN", runner+arguments.String()).Replace(
		`$directory = 'C:\ProgramData\Holdfast\TICKET'
$program = PROGRAM
New-Item -ItemType Directory -Force -Path 'C:\ProgramData\Holdfast' | Out-Null
Get-ChildItem -LiteralPath 'C:\ProgramData\Holdfast' | Where-Object { $_.LastWriteTime -lt (Get-Date).AddDays(-1) } | Remove-Item -Recurse -Force
if (-not (Test-Path -LiteralPath "$directory")) {
New-Item -ItemType Directory -Path "$directory" | Out-Null
if (Test-Path -LiteralPath $program -PathType Leaf) {
RUN *> "$directory\output"
Set-Content -LiteralPath "$directory\status" -Value $LASTEXITCODE
} else {
Set-Content -LiteralPath "$directory\status" -Value 'missing'
}
}
$status = 'begun'
$output = ''
if (Test-Path -LiteralPath "$directory\status") { $status = Get-Content -TotalCount 1 -LiteralPath "$directory\status" }
if (Test-Path -LiteralPath "$directory\output") { $output = [string](Get-Content -Raw -LiteralPath "$directory\output") }
$bytes = $output.Length
if ($bytes -gt KEPT) { $output = $output.Substring($output.Length - KEPT) }
Write-Output $output
Write-Output "holdfast TICKET $status $bytes"
`,
	), nil
}

func quotePowerShell(text string) string {
	// PowerShell takes four other signs for the quote as well.
	return "'" + strings.NewReplacer("'", "''", "‘", "‘‘", "’", "’’", "‚", "‚‚", "‛", "‛‛").Replace(text) + "'"
}

// Begun says that the command was begun by an earlier request whose end the guest does not know.
type Begun struct{ Ticket string }

// Error implements error.
func (b *Begun) Error() string {
	return fmt.Sprintf("the command %s was begun and has not ended", b.Ticket)
}

// Read finds a command's result in the texts of an answer. Without the line that ends it, which a platform that ran
// something else or lost the end would leave out, the error has KindUnavailable; asking again is harmless.
func Read(c machine.Command, messages []string) (machine.CommandResult, error) {
	marker := "holdfast " + c.Ticket + " "
	for _, message := range messages {
		message = strings.ReplaceAll(message, "\r\n", "\n")
		at := strings.LastIndex(message, "\n"+marker)
		if at < 0 && strings.HasPrefix(message, marker) {
			at = 0
			message = "\n" + message
		}
		if at < 0 {
			continue
		}
		line, _, _ := strings.Cut(message[at+1+len(marker):], "\n")
		return result(c, line, outputIn(message[:at]))
	}
	return machine.CommandResult{}, holdfast.Errorf(holdfast.KindUnavailable, "the guest's answer does not bear the end of the command")
}

// outputIn takes the frame away that the platform puts around what a Linux script says.
func outputIn(text string) string {
	if _, rest, framed := strings.Cut(text, "[stdout]\n"); framed {
		return rest
	}
	return text
}

func result(c machine.Command, line, output string) (machine.CommandResult, error) {
	status, length, _ := strings.Cut(strings.TrimSpace(line), " ")
	bytes, err := strconv.Atoi(strings.TrimSpace(length))
	if err != nil {
		return machine.CommandResult{}, holdfast.Errorf(holdfast.KindUnavailable, "the end of the guest's answer cannot be read")
	}
	found := machine.CommandResult{Output: output, OutputBytes: bytes}
	switch status {
	case "missing":
		return machine.CommandResult{Missing: true}, nil
	case "begun":
		return machine.CommandResult{}, &Begun{c.Ticket}
	}
	if found.Status, err = strconv.Atoi(status); err != nil {
		return machine.CommandResult{}, holdfast.Errorf(holdfast.KindUnavailable, "the guest's answer tells no exit code")
	}
	return found, nil
}
