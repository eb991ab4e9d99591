package auth

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// userName is what a name looks like. Case does not matter: two people must not differ by it alone.
var userName = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,31}$`)

const nameMax = 32 // characters, each of them a byte

func canonical(name string) string { return strings.ToLower(name) }

// Users returns all users, by name.
func (s *Service) Users(ctx context.Context) ([]User, error) {
	var users []User
	err := s.Store.Read(ctx, func(ctx context.Context, rows Rows) error {
		var err error
		users, err = rows.Users(ctx)
		return err
	})
	return users, err
}

// AddUser adds a user. A name that is taken is KindConflict.
func (s *Service) AddUser(ctx context.Context, name string, role Role, password string) (User, error) {
	name = canonical(name)
	if !userName.MatchString(name) {
		return User{}, holdfast.Errorf(holdfast.KindInvalid, "%.80q cannot be the name of a user", name).
			WithHint("1 to 32 letters from a to z, digits, dots, hyphens and underscores, a letter first").WithField("name")
	}
	if _, err := ParseRole(string(role)); err != nil {
		return User{}, err
	}
	if err := CheckPassword(name, password); err != nil {
		return User{}, err
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	now := s.Clock.Now()
	u := User{Name: name, Role: role, Password: hash, Changed: now, Created: now}
	err = s.Store.Write(ctx, func(ctx context.Context, rows Rows) error {
		_, err := rows.User(ctx, name)
		switch {
		case err == nil:
			return holdfast.Errorf(holdfast.KindConflict, "there is a user %s", name).WithHint("choose another name").WithField("name")
		case !holdfast.IsKind(err, holdfast.KindNotFound):
			return err
		}
		return rows.PutUser(ctx, u)
	})
	if err != nil {
		return User{}, err
	}
	return u, nil
}

// SetRole gives a user another role. The last administrator keeps his.
func (s *Service) SetRole(ctx context.Context, name string, role Role) error {
	if _, err := ParseRole(string(role)); err != nil {
		return err
	}
	return s.change(ctx, name, func(_ context.Context, _ Rows, u *User) error {
		u.Role = role
		return nil
	})
}

// Disable takes everything from a user without forgetting him. His sessions end; his tokens open nothing until Enable.
func (s *Service) Disable(ctx context.Context, name string) error {
	return s.change(ctx, name, func(ctx context.Context, rows Rows, u *User) error {
		u.Disabled = true
		return revoke(ctx, rows, u.Name, s.Clock.Now(), func(t Token) bool { return t.Session })
	})
}

// Enable is the inverse of Disable, ended sessions aside.
func (s *Service) Enable(ctx context.Context, name string) error {
	return s.change(ctx, name, func(_ context.Context, _ Rows, u *User) error {
		u.Disabled = false
		return nil
	})
}

// SetPassword gives a user another password. His sessions end; tokens, which are made for programs, stay until they are revoked.
func (s *Service) SetPassword(ctx context.Context, name, password string) error {
	if err := CheckPassword(name, password); err != nil {
		return err
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return err
	}
	return s.change(ctx, name, func(ctx context.Context, rows Rows, u *User) error {
		u.Password, u.Changed = hash, s.Clock.Now()
		return revoke(ctx, rows, u.Name, u.Changed, func(t Token) bool { return t.Session })
	})
}

// ChangePassword is for the user himself, who shows that he knows the old password: whoever found his screen unlocked does not.
func (s *Service) ChangePassword(ctx context.Context, p Principal, from netip.Addr, old, password string) error {
	if err := p.Require(OwnAccount); err != nil {
		return err
	}
	if _, err := s.check(ctx, p.User, Credentials{Password: old, From: from}); err != nil {
		return err
	}
	return s.SetPassword(ctx, p.User, password)
}

// RemoveUser removes a user with all his tokens.
func (s *Service) RemoveUser(ctx context.Context, name string) error {
	return s.Store.Write(ctx, func(ctx context.Context, rows Rows) error {
		u, err := rows.User(ctx, canonical(name))
		if err != nil {
			return err
		}
		if err := rows.RemoveUser(ctx, u.Name); err != nil {
			return err
		}
		return keepsAdministrator(ctx, rows, u)
	})
}

// change changes a user in one transaction, and holds on to the last administrator.
func (s *Service) change(ctx context.Context, name string, apply func(context.Context, Rows, *User) error) error {
	return s.Store.Write(ctx, func(ctx context.Context, rows Rows) error {
		before, err := rows.User(ctx, canonical(name))
		if err != nil {
			return err
		}
		u := before
		if err := apply(ctx, rows, &u); err != nil {
			return err
		}
		if err := rows.PutUser(ctx, u); err != nil {
			return err
		}
		return keepsAdministrator(ctx, rows, before)
	})
}

// keepsAdministrator refuses a change of a user after which nobody could undo it. The transaction is given up with its error.
func keepsAdministrator(ctx context.Context, rows Rows, before User) error {
	if !before.manages() {
		return nil
	}
	users, err := rows.Users(ctx)
	if err != nil || slices.ContainsFunc(users, User.manages) {
		return err
	}
	return holdfast.Errorf(holdfast.KindRefused, "nobody would be left who may manage users").WithHint("make somebody else an administrator first")
}

func (u User) manages() bool { return u.Role.Has(ManageUsers) && !u.Disabled }
