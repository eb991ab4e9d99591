package database

import (
	"net/url"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// target is what a URL names: a file of SQLite, or a server, whose whole URL is kept for its driver.
type target struct {
	file   string
	server string
}

const urlHint = "write sqlite:///ABSOLUTE/FOLDER/holdfast.db, or postgres://USER@HOST/DATABASE"

// parse splits a URL. Messages never repeat it: it may hold a password.
func parse(text string) (target, error) {
	scheme, _, _ := strings.Cut(text, ":")
	switch scheme {
	case "postgres", "postgresql":
		return target{server: text}, nil
	case "sqlite":
		return parseFile(text)
	default:
		return target{}, invalidURL("is of no kind that is known")
	}
}

func parseFile(text string) (target, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return target{}, invalidURL("cannot be read")
	case u.Host != "" || u.Opaque != "" || u.User != nil:
		return target{}, invalidURL("names no absolute folder: three slashes follow \"sqlite:\"")
	case u.RawQuery != "" || u.Fragment != "":
		return target{}, invalidURL("takes neither options nor a fragment with SQLite")
	}
	path := u.Path
	if len(path) > 2 && path[0] == '/' && path[2] == ':' { // sqlite:///C:/folder/file
		path = path[1:]
	}
	path = filepath.FromSlash(path)
	if !filepath.IsAbs(path) || strings.HasSuffix(u.Path, "/") {
		return target{}, invalidURL("names no file in an absolute folder")
	}
	return target{file: filepath.Clean(path)}, nil
}

func invalidURL(problem string) error {
	return holdfast.Errorf(holdfast.KindInvalid, "the URL of the database %s", problem).WithHint(urlHint).WithField("database")
}
