package auth_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/auth/authtest"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// cheap is a cost for tests that are not about cost.
var cheap = auth.Cost{MemoryKiB: 64, Passes: 1, Lanes: 1}

const good = "correct horse battery"

var (
	start = time.Date(2026, time.March, 1, 8, 0, 0, 0, time.UTC)
	here  = netip.MustParseAddr("192.0.2.7")
)

type world struct {
	*auth.Service
	clock *clock.Manual
	store *authtest.Memory
}

func newWorld(t testing.TB) world {
	t.Helper()
	w := world{clock: clock.NewManual(start), store: &authtest.Memory{}}
	var err error
	w.Service, err = auth.New(t.Context(), auth.Config{Store: w.store, Clock: w.clock, Hasher: auth.NewHasher(cheap, 2), Throttle: auth.NewThrottle()})
	if err != nil {
		t.Fatal(err)
	}
	w.add(t, "root", auth.RoleAdministrator)
	return w
}

func (w world) add(t testing.TB, name string, role auth.Role) {
	t.Helper()
	if _, err := w.AddUser(t.Context(), name, role, good); err != nil {
		t.Fatal(err)
	}
}

func (w world) signIn(t testing.TB, name string) (auth.Issued, auth.Principal) {
	t.Helper()
	issued, err := w.SignIn(t.Context(), auth.Credentials{Name: name, Password: good, From: here})
	if err != nil {
		t.Fatal(err)
	}
	return issued, w.bearer(t, issued)
}

