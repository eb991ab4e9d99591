package kit_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/kit"
)

func facts() kit.Facts {
	day := time.Date(2026, 11, 22, 22, 15, 0, 0, time.UTC)
	return kit.Facts{
		Address: "azblob://shopvault/backups/eu", ID: "0b785d6f743f1dc7e2ca3e727ff16b84", Format: 1, Owner: "site-a", Checksum: "dcd8 1c96 c569 ca90",
		Slots: []kit.Slot{
			{ID: strings.Repeat("77d8a6df", 8), Kind: "password", Label: "night shift of the operations team", Since: day},
			{ID: strings.Repeat("ebd74de3", 8), Kind: "recovery code", Label: "safe", Since: day},
			{ID: strings.Repeat("20b9098c", 8), Kind: "vault key", VaultKey: "https://shop.vault.azure.net/keys/backup/0123456789abcdef0123456789abcdef"},
		},
		Entry: 10, Hash: strings.Repeat("9693b243", 8), Points: 2, Machines: 1, Printed: day, Tool: "holdfast v0",
		Download: []string{"az storage blob download-batch --account-name shopvault --source backups --destination ./copy"},
	}
}

// The page names everything that a person needs, fits the width and one sheet of paper, and prints on anything: nothing but
// characters that every printer has.
func TestPage(t *testing.T) {
	page := kit.Page(facts())
	for _, want := range []string{
		"azblob://shopvault/backups/eu", "0b78 5d6f 743f 1dc7 e2ca 3e72 7ff1 6b84", "owned by    site-a", "11 entries, 2 restore points", "the disks of 1 machine come",
		"77d8 a6df 77d8  password       since 2026-11-22  night shift of the oper…", "ebd7 4de3 ebd7  recovery code", "shop.vault.azure.net/keys/backup/0123",
		"dcd8 1c96 c569 ca90", "9693 b243", "holdfast repo verify --level 1", "holdfast repo points", "holdfast repo export", "download-batch", "rescue list --repo ./copy", "rescue extract",
		"When the key lies in a vault",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	lines := strings.Split(page, "\n")
	if len(lines) > 62 {
		t.Errorf("%d lines do not fit a sheet", len(lines))
	}
	for _, line := range lines {
		if utf8.RuneCountInString(line) > 90 || !strings.HasPrefix(strings.TrimSpace(line), "https://") && utf8.RuneCountInString(line) > 78 {
			t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("blanks at the end of %q", line)
		}
	}
	if t.Failed() {
		t.Log(page)
	}
}

// Commands that are broken over lines are those that a shell puts together again, whatever the address.
func TestPage_CommandsAreWhole(t *testing.T) {
	f := facts()
	f.Address, f.Folder, f.Download = "/srv/back ups/it's here/"+strings.Repeat("long/", 20), "/srv/back ups", nil
	joined := strings.ReplaceAll(kit.Page(f), " \\\n      ", "")
	for _, want := range []string{
		"holdfast repo export --point POINT --disk os --out os.img --password-file secret.txt --repo '/srv/back ups/it'\\''s here/" + strings.Repeat("long/", 20) + "'\n",
		"rescue list --repo '/srv/back ups' --password-file secret.txt\n",
	} {
		if !strings.Contains(joined, want) {
			t.Errorf("no whole command %q in\n%s", want, joined)
		}
	}
}

// What opens the repository decides what the commands ask for.
func TestPage_Secrets(t *testing.T) {
	f := facts()
	f.Slots = f.Slots[2:]
	if page := kit.Page(f); strings.Contains(page, "--password-file") || !strings.Contains(page, "--azure azure.yaml") || !strings.Contains(page, "--repository-key-file KEY") {
		t.Errorf("with vault keys alone:\n%s", page)
	}
	f.Slots = []kit.Slot{{ID: strings.Repeat("0", 64), Kind: "none"}}
	f.Folder, f.Download = "/backups", nil
	if page := kit.Page(f); strings.Contains(page, "--password-file") || strings.Contains(page, "--azure") || !strings.Contains(page, "rescue list --repo /backups\n") {
		t.Errorf("without encryption:\n%s", page)
	}
}
