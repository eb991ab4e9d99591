package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
)

// How long sessions and tokens last.
const (
	SessionIdle = time.Hour            // a session ends when it is not used for so long
	SessionKept = 24 * time.Hour       // or only after so long, where that was asked for
	SessionMax  = 24 * time.Hour       // and at the latest after so long, however much it is used
	TokenMax    = 366 * 24 * time.Hour // the longest life of a token: who forgets one does not leave it behind for ever

	tokensMax     = 100 // of one user that have not ended
	tokenNameMax  = 64
	tokenSize     = 32
	tokenPrefix   = "hft_" // by which people, and programs that search for leaked secrets, know it
	tokenTextSize = len(tokenPrefix) + 43
)

// Token is what the bearer of a secret may do, and for how long.
type Token struct {
	ID      string // names it to people; no secret
	User    string
	Name    string   // what for
	Session bool     // it was made by signing in
	Role    Role     // a limit: the bearer may do what both this and the user's own role may
	Hash    [32]byte // of the secret
	Created time.Time
	Expires time.Time
	Used    time.Time // zero: never. Written once a minute at the most
	Revoked time.Time // zero: it was not
}

// Ended reports whether a token opens nothing any more.
func (t Token) Ended(now time.Time) bool { return !t.Revoked.IsZero() || !now.Before(t.Expires) }

// Issued is a token and its secret, which nobody can show again.
type Issued struct {
	Secret Secret
	Token  Token
}

// Secret is a text that never prints itself.
type Secret string

// Reveal returns the secret.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer without giving the secret away.
func (s Secret) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer likewise.
func (s Secret) GoString() string { return "[redacted]" }

// MarshalText implements encoding.TextMarshaler likewise; JSON and slog's JSON handler use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

func randomText() string {
	random := make([]byte, tokenSize)
	_, _ = rand.Read(random) // never returns an error (crypto/rand, Go 1.24)
	return base64.RawURLEncoding.EncodeToString(random)
}

func draw(t Token) Issued {
	secret := tokenPrefix + randomText()
	t.ID, t.Hash = uuid.NewString(), sha256.Sum256([]byte(secret))
	return Issued{Secret(secret), t}
}

// hashOf returns the hash of what looks like a token.
func hashOf(secret string) (hash [32]byte, ok bool) {
	if len(secret) != tokenTextSize || !strings.HasPrefix(secret, tokenPrefix) {
		return hash, false
	}
	return sha256.Sum256([]byte(secret)), true
}

// NewToken is what a token is to be.
type NewToken struct {
	Name     string
	Role     Role          // "" is that of the principal
	Lifetime time.Duration // up to TokenMax
}

// IssueToken makes a token for the principal himself. It has no more rights than he has with the token that he uses now.
func (s *Service) IssueToken(ctx context.Context, p Principal, n NewToken) (Issued, error) {
	if err := p.Require(OwnAccount); err != nil {
		return Issued{}, err
	}
	role, err := p.grant(n.Role)
	if err != nil {
		return Issued{}, err
	}
	if name := []rune(n.Name); len(name) < 1 || len(name) > tokenNameMax || slices.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return Issued{}, holdfast.Errorf(holdfast.KindInvalid, "%.80q cannot be the name of a token", n.Name).WithHint("1 to %d characters that can be seen", tokenNameMax).WithField("name")
	}
	if n.Lifetime < time.Minute || n.Lifetime > TokenMax {
		return Issued{}, holdfast.Errorf(holdfast.KindInvalid, "a token cannot live for %s", n.Lifetime).WithHint("a minute to %d days", int(TokenMax.Hours()/24)).WithField("expires")
	}
	now := s.Clock.Now()
	issued := draw(Token{User: p.User, Name: n.Name, Role: role, Created: now, Expires: now.Add(n.Lifetime)})
	err = s.Store.Write(ctx, func(ctx context.Context, rows Rows) error {
		if _, err := rows.User(ctx, p.User); err != nil {
			return err
		}
		tokens, err := rows.Tokens(ctx, p.User)
		if err != nil {
			return err
		}
		alive := slices.DeleteFunc(tokens, func(t Token) bool { return t.Ended(now) || t.Session })
		if len(alive) >= tokensMax {
			return holdfast.Errorf(holdfast.KindRefused, "%s has %d tokens", p.User, len(alive)).WithHint("revoke those that are not used")
		}
		if slices.ContainsFunc(alive, func(t Token) bool { return t.Name == n.Name }) {
			return holdfast.Errorf(holdfast.KindConflict, "%s has a token named %q", p.User, n.Name).WithHint("choose another name, or revoke that one").WithField("name")
		}
		return rows.PutToken(ctx, issued.Token)
	})
	if err != nil {
		return Issued{}, err
	}
	return issued, nil
}

// grant returns the role of a token that the principal asks for.
func (p Principal) grant(asked Role) (Role, error) {
	if asked == "" {
		asked = p.limit
		if p.role.Within(asked) {
			asked = p.role
		}
	}
	if _, err := ParseRole(string(asked)); err != nil {
		return "", err
	}
	if !asked.Within(p.role) || !asked.Within(p.limit) {
		return "", holdfast.Errorf(holdfast.KindRefused, "a token of %s cannot have the role %s", p.User, asked).
			WithHint("a token may do at most what its maker may").WithField("role")
	}
	return asked, nil
}

// Tokens returns the tokens of a user that have not ended, sessions among them.
func (s *Service) Tokens(ctx context.Context, user string) ([]Token, error) {
	var tokens []Token
	err := s.Store.Read(ctx, func(ctx context.Context, rows Rows) error {
		var err error
		tokens, err = rows.Tokens(ctx, canonical(user))
		return err
	})
	now := s.Clock.Now()
	return slices.DeleteFunc(tokens, func(t Token) bool { return t.Ended(now) }), err
}

// RevokeToken ends a token of a user. One that has ended stays as it is; one that he has not got is KindNotFound.
func (s *Service) RevokeToken(ctx context.Context, user, id string) error {
	return s.Store.Write(ctx, func(ctx context.Context, rows Rows) error {
		found := false
		err := revoke(ctx, rows, canonical(user), s.Clock.Now(), func(t Token) bool {
			found = found || t.ID == id
			return t.ID == id
		})
		if err == nil && !found {
			return holdfast.Errorf(holdfast.KindNotFound, "%s has no token %.40q", user, id)
		}
		return err
	})
}

// SignOut ends the token that the principal uses.
func (s *Service) SignOut(ctx context.Context, p Principal) error {
	return s.RevokeToken(ctx, p.User, p.TokenID)
}

// revoke ends those tokens of a user that are meant.
func revoke(ctx context.Context, rows Rows, user string, now time.Time, meant func(Token) bool) error {
	tokens, err := rows.Tokens(ctx, user)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if !meant(t) || t.Ended(now) {
			continue
		}
		t.Revoked = now
		if err := rows.PutToken(ctx, t); err != nil {
			return err
		}
	}
	return nil
}