func (w world) bearer(t testing.TB, i auth.Issued) auth.Principal {
	t.Helper()
	p, err := w.Authenticate(t.Context(), i.Secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func wantKind(t testing.TB, err error, kind holdfast.Kind, doing string) {
	t.Helper()
	if holdfast.KindOf(err) != kind {
		t.Errorf("%s: %v, want %s", doing, err, kind)
	}
}

func TestStore(t *testing.T) {
	authtest.TestStore(t, func(*testing.T) auth.Store { return &authtest.Memory{} })
}

// TestRights is the table of the catalogue: every role and right, written out once more.
func TestRights(t *testing.T) {
	table := map[auth.Right]string{ // a: administrator, o: operator, r: restorer, v: viewer
		auth.SeeOverview: "aov", auth.SeeMachines: "ao", auth.SeePolicies: "aov", auth.ChangePolicies: "ao", auth.RunPolicies: "ao",
		auth.SeeTemplates: "ao", auth.ChangeTemplates: "ao", auth.SeePoints: "aorv", auth.Restore: "aor", auth.RemovePoints: "ao",
		auth.SeeSessions: "aorv", auth.StopSessions: "aor", auth.SeeSettings: "a", auth.ChangeSettings: "a", auth.ManageUsers: "a", auth.OwnAccount: "aorv",
	}
	if len(table) != len(auth.Rights()) {
		t.Errorf("%d rights, the table has %d", len(auth.Rights()), len(table))
	}
	for _, right := range auth.Rights() {
		for _, role := range auth.Roles() {
			if want := strings.Contains(table[right], string(role)[:1]); role.Has(right) != want {
				t.Errorf("%s may %s: %t", role, right, !want)
			}
		}
		if auth.Role("owner").Has(right) || auth.Role("").Has(right) {
			t.Errorf("a role that is none may %s", right)
		}
	}
	if !auth.RoleRestorer.Within(auth.RoleOperator) || auth.RoleViewer.Within(auth.RoleRestorer) || auth.RoleAdministrator.Within(auth.RoleOperator) {
		t.Error("roles do not lie within one another as they should")
	}
}

// TestSignIn_OneAnswer proves that nobody learns which names there are.
func TestSignIn_OneAnswer(t *testing.T) {
	w := newWorld(t)
	w.add(t, "gone", auth.RoleViewer)
	if err := w.Disable(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	answers := map[string]bool{}
	for _, c := range []auth.Credentials{
		{Name: "root", Password: "wrong"},
		{Name: "nobody", Password: good},
		{Name: "gone", Password: good},
		{Name: "", Password: ""},
		{Name: strings.Repeat("x", 1000), Password: good},
		{Name: "root ", Password: good},
	} {
		_, err := w.SignIn(t.Context(), c)
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Kind != holdfast.KindRefused {
			t.Fatalf("%.20q: %v", c.Name, err)
		}
		answers[fmt.Sprintf("%+v", *e)] = true
	}
	if len(answers) != 1 {
		t.Errorf("there are %d answers: %v", len(answers), answers)
	}
}

// TestSignIn_Decoy proves that an unknown name costs a hash like a known one: with every turn taken, both wait.
func TestSignIn_Decoy(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"root", "nobody"} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		blocked := auth.NewHasher(cheap, 1)
		leave := auth.Occupy(blocked)
		service := *w.Service
		service.Hasher = blocked
		if _, err := service.SignIn(ctx, auth.Credentials{Name: name, Password: good}); !holdfast.IsKind(err, holdfast.KindCanceled) {
			t.Errorf("%s: %v, want to wait for a turn", name, err)
		}
		leave()
	}
}

// TestSession_Lasts proves when a session ends: an hour after its last use, a day after it began.
func TestSession_Lasts(t *testing.T) {
	w := newWorld(t)
	issued, p := w.signIn(t, "Root")
	if p.User != "root" || !p.Session || !p.May(auth.ManageUsers) {
		t.Errorf("%+v", p)
	}
	for range 23 {
		w.clock.Advance(59 * time.Minute)
		w.bearer(t, issued)
	}
	w.clock.Advance(50 * time.Minute)
	w.bearer(t, issued)
	w.clock.Advance(33 * time.Minute) // 24 hours since it began
	_, err := w.Authenticate(t.Context(), issued.Secret.Reveal())
	wantKind(t, err, holdfast.KindRefused, "a day old")

	idle, _ := w.signIn(t, "root")
	w.clock.Advance(time.Hour)
	_, err = w.Authenticate(t.Context(), idle.Secret.Reveal())
	wantKind(t, err, holdfast.KindRefused, "an hour idle")

	kept, err := w.SignIn(t.Context(), auth.Credentials{Name: "root", Password: good, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(auth.SessionKept - time.Second)
	w.bearer(t, kept)
	w.clock.Advance(time.Second)
	_, err = w.Authenticate(t.Context(), kept.Secret.Reveal())
	wantKind(t, err, holdfast.KindRefused, "kept for a day")
}

// TestTokens proves that a token ends by time, by revocation, and with its user, and never has more rights than its maker.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	w.add(t, "ann", auth.RoleOperator)
	_, ann := w.signIn(t, "ann")
	issue := func(n auth.NewToken) auth.Issued {
		issued, err := w.IssueToken(t.Context(), ann, n)
		if err != nil {
			t.Fatal(err)
		}
		return issued
	}
	viewer := issue(auth.NewToken{Name: "dashboard", Role: auth.RoleViewer, Lifetime: 24 * time.Hour})
	p := w.bearer(t, viewer)
	if p.May(auth.RunPolicies) || !p.May(auth.SeePolicies) || p.Role() != auth.RoleOperator {
		t.Errorf("a viewer's token of an operator: %+v", p)
	}
	if err := p.Require(auth.RunPolicies); !holdfast.IsKind(err, holdfast.KindRefused) || !strings.Contains(err.Error(), "token") {
		t.Errorf("%v", err)
	}
	_, err := w.IssueToken(t.Context(), p, auth.NewToken{Name: "more", Role: auth.RoleOperator, Lifetime: time.Hour})
	wantKind(t, err, holdfast.KindRefused, "a token that makes a better one")
	_, err = w.IssueToken(t.Context(), ann, auth.NewToken{Name: "more", Role: auth.RoleAdministrator, Lifetime: time.Hour})
	wantKind(t, err, holdfast.KindRefused, "an operator's token of an administrator")
	if child, err := w.IssueToken(t.Context(), p, auth.NewToken{Name: "child", Lifetime: time.Hour}); err != nil || child.Token.Role != auth.RoleViewer {
		t.Errorf("%+v, %v", child, err)
	}
	_, err = w.IssueToken(t.Context(), ann, auth.NewToken{Name: "dashboard", Lifetime: time.Hour})
	wantKind(t, err, holdfast.KindConflict, "the same name twice")

	ci := issue(auth.NewToken{Name: "ci", Lifetime: 48 * time.Hour})
	if err := w.SetRole(t.Context(), "ann", auth.RoleViewer); err != nil {
		t.Fatal(err)
	}
	if w.bearer(t, ci).May(auth.RunPolicies) {
		t.Error("a token kept rights that its user has lost")
	}
	if err := w.RevokeToken(t.Context(), "ann", ci.Token.ID); err != nil {
		t.Fatal(err)
	}
	_, err = w.Authenticate(t.Context(), ci.Secret.Reveal())
	wantKind(t, err, holdfast.KindRefused, "revoked")
	wantKind(t, w.RevokeToken(t.Context(), "root", viewer.Token.ID), holdfast.KindNotFound, "another one's token")
	w.clock.Advance(24 * time.Hour)
	_, err = w.Authenticate(t.Context(), viewer.Secret.Reveal())
	wantKind(t, err, holdfast.KindRefused, "a day old")
}

// TestTokens_EndWithTheirUser proves what goes when a user is turned off, gets a password, or is removed.
func TestTokens_EndWithTheirUser(t *testing.T) {
	w := newWorld(t)
	w.add(t, "ann", auth.RoleOperator)
	session, ann := w.signIn(t, "ann")
	token, err := w.IssueToken(t.Context(), ann, auth.NewToken{Name: "ci", Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	opens := func(i auth.Issued) bool {
		_, err := w.Authenticate(t.Context(), i.Secret.Reveal())
		return err == nil
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(w.Disable(t.Context(), "ann"))
	if opens(session) || opens(token) {
		t.Error("something of a user who is turned off opens")
	}
	do(w.Enable(t.Context(), "ann"))
	if opens(session) || !opens(token) {
		t.Error("turned on again: the token opens, the session does not")
	}
	session, ann = w.signIn(t, "ann")
	wantKind(t, w.ChangePassword(t.Context(), ann, here, "not it at all", "another long password"), holdfast.KindRefused, "without the old password")
	do(w.ChangePassword(t.Context(), ann, here, good, "another long password"))
	if opens(session) || !opens(token) {
		t.Error("after a change of the password: the token opens, the session does not")
	}
	do(w.SetPassword(t.Context(), "ann", good))
	session, ann = w.signIn(t, "ann")
	do(w.SignOut(t.Context(), ann))
	if opens(session) {
		t.Error("signed out, and still in")
	}
	do(w.RemoveUser(t.Context(), "ann"))
	w.add(t, "ann", auth.RoleViewer)
	if opens(token) {
		t.Error("a token came back with a user of the same name")
	}
}

// TestLastAdministrator proves that nobody locks all out.
func TestLastAdministrator(t *testing.T) {
	w := newWorld(t)
	w.add(t, "ann", auth.RoleOperator)
	wantKind(t, w.SetRole(t.Context(), "root", auth.RoleOperator), holdfast.KindRefused, "the role of the last one")
	wantKind(t, w.Disable(t.Context(), "root"), holdfast.KindRefused, "turning off the last one")
	wantKind(t, w.RemoveUser(t.Context(), "root"), holdfast.KindRefused, "removing the last one")
	if _, p := w.signIn(t, "root"); !p.May(auth.ManageUsers) {
		t.Error("a refused change was made")
	}
	w.add(t, "bob", auth.RoleAdministrator)
	if err := w.RemoveUser(t.Context(), "ROOT"); err != nil {
		t.Error(err)
	}
	wantKind(t, w.RemoveUser(t.Context(), "root"), holdfast.KindNotFound, "twice")
}

func TestAddUser_Refuses(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name     string
		role     auth.Role
		password string
		kind     holdfast.Kind
		field    string
	}{
		{"", auth.RoleViewer, good, holdfast.KindInvalid, "name"},
		{"1st", auth.RoleViewer, good, holdfast.KindInvalid, "name"},
		{"änn", auth.RoleViewer, good, holdfast.KindInvalid, "name"},
		{"ann\n", auth.RoleViewer, good, holdfast.KindInvalid, "name"},
		{strings.Repeat("a", 33), auth.RoleViewer, good, holdfast.KindInvalid, "name"},
		{"ann", "owner", good, holdfast.KindInvalid, "role"},
		{"ann", auth.RoleViewer, "elevenchars", holdfast.KindInvalid, "password"},
		{"ann", auth.RoleViewer, strings.Repeat("ab", 10), holdfast.KindInvalid, "password"},
		{"ann", auth.RoleViewer, "the password of Ann", holdfast.KindInvalid, "password"},
		{"ann", auth.RoleViewer, good + strings.Repeat("x", 1024), holdfast.KindInvalid, "password"},
		{"ann", auth.RoleViewer, good + "\xff", holdfast.KindInvalid, "password"},
		{"Root", auth.RoleViewer, good, holdfast.KindConflict, "name"},
	} {
		_, err := w.AddUser(t.Context(), c.name, c.role, c.password)
		var e *holdfast.Error
		if !errors.As(err, &e) || e.Kind != c.kind || e.Field != c.field || e.Hint == "" || strings.Contains(e.Error()+e.Hint, c.password) {
			t.Errorf("%q %q %q: %+v", c.name, c.role, c.password, err)
		}
	}
}

// TestIssueToken_Refuses proves the limits of tokens.
func TestIssueToken_Refuses(t *testing.T) {
	w := newWorld(t)
	_, p := w.signIn(t, "root")
	for _, n := range []auth.NewToken{
		{Name: "", Lifetime: time.Hour},
		{Name: "a\x1b[31m", Lifetime: time.Hour},
		{Name: strings.Repeat("a", 65), Lifetime: time.Hour},
		{Name: "a", Lifetime: time.Second},
		{Name: "a", Lifetime: auth.TokenMax + 1},
		{Name: "a", Role: "owner", Lifetime: time.Hour},
	} {
		_, err := w.IssueToken(t.Context(), p, n)
		wantKind(t, err, holdfast.KindInvalid, fmt.Sprintf("%+v", n))
	}
	for i := range 101 {
		_, err := w.IssueToken(t.Context(), p, auth.NewToken{Name: fmt.Sprint(i), Lifetime: time.Hour})
		if i < 100 && err != nil {
			t.Fatal(err)
		}
		if i == 100 {
			wantKind(t, err, holdfast.KindRefused, "the 101st token")
		}
	}
}

// TestAuthenticate_Refuses proves that nothing but a whole token opens, and that secrets do not print.
func TestAuthenticate_Refuses(t *testing.T) {
	w := newWorld(t)
	issued, _ := w.signIn(t, "root")
	secret := issued.Secret.Reveal()
	for _, bad := range []string{"", secret[:len(secret)-1], secret + "A", strings.ToUpper(secret), secret[:10] + "A" + secret[11:] + "", "hft_" + strings.Repeat("A", 43)} {
		if _, err := w.Authenticate(t.Context(), bad); bad != secret && !holdfast.IsKind(err, holdfast.KindRefused) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", issued, issued, issued, issued.Secret); strings.Contains(text, secret[4:]) {
		t.Errorf("the secret prints itself: %s", text)
	}
	users, err := w.Users(t.Context())
	if err != nil || strings.Contains(fmt.Sprint(users), good) {
		t.Errorf("%v, %v", users, err)
	}
}

// TestRehash proves that a password is hashed anew, without anybody noticing, when its cost is not today's.
func TestRehash(t *testing.T) {
	w := newWorld(t)
	service := *w.Service
	service.Hasher = auth.NewHasher(auth.Cost{MemoryKiB: 128, Passes: 2, Lanes: 1}, 1)
	for range 2 {
		if _, err := service.SignIn(t.Context(), auth.Credentials{Name: "root", Password: good}); err != nil {
			t.Fatal(err)
		}
		users, err := w.Users(t.Context())
		if err != nil || !strings.HasPrefix(users[0].Password, "$argon2id$v=19$m=128,t=2,p=1$") {
			t.Errorf("%v, %v", users, err)
		}
	}
}

// referenceHash was made by the reference implementation: printf 'pässwörd of the reference' | argon2 'somesalt16bytes!' -id -m 16 -t 3 -p 4 -l 32 -e
const referenceHash = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQxNmJ5dGVzIQ$g4AgZv/XBoarvn/OVfIyMQWKTCoN1mmS9vIY6sfQRQE"

// TestVerify_Reference holds ours against the reference implementation, and proves that form and cost are the same.
func TestVerify_Reference(t *testing.T) {
	h := auth.NewHasher(auth.CostDefault, 1)
	for _, c := range []struct {
		encoded, password string
		match             bool
	}{
		{referenceHash, "pässwörd of the reference", true},
		{referenceHash, "passwort of the reference", false},
	} {
		match, outdated, err := h.Verify(t.Context(), c.encoded, c.password)
		if err != nil || match != c.match || outdated {
			t.Errorf("%q: %t, %t, %v", c.password, match, outdated, err)
		}
	}
}

// TestVerify_Damaged proves that a hash which asks for absurd work, or was changed, is refused before any is done.
func TestVerify_Damaged(t *testing.T) {
	h := auth.NewHasher(cheap, 1)
	encoded, err := h.Hash(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "$", encoded[1:], encoded + "$", encoded + "=", strings.Replace(encoded, "argon2id", "argon2i", 1), strings.Replace(encoded, "v=19", "v=16", 1),
		strings.Replace(encoded, "m=64", "m=4294967295", 1), strings.Replace(encoded, "m=64", "m=064", 1), strings.Replace(encoded, "t=1", "t=4000000", 1), strings.Replace(encoded, "t=1", "t=0", 1),
		strings.Replace(encoded, "p=1", "p=0", 1), strings.Replace(encoded, "p=1", "p=255", 1), strings.Replace(encoded, "m=64,t=1", "t=1,m=64", 1), encoded[:len(encoded)-4],
	} {
		if _, _, err := h.Verify(t.Context(), bad, good); !holdfast.IsKind(err, holdfast.KindCorrupt) || strings.Contains(err.Error(), "$") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestHasher_AtOnce proves that there are never more hashes at once than allowed, and that a flood is turned away instead of
// being queued.
func TestHasher_AtOnce(t *testing.T) {
	h := auth.NewHasher(cheap, 2)
	leave := []func(){auth.Occupy(h), auth.Occupy(h)}
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, 100)
	var wait sync.WaitGroup
	for range cap(errs) {
		wait.Go(func() {
			_, err := h.Hash(ctx, good)
			errs <- err
		})
	}
	for range cap(errs) - 32 {
		wantKind(t, <-errs, holdfast.KindThrottled, "one of the flood")
	}
	cancel()
	wait.Wait()
	for range 32 {
		wantKind(t, <-errs, holdfast.KindCanceled, "one that waits")
	}
	for _, l := range leave {
		l()
	}
	if _, err := h.Hash(t.Context(), good); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestThrottle_Rules walks through the three rules.
func TestThrottle_Rules(t *testing.T) {
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }
	begin := func(t *testing.T, th *auth.Throttle, name string, from netip.Addr, now time.Time) bool {
		t.Helper()
		_, err := th.Begin(name, from, now)
		if err != nil && !holdfast.IsKind(err, holdfast.KindThrottled) {
			t.Fatal(err)
		}
		return err == nil
	}
	t.Run("a name from an address", func(t *testing.T) {
		th, now := auth.NewThrottle(), start
		for range 5 {
			if !begin(t, th, "ann", here, now) {
				t.Fatal("one of the first five is held")
			}
		}
		for _, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900} {
			if begin(t, th, "ann", here, now.Add(wait*time.Second-1)) {
				t.Fatalf("too early by a nanosecond, before %d s", wait)
			}
			now = now.Add(wait * time.Second)
			if !begin(t, th, "ann", here, now) {
				t.Fatalf("held after %d s", wait)
			}
		}
		if !begin(t, th, "ann", address(1), now) || !begin(t, th, "bob", here, now) {
			t.Error("others are held")
		}
		for range 5 {
			if !begin(t, th, "ann", here, now.Add(time.Hour)) {
				t.Error("nothing is forgotten")
			}
		}
	})
	t.Run("an address", func(t *testing.T) {
		th := auth.NewThrottle()
		for i := range 20 {
			if !begin(t, th, fmt.Sprint("user", i), here, start) {
				t.Fatal("one of the first twenty is held")
			}
		}
		if begin(t, th, "another", here, start) {
			t.Error("the 21st name is not held")
		}
	})
	t.Run("a network of IPv6", func(t *testing.T) {
		th := auth.NewThrottle()
		for i := range 20 {
			begin(t, th, fmt.Sprint("user", i), netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}), start)
		}
		if begin(t, th, "another", netip.AddrFrom16([16]byte{0x20, 1, 15: 99}), start) || !begin(t, th, "another", netip.AddrFrom16([16]byte{0x20, 1, 7: 1}), start) {
			t.Error("a network is not one address")
		}
	})
	t.Run("a name", func(t *testing.T) {
		th := auth.NewThrottle()
		now := start
		for i := range 200 {
			if !begin(t, th, "ann", address(i), now) {
				if now = now.Add(time.Minute); !begin(t, th, "ann", address(i), now) {
					t.Fatal("an owner is locked out for longer than a minute")
				}
			}
		}
		if now.Sub(start) < 100*time.Minute {
			t.Errorf("200 guesses from 200 addresses took only %s", now.Sub(start))
		}
	})
}

// TestThrottle_Success proves that a success forgives the pair and not the address.
func TestThrottle_Success(t *testing.T) {
	th := auth.NewThrottle()
	for i := range 30 {
		attempt, err := th.Begin("mallory", here, start)
		if i == 20 {
			wantKind(t, err, holdfast.KindThrottled, "twenty guesses behind one's own account")
			break
		}
		if err != nil {
			t.Fatalf("own sign-in %d: %v", i, err)
		}
		attempt.Succeeded()
		if _, err = th.Begin(fmt.Sprint("victim", i), here, start); err != nil {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
}

// TestThrottle_Bounded proves that no number of addresses takes more memory than allowed.
func TestThrottle_Bounded(t *testing.T) {
	th := auth.NewThrottle()
	for i := range 30_000 {
		if _, err := th.Begin(fmt.Sprint(i), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), start.Add(time.Duration(i))); err != nil {
			t.Fatal(err)
		}
		if i%1000 == 0 && auth.Known(th) > 10_000 {
			t.Fatalf("%d entries after %d", auth.Known(th), i)
		}
	}
}

// TestThrottle_ManyAtOnce proves that attempts which are all under way count already.
func TestThrottle_ManyAtOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		th := auth.NewThrottle()
		n := rapid.IntRange(1, 30).Draw(rt, "n")
		begun := 0
		for range n {
			if _, err := th.Begin("ann", here, start); err == nil {
				begun++
			}
		}
		if begun != min(n, 5) {
			rt.Errorf("%d of %d at once began", begun, n)
		}
	})
}

