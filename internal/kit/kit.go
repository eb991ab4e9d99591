// Package kit writes the recovery kit of a repository: one printed page with which a person who has nothing else gets the disks back.
//
// The page is plain text: it prints on anything, is read in a terminal on the worst of days and in thirty years, can be
// typed from, and nothing in it can be run. It fits 78 columns, and one sheet for a repository with a handful of keys. It promises to name the
// repository, its keys and the state of its log, and the exact commands. It must never hold a secret: neither password nor
// recovery code nor key goes into Facts.
package kit

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Facts are what a page says.
type Facts struct {
	Address  string // of the repository, as --repo takes it
	Folder   string // where it lies in a folder; "" elsewhere
	ID       string
	Format   int
	Owner    string // installation, "" for nobody
	Checksum string // of the keys
	Slots    []Slot // that open it
	Entry    uint64 // number of the newest log entry
	Hash     string // of that entry, in hex
	Points   int
	Machines int
	Printed  time.Time
	Tool     string
	Download []string // commands that bring the repository into the folder ./copy, where it lies elsewhere
}

// Slot is a way to open the repository.
type Slot struct {
	ID       string
	Kind     string // password, recovery code, vault key, or none
	Label    string
	Since    time.Time
	VaultKey string
}

const (
	width     = 78
	idDigits  = 12
	folderArg = "./copy"
)

// Page returns the page.
func Page(f Facts) string {
	p := &page{}
	p.line("%s", strings.Repeat("=", width))
	p.line("HOLDFAST RECOVERY KIT%s", right("printed "+f.Printed.UTC().Format("2006-01-02 15:04")+" UTC", width-len("HOLDFAST RECOVERY KIT")))
	p.line("%s", strings.Repeat("=", width))
	p.line("With this page and one of the secrets below, the disks of %s come back", counted(f.Machines, "machine"))
	p.line("without any server. It holds no secret itself: keep those in another place.")
	p.gap()
	p.repository(f)
	p.keys(f)
	p.steps(f)
	return p.text.String()
}

type page struct{ text strings.Builder }

func (p *page) line(format string, args ...any) {
	p.text.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

func (p *page) gap() { p.text.WriteByte('\n') }

func (p *page) repository(f Facts) {
	p.line("THE REPOSITORY")
	p.field("address", f.Address)
	p.field("id", grouped(f.ID, 4))
	p.field("format", fmt.Sprint(f.Format))
	if f.Owner != "" {
		p.field("owned by", f.Owner)
	}
	p.field("log", fmt.Sprintf("%d entries, %s when this was printed", f.Entry+1, counted(f.Points, "restore point")))
	p.field("last entry", fmt.Sprintf("%d, SHA-256", f.Entry))
	for half := range 2 {
		part := f.Hash[min(len(f.Hash), half*32):min(len(f.Hash), half*32+32)]
		p.field("", grouped(part, 4))
	}
	p.line("  (a log with fewer entries, or another hash there, has lost what came later)")
	p.gap()
}

func (p *page) keys(f Facts) {
	p.line("ITS KEYS: EACH OPENS THE REPOSITORY BY ITSELF")
	for _, s := range f.Slots {
		since := ""
		if !s.Since.IsZero() {
			since = "since " + s.Since.UTC().Format("2006-01-02")
		}
		p.line("  %s  %-13s  %-16s  %s", grouped(s.ID[:min(idDigits, len(s.ID))], 4), s.Kind, since, short(s.Label, 24))
		if s.VaultKey != "" {
			p.line("      %s", s.VaultKey)
		}
	}
	p.field("checksum", f.Checksum)
	p.line("  (`holdfast repo key list` shows it; another one there: print a new kit)")
	p.gap()
	p.line("  Where the password or recovery code is kept: _______________________________")
	p.gap()
}

func (p *page) steps(f Facts) {
	opener := "--password-file secret.txt"
	if onlyVault(f.Slots) {
		opener = "--azure azure.yaml"
	}
	if len(f.Slots) > 0 && f.Slots[0].Kind == "none" {
		opener = ""
	}
	reach := ""
	if len(f.Download) > 0 && opener != "--azure azure.yaml" {
		reach = " --azure azure.yaml"
	}
	p.line("TO GET DISKS BACK")
	p.line("1. Get the program: https://github.com/holdfast-backup/holdfast, `go build")
	p.line("   ./cmd/holdfast`. Write the password or recovery code into secret.txt.")
	p.line("2. Look, choose a restore point, and write its disks to files:")
	p.command("holdfast repo verify --level 1" + reach + repoArg(f))
	p.command(words("holdfast repo points", opener+reach) + repoArg(f))
	p.command(words("holdfast repo export --point POINT --disk os --out os.img", opener+reach) + repoArg(f))
	p.line("   --disk os is the system disk, 0, 1, ... are data disks by LUN. Into Azure:")
	p.line("   `holdfast restore vm --help`.")
	p.line("3. If Holdfast itself is lost: rescue/ in the same place is a second, small")
	p.line("   reader; doc/format.md says what every byte means, to write a third one.")
	for _, command := range f.Download {
		p.command(command)
	}
	folder := folderArg
	if f.Folder != "" {
		folder = quoted(f.Folder)
	}
	if onlyVault(f.Slots) {
		opener = "--repository-key-file KEY" // rescue/README.md says how to unwrap it
	}
	p.command(words("rescue list --repo "+folder, opener))
	p.command(words("rescue extract --repo "+folder+" --point POINT --disk os --out os.img", opener))
	if hasVault(f.Slots) {
		p.line("   For a vault key: rescue/README.md, \"When the key lies in a vault\".")
	}
	p.line("%s", strings.Repeat("=", width))
}

func repoArg(f Facts) string { return " --repo " + quoted(f.Address) }

// field writes a name and its value.
func (p *page) field(name, value string) { p.line("  %-11s %s", name, value) }

// command writes a command, broken before a flag where it is too long, as a shell takes it.
func (p *page) command(text string) {
	const indent, more = "     ", "       "
	line := indent
	for i, part := range strings.Split(text, " --") {
		if i > 0 {
			part = "--" + part
		}
		switch {
		case line == indent:
			line += part
		case len(line)+1+len(part)+2 <= width:
			line += " " + part
		default:
			p.line("%s \\", line)
			line = more + part
		}
	}
	p.line("%s", line)
}

func words(parts ...string) string {
	var given []string
	for _, part := range parts {
		if part = strings.TrimSpace(part); part != "" {
			given = append(given, part)
		}
	}
	return strings.Join(given, " ")
}

func onlyVault(slots []Slot) bool {
	for _, s := range slots {
		if s.VaultKey == "" {
			return false
		}
	}
	return len(slots) > 0
}

func hasVault(slots []Slot) bool {
	for _, s := range slots {
		if s.VaultKey != "" {
			return true
		}
	}
	return false
}

// grouped breaks digits into groups, for eyes and fingers.
func grouped(digits string, size int) string {
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && i%size == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// quoted is an address as a shell takes it.
func quoted(address string) string {
	if !strings.ContainsAny(address, " '\"$&;()<>|*?\\`") {
		return address
	}
	return "'" + strings.ReplaceAll(address, "'", `'\''`) + "'"
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func right(text string, columns int) string { return fmt.Sprintf("%*s", columns, text) }

// short cuts a label that would not fit.
func short(text string, limit int) string {
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit-1]) + "…"
}
