package remote

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// login is somebody's sign-in to one server.
type login struct {
	Server  string    `json:"server"`
	User    string    `json:"user"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires,omitzero"` // at the time of the sign-in; a server may move it when the token is used
	Certs   string    `json:"certificates,omitempty"`
}

// logins is the file in which a user keeps them.
type logins struct {
	Current string  `json:"current,omitempty"` // server of the last sign-in; "" after its sign-out
	Logins  []login `json:"logins"`
}

const (
	loginVariable   = "HOLDFAST_LOGIN"
	loginFileMode   = 0o600
	loginFolderMode = 0o700
	othersMode      = 0o077
)

// loginPath is where the file is.
func (c *commands) loginPath() (string, error) {
	if c.loginFile != "" {
		return c.loginFile, nil
	}
	if path := c.getenv(loginVariable); path != "" {
		return path, nil
	}
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", holdfast.Wrap(holdfast.KindInvalid, err, "there is no folder for your settings").WithField("login").WithHint("name a file with --login FILE or %s", loginVariable)
	}
	return filepath.Join(folder, "holdfast", "login.json"), nil
}

// readLogins reads the file; one that is not there holds none. A file that others may read is refused: whoever has the token is the user.
func readLogins(path string) (logins, error) {
	var all logins
	about, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	data, readErr := os.ReadFile(path)
	if err = errors.Join(err, readErr); err != nil {
		return all, holdfast.Wrap(holdfast.KindInvalid, err, "the file with your sign-in cannot be read").WithField("login")
	}
	if about.Mode().Perm()&othersMode != 0 && runtime.GOOS != "windows" {
		return all, holdfast.Errorf(holdfast.KindRefused, "others than you have rights on %s, which holds the token of your sign-in", path).WithField("login").
			WithHint("run: chmod 600 %s; if somebody may have read it, sign out and in again", path)
	}
	if json.Unmarshal(data, &all) != nil { // its error would quote the file
		return all, holdfast.Errorf(holdfast.KindInvalid, "%s is not a file that holdfast login wrote", path).WithField("login").WithHint("remove it, and sign in again")
	}
	return all, nil
}

// write puts the file in the place of the one before, whole or not at all.
func (l logins) write(path string) (err error) {
	defer func() {
		if err != nil {
			err = holdfast.Wrap(holdfast.KindInvalid, err, "your sign-in cannot be written down").WithField("login").WithHint("name another file with --login FILE or %s", loginVariable)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), loginFolderMode); err != nil {
		return err
	}
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*") // it is the user's alone
	if err != nil {
		return err
	}
	_, err = next.Write(append(data, '\n'))
	err = errors.Join(err, next.Chmod(loginFileMode), next.Sync(), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next.Name()))
	}
	return nil
}

// with returns the sign-ins and one more, which is the current one, in the place of one to the same server.
func (l logins) with(in login) logins {
	return logins{Current: in.Server, Logins: append(l.without(in.Server).Logins, in)}
}

func (l logins) without(server string) logins {
	if l.Current == server {
		l.Current = ""
	}
	l.Logins = slices.DeleteFunc(slices.Clone(l.Logins), func(in login) bool { return in.Server == server })
	if l.Logins == nil {
		l.Logins = []login{}
	}
	return l
}

// choose returns the sign-in to a server, "" being the current one.
func (l logins) choose(server string) (login, error) {
	wanted := strings.TrimRight(server, "/")
	if wanted == "" {
		wanted = l.Current
	}
	var known []string
	for _, in := range l.Logins {
		if in.Server == wanted {
			return in, nil
		}
		known = append(known, in.Server)
	}
	switch {
	case server != "":
		return login{}, holdfast.Errorf(holdfast.KindRefused, "you are not signed in to %s", wanted).WithField("server").
			WithHint("sign in: holdfast login --server %s --user NAME --password-file FILE", wanted)
	case len(known) > 0:
		return login{}, holdfast.Errorf(holdfast.KindRefused, "nothing says which server to ask").WithField("server").WithHint("name one with --server: %s", strings.Join(known, ", "))
	}
	return login{}, holdfast.Errorf(holdfast.KindRefused, "you are not signed in to a server").
		WithHint("sign in: holdfast login --server https://HOST:PORT --user NAME --password-file FILE")
}

// signedIn returns the sign-in that the flags choose.
func (c *commands) signedIn() (login, error) {
	path, err := c.loginPath()
	if err != nil {
		return login{}, err
	}
	all, err := readLogins(path)
	if err != nil {
		return login{}, err
	}
	return all.choose(c.server)
}

// checkPrivate refuses to send a password over a network in the clear.
func checkPrivate(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" {
		return nil //nolint:nilerr // an address that is none is refused by the client
	}
	address, err := netip.ParseAddr(u.Hostname())
	if strings.EqualFold(u.Hostname(), "localhost") || err == nil && address.Unmap().IsLoopback() {
		return nil
	}
	return holdfast.Errorf(holdfast.KindInvalid, "%s is in the clear: everybody on the way would read the password", server).WithField("server").
		WithHint("write https://; http:// is for this machine alone")
}
