package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/twin"
	"github.com/holdfast-backup/holdfast/internal/twin/keyvault"
	"github.com/holdfast-backup/holdfast/test/programtest"
)

const keysEstate = `
subscriptions:
  - {id: 11111111-1111-1111-1111-111111111111, name: production}
resourceGroups:
  - {name: shop, subscription: production, location: westeurope}
storageAccounts:
  - {name: shopvault, resourceGroup: shop, containers: [{name: backups}]}
keyVaults:
  - {name: shop-keys, resourceGroup: shop, keys: [{name: backup}, {name: other}]}
`

// keyring is a repository with a small machine in it, and files with secrets.
type keyring struct {
	*world
	image string
	point string
}

func newKeyring(t *testing.T) *keyring {
	t.Helper()
	k := &keyring{world: newWorld(t, keysEstate)}
	k.image = k.file("image", string(noise(3, 300<<10)))
	return k
}

func (k *keyring) file(name, content string) string {
	k.t.Helper()
	path := filepath.Join(k.dir, name)
	must(k.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func (k *keyring) fill() {
	k.t.Helper()
	k.point = k.object("image", "backup", "--repo", k.repo, "--name", "router", k.image)["point"].(string)
}

// vaultKey is the URL of a key as the twin shows it.
func (k *keyring) vaultKey(name string) string {
	return strings.Replace(k.twin.Endpoints().KeyVault, "{vault}", "shop-keys", 1) + "/keys/" + name
}

// The secrets of a command: nothing but a vault, a password of its own, or nothing at all.
func onlyVault() []string { return []string{"HOLDFAST_REPO_PASSWORD="} }

func withoutSecrets() []string {
	return []string{"HOLDFAST_REPO_PASSWORD=", "HOLDFAST_AZURE="}
}

func withPassword(secret string) []string {
	return []string{"HOLDFAST_REPO_PASSWORD=" + secret, "HOLDFAST_AZURE="}
}

// mustOpen reads the machine back with the secrets given and compares.
func (k *keyring) mustOpen(secrets []string) {
	k.t.Helper()
	out := filepath.Join(k.t.TempDir(), "back")
	a := k.runWith(secrets, "repo", "export", "--repo", k.repo, "--point", k.point, "--disk", "os", "--out", out)
	if a.code != 0 {
		k.t.Fatalf("with %v: exit %d\n%s", secrets, a.code, a.errors)
	}
	programtest.MustBeEqual(k.t, out, k.image)
}

// mustRefuse expects an exit code and words on standard error.
func (k *keyring) mustRefuse(secrets []string, code int, words string, args ...string) {
	k.t.Helper()
	a := k.runWith(secrets, args...)
	if a.code != code || !strings.Contains(a.errors, words) {
		k.t.Errorf("holdfast %s with %v: exit %d, want %d and %q\n%s", strings.Join(args, " "), secrets, a.code, code, words, a.errors)
	}
}

func (k *keyring) points() []string { return []string{"repo", "points", "--repo", k.repo} }

// A repository with a vault key is opened by whoever may use that key. Each way in which it cannot is told as what it is, with an
// exit code of its own kind; a password beside it opens all the same; the key comes back and so does the repository.
func TestKeys_Vault(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	init := k.runWith(onlyVault(), "repo", "init", "--repo", k.repo, "--vault-key", k.vaultKey("backup"), "--label", "vault", "--json")
	if init.code != 0 {
		t.Fatalf("init: %s", init.errors)
	}
	added := k.runWith(onlyVault(), "repo", "key", "add", "--repo", k.repo, "--new-password-file", k.file("first", password+"\n"), "--label", "office", "--json")
	if added.code != 0 {
		t.Fatalf("key add: %s", added.errors)
	}
	k.fill()
	k.mustOpen(onlyVault())
	k.mustOpen(withPassword(password))
	k.mustRefuse(withoutSecrets(), 6, "--azure", k.points()...)
	k.mustRefuse([]string{"HOLDFAST_REPO_PASSWORD=wrong"}, 6, "does not open", k.points()...)

	for _, row := range []struct {
		spoil, mend keyvault.Change
		code        int
		words       string
	}{
		{keyvault.Disable, keyvault.Enable, 5, "is disabled"},
		{keyvault.Delete, keyvault.Recover, 3, "is deleted; it can be recovered until"},
	} {
		must(t, k.guests.ChangeKey(t.Context(), "shop-keys", "backup", row.spoil))
		k.mustRefuse(onlyVault(), row.code, row.words, k.points()...)
		k.mustOpen(withPassword(password))
		must(t, k.guests.ChangeKey(t.Context(), "shop-keys", "backup", row.mend))
		k.mustOpen(onlyVault())
	}
	must(t, k.guests.Permit(t.Context(), "shop-keys", []string{"get", "wrapKey"}))
	k.mustRefuse(onlyVault(), 5, "may not be used by this identity to unwrap", k.points()...)
	must(t, k.guests.Permit(t.Context(), "shop-keys", keyvault.AllPermissions()))

	must(t, k.guests.ChangeKey(t.Context(), "shop-keys", "backup", keyvault.Expire))
	k.mustOpen(onlyVault()) // what was wrapped is unwrapped
	k.mustRefuse(nil, 5, "has expired", "repo", "key", "add", "--repo", k.repo, "--vault-key", k.vaultKey("backup"), "--label", "again")
	k.do(nil, "repo", "key", "add", "--repo", k.repo, "--vault-key", k.vaultKey("other"), "--label", "second vault key")
	must(t, k.guests.ChangeKey(t.Context(), "shop-keys", "backup", keyvault.Purge))
	k.mustOpen(onlyVault()) // with the other key
	k.do(nil, "repo", "key", "remove", "--repo", k.repo, "--slot", "second vault key")
	k.mustRefuse(onlyVault(), 3, "it never did, or it was purged", k.points()...)
	k.mustOpen(withPassword(password))
	k.mustRefuse(nil, 5, "no token is sent there", "repo", "key", "add", "--repo", k.repo, "--vault-key", "https://shop.vault.azure.net/keys/backup")
	k.mustRefuse(nil, 2, "does not name a key", "repo", "key", "add", "--repo", k.repo, "--vault-key", "backup")
	k.mustRefuse(withPassword(password), 2, "--azure", "repo", "key", "add", "--repo", k.repo, "--vault-key", k.vaultKey("other"))
	k.mustBeSound()
}

func (k *keyring) mustBeSound() {
	k.t.Helper()
	if a := k.run("repo", "verify", "--repo", k.repo, "--level", "2"); a.code != 0 {
		k.t.Errorf("verify: exit %d\n%s%s", a.code, a.out, a.errors)
	}
}

// The keys of a twin that is stopped and started again open what they opened.
func TestKeys_VaultOfATwinThatWasStopped(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	if a := k.runWith(onlyVault(), "repo", "init", "--repo", k.repo, "--vault-key", k.vaultKey("backup")); a.code != 0 {
		t.Fatal(a.errors)
	}
	if a := k.runWith(onlyVault(), "image", "backup", "--repo", k.repo, "--name", "router", k.image); a.code != 0 {
		t.Fatal(a.errors)
	}
	must(t, k.twin.Close(context.Background()))
	k.mustRefuse(onlyVault(), 1, "cannot be reached", k.points()...)
	var err error
	k.twin, err = twin.Start(t.Context(), twin.Config{Dir: filepath.Join(k.dir, "twin")})
	must(t, err)
	t.Cleanup(func() { must(t, k.twin.Close(context.Background())) })
	if a := k.runWith(onlyVault(), k.points()...); a.code != 0 || !strings.Contains(string(a.out), "router") {
		t.Errorf("exit %d: %s%s", a.code, a.out, a.errors)
	}
}

// Passwords and recovery codes are added, changed, removed, rotated and revoked; what was dropped opens nothing and says so; all
// points restore with what is in force.
func TestKeys_Passwords(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.initRepository()
	k.fill()
	second := k.file("second", "another password\n")
	slot := k.object("repo", "key", "add", "--repo", k.repo, "--new-password-file", second, "--label", "second")
	mustHave(t, "key add", slot, "added list dropped list generation number")
	k.mustOpen(withPassword("another password"))
	k.do(nil, "repo", "key", "rotate", "--repo", k.repo)

	code := k.object("repo", "key", "add", "--repo", k.repo, "--recovery-code", "--label", "paper")["recoveryCode"].(string)
	k.mustOpen(withPassword(strings.ToLower(code)))
	listed := k.object("repo", "key", "list", "--repo", k.repo)
	mustHave(t, "key list", listed, "checksum string generation number generations number slots list")
	slots := listOf(t, listed, "slots", 3)
	first := mustHave(t, "a key slot", slots[0], "id string kind string label string since string vaultKey string recoveryCode bool current bool used bool")
	if first["used"] != true || listed["generation"] != 2.0 || len(slots) != 3 {
		t.Errorf("keys %v", listed)
	}

	k.do(nil, "repo", "key", "add", "--repo", k.repo, "--new-password-file", k.file("third", "a third password"), "--replace", first["id"].(string)[:8])
	k.mustRefuse(withPassword(password), 6, "a key change has dropped it", k.points()...)
	k.mustOpen(withPassword("a third password"))

	third := withPassword("a third password")
	rotate := []string{"repo", "key", "rotate", "--repo", k.repo, "--revoke", "--drop", "second"}
	k.mustRefuse(third, 2, `"paper"`, rotate...)
	a := k.runWith(third, append(rotate, "--also-password-file", k.file("code", code), "--json")...)
	if a.code != 0 {
		t.Fatalf("revoking: %s", a.errors)
	}
	change := mustHave(t, "key rotate", oneValue(t, a), "added list dropped list generation number exposed object")
	exposed := mustHave(t, "exposed", change["exposed"], "slots list points list")
	if len(listOf(t, exposed, "points", 1)) != 1 || len(listOf(t, change, "dropped", 3)) != 3 {
		t.Errorf("change %v", change)
	}
	k.mustRefuse(withPassword("another password"), 6, "a key change has dropped it", k.points()...)
	k.mustOpen(third)
	k.mustOpen(withPassword(code))

	k.mustRefuse(third, 0, "", "repo", "key", "remove", "--repo", k.repo, "--slot", "paper")
	list := k.runWith(third, "repo", "key", "list", "--repo", k.repo, "--json")
	last := oneValue(t, list).(map[string]any)["slots"].([]any)[0].(map[string]any)["id"].(string)
	k.mustRefuse(third, 5, "the last key slot", "repo", "key", "remove", "--repo", k.repo, "--slot", last[:12])
	k.mustRefuse(third, 3, "no key slot", "repo", "key", "remove", "--repo", k.repo, "--slot", "nobody")
	k.mustRefuse(third, 2, "--revoke", "repo", "key", "rotate", "--repo", k.repo, "--drop", "paper")
	k.mustRefuse(third, 2, "exactly one", "repo", "key", "add", "--repo", k.repo)
	if verify := k.runWith(third, "repo", "verify", "--repo", k.repo, "--level", "2"); verify.code != 0 {
		t.Errorf("verify: %s%s", verify.out, verify.errors)
	}
}

// An owned repository is written by its owner alone, and read by everybody; taking it over wants the present owner's name.
func TestOwner(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.initRepository()
	k.fill()
	show := []string{"repo", "owner", "show", "--repo", k.repo}
	if nobody := mustHave(t, "owner show", k.value(show...), "owner string epoch number openSessions number"); nobody["owner"] != "" {
		t.Errorf("owner %v", nobody)
	}
	takeOver := []string{"repo", "owner", "take-over", "--repo", k.repo}
	k.mustRefuse(nil, 2, "--owner ID", takeOver...)
	k.mustRefuse(nil, 2, "1 to 64 letters", append(takeOver, "--owner", "a b")...)
	k.do(nil, append(takeOver, "--owner", "site-a")...)
	if owned := mustHave(t, "owner show", k.value(show...), "owner string epoch number openSessions number since string"); owned["owner"] != "site-a" || owned["epoch"] != 1.0 {
		t.Errorf("owner %v", owned)
	}
	backup := []string{"image", "backup", "--repo", k.repo, "--name", "router", k.image}
	k.mustRefuse(nil, 5, "owned by installation site-a", backup...)
	k.mustRefuse([]string{"HOLDFAST_OWNER=site-b"}, 5, "owned by installation site-a", backup...)
	k.mustRefuse(nil, 5, "owned by installation site-a", "repo", "key", "rotate", "--repo", k.repo)
	k.mustOpen(withPassword(password))
	k.mustBeSound()
	k.mustRefuse([]string{"HOLDFAST_OWNER=site-a"}, 0, "", backup...)
	k.mustRefuse(nil, 5, "--from site-a", append(takeOver, "--owner", "site-b")...)
	k.do(nil, append(takeOver, "--owner", "site-b", "--from", "site-a")...)
	k.mustRefuse([]string{"HOLDFAST_OWNER=site-a"}, 5, "owned by installation site-b", backup...)
	k.mustRefuse(nil, 0, "", append(backup, "--owner", "site-b")...)
}

// The recovery kit names repository, keys and log, holds no secret, and is written once; its commands are those of the program.
func TestKit(t *testing.T) {
	t.Parallel()
	k := newKeyring(t)
	k.repo = "azblob://shopvault/backups/eu"
	k.initRepository()
	k.fill()
	code := k.object("repo", "key", "add", "--repo", k.repo, "--recovery-code", "--label", "paper")["recoveryCode"].(string)
	k.do(nil, "repo", "key", "add", "--repo", k.repo, "--vault-key", k.vaultKey("backup"))
	out := filepath.Join(k.dir, "kit.txt")
	result := mustHave(t, "repo kit", k.value("repo", "kit", "--repo", k.repo, "--out", out), "repository string checksum string logHead object file string page string")
	page, err := os.ReadFile(out)
	must(t, err)
	keys := k.object("repo", "key", "list", "--repo", k.repo)
	if result["checksum"] != keys["checksum"] || result["page"] != string(page) {
		t.Errorf("the kit says %v, the keys are %v", result["checksum"], keys["checksum"])
	}
	for _, want := range []string{k.repo, keys["checksum"].(string), "recovery code", k.vaultKey("backup"), "az storage blob download-batch", "rescue extract"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the kit does not say %q:\n%s", want, page)
		}
	}
	for _, secret := range []string{password, code} {
		if strings.Contains(string(page), secret) {
			t.Error("the kit holds a secret")
		}
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kit's file: %v, %v", info.Mode(), err)
	}
	k.mustRefuse(nil, 2, "--force", "repo", "kit", "--repo", k.repo, "--out", out)
	k.mustRefuse(nil, 0, "", "repo", "kit", "--repo", k.repo, "--out", out, "--force")
	if printed := k.run("repo", "kit", "--repo", k.repo); printed.code != 0 || !strings.HasPrefix(string(printed.out), "====") {
		t.Errorf("printed: %s", printed.out)
	}
	k.kitCommands(string(page))
}

// kitCommands runs what the page says about Holdfast itself.
func (k *keyring) kitCommands(page string) {
	k.t.Helper()
	k.file("secret.txt", password)
	ran := 0
	for line := range strings.Lines(strings.ReplaceAll(page, " \\\n", "")) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "holdfast ") {
			continue
		}
		line = strings.NewReplacer("POINT", k.point, "azure.yaml", k.twin.Endpoints().AzureFile).Replace(line)
		if a := k.runWith(withoutSecrets(), strings.Fields(line)[1:]...); a.code != 0 {
			k.t.Errorf("%s: exit %d\n%s", line, a.code, a.errors)
		}
		ran++
	}
	if ran != 3 {
		k.t.Error(fmt.Sprint(ran), "commands were found on the page")
	}
	programtest.MustBeEqual(k.t, filepath.Join(k.dir, "os.img"), k.image)
}
