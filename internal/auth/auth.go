// Package auth says who somebody is and what he may do: users with one role each, passwords, and tokens.
//
// It promises that a wrong name, a wrong password and a user who is turned off cannot be told apart, neither by what is answered nor by
// how long it takes; that guessing slows down before it gets anywhere; that a role, a user or a token which is taken away counts
// from the next request on; and that there is always an administrator left. What roles may do is one table, Rights.
// It must never keep a password or a token: passwords are kept as Argon2id, tokens as SHA-256 of 32 random bytes. It writes no
// log, and its errors name no secret. Rows are kept by a Store; package store has it on the database.
package auth

import (
	"context"
	"net/netip"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// User is somebody who may sign in.
type User struct {
	Name     string // in lower case, unique
	Role     Role
	Disabled bool      // nothing of his opens anything
	Password string    // its hash, in the form $argon2id$v=19$…; "" for nobody who signs in with one
	Changed  time.Time // when the password was set
	Created  time.Time
	SignedIn time.Time // when he last did; zero: never
}

// Rows are users and tokens inside one transaction.
type Rows interface {
	// User returns a user; KindNotFound when there is none of this name.
	User(ctx context.Context, name string) (User, error)
	// Users returns all users, by name.
	Users(ctx context.Context) ([]User, error)
	// PutUser adds a user, or replaces the one of this name.
	PutUser(ctx context.Context, u User) error
	// RemoveUser removes a user with all his tokens; KindNotFound when there is none.
	RemoveUser(ctx context.Context, name string) error
	// TokenByHash returns a token; KindNotFound when there is none.
	TokenByHash(ctx context.Context, hash [32]byte) (Token, error)
	// Tokens returns the tokens of a user, those that ended as well, by the time they were made.
	Tokens(ctx context.Context, user string) ([]Token, error)
	// PutToken adds a token, or replaces the one of this id.
	PutToken(ctx context.Context, t Token) error
}

// Store runs work in transactions. Two that write never see one another half done: what one of them decides from the rows that it read
// still holds when it writes.
type Store interface {
	Read(ctx context.Context, work func(context.Context, Rows) error) error
	Write(ctx context.Context, work func(context.Context, Rows) error) error
}

// Config is what a Service needs.
type Config struct {
	Store    Store
	Clock    clock.Clock
	Hasher   *Hasher
	Throttle *Throttle
}

// Service answers who somebody is. Safe for concurrent use.
type Service struct {
	Config
	decoy string // the hash that a password is held against where there is no user
}

// New checks the configuration. It hashes one password, so that the decoy costs what a real one does.
func New(ctx context.Context, c Config) (*Service, error) {
	holdfast.Invariant(c.Store != nil && c.Clock != nil && c.Hasher != nil && c.Throttle != nil, "auth lacks a part of its configuration")
	decoy, err := c.Hasher.Hash(ctx, randomText())
	if err != nil {
		return nil, err
	}
	return &Service{c, decoy}, nil
}

// Credentials are what somebody signs in with.
type Credentials struct {
	Name     string
	Password string
	From     netip.Addr // the address that asks; the zero value where it is not known
	Keep     bool       // the session lasts SessionKept instead of SessionIdle
}

// errSignIn is the one answer to whoever does not get in.
func errSignIn() error {
	return holdfast.Errorf(holdfast.KindRefused, "the name or the password is wrong").WithHint("ask an administrator to set a new password if yours is lost")
}

// SignIn checks a password and opens a session. The error is KindRefused when name and password do not belong together, and
// KindThrottled, with the time to wait in its hint, when too many did not lately; then nothing was looked at.
func (s *Service) SignIn(ctx context.Context, c Credentials) (Issued, error) {
	name := canonical(c.Name)
	u, err := s.check(ctx, name, c)
	if err != nil {
		return Issued{}, err
	}
	length := SessionIdle
	if c.Keep {
		length = SessionKept
	}
	now := s.Clock.Now()
	issued := draw(Token{User: name, Name: "session", Session: true, Role: u.Role, Created: now, Expires: now.Add(length)})
	err = s.Store.Write(ctx, func(ctx context.Context, rows Rows) error {
		again, err := rows.User(ctx, name)
		switch {
		case holdfast.IsKind(err, holdfast.KindNotFound):
			return errSignIn() // removed meanwhile
		case err != nil:
			return err
		case again.Disabled || !again.Changed.Equal(u.Changed):
			return errSignIn() // turned off, or given another password meanwhile
		}
		again.SignedIn = now
		if u.Password != "" && again.Password != u.Password {
			again.Password = u.Password // hashed anew with today's parameters
		}
		if err := rows.PutUser(ctx, again); err != nil {
			return err
		}
		issued.Token.Role = again.Role
		return rows.PutToken(ctx, issued.Token)
	})
	if err != nil {
		return Issued{}, err
	}
	return issued, nil
}

// check holds a password against the user's hash. The user that it returns has a new hash where the old one was made with
// parameters of another time.
func (s *Service) check(ctx context.Context, name string, c Credentials) (User, error) {
	attempt, err := s.Throttle.Begin(name[:min(len(name), nameMax+1)], c.From, s.Clock.Now())
	if err != nil {
		return User{}, err
	}
	var u User
	err = s.Store.Read(ctx, func(ctx context.Context, rows Rows) error {
		var err error
		u, err = rows.User(ctx, name)
		return err
	})
	known := err == nil && !u.Disabled && u.Password != ""
	if err != nil && !holdfast.IsKind(err, holdfast.KindNotFound) {
		attempt.Withdraw()
		return User{}, err
	}
	encoded := s.decoy
	if known {
		encoded = u.Password
	}
	match, outdated, err := s.Hasher.Verify(ctx, encoded, c.Password)
	if err != nil {
		attempt.Withdraw()
		return User{}, err
	}
	if !match || !known {
		return User{}, errSignIn()
	}
	attempt.Succeeded()
	if outdated {
		if again, err := s.Hasher.Hash(ctx, c.Password); err == nil { // best effort: the old hash is good, and the next sign-in tries again
			u.Password = again
		}
	}
	return u, nil
}

// Principal is who a request comes from.
type Principal struct {
	User    string
	TokenID string
	Session bool // he signed in with a password
	role    Role // of the user, as it is now
	limit   Role // of the token
}

// NewPrincipal is for work that nobody asked for over the network, such as commands on the server itself.
func NewPrincipal(user string, role Role) Principal {
	return Principal{User: user, role: role, limit: role}
}

// May reports whether the principal has a right: both his role and that of his token must have it.
func (p Principal) May(r Right) bool { return p.role.Has(r) && p.limit.Has(r) }

// Role is the user's role.
func (p Principal) Role() Role { return p.role }

// Require returns an error of KindRefused when the principal has not got a right.
func (p Principal) Require(r Right) error {
	switch {
	case p.May(r):
		return nil
	case p.role.Has(r):
		return holdfast.Errorf(holdfast.KindRefused, "this token has the role %s, which may not %s", p.limit, r).WithHint("use a token that is not limited to that role")
	}
	return holdfast.Errorf(holdfast.KindRefused, "%s has the role %s, which may not %s", p.User, p.role, r).WithHint("the roles %s may", rolesWith(r))
}

// usedEvery is how often the last use of a token is written down: more often tells nobody anything, and costs a write.
const usedEvery = time.Minute

// Authenticate says who bears a token. The error is KindRefused when it opens nothing; why is not told.
func (s *Service) Authenticate(ctx context.Context, secret string) (Principal, error) {
	refused := holdfast.Errorf(holdfast.KindRefused, "the token is not valid").WithHint("sign in again, or make a new token")
	hash, ok := hashOf(secret)
	if !ok {
		return Principal{}, refused
	}
	now := s.Clock.Now()
	var t Token
	var u User
	err := s.Store.Read(ctx, func(ctx context.Context, rows Rows) error {
		var err error
		if t, err = rows.TokenByHash(ctx, hash); err != nil {
			return err
		}
		u, err = rows.User(ctx, t.User)
		return err
	})
	switch {
	case holdfast.IsKind(err, holdfast.KindNotFound):
		return Principal{}, refused
	case err != nil:
		return Principal{}, err
	case t.Ended(now) || u.Disabled:
		return Principal{}, refused
	}
	if now.Sub(t.Used) >= usedEvery {
		if err := s.used(ctx, hash, now); err != nil {
			return Principal{}, err
		}
	}
	return Principal{User: u.Name, TokenID: t.ID, Session: t.Session, role: u.Role, limit: t.Role}, nil
}

// used writes down that a token was used, and lets a session that lasts while it is used go on.
func (s *Service) used(ctx context.Context, hash [32]byte, now time.Time) error {
	return s.Store.Write(ctx, func(ctx context.Context, rows Rows) error {
		t, err := rows.TokenByHash(ctx, hash)
		if err != nil || t.Ended(now) {
			return err // revoked meanwhile: it counts from the next request on
		}
		t.Used = now
		if t.Session {
			t.Expires = later(t.Expires, earlier(now.Add(SessionIdle), t.Created.Add(SessionMax)))
		}
		return rows.PutToken(ctx, t)
	})
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
