package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// objectMax is the largest object that is read as a whole (§5).
const objectMax = 256 << 20

// objectName is the form of every name but those of log entries (§2).
var objectName = regexp.MustCompile(`^(?:(?:keys|state|index|points|lists)/|(?:data|tree)/([0-9a-f]{2})/)([0-9a-f]{64})$`)

// folders are copies of one repository, the best first: usually one, and beside it what older versions of a container held.
// An object is answered from the first folder whose copy proves itself (§2). Nothing is ever written to them.
type folders []string

// openFolders checks that each folder is there and looks like a repository.
func openFolders(paths []string) (folders, error) {
	if len(paths) == 0 {
		return nil, failed(kindInvalid, "no repository was named").about("repo").hinting("--repo DIR, where DIR holds the folders log, keys, data and so on")
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, failed(kindNotFound, "%s does not exist", path).about("repo")
		case err != nil:
			return nil, err
		case !info.IsDir():
			return nil, failed(kindInvalid, "%s is not a folder", path).about("repo").hinting("download the container into a folder first; see the README")
		}
	}
	return folders(paths), nil
}

// validName reports whether a name is one of §2, so that names from a hostile file lead nowhere else.
func validName(name, folder string) bool {
	parts := objectName.FindStringSubmatch(name)
	return parts != nil && strings.HasPrefix(name, folder+"/") && strings.HasPrefix(parts[2], parts[1])
}

// packName is the name of the pack with that hash: folder is data or tree.
func packName(folder string, hash [32]byte) string {
	text := hex.EncodeToString(hash[:])
	return folder + "/" + text[:2] + "/" + text
}

// path is where a folder keeps an object.
func path(folder, name string) string { return filepath.Join(folder, filepath.FromSlash(name)) }

// read returns an object that proves itself by its name. Its error is of kind corrupt when no folder has such a copy.
func (f folders) read(name, folder string) ([]byte, error) {
	if !validName(name, folder) {
		return nil, damaged("%q is no name of an object in %s/", name, folder)
	}
	problem := "is missing"
	for _, root := range f {
		content, err := readWhole(path(root, name), objectMax)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			problem = err.Error()
			continue
		}
		hash := sha256.Sum256(content)
		if strings.HasSuffix(name, hex.EncodeToString(hash[:])) {
			return content, nil
		}
		problem = "does not have the hash that its name says"
	}
	return nil, damaged("%s %s", name, problem)
}

// eachCopy calls try with each folder's copy of an object until one call succeeds.
func (f folders) eachCopy(name, folder string, try func(file *os.File, size int64) error) error {
	if !validName(name, folder) {
		return damaged("%q is no name of an object in %s/", name, folder)
	}
	problem := error(damaged("%s is missing", name))
	for _, root := range f {
		file, err := openRegular(path(root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			problem = damaged("%s cannot be read: %v", name, err)
			continue
		}
		err = tryCopy(file, try)
		file.Close()
		if err == nil {
			return nil
		}
		problem = fmt.Errorf("%s: %w", name, err)
	}
	return problem
}

func tryCopy(file *os.File, try func(file *os.File, size int64) error) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return try(file, info.Size())
}

// openRegular opens a file. Anything else that has its name is damage, and is not opened: a pipe would keep its reader waiting.
func openRegular(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, damaged("it is no file")
	}
	return os.Open(name)
}

// each calls visit with the name of every object in a folder, of data and tree by their two digits, until visit fails.
func (f folders) each(folder string, visit func(name string) error) error {
	seen := make(map[string]bool)
	for _, root := range f {
		below, err := listing(path(root, folder))
		if err != nil {
			return err
		}
		for _, first := range below {
			if err := eachUnder(root, folder+"/"+first, seen, visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// eachUnder visits one object, or all objects of one folder of two digits. seen is used with several folders in mind.
func eachUnder(root, name string, seen map[string]bool, visit func(name string) error) error {
	names := []string{name}
	if strings.Count(name, "/") == 1 && len(name) == len("data/00") {
		inner, err := listing(path(root, name))
		if err != nil {
			return err
		}
		names = names[:0]
		for _, last := range inner {
			names = append(names, name+"/"+last)
		}
	}
	for _, name := range names {
		if !objectName.MatchString(name) || seen[name] {
			continue
		}
		seen[name] = true
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}

// listing returns the sorted names in a folder; none when it does not exist or is no folder.
func listing(folder string) ([]string, error) {
	info, err := os.Stat(folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	slices.Sort(names)
	return names, nil
}

// readWhole reads a regular file of at most limit bytes.
func readWhole(name string, limit int64) ([]byte, error) {
	file, err := openRegular(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var content []byte
	err = tryCopy(file, func(file *os.File, size int64) error {
		if size > limit {
			return damaged("has %d bytes, at most %d are allowed", size, limit)
		}
		content = make([]byte, size)
		_, err := io.ReadFull(file, content)
		return err
	})
	return content, err
}