// TestSignIn_Throttled proves that whoever is held is not even looked at, with the right password neither.
func TestSignIn_Throttled(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		_, err := w.SignIn(t.Context(), auth.Credentials{Name: "root", Password: "wrong", From: here})
		wantKind(t, err, holdfast.KindRefused, "a wrong password")
	}
	_, err := w.SignIn(t.Context(), auth.Credentials{Name: "root", Password: good, From: here})
	wantKind(t, err, holdfast.KindThrottled, "the right one, too early")
	w.clock.Advance(time.Second)
	w.signIn(t, "root")
	w.signIn(t, "root")
}

// BenchmarkHash says what a guess costs.
func BenchmarkHash(b *testing.B) {
	h := auth.NewHasher(auth.CostDefault, 1)
	for b.Loop() {
		if _, err := h.Hash(b.Context(), good); err != nil {
			b.Fatal(err)
		}
	}
}

// meddling is a store in which something happens between two transactions.
type meddling struct {
	*authtest.Memory
	once func()
}

func (m *meddling) Write(ctx context.Context, work func(context.Context, auth.Rows) error) error {
	if once := m.once; once != nil {
		m.once = nil
		once()
	}
	return m.Memory.Write(ctx, work)
}

// TestSignIn_Overtaken proves that nobody gets in with a password, or as a user, that is gone by the time that his session is written down.
func TestSignIn_Overtaken(t *testing.T) {
	for name, meddle := range map[string]func(w world) error{
		"another password": func(w world) error { return w.SetPassword(context.Background(), "ann", "another long password") },
		"turned off":       func(w world) error { return w.Disable(context.Background(), "ann") },
		"removed":          func(w world) error { return w.RemoveUser(context.Background(), "ann") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.add(t, "ann", auth.RoleViewer)
			w.clock.Advance(time.Minute)
			service := *w.Service
			service.Store = &meddling{w.store, func() {
				if err := meddle(w); err != nil {
					t.Error(err)
				}
			}}
			_, err := service.SignIn(t.Context(), auth.Credentials{Name: "ann", Password: good})
			wantKind(t, err, holdfast.KindRefused, "overtaken")
		})
	}
}

// TestSignIn_Disabled proves that a user who is turned off is held like anybody who guesses, the right password or not.
func TestSignIn_Disabled(t *testing.T) {
	w := newWorld(t)
	w.add(t, "ann", auth.RoleViewer)
	if err := w.Disable(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		_, err := w.SignIn(t.Context(), auth.Credentials{Name: "ann", Password: good, From: here})
		wantKind(t, err, holdfast.KindRefused, "turned off")
	}
	_, err := w.SignIn(t.Context(), auth.Credentials{Name: "ann", Password: good, From: here})
	wantKind(t, err, holdfast.KindThrottled, "the sixth time")
}
